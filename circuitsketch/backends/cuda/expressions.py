"""Numbers that are source text: arithmetic on them writes device code.

Every operation makes a node of an `ExpressionGraph`, and equal nodes are one node. A `CodePrinter` prints what some
results need: a node that is used once becomes part of the expression that uses it; one that is used several times, or
has a role, gets a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from circuitsketch.backends.contract import Target
from circuitsketch.backends.cuda.math import SourceMath
from circuitsketch.backends.numbers import Complex, Real, Zero, split_complex

LINE = 88  # characters after which an expression is given a name and continued on the next line
LEVEL = {"+": 0, "-": 0, "*": 1, "/": 1, "negate": 1}  # the precedence of operations; all others are atoms
ATOM = 2


class SourceReal(Real):
    """A real number of source text: an operation on others, a constant, or a name of the surrounding code."""

    __slots__ = ("graph", "label", "name", "operands", "operation")

    def __init__(self, graph: ExpressionGraph, operation: str, operands: tuple[Any, ...]) -> None:
        self.graph = graph
        self.operation = operation
        self.operands = operands
        self.label = ""  # the requested name
        self.name = ""  # the assigned name

    @property
    def value(self) -> float | None:
        """The number itself, if it is a constant."""
        return self.operands[0] if self.operation == "number" else None

    def combine(self, operation: str, other: Any, swapped: bool = False) -> SourceReal:
        """Return the node of an operation; constants are folded, and x + (-y) is x - y."""
        other = self.graph.real(other)
        if operation == "+" and other.operation == "negate":
            operation, other = "-", other.operands[0]
        elif operation == "/" and not swapped and other.value is not None:
            operation, other = "*", self.graph.number(1.0 / other.value)
        if operation == "*":
            if self.value == 1 or other.value == 1:
                return other if self.value == 1 else self
            if self.value is not None and other.value is not None:
                return self.graph.number(self.value * other.value)
        return self.graph.node(operation, *((other, self) if swapped else (self, other)))

    def __neg__(self) -> SourceReal:
        return self.graph.number(-self.value) if self.value is not None else self.graph.node("negate", self)


class ExpressionGraph:
    """The body of a function under construction: makes numbers, and prints results.

    To the rules that `backends.series` runs, it is what the CPU's `Frame` is: it has a target, `emit` makes constants,
    and `math` has the elementary functions.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.nodes: dict[Any, SourceReal] = {}
        self.used: set[SourceReal] = set()
        self.math = SourceMath(self)

    @property
    def emit(self) -> ExpressionGraph:
        """The maker of constants: the graph itself."""
        return self

    def node(self, operation: str, *operands: Any) -> SourceReal:
        """Return the node of an operation."""
        key = (operation, *operands)
        if operation in "+*" and key not in self.nodes and (operation, *operands[::-1]) in self.nodes:
            key = (operation, *operands[::-1])
        if key not in self.nodes:
            self.nodes[key] = SourceReal(self, operation, operands)
        return self.nodes[key]

    def text(self, text: str) -> SourceReal:
        """Return a name of the surrounding code."""
        return self.node("text", text)

    def number(self, value: float) -> SourceReal:
        """Return a constant."""
        return self.node("number", float(value))

    def divisor(self, value: Any) -> Any:
        """Return a number that many others will be divided by: itself, since equal divisions are one node."""
        return value

    def real(self, value: Any) -> SourceReal:
        """Return a number of the code, from one or from a plain number."""
        return value if isinstance(value, SourceReal) else self.number(value)

    def request_name(self, value: Any, label: str) -> None:
        """Request a name that says the role of a result."""
        for part, suffix in zip(split_complex(value), "ri" if isinstance(value, Complex) else " ", strict=False):
            if isinstance(part, SourceReal) and part.operation not in ("number", "text") and not part.label:
                part.label = f"{label}{suffix.strip()}"

    def write(self, results: Sequence[Any]) -> tuple[list[str], list[str]]:
        """Return lines that compute numbers, and an expression for each of them."""
        values = [self.real(0.0 if isinstance(value, Zero) else value) for value in results]
        printer = CodePrinter(values)
        self.used = set(printer.uses)
        shown = [printer.show(value, 0) for value in values]
        return printer.out, shown


class CodePrinter:
    """Prints a graph of numbers as assignments."""

    def __init__(self, results: Sequence[SourceReal]) -> None:
        self.uses: dict[SourceReal, int] = {}
        self.out: list[str] = []
        self.taken: set[str] = set()
        for value in results:
            value.name = ""
            self.count(value)

    def count(self, value: SourceReal) -> None:
        """Count the uses of a number, and of what it depends on."""
        self.uses[value] = self.uses.get(value, 0) + 1
        if self.uses[value] == 1:
            value.name = ""
            for operand in value.operands:
                if isinstance(operand, SourceReal):
                    self.count(operand)

    def show(self, value: SourceReal, level: int) -> str:
        """Return the expression of a number, in parentheses if its precedence is below `level`."""
        if value.name:
            return value.name
        text = self.expression(value)
        wants_name = value.operation not in ("number", "text") and (
            value.label or self.uses[value] > 1 or len(text) > LINE
        )
        if wants_name:
            value.name = self.make_name(value.label or "t")
            self.out.append(f"{value.name} = {text}")
            return value.name
        return f"({text})" if LEVEL.get(value.operation, ATOM) < level else text

    def make_name(self, label: str) -> str:
        """Return a name that is not taken yet."""
        name, i = label, 1
        while name in self.taken:
            i += 1
            name = f"{label}_{i}"
        self.taken.add(name)
        return name

    def expression(self, value: SourceReal) -> str:
        """Return the text of a number's operation."""
        operation, operands = value.operation, value.operands
        if operation == "text":
            return str(operands[0])
        if operation == "number":
            return format_number(operands[0], value.graph.target.single)
        if operation == "negate":
            return f"-{self.show(operands[0], ATOM)}"
        if operation == "call":
            return f"{operands[0]}({', '.join(self.show(x, 0) for x in operands[1:])})"
        if operation == "choose":
            test, x, y = operands
            return f"({self.show(x, 0)} if {self.condition(test)} else {self.show(y, 0)})"
        if operation in ("+", "-", "*", "/"):
            level = LEVEL[operation]
            left, right = self.show(operands[0], level), self.show(operands[1], level + 1)
            return f"{left} {operation} {right}"
        real = lambda number: format_number(number, value.graph.target.single)  # noqa: E731
        return f"({real(1.0)} if {self.condition(value)} else {real(0.0)})"

    def condition(self, test: SourceReal) -> str:
        """Return the condition that a comparison holds, or that a number is not zero."""
        if test.operation in (">", ">=", "==") and not test.name:
            x, y = (self.show(operand, 0) for operand in test.operands)
            return f"{x} {test.operation} {y}"
        return f"{self.show(test, 0)} != 0.0"


def format_number(value: float, single: bool) -> str:
    """Return a constant in the lanes' precision: float32 arithmetic with a plain 0.5 would be float64."""
    text = f"float('{value}')" if value != value or value in (float("inf"), float("-inf")) else repr(value)
    return f"real({text})" if single else text
