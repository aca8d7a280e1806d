"""Numbers that are code under construction: what all backends share of them.

A Taylor rule is run on these numbers, and every operation on them writes code. A backend has its own `Real`, an LLVM
value or a piece of source text; a `Complex` is a pair of reals of any backend; `ZERO` is dropped from sums and
products. `RuleMath` and `UnrolledSeries` are the functions and the series arithmetic that rules may use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuitsketch.gates.math import ELEMENTARY, Elementary


class Zero:
    """A coefficient that is absent: it adds nothing, and a product with it is absent too."""

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


class Real:
    """A real number of generated code, or a vector with one per lane.

    Arithmetic with a `Complex` or `ZERO` is left to those; everything else becomes `combine`, which a backend defines.
    """

    __slots__ = ()

    def combine(self, operation: str, other: Any, swapped: bool = False) -> Any:
        """Write the code of `self operation other`, or of `other operation self` if swapped; operation : + - * /."""
        raise NotImplementedError

    def __add__(self, other: Any) -> Any:
        return other.__radd__(self) if isinstance(other, Complex | Zero) else self.combine("+", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return other.__rsub__(self) if isinstance(other, Complex | Zero) else self.combine("-", other)

    def __rsub__(self, other: Any) -> Any:
        return self.combine("-", other, swapped=True)

    def __mul__(self, other: Any) -> Any:
        return other.__rmul__(self) if isinstance(other, Complex | Zero) else self.combine("*", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self * (1.0 / other) if isinstance(other, int | float) else self.combine("/", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.combine("/", other, swapped=True)


class Complex:
    """A pair of reals: complex arithmetic of LLVM's own would get no fused multiply-adds."""

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


def split_complex(x: Any) -> tuple[Any, Any]:
    """Return the real and the imaginary part of a coefficient."""
    return (x.re, x.im) if isinstance(x, Complex) else (x, ZERO if isinstance(x, Zero) else 0.0)


class RuleMath:
    """The functions that a gate's rules may call, on numbers of generated code; a backend defines the first four.

    The elementary functions of `gates.math` are methods as well, each of which is a `call`.
    """

    def real(self, x: Any) -> Any:
        """Return a number of the code, from one or from a plain number."""
        raise NotImplementedError

    def call(self, function: Elementary, *operands: Any) -> Any:
        """Write the call of an elementary function."""
        raise NotImplementedError

    def compare(self, sign: str, x: Any, y: Any) -> Any:
        """Return 1.0 where the comparison holds, else 0.0; sign : > >= ==."""
        raise NotImplementedError

    def select(self, test: Any, x: Any, y: Any) -> Any:
        """Return x where the test is not 0, else y, of reals."""
        raise NotImplementedError

    def greater(self, x: Any, y: Any) -> Any:
        """Return 1.0 where x > y, else 0.0."""
        return self.compare(">", x, y)

    def greater_equal(self, x: Any, y: Any) -> Any:
        """Return 1.0 where x >= y, else 0.0."""
        return self.compare(">=", x, y)

    def equal(self, x: Any, y: Any) -> Any:
        """Return 1.0 where x == y, else 0.0."""
        return self.compare("==", x, y)

    def choose(self, test: Any, x: Any, y: Any) -> Any:
        """Return x where the test is not 0, else y, of reals or of coefficients."""
        if isinstance(x, Zero) and isinstance(y, Zero):
            return x
        if isinstance(x, Complex) or isinstance(y, Complex):
            (a, b), (c, d) = split_complex(x), split_complex(y)
            return Complex(self.choose(test, a, c), self.choose(test, b, d))
        return self.select(test, *(self.real(0.0 if isinstance(z, Zero) else z) for z in (x, y)))

    def maximum(self, x: Any, y: Any) -> Any:
        """Return the larger number; x where they are equal."""
        return self.choose(self.greater_equal(x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        """Return the smaller number; x where they are equal."""
        return self.choose(self.greater_equal(y, x), x, y)


def make_method(function: Elementary) -> Callable[..., Any]:
    """Return an elementary function as a method of `RuleMath`."""
    return lambda self, *operands: self.call(function, *operands)


for elementary_function in ELEMENTARY.values():
    setattr(RuleMath, elementary_function.name, make_method(elementary_function))


class UnrolledSeries:
    """The series arithmetic of Taylor rules, written out term by term for a given order."""

    zero = ZERO

    def __init__(self, math: RuleMath) -> None:
        self.choose = math.choose

    @staticmethod
    def convolve(
        k: int, u: Any, v: Any, weight: Callable[[int], float] | None = None, low: int = 0, high: int = 0
    ) -> Any:
        """Return sum_{j=low..k-high} weight(j) u_j v_{k-j}; the mirrored products of a square are formed once."""
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
