"""Powers of wires, by the kind of exponent: a number, an array, or a wire.

In: a base and an exponent, one of them a wire. Out: a wire. The values are NumPy's, element by element. Integer
exponents known at tracing time become products, which have a series at zero too; all others are one gate per element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.circuit import Label, Node
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates import GATES

LARGEST_POWER = 1 << 20  # by squaring, an integer power costs two products per binary digit


def power(x: Any, exponent: Any) -> Any:
    """Compute x ** exponent; an integer if both are integers."""
    if isinstance(exponent, Wire):
        return wire_power(x, exponent)
    exponents = np.asarray(exponent)
    if exponents.dtype.kind in "iub" and is_integral(x):
        if np.any(exponents < 0):
            raise TraceError(
                f"{user_place()}: Integers to negative integer powers are not allowed; convert the base to floats "
                "(x.astype(float))"
            )
        x = with_label(x, "int")
    else:
        x = with_label(x, "float")
    if exponents.ndim:
        return power_by_array(x, exponents.astype(np.float64))
    number = float(exponents)
    if number.is_integer() and abs(number) <= LARGEST_POWER:
        return integer_power(x, int(number))
    if special_case := {0.5: "sqrt", -0.5: "rsqrt"}.get(number):
        return GATES[special_case](x)
    return GATES["power"](x, exponent=number)


def float_power(x: Any, exponent: Any) -> Any:
    """Compute x ** exponent in floats."""
    return power(real(x), real(exponent))


def integer_power(x: Any, exponent: int) -> Any:
    """Compute x^n by repeated squaring."""
    if exponent < 0:
        return integer_power(GATES["reciprocal"](x), -exponent)  # in this order the slope at 0 is infinite, not NaN
    if exponent == 0:
        return x.builder.lift(np.ones(x.shape, dtype=x.dtype))
    if exponent == 1:
        return x
    half = GATES["square"](integer_power(x, exponent // 2))
    return half * x if exponent % 2 else half


def power_by_array(x: Any, exponents: np.ndarray) -> Any:
    """Compute x ** exponents: integer exponents by products, others by a gate, each on its own bases only."""
    integral = (np.abs(exponents) <= LARGEST_POWER) & (exponents == np.rint(exponents))
    if integral.all():
        return products(x, exponents.astype(np.int64))
    rest = GATES["raise_to"](np.where(integral, 1.0, x), np.where(integral, 1.0, exponents))
    if not integral.any():
        return rest
    return np.where(integral, products(x, np.where(integral, exponents, 0.0).astype(np.int64)), rest)


def products(x: Any, exponents: np.ndarray) -> Any:
    """Compute x ** exponents for integer exponents: multiply the squares of x where a binary digit is 1.

    An element whose digits are exhausted continues as 1, so that no unused square overflows or has an infinite
    derivative.
    """
    size = np.abs(exponents)
    one = 1 if x.label == "int" else 1.0
    square = np.where(size > 0, x, one)
    if (negative := exponents < 0).any():
        square = np.where(negative, GATES["reciprocal"](np.where(negative, square, one)), square)
    result: Any = None
    for digit in range(max(int(size.max(initial=0)).bit_length(), 1)):
        if digit:
            square = GATES["square"](np.where(size >> digit > 0, square, one))
        factor = np.where((size >> digit) % 2 == 1, square, one)
        result = factor if result is None else result * factor
    return result


def wire_power(x: Any, exponent: Wire) -> Any:
    """Compute x ** exponent for a run-time exponent; NaN for negative powers of integers, which NumPy rejects."""
    value = GATES["raise_to"](x, exponent)
    if not (is_integral(x) and is_integral(exponent)):
        return value
    return with_label(GATES["where"](np.less(exponent, 0), np.nan, value), "int")


def is_integral(x: Any) -> bool:
    """Return whether an operand is integers or booleans."""
    return bool((x.dtype if isinstance(x, Wire) else np.asarray(x).dtype).kind in "iub")


def real(x: Any) -> Any:
    """Convert an operand to floats."""
    return with_label(x, "float") if isinstance(x, Wire) else np.asarray(x, dtype=np.float64)


def with_label(x: Wire, label: Label) -> Wire:
    """Return the same numbers under another label."""
    if x.label == label:
        return x
    return x.builder.append(Node(GATES["copy"], (x.index,), {}, x.shape, label, user_place()))
