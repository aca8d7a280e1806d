"""The estimator "calibrated": others, weighed by what predicted retrained subsets, with intervals that held for those.

In: estimators, subsets that were retrained, what they changed. Out: estimates with intervals, and a warning wherever a
question is not of the kind of the subsets: of another size, or of examples that act more in one direction.

Where it is known how examples move the parameters, subsets of alike examples and all others are calibrated separately:
a question gets the interval that held for its own kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.estimators.alikeness import Alikeness, share_a_label
from circuitsketch.estimators.calibration import MIN_SUBSETS, Calibration, calibrate
from circuitsketch.estimators.interface import Effects, Estimate, Estimator
from circuitsketch.estimators.known_effects import NO_GRADIENT, FromKnownEffects

ONE_SIGMA = math.erf(math.sqrt(0.5))  # the level of an interval of one standard error on either side
LEAST_FOR_95 = 19  # retrained subsets, below which an interval of 95 % is infinite
CHANGE_MARGIN = 1.1  # by how much a predicted change may exceed all retrained ones
COHERENCE_MARGIN = 1.1  # by how much a subset may be more coherent than all that were retrained
# What the subsets of a kind are called.
SORTS = {
    "random": "random subsets",
    "label": "subsets of one label each",
    "given": "given subsets",
    "mixed": "subsets, random ones and ones of alike examples",
}
OF_SORT = {"mixed": "random and alike"}  # what they are called otherwise, where that is not the kind's own name
BY_KIND = ("random subsets", "subsets of alike examples")  # of a mixed calibration, by the number of the kind


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
        The value that each subset was picked for: then pairs of a subset and a value are calibrated, all values
        together, and not every value on its own.
    """

    rows: np.ndarray
    changes: np.ndarray
    kind: str
    sizes: tuple[float, float]
    is_kept: bool = False
    values: np.ndarray | None = None

    def pick(self, array: np.ndarray) -> np.ndarray:
        """Return of an array (m, ..., C) what is about the values that the subsets were picked for, (m, ..., 1)."""
        if self.values is None:
            return array
        return np.take_along_axis(array, self.values.reshape(-1, *(1,) * (array.ndim - 1)), axis=-1)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Estimators weighed by retrained subsets.

    Attributes
    ----------
    parts : sequence of Estimator
        The estimators that are weighed.
    calibration : Calibration
        What the retrained subsets say of them.
    retrained : RetrainedSubsets
        The subsets.
    gradient : ndarray, of shape (n, C), or None
        First-order effects, by which subsets whose examples act in one direction are recognised.
    coherence : float
        The largest of the retrained subsets; see `coherence_of`.
    shape : tuple of int
        The shape of the measurement, of C values.
    labels : sequence, or None
        The label of each example.
    alikeness : Alikeness or None
        Which examples move the parameters alike, where that is known.
    """

    parts: tuple[Estimator, ...]
    calibration: Calibration
    retrained: RetrainedSubsets
    gradient: np.ndarray | None
    coherence: float
    shape: tuple[int, ...]
    labels: Sequence[Any] | None = field(default=None, repr=False)
    alikeness: Alikeness | None = field(default=None, repr=False)
    name: str = field(default="calibrated", repr=False)

    @property
    def working_bytes(self) -> int:
        """The memory that an answer takes besides itself."""
        return max(part.working_bytes for part in self.parts)

    @property
    def count(self) -> int:
        """The number of retrained subsets."""
        return len(self.calibration.residuals)

    def predict(self, h: np.ndarray, order: int | None = None, median_groups: int | None = None) -> Estimate:
        """Estimate the change for h of shape (n,) or (B, n)."""
        if order is not None or median_groups is not None:
            raise InputError("estimator 'calibrated' takes no order and no median_groups; name one of its estimators")
        rows = np.atleast_2d(h)
        single, count = np.ndim(h) == 1, len(rows)
        predictions, errors = estimates_of(self.parts, rows, math.prod(self.shape), self.gradient)
        sizes = np.maximum((rows**2).sum(axis=1), np.finfo(float).tiny)
        asked = self.pair_up(predictions), self.pair_up(sizes[:, None, None]), self.pair_up(errors)
        kinds = self.kinds_of(rows)
        change = self.calibration.predict(asked[0], kinds).reshape(count, -1)
        exact = (errors == 0).any(axis=1)  # retrained alone, or nothing deleted
        change = np.where(exact, np.take_along_axis(predictions, np.argmin(errors, axis=1)[:, None], 1)[:, 0], change)

        def bounds(level: float) -> tuple[np.ndarray, np.ndarray]:
            ends = self.calibration.interval(level, asked[0], asked[1][:, 0, 0], asked[2], kinds)
            low, high = (end.reshape(count, -1) for end in ends)
            return shaped(np.where(exact, change, low)), shaped(np.where(exact, change, high))

        def shaped(values: np.ndarray) -> np.ndarray:
            values = values.reshape(count, *self.shape)
            return values[0] if single else values

        low, high = bounds(ONE_SIGMA)
        apart, warnings = self.compare(rows, sizes, np.where(exact, 0.0, change), exact.all(axis=1), kinds)
        with np.errstate(invalid="ignore"):
            stderr = (high - low) / 2
        return Estimate(
            change=shaped(change),
            stderr=stderr,
            terms=shaped(change)[None],
            term_stderr=stderr[None],
            truncation=np.zeros_like(stderr),
            outside=shaped(apart),
            estimator=self.name,
            warnings=warnings,
            bounds=bounds,
            words=f"{self.describe(kinds)}, calibrated on {self.name_subsets(kinds)}"
            + " that the sketch has kept" * self.retrained.is_kept
            + NO_GRADIENT * any(isinstance(one, FromKnownEffects) and one.known.lacks_gradient for one in self.parts),
        )

    def kinds_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the number of the kind of rows (B, n), 1 for alike examples; None where all are calibrated as one."""
        if self.alikeness is None or len(self.calibration.weights) == 1:
            return None
        return self.alikeness.find_alike(rows).astype(np.int64)

    def name_subsets(self, kinds: np.ndarray | None) -> str:
        """Return what questions of some kinds are calibrated on, for a sentence."""
        if kinds is None or np.ptp(kinds):
            return f"{self.count} retrained {SORTS[self.retrained.kind]}"
        return f"{np.count_nonzero(self.calibration.kinds == kinds[0])} retrained {BY_KIND[kinds[0]]}"

    def pair_up(self, array: np.ndarray) -> np.ndarray:
        """Return an array (B, K, C), or (B, 1, 1), by pair of a subset and a value, (B C, K, 1), if those are
        calibrated."""
        if self.retrained.values is None:
            return array
        wide = np.broadcast_to(array, (*array.shape[:2], math.prod(self.shape)))
        return np.moveaxis(wide, 2, 1).reshape(-1, array.shape[1], 1)

    def compare(
        self,
        rows: np.ndarray,
        sizes: np.ndarray,
        change: np.ndarray,
        exact: np.ndarray,
        kinds: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return which values of which rows (B, C) are unlike the retrained subsets, and sentences about that."""
        (low, high), kind = self.retrained.sizes, self.retrained.kind
        sort = OF_SORT.get(kind, kind)
        other_size = ~exact & ((sizes < low * (1 - 1e-9)) | (sizes > high * (1 + 1e-9)))
        other_kind = np.zeros(len(rows), dtype=bool)
        if self.gradient is not None:
            other_kind = ~exact & ~other_size & (coherence_of(rows, self.gradient) > COHERENCE_MARGIN * self.coherence)
        alike = np.zeros(len(rows), dtype=bool)
        if self.alikeness is not None and kind != "given":
            several = np.count_nonzero(rows, axis=1) > 1
            alike = several & ~exact & ~other_size & ~other_kind & (self.alikeness.coherence(rows) > self.most_alike)
        one_label = np.zeros(len(rows), dtype=bool)
        if self.labels is not None and kind == "random":
            one_label = ~exact & ~other_size & ~other_kind & ~alike & share_a_label(rows, self.labels)
        largest = np.abs(self.calibration.truths).max(axis=0)
        beyond = ~(other_size | other_kind | alike | one_label)[:, None] & (np.abs(change) > CHANGE_MARGIN * largest)
        share = "" if len(rows) == 1 else "{} of {} subsets: "
        warnings = []
        if other_size.any():
            asked = sizes[other_size]
            size = f"size {asked[0]:.4g}" if len(asked) == 1 else f"sizes from {asked.min():.4g} to {asked.max():.4g}"
            warnings.append(
                share.format(other_size.sum(), len(rows))
                + f"{size}, and calibrated on {sort} subsets of sizes {low:.4g} to {high:.4g}: the interval is "
                "not known to hold there; query.calibrate(size=...) with this size among them"
            )
        if other_kind.any():
            warnings.append(
                share.format(other_kind.sum(), len(rows))
                + f"these examples act more in one direction than those of the {sort} subsets of the "
                "calibration: the interval is not known to hold for them; "
                "query.calibrate(kind='label'), or with subsets like this one"
            )
        if alike.any():
            remedy = "query.calibrate(" + "kind='mixed'" * (kind != "mixed") + ")"
            warnings.append(
                share.format(alike.sum(), len(rows))
                + "these examples move the parameters more alike than those of any retrained subset: the interval is "
                f"not known to hold for them; {remedy}, or with subsets like this one"
            )
        if beyond.any():
            warnings.append(
                share.format(beyond.any(axis=1).sum(), len(rows))
                + f"the predicted change is larger than any that was retrained, by more than {CHANGE_MARGIN - 1:.0%}: "
                "the interval is not known to hold there; query.calibrate() with subsets that matter as much"
            )
        count = self.count if kinds is None else min(np.count_nonzero(self.calibration.kinds == kind) for kind in kinds)
        if count < LEAST_FOR_95:
            warnings.append(
                f"{count} retrained subsets give intervals up to the level {count / (count + 1):.2f}, "
                "and none of 95 %; query.calibrate(count=48)"
            )
        if one_label.any():
            warnings.append(
                share.format(one_label.sum(), len(rows))
                + "these examples share a label, and those of the random subsets of the calibration do not: the "
                "interval is not known to hold for them; query.calibrate(kind='label')"
            )
        return (other_size | other_kind | alike | one_label)[:, None] | beyond, tuple(warnings)

    def influence(self) -> Effects:
        """Estimate the change for every h = e_i, exact where each example was retrained alone."""
        n = len(self.gradient) if self.gradient is not None else len(self.parts[0].influence().change)
        estimate = self.predict(np.eye(n))
        return Effects(estimate.change, estimate.stderr, 1, self.name, estimate.warnings)

    @cached_property
    def most_alike(self) -> float:
        """The largest coherence of the retrained subsets, with a margin."""
        assert self.alikeness is not None
        return COHERENCE_MARGIN * float(self.alikeness.coherence(self.retrained.rows).max())

    def describe(self, kinds: np.ndarray | None = None) -> str:
        """Return which estimators have weights, for questions of some kinds, by name."""
        asked = range(len(self.calibration.weights)) if kinds is None else np.unique(kinds)
        weights = np.max([np.abs(self.calibration.weights[kind].weights).max(axis=1) for kind in asked], axis=0)
        names = [part.name for part, weight in zip(self.parts, weights, strict=True) if weight > 0]
        return " and ".join(names) or "no change"

    @property
    def worth(self) -> Worth:
        """What this is worth on the retrained subsets, each predicted without itself; means over values."""
        from scipy.stats import spearmanr  # a slow import

        truths, residuals = self.calibration.truths, self.calibration.residuals
        columns = zip((truths - residuals).T, truths.T, strict=True)
        ranks = [spearmanr(p, t).statistic if np.ptp(p) and np.ptp(t) else 0.0 for p, t in columns]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = np.sqrt((residuals**2).mean(axis=0) / truths.var(axis=0))
        return Worth(self.count, float(np.mean(ranks)), float(np.mean(ratios)), self.describe())


@dataclass(frozen=True)
class Worth:
    """What predictions are worth on retrained subsets that were left out.

    Attributes
    ----------
    subsets : int
        How many there are.
    lds : float
        The rank correlation of predictions and truths (the linear datamodeling score), a mean over values.
    relative_error : float
        The error over the truths' standard deviation, a mean over values.
    estimators : str
        The estimators that have weights.
    """

    subsets: int
    lds: float
    relative_error: float
    estimators: str

    def to_dict(self) -> dict[str, int | float | str | None]:
        """Return the figures as JSON values; None for what is not finite."""
        figures = {"lds": self.lds, "relative_error": self.relative_error}
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        return {"subsets": self.subsets, **finite, "estimators": self.estimators}

    def __str__(self) -> str:
        return (
            f"{self.estimators}: on {self.subsets} retrained subsets, each predicted without itself, the rank "
            f"correlation is {self.lds:.3f} and the error {self.relative_error:.2g} of the truths' standard deviation"
        )


def calibrate_estimators(
    parts: Sequence[Estimator],
    retrained: RetrainedSubsets,
    gradient: np.ndarray | None,
    shape: tuple[int, ...],
    labels: Sequence[Any] | None = None,
    alikeness: Alikeness | None = None,
) -> Calibrated:
    """Weigh estimators by retrained subsets.

    Parameters
    ----------
    parts : sequence of Estimator
    retrained : RetrainedSubsets
    gradient, shape :
        As for `Calibrated`.
    labels : sequence, optional
        The label of each example, by which questions about one label are recognised.
    alikeness : Alikeness, optional
        Which examples move the parameters alike; subsets of the kind "mixed" are told apart by it.

    Returns
    -------
    Calibrated
    """
    rows, truths = retrained.rows, retrained.changes
    predictions, errors = map(retrained.pick, estimates_of(parts, rows, truths.shape[1], gradient))
    truths = retrained.pick(truths)
    sizes, unknown = (rows**2).sum(axis=1), ~(errors == 0).all(axis=2).any(axis=1)
    if unknown.sum() < MIN_SUBSETS:
        raise InputError(
            f"{unknown.sum()} of the {len(rows)} subsets say something that is not known already; a calibration needs "
            f"{MIN_SUBSETS} subsets of two or more examples"
        )
    kept = [array[unknown] for array in (predictions, errors, sizes, truths)]
    if alikeness is not None and retrained.kind == "mixed":
        kinds = alikeness.find_alike(rows[unknown]).astype(np.int64)
        if min(np.count_nonzero(kinds == 0), np.count_nonzero(kinds == 1)) >= MIN_SUBSETS:
            kept.append(kinds)
    coherence = float(coherence_of(rows, gradient).max()) if gradient is not None else math.inf
    return Calibrated(tuple(parts), calibrate(*kept), retrained, gradient, coherence, shape, labels, alikeness)


def estimates_of(
    parts: Sequence[Estimator], rows: np.ndarray, values: int, gradient: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what estimators say of rows (B, n), and their standard errors, (B, K, C) each.

    An estimator that fails says infinity. One that knows no error gets one that grows with the change it predicts, and
    with what its examples would change if they acted independently: only its proportions matter.
    """
    predictions = np.full((len(rows), len(parts), values), np.inf)
    errors = np.full_like(predictions, np.inf)
    apart = None
    if gradient is not None:
        apart, scale = np.sqrt(rows**2 @ gradient**2), np.sqrt((gradient**2).mean(axis=0))
        typical = np.linalg.norm(rows, axis=1)[:, None] * np.where(scale > 0, scale, 1.0)
    for k, part in enumerate(parts):
        try:
            estimate = part.predict(rows)
        except CircuitSketchError:
            continue
        predictions[:, k] = np.reshape(estimate.change, (len(rows), values))
        errors[:, k] = np.reshape(estimate.stderr, (len(rows), values))
        if apart is not None:
            error = np.hypot(predictions[:, k], apart)
            error = np.where(error > 0, error, typical)  # 0 is for what is known exactly
            errors[:, k] = np.where(np.isinf(errors[:, k]), error, errors[:, k])
    return predictions, errors


def coherence_of(rows: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return |sum h_i g_i| / (sum h_i^2 |g_i|^2)^(1/2), (B,): about 1 for effects that point anywhere.

    It is the root of the number of examples where all of them act alike.
    """
    scale = np.sqrt((gradient**2).mean(axis=0))
    scaled = gradient / np.where(scale > 0, scale, 1.0)
    together = np.linalg.norm(rows @ scaled, axis=1)
    apart = np.sqrt((rows**2) @ (scaled**2).sum(axis=1))
    return np.divide(together, apart, out=np.zeros_like(together), where=apart > 0)
