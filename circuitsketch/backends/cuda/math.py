"""The functions that gates' rules may call, as source text: a rule run on `SourceMath` writes what computes it."""

from __future__ import annotations

from typing import Any

from circuitsketch.backends.numbers import RuleMath
from circuitsketch.gates.math import Elementary


class SourceMath(RuleMath):
    """The functions of `backends.numbers.RuleMath` as nodes of an `expressions.ExpressionGraph`."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def real(self, x: Any) -> Any:
        """Return a number of the code, from one or from a plain number."""
        return self.graph.real(x)

    def call(self, function: Elementary, *operands: Any) -> Any:
        """Return the call of a function of the device's library."""
        return self.graph.node("call", function.device, *(self.real(x) for x in operands))

    def compare(self, sign: str, x: Any, y: Any) -> Any:
        """Return the node of a comparison."""
        return self.graph.node(sign, self.real(x), self.real(y))

    def select(self, test: Any, x: Any, y: Any) -> Any:
        """Return the node of x where the test is not 0, else y."""
        return self.graph.node("choose", self.real(test), x, y)
