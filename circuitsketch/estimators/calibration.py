"""Weigh estimators by retrained subsets, and give their combination conformal intervals.

Whatever an estimator assumes, retraining a few dozen subsets of the kind that is asked about says how far it is off
(THEORY section 10). From m such subsets, per measured value:

1. The best single estimator: the one of the least weighted mean squared error, "no change" (zero) among them.
2. Weights that improve on it: a ridge regression of the true changes on the predicted ones, pulled towards the best
   single estimator. It is taken only where it predicts subsets left out better by more than chance allows.
3. Instead of these weights, and by the same rule, what `learned_effects` learns of the best single estimator's errors:
   other weights, an effect per size, and effects of the examples that the subsets have in common.
4. An interval, by the jackknife+ (Barber, Candès, Ramdas and Tibshirani, 2021): every subset is predicted by a fit
   without it (steps 1 to 3 included), and its residual is divided by a scale that grows as errors were seen to grow.
   Each of these fits predicts a new subset too, and that prediction plus and minus the fit's scaled residual is an end
   on either side; the interval reaches to the k-th of these, k = ceil(level (m + 1)). With exchangeable subsets it
   holds the truth at about the level, and never at less than 2 level - 1, whatever the fits do. With m below
   level / (1 - level) the interval is infinite.

Errors of subsets of different sizes are weighed by 1 / size, as if an error's variance grew with the size.

Subsets of several kinds, told apart by something that is known of every subset before it is retrained, are calibrated
separately (Mondrian conformal prediction; Vovk, Gammerman and Shafer, 2005), so that each kind has its coverage. All
but the first kind take the best single estimator: what alike examples change has heavy tails, and weights that fitted
two dozen subsets were up to 6 for one estimator and -4 for another, and off by 6 deviations for others of the kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from circuitsketch.estimators.fitted_weights import (
    PENALTIES,
    Described,
    Fits,
    best_scale,
    chosen_errors,
    finite_parts,
    fit_weights,
    is_surely_better,
    single_weights,
    weighed,
)
from circuitsketch.estimators.learned_effects import FEW, learn
from circuitsketch.limits import blocks_of

MIN_SUBSETS = 8  # fewer retrained subsets say too little of anything
ARRAYS = 16  # of (m, m, values) that fits of some values need at once
LEAST_FOR_95 = 19  # retrained subsets, below which an interval of 95 % is infinite


@dataclass(frozen=True, eq=False)
class Calibration:
    """What m retrained subsets say of some estimators' predictions.

    Attributes
    ----------
    fits : tuple of Fits
        The estimators' weights, for each kind of subsets: fitted to all of them, and without each.
    truths : ndarray, of shape (m, C)
        What the subsets really changed.
    residuals : ndarray, of shape (m, C)
        What a subset's true change is above its prediction by the fit without it.
    scores : ndarray, of shape (m, C)
        The sizes of the residuals over their scale.
    kinds : ndarray of int, of shape (m,)
        The number of each subset's kind.
    """

    fits: tuple[Fits, ...]
    truths: np.ndarray
    residuals: np.ndarray
    scores: np.ndarray
    kinds: np.ndarray

    @staticmethod
    def join(parts: Sequence[Calibration]) -> Calibration:
        """Return the calibration of all values, of those of some of them each."""
        fits = tuple(Fits.join(kind) for kind in zip(*(part.fits for part in parts), strict=True))
        truths, residuals, scores = (
            np.concatenate([getattr(part, name) for part in parts], axis=1)
            for name in ("truths", "residuals", "scores")
        )
        return Calibration(fits, truths, residuals, scores, parts[0].kinds)

    @property
    def learns(self) -> bool:
        """Whether some fit has effects that were learned from what subsets have in common."""
        return any(fits.shares is not None for fits in self.fits)

    def predict(self, subsets: Described) -> np.ndarray:
        """Return the weighed change of subsets, (B, C)."""
        change = np.empty((len(subsets.sizes), self.scores.shape[1]))
        for kind, asked in self.divide(subsets):
            change[asked] = self.fits[kind].pick(slice(1)).predict(subsets.pick(asked))[0]
        return change

    def interval(self, level: float, subsets: Described) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of the change of subsets, (B, C) each."""
        ends = np.empty((2, len(subsets.sizes), self.scores.shape[1]))
        for kind, asked in self.divide(subsets):
            ends[:, asked] = self.interval_of(kind, level, subsets.pick(asked))
        return ends[0], ends[1]

    def divide(self, subsets: Described) -> list[tuple[int, np.ndarray]]:
        """Return the kinds of subsets, and which of these are of each."""
        kinds = np.zeros(len(subsets.sizes), dtype=np.int64) if subsets.kinds is None else subsets.kinds
        return [(kind, kinds == kind) for kind in range(len(self.fits)) if (kinds == kind).any()]

    def interval_of(self, kind: int, level: float, subsets: Described) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of subsets of one kind, as `interval`."""
        fits, scores = self.fits[kind].pick(slice(1, None)), self.scores[self.kinds == kind]
        count = len(fits)
        rank = math.ceil(level * (count + 1) - 1e-9)
        if rank > count:
            infinite = np.full((len(subsets.sizes), self.scores.shape[1]), np.inf)
            return -infinite, infinite
        centres, reaches = fits.predict(subsets), fits.scale_of(subsets) * scores[:, None]
        lows, highs = np.sort(centres - reaches, axis=0), np.sort(centres + reaches, axis=0)
        return lows[count - rank], highs[rank - 1]


def calibrate(subsets: Described, truths: np.ndarray) -> Calibration:
    """Weigh K estimators by m retrained subsets.

    Parameters
    ----------
    subsets : Described
        What was known of the subsets, with their overlap (m, m, C) if effects of examples are learned.
    truths : array, shape (m, C)
        What the values really change by.

    Returns
    -------
    Calibration

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truths = rng.normal(size=(40, 1))
    >>> predictions = np.stack([truths + 0.1, 5 + 0 * truths], axis=1)
    >>> subsets = Described(predictions, np.full((40, 2, 1), np.inf), np.ones(40))
    >>> fit = calibrate(subsets, truths)
    >>> low, high = fit.interval(0.9, subsets)
    >>> int(fit.fits[0].best[0, 0]), bool(low[0, 0] < truths[0, 0] < high[0, 0])
    (0, True)
    """
    count, values = truths.shape
    blocks = blocks_of(values, ARRAYS * count**2)
    return Calibration.join([calibrate_values(subsets.pick_values(block), truths[:, block]) for block in blocks])


def calibrate_values(subsets: Described, truths: np.ndarray) -> Calibration:
    """Weigh estimators for a few values at once."""
    kinds = np.zeros(len(truths), dtype=np.int64) if subsets.kinds is None else subsets.kinds
    everything, residuals, scales = [], np.empty_like(truths), np.empty_like(truths)
    for kind in range(kinds.max() + 1):
        members = np.flatnonzero(kinds == kind)
        some, each = subsets.pick(members), np.arange(len(members))
        fits = fit_kind(some, truths[members], members, learns=kind == 0)
        left_out = fits.pick(slice(1, None))
        residuals[members] = truths[members] - left_out.predict(some)[each, each]
        scales[members] = left_out.scale_of(some)[each, each]
        everything.append(fits)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(residuals == 0, 0.0, np.abs(residuals) / scales)
    return Calibration(tuple(everything), truths, residuals, scores, kinds)


def fit_kind(subsets: Described, truths: np.ndarray, members: np.ndarray, learns: bool) -> Fits:
    """Return the weights fitted to m subsets of one kind, and those without each of them.

    members : (m,), the numbers of the subsets among all that are calibrated on. learns : if False, the weights are
    those of the best single estimators.
    """
    included = np.concatenate([np.ones((1, len(truths)), dtype=bool), ~np.eye(len(truths), dtype=bool)])
    fits, residuals = fit_weights(subsets, truths, included, PENALTIES if learns else ())
    return improve_weights(subsets, truths, members, included, fits, residuals) if learns else fits


def improve_weights(
    subsets: Described,
    truths: np.ndarray,
    members: np.ndarray,
    included: np.ndarray,
    fits: Fits,
    residuals: np.ndarray,
) -> Fits:
    """Return fits to m subsets, and without each of them, with what is learned of their errors where it is surely
    better."""
    predictions, sizes = subsets.predictions, subsets.sizes
    finite = finite_parts(predictions)
    # Few subsets teach an effect per size beside the ridge's weights.
    base = fits.weights if len(truths) < FEW else single_weights(fits.best, predictions.shape[1])
    errors = truths - weighed(predictions, base)
    overlap = None if subsets.overlap is None else subsets.overlap[:, members]
    learned = [
        learn(finite[:, :, c], sizes, errors[:, :, c], None if overlap is None else overlap[:, :, c])
        for c in range(truths.shape[1])
    ]
    weights, per_size, shares, left_out = (
        np.stack([getattr(one, name) for one in learned], axis=-1)
        for name in ("weights", "per_size", "shares", "left_out")
    )
    better = is_surely_better(left_out, residuals, sizes, included)
    if not better.any():
        return fits
    every = None
    if subsets.overlap is not None and shares.any():
        every = np.zeros((len(fits), *subsets.overlap.shape[1:]))
        every[:, members] = np.where(better[:, None], shares, 0.0)
    residuals = np.where(better[:, None], left_out, residuals)
    return replace(
        fits,
        weights=np.where(better[:, None], base + weights, fits.weights),
        scale=best_scale(residuals, sizes, chosen_errors(subsets.errors, fits.best), included),
        per_size=np.where(better, per_size, 0.0),
        shares=every,
    )
