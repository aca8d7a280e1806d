"""The theorem's estimator (THEORY (1)): from Taylor coefficients along random directions to the effect of any h.

In: a `Measurement` with random directions. Out: the change f(x + h) - f(x), one term per order, and standard errors.
With Z_r = factor_r <psi, h>^r c_r(psi), it takes Re Z_r since the true change is real, averages over the directions of
a group, and takes the median over groups: see `grouping`. The distribution of directions is left to `directions`, the
region in which the series can be trusted to `convergence`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from circuitsketch.estimators.checks import choose_order, refuse_nonfinite, require_directions
from circuitsketch.estimators.convergence import (
    Region,
    reach_of,
    sentence_outside,
    truncation_of,
    warnings_of,
    warnings_of_influence,
)
from circuitsketch.estimators.grouping import (
    Grouping,
    arrange,
    block_variance,
    median_of_means,
    pooled_variance,
    standard_error,
)
from circuitsketch.estimators.interface import Effects, Estimate, Measurement
from circuitsketch.limits import blocks_of


@dataclass(frozen=True, eq=False)
class MonteCarlo:
    """The theorem's estimator, "theorem": unbiased, from random directions alone.

    median_groups : the number of groups of the median; None for the default of `grouping.arrange`.

    Raises
    ------
    InputError
        If there are fewer directions, or blocks of dependent ones, than groups.
    """

    measurement: Measurement
    median_groups: int | None = None
    name: str = "theorem"

    def __post_init__(self) -> None:
        if len(self.measurement.coefficients):
            assert self.grouping is not None  # refuses a number of groups that is not possible

    @property
    def working_bytes(self) -> int:
        """What every direction says of one h."""
        coefficients = self.measurement.coefficients
        return 24 * (coefficients.shape[1] - 1) * len(coefficients) * self.measurement.size

    def predict(self, h: np.ndarray, order: int | None = None, median_groups: int | None = None) -> Estimate:
        """Estimate the change for h of shape (n,) or (B, n)."""
        measurement = self.measurement
        require_directions(measurement)
        order = choose_order(order, measurement.order)
        grouping = self.grouping if median_groups is None else self.arrange(median_groups)
        rows = np.atleast_2d(h)
        inner = inner_products(self.directions, rows)
        estimated = estimate(measurement.coefficients[:, : order + 1], inner, self.log_factors[:order], grouping)
        region, lengths = self.region, np.linalg.norm(rows, axis=1)
        assert region is not None
        decay, outside = region.terms(lengths), region.excludes(lengths)
        reach = reach_of(region, lengths, outside)
        cut = 0 if h.ndim == 1 else slice(None)
        change, stderr, decay, outside = estimated.change[cut], estimated.stderr[cut], decay[:, cut], outside[cut]
        return Estimate(
            change,
            stderr,
            estimated.terms[:, cut],
            estimated.term_stderr[:, cut],
            truncation_of(decay, order),
            grouping.degrees_of_freedom,
            outside,
            median_groups=len(grouping.groups),
            warnings=warnings_of(decay, outside, change, stderr, grouping.directions, reach),
        )

    def influence(self) -> Effects:
        """Estimate the change for every h = e_i."""
        require_directions(self.measurement)
        coefficients = self.measurement.coefficients
        change, stderr = influence(coefficients, self.directions, self.log_factors, self.grouping)
        warnings = warnings_of_influence(change, stderr)
        if self.region is not None:
            outside = np.broadcast_to(self.region.excludes(np.ones(1))[0], self.measurement.shape)
            if outside.any():
                reach = reach_of(self.region, np.ones(1), outside[None])
                warnings += (sentence_outside(self.region.terms(1.0), outside, reach),)
        return Effects(change, stderr, self.measurement.order, self.name, warnings)

    @cached_property
    def directions(self) -> np.ndarray:
        """The m directions, complex128 of shape (m, n); generated on first access."""
        return self.measurement.generate_directions()

    @cached_property
    def log_factors(self) -> np.ndarray:
        """The logarithms of the distribution's factors, by order."""
        return np.array([self.measurement.distribution.log_factor(r) for r in range(1, self.measurement.order + 1)])

    @cached_property
    def grouping(self) -> Grouping:
        """The groups of the median."""
        return self.arrange(self.median_groups)

    def arrange(self, median_groups: int | None) -> Grouping:
        """Group the directions. In one coordinate a direction of length one is exact; a Gaussian one is not."""
        distribution = self.measurement.distribution
        exact = distribution.n == 1 and distribution.name != "gaussian"
        return arrange(len(self.measurement.coefficients), distribution.block_size, median_groups, exact)

    @cached_property
    def log_norms(self) -> tuple[np.ndarray, np.ndarray]:
        """log ||F_r|| and the relative errors of ||F_r||, (order, *S); with per-example series ||F_1|| is exact."""
        measurement = self.measurement
        require_directions(measurement)
        logs, errors = tensor_norms(measurement.coefficients, self.log_factors, self.arrange(1))
        if measurement.per_example is not None:
            with np.errstate(divide="ignore"):
                logs[0] = 0.5 * np.log((measurement.per_example[:, 1] ** 2).sum(axis=0))
            errors[0] = 0
        return logs, errors

    @cached_property
    def region(self) -> Region | None:
        """The region of trust; None if no random directions have measured it."""
        measurement = self.measurement
        if not len(measurement.coefficients) or not measurement.order:
            return None
        return Region(self.log_norms[0], None if measurement.per_example is None else measurement.n)


def inner_products(directions: np.ndarray, h: np.ndarray) -> np.ndarray:
    """<psi_j, h> = sum_i conj(psi_ji) h_i for directions (m, n) and real h (B, n): complex of shape (B, m).

    Only coordinates where some h differs from zero are touched: O(d m) for a deletion of d examples.
    """
    used = np.flatnonzero(h.any(axis=0))
    if 2 * len(used) < h.shape[1]:
        directions, h = directions[:, used], h[:, used]
    return (h @ directions.T).conj()


def contributions(coefficients: np.ndarray, inner: np.ndarray, log_factors: np.ndarray) -> np.ndarray:
    """Re Z_r of each direction, before any average: float64 of shape (order, B, m, S).

    coefficients (m, order+1, S), inner (B, m), log_factors (order,). <psi, h>^r, the factor and the size of
    c_r are put together as logarithms: at r = 100 each alone may leave the floats when their product is of
    size one.
    """
    turn, log_size = _polar(inner)
    order = len(log_factors)
    samples = np.empty((order, *inner.shape, coefficients.shape[2]))
    turned = np.ones_like(turn)
    for r in range(1, order + 1):
        turned = turned * turn
        real, imaginary, peak = _scaled(coefficients[:, r], axis=1)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            weight = turned * np.exp(log_factors[r - 1] + r * log_size + np.log(peak[:, 0]))
            np.multiply(weight.real[..., None], real, out=samples[r - 1])
            samples[r - 1] -= weight.imag[..., None] * imaginary
    return samples


def estimate(coefficients: np.ndarray, inner: np.ndarray, log_factors: np.ndarray, grouping: Grouping) -> Estimate:
    """The theorem's estimate of the change for each of B h's.

    coefficients (m, order+1, *measurement), inner (B, m) from `inner_products`, log_factors (order,), a
    grouping of m directions. DivergenceError where a term leaves the floats.
    """
    measurement = coefficients.shape[2:]
    flat = coefficients.reshape(*coefficients.shape[:2], -1)
    order, batch, cells = len(log_factors), len(inner), flat.shape[2]
    change, stderr = np.empty((batch, cells)), np.empty((batch, cells))
    terms, term_stderr = np.empty((order, batch, cells)), np.empty((order, batch, cells))
    for part in blocks_of(batch, order * inner.shape[1] * cells):
        samples = contributions(flat, inner[part], log_factors)
        with np.errstate(over="ignore", invalid="ignore"):
            total = samples.sum(axis=0)
            change[part] = median_of_means(total, grouping)
            terms[:, part] = median_of_means(samples, grouping)
            above_one = block_variance(samples[1:].sum(axis=0), grouping)
            stderr[part] = standard_error(pooled_variance(total, grouping), above_one, grouping)
            above_one = block_variance(samples, grouping)
            above_one[0] = 0
            term_stderr[:, part] = standard_error(pooled_variance(samples, grouping), above_one, grouping)
    refuse_nonfinite(change)
    return Estimate(
        change.reshape(batch, *measurement),
        stderr.reshape(batch, *measurement),
        terms.reshape(order, batch, *measurement),
        term_stderr.reshape(order, batch, *measurement),
        np.full((batch, *measurement), np.nan),
    )


def influence(
    coefficients: np.ndarray, directions: np.ndarray, log_factors: np.ndarray, grouping: Grouping
) -> tuple[np.ndarray, np.ndarray]:
    """All n leave-one-out changes, and their standard errors: two arrays (n, *measurement). h = e_i.

    Worked off in blocks of coordinates, so that memory stays bounded.
    """
    n = directions.shape[1]
    cells = int(np.prod(coefficients.shape[2:], dtype=int))
    change, stderr = np.empty((n, *coefficients.shape[2:])), np.empty((n, *coefficients.shape[2:]))
    for part in blocks_of(n, len(log_factors) * len(directions) * cells):
        estimated = estimate(coefficients, directions[:, part].T.conj(), log_factors, grouping)
        change[part], stderr[part] = estimated.change, estimated.stderr
    return change, stderr


def tensor_norms(
    coefficients: np.ndarray, log_factors: np.ndarray, grouping: Grouping
) -> tuple[np.ndarray, np.ndarray]:
    """log ||F_r|| by THEORY (2), and the relative error of ||F_r||: two arrays (order, *measurement).

    ||F_r||^2 = factor_r E |c_r(psi)|^2, where `log_factors` know the scale of the directions. The
    mean is over all directions: `grouping` has one group. A norm of zero has the logarithm -inf and no error.
    """
    log_norms, errors = [], []
    for r, log_factor in enumerate(log_factors, start=1):
        real, imaginary, peak = _scaled(coefficients[:, r].reshape(len(coefficients), -1), axis=0)
        squares = real**2 + imaginary**2
        mean = squares.mean(axis=0)
        inside = pooled_variance(squares, grouping)
        between = np.zeros_like(inside) if r == 1 else block_variance(squares, grouping)
        error = standard_error(inside, between, grouping)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_norms.append(0.5 * (log_factor + np.log(mean)) + np.log(peak[0]))
            errors.append(np.where(mean > 0, error / (2 * mean), 0))
    shape = (len(log_factors), *coefficients.shape[2:])
    return np.stack(log_norms).reshape(shape), np.stack(errors).reshape(shape)


def _polar(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Complex numbers as (z / |z|, log |z|), subnormal ones as well; zero as (1, -inf)."""
    _, exponent = np.frexp(np.maximum(np.abs(numbers.real), np.abs(numbers.imag)))
    near_one = np.empty_like(numbers)
    near_one.real, near_one.imag = np.ldexp(numbers.real, -exponent), np.ldexp(numbers.imag, -exponent)
    size = np.abs(near_one)
    with np.errstate(divide="ignore"):
        return (
            np.divide(near_one, size, out=np.ones_like(numbers), where=size > 0),
            np.log(size) + exponent * math.log(2),
        )


def _scaled(numbers: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real and imaginary parts divided by the largest of them along the axis, and that, or 1 where all are zero."""
    real, imaginary = numbers.real.astype(np.float64), numbers.imag.astype(np.float64)
    peak = np.maximum(np.abs(real), np.abs(imaginary)).max(axis=axis, keepdims=True)
    peak[peak == 0] = 1
    return real / peak, imaginary / peak, peak
