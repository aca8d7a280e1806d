"""Examples that act alike: those that move the parameters alike, or share a label.

In: how each example moves the parameters to first order, perhaps labels. Out: which deletions are of alike examples.
Errors of what examples do together add up for these, and partly cancel for examples drawn at random; what retrained
random subsets say of errors says nothing of groups of alike examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

LABEL_CHANCE = 0.05  # that random examples share a label, below which those that do are no random subset
TRIED, QUANTILE = 200, 0.9  # random subsets, and the share of them that are less coherent than alike ones


@dataclass(frozen=True, eq=False)
class Alikeness:
    """How alike examples move the parameters to first order.

    Attributes
    ----------
    directions : ndarray, of shape (n, p)
        Unit vectors in which the examples move the parameters, less the mean of these, and of unit length again.
    threshold : float
        The coherence that most random subsets stay below.
    labels : sequence, or None
        The label of each example, where examples that share one count as alike.
    """

    directions: np.ndarray
    threshold: float
    labels: Sequence[Any] | None = field(default=None, repr=False)

    @staticmethod
    def of(
        moves: np.ndarray,
        labels: Sequence[Any] | None = None,
        sizes: tuple[int, int] | None = None,
        quantile: float = QUANTILE,
    ) -> Alikeness:
        """Learn from the first-order effects of the examples on the parameters.

        Parameters
        ----------
        moves : array, shape (n, p)
            The effects, or projections of these.
        labels : sequence, optional
            The label of each example.
        sizes : (int, int), optional
            Of the smallest and the largest random subset to compare with, by default 2 and a quarter of the examples.
        quantile : float
            The share of these subsets that do not count as alike.
        """
        units = normalize(moves)
        directions = normalize(units - units.mean(axis=0))
        rng, n = np.random.default_rng(0), len(moves)  # the same for what is drawn and what is asked
        low, high = (2, max(n // 4, 2)) if sizes is None else sizes
        low, high = min(max(low, 2), n), min(max(high, 2), n)
        rows = np.zeros((TRIED, n))
        for row in rows:
            row[rng.choice(n, rng.integers(low, high + 1), replace=False)] = 1.0
        alikeness = Alikeness(directions, 0.0, labels if shares_labels(labels) else None)
        return replace(alikeness, threshold=float(np.quantile(alikeness.coherence(rows), quantile)))

    def coherence(self, rows: np.ndarray) -> np.ndarray:
        """Return |sum h_i d_i|^2 / sum h_i^2, (B,): about 1 at random, the number of examples where all are alike."""
        sizes = (rows**2).sum(axis=1)
        together = ((rows @ self.directions) ** 2).sum(axis=1)
        return np.divide(together, sizes, out=np.zeros_like(sizes), where=sizes > 0)

    def find_alike(self, rows: np.ndarray) -> np.ndarray:
        """Return which h's (B, n) are more coherent than random ones mostly are, or share a label, (B,)."""
        several: np.ndarray = np.count_nonzero(rows, axis=1) > 1
        alike: np.ndarray = several & (self.coherence(rows) > self.threshold)
        return alike if self.labels is None else alike | share_a_label(rows, self.labels)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Divide each row by its length, where it has one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def shares_labels(labels: Sequence[Any] | None) -> bool:
    """Return whether some examples share a label."""
    return labels is not None and len(set(labels)) < len(labels)


def share_a_label(rows: np.ndarray, labels: Sequence[Any]) -> np.ndarray:
    """Return which rows (B, n) delete examples of one label that as many random ones would hardly share, (B,).

    The chance that k random examples all have this label is counted once for each label that there is.
    """
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    numbers = np.array([number[label] for label in labels])
    shares = np.bincount(numbers) / len(numbers)
    shared = np.zeros(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        chosen = numbers[row != 0]
        if len(chosen) > 1 and (chosen == chosen[0]).all():
            shared[i] = len(shares) * shares[chosen[0]] ** len(chosen) < LABEL_CHANCE
    return shared
