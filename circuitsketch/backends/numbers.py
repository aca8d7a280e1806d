"""Numbers that are code under construction, as far as all backends have them: pairs of reals, and zeros that vanish.

A backend has its own `Real` (an LLVM value, a piece of source text); a `Complex` is a pair of reals of any backend;
`ZERO` vanishes from every sum and product. `StraightSeries` is the arithmetic that Taylor rules ask for, on any of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Zero:
    """The coefficient that is not there."""

    def __add__(self, other: Any) -> Any:
        return other

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return -other

    def __rsub__(self, other: Any) -> Any:
        return other

    def __mul__(self, other: Any) -> Zero:
        return self

    __rmul__ = __mul__
    __truediv__ = __mul__

    def __neg__(self) -> Zero:
        return self

    def __repr__(self) -> str:
        return "ZERO"


ZERO = Zero()


class Complex:
    """A complex number a lane, as a pair: complex arithmetic of the machine's own gets no fused multiply-adds."""

    __slots__ = ("im", "re")

    def __init__(self, re: Any, im: Any) -> None:
        self.re = re
        self.im = im

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Zero):
            return self
        if isinstance(other, Complex):
            return Complex(self.re + other.re, self.im + other.im)
        return Complex(self.re + other, self.im)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Zero):
            return self
        if isinstance(other, Complex):
            return Complex(self.re - other.re, self.im - other.im)
        return Complex(self.re - other, self.im)

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Zero):
            return other
        if isinstance(other, Complex):
            re = self.re * other.re - self.im * other.im
            return Complex(re, self.re * other.im + self.im * other.re)
        return Complex(self.re * other, self.im * other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        inverse = 1.0 / other
        return Complex(self.re * inverse, self.im * inverse)

    def __neg__(self) -> Complex:
        return Complex(-self.re, -self.im)


def parts(x: Any) -> tuple[Any, Any]:
    """Real and imaginary part of a coefficient."""
    return (x.re, x.im) if isinstance(x, Complex) else (x, ZERO if isinstance(x, Zero) else 0.0)


class StraightSeries:
    """The arithmetic of Taylor rules for a given order, emitted in a straight line."""

    zero = ZERO

    def __init__(self, math: Any) -> None:
        self.choose = math.choose

    @staticmethod
    def convolve(
        k: int, u: Any, v: Any, weight: Callable[[int], float] | None = None, low: int = 0, high: int = 0
    ) -> Any:
        """sum_{j=low..k-high} weight(j) u_j v_{k-j}; a square's mirrored products are formed once."""
        total: Any = ZERO
        if u is v and weight is None and low == high:
            for j in range(low, (k + 1) // 2):
                total = total + u[j] * v[k - j]
            total = total * 2.0
            if k % 2 == 0 and k // 2 >= low:
                total = total + u[k // 2] * u[k // 2]
            return total
        for j in range(low, k - high + 1):
            one, two = u[j], v[k - j]
            if isinstance(one, Zero) or isinstance(two, Zero):
                continue
            total = total + (one if weight is None else one * weight(j)) * two
        return total
