"""exp and erf on vectors of doubles, without a call a lane: what softmax and GELU spend their time on.

exp: x = n ln 2 + r, a polynomial in r, the exponent put together by integer arithmetic. erf: its own series below 1,
and 1 - exp(-x^2) erfcx(x) above, erfcx by a Chebyshev series in (x - 3)/(x + 3). Tests hold exp to two units in the
last place and erf to four.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from llvmlite import ir

from circuitsketch.backends.cpu.emitter import Emitter, Real

LN2_HIGH = 0.693147180369123816490  # ln 2 to 33 bits, so that n * LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10
OVERFLOW, UNDERFLOW = 709.782712893384, -745.133219101941
EXP_TERMS = 14  # 0.35^14 / 14! < 1e-17
ERF_TERMS = 19  # 1 / (19! 39) < 1e-18
NARROW, WIDE = 1.0, 6.0  # below NARROW the series, above WIDE erf is 1 in double precision
CHEBYSHEV_TERMS = 22


def fma(emit: Emitter, x: Real, y: Real, z: Real) -> Real:
    """x * y + z in one rounding."""
    return emit.real(emit.intrinsic("fma", x.value, y.value, z.value))


def spread(emit: Emitter, value: float) -> Real:
    """A number in every lane."""
    return emit.real(emit.splat(emit.number(value).value))


def polynomial(emit: Emitter, x: Real, coefficients: list[float]) -> Real:
    """sum_k coefficients[k] x^k, by Horner's rule."""
    total = spread(emit, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = fma(emit, total, x, spread(emit, c))
    return total


def vector_exp(emit: Emitter, x: Real) -> Real:
    """e^x a lane."""
    b, kind = emit.builder, emit.vector
    whole = ir.VectorType(ir.IntType(64), emit.width)

    def integers(value: int) -> ir.Constant:
        return ir.Constant(whole, [value] * emit.width)

    low = b.fcmp_ordered("<", x.value, spread(emit, UNDERFLOW).value)
    high = b.fcmp_ordered(">", x.value, spread(emit, OVERFLOW).value)
    inside = emit.real(b.select(b.or_(low, high), spread(emit, 0.0).value, x.value))
    n = emit.real(emit.intrinsic("rint", (inside * (1.0 / math.log(2.0))).value))
    r = fma(emit, -n, spread(emit, LN2_HIGH), inside)
    r = fma(emit, -n, spread(emit, LN2_LOW), r)
    value = polynomial(emit, r, [1.0 / math.factorial(k) for k in range(EXP_TERMS)])
    # 2^n in two factors, so that subnormal results are reached. NaN has no integer: its n must not matter.
    known = b.fcmp_ordered("ord", n.value, n.value)
    number = b.fptosi(b.select(known, n.value, spread(emit, 0.0).value), whole)
    half = b.ashr(number, integers(1))
    for part in (half, b.sub(number, half)):
        power = b.bitcast(b.shl(b.add(part, integers(1023)), integers(52)), kind)
        value = value * emit.real(power)
    found = b.select(low, spread(emit, 0.0).value, value.value)
    return emit.real(b.select(high, spread(emit, math.inf).value, found))


@cache
def erfcx_coefficients() -> tuple[float, ...]:
    """Chebyshev coefficients of erfcx on [NARROW, WIDE], in the variable of `erfcx_variable`."""
    from scipy import special  # a slow import, and needed only where code is emitted

    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    low, high = mapped(NARROW), mapped(WIDE)
    t = (low + high) / 2 + nodes * (high - low) / 2
    x = 3.0 * (1.0 + t) / (1.0 - t)
    fit = np.polynomial.chebyshev.chebfit(nodes, special.erfcx(x), CHEBYSHEV_TERMS - 1)
    return tuple(float(c) for c in fit)


def mapped(x: float) -> float:
    """(x - 3) / (x + 3)."""
    return (x - 3.0) / (x + 3.0)


def vector_erf(emit: Emitter, x: Real) -> Real:
    """erf(x) a lane."""
    b = emit.builder
    size = emit.real(emit.intrinsic("fabs", x.value))
    square = x * x
    series = [2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(ERF_TERMS)]
    near = polynomial(emit, square, series) * x
    far_size = emit.real(emit.intrinsic("minnum", size.value, spread(emit, WIDE).value))
    t = (far_size - 3.0) / (far_size + 3.0)
    low, high = mapped(NARROW), mapped(WIDE)
    y = t * (2.0 / (high - low)) - (low + high) / (high - low)
    erfcx = clenshaw(emit, y, erfcx_coefficients())
    tail = 1.0 - vector_exp(emit, -(far_size * far_size)) * erfcx
    far = emit.real(emit.intrinsic("copysign", tail.value, x.value))
    is_near = b.fcmp_unordered("<", size.value, spread(emit, NARROW).value)  # NaN takes the series, and stays NaN
    return emit.real(b.select(is_near, near.value, far.value))


def clenshaw(emit: Emitter, y: Real, coefficients: tuple[float, ...]) -> Real:
    """sum_k coefficients[k] T_k(y)."""
    twice = y * 2.0
    one, two = spread(emit, 0.0), spread(emit, 0.0)
    for c in reversed(coefficients[1:]):
        one, two = fma(emit, twice, one, spread(emit, c) - two), one
    return fma(emit, y, one, spread(emit, coefficients[0]) - two)
