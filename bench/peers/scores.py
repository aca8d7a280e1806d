"""Scores: LDS, RMSE, coverage, and where a method that costs no more is better."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from .settings import KNOWN

SLACK = 1.2  # of our cost that a method may cost to be compared
TIE = 1e-6  # a difference that is none
RESAMPLES = 500  # of the subsets, for the interval of the LDS
FIRST, OURS, DATAMODELS = "first order (MAGIC's estimate)", "attribute", "datamodels"
SKETCH = "a sketch, all values"
COSTS = ("seconds", "trainings", "memory")
Truths = dict[str, tuple[np.ndarray, np.ndarray]]  # by kind, masks (KNOWN + B, n) and values (KNOWN + B, K)
Cell = dict[str, Any]


def correlate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation over the rows of (..., B, K), averaged over values: the LDS; 0 where one is constant."""
    x, y = (rankdata(numbers, axis=-2) for numbers in (x, y))
    x, y = (ranks - ranks.mean(axis=-2, keepdims=True) for ranks in (x, y))
    product, norms = (x * y).sum(axis=-2), np.sqrt((x * x).sum(axis=-2) * (y * y).sum(axis=-2))
    return np.divide(product, norms, out=np.zeros_like(product), where=norms > 0).mean(axis=-1)


def compute_rmse(value: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The root mean square error over the rows of (..., B, K) over the truth's deviation, averaged over values."""
    return (np.sqrt(((value - truth) ** 2).mean(axis=-2)) / truth.std(axis=-2)).mean(axis=-1)


def draw_rows(count: int) -> np.ndarray:
    """Resamples of so many subsets, the same for all methods, (RESAMPLES, count)."""
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def score(value: np.ndarray, truth: np.ndarray, predicts: bool, inside: np.ndarray | None = None) -> dict[str, Any]:
    """LDS with its bootstrap interval; RMSE over the truth's deviation, of predictions; coverage, of intervals."""
    drawn = draw_rows(len(truth))
    low, high = np.percentile(correlate(value[drawn], truth[drawn]), [2.5, 97.5])
    return {
        "lds": float(correlate(value, truth)),
        "lds_low": float(low),
        "lds_high": float(high),
        "rmse": float(compute_rmse(value, truth)) if predicts else None,
        "covered": None if inside is None else float(inside.mean()),
        "value": value,
    }


def score_effects(effects: np.ndarray, baseline: np.ndarray, truths: Truths, predicts: bool) -> dict[str, Any]:
    """Scores by kind of effects that are added up."""
    return {
        kind: score(baseline + masks[KNOWN:] @ effects, truth[KNOWN:], predicts)
        for kind, (masks, truth) in truths.items()
    }


def make_cell(
    label: str,
    costs: tuple[float | None, float | None, float | None],
    kinds: dict[str, Any],
    budget: float | None = None,
) -> Cell:
    """Return the scores of a method with its CPU seconds, trainings and megabytes."""
    return {"method": label, "budget": budget, **dict(zip(COSTS, costs, strict=True)), "kinds": kinds}


def score_intervals(answers: dict[str, np.ndarray], truths: Truths) -> dict[str, Any]:
    """Scores by kind of values with the ends of their intervals."""
    kinds = {}
    for kind, (_, truth) in truths.items():
        value, low, high = answers[kind]
        kinds[kind] = score(value, truth[KNOWN:], True, (low <= truth[KNOWN:]) & (truth[KNOWN:] <= high))
    return kinds


def list_losses(name: str, cells: list[Cell], truths: Truths) -> tuple[list[list[str]], int]:
    """Return the cells in which a method that costs no more has a larger LDS or a smaller RMSE than ours, and how many
    cells there are. It is clear where 97.5 % of the resamples of the subsets agree."""
    rows, count = [], 0
    ours = [cell for cell in cells if cell["method"] in (FIRST, OURS)]
    others = [cell for cell in cells if cell["method"] not in (FIRST, OURS, SKETCH)]
    measures = (("lds", correlate, 1.0), ("rmse", compute_rmse, -1.0))
    for cell in ours:
        rivals = [one for one in others if (one["trainings"] or 0.0) <= SLACK * cell["trainings"]]
        for kind, mine in cell["kinds"].items():
            truth = truths[kind][1][KNOWN:]
            drawn = draw_rows(len(truth))
            for what, measure, sign in measures:
                count += 1
                have = [one for one in rivals if kind in one["kinds"] and one["kinds"][kind][what] is not None]
                best = max(have, key=lambda one: sign * one["kinds"][kind][what], default=None)
                if best is None or sign * (best["kinds"][kind][what] - mine[what]) <= TIE:
                    continue
                theirs = best["kinds"][kind]
                both = [measure(one["value"][drawn], truth[drawn]) for one in (theirs, mine)]
                clear = "yes" if (sign * (both[0] - both[1]) > 0).mean() >= 0.975 else "no"
                numbers = [f"{mine[what]:.3f}", f"{theirs[what]:.3f}"]
                rows.append([name, kind, f"{cell['trainings']:.0f}", what.upper(), *numbers, best["method"], clear])
    return rows, count
