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
from circuitsketch.attribution.query import Query
from circuitsketch.errors import InputError
from circuitsketch.estimators.calibrated import Calibrated, RetrainedSubsets
from circuitsketch.estimators.calibration import MIN_SUBSETS, Calibration
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
    """

    drawn: Mapping[str, RetrainedSubsets]
    checks: tuple[Check, ...] = ()

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


def compare_left_out(query: Query, column: int, level: float) -> list[dict[str, float | None]]:
    """Return, for each subset that a query was calibrated on, its prediction by the others and the truth.

    The ends of the interval follow from the errors of the other subsets, each of which was predicted without itself.
    """
    calibrated = query.estimators.get("calibrated")
    if not isinstance(calibrated, Calibrated):
        return []
    calibration, baseline = calibrated.calibration, float(np.ravel(query.first_value)[column])
    truths = calibration.truths[:, column]
    residuals, scores = calibration.residuals[:, column], calibration.scores[:, column]
    points = []
    for j, (truth, residual) in enumerate(zip(truths, residuals, strict=True)):
        reach = reach_left_out(calibration, scores, j, column, level)
        predicted = baseline + truth - residual
        ends = (predicted - reach, predicted + reach) if math.isfinite(reach) else (None, None)
        points.append({"predicted": predicted, "low": ends[0], "high": ends[1], "truth": baseline + truth})
    return points


def reach_left_out(calibration: Calibration, scores: np.ndarray, j: int, column: int, level: float) -> float:
    """Return how far the interval of subset j reaches, by the scores of the others; infinite if they are too few."""
    is_other = calibration.kinds == calibration.kinds[j]
    is_other[j] = False
    others = np.sort(scores[is_other])
    rank = math.ceil(level * (len(others) + 1) - 1e-9)
    if rank > len(others):
        return math.inf
    residual, score = abs(calibration.residuals[j, column]), scores[j]
    return float(others[rank - 1] * (residual / score if score > 0 else 0.0))


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
