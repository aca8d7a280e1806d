"""The effects of pairs that were not computed, from those that were.

In: what leaving out each of k chosen examples changes in the derivatives with respect to all n. Out: for every other
example the k weights with which it interacts as the chosen ones do. What an example does to the others is a function of
what it does to the model; where that has few dimensions, so have the effects of pairs, and an example whose effects of
pairs with the chosen ones are a mixture of theirs has the same mixture of their effects with everyone else (the
completion of a symmetric matrix of low rank from some of its rows, by ridge regression, over all measured values).

How far that is so is measured: half of the chosen examples predict the effects of pairs among the other half, which
were left out. The penalty is the one that predicts them best, and where none predicts them better than zero does,
nothing is completed.
"""

from __future__ import annotations

import numpy as np

PENALTIES = (0.03, 0.3, 3.0, 30.0)  # of the ridge, in units of the mean square of a row
FEWEST = 4  # chosen examples, of which two are left out


def complete_pairs(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
    """Find the mixtures of chosen examples that others interact like.

    Parameters
    ----------
    rows : array, shape (C, k, n)
        The effects of pairs of each chosen example with all n, for C values, in units in which the values count alike;
        symmetric among the chosen ones, and zero for an example with itself.
    chosen : array of int, shape (k,)
        The chosen examples.

    Returns
    -------
    array, shape (n, k), or None
        The weights, zero for the chosen examples; None where no completion predicts effects that were left out.
    """
    if len(chosen) < FEWEST:
        return None
    errors = np.array([score_mixtures(rows, chosen, part) for part in (slice(0, None, 2), slice(1, None, 2))]).sum(
        axis=0
    )
    best = int(np.argmin(errors[:-1]))
    if not errors[best] < errors[-1]:
        return None
    return fit_mixtures(rows, chosen, PENALTIES[best])


def score_mixtures(rows: np.ndarray, chosen: np.ndarray, part: slice) -> list[float]:
    """Return the squared error of the effects of pairs among chosen examples that mixtures of a part of them predict,
    for each penalty, and last, that of zero."""
    rest = np.setdiff1d(np.arange(len(chosen)), np.arange(len(chosen))[part])
    some, known = rows[:, part], chosen[part]
    truth, across = rows[:, rest][:, :, chosen[rest]], some[:, :, chosen[rest]]
    errors = []
    for penalty in PENALTIES:
        predicted = fit_mixtures(some, known, penalty)[chosen[rest]] @ across
        off = truth - (predicted + predicted.transpose(0, 2, 1)) / 2
        off[:, np.arange(len(rest)), np.arange(len(rest))] = 0.0
        errors.append(float((off**2).sum()))
    return [*errors, float((truth**2).sum())]


def fit_mixtures(rows: np.ndarray, chosen: np.ndarray, penalty: float) -> np.ndarray:
    """Fit the weights (n, k) by ridge regression of each example's effects with the chosen ones on theirs."""
    products = np.sum([one.T @ one[:, chosen] for one in rows], axis=0)
    system = products[chosen]
    scale = np.trace(system) / len(chosen)
    if not scale > 0:
        return np.zeros_like(products)
    mixtures: np.ndarray = np.linalg.solve(system + penalty * scale * np.eye(len(chosen)), products.T).T
    mixtures[chosen] = 0.0
    return mixtures
