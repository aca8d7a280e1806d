"""Calibrate a query: by subsets that are retrained now, or by those that its sketch has kept.

In: a query, subsets and what the measurement changed by. Out: a query whose default estimator is "calibrated".
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from circuitsketch.arguments import check_choice, check_int
from circuitsketch.attribution.alike_subsets import ENOUGH_OF_BOTH, alikeness_for, draw_mixed
from circuitsketch.attribution.series import MeasuredSeries
from circuitsketch.attribution.subsets import KINDS, MIXED, draw_subsets, refuse_with_subsets
from circuitsketch.attribution.validation import parse_downweights
from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.estimators.calibrated import Calibrated, calibrate_estimators
from circuitsketch.estimators.calibration import MIN_SUBSETS
from circuitsketch.estimators.retrained_subsets import RetrainedSubsets, name_kind

Series = TypeVar("Series", bound=MeasuredSeries)  # a Query, which it is called with
GIVEN = "given"  # the kind of subsets that were not drawn


def choose_subsets(
    query: MeasuredSeries, subsets: Any, kind: str | None, size: Any, count: int | None, seed: int, has_truth: bool
) -> RetrainedSubsets:
    """Return the subsets to retrain, given or drawn, with nothing known of their changes; see `Query.calibrate`."""
    if subsets is not None:
        refuse_with_subsets(kind=kind, size=size, count=count)
        return take_given(subsets, query.n, query.labels, query.items, query.unit)
    if has_truth:
        raise InputError("truth is of subsets that you give; pass subsets= too")
    count = 48 if count is None else check_int(count, "count", 1)
    if kind is not None:
        check_choice(kind, "kind", KINDS)
    moves = find_moves(query) if kind in (None, MIXED) else None
    if kind == MIXED and moves is None:
        raise InputError(
            "kind='mixed' needs to know which examples act alike, by every example's own effect on the parameters; "
            "make the sketch with per_example=, or use kind='random'"
        )
    if moves is not None and (kind == MIXED or count >= ENOUGH_OF_BOTH):
        effects = query.measurement.flat_per_example[:, 1]
        rows, sizes, _, kind = draw_mixed(moves, effects, labels_of(query), size, count, seed)
    else:
        kind = "random" if kind is None else kind
        rows, sizes = draw_subsets(query.n, query.labels, kind, size, count, seed)
    refuse_few(rows)
    return RetrainedSubsets.before_retraining(rows, kind, sizes)


def take_given(
    subsets: Any, n: int, labels: Sequence[Any] | None, items: Sequence[Any] | None, unit: str
) -> RetrainedSubsets:
    """Return subsets that a caller gives, of n examples or groups, with nothing known of their changes."""
    rows = np.atleast_2d(parse_downweights(subsets, n, labels, items, unit=unit))
    refuse_few(rows)
    lengths = (rows**2).sum(axis=1)
    sizes = float(lengths.min()), float(lengths.max())
    return RetrainedSubsets.before_retraining(rows, GIVEN, sizes)


def refuse_few(rows: np.ndarray) -> None:
    """Raise InputError if subsets (m, n) are too few to calibrate on."""
    if len(rows) < MIN_SUBSETS:
        raise InputError(f"a calibration needs at least {MIN_SUBSETS} subsets, not {len(rows)}; 48 are a good number")


def calibrate_query(query: Series, retrained: RetrainedSubsets) -> Series:
    """Return a query that weighs this query's estimators by retrained subsets."""
    parts = [part for part in query.estimators.values() if not isinstance(part, Calibrated)]
    gradient = None if query.per_example is None else query.measurement.flat_per_example[:, 1]
    if "first-order" not in query.estimators and query.per_example is None and query.knows_run:
        with suppress(CircuitSketchError):  # where there are no derivatives
            parts.append(query.first_order)
    labels = labels_of(query)
    moves = None if retrained.kind == GIVEN else find_moves(query)
    alikeness = None if moves is None else alikeness_for(moves, labels, retrained.sizes)
    calibrated = calibrate_estimators(parts, retrained, gradient, query.shape, labels, alikeness)
    return query.with_estimators([*parts, calibrated])


def labels_of(query: MeasuredSeries) -> Sequence[Any] | None:
    """Return the labels of a query's examples, where it is about examples."""
    return query.labels if query.unit == "example" else None


def find_moves(query: MeasuredSeries) -> np.ndarray | None:
    """Return how a query's examples move the parameters, (n, p), or None if unknown or too large."""
    try:
        return query.moves()
    except CircuitSketchError:
        return None


def choose_kept(query: MeasuredSeries, kind: str | None = None, size: float | None = None) -> RetrainedSubsets | None:
    """Return what a query's sketch has kept for its measurement, of the most subsets; None if nothing of that kind."""
    kept = [] if query.calibrations is None else query.calibrations.read()
    chosen = [
        one for one in kept if kind in (None, one.kind) and (size is None or one.sizes[0] <= size <= one.sizes[1])
    ]
    kinds = sorted({one.kind for one in chosen})
    if len(kinds) > 1:
        raise InputError(f"the sketch has calibrations of kinds {' and '.join(kinds)}; pass kind=")
    if not chosen:
        return None
    best = max(chosen, key=lambda one: (len(one.subsets), -one.sizes[1], one.sizes[0]))
    return RetrainedSubsets(best.subsets, best.changes, best.kind, best.sizes, is_kept=True, dtype=best.dtype)


def choose_kept_drawn(query: MeasuredSeries, size: float | None = None) -> RetrainedSubsets | None:
    """Return what `choose_kept` does of subsets that were drawn from all examples."""
    return choose_kept(query, MIXED, size) or choose_kept(query, "random", size)


def take_in_kept(query: Series, kind: str | None, size: int | None) -> Series:
    """Return a query calibrated on what its sketch has kept for its measurement; see `Sketch.query`."""
    if kind is not None:
        check_choice(kind, "kind", (*KINDS, GIVEN))
    if size is not None:
        check_int(size, "size", 1, query.n)
    retrained = choose_kept(query, kind, size)
    if retrained is not None:
        return calibrate_query(query, retrained)
    kept = [] if query.calibrations is None else query.calibrations.read()
    listed = [(len(one.subsets), name_kind(one.kind), format_sizes(one.sizes)) for one in kept]
    has = "; ".join(f"{number} {sort} subsets of sizes {sizes}" for number, sort, sizes in listed)
    asked = f" of kind {kind!r}" * (kind is not None) + f" for size {size}" * (size is not None)
    remedy = f"it has {has}" if has else "make one with sketch.measure(...).calibrate().keep_calibration()"
    raise InputError(f"the sketch has no calibration of this measurement{asked}: {remedy}")


def format_sizes(sizes: tuple[float, float]) -> str:
    """Return a range of sizes in words.

    >>> format_sizes((2.0, 20.0)), format_sizes((5.0, 5.0))
    ('2 to 20', '5')
    """
    low, high = sizes
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
