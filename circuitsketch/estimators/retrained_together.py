"""What subsets that were retrained say of an estimator's errors: an interval for questions of their sizes, or as alike.

In: retrained subsets, what they changed, an estimator's estimates for them. Out: `RetrainedTogether`, which replaces
the error of an estimate by what the misses of such subsets were. Errors of series grow with the number of examples, and
where these act alike, in ways that random directions hardly see: so they are measured (THEORY section 10).

An error grows with a power of the size |h|^2, or with the estimator's own standard error times such a power: whichever
makes the misses most alike. Random subsets of each size have a level of their own, shrunk to that of all: PRIOR subsets
count for the latter. Alike subsets, of which there are few of any size, have one level, and their errors are at least
FLOOR of those of random subsets. Misses have heavier tails than a normal distribution, and the levels are known from a
few subsets: the quantile is Student's with FREEDOM degrees of freedom.

PRIOR, FLOOR and FREEDOM are heuristics, set on the 16 runs of bench/trust.py, with four draws of the subsets each, and
two of the directions and of the questions. On a third draw of directions and questions, and four of the subsets,
unwarned intervals of 95 % held below 90 % in 2 to 6 of 81 cells, and above 99 % in 22 to 32. The largest of 36 scores,
as conformal prediction takes it, is no safer and wider: above 99 % in half of the cells of random subsets, where this
was in a fifth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from circuitsketch.estimators.caveats import CALIBRATE, share_of
from circuitsketch.estimators.interface import Estimate
from circuitsketch.training.kinks import error_at

POWERS = (0.5, 1.0, 1.5, 2.0, 3.0)  # of the size, that errors may grow with
GROWTHS = (0.0, 0.5, 1.0)  # of the size, by which standard errors may be too small
PRIOR = 12.0
FLOOR = 0.75
FREEDOM = 7
ALIKE = -1  # the kind of subsets that are not random
MARGIN = 1.1  # by how much examples may exceed those of all retrained subsets of the kind


@dataclass(frozen=True, eq=False)
class ErrorLaw:
    """What an estimator's errors of subsets of a kind grow with, for C values.

    Attributes
    ----------
    scale : ndarray of int, of shape (C,)
        The number of the scale among those of `scales_of`.
    sizes : tuple of float
        Increasing, at which a level is known.
    levels : ndarray, of shape (sizes, C)
        The root mean square of misses over the scale.
    most : ndarray, of shape (2, C)
        The largest of `intensities_of` the subsets.
    """

    scale: np.ndarray
    sizes: tuple[float, ...]
    levels: np.ndarray
    most: np.ndarray

    @staticmethod
    def fit(
        sizes: tuple[float, ...],
        numbers: np.ndarray,
        misses: np.ndarray,
        squares: np.ndarray,
        stderr: np.ndarray,
        typical: np.ndarray,
    ) -> ErrorLaw:
        """Fit the law to the misses (m, C) of subsets of sizes `squares` (m,).

        numbers : (m,), the number among `sizes` of the level that a subset belongs to. stderr, typical : (m, C), the
        standard errors and the typical changes.
        """
        likelihoods, ratios = [], []
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for scale in scales_of(squares, stderr):
                ratio = misses / scale
                spread = np.log(ratio.mean(axis=0)) + np.log(scale).mean(axis=0)  # of Laplace's distribution
                likelihoods.append(np.where(np.isfinite(spread), spread, np.inf))
                ratios.append(ratio)
        best = np.argmin(likelihoods, axis=0)
        scores = np.take_along_axis(np.stack(ratios), best[None, None], axis=0)[0] ** 2
        members = np.arange(len(sizes))[:, None] == numbers
        counts = members.sum(axis=1)[:, None]
        levels = np.sqrt((PRIOR * scores.mean(axis=0) + members @ scores) / (PRIOR + counts))
        return ErrorLaw(best, sizes, levels, intensities_of(squares, stderr, typical).max(axis=1))

    def at(self, squares: np.ndarray, stderr: np.ndarray) -> np.ndarray:
        """Return the errors (B, C) of questions of sizes `squares` (B,), with standard errors (B, C)."""
        squares = np.maximum(squares, self.sizes[0])
        scales = np.stack(list(scales_of(squares, stderr)))
        scale: np.ndarray = np.take_along_axis(scales, self.scale[None, None], axis=0)[0]
        return scale * error_at(squares, self.sizes, self.levels[:, None])

    def exceeds(self, squares: np.ndarray, stderr: np.ndarray, typical: np.ndarray) -> np.ndarray:
        """Return where examples matter more, or are known less, than those of all retrained subsets, (B, C)."""
        return np.any(intensities_of(squares, stderr, typical) > MARGIN * self.most[:, None], axis=0)


def scales_of(squares: np.ndarray, stderr: np.ndarray) -> Iterator[np.ndarray]:
    """Yield what errors may grow with, (m, C), for sizes (m,) and standard errors (m, C)."""
    wide = squares[:, None]
    yield from (np.broadcast_to(wide**power, stderr.shape) for power in POWERS)
    yield from (stderr * wide**power for power in GROWTHS)


def intensities_of(squares: np.ndarray, stderr: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """Return how much an example typically changes, and the standard error for each, (2, m, C)."""
    wide = np.maximum(squares, np.finfo(float).tiny)[:, None]
    return np.stack([typical / np.sqrt(wide), stderr / wide])


@dataclass(frozen=True, eq=False)
class RetrainedTogether:
    """Subsets at random and alike ones, retrained, against what an estimator predicts for each.

    Attributes
    ----------
    random, alike : ErrorLaw
        Of random subsets, with a level for each size, and of alike ones.
    count : int
        How many subsets there are.
    """

    random: ErrorLaw
    alike: ErrorLaw
    count: int

    @staticmethod
    def compare(
        sizes: tuple[int, ...],
        kinds: np.ndarray,
        rows: np.ndarray,
        truth: np.ndarray,
        estimate: Estimate,
        typical: np.ndarray,
    ) -> RetrainedTogether:
        """Compare what subsets (m, n) of some kinds (m,) changed, (m, *S), with the estimate for each.

        kinds : the number among `sizes` of random subsets' size, or ALIKE. typical : (m, *S), the size of a change by
        such deletions.
        """
        count, squares = len(rows), (rows**2).sum(axis=1)
        misses = np.abs(truth - np.asarray(estimate.change))
        parts = [np.reshape(part, (count, -1)) for part in (misses, estimate.stderr, typical)]

        def fit(some: np.ndarray, sizes: tuple[float, ...]) -> ErrorLaw:
            misses, stderr, typical = (part[some] for part in parts)
            return ErrorLaw.fit(sizes, np.maximum(kinds[some], 0), misses, squares[some], stderr, typical)

        alike = kinds == ALIKE
        return RetrainedTogether(fit(~alike, sizes), fit(alike, (1.0,)), count)

    def apply(
        self, estimate: Estimate, rows: np.ndarray, is_alike: np.ndarray, typical: np.ndarray, is_special: np.ndarray
    ) -> Estimate:
        """Replace the error of an estimate for h's (B, n) of such sizes, or of alike examples, and trust them.

        What was said against such an h no longer counts: the error is known. Where its examples matter more, or are
        known less, than those of all retrained subsets of its kind, its error does not shrink, and a warning says so.

        is_alike : (B,), whether the examples of an h are alike. typical : (B, *S), the size of a change by such
        deletions. is_special : (B,), whether an h has examples that are known to be worse than others; then its error
        does not shrink, and what was said against it remains.
        """
        shape, flat = np.shape(estimate.change), (len(rows), -1)
        stderr, outside, freedom, change = (
            np.broadcast_to(np.asarray(part), shape).reshape(flat)
            for part in (estimate.stderr, estimate.outside, estimate.degrees_of_freedom, estimate.change)
        )
        squares, typical = (rows**2).sum(axis=1), typical.reshape(flat)
        several: np.ndarray = np.count_nonzero(rows, axis=1) > 1
        within = ((rows >= 0) & (rows <= 1)).all(axis=1) & (squares <= self.random.sizes[-1] * (1 + 1e-9))
        alike = (several & within & is_alike)[:, None]
        sized = (several & within)[:, None] & (outside | (squares >= self.random.sizes[0])[:, None])
        known = sized | alike
        of_random, of_alike = self.random.at(squares, stderr), self.alike.at(squares, stderr)
        error = np.where(alike, np.maximum(of_alike, FLOOR * of_random), of_random)
        beyond = known & np.where(
            alike, self.alike.exceeds(squares, stderr, typical), self.random.exceeds(squares, stderr, typical)
        )
        kept = beyond | is_special[:, None]
        error = np.where(known, np.where(kept, np.maximum(error, stderr), error), stderr)
        freedom = np.where(known, np.where(kept, np.minimum(freedom, FREEDOM), FREEDOM), freedom)
        noisy = known & (error > np.maximum(np.abs(change), typical))
        is_settled = bool(known.all() and not is_special.any())
        doubts, notes = (() if is_settled else estimate.doubts), (() if is_settled else estimate.notes)
        if beyond.any():
            doubts += (
                "these examples matter more to the measurement, or their series leave out more, than those of any of "
                f"the {self.count} subsets that were retrained{share_of(beyond.reshape(shape))}: the interval is not "
                "known to hold for them; query.calibrate() with subsets like this one",
            )
        if noisy.any() and is_settled:
            notes += (
                f"the error, by {self.count} retrained subsets, exceeds the change, and what such examples typically "
                f"change{share_of(noisy.reshape(shape))}: {CALIBRATE}",
            )
        return replace(
            estimate,
            stderr=error.reshape(shape),
            degrees_of_freedom=freedom.reshape(shape),
            outside=((outside & ~known) | beyond).reshape(shape),
            doubts=doubts,
            warnings=() if is_settled else estimate.warnings,
            notes=notes,
        )
