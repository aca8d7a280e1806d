"""Where a reverse sweep begins: the derivatives of a measurement with respect to the trained state.

In: a measurement's circuit and the trained state, perhaps with its series along directions. Out: the cotangents of the
state's varying leaves, of one value of the measurement at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from circuitsketch.autodiff import pull_back
from circuitsketch.backends.contract import Arena, Executable, Schedule, Target
from circuitsketch.backends.registry import build
from circuitsketch.circuit import Circuit, compute, evaluate
from circuitsketch.frontends.numpy import Builder, replay
from circuitsketch.passes import simplify
from circuitsketch.reverse.pullback import vjp_of_series


def gradient_circuit(circuit: Circuit, varying: Sequence[int]) -> Circuit:
    """Return the vjp of a measurement: its inputs are the state's leaves and a cotangent per output, its outputs the
    cotangents of the varying leaves."""
    builder = Builder()
    inputs = [builder.input(circuit.nodes[wire].shape, circuit.nodes[wire].label) for wire in circuit.inputs]
    seeds = [builder.input(circuit.nodes[wire].shape) for wire in circuit.outputs]
    outputs = replay(builder, circuit, inputs)
    results = pull_back(outputs, seeds, [inputs[i] for i in varying], vjp_of_series)
    return simplify(
        Circuit(
            nodes=tuple(builder.nodes),
            inputs=tuple(wire.index for wire in (*inputs, *seeds)),
            outputs=tuple(wire.index for wire in results),
            input_names=(*circuit.input_names, *circuit.output_names),
        )
    )


@dataclass(eq=False)
class FinalCotangents:
    """The derivatives of a measurement's values with respect to the varying leaves of a state.

    Attributes
    ----------
    circuit : the vjp of the measurement. shapes : of its outputs. state : by leaf.
    """

    circuit: Circuit
    shapes: list[tuple[int, ...]]
    state: list[np.ndarray]
    shared: dict[int, np.ndarray] = field(init=False)  # by wire: what is the same for all values

    def __post_init__(self) -> None:
        inputs = self.circuit.inputs[: len(self.state)]
        self.seeded = self.circuit.reached_from(self.circuit.inputs[len(self.state) :])
        needed = sorted(self.circuit.needed_for(self.circuit.outputs) - self.seeded)
        with np.errstate(all="ignore"):
            given = dict(zip(inputs, self.state, strict=True))
            self.shared = evaluate(self.circuit.nodes, given, compute, needed)

    def seeds(self, value: int) -> list[np.ndarray]:
        """Return the cotangents of the measurement's outputs that select one of its values."""
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]
        unit = np.zeros(sum(sizes))
        unit[value] = 1.0
        parts = np.split(unit, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def constants(self, value: int) -> list[np.ndarray]:
        """Return the cotangents that belong to one value, by leaf."""
        seeds = dict(zip(self.circuit.inputs[len(self.state) :], self.seeds(value), strict=True))
        needed = sorted(self.circuit.needed_for(self.circuit.outputs) & self.seeded)
        with np.errstate(all="ignore"):
            wires = evaluate(self.circuit.nodes, self.shared | seeds, compute, needed)
        return [wires[wire] for wire in self.circuit.outputs]

    def executable(self, target: Target, varying: Sequence[int]) -> Executable:
        """Return the vjp compiled for series of the state's varying leaves."""
        return build([self.circuit], target, varying, len(self.circuit.inputs), {}, has_keep=False)

    def series(self, arena: Arena, lanes: np.ndarray, value: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the cotangents that belong to one value, by leaf, and their lanes, given those of the state.

        arena : of the executable. lanes : of the state's varying leaves, (elements, components, width).
        """
        arena.set_state([*self.state, *self.seeds(value)])
        arena.put_lane_state(0, lanes)
        arena.run(Schedule.single(), 0, 1, np.zeros(0))
        outputs = arena.executable.tapes[0].outputs
        constants = [arena.constant_view(0, layout).copy() for layout in outputs]
        rows = []
        for layout in outputs:
            if layout.buffer in arena.executable.placements[0].lane:
                rows.append(arena.lane_view(0, layout).reshape(-1, *lanes.shape[1:]))
            else:
                rows.append(np.zeros((int(np.prod(layout.shape, dtype=np.int64)), *lanes.shape[1:]), lanes.dtype))
        return constants, np.concatenate(rows)
