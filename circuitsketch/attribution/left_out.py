"""Predicted against retrained values of a calibration, each subset predicted by a fit to the others.

In: a calibrated query. Out: per subset its prediction, its interval and the truth. What a picture makes of them is left
to `page` and `report`.
"""

from __future__ import annotations

import math

import numpy as np

from circuitsketch.attribution.series import MeasuredSeries
from circuitsketch.estimators.calibrated import Calibrated
from circuitsketch.estimators.calibration import Calibration


def compare_left_out(query: MeasuredSeries, column: int, level: float) -> list[dict[str, float | None]]:
    """Return, for each subset that a query was calibrated on, its prediction by the others and the truth.

    The ends of the interval follow from the errors of the other subsets, each of which was predicted without itself;
    they are None where these are too few.
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
