"""Weights of estimators, fitted to retrained subsets, and what the error of the fit grows with.

In: what is known of subsets before they are retrained, and what they really change. Out: F fits at once, to some of the
subsets each: the best single estimator's weights or better ones, with the errors of subsets left out.

Errors of subsets of different sizes are weighed by 1 / size, as if an error's variance grew with the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# Penalties of the ridge, in units of the predictions' own weighted squares; infinity is the best single estimator.
PENALTIES = (0.01, 0.1, 1.0)
# How many standard errors of the difference weights must improve on the best single estimator by, to be taken.
MARGIN = 1.0
# What an error may grow with: a power of the size |h|^2 (a sum of independent errors has 1/2, what r examples do
# together r/2, what all of alike ones do r), or the best single estimator's own standard error.
POWERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
SCALES = (*(f"size^{power:g}" for power in POWERS), "standard error")


@dataclass(frozen=True, eq=False)
class Described:
    """What is known of B subsets before they are retrained.

    Attributes
    ----------
    predictions : ndarray, of shape (B, K, C)
        What each of K estimators says that each of C values changes by.
    errors : ndarray, of shape (B, K, C)
        Its standard errors; infinite or NaN where it has none.
    sizes : ndarray, of shape (B,)
        The sizes |h|^2, above 0.
    overlap : ndarray, of shape (B, m, C), or None
        What they have in common with the m subsets that are calibrated on; see `Overlap`.
    kinds : ndarray of int, of shape (B,), or None
        The number of each subset's kind, from 0 on; None where all are of one kind.
    """

    predictions: np.ndarray
    errors: np.ndarray
    sizes: np.ndarray
    overlap: np.ndarray | None = field(default=None, repr=False)
    kinds: np.ndarray | None = None

    def pick(self, some: np.ndarray) -> Described:
        """Return what is known of some of the subsets."""
        overlap, kinds = (None if part is None else part[some] for part in (self.overlap, self.kinds))
        return Described(self.predictions[some], self.errors[some], self.sizes[some], overlap, kinds)

    def pick_values(self, some: slice) -> Described:
        """Return what is known of the subsets for some of the values."""
        overlap = None if self.overlap is None else self.overlap[..., some]
        return Described(self.predictions[..., some], self.errors[..., some], self.sizes, overlap, self.kinds)


@dataclass(frozen=True, eq=False)
class Fits:
    """F fits of the weights of K estimators for C values.

    Attributes
    ----------
    weights : (F, K, C). best : (F, C), the best single estimator's number, K for "no change".
    scale : (F, C), which of SCALES an error grows with.
    per_size : (F, C), what is added per size of a subset, and shares : (F, m, C), per overlap with each of m retrained
        subsets; None where no fit adds anything, see `learned_effects`.
    """

    weights: np.ndarray
    best: np.ndarray
    scale: np.ndarray
    per_size: np.ndarray | None = None
    shares: np.ndarray | None = None

    @staticmethod
    def join(parts: Sequence[Fits]) -> Fits:
        """Return fits for all values, of those for some of them each."""

        def join_one(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts], axis=-1)

        def join_learned(name: str) -> np.ndarray | None:
            some = [getattr(part, name) for part in parts]
            shapes = [one.shape[:-1] for one in some if one is not None]
            if not shapes:
                return None
            none = [np.zeros((*shapes[0], part.best.shape[1])) for part in parts]
            return np.concatenate([n if one is None else one for n, one in zip(none, some, strict=True)], axis=-1)

        return Fits(
            join_one("weights"), join_one("best"), join_one("scale"), join_learned("per_size"), join_learned("shares")
        )

    def __len__(self) -> int:
        return len(self.weights)

    def pick(self, some: slice) -> Fits:
        """Return some of the fits."""
        per_size, shares = (None if part is None else part[some] for part in (self.per_size, self.shares))
        return Fits(self.weights[some], self.best[some], self.scale[some], per_size, shares)

    def predict(self, subsets: Described) -> np.ndarray:
        """Return the changes that the fits say of B subsets, (F, B, C)."""
        change = weighed(subsets.predictions, self.weights)
        if self.per_size is not None:
            change += subsets.sizes[:, None] * self.per_size[:, None]
        if self.shares is not None and subsets.overlap is not None:
            change += np.einsum("bmc,fmc->fbc", subsets.overlap, self.shares, optimize=True)
        return change

    def scale_of(self, subsets: Described) -> np.ndarray:
        """Return the scale of the error of B subsets by the fits, (F, B, C)."""
        errors = chosen_errors(subsets.errors, self.best)
        scales = np.broadcast_to(np.nan, errors.shape).copy()
        for number, scale in enumerate(scales_of(subsets.sizes, errors)):
            scales = np.where(self.scale[:, None] == number, scale, scales)
        return scales


def fit_weights(
    subsets: Described, truths: np.ndarray, included: np.ndarray, penalties: Sequence[float] = PENALTIES
) -> tuple[Fits, np.ndarray]:
    """Fit the weights of K estimators, the best single one without penalties, and the scale of what is left.

    Parameters
    ----------
    subsets : Described
        m subsets.
    truths : array, shape (m, C)
        What they really change.
    included : array of bool, shape (F, m)
        Which of the subsets each of F fits is to.
    penalties : sequence of float
        Of the ridge regressions.

    Returns
    -------
    fits : Fits
    residuals : ndarray, of shape (F, m, C)
        Of the subsets of a fit, each by one of such weights without it; 0 for others.
    """
    predictions, sizes = subsets.predictions, subsets.sizes
    best = best_single(predictions, sizes, truths, included)
    single = single_weights(best, predictions.shape[1])
    errors = np.where(included[:, :, None], truths - weighed(predictions, single), 0.0)
    weights, residuals, least = single, errors, mean_square(errors, sizes, included)
    predictions = finite_parts(predictions)
    for penalty in penalties:
        pulled, left_out = ridge(predictions, sizes, errors, single, penalty, included)
        error = mean_square(left_out, sizes, included)
        better = is_surely_better(left_out, errors, sizes, included) & (error < least)
        weights, least = np.where(better[:, None], pulled, weights), np.where(better, error, least)
        residuals = np.where(better[:, None], left_out, residuals)
    scale = best_scale(residuals, sizes, chosen_errors(subsets.errors, best), included)
    return Fits(weights, best, scale), residuals


def mean_over(values: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Return the means of values (F, m, C) over the subsets of each fit, (F, C)."""
    mean: np.ndarray = np.where(included[:, :, None], values, 0.0).sum(axis=1) / included.sum(axis=1)[:, None]
    return mean


def mean_square(residuals: np.ndarray, sizes: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Return the weighted mean squares of residuals (F, m, C) over the subsets of each fit, (F, C)."""
    return mean_over(residuals**2 / sizes[:, None], included)


def is_surely_better(residuals: np.ndarray, others: np.ndarray, sizes: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Return whether residuals (F, m, C) are smaller than others by more than chance allows, (F, C)."""
    gain = (others**2 - residuals**2) / sizes[:, None]
    mean, count = mean_over(gain, included), included.sum(axis=1)[:, None]
    variance = mean_over((gain - mean[:, None]) ** 2, included) / (count - 1)
    sure: np.ndarray = mean > MARGIN * np.sqrt(variance)
    return sure


def finite_parts(predictions: np.ndarray) -> np.ndarray:
    """Return predictions (m, K, C), 0 for estimators that overflow for some subset: they are of no use."""
    return np.where(np.isfinite(predictions).all(axis=0), predictions, 0.0)


def best_single(predictions: np.ndarray, sizes: np.ndarray, truths: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Return the number of the estimator of the least weighted squared error per value, (F, C); K is "no change"."""
    none = np.zeros_like(predictions[:, :1])
    squares = (truths[:, None] - np.concatenate([predictions, none], axis=1)) ** 2 / sizes[:, None, None]
    squares = np.where(included[:, :, None, None], np.where(np.isfinite(squares), squares, np.inf), 0.0)
    return np.argmin(squares.sum(axis=1), axis=1)


def weighed(predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sums over K of weights (F, K, C) times predictions (B, K, C), of which those of no weight may
    overflow, (F, B, C)."""
    used = (weights != 0).any(axis=0)
    if np.isfinite(predictions[:, used]).all():
        return np.einsum("bkc,fkc->fbc", np.where(used, predictions, 0.0), weights)
    return np.einsum("fbkc,fkc->fbc", np.where(weights[:, None] == 0, 0.0, predictions), weights)


def single_weights(best: np.ndarray, count: int) -> np.ndarray:
    """Return the weights (F, K, C) that take one estimator per value, or none."""
    return (np.arange(count)[:, None] == best[:, None]).astype(np.float64)


def ridge(
    predictions: np.ndarray,
    sizes: np.ndarray,
    errors: np.ndarray,
    centre: np.ndarray,
    penalty: float,
    included: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights (F, K, C) that are pulled towards `centre`, of which the errors are; return them, and the residuals
    of subsets left out, (F, m, C).

    Minimises sum_j (y_j - p_j b)^2 / size_j + penalty sum_k S_k (b_k - centre_k)^2 with S_k = sum_j p_jk^2 / size_j.
    The residual of a fit without subset j is that of the fit to all over 1 - H_jj, with H the matrix from y to p b.
    """
    root = np.sqrt(sizes)[:, None]
    x, off = predictions / root[:, None], errors / root
    gram = np.einsum("fm,mkc,mlc->fckl", included.astype(np.float64), x, x, optimize=True)
    k = np.arange(gram.shape[-1])
    squares = gram[..., k, k]  # (F, C, K)
    scale = np.sqrt(np.where(squares > 0, squares, 1.0))  # predictions of any unit are penalised alike
    system = gram / scale[..., :, None] / scale[..., None, :]
    system[..., k, k] += penalty
    inverse = np.linalg.inv(system) / scale[..., :, None] / scale[..., None, :]
    moved = np.einsum("fckl,mlc,fmc->fkc", inverse, x, off, optimize=True)
    hat = np.einsum("mkc,fckl,mlc->fmc", x, inverse, x, optimize=True)
    left_out = (off - np.einsum("mkc,fkc->fmc", x, moved)) / (1 - hat)
    return centre + moved, np.where(included[:, :, None], left_out * root, 0.0)


def chosen_errors(errors: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the standard errors (m, K, C) of each value's best single estimator, (F, m, C); NaN for "no change"."""
    count = errors.shape[1]
    picked = np.full((len(best), len(errors), best.shape[1]), np.nan)
    for k in range(count):
        picked = np.where(best[:, None] == k, errors[:, k], picked)
    return picked


def best_scale(residuals: np.ndarray, sizes: np.ndarray, errors: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Return which of SCALES makes residuals (F, m, C) most alike, by the likelihood of Laplace's distribution."""
    logs = []
    for scale in scales_of(sizes, errors):
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.log(mean_over(np.abs(residuals) / scale, included)) + mean_over(np.log(scale), included)
        logs.append(np.where(np.isfinite(spread), spread, np.inf))
    logs[0] = np.where(np.isfinite(logs[0]), logs[0], 0.0)  # residuals that are all zero: any scale does
    return np.argmin(logs, axis=0)


def scales_of(sizes: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the scales that errors (F, m, C) may grow with, in the order of SCALES, broadcastable to these."""
    return (*(sizes[:, None] ** power for power in POWERS), errors)
