"""What retrained subsets teach of a prediction's error, beyond how to weigh estimators: a Gaussian process.

In: m retrained subsets, what an estimator is off by for each, what estimators predict, which examples the subsets
share. Out: corrections of the fit to all subsets, and of those without one of them: changes of the estimators' weights,
an effect per size, and effects of the examples that the retrained subsets deleted.

An error, divided by the root of the subset's size, is a Gaussian process plus independent noise. Two subsets' errors
correlate as the estimators' predictions for them do (then an estimator is wrong by a factor), as their sizes (then it
is wrong by something per example), and by the examples that both delete: counted, and weighed by their squared
first-order effects (then single examples' effects are wrong; the ridge regression of a datamodel is the case of counted
examples and an estimator that predicts nothing). What there is of each, and how much noise, follows from the subsets:
predictions by all KERNELS and PENALTIES are averaged by their evidence, with PRIOR_OF_NONE for no correction (Rasmussen
and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5; scales of the noise are marginalised).

A fit without one subset follows from the inverse matrix of all by a rank-one update, so that all m + 1 fits cost little
more than one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuitsketch.limits import blocks_of

# What predictions, sizes and examples in common (an overlap of 2 per example, on average) add to the covariance.
KERNELS = ((1 / 2, 1 / 2, 0.0), (1 / 4, 1 / 4, 1 / 4), (0.0, 1 / 3, 1 / 3))
PER_SIZE = ((0.0, 1.0, 0.0),)
FEW = 19  # below so many subsets only an effect per size is learned: weights learned from 8 cost the order of answers
PENALTIES = (0.03, 0.15, 0.7, 3.0, 15.0)  # the noise's variance over that of the process
PRIOR_OF_NONE = 0.1  # of no correction, over that of all others together


@dataclass(frozen=True, eq=False)
class Overlap:
    """What subsets have in common with retrained ones.

    Attributes
    ----------
    rows : ndarray, of shape (m, n)
        The retrained subsets, as downweights.
    effects : ndarray, of shape (n, C)
        The effect of each example on C values, over the root mean square of these; 0 where effects are not known.
    values : ndarray of int, of shape (m,), or None
        The value that each retrained subset was picked for; by default each says something of all values.
    """

    rows: np.ndarray
    effects: np.ndarray
    values: np.ndarray | None = None

    @staticmethod
    def of(rows: np.ndarray, gradient: np.ndarray | None, count: int, values: np.ndarray | None = None) -> Overlap:
        """Return the overlap with retrained subsets for so many values, with effects (n, C) if they are known."""
        if gradient is None:
            return Overlap(rows, np.zeros((rows.shape[1], count)), values)
        scale = np.sqrt((gradient**2).mean(axis=0))
        return Overlap(rows, gradient / np.where(scale > 0, scale, 1.0), values)

    def measure(self, rows: np.ndarray) -> np.ndarray:
        """Return the sum over examples of the products of downweights (B, n) and those retrained, (B, m, C).

        Every example counts 1 and the product of its effects on the two values, mostly the same: 2 on average.
        """
        count, n = self.rows.shape
        overlap = np.empty((len(rows), count, self.effects.shape[1]))
        for block in blocks_of(self.effects.shape[1], self.rows.size):
            effects = self.effects[:, block].T
            others = effects if self.values is None else self.effects[:, self.values].T[:, None]
            known = self.rows[:, None] * (1.0 + effects * others)
            overlap[:, :, block] = (rows @ known.reshape(-1, n).T).reshape(len(rows), count, -1)
        return overlap


@dataclass(frozen=True, eq=False)
class Corrections:
    """Corrections of F fits for one value, of subsets that share examples with m retrained ones.

    Attributes
    ----------
    weights : ndarray, of shape (F, K)
        What is added to the weights of K estimators.
    per_size : ndarray, of shape (F,)
        What is added per size of a subset.
    shares : ndarray, of shape (F, m)
        What is added per overlap with each retrained subset; 0 for the one that a fit is without.
    left_out : ndarray, of shape (F, m)
        What the error of each subset is above its prediction by a fit that is without it too.
    """

    weights: np.ndarray
    per_size: np.ndarray
    shares: np.ndarray
    left_out: np.ndarray


def learn(predictions: np.ndarray, sizes: np.ndarray, errors: np.ndarray, overlap: np.ndarray | None) -> Corrections:
    """Learn corrections of one value from m retrained subsets.

    Parameters
    ----------
    predictions : array, shape (m, K)
        What estimators predict; finite.
    sizes : array, shape (m,)
        Above 0.
    errors : array, shape (m + 1, m)
        What the truth is above the prediction that is corrected: first of the fit to all subsets, then of those without
        one, whose own error is not used.
    overlap : array, shape (m, m), or None
        The overlap of the subsets; see `Overlap`.

    Returns
    -------
    Corrections
        Of m + 1 fits.
    """
    count, parts = predictions.shape
    root = np.sqrt(sizes)
    scale = np.sqrt(((predictions / root[:, None]) ** 2).mean(axis=0))  # of inputs alone, so the same for every fit
    scale = np.where(scale > 0, scale, 1.0)
    features = predictions / root[:, None] / scale
    shared = np.zeros((count, count)) if overlap is None else overlap / root / root[:, None]
    components = features @ features.T / parts, root * root[:, None] / sizes.mean(), shared
    mixtures = np.array(PER_SIZE if count < FEW else KERNELS[:1] if overlap is None else KERNELS)
    kernels = np.tensordot(mixtures, np.stack(components), 1)
    noise = np.array(PENALTIES)[:, None, None] * np.eye(count)
    covariances = (kernels[:, None] + noise).reshape(-1, count, count)
    inverse = np.linalg.inv(covariances)  # not by eigenvectors, which BLAS with threads computes ten times as slowly
    determinants = 2 * np.log(np.diagonal(np.linalg.cholesky(covariances), axis1=1, axis2=2)).sum(axis=1)

    scaled = errors / root
    scaled[1:][np.eye(count, dtype=bool)] = 0.0
    unit = np.maximum(np.sqrt((scaled**2).mean()), np.finfo(float).tiny)
    scaled /= unit
    solved, left_out, evidence = solve_all(inverse, determinants, scaled)
    chances = np.exp(evidence - evidence.max(axis=0))
    chances /= chances.sum(axis=0)
    left_out = np.einsum("qf,qfi->fi", chances[1:], left_out) + chances[0][:, None] * scaled
    each = np.repeat(mixtures, len(PENALTIES), axis=0)
    by_part, by_size, by_share = unit * np.einsum("qf,qs,qfi->sfi", chances[1:], each, solved)
    return Corrections(
        by_part @ features / scale / parts, by_size @ root / sizes.mean(), by_share / root, unit * root * left_out
    )


def solve_all(
    inverse: np.ndarray, determinants: np.ndarray, errors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve for errors (m + 1, m) of all subsets, and of all but one, whose error is 0, with Q covariances.

    Parameters
    ----------
    inverse, determinants : array, shapes (Q, m, m) and (Q,)
        The inverses of the covariances, and the logarithms of their determinants.
    errors : array, shape (m + 1, m)

    Returns
    -------
    solved, left_out : ndarray, of shape (Q, m + 1, m)
        The inverse covariance of a fit's subsets times its errors, 0 for the subset that it is without; and its errors
        left out.
    evidence : ndarray, of shape (Q + 1, m + 1)
        The logarithm of the errors' likelihood times the prior, up to a constant; the first is that of no correction.
    """
    count = errors.shape[1]
    own = np.diagonal(inverse, axis1=1, axis2=2)
    itself = np.eye(count, dtype=bool)
    first = inverse @ errors[0]
    rest = errors[1:] @ inverse
    rest -= (np.einsum("fi,qif->qf", errors[1:], inverse) / own)[:, :, None] * inverse
    rest[:, itself] = 0.0
    diagonal = own[:, None] - inverse**2 / own[:, :, None]
    diagonal[:, itself] = 1.0
    solved = np.concatenate([first[:, None], rest], axis=1)
    left_out = np.concatenate([(first / own)[:, None], rest / diagonal], axis=1)

    counts = np.array([count, *[count - 1] * count])
    tiny = np.finfo(float).tiny
    squares = np.maximum(np.einsum("fi,qfi->qf", errors, solved), tiny)
    determinants = determinants[:, None] + np.concatenate([np.zeros((len(own), 1)), np.log(own)], axis=1)
    evidence = -(determinants + counts * np.log(squares)) / 2 - np.log(len(inverse))
    none = np.log(PRIOR_OF_NONE) - counts * np.log(np.maximum((errors**2).sum(axis=1), tiny)) / 2
    return solved, left_out, np.concatenate([none[None], evidence])
