"""Which equations of a jaxpr anybody reads, so that nothing is asked of the others.

In: a jaxpr and which of its outputs are needed. Out: its live equations, each with the outputs of it that are needed,
and the inputs that they read. Accuracies beside a loss, and JAX's own leftovers, are dead, whatever they compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Literal

# The parameter that holds the jaxpr of a call which is inlined.
CALLS = {
    **dict.fromkeys(("jit", "pjit", "remat", "remat2", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_lin"), "call_jaxpr"),
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


def called_jaxpr(equation: Any) -> ClosedJaxpr | None:
    """Return the jaxpr of a call, or None for another equation."""
    name = CALLS.get(equation.primitive.name)
    if name is None:
        return None
    jaxpr = equation.params.get(name) or equation.params["call_jaxpr"]
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


class Liveness:
    """The live equations of jaxprs; each question is answered once."""

    def __init__(self) -> None:
        self.answers: dict[tuple[int, tuple[bool, ...]], tuple[Any, list[Any], list[bool]]] = {}

    def equations(self, jaxpr: Any, wanted: Sequence[bool]) -> list[tuple[Any, list[bool]]]:
        """Return the live equations in order, each with which of its outputs are needed."""
        return self.answer(jaxpr, wanted)[1]

    def inputs(self, jaxpr: Any, wanted: Sequence[bool]) -> list[bool]:
        """Return which inputs of a jaxpr the wanted outputs depend on."""
        return self.answer(jaxpr, wanted)[2]

    def answer(self, jaxpr: Any, wanted: Sequence[bool]) -> tuple[Any, list[Any], list[bool]]:
        """Return the jaxpr, its live equations and its live inputs."""
        key = id(jaxpr), tuple(wanted)
        if key not in self.answers:
            live = {v for v, needed in zip(jaxpr.outvars, wanted, strict=True) if needed and not isinstance(v, Literal)}
            equations = []
            for equation in reversed(jaxpr.eqns):
                outputs = [v in live for v in equation.outvars]
                if any(outputs):
                    equations.append((equation, outputs))
                    needed_inputs = zip(equation.invars, self.operands(equation, outputs), strict=True)
                    live.update(v for v, needed in needed_inputs if needed and not isinstance(v, Literal))
            self.answers[key] = jaxpr, equations[::-1], [v in live for v in jaxpr.invars]
        return self.answers[key]

    def count(self, jaxpr: Any, wanted: Sequence[bool]) -> int:
        """Return the number of live equations of a jaxpr, with calls and loops of a fixed length written out."""
        return sum(self.count_equation(equation, outputs) for equation, outputs in self.equations(jaxpr, wanted))

    def count_equation(self, equation: Any, outputs: Sequence[bool]) -> int:
        """Return the number of equations that an equation stands for."""
        params = equation.params
        if (called := called_jaxpr(equation)) is not None:
            return self.count(called.jaxpr, outputs)
        if equation.primitive.name == "scan":
            return int(params["length"]) * self.count(params["jaxpr"].jaxpr, self.scan_outputs(equation, outputs))
        if equation.primitive.name == "cond":
            return sum(self.count(branch.jaxpr, outputs) for branch in params["branches"])
        return 1

    def operands(self, equation: Any, outputs: Sequence[bool]) -> list[bool]:
        """Return which operands of an equation its needed outputs depend on."""
        if (called := called_jaxpr(equation)) is not None:
            return self.inputs(called.jaxpr, outputs)
        if equation.primitive.name == "scan":
            return self.scan_operands(equation, outputs)
        return [True] * len(equation.invars)

    def scan_outputs(self, equation: Any, outputs: Sequence[bool]) -> list[bool]:
        """Return which outputs of a loop's body are needed: also those that a later round reads."""
        body, carried = equation.params["jaxpr"].jaxpr, equation.params["num_carry"]
        first = equation.params["num_consts"]
        wanted = list(outputs)
        while True:
            read = self.inputs(body, wanted)[first : first + carried]
            more = [a or b for a, b in zip(wanted[:carried], read, strict=True)] + wanted[carried:]
            if more == wanted:
                return wanted
            wanted = more

    def scan_operands(self, equation: Any, outputs: Sequence[bool]) -> list[bool]:
        """Return which operands of a loop are needed."""
        first, carried = equation.params["num_consts"], equation.params["num_carry"]
        wanted = self.scan_outputs(equation, outputs)
        read = self.inputs(equation.params["jaxpr"].jaxpr, wanted)
        return [*read[:first], *wanted[:carried], *read[first + carried :]]
