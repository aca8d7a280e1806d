"""The functions that gates' rules may call, as machine code: a rule run on `MachineMath` emits what computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from circuitsketch.backends.cpu.elementary import emit_erf, emit_exp
from circuitsketch.backends.cpu.expressions import Emitter, MachineReal
from circuitsketch.backends.numbers import RuleMath
from circuitsketch.gates.math import Elementary

# Elementary functions for which there is vector code without calls.
VECTOR_CODE: dict[str, Callable[..., MachineReal]] = {"exp": emit_exp, "erf": emit_erf}


class MachineMath(RuleMath):
    """The functions of `backends.numbers.RuleMath` as machine code."""

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit

    def real(self, x: Any) -> MachineReal:
        """Return a value, from a value or a plain number."""
        return x if isinstance(x, MachineReal) else self.emit.number(x)

    def call(self, function: Elementary, *operands: Any) -> MachineReal:
        """Emit an elementary function: vector code where there is some, an LLVM intrinsic, or a C library call."""
        if function.name in VECTOR_CODE and self.real(operands[0]).is_vector:
            return VECTOR_CODE[function.name](self.emit, *operands)
        numbers = [self.real(x) for x in operands]
        values = list(numbers[0].broadcast_pair(numbers[1])) if len(numbers) == 2 else [x.value for x in numbers]
        if function.machine.startswith("llvm."):
            return MachineReal(self.emit, self.emit.call_intrinsic(function.machine.removeprefix("llvm."), *values))
        return MachineReal(self.emit, self.emit.call_library(function.machine, *values))

    def compare(self, sign: str, x: Any, y: Any) -> MachineReal:
        """Emit 1.0 where the comparison holds, else 0.0."""
        a, b = self.real(x).broadcast_pair(self.real(y))
        truth = self.emit.builder.fcmp_ordered(sign, a, b)
        return MachineReal(self.emit, self.emit.builder.uitofp(truth, a.type))

    def select(self, test: Any, x: Any, y: Any) -> MachineReal:
        """Emit x where the test is not 0, else y, of reals."""
        a, b = self.real(x).broadcast_pair(y)
        build = self.emit.builder
        truth = self.real(test).value
        if isinstance(a.type, ir.VectorType) and isinstance(truth.type, ir.VectorType):
            mask = build.fcmp_unordered("!=", truth, ir.Constant(truth.type, [0.0] * truth.type.count))
        elif isinstance(truth.type, ir.VectorType):
            a, b = self.emit.splat(a), self.emit.splat(b)
            mask = build.fcmp_unordered("!=", truth, ir.Constant(truth.type, [0.0] * truth.type.count))
        else:
            mask = build.fcmp_unordered("!=", truth, ir.Constant(truth.type, 0.0))
        return MachineReal(self.emit, build.select(mask, a, b))
