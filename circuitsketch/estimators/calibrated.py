"""The estimator "calibrated": others, weighed by what predicted retrained subsets, with intervals that held for those.

In: estimators, subsets that were retrained, what they changed. Out: estimates with intervals, and a warning wherever a
question is not of the kind of the subsets: of another size, or of examples that act more in one direction.

Where it is known how examples move the parameters, subsets of alike examples and all others are calibrated separately:
a question gets the interval that held for its own kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.estimators.alikeness import Alikeness, share_a_label
from circuitsketch.estimators.calibration import MIN_SUBSETS, Calibration, calibrate
from circuitsketch.estimators.fitted_weights import Described
from circuitsketch.estimators.interface import Effects, Estimate, Estimator
from circuitsketch.estimators.known_effects import NO_GRADIENT, FromKnownEffects
from circuitsketch.estimators.learned_effects import Overlap
from circuitsketch.estimators.retrained_subsets import SUBSETS_BY_ALIKENESS, SUBSETS_BY_KIND, RetrainedSubsets
from circuitsketch.estimators.unlike_subsets import CHANGE_MARGIN, COHERENCE_MARGIN, UnlikeSubsets
from circuitsketch.limits import NUMBERS_AT_ONCE, blocks_of

LEARNED = "what the subsets teach"
ONE_SIGMA = math.erf(math.sqrt(0.5))  # the level of an interval of one standard error on either side


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to B questions about C values, before they have the shape of the measurement.

    Attributes
    ----------
    change, stderr : ndarray, of shape (B, C)
        The changes, and half the lengths of the intervals of one standard error on either side.
    bounds : callable
        From a level to the ends of the intervals, (B, C) each.
    kinds : ndarray of int, of shape (B,), or None
        The number of each question's kind, where kinds are calibrated separately.
    fewest : int
        The number of retrained subsets of the kind, among these, that has the fewest.
    unlike : UnlikeSubsets
        Which of the questions are unlike the retrained subsets.
    """

    change: np.ndarray
    stderr: np.ndarray
    bounds: Callable[[float], tuple[np.ndarray, np.ndarray]]
    kinds: np.ndarray | None
    fewest: int
    unlike: UnlikeSubsets


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
    overlap : Overlap or None
        With the subsets, for what is learned of the effects of their examples.
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
    overlap: Overlap | None = field(default=None, repr=False)
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
        answers = self.answer(rows)

        def shaped(values: np.ndarray) -> np.ndarray:
            values = values.reshape(len(rows), *self.shape)
            return values[0] if np.ndim(h) == 1 else values

        def bounds(level: float) -> tuple[np.ndarray, np.ndarray]:
            low, high = answers.bounds(level)
            return shaped(low), shaped(high)

        change, stderr = shaped(answers.change), shaped(answers.stderr)
        return Estimate(
            change=change,
            stderr=stderr,
            terms=change[None],
            term_stderr=stderr[None],
            truncation=np.zeros_like(stderr),
            outside=shaped(answers.unlike.outside),
            estimator=self.name,
            warnings=answers.unlike.warn(self.retrained, answers.fewest),
            bounds=bounds,
            words=f"{self.describe(answers.kinds)}, calibrated on {self.name_subsets(answers.kinds)}"
            + " in float32" * (self.retrained.dtype == "float32")
            + " that the sketch has kept" * self.retrained.is_kept
            + NO_GRADIENT * any(isinstance(one, FromKnownEffects) and one.known.lacks_gradient for one in self.parts),
        )

    def influence(self) -> Effects:
        """Estimate the change for every h = e_i, exact where each example was retrained alone."""
        n = self.retrained.rows.shape[1]
        ids, answers = np.arange(n), []
        for block in blocks_of(n, n + self.count * math.prod(self.shape)):
            answers.append(self.answer((ids[block, None] == ids).astype(np.float64)))
        change, stderr = (
            np.concatenate([getattr(one, name) for one in answers]).reshape(n, *self.shape)
            for name in ("change", "stderr")
        )
        unlike = UnlikeSubsets.join([one.unlike for one in answers])
        warnings = unlike.warn(self.retrained, min(one.fewest for one in answers))
        return Effects(change, stderr, 1, self.name, warnings)

    def answer(self, rows: np.ndarray) -> Answers:
        """Weigh the estimators' changes for rows (B, n), and compare these with the retrained subsets."""
        count = len(rows)
        predictions, errors = estimates_of(self.parts, rows, math.prod(self.shape), self.gradient)
        sizes = np.maximum((rows**2).sum(axis=1), np.finfo(float).tiny)
        exact = (errors == 0).any(axis=1)  # retrained alone, or nothing deleted
        kinds = self.kinds_of(rows)
        asked = Described(
            self.pair_up(predictions),
            self.pair_up(errors),
            self.pair_up(sizes[:, None, None])[:, 0, 0],
            self.overlap_with(rows, exact.all(axis=1)),
            kinds,
        )
        change = self.calibration.predict(asked).reshape(count, -1)
        rounding = np.where(np.any(rows != 0, axis=1, keepdims=True), self.rounding, 0.0)
        change = np.where(exact, np.take_along_axis(predictions, np.argmin(errors, axis=1)[:, None], 1)[:, 0], change)

        def bounds(level: float) -> tuple[np.ndarray, np.ndarray]:
            ends = self.calibration.interval(level, asked)
            around = NormalDist().inv_cdf((1 + level) / 2) * rounding
            low, high = (
                np.where(exact, change + side * around, end.reshape(count, -1))
                for side, end in zip((-1, 1), ends, strict=True)
            )
            return low, high

        low, high = bounds(ONE_SIGMA)
        with np.errstate(invalid="ignore"):
            stderr = (high - low) / 2
        unlike = self.compare(rows, sizes, np.where(exact, 0.0, change), exact.all(axis=1))
        return Answers(change, stderr, bounds, kinds, self.count_fewest(kinds), unlike)

    def overlap_with(self, rows: np.ndarray, is_exact: np.ndarray) -> np.ndarray | None:
        """Return what rows (B, n) have in common with the m retrained subsets, (B, m, C), or (B C, m, 1) if pairs of a
        subset and a value are calibrated; 0 where the answer is exact."""
        if self.overlap is None or not self.calibration.learns:
            return None
        overlap = np.zeros((len(rows), self.count, math.prod(self.shape)))
        if not is_exact.all():
            overlap[~is_exact] = self.overlap.measure(rows[~is_exact])
        return self.pair_up(overlap)

    @property
    def rounding(self) -> np.ndarray | float:
        """The standard error by rounding of the effect of an example that was retrained alone, (C,); 0 in float64."""
        known = [part.known.rounding for part in self.parts if isinstance(part, FromKnownEffects)]
        return known[0] if known else 0.0

    def kinds_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the number of the kind of rows (B, n), 1 for alike examples; None where all are calibrated as one."""
        if self.alikeness is None or len(self.calibration.fits) == 1:
            return None
        return self.alikeness.find_alike(rows).astype(np.int64)

    def name_subsets(self, kinds: np.ndarray | None) -> str:
        """Return what questions of some kinds are calibrated on, for a sentence."""
        if kinds is None or np.ptp(kinds):
            return f"{self.count} retrained {SUBSETS_BY_KIND[self.retrained.kind]}"
        return f"{np.count_nonzero(self.calibration.kinds == kinds[0])} retrained {SUBSETS_BY_ALIKENESS[kinds[0]]}"

    def pair_up(self, array: np.ndarray) -> np.ndarray:
        """Return an array (B, K, C), or (B, 1, 1), by pair of a subset and a value, (B C, K, 1), if those are
        calibrated."""
        if self.retrained.values is None:
            return array
        wide = np.broadcast_to(array, (*array.shape[:2], math.prod(self.shape)))
        return np.moveaxis(wide, 2, 1).reshape(-1, array.shape[1], 1)

    def compare(self, rows: np.ndarray, sizes: np.ndarray, change: np.ndarray, exact: np.ndarray) -> UnlikeSubsets:
        """Find which rows (B, n), and which values of these, are unlike the retrained subsets."""
        (low, high), kind = self.retrained.sizes, self.retrained.kind
        none = np.zeros(len(rows), dtype=bool)
        other_size = ~exact & ((sizes < low * (1 - 1e-9)) | (sizes > high * (1 + 1e-9)))
        rest = ~exact & ~other_size
        one_direction = none
        if self.gradient is not None:
            one_direction = rest & (coherence_of(rows, self.gradient) > COHERENCE_MARGIN * self.coherence)
        rest = rest & ~one_direction
        more_alike = none
        if self.alikeness is not None and kind != "given":
            several = np.count_nonzero(rows, axis=1) > 1
            more_alike = rest & several & (self.alikeness.coherence(rows) > self.most_alike)
        rest = rest & ~more_alike
        one_label = none
        if self.labels is not None and kind == "random":
            one_label = rest & share_a_label(rows, self.labels)
        unlike = other_size | one_direction | more_alike | one_label
        beyond = ~unlike[:, None] & (np.abs(change) > CHANGE_MARGIN * np.abs(self.calibration.truths).max(axis=0))
        return UnlikeSubsets(sizes, other_size, one_direction, more_alike, one_label, beyond)

    def count_fewest(self, kinds: np.ndarray | None) -> int:
        """Return the number of retrained subsets of the kind, among some, that has the fewest."""
        if kinds is None:
            return self.count
        return min(int(np.count_nonzero(self.calibration.kinds == kind)) for kind in np.unique(kinds))

    @cached_property
    def most_alike(self) -> float:
        """The largest coherence of the retrained subsets, with a margin."""
        assert self.alikeness is not None
        return COHERENCE_MARGIN * float(self.alikeness.coherence(self.retrained.rows).max())

    def describe(self, kinds: np.ndarray | None = None) -> str:
        """Return which estimators have weights, for questions of some kinds, by name."""
        asked = range(len(self.calibration.fits)) if kinds is None else np.unique(kinds)
        fits = [self.calibration.fits[kind].pick(slice(1)) for kind in asked]
        weights = np.max([np.abs(fit.weights[0]).max(axis=1) for fit in fits], axis=0)
        names = [part.name for part, weight in zip(self.parts, weights, strict=True) if weight > 0]
        if any(fit.per_size is not None and fit.per_size.any() for fit in fits):
            names.append(LEARNED)
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
    count = truths.shape[1]
    predictions, errors = map(retrained.pick, estimates_of(parts, rows, count, gradient))
    truths = retrained.pick(truths)
    sizes, unknown = (rows**2).sum(axis=1), ~(errors == 0).all(axis=2).any(axis=1)
    if unknown.sum() < MIN_SUBSETS:
        raise InputError(
            f"{unknown.sum()} of the {len(rows)} subsets say something that is not known already; a calibration needs "
            f"{MIN_SUBSETS} subsets of two or more examples"
        )
    overlap, kinds, shared = None, None, None
    if len(rows) ** 2 * count <= NUMBERS_AT_ONCE:  # else, effects of examples would take too long for so many values
        values = None if retrained.values is None else retrained.values[unknown]
        overlap = Overlap.of(rows[unknown], gradient, count, values)
        shared = retrained.pick(overlap.measure(rows))[unknown]
    if alikeness is not None and retrained.kind == "mixed":
        kinds = alikeness.find_alike(rows[unknown]).astype(np.int64)
        if min(np.count_nonzero(kinds == 0), np.count_nonzero(kinds == 1)) < MIN_SUBSETS:
            kinds = None
    subsets = Described(predictions[unknown], errors[unknown], sizes[unknown], shared, kinds)
    calibration = calibrate(subsets, truths[unknown])
    coherence = float(coherence_of(rows, gradient).max()) if gradient is not None else math.inf
    return Calibrated(tuple(parts), calibration, retrained, gradient, coherence, shape, overlap, labels, alikeness)


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
        if isinstance(part, FromKnownEffects):  # rounding of what is known is not an error of the estimator
            errors[:, k] = np.where(np.isfinite(errors[:, k]), 0.0, np.inf)
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
