"""Subsets that are asked about and are unlike those that a calibration retrained, each for one reason; and warnings.

In: what a calibrated estimator knows of each subset. Out: where an interval is not known to hold, and sentences that
say why, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from circuitsketch.estimators.calibration import LEAST_FOR_95
from circuitsketch.estimators.retrained_subsets import RetrainedSubsets, name_kind

CHANGE_MARGIN = 1.1  # by how much a predicted change may exceed all retrained ones
COHERENCE_MARGIN = 1.1  # by how much a subset may be more coherent than all that were retrained


@dataclass(frozen=True, eq=False)
class UnlikeSubsets:
    """Which of B subsets are unlike the retrained ones, each for the first of these reasons that holds.

    Attributes
    ----------
    sizes : ndarray, of shape (B,)
        The size |h|^2 of each.
    other_size : ndarray of bool, of shape (B,)
        Of another size.
    one_direction : ndarray of bool, of shape (B,)
        Of examples whose effects on the measurement point more in one direction.
    more_alike : ndarray of bool, of shape (B,)
        Of examples that move the parameters more alike.
    one_label : ndarray of bool, of shape (B,)
        Of examples that share a label.
    beyond : ndarray of bool, of shape (B, C)
        Values that are predicted to change more than in any retrained subset.
    """

    sizes: np.ndarray
    other_size: np.ndarray
    one_direction: np.ndarray
    more_alike: np.ndarray
    one_label: np.ndarray
    beyond: np.ndarray

    @staticmethod
    def join(parts: Sequence[UnlikeSubsets]) -> UnlikeSubsets:
        """Put blocks of subsets together."""
        names = [one.name for one in fields(UnlikeSubsets)]
        return UnlikeSubsets(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def outside(self) -> np.ndarray:
        """Which values of which subsets have an interval that is not known to hold, (B, C)."""
        subsets = self.other_size | self.one_direction | self.more_alike | self.one_label
        return subsets[:, None] | self.beyond

    def warn(self, retrained: RetrainedSubsets, count: int) -> tuple[str, ...]:
        """Return sentences about these subsets, where so many of the retrained ones give the intervals."""
        called, (low, high) = name_kind(retrained.kind), retrained.sizes
        number = len(self.sizes)

        def say(where: np.ndarray, text: str) -> None:
            of_several = "" if number == 1 else f"{np.count_nonzero(where)} of {number} subsets: "
            warnings.append(of_several + text)

        warnings: list[str] = []
        if self.other_size.any():
            asked = self.sizes[self.other_size]
            size = f"size {asked[0]:.4g}" if len(asked) == 1 else f"sizes from {asked.min():.4g} to {asked.max():.4g}"
            say(
                self.other_size,
                f"{size}, and calibrated on {called} subsets of sizes {low:.4g} to {high:.4g}: the interval "
                "is not known to hold there; query.calibrate(size=...) with this size among them",
            )
        if self.one_direction.any():
            say(
                self.one_direction,
                f"these examples act more in one direction than those of the {called} subsets of the calibration: the "
                "interval is not known to hold for them; query.calibrate(kind='label'), or with subsets like this one",
            )
        if self.more_alike.any():
            remedy = "query.calibrate(" + "kind='mixed'" * (retrained.kind != "mixed") + ")"
            say(
                self.more_alike,
                "these examples move the parameters more alike than those of any retrained subset: the interval is "
                f"not known to hold for them; {remedy}, or with subsets like this one",
            )
        beyond = np.asarray(self.beyond.any(axis=1))
        if beyond.any():
            say(
                beyond,
                f"the predicted change is larger than any that was retrained, by more than {CHANGE_MARGIN - 1:.0%}: "
                "the interval is not known to hold there; query.calibrate() with subsets that matter as much",
            )
        if count < LEAST_FOR_95:
            warnings.append(
                f"{count} retrained subsets give intervals up to the level {count / (count + 1):.2f}, "
                "and none of 95 %; query.calibrate(count=48)"
            )
        if self.one_label.any():
            say(
                self.one_label,
                "these examples share a label, and those of the random subsets of the calibration do not: the "
                "interval is not known to hold for them; query.calibrate(kind='label')",
            )
        return tuple(warnings)
