"""Rank the most influential examples of a measurement, and compare its predictions with retraining.

In: a query, or an evaluation of one. Out: `Influences`, `Agreement` and `Calibration`, which `plots` draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.attribution.formatting import cut
from circuitsketch.attribution.influence import Influence
from circuitsketch.attribution.left_out import compare_left_out
from circuitsketch.errors import InputError
from circuitsketch.estimators.calibrated import Calibrated
from circuitsketch.report.demo import LEVEL
from circuitsketch.report.removal import Progress, no_progress, retrain_losses


@dataclass(frozen=True, eq=False)
class Influences:
    """The examples whose removal increases or decreases a measurement most.

    Attributes
    ----------
    measured, unit : str
        The measurement and its unit, for labels.
    n : int
        The number of examples.
    helpful, harmful : tuple of str
        The examples whose removal increases, or decreases, the measurement most, the largest change first.
    helpful_change, harmful_change : (k,) ndarray
        The change of the measurement without each of them.
    helpful_stderr, harmful_stderr : (k,) ndarray
        The standard errors of these changes.
    """

    measured: str
    unit: str
    n: int
    helpful: tuple[str, ...]
    helpful_change: np.ndarray
    helpful_stderr: np.ndarray
    harmful: tuple[str, ...]
    harmful_change: np.ndarray
    harmful_stderr: np.ndarray


def rank_names(
    query: cs.Query, names: list[str], measured: str, shown: int = 10, unit: str = "nats per token"
) -> Influences:
    """Rank names by their leave-one-out changes; return at most `shown` helpful and `shown` harmful ones."""
    return rank_influence(query.influence(), names, measured, shown, unit)


def rank_influence(
    influence: Influence, names: list[str], measured: str, shown: int = 10, unit: str = ""
) -> Influences:
    """Rank named examples by their leave-one-out changes; return at most `shown` helpful and `shown` harmful ones."""
    if np.ndim(influence.change) != 1:
        raise InputError(f"a picture is of one number, and {measured} has several; measure one of them")
    ranked = np.argsort(-influence.change, kind="stable")
    helpful = [i for i in ranked[:shown] if influence.change[i] > 0]
    harmful = [i for i in ranked[::-1][:shown] if influence.change[i] < 0]
    return Influences(
        measured,
        unit,
        len(names),
        tuple(names[i] for i in helpful),
        influence.change[helpful],
        influence.stderr[helpful],
        tuple(names[i] for i in harmful),
        influence.change[harmful],
        influence.stderr[harmful],
    )


def rank_examples(query: cs.Query, measured: str, shown: int = 10) -> Influences:
    """Rank the examples of any scalar measurement, named by their items or else by their ids."""
    return rank_names(query, name_examples(query.n, query.items), measured, shown, "")


def name_examples(n: int, items: Sequence[Any] | None) -> list[str]:
    """Return the names of examples: their items, or else their ids."""
    return [str(i) for i in range(n)] if items is None else [cut(item) for item in items]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Predictions for several deletions, with the retrained values.

    Attributes
    ----------
    measured, unit : str
        The measurement and its unit, for labels.
    kinds : tuple of str
        How each of the B subsets was chosen.
    sizes : (B,) ndarray of int
        The number of examples that each subset deletes.
    baseline : float
        The measurement as trained.
    predicted, low, high : (B,) ndarray
        The predictions, and the ends of their 95 % intervals.
    retrained : (B,) ndarray
        The retrained values.
    outside : (B,) ndarray of bool
        True where a warning says that the series cannot be trusted.
    """

    measured: str
    unit: str
    kinds: tuple[str, ...]
    sizes: np.ndarray
    baseline: float
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    retrained: np.ndarray
    outside: np.ndarray

    @property
    def covered(self) -> int:
        """The number of retrained values inside their intervals."""
        return int(((self.low <= self.retrained) & (self.retrained <= self.high)).sum())

    @property
    def correlation(self) -> float:
        """Pearson's correlation of predicted and retrained values."""
        return float(np.corrcoef(self.predicted, self.retrained)[0, 1])


@dataclass(frozen=True, eq=False)
class Calibration:
    """The coverage of intervals at several confidence levels.

    Attributes
    ----------
    measured : str
        The measurement, for labels.
    count : int
        The number of retrained values.
    levels : (L,) ndarray
        Confidence levels.
    covered : (L,) ndarray
        The share of retrained values inside their intervals, per level.
    lds, rmse : float
        The rank correlation, and the error over the standard deviation of the retrained values; see `Evaluation`.
    """

    measured: str
    count: int
    levels: np.ndarray
    covered: np.ndarray
    lds: float
    rmse: float


RANDOM, ALIKE, RETRAINED = "at random", "sharing two letters", "retrained"  # kinds of subsets, for legends


def draw_name_subsets(names: list[str], count: int, seed: int) -> list[tuple[str, list[int]]]:
    """Draw about `count` subsets of at most 3 % of the names: half at random, half of names that share two letters."""
    rng = np.random.default_rng(seed)
    largest = max(1, round(0.03 * len(names)))
    random = [
        (RANDOM, sorted(rng.choice(len(names), size=rng.integers(1, largest + 1), replace=False).tolist()))
        for _ in range(count - count // 2)
    ]
    sharing: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        for pair in {name[k : k + 2] for k in range(len(name) - 1)}:
            sharing[pair].append(i)
    pairs = sorted(pair for pair, ids in sharing.items() if 2 <= len(ids) <= largest)
    chosen = rng.permutation(len(pairs))[: count // 2]
    return random + [(ALIKE, sharing[pairs[k]]) for k in chosen]


def compare_with_retraining(
    run: cs.Training,
    query: cs.Query,
    name: str,
    subsets: list[tuple[str, list[int]]],
    threads: int | None = None,
    report_retraining: Progress = no_progress,
) -> Agreement:
    """Predict the loss on a name without each subset, and retrain to compare."""
    h = np.zeros((len(subsets), run.n))
    for row, (_, ids) in zip(h, subsets, strict=True):
        row[ids] = 1.0
    predictions = query.predict(h)
    low, high = predictions.interval(LEVEL)
    outside = np.broadcast_to(getattr(predictions, "outside", False), len(subsets))
    return Agreement(
        f"loss on {name!r}",
        "nats per token",
        tuple(kind for kind, _ in subsets),
        h.sum(axis=1).astype(int),
        float(query.baseline),
        np.asarray(predictions.value),
        np.asarray(low),
        np.asarray(high),
        retrain_losses(run, h, name, threads, report_retraining),
        np.array(outside),
    )


def measure_calibration(evaluation: cs.Evaluation, measured: str) -> Calibration:
    """Return the calibration curve of an evaluation."""
    levels, covered = evaluation.calibration
    return Calibration(measured, evaluation.truth.size, levels, covered, evaluation.lds, evaluation.rmse)


def read_agreement(query: cs.Query, evaluation: cs.Evaluation, measured: str) -> Agreement:
    """Return the predictions and retrained values of an evaluation of a scalar."""
    low, high = evaluation.prediction.interval(LEVEL)
    count = len(evaluation.truth)
    sizes = np.zeros(count, dtype=int) if evaluation.masks is None else evaluation.masks.sum(axis=1)
    predicted, low, high, truth = (
        np.reshape(part, count) for part in (evaluation.prediction.value, low, high, evaluation.truth)
    )
    outside = np.reshape(np.broadcast_to(evaluation.prediction.outside, evaluation.truth.shape), count)
    baseline = float(np.ravel(evaluation.prediction.baseline)[0])
    return Agreement(measured, "", (RETRAINED,) * count, sizes, baseline, predicted, low, high, truth, outside)


def read_calibration(query: cs.Query, measured: str) -> Agreement:
    """Return the subsets that a query of a scalar was calibrated on, each predicted by a fit to the others.

    An interval is infinite where the others are too few to tell it.
    """
    calibrated = query.estimators["calibrated"]
    assert isinstance(calibrated, Calibrated)
    points = compare_left_out(query, 0, LEVEL)
    predicted, truth, low, high = (
        np.array([unknown if point[key] is None else point[key] for point in points])
        for key, unknown in (("predicted", np.nan), ("truth", np.nan), ("low", -np.inf), ("high", np.inf))
    )
    rows = calibrated.retrained.rows
    known = len(rows) - len(points)  # subsets whose effect was known exactly say nothing of errors
    sizes = np.count_nonzero(rows, axis=1) if not known else np.zeros(len(points), dtype=int)
    kinds = (RETRAINED,) * len(points)
    none = np.zeros(len(points), dtype=bool)
    baseline = float(np.ravel(query.first_value)[0])
    return Agreement(measured, "", kinds, sizes, baseline, predicted, low, high, truth, none)
