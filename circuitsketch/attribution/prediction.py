"""A prediction with its errors and warnings, which prints itself as text and, in a notebook, as a table.

In: an `Estimate`. Out: `Prediction`. The warnings are written in `estimators.convergence`.
"""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

import numpy as np

from circuitsketch.arguments import is_real, quoted
from circuitsketch.arrays import flag, plain
from circuitsketch.attribution.formatting import COLUMNS_SHOWN, figure, line, names_of_columns, to_json
from circuitsketch.attribution.structure import Structure
from circuitsketch.checks.dependence import Constancy
from circuitsketch.display import table
from circuitsketch.errors import InputError
from circuitsketch.estimators.interface import Bounds, Estimate

ORDERS_SHOWN = 6
ROUNDING = 1e-13  # of a value, by which two trainings of the same examples may differ


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a measurement would be at x + h, from its Taylor series at x.

    Attributes
    ----------
    value, change : float or ndarray, of shape S
        value = baseline + change, for a measurement of shape S; for B h's the axis B comes first, here and below.
    baseline : float or ndarray, of shape S
        The measurement at h = 0, exact.
    stderr : float or ndarray, of shape S
        The standard error of value and change. For "theorem" it is the spread over directions; for the estimators that
        rest on per-example series, the posterior's deviation together with what is left out. Checks of the run
        add in quadrature what kinks change; of subsets of sizes that were retrained, it is what those were off by.
    terms, term_stderr : ndarray, of shape (order, *S)
        The term F_r(h, ..., h) of each order, and its standard error. With more than one group each term is a median of
        its own, so that the terms add up to the change up to the error.
    truncation : float or ndarray, of shape S
        What is left out. For "theorem" and "series" a generous bound that is not part of stderr: what orders above the
        last may add if ||F_r|| |h|^r goes on as it was measured; infinite without decay, NaN if unknown. For the others
        a standard deviation, contained in stderr.
    order : int
        The highest order.
    directions : int
        The number of directions.
    median_groups : int
        The number of groups whose median was taken.
    degrees_of_freedom : int, or ndarray of shape S
        Of stderr; few where it rests on a guess.
    estimator : str
        "theorem": random directions, unbiased; "series": the exact series along a given direction; "interactions":
        per-example series and their interactions (biased by design, towards no interactions); "per-example": without
        interactions; "first-order".
    outside : bool, or ndarray of shape S
        Whether h lies outside the region of trust, by the measured decay of the series.
    warnings : tuple of str
        Sentences that a reader of the value must know: why the interval may not hold.
    notes : tuple of str
        Sentences that say why the error is large, and what would narrow it.
    unit : str
        What a coordinate of h is called.
    bounds, words : callable or None, str
        As for `Estimate`.
    """

    value: float | np.ndarray
    baseline: float | np.ndarray
    change: float | np.ndarray
    stderr: float | np.ndarray
    terms: np.ndarray = field(repr=False)
    term_stderr: np.ndarray = field(repr=False)
    truncation: float | np.ndarray
    order: int
    directions: int
    median_groups: int
    degrees_of_freedom: float | np.ndarray
    estimator: str
    outside: bool | np.ndarray = field(default=False, repr=False)
    warnings: tuple[str, ...] = ()
    unit: str = field(default="example", repr=False)
    bounds: Bounds | None = field(default=None, repr=False)
    words: str = field(default="", repr=False)
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(estimate: Estimate, baseline: Any, directions: int, unit: str, constancy: Constancy | None) -> Prediction:
        """Add an estimated change to the baseline; where the measurement is locally constant, the error is unknown."""
        flats: tuple[str, ...] = ()
        stderr, truncation, outside = estimate.stderr, estimate.truncation, estimate.outside
        if constancy is not None:
            flat, flats = np.broadcast_to(constancy.flat, np.shape(estimate.change)), constancy.notes
            stderr, truncation = np.where(flat, np.inf, stderr), np.where(flat, np.inf, truncation)
            outside = flat | outside
        return Prediction(
            value=plain(baseline + estimate.change),
            baseline=baseline,
            change=plain(estimate.change),
            stderr=plain(stderr),
            terms=estimate.terms,
            term_stderr=estimate.term_stderr,
            truncation=plain(truncation),
            order=len(estimate.terms),
            directions=directions,
            median_groups=estimate.median_groups,
            degrees_of_freedom=(
                estimate.degrees_of_freedom
                if isinstance(estimate.degrees_of_freedom, int)
                else plain(estimate.degrees_of_freedom)
            ),
            estimator=estimate.estimator,
            outside=flag(outside),
            warnings=tuple(in_units(text, unit) for text in (*flats, *estimate.doubts, *estimate.warnings)),
            unit=unit,
            bounds=estimate.bounds if constancy is None else None,
            words=estimate.words,
            notes=tuple(in_units(text, unit) for text in estimate.notes),
        )

    def flattened(self) -> Prediction:
        """The prediction whose numbers are arrays: itself, but for a pytree, whose leaves lie one after the other."""
        return self

    def interval(self, level: float = 0.95) -> tuple[float | np.ndarray, float | np.ndarray]:
        """Return the confidence interval of the value, value -+ t stderr, with the quantile t of Student's
        distribution.

        For "theorem", stderr is itself estimated from the spread over a finite number of directions; the interval
        covers the noise of the directions, not the orders left out (`truncation`). For estimators that rest on
        per-example series it covers both, and few degrees of freedom say that most of stderr is a guess. For
        "calibrated" it is the interval of the jackknife+, see `estimators.calibration`.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Returns
        -------
        low, high : float or ndarray, of the shape of the value
        """
        from scipy.special import stdtrit  # a slow import

        if not is_real(level) or not 0 < level < 1:
            raise InputError(f"the level of an interval lies between 0 and 1, as 0.95 does, not {quoted(level)}")
        level = float(level)
        if self.bounds is not None:
            low, high = self.bounds(level)  # equal where the change is known, as that of an example retrained alone
            rounding = ROUNDING * np.where(self.change == 0, 0.0, np.abs(self.baseline) + np.abs(self.value))
            return plain(self.baseline + low - rounding), plain(self.baseline + high + rounding)
        degrees_of_freedom = np.asarray(self.degrees_of_freedom, dtype=np.float64)
        quantile = np.where(
            degrees_of_freedom > 0, stdtrit(np.maximum(degrees_of_freedom, 1), 0.5 + level / 2), math.inf
        )
        reach = np.zeros_like(self.stderr)
        np.multiply(self.stderr, quantile, out=reach, where=np.asarray(self.stderr) > 0)
        return plain(self.value - reach), plain(self.value + reach)

    def __str__(self) -> str:
        names, rows, left = self._table()
        lines = [f"prediction, {self._source()}"]
        if names:
            lines.append(line("", names))
        lines += [line(label, [figure(x) for x in numbers]) for label, numbers in rows]
        if left:
            lines.append(f"  ... and {left} more values")
        return "\n".join(lines + [f"  {text}" for text in self._sentences()])

    def __repr__(self) -> str:
        of = f"{self.value:.6g} +- {self.stderr:.6g}" if np.shape(self.value) == () else f"shape {np.shape(self.value)}"
        warned = f", {len(self.warnings)} warning{'s' * (len(self.warnings) > 1)}" if self.warnings else ""
        return f"<Prediction of {of}, {self._source()}{warned}>"

    def _repr_html_(self) -> str:
        names, rows, left = self._table()
        notes = [f"and {left} more values"] * bool(left) + self._sentences()
        figures = [(label, *(figure(x) for x in numbers)) for label, numbers in rows]
        return table(f"prediction, {self._source()}", figures, names, notes)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Return everything as numbers, lists and strings, with the interval of a level; None for what is not
        finite."""
        low, high = self.interval(level)
        numbers = {
            "value": self.value,
            "baseline": self.baseline,
            "change": self.change,
            "stderr": self.stderr,
            "low": low,
            "high": high,
            "level": float(level),
            "terms": self.terms,
            "term_stderr": self.term_stderr,
            "truncation": self.truncation,
        }
        return {name: to_json(number) for name, number in numbers.items()} | {
            "order": self.order,
            "directions": self.directions,
            "median_groups": self.median_groups,
            "degrees_of_freedom": self.degrees_of_freedom
            if isinstance(self.degrees_of_freedom, int)
            else to_json(self.degrees_of_freedom),
            "estimator": self.estimator,
            "outside": np.asarray(self.outside).tolist(),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def _sentences(self) -> list[str]:
        return [f"warning: {text}" for text in self.warnings] + [f"note: {text}" for text in self.notes]

    def _source(self) -> str:
        if self.words:
            return self.words
        if self.estimator == "series":
            return f"the exact series to order {self.order} along a given direction"
        names = {
            "interactions": f"single {self.unit}s' series and interactions from {self.directions} directions",
            "per-example": f"single {self.unit}s' series, summed",
            "first-order": "exact first-order effects, summed",
        }
        if self.estimator in names:
            return f"order {self.order}, {names[self.estimator]}"
        groups = f"the median over {self.median_groups} groups" if self.median_groups > 1 else "the mean"
        return f"order {self.order}, {groups} of {self.directions} directions"

    def _table(self) -> tuple[list[str], list[tuple[str, list[float]]], int]:
        """Names of columns (none for a scalar), rows, and how many columns were left out."""
        low, high = self.interval()
        shape = np.shape(self.value)
        size = int(np.prod(shape, dtype=int))
        shown = min(size, COLUMNS_SHOWN)
        quantities: list[tuple[str, float | np.ndarray]] = [
            ("value", self.value),
            ("baseline", self.baseline),
            ("change", self.change),
            ("+-", self.stderr),
            ("95 % from", low),
            ("95 % to", high),
        ]
        last = self.order if self.order <= ORDERS_SHOWN else ORDERS_SHOWN - 1
        for r in [*range(1, last + 1), *([self.order] if last < self.order else [])]:
            quantities += [(f"order {r}", self.terms[r - 1]), ("   +-", self.term_stderr[r - 1])]
        quantities.append(("left out <~", self.truncation))
        rows = [(label, list(np.broadcast_to(x, shape).ravel()[:shown])) for label, x in quantities]
        return names_of_columns(shape, shown), rows, size - shown


@dataclass(frozen=True, eq=False, repr=False)
class TreePrediction(Prediction):
    """A prediction of a measurement that is a pytree, of one h or of B.

    value, baseline, change, stderr, terms, term_stderr, truncation, outside (and degrees_of_freedom, where it differs)
    are such pytrees, with leaves (*shape), or (B, *shape); of terms (order, *shape), or (order, B, *shape). flat: the
    same prediction of the vector of all leaves, which is what tables show.
    """

    _: KW_ONLY
    flat: Prediction = field(repr=False)
    structure: Structure = field(repr=False)

    @staticmethod
    def packed(flat: Prediction, structure: Structure) -> TreePrediction:
        """The pytree that a vector's prediction stands for."""
        values = {one.name: getattr(flat, one.name) for one in fields(Prediction)}
        packed = {name: structure.pack(x) if isinstance(x, np.ndarray) else x for name, x in values.items()}
        return TreePrediction(**packed, flat=flat, structure=structure)

    def flattened(self) -> Prediction:
        """The prediction of the vector of all leaves."""
        return self.flat

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """The confidence interval of the value, (low, high), two pytrees; see `Prediction.interval`."""
        low, high = self.flat.interval(level)
        return self.structure.pack(low), self.structure.pack(high)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Everything as numbers, lists, dicts and strings; see `Prediction.to_dict`."""
        plain = self.flat.to_dict(level)
        tree = {one.name for one in fields(Prediction) if isinstance(getattr(self.flat, one.name), np.ndarray)}
        for name in tree | {"low", "high"}:
            plain[name] = self.structure.plain(np.array(plain[name], dtype=object))
        return plain

    def __repr__(self) -> str:
        return f"<Prediction of {len(self.structure.shapes)} leaves, {self._source()}>"

    def _table(self) -> tuple[list[str], list[tuple[str, list[float]]], int]:
        names, rows, left = self.flat._table()
        if np.ndim(self.flat.value) == 1:
            names = self.structure.names[: len(names)]
        return names, rows, left


def in_units(sentence: str, unit: str) -> str:
    """Let a sentence about examples speak of what the coordinates of h are.

    >>> in_units("ask about fewer examples", "group")
    'ask about fewer groups'
    """
    article = "an" if unit[0] in "aeiou" else "a"
    return re.sub(r"\bexample(s?)\b", rf"{unit}\1", re.sub(r"\ban example\b", f"{article} {unit}", sentence))
