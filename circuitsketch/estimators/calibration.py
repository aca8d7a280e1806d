"""Weigh estimators by retrained subsets, and give their combination conformal intervals.

Whatever an estimator assumes, retraining a few dozen subsets of the kind that is asked about says how far it is off
(THEORY section 10). From m such subsets, per measured value:

1. The best single estimator: the one of the least weighted mean squared error, "no change" (zero) among them.
2. Weights that improve on it: a ridge regression of the true changes on the predicted ones, pulled towards the best
   single estimator. It is taken only where it predicts subsets left out better by more than chance allows.
3. An interval, by the jackknife+ (Barber, Candès, Ramdas and Tibshirani, 2021): every subset is predicted by a fit
   without it (steps 1 and 2 included), and its residual is divided by a scale that grows as errors were seen to grow.
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
from dataclasses import dataclass

import numpy as np

# Penalties of the ridge, in units of the predictions' own weighted squares; infinity is the best single estimator.
PENALTIES = (0.01, 0.1, 1.0)
# How many standard errors of the difference weights must improve on the best single estimator by, to be taken.
MARGIN = 1.0
# What an error may grow with: a power of the size |h|^2 (a sum of independent errors has 1/2, what r examples do
# together r/2, what all of alike ones do r), or the best single estimator's own standard error.
POWERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
SCALES = (*(f"size^{power:g}" for power in POWERS), "standard error")
MIN_SUBSETS = 8  # fewer retrained subsets say too little of anything
LEAST_FOR_95 = 19  # retrained subsets, below which an interval of 95 % is infinite


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of K estimators for C values.

    Attributes
    ----------
    weights : (K, C). best : (C,), the best single estimator's number, K for "no change".
    scale : (C,), which of SCALES an error grows with.
    """

    weights: np.ndarray
    best: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class Calibration:
    """What m retrained subsets say of some estimators' predictions.

    Attributes
    ----------
    weights : the estimators' weights, for each kind of subsets. left_out : the same, fitted without each subset.
    truths : (m, C), what the subsets really changed.
    residuals : (m, C), what a subset's true change is above its prediction by the fit without it.
    scores : (m, C), the sizes of the residuals over their scale.
    kinds : (m,), the number of each subset's kind.
    """

    weights: tuple[Weights, ...]
    left_out: tuple[Weights, ...]
    truths: np.ndarray
    residuals: np.ndarray
    scores: np.ndarray
    kinds: np.ndarray

    def predict(self, predictions: np.ndarray, kinds: np.ndarray | None = None) -> np.ndarray:
        """Return the weighed change, (B, C), of the estimators' changes (B, K, C), for subsets of some kinds (B,)."""
        change = weighed(predictions, self.weights[0].weights)
        for kind, weights in enumerate(self.weights[1:], 1) if kinds is not None else ():
            change[kinds == kind] = weighed(predictions[kinds == kind], weights.weights)
        return change

    def interval(
        self,
        level: float,
        predictions: np.ndarray,
        sizes: np.ndarray,
        errors: np.ndarray,
        kinds: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of the change, (B, C) each, for B subsets of some sizes and kinds.

        predictions, errors : (B, K, C), what the estimators say and their standard errors.
        """
        ends = np.empty((2, len(sizes), self.scores.shape[1]))
        for kind in range(len(self.weights)):
            asked = np.full(len(sizes), kind == 0) if kinds is None else kinds == kind
            if asked.any():
                ends[:, asked] = self.interval_of(kind, level, predictions[asked], sizes[asked], errors[asked])
        return ends[0], ends[1]

    def interval_of(
        self, kind: int, level: float, predictions: np.ndarray, sizes: np.ndarray, errors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of subsets of one kind, as `interval`."""
        known = np.flatnonzero(self.kinds == kind)
        fits, count = [self.left_out[j] for j in known], len(known)
        rank = math.ceil(level * (count + 1) - 1e-9)
        if rank > count:
            infinite = np.full((len(sizes), self.scores.shape[1]), np.inf)
            return -infinite, infinite
        centres = np.stack([weighed(predictions, fit.weights) for fit in fits])
        reaches = np.stack([scale_of(fit, sizes, errors) for fit in fits]) * self.scores[known, None]
        lows, highs = np.sort(centres - reaches, axis=0), np.sort(centres + reaches, axis=0)
        return lows[count - rank], highs[rank - 1]


def calibrate(
    predictions: np.ndarray,
    errors: np.ndarray,
    sizes: np.ndarray,
    truths: np.ndarray,
    kinds: np.ndarray | None = None,
) -> Calibration:
    """Weigh K estimators by m retrained subsets.

    Parameters
    ----------
    predictions : array, shape (m, K, C)
        What each estimator says that each of C values changes by.
    errors : array, shape (m, K, C)
        Its standard errors; infinite or NaN where it has none.
    sizes : array, shape (m,)
        The sizes |h|^2 of the subsets, above 0.
    truths : array, shape (m, C)
        What the values really change by.
    kinds : array of int, shape (m,), optional
        The number of each subset's kind, from 0 on; by default all are of one kind.

    Returns
    -------
    Calibration

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truths = rng.normal(size=(40, 1))
    >>> predictions = np.stack([truths + 0.1, 5 + 0 * truths], axis=1)
    >>> fit = calibrate(predictions, np.full((40, 2, 1), np.inf), np.ones(40), truths)
    >>> low, high = fit.interval(0.9, predictions[:1], np.ones(1), np.full((1, 2, 1), np.inf))
    >>> int(fit.weights[0].best[0]), bool(low[0, 0] < truths[0, 0] < high[0, 0])
    (0, True)
    """
    count = len(truths)
    kinds = np.zeros(count, dtype=np.int64) if kinds is None else kinds
    fits, residuals, scales = [], np.empty_like(truths), np.empty_like(truths)

    def fit_some(some: np.ndarray, kind: int) -> Weights:
        penalties = PENALTIES if kind == 0 else ()
        return fit_weights(predictions[some], errors[some], sizes[some], truths[some], penalties)

    for j in range(count):
        rest = np.flatnonzero(kinds == kinds[j])
        fit = fit_some(rest[rest != j], kinds[j])
        residuals[j] = truths[j] - weighed(predictions[j : j + 1], fit.weights)[0]
        scales[j] = scale_of(fit, sizes[j : j + 1], errors[j : j + 1])[0]
        fits.append(fit)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(residuals == 0, 0.0, np.abs(residuals) / scales)
    weights = tuple(fit_some(np.flatnonzero(kinds == kind), kind) for kind in range(kinds.max() + 1))
    return Calibration(weights, tuple(fits), truths, residuals, scores, kinds)


def fit_weights(
    predictions: np.ndarray,
    errors: np.ndarray,
    sizes: np.ndarray,
    truths: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
) -> Weights:
    """Fit the weights of K estimators, the best single one without penalties, and the scale of what is left."""
    best = best_single(predictions, sizes, truths)
    weights = single_weights(best, predictions.shape[1])
    residuals = truths - weighed(predictions, weights)
    predictions = np.where(np.isfinite(predictions).all(axis=0), predictions, 0.0)  # of no use where they overflow
    single = residuals**2 / sizes[:, None]
    least = single.mean(axis=0)
    for penalty in penalties:
        pulled, left_out = ridge(predictions, sizes, truths, single_weights(best, predictions.shape[1]), penalty)
        gain = single - left_out**2 / sizes[:, None]
        sure = gain.mean(axis=0) > MARGIN * gain.std(axis=0, ddof=1) / math.sqrt(len(gain))
        error = (left_out**2 / sizes[:, None]).mean(axis=0)
        better = sure & (error < least)
        weights, least = np.where(better, pulled, weights), np.where(better, error, least)
        residuals = np.where(better, left_out, residuals)
    return Weights(weights, best, best_scale(residuals, sizes, chosen_errors(errors, best)))


def best_single(predictions: np.ndarray, sizes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Return the number of the estimator of the least weighted squared error per value; K is "no change"."""
    none = np.zeros_like(predictions[:, :1])
    squares = (truths[:, None] - np.concatenate([predictions, none], axis=1)) ** 2 / sizes[:, None, None]
    return np.argmin(np.where(np.isfinite(squares), squares, np.inf).mean(axis=0), axis=0)


def weighed(predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sum over K of weights (K, C) times predictions (B, K, C), of which those of no weight may overflow."""
    return np.einsum("bkc,kc->bc", np.where(weights == 0, 0.0, predictions), weights)


def single_weights(best: np.ndarray, count: int) -> np.ndarray:
    """Return the weights (K, C) that take one estimator per value, or none."""
    return (np.arange(count)[:, None] == best).astype(np.float64)


def ridge(
    predictions: np.ndarray, sizes: np.ndarray, truths: np.ndarray, centre: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights (K, C) that are pulled towards `centre`; return them, and the residuals of subsets left out (m, C).

    Minimises sum_j (y_j - p_j b)^2 / size_j + penalty sum_k S_k (b_k - centre_k)^2 with S_k = sum_j p_jk^2 / size_j.
    The residual of a fit without subset j is that of the fit to all over 1 - H_jj, with H the matrix from y to p b.
    """
    root = np.sqrt(sizes)[:, None, None]
    x, y = predictions / root, truths / root[:, 0]
    squares = (x**2).sum(axis=0)
    gram = np.einsum("mkc,mlc->ckl", x, x)
    k = np.arange(gram.shape[1])
    scale = np.sqrt(np.where(squares > 0, squares, 1.0)).T  # (C, K): predictions of any unit are penalised alike
    system = gram / scale[:, :, None] / scale[:, None, :]
    system[:, k, k] += penalty
    rows = np.einsum("mkc,ck->cmk", x, 1 / scale)
    solved = np.linalg.solve(system, rows.transpose(0, 2, 1))  # (C, K, m)
    hat = np.einsum("cmk,ckm->mc", rows, solved)
    off = y - np.einsum("mkc,kc->mc", x, centre)
    moved = np.einsum("ckm,mc->ck", solved, off)
    left_out = (off - np.einsum("cmk,ck->mc", rows, moved)) / (1 - hat)
    return centre + (moved / scale).T, left_out * root[:, 0]


def chosen_errors(errors: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the standard errors (m, C) of each value's best single estimator; NaN for "no change"."""
    count = errors.shape[1]
    picked = np.take_along_axis(errors, np.minimum(best, count - 1)[None, None, :], axis=1)[:, 0]
    return np.where(best == count, np.nan, picked)


def best_scale(residuals: np.ndarray, sizes: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return which of SCALES makes residuals (m, C) most alike, by the likelihood of Laplace's distribution."""
    logs = []
    for scale in scales_of(sizes, errors):
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.log((np.abs(residuals) / scale).mean(axis=0)) + np.log(scale).mean(axis=0)
        logs.append(np.where(np.isfinite(spread), spread, np.inf))
    logs[0] = np.where(np.isfinite(logs[0]), logs[0], 0.0)  # residuals that are all zero: any scale does
    return np.argmin(logs, axis=0)


def scale_of(weights: Weights, sizes: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the scale (B, C) of the error of subsets of B sizes, with the estimators' errors (B, K, C)."""
    scales = np.stack(list(scales_of(sizes, chosen_errors(errors, weights.best))))
    return np.take_along_axis(scales, weights.scale[None, None, :], axis=0)[0]


def scales_of(sizes: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the scales (m, C) that an error may grow with, in the order of SCALES."""
    return (*(np.broadcast_to(sizes[:, None] ** power, errors.shape) for power in POWERS), errors)
