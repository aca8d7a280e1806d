"""The measured decay of a Taylor series, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuitsketch.arguments import quoted
from circuitsketch.arrays import finite_array, plain
from circuitsketch.attribution.formatting import COLUMNS_SHOWN, figure, line, names_of_columns
from circuitsketch.display import listing
from circuitsketch.errors import InputError
from circuitsketch.estimators.convergence import Region, length_of, scaled_norms


@dataclass(frozen=True, eq=False, repr=False)
class Stability:
    """The measured norms ||F_r|| of the Taylor tensors of a measurement, r = 1, ..., order (THEORY (2)).

    Their decay says how far the series can be trusted: `decay(length)`; `rate` and `radius` put it into a number each.

    Attributes
    ----------
    norms, stderr : ndarray, of shape (order, *measurement)
        The norms, and their standard errors.
    order : int
        The highest order.
    directions : int
        The number of directions.
    unit : str
        What a coordinate of h is called.
    examples : int or None
        The number of examples, if the series of each is known; the radius takes it into account.
    warnings : tuple of str
        Sentences that a reader must know.
    """

    norms: np.ndarray
    stderr: np.ndarray
    order: int
    directions: int
    unit: str = "example"
    examples: int | None = None
    warnings: tuple[str, ...] = ()

    def decay(self, length: float) -> np.ndarray:
        """Return ||F_r|| length^r, the largest that term r can be for an h of this length.

        Parameters
        ----------
        length : float
            |h|: the square root of the number of examples that are deleted.

        Returns
        -------
        ndarray, of shape (order, *measurement)

        Raises
        ------
        InputError
            For a length that is negative, or not finite.
        """
        lengths = finite_array(length, "a length |h|")
        if (lengths < 0).any():
            raise InputError(f"a length |h| must be at least 0, not {quoted(length)}")
        with np.errstate(divide="ignore", over="ignore"):
            return scaled_norms(np.log(self.norms), lengths)

    def alpha(self, radius: float) -> float | np.ndarray:
        """Return the stability function as far as it was measured: the largest radius^r ||F_r||, r = 1..order."""
        return plain(self.decay(radius).max(axis=0))

    @property
    def _region(self) -> Region:
        with np.errstate(divide="ignore"):
            return Region(np.log(self.norms), self.examples)

    @property
    def rate(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        """The factor from one norm to the next at the highest orders, and its standard error: the root of the last norm
        over the last but two, or the last over the first of two. NaN where a single order was measured."""
        rate, steps = self._region.growth, 2 if self.order > 2 else 1
        if self.order == 1:
            return plain(rate), plain(rate)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(self.norms > 0, self.stderr / self.norms, 0.0)
        error = np.hypot(relative[-1], relative[-1 - steps]) / steps
        return plain(rate), plain(np.where(rate > 0, rate * error, 0.0))

    @property
    def radius(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        """The radius |h| of the region of trust, and its standard error: predictions beyond it are `outside`.

        It is 1 / rate, the length at which the terms stop falling; where the series of every single example is known,
        it is the length of which `estimators.convergence.counted` counts as much.
        """
        (rate, error), radius = self.rate, self._region.radius
        with np.errstate(divide="ignore", invalid="ignore"):
            shorter = length_of(1 / (np.asarray(rate) + error), self.examples)
            return plain(radius), plain(np.where(np.isinf(radius), 0.0, radius - shorter))

    def _repr_html_(self) -> str:
        return listing(str(self))

    def __repr__(self) -> str:
        return f"<{str(self).splitlines()[0]}>"

    def __str__(self) -> str:
        shape = self.norms.shape[1:]
        shown = min(int(np.prod(shape, dtype=int)), COLUMNS_SHOWN)
        lines = [f"stability: norms of the Taylor tensors, {self.directions} directions"]
        names = names_of_columns(shape, shown) or ["||F_r||"]
        lines.append(line("order", [x for name in names for x in (name, "+-")]))
        for r, (norm, error) in enumerate(zip(self.norms, self.stderr, strict=True), start=1):
            pairs = list(zip(norm.ravel()[:shown], error.ravel()[:shown], strict=True))
            lines.append(line(str(r), [figure(x) for pair in pairs for x in pair]))
        if self.order > 1:
            for label, pair in (("rate", self.rate), ("radius |h|", self.radius)):
                parts = [np.ravel(number)[:shown] for number in pair]
                lines.append(line(label, [figure(x) for both in zip(*parts, strict=True) for x in both]))
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])
