"""Write chains of elementwise gates as device functions: load operands, call the gates' functions, store results.

A thread has one element and one lane at a time. All results are computed before the first is stored, since a result may
overwrite an operand.
"""

from __future__ import annotations

from circuitsketch.backends.cuda.kernel_builder import (
    CudaTarget,
    write_dot,
    write_kernel,
    write_lane_loop,
    write_unravel,
)
from circuitsketch.backends.cuda.series import LETTERS, GateFunctions, make_identifier
from circuitsketch.lower.instructions import ChainGate, ChainKernel
from circuitsketch.lower.packing import POSITIONS, ChainArguments


def write_chain(name: str, kernel: ChainKernel, axes: int, target: CudaTarget, gates: GateFunctions) -> str:
    """Write the device function of a chain over at most this many axes."""
    indices = ["entry", *(f"i{a}" for a in range(1, axes))]
    positions = ChainArguments.unpack(POSITIONS, 0).extents[-axes:]
    extents = [f"args[at + {position}]" for position in positions]
    body = [*write_unravel("entry", extents, indices), *Chain(kernel, indices, target, gates).write_body()]
    says = " ".join(make_identifier(gate.gate) for gate in kernel.gates)
    return write_kernel(name, says, write_lane_loop(target, " * ".join(extents), body))


class Chain:
    """The body of a chain's loop under construction."""

    def __init__(self, kernel: ChainKernel, indices: list[str], target: CudaTarget, gates: GateFunctions) -> None:
        self.kernel = kernel
        self.indices = indices
        self.target = target
        self.gates = gates
        self.at = ChainArguments.unpack(POSITIONS, len(kernel.operands) + len(kernel.results)).sides
        self.loaded: set[str] = set()

    def write_body(self) -> list[str]:
        """Write every gate, its operands loaded before it, then the stores."""
        lines: list[str] = []
        for i, gate in enumerate(self.kernel.gates):
            lines += self.call(i, gate)
        for i, (number, _) in enumerate(self.kernel.results):
            ref = len(self.kernel.operands) + i
            self.locate_element(ref, lines)
            lines.append(f"store(lanes, {self.lane_position(ref)}, {self.result_name(number)})")
        return lines

    def call(self, i: int, gate: ChainGate) -> list[str]:
        """Write the call of a gate's function."""
        lines: list[str] = []
        values = self.target.mode.values
        lanes = tuple(ref < 0 or self.kernel.operands[ref].lanes for ref in gate.operands)
        known = tuple(
            self.kernel.gates[~ref].value >= 0 if ref < 0 else self.kernel.operands[ref].constant
            for ref in gate.operands
        )
        function = self.gates.define(gate, lanes, known)
        given: dict[str, str] = {}
        for letter, ref, has in zip(LETTERS, gate.operands, lanes, strict=False):
            if letter in self.gates.parameters[function]:
                given[letter] = self.load_operand(ref, has, lines) if values else self.load_series(ref, lines)
            if f"{letter}_0" in self.gates.parameters[function]:
                given[f"{letter}_0"] = self.load_constant(self.kernel.gates[~ref].value if ref < 0 else ref, lines)
        for label, ref in [("v_0", gate.value), *((f"v{j}_0", ref) for j, ref in enumerate(gate.companions, start=1))]:
            if label in self.gates.parameters[function]:
                given[label] = self.load_constant(ref, lines)
        arguments = ", ".join(given[label] for label in self.gates.parameters[function])
        return [*lines, f"{self.result_name(i)} = {function}({arguments})"]

    def result_name(self, gate: int) -> str:
        """Return the name of a gate's result, which is unique in the function whatever the gate's name."""
        return f"{make_identifier(self.kernel.gates[gate].gate)}_{gate}"

    def load_operand(self, ref: int, lanes: bool, lines: list[str]) -> str:
        """Return the name of a value, of one lane or of all lanes; write its load if there is none yet."""
        return self.load_series(ref, lines) if lanes else self.load_constant(ref, lines)

    def load_series(self, ref: int, lines: list[str]) -> str:
        """Return the name of a gate's result, or of an operand's series; write its load if there is none yet."""
        if ref < 0:
            return self.result_name(~ref)
        name = f"u{ref}"
        if name not in self.loaded:
            self.locate_element(ref, lines)
            lines.append(f"{name} = series(lanes, {self.lane_position(ref)})")
            self.loaded.add(name)
        return name

    def load_constant(self, ref: int, lines: list[str]) -> str:
        """Return the name of an operand's constant term; write its load if there is none yet."""
        name = f"c{ref}"
        if name not in self.loaded:
            self.locate_element(ref, lines)
            lines.append(f"{name} = constants[index(address(args[at + {self.at[ref].constant}], now) + e{ref})]")
            self.loaded.add(name)
        return name

    def locate_element(self, ref: int, lines: list[str]) -> None:
        """Write the position of the element in an operand or result, once."""
        if f"e{ref}" not in self.loaded:
            strides = self.at[ref].strides[-len(self.indices) :]
            lines.append(f"e{ref} = {write_dot(self.indices, strides)}")
            self.loaded.add(f"e{ref}")

    def lane_position(self, ref: int) -> str:
        """Return the expression of the position of an element's series."""
        return f"(args[at + {self.at[ref].lane}] + e{ref}) * {self.target.unit} + lane"
