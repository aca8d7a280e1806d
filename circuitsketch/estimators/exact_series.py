"""The exact series along given directions, for h's that are multiples of one of them.

In: a `Measurement` with given directions. Out: estimates without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from circuitsketch.directions import RANDOM_DISTRIBUTIONS
from circuitsketch.errors import InputError
from circuitsketch.estimators.checks import choose_order, refuse_nonfinite, require_directions
from circuitsketch.estimators.convergence import Region, ratio_of_decay, truncation_of, warnings_of
from circuitsketch.estimators.interface import Effects, Estimate, Measurement
from circuitsketch.limits import blocks_of

PARALLEL = 1e-12  # |h - t psi| / |h| below which h counts as a multiple of psi: some thousand roundings


@dataclass(frozen=True, eq=False)
class ExactSeries:
    """The estimator "theorem" of given directions: the series along the direction of which h is a multiple.

    Raises
    ------
    InputError
        For a number of groups, since nothing is averaged.
    """

    measurement: Measurement
    median_groups: int | None = None
    name: str = "theorem"
    region: Region | None = None  # which only random directions can measure

    def __post_init__(self) -> None:
        if len(self.measurement.coefficients):
            refuse_median(self.median_groups)

    @property
    def working_bytes(self) -> int:
        """What every direction says of one h."""
        coefficients = self.measurement.coefficients
        return 24 * (coefficients.shape[1] - 1) * len(coefficients) * self.measurement.size

    @cached_property
    def directions(self) -> np.ndarray:
        """The m directions, complex128 of shape (m, n)."""
        return self.measurement.generate_directions()

    @property
    def log_norms(self) -> tuple[np.ndarray, np.ndarray]:
        """InputError: the norms of the Taylor tensors are averages over random directions."""
        require_directions(self.measurement)
        raise InputError(
            "given directions have no distribution, so the norms ||F_r|| cannot be measured: use a random distribution "
            f"({', '.join(RANDOM_DISTRIBUTIONS)})"
        )

    def predict(self, h: np.ndarray, order: int | None = None, median_groups: int | None = None) -> Estimate:
        """Sum the series for h of shape (n,) or (B, n)."""
        coefficients = self.measurement.coefficients
        require_directions(self.measurement)
        order = choose_order(order, self.measurement.order)
        refuse_median(median_groups)
        terms = series_terms(coefficients, self.directions, np.atleast_2d(h), order)
        refuse_nonfinite(terms.sum(axis=0))
        terms = terms[:, 0] if h.ndim == 1 else terms
        change, nothing, decay = terms.sum(axis=0), np.zeros_like(terms), np.abs(terms)
        outside = ratio_of_decay(decay) >= 1
        return Estimate(
            change,
            nothing[0],
            terms,
            nothing,
            truncation_of(decay, order),
            0,
            outside,
            estimator="series",
            warnings=warnings_of(decay, outside, change, nothing[0], len(coefficients)),
        )

    def influence(self) -> Effects:
        """Sum the series for every h = e_i; each must be a multiple of a given direction."""
        require_directions(self.measurement)
        coefficients, directions = self.measurement.coefficients, self.directions
        n = directions.shape[1]
        changes = []
        for part in blocks_of(n, n + coefficients.size):
            rows = np.arange(part.start, part.stop)
            basis = np.zeros((len(rows), n))
            basis[np.arange(len(rows)), rows] = 1
            changes.append(series_terms(coefficients, directions, basis, self.measurement.order).sum(axis=0))
        change = np.concatenate(changes)
        return Effects(change, np.zeros_like(change), self.measurement.order, "series")


def refuse_median(median_groups: int | None) -> None:
    """Raise InputError for a number of groups."""
    if median_groups is not None:
        raise InputError("given directions are not averaged, so there is no median: leave median_groups out")


def series_terms(coefficients: np.ndarray, directions: np.ndarray, h: np.ndarray, order: int) -> np.ndarray:
    """Return the terms (order, B, *S) of the exact series, for h's (B, n) along given directions (m, n).

    InputError: an h that is not a multiple of any of them.
    """
    squares = (directions.real**2 + directions.imag**2).sum(axis=1)
    squares[squares == 0] = np.inf
    peak = np.abs(h).max(axis=1, keepdims=True)  # so that no square leaves the floats
    peak[peak == 0] = 1
    h = h / peak
    inner = (h @ directions.T).conj()
    nearest = np.argmax(np.abs(inner) / np.sqrt(squares), axis=1)
    factors = np.take_along_axis(inner, nearest[:, None], axis=1)[:, 0] / squares[nearest]
    off = np.linalg.norm(h - factors[:, None] * directions[nearest], axis=1)
    stray = np.flatnonzero(off > PARALLEL * np.linalg.norm(h, axis=1))
    if stray.size:
        which = f"h number {stray[0]}" if len(h) > 1 else "h"
        raise InputError(
            f"{which} is no multiple of a given direction, and only along those is the series known: "
            "make a sketch with a random distribution (sphere, gaussian, orthonormal) to ask about any h"
        )
    return scale_terms(coefficients[nearest, : order + 1], factors * peak[:, 0])


def scale_terms(coefficients: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the terms t^r c_r, real part: (order, B, *S).

    coefficients : (B, order + 1, *S), of the direction psi of each h. factors : t (B,), with h = t psi.
    """
    order = coefficients.shape[1] - 1
    with np.errstate(over="ignore", invalid="ignore"):
        powers = factors[:, None] ** np.arange(1, order + 1)
        wide = powers.reshape(*powers.shape, *(1,) * (coefficients.ndim - 2))
        return np.moveaxis((wide * coefficients[:, 1:]).real, 1, 0)
