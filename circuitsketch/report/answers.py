"""What a sketch of microgpt tells of single names and of groups: a query in, influences and checked predictions out.

`influences_of` finds who helps a measurement most and who harms it most; `agreement_of` sets predictions for many
deletions beside retraining. Drawing is left to `pictures`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

import circuitsketch as cs
from circuitsketch.attribution.formatting import cut
from circuitsketch.report.demo import LEVEL
from circuitsketch.report.removal import Progress, no_progress, retrained_losses


@dataclass(frozen=True, eq=False)
class Influences:
    """The examples whose absence changes a measurement most, either way.

    Attributes
    ----------
    measured, unit : words. n : examples in all. helpful, harmful : names, the strongest first; without a helpful one
    the loss is larger. helpful_change, ... : (k,) the changes of the measurement without them, and standard errors.
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


def influences_of(
    query: cs.Query, names: list[str], measured: str, shown: int = 10, unit: str = "nats a token"
) -> Influences:
    """The `shown` most helpful and most harmful names, by leave-one-out changes; fewer where fewer are of that sign."""
    found = query.influence()
    ranked = np.argsort(-found.change, kind="stable")
    helpful = [i for i in ranked[:shown] if found.change[i] > 0]
    harmful = [i for i in ranked[::-1][:shown] if found.change[i] < 0]
    return Influences(
        measured,
        unit,
        len(names),
        tuple(names[i] for i in helpful),
        found.change[helpful],
        found.stderr[helpful],
        tuple(names[i] for i in harmful),
        found.change[harmful],
        found.stderr[harmful],
    )


def influences_in(query: cs.Query, measured: str, shown: int = 10) -> Influences:
    """The same of any measurement of one number, its examples by what they are, or their ids."""
    names = [str(i) for i in range(query.n)] if query.items is None else [cut(item) for item in query.items]
    return influences_of(query, names, measured, shown, "")


@dataclass(frozen=True, eq=False)
class Agreement:
    """Predictions for many deletions beside the retrained truth.

    Attributes
    ----------
    measured, unit : words. kinds : (B,), how each subset was chosen; sizes : (B,), how many examples it deletes.
    baseline : the measurement as trained. predicted, low, high, retrained : (B,), with the ends of a 95 % interval.
    outside : (B,) bool, where a warning says not to trust the series.
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
        """How many truths lie in their intervals."""
        return int(((self.low <= self.retrained) & (self.retrained <= self.high)).sum())

    @property
    def correlation(self) -> float:
        """Pearson's, of predicted with retrained."""
        return float(np.corrcoef(self.predicted, self.retrained)[0, 1])


@dataclass(frozen=True, eq=False)
class Calibration:
    """How often intervals hold the truth.

    Attributes
    ----------
    measured : words. count : of the truths. levels, covered : (L,), of the intervals, and the share of truths inside.
    lds, rmse : the rank correlation, and the error over the truth's deviation; see `Evaluation`.
    """

    measured: str
    count: int
    levels: np.ndarray
    covered: np.ndarray
    lds: float
    rmse: float


RANDOM, ALIKE, RETRAINED = "at random", "alike in two letters", "retrained"


def subsets_of(names: list[str], count: int, seed: int) -> list[tuple[str, list[int]]]:
    """About `count` subsets to delete: half at random, up to 3 % of the names, half of names that share two letters."""
    rng = np.random.default_rng(seed)
    most = max(1, round(0.03 * len(names)))
    found = [
        (RANDOM, sorted(rng.choice(len(names), size=rng.integers(1, most + 1), replace=False).tolist()))
        for _ in range(count - count // 2)
    ]
    sharing: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        for pair in {name[k : k + 2] for k in range(len(name) - 1)}:
            sharing[pair].append(i)
    fitting = sorted(pair for pair, ids in sharing.items() if 2 <= len(ids) <= most)
    chosen = rng.permutation(len(fitting))[: count // 2]
    return found + [(ALIKE, sharing[fitting[k]]) for k in chosen]


def agreement_of(
    run: cs.Training,
    query: cs.Query,
    name: str,
    subsets: list[tuple[str, list[int]]],
    threads: int | None = None,
    report_retraining: Progress = no_progress,
) -> Agreement:
    """Predict the loss on a name without each subset, and train again to compare."""
    h = np.zeros((len(subsets), run.n))
    for row, (_, ids) in zip(h, subsets, strict=True):
        row[ids] = 1.0
    found = query.predict(h)
    low, high = found.interval(LEVEL)
    outside = np.broadcast_to(getattr(found, "outside", False), len(subsets))
    return Agreement(
        f"loss on {name!r}",
        "nats a token",
        tuple(kind for kind, _ in subsets),
        h.sum(axis=1).astype(int),
        float(query.baseline),
        np.asarray(found.value),
        np.asarray(low),
        np.asarray(high),
        retrained_losses(run, h, name, threads, report_retraining),
        np.array(outside),
    )


def calibration_of(found: cs.Evaluation, measured: str) -> Calibration:
    """The calibration curve of an evaluation."""
    levels, covered = found.calibration
    return Calibration(measured, found.truth.size, levels, covered, found.lds, found.rmse)


def agreement_with(query: cs.Query, found: cs.Evaluation, measured: str) -> Agreement:
    """The predictions of an evaluation of one number beside its truths."""
    low, high = found.prediction.interval(LEVEL)
    count = len(found.truth)
    sizes = np.zeros(count, dtype=int) if found.masks is None else found.masks.sum(axis=1)
    predicted, low, high, truth = (np.reshape(part, count) for part in (found.prediction.value, low, high, found.truth))
    outside = np.reshape(np.broadcast_to(found.prediction.outside, found.truth.shape), count)
    baseline = float(np.ravel(found.prediction.baseline)[0])
    return Agreement(measured, "", (RETRAINED,) * count, sizes, baseline, predicted, low, high, truth, outside)
