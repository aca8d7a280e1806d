"""The theorem's estimator in gradient form (THEORY 8): one order more, at the variance of the order below.

In: the gradient of a measurement, and the Taylor coefficients of the gradient along random directions psi, which hold
F_{k+1}(psi, ..., psi, e_i) for all i. Out: estimates of the change for any h. With F' = F_{k+1}(., ..., ., h), a form
of degree k for fixed h, factor_k <psi, h>^k F'(psi, ..., psi) is the theorem's estimate of F_{k+1}(h, ..., h), and as
noisy as one of order k: order 1 is exact, order 2 as noisy as order 1 of the plain form. `monte_carlo` takes the
averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from circuitsketch.directions import Distribution
from circuitsketch.estimators.checks import choose_order
from circuitsketch.estimators.convergence import Region, reach_of, truncation_of, warnings_of, warnings_of_influence
from circuitsketch.estimators.grouping import Grouping, arrange
from circuitsketch.estimators.interface import Effects, Estimate
from circuitsketch.estimators.monte_carlo import estimate, inner_products, tensor_norms


@dataclass(frozen=True, eq=False)
class GradientMonteCarlo:
    """The estimator "theorem-gradient": unbiased, exact at first order.

    Attributes
    ----------
    gradient : ndarray, of shape (n, C)
        The derivatives of a measurement of C values with respect to the downweights.
    coefficients : ndarray of complex, of shape (m, order, n, C)
        The Taylor coefficients 0, ..., order - 1 of the gradient along the first m directions of the distribution.
    distribution : Distribution
        Of the directions: a random one.
    shape : tuple of int
        The shape of the measurement.
    median_groups : int, optional
        The number of groups of the median; by default that of `grouping.arrange`.

    Raises
    ------
    InputError
        If there are fewer directions, or blocks of dependent ones, than groups.
    """

    gradient: np.ndarray
    coefficients: np.ndarray
    distribution: Distribution
    shape: tuple[int, ...] = ()
    median_groups: int | None = None
    name: str = "theorem-gradient"

    def __post_init__(self) -> None:
        assert self.grouping is not None  # refuses a number of groups that is not possible

    @property
    def count(self) -> int:
        """The number m of directions."""
        return len(self.coefficients)

    @property
    def order(self) -> int:
        """The highest order."""
        return self.coefficients.shape[1]

    @property
    def working_bytes(self) -> int:
        """What every direction says of one h."""
        return 40 * self.order * self.count * self.gradient.shape[1]

    @cached_property
    def directions(self) -> np.ndarray:
        """The m directions, complex128 of shape (m, n); generated on first access."""
        return self.distribution.block(0, self.count)

    @cached_property
    def log_factors(self) -> np.ndarray:
        """The logarithms of the factors of orders 2, ..., `order`: the distribution's for one order less."""
        return np.array([self.distribution.log_factor(k) for k in range(1, self.order)])

    @cached_property
    def grouping(self) -> Grouping:
        """The groups of the median."""
        return self.arrange(self.median_groups)

    def arrange(self, median_groups: int | None) -> Grouping:
        """Group the directions, as `MonteCarlo.arrange` does."""
        exact = self.distribution.n == 1 and self.distribution.name != "gaussian"
        return arrange(self.count, self.distribution.block_size, median_groups, exact)

    @cached_property
    def region(self) -> Region:
        """The region of trust, by the norms ||F_r||: the mean over directions of the squares of n numbers each."""
        squares = (np.abs(self.coefficients[:, 1:]) ** 2).sum(axis=2)
        degrees = np.arange(2, self.order + 1)[:, None]
        sizes = np.zeros((self.count, self.order, self.gradient.shape[1]))
        sizes[:, 1:] = np.sqrt(squares) / degrees
        with np.errstate(divide="ignore"):
            first = 0.5 * np.log((self.gradient**2).sum(axis=0))
        above = tensor_norms(sizes, self.log_factors, self.arrange(1))[0]
        return Region(np.concatenate([first[None], above]).reshape(self.order, *self.shape))

    def predict(self, h: np.ndarray, order: int | None = None, median_groups: int | None = None) -> Estimate:
        """Estimate the change for h of shape (n,) or (B, n)."""
        order = choose_order(order, self.order)
        grouping = self.grouping if median_groups is None else self.arrange(median_groups)
        rows = np.atleast_2d(h)
        terms, term_stderr, stderr, change = self.estimate(rows, order, grouping)
        lengths = np.linalg.norm(rows, axis=1)
        region = self.region
        decay, outside = region.terms(lengths), region.excludes(lengths)
        cut = 0 if h.ndim == 1 else slice(None)
        change, stderr = change[cut], stderr[cut]
        warnings = warnings_of(
            decay[:, cut], outside[cut], change, stderr, self.count, reach_of(region, lengths, outside)
        )
        return Estimate(
            change,
            stderr,
            terms[:, cut],
            term_stderr[:, cut],
            truncation_of(decay[:, cut], order),
            grouping.degrees_of_freedom,
            outside[cut],
            median_groups=len(grouping.groups),
            estimator=self.name,
            warnings=warnings,
            words=f"order {order}, exact at order 1, above by the gradients along {self.count} directions",
        )

    def estimate(self, rows: np.ndarray, order: int, grouping: Grouping) -> tuple[np.ndarray, ...]:
        """Return terms and their errors (order, B, *S), the errors of their sums and the sums (B, *S)."""
        shape = (len(rows), *self.shape)
        terms, term_stderr = np.zeros((order, *shape)), np.zeros((order, *shape))
        stderr, above = np.zeros(shape), np.zeros(shape)
        terms[0] = (rows @ self.gradient).reshape(shape)
        degrees = np.arange(1, order + 1)[:, None]
        inner = inner_products(self.directions, rows)
        for row, h in enumerate(rows if order > 1 else ()):
            used = np.flatnonzero(h)
            along = np.einsum("mkic,i->mkc", self.coefficients[:, :order, used], h[used]) / degrees
            part = estimate(along, inner[row : row + 1], self.log_factors[: order - 1], grouping)
            above[row], stderr[row] = part.change.reshape(self.shape), part.stderr.reshape(self.shape)
            terms[1:, row] = part.terms.reshape(-1, *self.shape)
            term_stderr[1:, row] = part.term_stderr.reshape(-1, *self.shape)
        return terms, term_stderr, stderr, terms[0] + above

    def influence(self) -> Effects:
        """Estimate the change for every h = e_i."""
        _, _, stderr, change = self.estimate(np.eye(self.distribution.n), self.order, self.grouping)
        return Effects(change, stderr, self.order, self.name, warnings_of_influence(change, stderr))
