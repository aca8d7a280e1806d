"""Numbers that are source text, with the manners of numbers, so that the table's rules write device code by running.

Every operation makes a node of a graph, and equal nodes are one node. A `Page` prints what some results need: what is
used once stands inside the expression that uses it, what is used again or has a role gets a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from circuitsketch.backends.contract import Target
from circuitsketch.backends.numbers import Complex, Zero, parts

LINE = 88  # characters after which an expression is given a name and continued on the next line
LEVEL = {"+": 0, "-": 0, "*": 1, "/": 1, "negate": 1}  # how tightly an operation binds; all others are atoms
ATOM = 2


class Real:
    """One real number of the code being written: an operation on others, or a name."""

    __slots__ = ("label", "name", "operands", "operation", "page")

    def __init__(self, page: Page, operation: str, operands: tuple[Any, ...]) -> None:
        self.page = page
        self.operation = operation
        self.operands = operands
        self.label = ""  # the name it would like to have
        self.name = ""  # the name it has got

    @property
    def value(self) -> float | None:
        """The number itself, where it is known."""
        return self.operands[0] if self.operation == "number" else None

    def combined(self, operation: str, other: Any, swapped: bool = False) -> Real:
        """self operation other, or the other way round."""
        pair = (self, self.page.real(other))
        return self.page.node(operation, *(pair[::-1] if swapped else pair))

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Complex | Zero):
            return other.__radd__(self)
        if isinstance(other, Real) and other.operation == "negate":
            return self.combined("-", other.operands[0])
        return self.combined("+", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return other.__rsub__(self) if isinstance(other, Complex | Zero) else self.combined("-", other)

    def __rsub__(self, other: Any) -> Any:
        return self.combined("-", other, swapped=True)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Complex | Zero):
            return other.__rmul__(self)
        other = self.page.real(other)
        if self.value == 1 or other.value == 1:
            return other if self.value == 1 else self
        if self.value is not None and other.value is not None:
            return self.page.number(self.value * other.value)
        return self.combined("*", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        known = other if isinstance(other, int | float) else other.value
        return self.combined("/", other) if known is None else self * (1.0 / known)

    def __rtruediv__(self, other: Any) -> Any:
        return self.combined("/", other, swapped=True)

    def __neg__(self) -> Real:
        return self.page.number(-self.value) if self.value is not None else self.page.node("negate", self)


class Page:
    """The body of a function under construction: makes numbers, and prints those that are wanted.

    It is to the rules of `backends.series` what a `Frame` of machine code is: it has a target, `emit` makes
    constants, `math` holds the elementary functions.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.nodes: dict[Any, Real] = {}
        self.used: set[Real] = set()
        self.math = SourceMath(self)

    @property
    def emit(self) -> Page:
        """What makes constants."""
        return self

    def node(self, operation: str, *operands: Any) -> Real:
        """An operation, once."""
        key = (operation, *operands)
        if operation in "+*" and key not in self.nodes and (operation, *operands[::-1]) in self.nodes:
            key = (operation, *operands[::-1])
        if key not in self.nodes:
            self.nodes[key] = Real(self, operation, operands)
        return self.nodes[key]

    def text(self, text: str) -> Real:
        """A name of the surrounding code."""
        return self.node("text", text)

    def number(self, value: float) -> Real:
        """A constant."""
        return self.node("number", float(value))

    def divisor(self, value: Any) -> Any:
        """A number by which much will be divided: itself, since equal divisions are one node."""
        return value

    def real(self, value: Any) -> Real:
        """A number of the code, from one or from a plain number."""
        return value if isinstance(value, Real) else self.number(value)

    def named(self, value: Any, label: str) -> None:
        """Let a result have a name that says its role."""
        for part, suffix in zip(parts(value), "ri" if isinstance(value, Complex) else " ", strict=False):
            if isinstance(part, Real) and part.operation not in ("number", "text") and not part.label:
                part.label = f"{label}{suffix.strip()}"

    def written(self, results: Sequence[Any]) -> tuple[list[str], list[str]]:
        """Lines that compute numbers, and then an expression for each of them."""
        values = [self.real(0.0 if isinstance(value, Zero) else value) for value in results]
        printer = Printer(values)
        self.used = set(printer.uses)
        shown = [printer.show(value, 0) for value in values]
        return printer.out, shown


class Printer:
    """Prints a graph of numbers as assignments."""

    def __init__(self, results: Sequence[Real]) -> None:
        self.uses: dict[Real, int] = {}
        self.out: list[str] = []
        self.taken: set[str] = set()
        for value in results:
            value.name = ""
            self.count(value)

    def count(self, value: Real) -> None:
        """Count how often every number is used."""
        self.uses[value] = self.uses.get(value, 0) + 1
        if self.uses[value] == 1:
            value.name = ""
            for operand in value.operands:
                if isinstance(operand, Real):
                    self.count(operand)

    def show(self, value: Real, level: int) -> str:
        """An expression for a number in a place that wants at least this level."""
        if value.name:
            return value.name
        text = self.expression(value)
        wants_name = value.operation not in ("number", "text") and (
            value.label or self.uses[value] > 1 or len(text) > LINE
        )
        if wants_name:
            value.name = self.fresh(value.label or "t")
            self.out.append(f"{value.name} = {text}")
            return value.name
        return f"({text})" if LEVEL.get(value.operation, ATOM) < level else text

    def fresh(self, label: str) -> str:
        """A name not taken yet."""
        name, i = label, 1
        while name in self.taken:
            i += 1
            name = f"{label}_{i}"
        self.taken.add(name)
        return name

    def expression(self, value: Real) -> str:
        """A number's operation, its operands shown as they stand."""
        operation, operands = value.operation, value.operands
        if operation == "text":
            return str(operands[0])
        if operation == "number":
            return written_number(operands[0], value.page.target.single)
        if operation == "negate":
            return f"-{self.show(operands[0], ATOM)}"
        if operation == "call":
            return f"{operands[0]}({', '.join(self.show(x, 0) for x in operands[1:])})"
        if operation == "choose":
            test, x, y = operands
            return f"({self.show(x, 0)} if {self.truth(test)} else {self.show(y, 0)})"
        if operation in ("+", "-", "*", "/"):
            level = LEVEL[operation]
            left, right = self.show(operands[0], level), self.show(operands[1], level + 1)
            return f"{left} {operation} {right}"
        real = lambda number: written_number(number, value.page.target.single)  # noqa: E731
        return f"({real(1.0)} if {self.truth(value)} else {real(0.0)})"

    def truth(self, test: Real) -> str:
        """A comparison, or a number that is not zero, as a condition."""
        if test.operation in (">", ">=", "==") and not test.name:
            x, y = (self.show(operand, 0) for operand in test.operands)
            return f"{x} {test.operation} {y}"
        return f"{self.show(test, 0)} != 0.0"


def written_number(value: float, single: bool) -> str:
    """A constant in the lanes' precision: an arithmetic of float32 with a plain 0.5 would be float64."""
    text = f"float('{value}')" if value != value or value in (float("inf"), float("-inf")) else repr(value)
    return f"real({text})" if single else text


class SourceMath:
    """The elementary functions that a gate's `constants` may call, and its `step`'s choice, as source."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def real(self, x: Any) -> Real:
        """A number of the code."""
        return self.page.real(x)

    def call(self, function: str, *operands: Any) -> Real:
        """A function of the device's library."""
        return self.page.node("call", function, *(self.real(x) for x in operands))

    def exp(self, x: Any) -> Real:
        """e^x."""
        return self.call("math.exp", x)

    def expm1(self, x: Any) -> Real:
        """e^x - 1."""
        return self.call("math.expm1", x)

    def log(self, x: Any) -> Real:
        """ln x."""
        return self.call("math.log", x)

    def log1p(self, x: Any) -> Real:
        """ln(1 + x)."""
        return self.call("math.log1p", x)

    def sin(self, x: Any) -> Real:
        """sin x."""
        return self.call("math.sin", x)

    def cos(self, x: Any) -> Real:
        """cos x."""
        return self.call("math.cos", x)

    def tanh(self, x: Any) -> Real:
        """tanh x."""
        return self.call("math.tanh", x)

    def erf(self, x: Any) -> Real:
        """erf x."""
        return self.call("math.erf", x)

    def power(self, x: Any, exponent: Any) -> Real:
        """x^exponent."""
        return self.call("math.pow", x, exponent)

    def sqrt(self, x: Any) -> Real:
        """The square root."""
        return self.call("math.sqrt", x)

    def absolute(self, x: Any) -> Real:
        """|x|."""
        return self.call("math.fabs", x)

    def greater(self, x: Any, y: Any) -> Real:
        """1.0 where x > y, else 0.0."""
        return self.page.node(">", self.real(x), self.real(y))

    def greater_equal(self, x: Any, y: Any) -> Real:
        """1.0 where x >= y, else 0.0."""
        return self.page.node(">=", self.real(x), self.real(y))

    def equal(self, x: Any, y: Any) -> Real:
        """1.0 where x == y, else 0.0."""
        return self.page.node("==", self.real(x), self.real(y))

    def choose(self, test: Any, x: Any, y: Any) -> Any:
        """x where the test is not 0, else y; on numbers and on coefficients."""
        if isinstance(x, Zero) and isinstance(y, Zero):
            return x
        if isinstance(x, Complex) or isinstance(y, Complex):
            (a, b), (c, d) = parts(x), parts(y)
            return Complex(self.choose(test, a, c), self.choose(test, b, d))
        one, two = (self.real(0.0 if isinstance(z, Zero) else z) for z in (x, y))
        return self.page.node("choose", self.real(test), one, two)

    def maximum(self, x: Any, y: Any) -> Real:
        """The larger; x where they are equal."""
        return self.choose(self.greater_equal(x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Real:
        """The smaller; x where they are equal."""
        return self.choose(self.greater_equal(y, x), x, y)


__all__ = ["Page", "Printer", "Real", "SourceMath"]
