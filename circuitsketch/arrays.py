"""Which array-likes are plain numbers, and which mean something that an array of numbers does not hold.

In: what a user gives as an array. Out: an ndarray of the same numbers, or an InputError. NumPy's own `asarray` drops
the mask of a masked array and the products of a matrix without a word; here they are refused, with the way out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.arguments import quoted
from circuitsketch.errors import CircuitSketchError, InputError

DEEPEST = 64  # axes of an array; a list that is nested deeper may hold itself
LARGEST_INTEGER = 2**53  # up to here every integer is a float64


def lost_meaning(value: Any, depth: int = 0) -> str | None:
    """What `np.asarray(value)` would lose, and what to give instead; None for plain numbers.

    >>> lost_meaning(np.ones(3)) is None
    True
    """
    if isinstance(value, list | tuple):
        if depth > DEEPEST:
            return None
        return next((reason for part in value if (reason := lost_meaning(part, depth + 1)) is not None), None)
    kind = type(value)
    if kind is np.ndarray or not (isinstance(value, np.ndarray) or hasattr(kind, "tocsr")):
        return None
    if isinstance(value, np.ma.MaskedArray):
        return (
            "a masked array, whose mask would be lost; give x.filled(0.0), and ~np.ma.getmaskarray(x) as weights "
            "beside it, or leave the masked entries out with x.compressed()"
        )
    if isinstance(value, np.matrix):
        return "a np.matrix, of which * is the matrix product; give np.asarray(x), and write @ for products"
    if not isinstance(value, np.ndarray):
        return f"a sparse array ({kind.__name__}); give x.toarray()"
    if kind is np.memmap:
        return None
    return (
        f"a {kind.__module__}.{kind.__qualname__}, which may mean more than its numbers (units, a mask); give "
        "np.asarray(x) if the numbers alone are meant"
    )


def plain_array(value: Any, name: str) -> np.ndarray:
    """`np.asarray(value)`.

    Raises
    ------
    InputError : for a ragged list, and for an array whose meaning would be lost: masked, a matrix, sparse, any other
        subclass of ndarray than np.memmap.

    >>> plain_array([1, 2], "x")
    array([1, 2])
    """
    if (reason := lost_meaning(value)) is not None:
        raise InputError(f"{name} is {reason}")
    try:
        return np.asarray(value)
    except CircuitSketchError:  # a wire says itself what it is not
        raise
    except Exception as reason:
        text = " ".join(str(reason).split())
        raise InputError(f"{name} is not an array, but {quoted(value)}: {text}") from None


def first_inexact(array: np.ndarray) -> int | None:
    """An integer of the array that float64 does not hold exactly, or None.

    >>> first_inexact(np.array([1, 2**53, 2**53 + 1]))
    9007199254740993
    """
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or not array.size:
        return None
    if -LARGEST_INTEGER <= int(array.min()) and int(array.max()) <= LARGEST_INTEGER:
        return None
    return next((int(x) for x in array.flat if int(x) != int(float(int(x)))), None)


def unheld(array: np.ndarray) -> str | None:
    """Why float64 does not hold an array's numbers, and the way out; None where it does."""
    if (large := first_inexact(array)) is not None:
        return (
            "holds integers beyond 2**53 that float64, in which circuits compute, does not hold exactly, such as "
            f"{large}; renumber them, or give .astype(float) where rounding does not matter"
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            if np.any(np.isinf(array.astype(np.float64)) & np.isfinite(array)):
                return f"holds {array.dtype} numbers beyond the largest float64; scale them"
    return None


def real_array(value: Any, name: str) -> np.ndarray:
    """An array of real numbers, booleans among them, as float64, a copy."""
    array = plain_array(value, name)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {array.dtype}; give real numbers")
    if (reason := unheld(array)) is not None:
        raise InputError(f"{name} {reason}")
    return np.array(array, dtype=np.float64)


def finite_array(value: Any, name: str) -> np.ndarray:
    """An array of finite real numbers as float64, a copy."""
    array = real_array(value, name)
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds a NaN or an infinity; give finite numbers")
    return array


def coefficient_type(dtype: Any) -> np.dtype[Any]:
    """The dtype of coefficients, single or double."""
    try:
        kind = np.dtype(dtype)
    except Exception:
        raise InputError(f"{quoted(dtype)} is no dtype; coefficients are complex128 or complex64") from None
    if kind.name not in ("complex128", "complex64", "float64", "float32"):
        raise InputError(f"coefficients are complex128 or complex64, not {kind}; choose one of these as dtype")
    return kind
