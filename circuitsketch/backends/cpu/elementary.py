"""Emit exp and erf on vectors, without a call per lane: softmax and GELU spend their time on these.

exp: x = n ln 2 + r, a polynomial in r, and 2^n by integer arithmetic on the exponent. erf: its Taylor series below 1,
and 1 - exp(-x^2) erfcx(x) above, with erfcx by a Chebyshev series in (x - 3)/(x + 3). Both are computed in the
precision of the lanes, with as many terms as it needs. Tests bound the error of exp by two units in the last place and
that of erf by four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from llvmlite import ir

from circuitsketch.backends.cpu.expressions import Emitter, MachineReal, emit_fma

NARROW = 1.0  # below it erf by its Taylor series


@dataclass(frozen=True)
class Precision:
    """What exp and erf need of a floating-point format.

    Attributes
    ----------
    bits, fraction, bias : the size of the format, of its fraction, and the exponent's bias.
    ln2_high, ln2_low : their sum is ln 2, and n * ln2_high is exact for every exponent n.
    underflow, overflow : below and above, exp is 0 and infinite.
    exp_terms, erf_terms, chebyshev_terms : of the series.
    wide : above it, erf is 1.
    """

    bits: int
    fraction: int
    bias: int
    ln2_high: float
    ln2_low: float
    underflow: float
    overflow: float
    exp_terms: int
    erf_terms: int
    chebyshev_terms: int
    wide: float


DOUBLE = Precision(
    bits=64,
    fraction=52,
    bias=1023,
    ln2_high=0.693147180369123816490,
    ln2_low=1.90821492927058770002e-10,
    underflow=-745.133219101941,
    overflow=709.782712893384,
    exp_terms=14,  # 0.35^14 / 14! < 1e-17
    erf_terms=19,  # 1 / (19! 39) < 1e-18
    chebyshev_terms=22,
    wide=6.0,
)
SINGLE = Precision(
    bits=32,
    fraction=23,
    bias=127,
    ln2_high=0.693359375,
    ln2_low=-2.12194440054690583e-4,
    underflow=-103.972076416015625,
    overflow=88.7228317260742188,
    exp_terms=8,  # 0.35^8 / 8! < 6e-9
    erf_terms=11,  # 1 / (11! 23) < 2e-9
    chebyshev_terms=8,
    wide=4.0,
)


def precision_of(emit: Emitter) -> Precision:
    """Return the precision of a kernel's lanes."""
    return SINGLE if isinstance(emit.element, ir.FloatType) else DOUBLE


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
    b, kind, p = emit.builder, emit.vector, precision_of(emit)
    integer = ir.VectorType(ir.IntType(p.bits), emit.width)

    def integers(value: int) -> ir.Constant:
        return ir.Constant(integer, [value] * emit.width)

    low = b.fcmp_ordered("<", x.value, splat_number(emit, p.underflow).value)
    high = b.fcmp_ordered(">", x.value, splat_number(emit, p.overflow).value)
    inside = emit.real(b.select(b.or_(low, high), splat_number(emit, 0.0).value, x.value))
    n = emit.real(emit.call_intrinsic("rint", (inside * (1.0 / math.log(2.0))).value))
    r = emit_fma(emit, -n, splat_number(emit, p.ln2_high), inside)
    r = emit_fma(emit, -n, splat_number(emit, p.ln2_low), r)
    value = emit_polynomial(emit, r, [1.0 / math.factorial(k) for k in range(p.exp_terms)])
    # 2^n in two factors, so that subnormal results are reached. NaN has no integer: its n must not matter.
    known = b.fcmp_ordered("ord", n.value, n.value)
    number = b.fptosi(b.select(known, n.value, splat_number(emit, 0.0).value), integer)
    half = b.ashr(number, integers(1))
    for part in (half, b.sub(number, half)):
        power = b.bitcast(b.shl(b.add(part, integers(p.bias)), integers(p.fraction)), kind)
        value = value * emit.real(power)
    result = b.select(low, splat_number(emit, 0.0).value, value.value)
    return emit.real(b.select(high, splat_number(emit, math.inf).value, result))


@cache
def fit_erfcx(wide: float, terms: int) -> tuple[float, ...]:
    """Return Chebyshev coefficients of erfcx on [NARROW, wide], in the variable of `map_to_chebyshev`."""
    from scipy import special  # a slow import, needed only to emit code

    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    low, high = map_to_chebyshev(NARROW), map_to_chebyshev(wide)
    t = (low + high) / 2 + nodes * (high - low) / 2
    x = 3.0 * (1.0 + t) / (1.0 - t)
    fit = np.polynomial.chebyshev.chebfit(nodes, special.erfcx(x), terms - 1)
    return tuple(float(c) for c in fit)


def map_to_chebyshev(x: float) -> float:
    """Return (x - 3) / (x + 3)."""
    return (x - 3.0) / (x + 3.0)


def emit_erf(emit: Emitter, x: MachineReal) -> MachineReal:
    """Emit erf(x)."""
    b, p = emit.builder, precision_of(emit)
    size = emit.real(emit.call_intrinsic("fabs", x.value))
    square = x * x
    series = [2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(p.erf_terms)]
    near = emit_polynomial(emit, square, series) * x
    far_size = emit.real(emit.call_intrinsic("minnum", size.value, splat_number(emit, p.wide).value))
    t = (far_size - 3.0) / (far_size + 3.0)
    low, high = map_to_chebyshev(NARROW), map_to_chebyshev(p.wide)
    y = t * (2.0 / (high - low)) - (low + high) / (high - low)
    erfcx = emit_chebyshev(emit, y, fit_erfcx(p.wide, p.chebyshev_terms))
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
