"""The fit of interactions: which similarity, how much noise, which shapes; each asked of the directions left out.

In: what directions observed, priors, every example's own series. Out: `Interactions`.

What directions observe is c_r(psi) - sum_i F_r(e_i, ..., e_i) psi_i^r = O_r(psi). Before the kernel two shapes that
interactions often have are fitted by least squares: that of similar examples, which act like one with more weight, and
that of a curved link behind the sum of first-order effects. The isotropic part tau and the scale are chosen by leaving
out one direction after the other, in closed form from one eigendecomposition an order; what does not help to predict
the direction left out is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from circuitsketch.arrays import power
from circuitsketch.directions import Given
from circuitsketch.estimators.interactions.one_order import OneOrder
from circuitsketch.estimators.interactions.posterior import Interactions, shapes
from circuitsketch.estimators.interactions.priors import TRIED_ON, Prior, Priors
from circuitsketch.estimators.interface import Measurement
from circuitsketch.limits import find_shortage, require_memory

# Arrays that are held together while interactions are fitted, as tracemalloc counts: (n, n), (2m, 2m), complex (n, m).
SQUARES, KERNELS, TABLES = 9, 10, 8
TAUS = np.logspace(-3, 3, 19)  # of the isotropic part, beside a kernel whose mean diagonal is 1
KEPT = 64  # eigenvectors that reduce the variance at most; those left out make it larger, never smaller
NEEDED = 0.2  # eigenvalues over the smallest tau, below which an eigenvector says next to nothing


@dataclass(frozen=True, eq=False)
class InteractionsFit:
    """The interactions of a measurement's examples, fitted on first access; `priors` may be shared by measurements."""

    measurement: Measurement
    priors: Priors

    @cached_property
    def model(self) -> Interactions | None:
        """The fitted interactions; None without per-example series, and without random directions of order 2."""
        measurement = self.measurement
        coefficients, per_example = measurement.coefficients, measurement.per_example
        if per_example is None or isinstance(measurement.distribution, Given) or not len(coefficients):
            return None
        order = min(measurement.order, per_example.shape[1] - 1)
        if order < 2:
            return None
        m, n = len(coefficients), measurement.n
        require_memory(
            8 * KERNELS * (2 * m) ** 2 + TABLES * 16 * n * m,
            f"what {n:,} {measurement.unit}s do together, fitted to {m:,} directions,",
            ["estimator='theorem'", "a sketch with groups=..."],
        )
        flat, own = coefficients[:, : order + 1].reshape(m, order + 1, -1), measurement.flat_per_example
        tried = self.priors.diagonal_candidates(own) if self.lack else self.priors.candidates(own)
        return fit_interactions(flat, own, tried)

    @cached_property
    def lack(self) -> str:
        """Why the similarity of examples, and all else of size (n, n), is left out of the fit; empty where it is not.

        What is left are the priors in which no two examples are alike: directions then tell how much examples do
        together, and not which of them do.
        """
        m, n = len(self.measurement.coefficients), self.measurement.n
        return find_shortage(8 * (SQUARES * n * n + KERNELS * (2 * m) ** 2) + TABLES * 16 * n * m)


def fit_interactions(coefficients: np.ndarray, per_example: np.ndarray, tried: Sequence[Prior]) -> Interactions:
    """Fit orders 2 to that of the directions, by the prior that these agree with most.

    coefficients (m, order + 1, C) along the m directions of the priors; per_example (n, order' + 1, C), order' >=
    order.
    """
    per_example = np.asarray(per_example, dtype=np.float64)
    order, directions = coefficients.shape[1] - 1, tried[0].directions
    observed = [coefficients[:, r] - power(directions, r) @ per_example[:, r] for r in range(2, order + 1)]
    prior = min(tried, key=lambda prior: likelihood(prior, observed[0])) if observed else tried[0]
    return Interactions(
        per_example, prior, tuple(fit_order(prior, per_example, r, o) for r, o in enumerate(observed, 2))
    )


def fit_order(prior: Prior, per_example: np.ndarray, r: int, observed: np.ndarray) -> OneOrder:
    """Fit order r to what its directions observed, complex (m, C)."""
    directions = prior.directions
    m = len(directions)
    columns = shapes(per_example, r, directions, None if prior.cosines is None else directions @ prior.cosines)
    columns = np.concatenate([columns.real, columns.imag], axis=1)
    whole = np.concatenate([observed.real, observed.imag])
    fitted = fit_shapes(columns, whole)
    count = whole.shape[1]
    both = np.concatenate([whole - np.einsum("smc,sc->mc", columns, fitted), whole], axis=1)

    kernel = prior.decomposed(r)
    size, values, vectors = kernel.size, kernel.values, kernel.vectors
    loss, scale, surprise = left_out(values, vectors, both)
    # Two coefficients fitted are worth 2 each (Akaike). Where the similarity holds everything the shapes only
    # disturb it.
    shaped = surprise[:, :count].min(axis=0) + 2 * len(fitted) < surprise[:, count:].min(axis=0)
    fitted = np.where(shaped, fitted, 0.0)
    every = np.where(shaped, np.arange(count), count + np.arange(count))
    seen, best = both[:, every], surprise[:, every].argmin(axis=0)
    tau, scale, loss = TAUS[best], scale[best, every], loss[best, every]
    helps = loss < 1
    inverse = 1 / (values[:, None] + tau)
    alpha = vectors @ (inverse * (vectors.T @ seen)) * helps / size

    powers, rest = power(directions, r), prior.rest(r)  # the diagonal terms of the kernel, gathered by example
    kept = np.argsort(-values)[:KEPT]
    kept = kept[values[kept] > NEEDED * tau.min()]
    chosen = vectors[:, kept] / size

    def by_example(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        real, imaginary = weights[:m], weights[m:]
        return powers.real.T @ real + powers.imag.T @ imaginary, rest.real @ real + rest.imag @ imaginary

    through, own = by_example(alpha)
    through_vectors, own_vectors = by_example(chosen)
    energy = np.maximum((whole**2).sum(axis=0), np.finfo(float).tiny)
    left = np.where(helps, loss, 1.0) * (seen**2).sum(axis=0) / energy
    return OneOrder(
        r=r,
        size=size,
        scale=scale,
        tau=tau,
        shapes=fitted,
        weights=alpha,
        through=through,
        own=own,
        vectors=chosen,
        through_vectors=through_vectors,
        own_vectors=own_vectors,
        precision=inverse[kept] * helps,
        explained=np.where(energy > np.finfo(float).tiny, 1 - left, 0.0) if m else np.zeros(len(every)),
    )


def fit_shapes(columns: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Least squares of seen (2m, C) on the shapes (2, 2m, C), value by value: (2, C), zero where it does not help.

    Whether it helps is asked of the observations left out one by one: their error is residual / (1 - leverage).
    """
    count = seen.shape[1]
    found = np.zeros((len(columns), count))
    for c in range(count):
        size = np.linalg.norm(columns[:, :, c], axis=1)
        used = np.flatnonzero(size > 0)
        if not used.size:
            continue
        x = (columns[used, :, c] / size[used, None]).T
        q, _, _ = np.linalg.svd(x, full_matrices=False)
        residual = seen[:, c] - q @ (q.T @ seen[:, c])
        leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-9)
        if ((residual / (1 - leverage)) ** 2).sum() < (seen[:, c] ** 2).sum():
            found[used, c] = np.linalg.lstsq(x, seen[:, c], rcond=None)[0] / size[used]
    return found


def left_out(values: np.ndarray, vectors: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every tau: squared error of directions left out over their square, fitted scale, and minus twice the log
    likelihood: three arrays (taus, C). values, vectors: of the kernel matrix; seen (2m, C).

    The error of direction j predicted from all others is A_jj^-1 (A y)_j, with A = (K + tau)^-1 and A_jj its 2 by 2
    block of real and imaginary part.
    """
    m = len(seen) // 2
    along, real, imaginary = vectors.T @ seen, vectors[:m], vectors[m:]
    squares = (real**2, imaginary**2, real * imaginary)
    energy = np.maximum((seen**2).sum(axis=0), np.finfo(float).tiny)
    found = []
    for tau in TAUS:
        inverse = 1 / (values + tau)
        a, d, b = (square @ inverse for square in squares)
        solved = vectors @ (inverse[:, None] * along)
        u, v, det = solved[:m], solved[m:], (a * d - b * b)[:, None]
        errors = ((d[:, None] * u - b[:, None] * v) / det, (a[:, None] * v - b[:, None] * u) / det)
        scale = np.maximum((errors[0] * u + errors[1] * v).sum(axis=0) / (2 * m), np.finfo(float).tiny)
        surprise = 2 * m * np.log(scale) - np.log(det).sum()
        found.append(((errors[0] ** 2 + errors[1] ** 2).sum(axis=0) / energy, scale, surprise))
    loss, scale, surprise = (np.stack(column) for column in zip(*found, strict=True))
    return loss, scale, surprise


def likelihood(prior: Prior, observed: np.ndarray) -> float:
    """Minus twice the log likelihood of left-out directions at order 2, averaged over values; the smaller the
    better. observed (m, C)."""
    kernel = prior.decomposed(2, TRIED_ON)
    first = observed[: len(kernel.values) // 2]
    seen = np.concatenate([first.real, first.imag])
    return float(left_out(kernel.values, kernel.vectors, seen)[2].min(axis=0).mean())
