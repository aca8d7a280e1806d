"""Examples that act alike, and the subsets by whose retraining errors of series are checked.

In: how each example moves the parameters to first order, perhaps labels. Out: which deletions are of alike examples,
and subsets to retrain, random and alike ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.attribution.subsets import draw_subsets

SHARES = (0.05, 0.2, 0.5)  # of the examples, in random subsets
TOGETHER = 12  # subsets of each size and kind that are retrained
TRIED, QUANTILE = 200, 0.9  # random subsets, by whose coherence alike ones are recognised


def shares_labels(labels: Sequence[Any] | None) -> bool:
    """Return whether some examples share a label."""
    return labels is not None and len(set(labels)) < len(labels)


@dataclass(frozen=True, eq=False)
class Alikeness:
    """How alike examples move the parameters to first order.

    Attributes
    ----------
    directions : ndarray, of shape (n, p)
        Of the moves, less their mean, which has the length 1.
    threshold : float
        The coherence that QUANTILE of random subsets stay below.
    """

    directions: np.ndarray
    threshold: float

    @staticmethod
    def of(moves: np.ndarray, seed: int = 0) -> Alikeness:
        """Learn from the first-order effects (n, p) of the examples on the parameters."""
        directions = normalize(normalize(moves) - normalize(moves).mean(axis=0))
        rng, n = np.random.default_rng(seed), len(moves)
        rows = np.zeros((TRIED, n))
        for row in rows:
            row[rng.choice(n, rng.integers(min(2, n), max(n // 4, 2) + 1), replace=False)] = 1.0
        alikeness = Alikeness(directions, 0.0)
        return replace(alikeness, threshold=float(np.quantile(alikeness.coherence(rows), QUANTILE)))

    def coherence(self, rows: np.ndarray) -> np.ndarray:
        """Return |sum h_i d_i|^2 / sum h_i^2, (B,): about 1 at random, the number of examples where all are alike."""
        sizes = (rows**2).sum(axis=1)
        together = ((rows @ self.directions) ** 2).sum(axis=1)
        return np.divide(together, sizes, out=np.zeros_like(sizes), where=sizes > 0)

    def find_alike(self, rows: np.ndarray) -> np.ndarray:
        """Return which h's (B, n) are more coherent than random ones mostly are."""
        several: np.ndarray = np.count_nonzero(rows, axis=1) > 1
        return several & (self.coherence(rows) > self.threshold)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Divide each row by its length, where it has one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def draw_alike_and_random(
    directions: np.ndarray, labels: Sequence[Any] | None, seed: int = 1
) -> tuple[tuple[int, ...], np.ndarray]:
    """Draw subsets at random, of SHARES of the examples, and alike ones.

    Alike are an example and those that move the parameters most like it and, where there are labels, examples that
    share one.

    Parameters
    ----------
    directions : (n, p), in which examples move, see `Alikeness`. labels : of the examples, or None.

    Returns
    -------
    The sizes, and downweights (kinds, TOGETHER, n), those of the sizes first.
    """
    rng, n = np.random.default_rng(seed), len(directions)
    sizes = tuple(sorted({min(max(2, round(share * n)), n) for share in SHARES}))
    weights = np.zeros((len(sizes) + 1 + (labels is not None), TOGETHER, n))
    for row, size in zip(weights, sizes, strict=False):
        for subset in row:
            subset[rng.choice(n, size, replace=False)] = 1.0
    for subset in weights[len(sizes)]:
        nearest = np.argsort(-(directions @ directions[rng.integers(n)]), kind="stable")
        subset[nearest[: round(np.exp(rng.uniform(np.log(3), np.log(max(n // 8, 4)))))]] = 1.0
    if labels is not None:
        weights[-1] = draw_subsets(n, labels, "label", (min(2, n), n // 2), TOGETHER, seed)[0]
    return sizes, weights
