"""Integers as float64: circuits carry every number as one, which holds integers exactly up to 2**53.

Inputs and constants beyond are refused unless float64 holds them; results beyond, which NumPy would wrap around at
2**63, are rounded as floats are.
"""

from __future__ import annotations

import numpy as np

LARGEST = 1 << 53


def first_inexact(array: np.ndarray) -> int | None:
    """An integer of the array that float64 does not hold exactly, or None.

    >>> first_inexact(np.array([1, 2**53, 2**53 + 1]))
    9007199254740993
    """
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or not array.size:
        return None
    if -LARGEST <= int(array.min()) and int(array.max()) <= LARGEST:
        return None
    return next((int(x) for x in array.flat if int(x) != int(float(int(x)))), None)
