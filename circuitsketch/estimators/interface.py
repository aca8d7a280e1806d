"""What every estimator starts from, and what it answers: a measurement's Taylor coefficients in, estimates out.

An estimator is an object with the interface `Estimator`. It is built from a `Measurement` and answers with an
`Estimate` for any h, and with `Effects` for all examples at once; how answers are shown is left to `attribution`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np

from circuitsketch.directions import Distribution
from circuitsketch.limits import require_memory

Bounds = Callable[[float], tuple[np.ndarray, np.ndarray]]  # level -> the ends of an interval


@dataclass(frozen=True, eq=False)
class Measurement:
    """The Taylor coefficients of a measurement of shape S at the trained parameters.

    Attributes
    ----------
    coefficients : complex, of shape (m, order + 1, *S)
        Along the first m directions of the distribution; m may be 0.
    distribution : Distribution
        Of the directions.
    per_example : float64, of shape (n, order' + 1, *S), or None
        Every example's own series: coefficient k of example i is F_k(e_i, ..., e_i).
    unit : str
        What a coordinate of h is: "example", "group" or "coordinate".
    """

    coefficients: np.ndarray
    distribution: Distribution
    per_example: np.ndarray | None = None
    unit: str = "example"

    @cached_property
    def n(self) -> int:
        """The number of coordinates of h."""
        return self.distribution.n

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape S of the measurement."""
        return self.coefficients.shape[2:]

    @cached_property
    def size(self) -> int:
        """The number of values measured."""
        return prod(self.shape)

    @cached_property
    def order(self) -> int:
        """The highest order of the series along directions."""
        return self.coefficients.shape[1] - 1

    @cached_property
    def flat_per_example(self) -> np.ndarray:
        """The per-example series of the values as one vector, (n, order' + 1, values)."""
        assert self.per_example is not None
        return self.per_example.reshape(*self.per_example.shape[:2], -1)

    def generate_directions(self) -> np.ndarray:
        """Generate the m directions, complex128 of shape (m, n)."""
        m = len(self.coefficients)
        require_memory(16 * m * self.n, f"{m:,} directions of {self.n:,} coordinates", ["fewer directions"])
        directions = self.distribution.block(0, m)
        directions.flags.writeable = False
        return directions


@dataclass(frozen=True, eq=False)
class Estimate:
    """An estimate of f(x + h) - f(x) for one h, or for B of them; the axis B comes before S, and is absent for one h.

    Attributes
    ----------
    change, stderr : (B, *S)
        The estimate, and its standard error.
    terms, term_stderr : (order, B, *S)
        The term of each order, and its standard error.
    truncation : (B, *S)
        What the orders left out may add; NaN if that is unknown.
    degrees_of_freedom : int, or (B, *S)
        Of the standard errors.
    outside : bool, (B, *S)
        Whether h lies outside the region of trust.
    slowness : (B,)
        What the orders left out may add, over the change, where the estimator knows it; else 0.
    median_groups : int
        The number of groups whose median was taken.
    estimator : str
        The name of the estimator, or "series" for the exact series along a given direction.
    doubts : sequence of str
        Sentences about what a series may miss at h: an h outside the region of trust, kinks, roots.
    warnings : sequence of str
        Further sentences that a reader of the change must know.
    notes : sequence of str
        Sentences that say why the error is large, where it is known to be.
    bounds : callable, or None
        `bounds(level)` -> the ends of the interval of the change, (B, *S) each; None: it follows from stderr.
    words : str
        What the estimate rests on, in words; empty: it follows from the estimator's name.
    """

    change: np.ndarray
    stderr: np.ndarray
    terms: np.ndarray
    term_stderr: np.ndarray
    truncation: np.ndarray
    degrees_of_freedom: int | np.ndarray = 0
    outside: np.ndarray | None = None
    slowness: np.ndarray | None = None
    median_groups: int = 1
    estimator: str = "theorem"
    doubts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    bounds: Bounds | None = None
    words: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Effects:
    """All n leave-one-out changes, h = e_i, and their standard errors: (n, *S).

    order : the highest order taken into account. estimator : its name, or "series".
    """

    change: np.ndarray
    stderr: np.ndarray
    order: int
    estimator: str
    warnings: tuple[str, ...] = ()


class Estimator(Protocol):
    """A way to predict a measurement's change from its Taylor coefficients."""

    @property
    def name(self) -> str:
        """The name by which users ask for it."""

    @property
    def working_bytes(self) -> int:
        """The memory that an answer takes besides itself."""

    def predict(self, h: np.ndarray, order: int | None = None, median_groups: int | None = None) -> Estimate:
        """Estimate the change for h of shape (n,) or (B, n).

        order : leave out the orders above this one. median_groups : another number of groups of the median; an
        estimator without a median refuses it.
        """

    def influence(self) -> Effects:
        """Estimate the change for every h = e_i."""
