"""Deletion sets and weights, in the forms in which people have them, become downweights.

In: example ids, a mask, or downweights, for one subset or for many. Out: float64 downweights, 1 where an
example is deleted, 0 where it stays as it was. What cannot be meant is refused here, so that training and
prediction need not look again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from circuitsketch.arguments import as_list, is_int, quoted
from circuitsketch.arrays import lost_meaning
from circuitsketch.errors import InputError
from circuitsketch.limits import require_memory

FORMS = "give example ids (ints), a mask (one boolean an example) or downweights (one float an example)"


def downweights(without: Any, n: int) -> np.ndarray:
    """The downweights, float64 of shape (n,), that `without` stands for.

    `without` is one of
      - ids: ints from 0 to n - 1, each at most once, in any order (a list, tuple, set, range or array);
      - a mask: n booleans, True where the example is deleted;
      - downweights: n finite floats, where 1 deletes, 0.5 halves, -1 doubles and 0 changes nothing.

    InputError: an empty set of ids, a mask without a True, a repeated id or one out of range, a NaN or
    infinite weight, a wrong length, anything else.

    >>> downweights([2, 0], n=4)
    array([1., 0., 1., 0.])
    >>> downweights([0.5, 0.0, -1.0], n=3)
    array([ 0.5,  0. , -1. ])
    """
    n = _count(n)
    given = _array(without)
    if given.ndim != 1:
        remedy = "wrap a single id in a list" if given.ndim == 0 else "many_downweights takes many subsets"
        raise InputError(f"a deletion set is one list, not an array of shape {given.shape}: {FORMS}; {remedy}")
    if given.size == 0:
        raise InputError(f"the deletion set is empty, so there is nothing to predict: {FORMS}")
    if given.dtype.kind == "b":
        return _from_mask(given, n)
    if given.dtype.kind in "iu":
        return _from_ids(given, n)
    if given.dtype.kind == "f":
        return _from_weights(given, n)
    raise InputError(f"a deletion set of {_described(without, given)} has no meaning: {FORMS}")


def many_downweights(subsets: Any, n: int) -> np.ndarray:
    """The downweights of many subsets, float64 of shape (B, n), one row each.

    `subsets` is a list whose entries are what `downweights` takes (forms may differ), or a 2-D array of masks
    or floats of shape (B, n). InputError as there, with the position of the subset.

    >>> many_downweights([[0], [1, 2]], n=3)
    array([[1., 0., 0.],
           [0., 1., 1.]])
    """
    n = _count(n)
    if isinstance(subsets, str | bytes | dict) or not isinstance(subsets, Iterable):
        raise InputError(f"many subsets are a list, or a 2-D array, not a {type(subsets).__name__}; for each, {FORMS}")
    if isinstance(subsets, np.ndarray) and (reason := lost_meaning(subsets)) is not None:
        raise InputError(f"the array of subsets is {reason}")
    if isinstance(subsets, np.ndarray) and subsets.ndim != 2:
        raise InputError(
            f"an array of many subsets has shape (B, n), not {subsets.shape}; downweights takes a single one"
        )
    count = len(subsets) if isinstance(subsets, np.ndarray | list | tuple) else 0
    what = f"the downweights of {count:,} subsets of {n:,} examples"
    require_memory(16 * n * count, what, ["fewer subsets at a time"])
    if isinstance(subsets, np.ndarray) and (found := _from_rows(subsets, n)) is not None:
        return found
    rows = []
    for position, subset in enumerate(as_list(subsets, "subsets", "one entry a subset")):
        try:
            rows.append(downweights(subset, n))
        except InputError as reason:
            raise InputError(f"subset {position}: {reason}") from None
    if not rows:
        raise InputError(f"the list of subsets is empty; for each subset, {FORMS}")
    return np.stack(rows)


def _from_rows(subsets: np.ndarray, n: int) -> np.ndarray | None:
    """An array of masks or floats with nothing wrong; None where one by one they shall say what is."""
    if not len(subsets) or subsets.shape[1] != n:
        return None
    if subsets.dtype.kind == "b" and subsets.any(axis=1).all():
        return subsets.astype(np.float64)
    if subsets.dtype.kind == "f" and np.isfinite(subsets).all():
        return subsets.astype(np.float64)
    return None


def _count(n: Any) -> int:
    if not is_int(n, 1):
        raise InputError(f"n is the number of examples, an int of at least 1, not {quoted(n)}")
    return int(n)


def _array(without: Any) -> np.ndarray:
    if without is None or isinstance(without, str | bytes | dict):
        raise InputError(f"a deletion set cannot be {quoted(without)}: {FORMS}")
    if (reason := lost_meaning(without)) is not None:
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
            f"the deletion set {quoted(without)} is not one list of values: {FORMS}; "
            "many_downweights takes many subsets"
        ) from reason


def _from_mask(mask: np.ndarray, n: int) -> np.ndarray:
    if mask.size != n:
        raise InputError(f"the mask has {mask.size} entries for n = {n} examples: give one boolean an example")
    if not mask.any():
        raise InputError("the mask is False everywhere, so it deletes nothing: set an example to True")
    return mask.astype(np.float64)


def _from_ids(ids: np.ndarray, n: int) -> np.ndarray:
    outside = np.flatnonzero((ids < 0) | (ids >= n))
    if outside.size:
        where = outside[0]
        raise InputError(
            f"example id {ids[where]} at position {where} is out of range: "
            f"with n = {n} examples ids run from 0 to {n - 1}"
        )
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        hint = "; if these 0s and 1s are a mask, give booleans" if values[-1] <= 1 else ""
        raise InputError(
            f"example id {values[counts > 1][0]} is given {counts[counts > 1][0]} times: "
            f"an example is deleted at most once, so give each id once{hint}"
        )
    weights = np.zeros(n)
    weights[ids] = 1.0
    return weights


def _from_weights(weights: np.ndarray, n: int) -> np.ndarray:
    if weights.size != n:
        raise InputError(
            f"{weights.size} floats for n = {n} examples: floats are downweights, one an example; give ids as ints"
        )
    bad = np.flatnonzero(~np.isfinite(weights))
    if bad.size:
        raise InputError(
            f"the downweight of example {bad[0]} is {weights[bad[0]]}: "
            "use finite numbers, 1 to delete and 0 to leave as it was"
        )
    return weights.astype(np.float64)


def _described(without: Any, given: np.ndarray) -> str:
    if given.dtype.kind == "O" and len(given):
        return f"values like {quoted(given[0])}"
    return {"U": "strings", "S": "bytes", "c": "complex numbers"}.get(given.dtype.kind, f"dtype {given.dtype}")


def is_many(without: Any) -> bool:
    """Whether this is several subsets: a 2-D array, or a list of lists or arrays."""
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
