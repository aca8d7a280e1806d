"""What a sketch of microgpt tells of single names and of groups: a query in, influences and checked predictions out.

`influences_of` finds who helps a measurement most and who harms it most; `agreement_of` sets predictions for many
deletions beside retraining. Drawing is left to `pictures`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

import circuitsketch as cs
from circuitsketch.report.demo import LEVEL
from circuitsketch.report.removal import Told, retrained_losses, untold


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


def influences_of(query: cs.Query, names: list[str], measured: str, shown: int = 10) -> Influences:
    """The `shown` most helpful and most harmful names, by leave-one-out changes; fewer where fewer are of that sign."""
    found = query.influence()
    ranked = np.argsort(-found.change, kind="stable")
    helpful = [i for i in ranked[:shown] if found.change[i] > 0]
    harmful = [i for i in ranked[::-1][:shown] if found.change[i] < 0]
    return Influences(
        measured,
        "nats a token",
        len(names),
        tuple(names[i] for i in helpful),
        found.change[helpful],
        found.stderr[helpful],
        tuple(names[i] for i in harmful),
        found.change[harmful],
        found.stderr[harmful],
    )


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


RANDOM, ALIKE = "at random", "alike in two letters"


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
    checking: Told = untold,
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
        retrained_losses(run, h, name, threads, checking),
        np.array(outside),
    )
