"""A similarity over the examples, Sigma = J J^T, in which examples that do alike lie close (THEORY section 5).

In: the single examples' series, or what a user knows of the examples (features, a similarity). Out: a factor J with one
row an example and at most as many columns as rows. What is done with it is left to the estimators.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.arrays import real_array
from circuitsketch.errors import InputError
from circuitsketch.limits import require_memory
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.tree import flatten

AT_ONCE = 64 << 20  # bytes of effects held while Sigma is summed up: a heuristic
SQUARES = 5  # matrices (n, n) that are held together while one is factored
SLACK = 1e-8  # of the largest entry: what a similarity may be off symmetry, or below zero, by rounding


def given_similarity(similarity: Any, n: int) -> np.ndarray:
    """The factor of a similarity that a user gives.

    Parameters
    ----------
    similarity : (n, n), a similarity: symmetric and positive semi-definite, or (n, p) features with p other than n.

    Returns
    -------
    J (n, at most n) with J J^T the similarity, or the features' inner products.

    Raises
    ------
    InputError : another shape, no finite real numbers, a similarity that is none.

    >>> factor = given_similarity([[2.0, 1.0], [1.0, 2.0]], 2)
    >>> (factor @ factor.T).round(6)
    array([[2., 1.],
           [1., 2.]])
    """
    array = real_array(similarity, "similarity")
    if array.ndim != 2 or array.shape[0] != n or not array.shape[1]:
        raise InputError(
            f"similarity has shape {array.shape}; give a similarity ({n}, {n}), or features ({n}, p), one row an "
            "example"
        )
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise InputError(f"similarity holds a NaN or an infinity in row {bad[0][0]}; give finite numbers")
    if array.shape[1] < n:
        return array
    require_memory(
        SQUARES * 8 * n * n, f"the factor of a similarity of {n:,} examples", ["features (n, p) with p below n"]
    )
    if array.shape[1] > n:
        return root(array @ array.T)
    peak = float(np.abs(array).max())
    skew = np.abs(array - array.T)
    if skew.max() > SLACK * peak:
        i, j = np.unravel_index(int(np.argmax(skew)), skew.shape)
        raise InputError(
            f"similarity is {n} by {n}, not symmetric ({array[i, j]:.6g} in row {i}, column {j}, {array[j, i]:.6g} "
            "in row "
            f"{j}, column {i}); a square one is taken as a similarity: for {n} features give x @ x.T"
        )
    return root((array + array.T) / 2)


def effects_similarity(per_example: PropagatedRun) -> np.ndarray:
    """The similarity of the trained parameters' own first-order effects: row i of J is what example i does to them.

    Learned, and needs no measurement. With more parameters than examples, J is the root of Sigma, which is summed up
    over slices of the parameters, so that memory is bounded by that of Sigma.

    Parameters
    ----------
    per_example : the basis directions, pushed to order 1 or higher.

    Returns
    -------
    J (n, min(n, parameters) or fewer).
    """

    def flat(params: Any) -> Any:
        return np.concatenate([np.reshape(leaf, -1) for leaf in flatten(params)[0]])

    circuit = per_example.measurement(flat, ())
    width = circuit.nodes[circuit.outputs[0]].shape[0]
    n = per_example.n
    columns = width if width <= n else max(AT_ONCE // (8 * n), 1)
    held = SQUARES * n if width > n else width
    require_memory(8 * n * held, f"the similarity of {n:,} examples", ["groups=...", "similarity=..."])
    sigma = np.zeros((n, n)) if width > n else None
    for begin in range(0, width, columns):
        effects = np.empty((n, min(columns, width - begin)))

        def take(first: int, part: np.ndarray, effects: np.ndarray = effects, begin: int = begin) -> None:
            effects[per_example.rows(first, len(part))] = part[:, 1, begin : begin + effects.shape[1]]

        per_example.measure_blocks(circuit, 1, take)
        if sigma is None:
            return effects
        sigma += effects @ effects.T
    assert sigma is not None
    return root(sigma)


def root(sigma: np.ndarray) -> np.ndarray:
    """J with J J^T = sigma, a column for every eigenvalue above rounding; InputError where one is negative."""
    values, vectors = np.linalg.eigh(sigma)
    peak = float(np.abs(values).max())
    if values[0] < -SLACK * peak:
        raise InputError(
            f"similarity has the eigenvalue {values[0]:.6g}, and a similarity has none below zero; give features x, "
            "whose "
            "x @ x.T has none, or add to the diagonal"
        )
    above = values > len(sigma) * np.finfo(float).eps * peak
    if not above.any():
        return np.zeros((len(sigma), 1))
    return vectors[:, above] * np.sqrt(values[above])
