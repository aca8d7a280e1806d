"""Elementwise operations that are more than a gate: extrema with neutral elements, signs, powers, choices.

In: wires or plain arrays. Out: the same. Where a formula has no kink of its own, it is written with gates that report
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.frontends.numpy.ufuncs import logical_and, logical_not
from circuitsketch.frontends.numpy.wire import Wire
from circuitsketch.gates import GATES
from circuitsketch.gates.selection import greater, less, relu, same, where


def is_filled(x: Any, value: float) -> bool:
    """Return whether an operand is plain data, all of one value."""
    return not isinstance(x, Wire) and np.size(x) > 0 and bool(np.all(np.asarray(x) == value))


def maximum(x: Any, y: Any) -> Any:
    """Return the larger of two elements; a plain operand of zeros makes a relu, one of -infinity nothing."""
    for one, other in ((x, y), (y, x)):
        if is_filled(one, -np.inf):
            return np.broadcast_to(other, np.broadcast_shapes(np.shape(x), np.shape(y)))
        if is_filled(one, 0.0) and isinstance(other, Wire) and other.label == "float":
            return np.broadcast_to(relu(other), np.broadcast_shapes(np.shape(x), np.shape(y)))
    return np.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    """Return the smaller of two elements; a plain operand of infinity makes nothing."""
    for one, other in ((x, y), (y, x)):
        if is_filled(one, np.inf):
            return np.broadcast_to(other, np.broadcast_shapes(np.shape(x), np.shape(y)))
    return np.minimum(x, y)


def clip(x: Any, low: Any, high: Any) -> Any:
    """Return x between two bounds."""
    return minimum(maximum(x, low), high)


def sign(x: Any) -> Any:
    """Return 1, -1 or 0."""
    return where(greater(x, 0.0), 1.0, where(less(x, 0.0), -1.0, 0.0))


def is_nan(x: Any) -> Any:
    """Return where an element is not equal to itself."""
    return logical_not(same(x, x))


def is_finite(x: Any) -> Any:
    """Return where the difference of an element and itself is 0, which has no kink."""
    return same(x - x, 0.0)


def is_infinite(x: Any) -> Any:
    """Return where an element is infinite."""
    return logical_and(same(x, x), logical_not(is_finite(x)))


def cube_root(x: Any) -> Any:
    """Return the real cube root, also of negative numbers."""
    return sign(x) * GATES["power"](np.abs(x), exponent=1.0 / 3.0)


def choose(which: Any, cases: Sequence[Any]) -> Any:
    """Return the case that `which`, booleans or integers that are clamped to the cases, names for each element."""
    if which.dtype.kind == "b":
        return where(which, cases[1], cases[0])
    chosen = cases[-1]
    for number, case in reversed(list(enumerate(cases[:-1]))):
        chosen = where(np.less_equal(which, number), case, chosen)
    return chosen
