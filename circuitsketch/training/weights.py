"""Parse ids, masks and weights into downweights.

In: example ids, a mask, or downweights, of one subset or of several. Out: float64 downweights, 1 for a deleted example,
0 for an unchanged one. Invalid input is rejected here, so that training and prediction need no further checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from circuitsketch.arguments import as_list, is_int, quoted
from circuitsketch.arrays import explain_lost_meaning
from circuitsketch.errors import InputError
from circuitsketch.limits import require_memory

FORMS = "pass example ids (ints), a mask (one boolean per example) or downweights (one float per example)"


def parse_subset(without: Any, n: int) -> np.ndarray:
    """Parse one deletion set into downweights.

    Parameters
    ----------
    without : ids, mask, or downweights
        Ids are ints from 0 to n - 1, each at most once, in any order (a list, tuple, set, range or array). A mask is n
        booleans, True for a deleted example. Downweights are n finite floats: 1 deletes, 0.5 halves, -1 doubles and 0
        changes nothing.
    n : int
        The number of examples.

    Returns
    -------
    (n,) ndarray of float64
        The downweights.

    Raises
    ------
    InputError
        For an empty set of ids, a mask without a True, a repeated id or one out of range, a NaN or infinite weight, a
        wrong length, or anything else.

    Examples
    --------
    >>> parse_subset([2, 0], n=4)
    array([1., 0., 1., 0.])
    >>> parse_subset([0.5, 0.0, -1.0], n=3)
    array([ 0.5,  0. , -1. ])
    """
    n = _count(n)
    array = _array(without)
    if array.ndim != 1:
        remedy = "wrap a single id in a list" if array.ndim == 0 else "for several subsets, pass a list or a 2-D array"
        raise InputError(f"a deletion set must be one-dimensional, not of shape {array.shape}: {FORMS}; {remedy}")
    if array.size == 0:
        raise InputError(f"the deletion set is empty, so there is nothing to predict: {FORMS}")
    if array.dtype.kind == "b":
        return _from_mask(array, n)
    if array.dtype.kind in "iu":
        return _from_ids(array, n)
    if array.dtype.kind == "f":
        return _from_weights(array, n)
    raise InputError(f"a deletion set cannot contain {_describe(without, array)}: {FORMS}")


def parse_subsets(subsets: Any, n: int) -> np.ndarray:
    """Parse several deletion sets into downweights, one row each.

    Parameters
    ----------
    subsets : list or (subsets, n) array
        A list of anything `parse_subset` accepts (forms may differ), or a 2-D array of masks or floats.
    n : int
        The number of examples.

    Returns
    -------
    (subsets, n) ndarray of float64
        The downweights.

    Raises
    ------
    InputError
        As `parse_subset`, with the position of the subset.

    Examples
    --------
    >>> parse_subsets([[0], [1, 2]], n=3)
    array([[1., 0., 0.],
           [0., 1., 1.]])
    """
    n = _count(n)
    if isinstance(subsets, str | bytes | dict) or not isinstance(subsets, Iterable):
        raise InputError(
            f"subsets must be a list or a 2-D array, not a {type(subsets).__name__}; for each one, {FORMS}"
        )
    if isinstance(subsets, np.ndarray) and (reason := explain_lost_meaning(subsets)) is not None:
        raise InputError(f"the array of subsets is {reason}")
    if isinstance(subsets, np.ndarray) and subsets.ndim != 2:
        raise InputError(
            f"an array of subsets must have shape (subsets, n), not {subsets.shape}; for a single subset, pass a "
            "one-dimensional array"
        )
    count = len(subsets) if isinstance(subsets, np.ndarray | list | tuple) else 0
    what = f"the downweights of {count:,} subsets of {n:,} examples"
    require_memory(16 * n * count, what, ["fewer subsets at a time"])
    if isinstance(subsets, np.ndarray) and (weights := _from_rows(subsets, n)) is not None:
        return weights
    rows = []
    for position, subset in enumerate(as_list(subsets, "subsets", "one entry per subset")):
        try:
            rows.append(parse_subset(subset, n))
        except InputError as reason:
            raise InputError(f"subset {position}: {reason}") from None
    if not rows:
        raise InputError(f"the list of subsets is empty; for each subset, {FORMS}")
    return np.stack(rows)


def _from_rows(subsets: np.ndarray, n: int) -> np.ndarray | None:
    """Convert a valid array of masks or floats; return None if a row is invalid, so that parsing it alone says why."""
    if not len(subsets) or subsets.shape[1] != n:
        return None
    if subsets.dtype.kind == "b" and subsets.any(axis=1).all():
        return subsets.astype(np.float64)
    if subsets.dtype.kind == "f" and np.isfinite(subsets).all():
        return subsets.astype(np.float64)
    return None


def _count(n: Any) -> int:
    if not is_int(n, 1):
        raise InputError(f"n, the number of examples, must be an integer of at least 1, not {quoted(n)}")
    return int(n)


def _array(without: Any) -> np.ndarray:
    if without is None or isinstance(without, str | bytes | dict):
        raise InputError(f"a deletion set cannot be {quoted(without)}: {FORMS}")
    if (reason := explain_lost_meaning(without)) is not None:
        raise InputError(f"the deletion set is {reason}")
    if isinstance(without, set | frozenset):
        without = list(without)
    if isinstance(without, list | tuple):
        flags = sum(isinstance(entry, bool | np.bool_) for entry in without)
        if 0 < flags < len(without):  # NumPy would read True as the id 1
            raise InputError(f"the deletion set mixes booleans with other values: {FORMS}")
    try:
        return np.asarray(without)
    except Exception as reason:
        raise InputError(
            f"the deletion set {quoted(without)} is not one-dimensional: {FORMS}; "
            "for several subsets, pass a list or a 2-D array"
        ) from reason


def _from_mask(mask: np.ndarray, n: int) -> np.ndarray:
    if mask.size != n:
        raise InputError(f"the mask has {mask.size} elements for n = {n} examples: pass one boolean per example")
    if not mask.any():
        raise InputError("the mask is False everywhere, so it deletes nothing: set at least one element to True")
    return mask.astype(np.float64)


def _from_ids(ids: np.ndarray, n: int) -> np.ndarray:
    outside = np.flatnonzero((ids < 0) | (ids >= n))
    if outside.size:
        position = outside[0]
        raise InputError(
            f"example id {ids[position]} at position {position} is out of range: "
            f"with n = {n} examples, ids are 0 to {n - 1}"
        )
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        hint = "; if these 0s and 1s are a mask, pass booleans" if values[-1] <= 1 else ""
        raise InputError(
            f"example id {values[counts > 1][0]} is given {counts[counts > 1][0]} times: "
            f"an example can be deleted only once, so pass each id once{hint}"
        )
    weights = np.zeros(n)
    weights[ids] = 1.0
    return weights


def _from_weights(weights: np.ndarray, n: int) -> np.ndarray:
    if weights.size != n:
        raise InputError(
            f"the deletion set has {weights.size} floats for n = {n} examples: floats are downweights, one per "
            "example; pass ids as ints"
        )
    bad = np.flatnonzero(~np.isfinite(weights))
    if bad.size:
        raise InputError(
            f"the downweight of example {bad[0]} is {weights[bad[0]]}: "
            "use finite numbers, 1 to delete and 0 to leave unchanged"
        )
    return weights.astype(np.float64)


def _describe(without: Any, array: np.ndarray) -> str:
    if array.dtype.kind == "O" and len(array):
        return f"values such as {quoted(array[0])}"
    return {"U": "strings", "S": "bytes", "c": "complex numbers"}.get(array.dtype.kind, f"dtype {array.dtype}")


def is_list_of_subsets(without: Any) -> bool:
    """Return whether the input is several subsets: a 2-D array, or a list of lists or arrays."""
    if isinstance(without, np.ndarray):
        return without.ndim == 2
    return (
        isinstance(without, list | tuple)
        and len(without) > 0
        and all(
            entry.ndim == 1
            if isinstance(entry, np.ndarray)
            else isinstance(entry, list | tuple | set | frozenset | range)
            for entry in without
        )
    )
