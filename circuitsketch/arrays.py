"""Convert array-likes to plain arrays; refuse those whose meaning would be lost.

In: an array-like from the user. Out: an ndarray of the same numbers, or an InputError. `np.asarray` silently drops the
mask of a masked array and the product rule of a matrix; here these raise, with a remedy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.arguments import quoted
from circuitsketch.errors import CircuitSketchError, InputError

DEEPEST = 64  # most axes of an array; a list nested deeper may contain itself
LARGEST_INTEGER = 2**53  # float64 represents every integer up to this one exactly


def explain_lost_meaning(value: Any, depth: int = 0) -> str | None:
    """Return what `np.asarray(value)` would lose and what to pass instead, or None for plain numbers.

    >>> explain_lost_meaning(np.ones(3)) is None
    True
    """
    if isinstance(value, list | tuple):
        if depth > DEEPEST:
            return None
        return next((reason for part in value if (reason := explain_lost_meaning(part, depth + 1)) is not None), None)
    kind = type(value)
    if kind is np.ndarray or not (isinstance(value, np.ndarray) or hasattr(kind, "tocsr")):
        return None
    if isinstance(value, np.ma.MaskedArray):
        return (
            "a masked array, whose mask would be lost; pass x.filled(0.0) with ~np.ma.getmaskarray(x) as weights, "
            "or drop the masked elements with x.compressed()"
        )
    if isinstance(value, np.matrix):
        return "a np.matrix, for which * is the matrix product; pass np.asarray(x), and use @ for products"
    if not isinstance(value, np.ndarray):
        return f"a sparse array ({kind.__name__}); pass x.toarray()"
    if kind is np.memmap:
        return None
    return (
        f"a {kind.__module__}.{kind.__qualname__}, whose class may add a meaning to its values (units, a mask) that "
        "would be lost; pass np.asarray(x) if only the values matter"
    )


def plain_array(value: Any, name: str) -> np.ndarray:
    """Return `np.asarray(value)`, or raise InputError.

    Raises
    ------
    InputError
        For a ragged list, and for an array whose meaning would be lost: masked, sparse, a matrix, or any subclass of
        ndarray other than np.memmap.

    Examples
    --------
    >>> plain_array([1, 2], "x")
    array([1, 2])
    """
    if (reason := explain_lost_meaning(value)) is not None:
        raise InputError(f"{name} is {reason}")
    try:
        return np.asarray(value)
    except CircuitSketchError:  # a wire raises a more specific error
        raise
    except Exception as reason:
        text = " ".join(str(reason).split())
        raise InputError(f"{name} is not an array: {quoted(value)} ({text})") from None


def find_first_inexact(array: np.ndarray) -> int | None:
    """Return the first integer of the array that float64 cannot represent exactly, or None.

    >>> find_first_inexact(np.array([1, 2**53, 2**53 + 1]))
    9007199254740993
    """
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or not array.size:
        return None
    if -LARGEST_INTEGER <= int(array.min()) and int(array.max()) <= LARGEST_INTEGER:
        return None
    return next((int(x) for x in array.flat if int(x) != int(float(int(x)))), None)


def explain_unrepresentable(array: np.ndarray) -> str | None:
    """Return why float64 cannot represent an array's numbers and what to do, or None if it can."""
    if (large := find_first_inexact(array)) is not None:
        return (
            "contains integers beyond 2**53 that float64, the dtype of circuits, cannot represent exactly, such as "
            f"{large}; renumber them, or use .astype(float) if rounding does not matter"
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            if np.any(np.isinf(array.astype(np.float64)) & np.isfinite(array)):
                return f"contains {array.dtype} numbers beyond the largest float64; scale them"
    return None


def real_array(value: Any, name: str) -> np.ndarray:
    """Return a float64 copy of an array of real numbers or booleans, or raise InputError."""
    array = plain_array(value, name)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {array.dtype}; pass real numbers")
    if (reason := explain_unrepresentable(array)) is not None:
        raise InputError(f"{name} {reason}")
    return np.array(array, dtype=np.float64)


def finite_array(value: Any, name: str) -> np.ndarray:
    """Return a float64 copy of an array of finite real numbers, or raise InputError."""
    array = real_array(value, name)
    if not np.isfinite(array).all():
        raise InputError(f"{name} contains NaN or infinity; pass finite numbers")
    return array


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """Return a dtype of coefficients, in single or double precision, or raise InputError."""
    return named_dtype(dtype, "complex128", "complex64", "float64", "float32")


def check_real_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype of models that are retrained, float64 or float32, or raise InputError."""
    return named_dtype(dtype, "float64", "float32", why=": models are retrained in real numbers")


def named_dtype(dtype: Any, double: str, single: str, *others: str, why: str = "") -> np.dtype[Any]:
    """Return a dtype with one of these names, or raise InputError that recommends the first two and says why."""
    try:
        kind = np.dtype(dtype)
    except Exception:
        raise InputError(f"dtype must be {double} or {single}, not {quoted(dtype)}, which is not a dtype") from None
    if kind.name not in (double, single, *others):
        raise InputError(f"dtype must be {double} or {single}, not {kind}{why}")
    return kind


def plain(number: Any) -> float | np.ndarray:
    """Return an array; a float if it has no axes."""
    array = np.asarray(number)
    return float(array) if array.ndim == 0 else array


def flag(condition: Any) -> bool | np.ndarray:
    """Return a boolean array; a bool if it has no axes."""
    array = np.asarray(condition)
    return bool(array) if array.ndim == 0 else array


def power(x: np.ndarray, r: int) -> np.ndarray:
    """Return x^r by products: NumPy's own power takes many times as long from r = 3 on."""
    result = x
    for _ in range(r - 1):
        result = result * x
    return result
