"""Emit exp and erf on vectors of doubles, without a call per lane: softmax and GELU spend their time on these.

exp: x = n ln 2 + r, a polynomial in r, and 2^n by integer arithmetic on the exponent. erf: its Taylor series below 1,
and 1 - exp(-x^2) erfcx(x) above, with erfcx by a Chebyshev series in (x - 3)/(x + 3). Tests bound the error of exp by
two units in the last place and that of erf by four.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from llvmlite import ir

from circuitsketch.backends.cpu.expressions import Emitter, MachineReal, emit_fma

LN2_HIGH = 0.693147180369123816490  # ln 2 to 33 bits, so that n * LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10
OVERFLOW, UNDERFLOW = 709.782712893384, -745.133219101941
EXP_TERMS = 14  # 0.35^14 / 14! < 1e-17
ERF_TERMS = 19  # 1 / (19! 39) < 1e-18
NARROW, WIDE = 1.0, 6.0  # below NARROW the series, above WIDE erf is 1 in double precision
CHEBYSHEV_TERMS = 22


def splat_number(emit: Emitter, value: float) -> MachineReal:
    """Return a number in every lane."""
    return emit.real(emit.splat(emit.number(value).value))


def emit_polynomial(emit: Emitter, x: MachineReal, coefficients: list[float]) -> MachineReal:
    """Emit sum_k coefficients[k] x^k, by Horner's rule."""
    total = splat_number(emit, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = emit_fma(emit, total, x, splat_number(emit, c))
    return total


def emit_exp(emit: Emitter, x: MachineReal) -> MachineReal:
    """Emit exp(x)."""
    b, kind = emit.builder, emit.vector
    integer = ir.VectorType(ir.IntType(64), emit.width)

    def integers(value: int) -> ir.Constant:
        return ir.Constant(integer, [value] * emit.width)

    low = b.fcmp_ordered("<", x.value, splat_number(emit, UNDERFLOW).value)
    high = b.fcmp_ordered(">", x.value, splat_number(emit, OVERFLOW).value)
    inside = emit.real(b.select(b.or_(low, high), splat_number(emit, 0.0).value, x.value))
    n = emit.real(emit.call_intrinsic("rint", (inside * (1.0 / math.log(2.0))).value))
    r = emit_fma(emit, -n, splat_number(emit, LN2_HIGH), inside)
    r = emit_fma(emit, -n, splat_number(emit, LN2_LOW), r)
    value = emit_polynomial(emit, r, [1.0 / math.factorial(k) for k in range(EXP_TERMS)])
    # 2^n in two factors, so that subnormal results are reached. NaN has no integer: its n must not matter.
    known = b.fcmp_ordered("ord", n.value, n.value)
    number = b.fptosi(b.select(known, n.value, splat_number(emit, 0.0).value), integer)
    half = b.ashr(number, integers(1))
    for part in (half, b.sub(number, half)):
        power = b.bitcast(b.shl(b.add(part, integers(1023)), integers(52)), kind)
        value = value * emit.real(power)
    result = b.select(low, splat_number(emit, 0.0).value, value.value)
    return emit.real(b.select(high, splat_number(emit, math.inf).value, result))


@cache
def fit_erfcx() -> tuple[float, ...]:
    """Return Chebyshev coefficients of erfcx on [NARROW, WIDE], in the variable of `map_to_chebyshev`."""
    from scipy import special  # a slow import, needed only to emit code

    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    low, high = map_to_chebyshev(NARROW), map_to_chebyshev(WIDE)
    t = (low + high) / 2 + nodes * (high - low) / 2
    x = 3.0 * (1.0 + t) / (1.0 - t)
    fit = np.polynomial.chebyshev.chebfit(nodes, special.erfcx(x), CHEBYSHEV_TERMS - 1)
    return tuple(float(c) for c in fit)


def map_to_chebyshev(x: float) -> float:
    """Return (x - 3) / (x + 3)."""
    return (x - 3.0) / (x + 3.0)


def emit_erf(emit: Emitter, x: MachineReal) -> MachineReal:
    """Emit erf(x)."""
    b = emit.builder
    size = emit.real(emit.call_intrinsic("fabs", x.value))
    square = x * x
    series = [2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(ERF_TERMS)]
    near = emit_polynomial(emit, square, series) * x
    far_size = emit.real(emit.call_intrinsic("minnum", size.value, splat_number(emit, WIDE).value))
    t = (far_size - 3.0) / (far_size + 3.0)
    low, high = map_to_chebyshev(NARROW), map_to_chebyshev(WIDE)
    y = t * (2.0 / (high - low)) - (low + high) / (high - low)
    erfcx = emit_chebyshev(emit, y, fit_erfcx())
    tail = 1.0 - emit_exp(emit, -(far_size * far_size)) * erfcx
    far = emit.real(emit.call_intrinsic("copysign", tail.value, x.value))
    is_near = b.fcmp_unordered("<", size.value, splat_number(emit, NARROW).value)  # NaN takes the series, and stays NaN
    return emit.real(b.select(is_near, near.value, far.value))


def emit_chebyshev(emit: Emitter, y: MachineReal, coefficients: tuple[float, ...]) -> MachineReal:
    """Emit sum_k coefficients[k] T_k(y), by Clenshaw's recurrence."""
    twice = y * 2.0
    one, two = splat_number(emit, 0.0), splat_number(emit, 0.0)
    for c in reversed(coefficients[1:]):
        one, two = emit_fma(emit, twice, one, splat_number(emit, c) - two), one
    return emit_fma(emit, y, one, splat_number(emit, coefficients[0]) - two)
