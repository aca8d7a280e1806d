"""What examples do together: the off-diagonal part of every Taylor tensor, at any h.

In: the fit of every order (made by `fitting`) and h's. Out: the mean of O_r(h), its variance, and covariances, where
F_r(h, ..., h) = sum_i F_r(e_i, ..., e_i) h_i^r + O_r(h). The sum over examples and what a user is told are left to
`own_effects`; the kernel k is that of `priors`; many sparse h's at once take the way of `sparse_batches`.

Beside S^(x r) the prior has an isotropic part: of variance tau for directions of random phases, to which it is white
noise, and of variance 2 tau (|h|^2r - sum h_i^2r) / n^r at a real h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from circuitsketch.arrays import power
from circuitsketch.estimators.interactions.one_order import OneOrder
from circuitsketch.estimators.interactions.priors import Prior
from circuitsketch.estimators.interactions.sparse_batches import Tables, entries_of, look

MANY = 32  # h's from which on `sparse_batches` is worth its tables
SPARSE = 0.25  # and the share of entries different from zero up to which it is


@dataclass(frozen=True, eq=False)
class AtOrder:
    """What is known of O_r at B h's, four times (B, C): its mean, the part of it that is the fitted shapes, its
    variance before any direction was seen, and given the directions."""

    mean: np.ndarray
    shaped: np.ndarray
    prior: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True, eq=False)
class Points:
    """Real h's (B, n) and the products with the similarity and the directions that every order needs.

    used: the coordinates at which any h differs from zero. through: h S, (B, n). seen: h S psi, complex (B, m).
    alike: h times the cosines, (B, n). support: the coordinates outside of which h and h S are zero, or all.
    """

    h: np.ndarray
    used: np.ndarray
    through: np.ndarray
    seen: np.ndarray
    alike: np.ndarray | None
    support: np.ndarray | slice

    @cached_property
    def square(self) -> np.ndarray:
        """h S h, (B,)."""
        return np.einsum("bi,bi->b", self.h, self.through)

    def powers(self, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """h^r, (h S)^r and the real, then the imaginary parts of (h S psi)^r: elementwise."""
        seen = power(self.seen, r)
        return power(self.h, r), power(self.through, r), np.concatenate([seen.real, seen.imag], axis=1)


@dataclass(frozen=True, eq=False)
class Interactions:
    """The fitted interactions of a measurement with C values, orders 2 to `order`. per_example (n, order + 1, C)
    real."""

    per_example: np.ndarray
    prior: Prior
    orders: tuple[OneOrder, ...]

    def look(self, h: np.ndarray, fits: Sequence[OneOrder]) -> tuple[np.ndarray, list[AtOrder]]:
        """h S h (B,) of h's (B, n), and what is known of the orders of these fits there."""
        if len(h) >= MANY and not self.prior.is_diagonal and (entries := entries_of(h, SPARSE)) is not None:
            square, found = look(self.tables, entries, [fit.r for fit in fits])
            return square, [self._sparse(fit, *parts) for fit, parts in zip(fits, found, strict=True)]
        at = self.points(h)
        return at.square, [self.see(fit, at) for fit in fits]

    def points(self, h: np.ndarray) -> Points:
        """What all orders need of h (B, n); only rows of S of examples that are used are touched."""
        used = np.flatnonzero(h.any(axis=0))
        few = 4 * len(used) < h.shape[1]
        rows = h[:, used]

        def through(table: np.ndarray) -> np.ndarray:
            if table.ndim == 1:
                return h * table
            return rows @ table[used] if few else h @ table

        seen = through(self.prior.metric_directions.view(np.float64)).view(np.complex128)
        alike = None if self.prior.cosines is None else through(self.prior.cosines)
        support = used if few and self.prior.is_diagonal else slice(None)
        return Points(h, used, through(self.prior.similarity), seen, alike, support)

    def see(self, fit: OneOrder, at: Points) -> AtOrder:
        """What is known of one order."""
        own, through, seen = at.powers(fit.r)
        both = shapes(self.per_example, fit.r, at.h, at.alike)
        shaped = both[0] * fit.shapes[0] + both[1] * fit.shapes[1]
        s = at.support
        mean = seen @ fit.weights - through[:, s] @ fit.through[s] - own[:, s] @ fit.own[s] + shaped
        together = self._together(own, at.used, fit.r)
        kernel = power(at.square, fit.r) - 2 * np.einsum("bi,bi->b", through, own) + together
        isotropic = power(np.einsum("bi,bi->b", at.h, at.h), fit.r) - np.einsum("bi,bi->b", own, own)
        prior = self._prior_variance(fit, kernel, isotropic)
        known = self.projected(fit, (own, through, seen), s) ** 2 @ fit.precision
        return AtOrder(mean, shaped, prior, np.maximum(prior - fit.scale * known, 0))

    def _together(self, own: np.ndarray, used: np.ndarray, r: int) -> np.ndarray:
        """h^r S^r h^r, (B,), of powers h^r (B, n) that are 0 outside of some columns."""
        if self.prior.is_diagonal:
            return own**2 @ power(self.prior.similarity, r)
        rows = own[:, used]
        return np.einsum("bi,bi->b", rows @ power(self.prior.similarity[np.ix_(used, used)], r), rows)

    def projected(
        self, fit: OneOrder, powers: tuple[np.ndarray, np.ndarray, np.ndarray], support: np.ndarray | slice
    ) -> np.ndarray:
        """k(h, psi) in the eigenbasis, (B, E), from `Points.powers` and `Points.support`."""
        own, through, seen = powers
        return (
            seen @ fit.vectors
            - through[:, support] @ fit.through_vectors[support]
            - own[:, support] @ fit.own_vectors[support]
        )

    def covariance(self, fit: OneOrder, one: Points, other: Points) -> np.ndarray:
        """The covariance of O_r between h's given the directions: (B, B', C)."""
        here, there = one.powers(fit.r), other.powers(fit.r)
        (x, sx, _), (y, sy, _) = here, there
        spread = power(self.prior.similarity, fit.r)
        alone = (x * spread if self.prior.is_diagonal else x @ spread) @ y.T
        kernel = power(one.through @ other.h.T, fit.r) - sx @ y.T - x @ sy.T + alone
        isotropic = (power(one.h @ other.h.T, fit.r) - x @ y.T) / float(x.shape[1]) ** fit.r
        p, q = self.projected(fit, here, one.support), self.projected(fit, there, other.support)
        known = np.einsum("be,de,ec->bdc", p, q, fit.precision, optimize=True)
        return fit.scale * (kernel[:, :, None] / fit.size + 2 * fit.tau * isotropic[:, :, None] - known)

    def _prior_variance(self, fit: OneOrder, kernel: np.ndarray, isotropic: np.ndarray) -> np.ndarray:
        """From k(h, h) and |h|^2r - sum h_i^2r, (B,), to the variance before any direction was seen (B, C)."""
        isotropic = np.maximum(isotropic, 0) / float(len(self.per_example)) ** fit.r
        return fit.scale * (np.maximum(kernel, 0)[:, None] / fit.size + 2 * fit.tau * isotropic[:, None])

    def _sparse(
        self,
        fit: OneOrder,
        kernel: np.ndarray,
        isotropic: np.ndarray,
        mean: np.ndarray,
        projected: np.ndarray,
        both: np.ndarray,
    ) -> AtOrder:
        """What `see` says, from the sums of `sparse_batches`."""
        shaped = both[0] * fit.shapes[0] + both[1] * fit.shapes[1]
        prior = self._prior_variance(fit, kernel, isotropic)
        known = projected**2 @ fit.precision
        return AtOrder(mean + shaped, shaped, prior, np.maximum(prior - fit.scale * known, 0))

    @cached_property
    def effective(self) -> tuple[float, float]:
        """The effective dimensions, trace^2 / sum of squares, of the values' first-order effects and of the
        similarity, of which 0 says that it knows no directions."""
        first = self.per_example[:, 1].T @ self.per_example[:, 1]
        known = [first] if self.prior.is_diagonal else [first, self.prior.similarity]
        sizes = [max(np.trace(x) ** 2 / max((x**2).sum(), np.finfo(float).tiny), 1.0) for x in known]
        return sizes[0], 0.0 if self.prior.is_diagonal else sizes[1]

    @cached_property
    def tables(self) -> Tables:
        """The tables whose rows `sparse_batches` adds up."""
        return Tables.of(self.prior, self.per_example, relative(self.per_example[:, 1]), self.orders)


def shapes(per_example: np.ndarray, r: int, x: np.ndarray, alike: np.ndarray | None) -> np.ndarray:
    """The two shapes of interactions of order r at real or complex x (B, n): (2, B, C).

    Similar examples: sum_i F_r(e_i^r) x_i ((C x)_i^(r-1) - x_i^(r-1)), which is what d equal examples do together; C
    x is `alike`. A link: (sum_i F_1(e_i) x_i)^r - sum_i (F_1(e_i) x_i)^r, each relative to the largest first-order
    effect.
    """
    first = relative(per_example[:, 1])
    link = power(x @ first, r) - power(x, r) @ power(first, r)
    if alike is None:
        return np.stack([np.zeros_like(link), link])
    return np.stack([(x * (power(alike, r - 1) - power(x, r - 1))) @ per_example[:, r], link])


def relative(effects: np.ndarray) -> np.ndarray:
    """Effects (n, C) over the largest of each column."""
    peak = np.abs(effects).max(axis=0)
    return effects / np.where(peak > 0, peak, 1)
