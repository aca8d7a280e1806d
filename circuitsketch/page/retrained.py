"""What was retrained on a page: subsets drawn at random for its intervals, and subsets that somebody checked.

In: the queries of a page, a run. Out: `Retrained`, the subsets and what every value became, which calibrate the queries
anew; and how far predictions were off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.attribution.calibrate import calibrate_query
from circuitsketch.attribution.evaluation import LEVELS, rank_correlation
from circuitsketch.attribution.ground_truth import Source, retrain_and_measure
from circuitsketch.attribution.left_out import compare_left_out
from circuitsketch.attribution.query import Query
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.estimators.calibration import MIN_SUBSETS
from circuitsketch.estimators.retrained_subsets import RetrainedSubsets
from circuitsketch.page.values import Value
from circuitsketch.training.training import Training

CHECKED = (0.25, 0.5, 0.75, 1.0)  # how much of a subset is removed; together they cost about one training


@dataclass(frozen=True, eq=False)
class Check:
    """A subset that somebody asked about and retrained.

    Attributes
    ----------
    ids : tuple of int
        The examples.
    predicted, low, high : ndarray, of shape (V,)
        What was predicted before, and the ends of its interval.
    truths : ndarray, of shape (len(CHECKED), V)
        The values after retraining.
    """

    ids: tuple[int, ...]
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    truths: np.ndarray


@dataclass(frozen=True, eq=False)
class Retrained:
    """Subsets that calibrate the queries of a page, and those that were checked.

    Attributes
    ----------
    drawn : mapping of str to RetrainedSubsets
        The subsets of each measurement's calibration, and what its values changed by; without those that have none.
    checks : tuple of Check
        One per subset that was checked.
    diverged : tuple of tuple of int
        The ids of subsets that were drawn and are left out, because the training without them diverged.
    """

    drawn: Mapping[str, RetrainedSubsets]
    checks: tuple[Check, ...] = ()
    diverged: tuple[tuple[int, ...], ...] = ()

    def calibrate(self, queries: Mapping[str, Query], values: Sequence[Value]) -> dict[str, Query]:
        """Return the queries weighed by everything that was retrained; as they are if that is too little."""
        calibrated = {}
        for name, query in queries.items():
            columns = [i for i, value in enumerate(values) if value.measurement == name]
            subsets = self._subsets(name, query, columns)
            calibrated[name] = query
            if subsets is not None and len(subsets.rows) >= MIN_SUBSETS:
                with suppress(InputError):  # they say nothing that is not known
                    calibrated[name] = calibrate_query(query, subsets)
        return calibrated

    def _subsets(self, name: str, query: Query, columns: list[int]) -> RetrainedSubsets | None:
        """Return all subsets of one measurement, drawn and checked."""
        drawn = self.drawn.get(name)
        if not self.checks:
            return drawn
        rows = np.zeros((len(self.checks), query.n))
        for row, check in zip(rows, self.checks, strict=True):
            row[list(check.ids)] = 1.0
        changes = np.array([check.truths[-1, columns] for check in self.checks]) - np.ravel(query.first_value)
        if drawn is None:
            lengths = rows.sum(axis=1)
            return RetrainedSubsets(rows, changes, "given", (float(lengths.min()), float(lengths.max())))
        return replace(drawn, rows=np.concatenate([drawn.rows, rows]), changes=np.concatenate([drawn.changes, changes]))


def retrain_values(queries: Mapping[str, Query], run: Training, rows: np.ndarray) -> np.ndarray:
    """Retrain with each row of downweights (m, n), and measure everything: (m, V).

    Raises
    ------
    InputError
        If a query does not know what was measured.
    DivergenceError
        If a training diverges.
    """
    sources: list[Source] = [query.known_source("page", run) for query in queries.values()]

    def measure_all(params: Any) -> list[Any]:
        return [source.measure(params, *source.args) for source in sources]

    return retrain_and_measure(run, rows, measure_all, (), None).reshape(len(rows), -1)


def retrain_finite(queries: Mapping[str, Query], run: Training, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Retrain with the rows of downweights (m, n) whose training does not diverge, found by halving.

    Returns
    -------
    finite : ndarray of bool, of shape (m,)
        Which rows these are: training and every value are finite.
    values : ndarray, of shape (finite.sum(), V)
    """
    try:
        values = retrain_values(queries, run, rows)
    except DivergenceError:
        if len(rows) == 1:
            return np.zeros(1, dtype=bool), np.zeros((0, sum(np.size(one.first_value) for one in queries.values())))
        half = len(rows) // 2
        parts = [retrain_finite(queries, run, part) for part in (rows[:half], rows[half:])]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    finite = np.isfinite(values).all(axis=1)
    return finite, values[finite]


def score_points(query: Query, column: int, points: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Return the rank correlation of predictions and truths, and the share of truths inside intervals of each level."""
    if not points:
        return {"lds": None, "coverage": {}}
    pairs = np.array([[point["predicted"], point["truth"]] for point in points], dtype=np.float64)
    lds = rank_correlation(pairs[:, :1], pairs[:, 1:])
    coverage: dict[str, float] = {}
    for level in LEVELS:
        each = compare_left_out(query, column, level)
        known = [point for point in each if point["low"] is not None]
        if known:
            coverage[str(level)] = float(np.mean([is_inside(point) for point in known]))
    return {"lds": lds if math.isfinite(lds) else None, "coverage": coverage}


def is_inside(point: Mapping[str, float | None]) -> bool:
    """Return whether a truth lies inside its interval."""
    low, high, truth = point["low"], point["high"], point["truth"]
    assert low is not None and high is not None and truth is not None
    return low <= truth <= high
