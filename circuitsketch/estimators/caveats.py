"""What no series knows of a deletion, added to the error of an estimate: kinks, and examples retrained alone.

In: an `Estimate` of any estimator; what crossing kinks changes, or what a few examples retrained alone changed. Out:
the same estimate with a wider error, and a sentence where that matters: a note where the error holds what is said, and
a doubt where it may not. Where neither adds anything, the estimate is returned as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from circuitsketch.estimators.interface import Estimate
from circuitsketch.training.kinks import Kinks, error_at

NORMAL = 1e6  # degrees of freedom: the normal distribution
HALF = 0.5  # of the interval's half-width, above which an error of kinks is named
MISSED = 3.0  # standard errors beyond which an example retrained alone contradicts a prediction
ROUNDING = 1e-9  # of the change, below which nothing contradicts
CALIBRATE = "query.calibrate() retrains subsets, and gives an interval that holds for subsets like them"


@dataclass(frozen=True, eq=False)
class KinkErrors:
    """What crossing kinks adds to a measurement of shape S, by how far random deletions move the parameters.

    Attributes
    ----------
    summary : Kinks
        How many elements cross, and where.
    errors : ndarray, of shape (sizes, draws, *S), or None
        What that changes; None if it is unknown.
    moves : ndarray, of shape (n, p), or None
        First-order effects of the examples on the parameters; without them a deletion counts by its size.
    lengths : tuple of float
        The mean squared move of the random deletions, by their size.
    """

    summary: Kinks
    errors: np.ndarray | None
    moves: np.ndarray | None = None
    lengths: tuple[float, ...] = ()

    @staticmethod
    def of(summary: Kinks, errors: np.ndarray, weights: np.ndarray, moves: np.ndarray | None) -> KinkErrors:
        """Order the errors of random deletions (sizes, draws, n) by how far these move the parameters."""
        squares = move_of(weights, moves).mean(axis=1)
        return KinkErrors(summary, errors, moves, tuple(np.maximum.accumulate(squares).tolist()))

    def apply(self, estimate: Estimate, rows: np.ndarray, typical: np.ndarray) -> Estimate:
        """Widen an estimate for h's (B, n); its arrays have the axis B, or not for a single h.

        typical : (B, *S), the size of a change by such deletions. An error of kinks is named where it is a good part
        of that, and of the interval.
        """
        sizes = (rows**2).sum(axis=1)
        if self.errors is None:
            where = ", ".join(self.summary.kinks)
            sentence = (
                f"the run has kinks ({where}), and what this deletion moves across them is unknown without the run, "
                f"or where first order overflows: open the sketch with cs.open_sketch(path, run), or {CALIBRATE}"
            )
            return replace(estimate, doubts=(*estimate.doubts, sentence)) if sizes.any() else estimate
        error = error_at(sizes, self.summary.sizes, self.errors)
        if self.moves is not None:  # of alike examples, which move the parameters farther than random ones
            error = np.maximum(error, error_at(move_of(rows, self.moves), self.lengths, self.errors))
        matters = error > HALF * typical
        single = np.ndim(estimate.change) < error.ndim
        error, matters = (error[0], matters[0]) if single else (error, matters)
        matters = matters & (error > HALF * half_width_of(estimate))
        widened = widen(estimate, error)
        if not matters.any():
            return widened
        size = float(sizes[0] if single else sizes[matters.reshape(len(rows), -1).any(axis=1)].max())
        sentence = (
            f"a deletion of this size moves about {self.summary.expected(size):.2g} elements across kinks, most of "
            f"them of {self.summary.worst(size)}; that may change the measurement by {error[matters].max():.2g}"
            f"{share_of(matters)}, which no series knows and the error holds: {CALIBRATE}"
        )
        return replace(widened, notes=(*widened.notes, sentence))


@dataclass(frozen=True, eq=False)
class RetrainedAlone:
    """A few examples, retrained alone, against what an estimator predicts for each.

    Attributes
    ----------
    ids : ndarray of int, of shape (k,)
        The examples.
    misses : ndarray, of shape (k, *S)
        By how much the prediction is off; 0 where the retrained value lies within a few of its errors.
    errors : ndarray, of shape (n, *S)
        What the error of every other example alone lacks, a root mean square over those that were chosen at random.
    remedy : str
        What would let a series of these examples converge, if that is known.
    """

    ids: np.ndarray
    misses: np.ndarray
    errors: np.ndarray
    remedy: str = ""

    @staticmethod
    def compare(
        ids: np.ndarray, truth: np.ndarray, estimate: Estimate, is_random: np.ndarray, n: int
    ) -> RetrainedAlone:
        """Compare what k of n examples, each retrained alone, changed, (k, *S), with the estimate for each.

        is_random : (k,), whether an example was chosen at random.
        """
        miss = truth - estimate.change
        rounding = ROUNDING * (np.abs(truth) + np.abs(estimate.change) + np.abs(truth).max(axis=0))
        wrong = np.abs(miss) > MISSED * estimate.stderr + rounding
        excess = np.maximum(miss**2 - estimate.stderr**2, 0.0)[is_random].mean(axis=0)
        errors = np.broadcast_to(np.sqrt(excess), (n, *excess.shape)).copy()
        errors[ids] = 0.0  # known
        return RetrainedAlone(ids, np.where(wrong, miss, 0.0), errors)

    def find_special(self, rows: np.ndarray, times: float) -> np.ndarray:
        """Return which h's (B, n) have examples whose misses are so many times larger than random ones', (B,)."""
        squares = self.misses.reshape(len(self.ids), -1) ** 2
        mean = squares.sum(axis=0) / rows.shape[1]
        found: np.ndarray = (rows[:, self.ids] ** 2 @ squares > times * (rows**2).sum(axis=1)[:, None] * mean).any(
            axis=1
        )
        return found

    def worst(self, count: int) -> np.ndarray:
        """Return the examples of the largest misses, at most so many."""
        sizes = np.linalg.norm(self.misses.reshape(len(self.ids), -1), axis=1)
        order = np.argsort(-sizes, kind="stable")[:count]
        ids: np.ndarray = self.ids[order[sizes[order] > 0]]
        return ids

    def apply(self, estimate: Estimate, rows: np.ndarray) -> Estimate:
        """Widen an estimate for h's (B, n); its arrays have the axis B, or not for a single h."""
        weights = rows[:, self.ids]
        squares = np.tensordot(rows**2, self.errors**2, axes=1)
        missed = np.tensordot(weights**2, self.misses**2, axes=1)
        error = np.sqrt(missed + squares)
        error = error[0] if np.ndim(estimate.change) == np.ndim(self.misses) - 1 else error
        missed = np.sqrt(missed[0] if np.ndim(estimate.change) == np.ndim(self.misses) - 1 else missed)
        if not error.any():
            return estimate
        wrong = self.misses.reshape(len(self.ids), -1).any(axis=1) & weights.any(axis=0)
        worst = int(np.argmax(np.where(wrong, np.linalg.norm(self.misses.reshape(len(self.ids), -1), axis=1), -1.0)))
        miss = np.abs(self.misses[worst]).max()
        matters = missed > HALF * half_width_of(estimate)
        widened = widen(estimate, error)
        if not matters.any():
            return widened
        sentence = (
            f"example {self.ids[worst]} was retrained alone, and changes the measurement by {miss:.2g} more or less "
            f"than predicted (of {len(self.ids)} that were retrained, {int(wrong.sum())} in this deletion are off): "
            "the optimiser's step hardly shrinks with the example's weight until that is nearly 0, as Adam's where "
            f"eps_root is small against the squared gradients{self.remedy}; query.retrain_worst(16) corrects single "
            f"examples, and {CALIBRATE}"
        )
        return replace(widened, doubts=(*widened.doubts, sentence))


def typical_change(rows: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Return the size of a change by deletions h (B, n), whose examples act apart: (B, *S).

    effects : (n, *S), of first order. An example's counts as their root mean square at least.
    """
    squares = effects**2
    result: np.ndarray = np.sqrt(np.tensordot(rows**2, np.maximum(squares, squares.mean(axis=0)), axes=1))
    return result


def move_of(rows: np.ndarray, moves: np.ndarray | None) -> np.ndarray:
    """Return the squared first-order move of h's (..., n), or their squared lengths |h|^2."""
    moved = rows if moves is None else rows @ moves
    squares: np.ndarray = (moved**2).sum(axis=-1)
    return squares


def half_width_of(estimate: Estimate, level: float = 0.95) -> np.ndarray:
    """Return the half-width of the interval of an estimate that has no bounds of its own."""
    from scipy.special import stdtrit  # a slow import

    freedom = np.asarray(estimate.degrees_of_freedom, dtype=np.float64)
    quantile = np.where(freedom > 0, stdtrit(np.maximum(freedom, 1), 0.5 + level / 2), math.inf)
    stderr = np.asarray(estimate.stderr)
    return np.multiply(stderr, quantile, out=np.zeros(stderr.shape), where=stderr > 0)


def widen(estimate: Estimate, error: np.ndarray) -> Estimate:
    """Add an independent error of many degrees of freedom; unchanged where it is 0.

    The degrees of freedom of the sum are those of Satterthwaite's rule.
    """
    if not error.any():
        return estimate
    stderr, freedom = np.asarray(estimate.stderr), np.asarray(estimate.degrees_of_freedom, dtype=np.float64)
    total = np.where(error > 0, np.hypot(stderr, error), stderr)
    with np.errstate(invalid="ignore", divide="ignore"):
        raised = np.minimum(freedom / (stderr / total) ** 4, NORMAL)
    freedom = np.where((error == 0) | np.isinf(stderr), freedom, np.where(stderr == 0, NORMAL, raised))
    return replace(estimate, stderr=total, degrees_of_freedom=freedom)


def share_of(where: np.ndarray) -> str:
    """Return at how many values something is so, in words; nothing for a single value."""
    return f" (at {int(where.sum())} of {where.size} values)" if where.ndim else ""
