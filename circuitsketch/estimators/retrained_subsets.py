"""Subsets that were retrained, what that changed, and what their kinds are called in sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# What retrained subsets of a kind are called.
SUBSETS_BY_KIND = {
    "random": "random subsets",
    "label": "subsets of one label each",
    "given": "given subsets",
    "mixed": "subsets, random ones and ones of alike examples",
}
SUBSETS_BY_ALIKENESS = (
    "random subsets",
    "subsets of alike examples",
)  # of a mixed calibration, by the number of the kind


@dataclass(frozen=True, eq=False)
class RetrainedSubsets:
    """Subsets that were retrained, and what that changed.

    Attributes
    ----------
    rows : ndarray, of shape (m, n)
        The subsets, as downweights.
    changes : ndarray, of shape (m, C)
        What C values changed by.
    kind : str
        What the subsets are, for sentences: "random", "label", "mixed" or "given".
    sizes : tuple of float
        Between which sizes |h|^2 they were drawn.
    is_kept : bool
        Whether they were retrained before, and kept in the sketch's folder.
    values : ndarray of int, of shape (m,), or None
        The value that each given subset was picked for: then pairs of a subset and a value are calibrated, all values
        together, and not every value on its own.
    dtype : str
        In which they were retrained, "float64" or "float32".
    """

    rows: np.ndarray
    changes: np.ndarray
    kind: str
    sizes: tuple[float, float]
    is_kept: bool = False
    values: np.ndarray | None = None
    dtype: str = "float64"

    @staticmethod
    def before_retraining(rows: np.ndarray, kind: str, sizes: tuple[float, float]) -> RetrainedSubsets:
        """Return subsets of whose changes nothing is known yet."""
        return RetrainedSubsets(rows, np.zeros((len(rows), 0)), kind, sizes)

    def pick(self, array: np.ndarray) -> np.ndarray:
        """Return of an array (m, ..., C) what is about the values that the subsets were picked for, (m, ..., 1)."""
        if self.values is None:
            return array
        return np.take_along_axis(array, self.values.reshape(-1, *(1,) * (array.ndim - 1)), axis=-1)


def name_kind(kind: str) -> str:
    """Return what subsets of a kind are called before the word "subsets".

    >>> name_kind("mixed"), name_kind("label")
    ('random and alike', 'label')
    """
    return "random and alike" if kind == "mixed" else kind
