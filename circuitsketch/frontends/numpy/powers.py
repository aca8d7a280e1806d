"""Powers of wires, by what is known of the exponent: a number, an array, or a wire whose values come at run time.

In: a base and an exponent, one of them a wire. Out: a wire. The values are NumPy's, entry by entry. Whole exponents
that are known become products, which have a series through zero as well; everything else is one gate per entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.circuit import Label, Node
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates import GATES

LARGEST_POWER = 1 << 20  # by squaring, a whole power costs two products a binary digit


def power(x: Any, exponent: Any) -> Any:
    """x ** exponent, of integers an integer."""
    if isinstance(exponent, Wire):
        return wire_power(x, exponent)
    exponents = np.asarray(exponent)
    whole = exponents.dtype.kind in "iub"
    if whole and is_whole(x):
        if np.any(exponents < 0):
            raise TraceError(
                f"{user_place()}: Integers to negative integer powers are not allowed; make the base floats "
                "(x.astype(float))"
            )
        x = labelled(x, "int")
    else:
        x = labelled(x, "float")
    if exponents.ndim:
        return power_by_array(x, exponents.astype(np.float64))
    number = float(exponents)
    if number.is_integer() and abs(number) <= LARGEST_POWER:
        return whole_power(x, int(number))
    if special_case := {0.5: "sqrt", -0.5: "rsqrt"}.get(number):
        return GATES[special_case](x)
    return GATES["power"](x, exponent=number)


def float_power(x: Any, exponent: Any) -> Any:
    """x ** exponent in floats."""
    return power(real(x), real(exponent))


def whole_power(x: Any, exponent: int) -> Any:
    """x^n by squaring, a product of few factors."""
    if exponent < 0:
        return whole_power(GATES["reciprocal"](x), -exponent)  # in this order the slope at 0 is infinite, not NaN
    if exponent == 0:
        return x.builder.lift(np.ones(x.shape, dtype=x.dtype))
    if exponent == 1:
        return x
    half = GATES["square"](whole_power(x, exponent // 2))
    return half * x if exponent % 2 else half


def power_by_array(x: Any, exponents: np.ndarray) -> Any:
    """x ** exponents: whole ones by products, the others by a gate, and neither sees the other's bases."""
    whole = (np.abs(exponents) <= LARGEST_POWER) & (exponents == np.rint(exponents))
    if whole.all():
        return products(x, exponents.astype(np.int64))
    rest = GATES["raise_to"](np.where(whole, 1.0, x), np.where(whole, 1.0, exponents))
    if not whole.any():
        return rest
    return np.where(whole, products(x, np.where(whole, exponents, 0.0).astype(np.int64)), rest)


def products(x: Any, exponents: np.ndarray) -> Any:
    """x ** exponents for whole exponents: the squares of x, multiplied where a binary digit of the exponent is 1.

    An entry that has no more digits goes on as 1, so that nothing overflows, or is infinite in a derivative, that the
    result does not contain.
    """
    size = np.abs(exponents)
    one = 1 if x.label == "int" else 1.0
    square = np.where(size > 0, x, one)
    if (below := exponents < 0).any():
        square = np.where(below, GATES["reciprocal"](np.where(below, square, one)), square)
    result: Any = None
    for digit in range(max(int(size.max(initial=0)).bit_length(), 1)):
        if digit:
            square = GATES["square"](np.where(size >> digit > 0, square, one))
        factor = np.where((size >> digit) % 2 == 1, square, one)
        result = factor if result is None else result * factor
    return result


def wire_power(x: Any, exponent: Wire) -> Any:
    """x ** exponent with an exponent known at run time: NumPy's values, and NaN where NumPy refuses integers."""
    value = GATES["raise_to"](x, exponent)
    if not (is_whole(x) and is_whole(exponent)):
        return value
    return labelled(GATES["where"](np.less(exponent, 0), np.nan, value), "int")


def is_whole(x: Any) -> bool:
    """Whether an operand is integers or truth values."""
    return bool((x.dtype if isinstance(x, Wire) else np.asarray(x).dtype).kind in "iub")


def real(x: Any) -> Any:
    """An operand as floats."""
    return labelled(x, "float") if isinstance(x, Wire) else np.asarray(x, dtype=np.float64)


def labelled(x: Wire, label: Label) -> Wire:
    """The same numbers under another label."""
    if x.label == label:
        return x
    return x.builder.append(Node(GATES["copy"], (x.index,), {}, x.shape, label, user_place()))
