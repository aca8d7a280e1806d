"""Generate the code of a gate on truncated series, unrolled; and list the real products in a product of coefficients.

In: a gate of a chain, and its operands' coefficients as numbers of generated code. Out: the result's. Both backends run
the rules of gates through this file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from circuitsketch.backends.numbers import ZERO, Complex, UnrolledSeries, Zero
from circuitsketch.lower.instructions import ChainGate


class Coefficients:
    """A series under construction: coefficient 0, which all lanes share, and coefficients k >= 1, one per lane."""

    def __init__(self, constant: Any, order: int) -> None:
        self.coefficients: list[Any] = [constant] + [ZERO] * order

    def __getitem__(self, k: int) -> Any:
        return self.coefficients[k]

    def __setitem__(self, k: int, value: Any) -> None:
        self.coefficients[k] = value


def emit_gate(
    frame: Any, gate: ChainGate, operands: list[Coefficients], value: Any, companions: list[Any]
) -> Coefficients:
    """Return a gate's result on series.

    A function of one operand is composed from its own Taylor coefficients at the constant term, which all lanes share;
    the rule of any other gate runs on the lanes.

    Parameters
    ----------
    frame : Any
        A backend's function under construction: it has a `target`, the functions `math`, and `emit` for constants and
        divisors.
    gate : ChainGate
        The gate.
    operands : list of Coefficients
        Its operands.
    value, companions : Any
        The constant terms of its result and of the auxiliary series.
    """
    order = frame.target.mode.order
    rule = gate.gate
    params = dict(gate.params)
    ops = UnrolledSeries(frame.math)
    out = Coefficients(value, order)
    assert rule.step is not None
    if rule.is_composed:
        return emit_composition(frame, rule, ops, operands[0], value, companions, params)
    extra = [Coefficients(companion, order) for companion in companions]
    for k in range(1, order + 1):
        rule.step(k, ops, *operands, out, *extra, **params)
    return out


def emit_composition(
    frame: Any,
    rule: Any,
    ops: Any,
    u: Coefficients,
    value: Any,
    companions: list[Any],
    params: dict[str, Any],
) -> Coefficients:
    """Return v = sum_m f_m (u - u_0)^m, where f_m are the function's coefficients at u_0, by its rule along u_0 + z."""
    order = frame.target.mode.order
    line = Coefficients(frame.emit.divisor(u[0]), order)
    line[1] = frame.emit.number(1.0)
    f = Coefficients(value, order)
    extra = [Coefficients(companion, order) for companion in companions]
    for k in range(1, order + 1):
        rule.step(k, ops, line, f, *extra, **params)
    if rule.domain is not None:  # on its edge (sqrt at 0), the series of an unchanged element is 0, not 0 x inf
        math = frame.math
        for k in range(1, order + 1):
            f[k] = math.choose(math.equal(f[k] - f[k], 0.0), f[k], 0.0)
    out = Coefficients(value, order)
    power = Coefficients(ZERO, order)
    for k in range(1, order + 1):
        power[k] = u[k]
    shifted = Coefficients(ZERO, order)
    for k in range(1, order + 1):
        shifted[k] = u[k]
    for m in range(1, order + 1):
        if m > 1:
            following = Coefficients(ZERO, order)
            for k in range(m, order + 1):
                if m == 2:
                    following[k] = ops.convolve(k, shifted, shifted)
                else:
                    following[k] = ops.convolve(k, shifted, power)
            power = following
        for k in range(m, order + 1):
            out[k] = out[k] + power[k] * f[m]
    return out


class RealProduct(NamedTuple):
    """A product of two reals, and the part of a coefficient that it is added to: 0 the real, 1 the imaginary one.

    subtracted : it is taken away instead, as the product of two imaginary parts is.
    """

    part: int
    left: Any
    right: Any
    subtracted: bool = False


def list_products(x: Any, y: Any) -> tuple[list[RealProduct], list[RealProduct]]:
    """Return the real products that make up the product of two coefficients, in two halves.

    No half adds to one part twice: code that takes several products half by half never waits for an addition.
    """
    if isinstance(x, Zero) or isinstance(y, Zero):
        return [], []
    if isinstance(x, Complex) and isinstance(y, Complex):
        first = [RealProduct(0, x.re, y.re), RealProduct(1, x.re, y.im)]
        return first, [RealProduct(0, x.im, y.im, subtracted=True), RealProduct(1, x.im, y.re)]
    if isinstance(x, Complex):
        x, y = y, x
    parts = (y.re, y.im) if isinstance(y, Complex) else (y,)
    return [RealProduct(part, x, value) for part, value in enumerate(parts)], []
