"""What a user is told: a prediction with its errors and warnings, all influences, the measured stability.

In: numbers from the estimators. Out: frozen records that print themselves as text and, in a notebook, as a
table. Nothing here looks at directions; the plain-language warnings are made in `trust`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

import numpy as np

from circuitsketch.arguments import is_int, is_real, quoted, text_of
from circuitsketch.arrays import finite_array
from circuitsketch.attribution.structure import Structure
from circuitsketch.display import listing, table
from circuitsketch.errors import InputError
from circuitsketch.estimators.convergence import Region, length_of, scaled_norms

Number = float | np.ndarray

COLUMNS_SHOWN = 6
ORDERS_SHOWN = 6


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a measurement would be at x + h, from its Taylor series at x.

    For a measurement of shape S (a scalar one gives floats) and one h; for B h's at once, read (B, *S) for S.
      value, change    S: value = baseline + change
      baseline         the measurement at h = 0, exact
      stderr           S: the error of value and change. Of "theorem" the spread over directions alone; of the
      three that
                       rest on single examples the posterior's deviation together with what is left out
      terms            (order, *S): the term F_r(h, ..., h) of each order, with errors term_stderr
      truncation       S: what is left out. Of "theorem" and "series" a generous size, no part of stderr: what
      orders above
                       the last may add if ||F_r|| |h|^r goes on as it was measured, infinite without decay, NaN if
                       unknown. Of the others its deviation, contained in stderr
      degrees_of_freedom          degrees of freedom of stderr; of those that rest on single examples S, few where it is guessed
      estimator        which one made it. "theorem": random directions, unbiased; "series": the exact series
      along a given
                       direction; "interactions": single examples' series, summed, and their interactions in a similarity
                       (biased by design: towards no interactions); "per-example": without these; "first-order"
      outside          S, bool: where the measured decay says that h lies outside the region of trust
      warnings         sentences that a reader of the value must know; empty if there are none
    With more than one group each term is a median of its own: the terms add up to the change up to the error.
    """

    value: Number
    baseline: Number
    change: Number
    stderr: Number
    terms: np.ndarray = field(repr=False)
    term_stderr: np.ndarray = field(repr=False)
    truncation: Number
    order: int
    directions: int
    median_groups: int
    degrees_of_freedom: Number
    estimator: str
    outside: bool | np.ndarray = field(default=False, repr=False)
    warnings: tuple[str, ...] = ()
    unit: str = field(default="example", repr=False)

    def flattened(self) -> Prediction:
        """The prediction whose numbers are arrays: itself, but for a pytree, whose leaves lie one after the other."""
        return self

    def interval(self, level: float = 0.95) -> tuple[Number, Number]:
        """The confidence interval of the value, (low, high): value -+ t stderr, with Student's t.

        Student's and not the normal quantile: for "theorem" because stderr is itself estimated from the spread over a
        finite number of directions (`degrees_of_freedom`); the two agree from about fifty on. It covers the noise of the
        directions, not the orders left out (`truncation`). For estimators that rest on single examples it covers
        both, and few degrees of freedom say that most of stderr was guessed.
        """
        from scipy.special import stdtrit  # a slow import

        if not is_real(level) or not 0 < level < 1:
            raise InputError(f"the level of an interval lies between 0 and 1, as 0.95 does, not {quoted(level)}")
        level = float(level)
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
            lines.append(_line("", names))
        lines += [_line(label, [_figure(x) for x in numbers]) for label, numbers in rows]
        if left:
            lines.append(f"  ... and {left} more values")
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])

    def __repr__(self) -> str:
        of = f"{self.value:.6g} +- {self.stderr:.6g}" if np.shape(self.value) == () else f"shape {np.shape(self.value)}"
        warned = f", {len(self.warnings)} warning{'s' * (len(self.warnings) > 1)}" if self.warnings else ""
        return f"<Prediction of {of}, {self._source()}{warned}>"

    def _repr_html_(self) -> str:
        names, rows, left = self._table()
        notes = [f"and {left} more values"] * bool(left) + [f"warning: {text}" for text in self.warnings]
        figures = [(label, *(_figure(x) for x in numbers)) for label, numbers in rows]
        return table(f"prediction, {self._source()}", figures, names, notes)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Everything as numbers, lists and strings, with the interval of a level; None for what is not finite."""
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
        return {name: _jsonable(number) for name, number in numbers.items()} | {
            "order": self.order,
            "directions": self.directions,
            "median_groups": self.median_groups,
            "degrees_of_freedom": self.degrees_of_freedom
            if isinstance(self.degrees_of_freedom, int)
            else _jsonable(self.degrees_of_freedom),
            "estimator": self.estimator,
            "outside": np.asarray(self.outside).tolist(),
            "warnings": list(self.warnings),
        }

    def _source(self) -> str:
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
        quantities: list[tuple[str, Number]] = [
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
        return _names(shape, shown), rows, size - shown


@dataclass(frozen=True, eq=False, repr=False)
class TreePrediction(Prediction):
    """A prediction of a measurement that is a pytree, of one h or of B.

    value, baseline, change, stderr, terms, term_stderr, truncation, outside (and degrees_of_freedom, where it differs) are such
    pytrees, with leaves (*shape), or (B, *shape); of terms (order, *shape), or (order, B, *shape). flat: the same
    prediction of the vector of all leaves, which is what tables show.
    """

    _: KW_ONLY
    flat: Prediction = field(repr=False)
    structure: Structure = field(repr=False)

    @staticmethod
    def of(flat: Prediction, structure: Structure) -> TreePrediction:
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


@dataclass(frozen=True, eq=False, repr=False)
class Influence:
    """The leave-one-out effect of each of n examples (or groups: `unit`), h = e_i.

    change, stderr: (n, *measurement), what the measurement gains when the example goes, and its error. estimator: which
    one made them. shown: how many `top` and the printed table list. labels, items: of the examples, or None.
    """

    change: np.ndarray
    stderr: np.ndarray
    baseline: Number
    order: int
    directions: int
    warnings: tuple[str, ...] = ()
    estimator: str = "theorem"
    shown: int = 10
    unit: str = "example"
    labels: Sequence[Any] | None = None
    items: Sequence[Any] | None = None

    def flattened(self) -> Influence:
        """The influence whose numbers are arrays: itself, but for a pytree, whose leaves lie one after the other."""
        return self

    def known(self) -> list[tuple[str, Sequence[Any]]]:
        """What is known of the examples, by name: what each is, its label; of a group, whose label it is, that."""
        named = (self.unit, self.items), ("label", None if self.labels == self.items else self.labels)
        return [(name, values) for name, values in named if values is not None]

    def top(self, k: int | None = None) -> np.ndarray:
        """The ids of the k examples with the largest change (2-norm over the measurement), largest first."""
        k = self.shown if k is None else k
        if not is_int(k, 1):
            raise InputError(f"the number of examples to show is an int of at least 1, not {quoted(k)}")
        size = np.linalg.norm(self.change.reshape(len(self.change), -1), axis=1)
        return np.argsort(-size, kind="stable")[:k]

    def size(self, i: int) -> tuple[float, float]:
        """The 2-norms of an example's change and of its error, over the values whose error is known."""
        error = np.where(np.isinf(self.stderr[i]), 0.0, self.stderr[i])
        return float(np.linalg.norm(self.change[i])), float(np.linalg.norm(error))

    def _repr_html_(self) -> str:
        return listing(str(self))

    def __repr__(self) -> str:
        return f"<{str(self).splitlines()[0]}>"

    def __str__(self) -> str:
        known, top = self.known(), self.top()
        rows = [["id" if known else self.unit, *(name for name, _ in known)]]
        rows += [[str(i), *(cut(values[i]) for _, values in known)] for i in top]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        texts = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) for row in rows]
        lines = [
            f"influence of {len(self.change)} {self.unit}s, order {self.order}, "
            + ("exact series" if self.estimator == "per-example" else f"{self.directions} directions"),
            _line(texts[0], ["change", "+-"] if self.change.ndim == 1 else ["|change|", "|+-|"]),
        ]
        for i, text in zip(top, texts[1:], strict=True):
            if self.change.ndim == 1:
                pair = self.change[i], self.stderr[i]
            else:
                pair = self.size(int(i))
            lines.append(_line(text, [_figure(x) for x in pair]))
        left = len(self.change) - self.shown
        if left > 0:
            lines.append(f"  ... and {left} smaller ones")
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])


@dataclass(frozen=True, eq=False, repr=False)
class TreeInfluence(Influence):
    """The influences on a measurement that is a pytree: change, stderr and baseline are such pytrees, the first two
    with leaves (n, *shape). flat: the same of the vector of all leaves, by whose norm `top` ranks."""

    _: KW_ONLY
    flat: Influence = field(repr=False)

    @staticmethod
    def of(flat: Influence, structure: Structure) -> TreeInfluence:
        """The pytree that a vector's influences stand for."""
        values = {one.name: getattr(flat, one.name) for one in fields(Influence)}
        packed = {name: structure.pack(values[name]) for name in ("change", "stderr", "baseline")}
        return TreeInfluence(**values | packed, flat=flat)

    def flattened(self) -> Influence:
        """The influences on the vector of all leaves."""
        return self.flat

    def top(self, k: int | None = None) -> np.ndarray:
        """The ids of the k examples with the largest change (2-norm over all leaves), largest first."""
        return self.flat.top(k)

    def __str__(self) -> str:
        return str(self.flat)


@dataclass(frozen=True, eq=False, repr=False)
class Stability:
    """The measured norms ||F_r|| of the Taylor tensors of a measurement, r = 1..order (THEORY (2)).

    norms, stderr: (order, *measurement). Their decay says how far the series can be trusted: `decay(length)`;
    `rate` and `radius` put it into a number each. examples: how many there are, where the series of each is known, as
    the radius takes into account (see `estimators.convergence`); else None. warnings: sentences to read first.
    """

    norms: np.ndarray
    stderr: np.ndarray
    order: int
    directions: int
    unit: str = "example"
    examples: int | None = None
    warnings: tuple[str, ...] = ()

    def decay(self, length: float) -> np.ndarray:
        """||F_r|| length^r, the largest that term r can be for an h of this length: (order, *measurement).

        InputError: a length that is negative, or not finite.
        """
        lengths = finite_array(length, "a length |h|")
        if (lengths < 0).any():
            raise InputError(f"a length |h| must be at least 0, not {quoted(length)}")
        with np.errstate(divide="ignore", over="ignore"):
            return scaled_norms(np.log(self.norms), lengths)

    def alpha(self, radius: float) -> Number:
        """The stability function as far as it was measured: the largest radius^r ||F_r||, r = 1..order."""
        return plain(self.decay(radius).max(axis=0))

    @property
    def _region(self) -> Region:
        with np.errstate(divide="ignore"):
            return Region(np.log(self.norms), self.examples)

    @property
    def rate(self) -> tuple[Number, Number]:
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
    def radius(self) -> tuple[Number, Number]:
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
        names = _names(shape, shown) or ["||F_r||"]
        lines.append(_line("order", [x for name in names for x in (name, "+-")]))
        for r, (norm, error) in enumerate(zip(self.norms, self.stderr, strict=True), start=1):
            pairs = list(zip(norm.ravel()[:shown], error.ravel()[:shown], strict=True))
            lines.append(_line(str(r), [_figure(x) for pair in pairs for x in pair]))
        if self.order > 1:
            for label, pair in (("rate", self.rate), ("radius |h|", self.radius)):
                parts = [np.ravel(number)[:shown] for number in pair]
                lines.append(_line(label, [_figure(x) for both in zip(*parts, strict=True) for x in both]))
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])


# ------------------------------------------------------------------------------------------------ figures


def plain(number: Any) -> Number:
    """A float if there is one number, else the array."""
    array = np.asarray(number)
    return float(array) if array.ndim == 0 else array


def flag(where: Any) -> bool | np.ndarray:
    """A bool if there is one, else the array."""
    array = np.asarray(where)
    return bool(array) if array.ndim == 0 else array


def cut(value: Any, width: int = 24) -> str:
    """What an example is, in one short line.

    >>> cut("emma"), cut("a" * 30)
    ('emma', 'aaaaaaaaaaaaaaaaaaaaa...')
    """
    text = text_of(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def _figure(x: float) -> str:
    return "unknown" if math.isnan(x) else f"{x:.6g}"


def _names(shape: tuple[int, ...], shown: int) -> list[str]:
    """The indices of the first values of an array, as titles of columns; none for a scalar."""
    return [str(list(map(int, np.unravel_index(i, shape)))) for i in range(shown)] if shape else []


def _line(label: str, entries: Sequence[str]) -> str:
    return f"  {label:<12}" + "".join(f"{entry:>13}" for entry in entries)


def _jsonable(number: Number) -> Any:
    if np.ndim(number) == 0:
        return float(number) if math.isfinite(number) else None
    return [_jsonable(part) for part in np.asarray(number)]
