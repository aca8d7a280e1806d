"""Where a reverse sweep begins: the derivatives of a measurement with respect to the trained state.

In: a measurement's circuit and the trained state, perhaps with its series along directions. Out: the cotangents of the
state's varying leaves, of one value of the measurement at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from circuitsketch.autodiff import pull_back
from circuitsketch.backends.contract import Arena, Executable, Schedule, Target
from circuitsketch.backends.registry import build
from circuitsketch.circuit import Circuit, compute, evaluate
from circuitsketch.frontends.numpy import Builder, replay
from circuitsketch.gates import cells
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
    return builder.finish([*inputs, *seeds], results, (*circuit.input_names, *circuit.output_names))


class FinalCotangents:
    """The derivatives of a measurement's values with respect to the varying leaves of a state.

    Parameters
    ----------
    measurement : its circuit. varying : the positions of the state's varying leaves. state : by leaf.
    """

    def __init__(self, measurement: Circuit, varying: Sequence[int], state: Sequence[np.ndarray]) -> None:
        self.circuit = gradient_circuit(measurement, varying)
        self.varying = tuple(varying)
        self.shapes = [measurement.nodes[wire].shape for wire in measurement.outputs]
        self.state_inputs, self.seed_inputs = self.circuit.inputs[: len(state)], self.circuit.inputs[len(state) :]
        needed = self.circuit.needed_for(self.circuit.outputs)
        seeded = self.circuit.reached_from(self.seed_inputs)
        self.seeded, self.unseeded = sorted(needed & seeded), sorted(needed - seeded)
        self.set_state(state)

    def set_state(self, state: Sequence[np.ndarray]) -> None:
        """Evaluate all that the values share."""
        self.state = list(state)
        with np.errstate(all="ignore"):
            given = dict(zip(self.state_inputs, self.state, strict=True))
            self.shared = evaluate(self.circuit.nodes, given, compute, self.unseeded)

    def at(self, state: Sequence[np.ndarray]) -> FinalCotangents:
        """Return the derivatives at another state."""
        other = copy(self)
        other.set_state(state)
        return other

    def seeds(self, value: int) -> list[np.ndarray]:
        """Return the cotangents of the measurement's outputs that select one of its values."""
        unit = np.zeros(sum(cells(shape) for shape in self.shapes))
        unit[value] = 1.0
        parts = np.split(unit, np.cumsum([cells(shape) for shape in self.shapes])[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def constants(self, value: int) -> list[np.ndarray]:
        """Return the cotangents that belong to one value, by leaf.

        All that depends on the seeds is linear in them, so that what reads only zeros of them is zero, and is left out.
        """
        nodes, values = self.circuit.nodes, dict(self.shared)
        values |= {wire: seed for wire, seed in zip(self.seed_inputs, self.seeds(value), strict=True) if np.any(seed)}
        nonzero = set(values) - set(self.shared)
        with np.errstate(all="ignore"):
            for wire in self.seeded:
                node = nodes[wire]
                if nonzero.isdisjoint(node.operands):
                    continue
                operands = [values[i] if i in values else np.zeros(nodes[i].shape) for i in node.operands]
                result = compute(node, *operands)
                if np.any(result):
                    values[wire] = result
                    nonzero.add(wire)
        return [values[wire] if wire in values else np.zeros(nodes[wire].shape) for wire in self.circuit.outputs]

    def executable(self, target: Target) -> Executable:
        """Return the vjp compiled for series of the state's varying leaves."""
        return build([simplify(self.circuit)], target, self.varying, len(self.circuit.inputs), {}, has_keep=False)

    def series(self, arena: Arena, lanes: np.ndarray, value: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the cotangents that belong to one value, by leaf, and their lanes, given those of the state.

        arena : of the executable. lanes : of the state's varying leaves, (elements, components, width).
        """
        arena.set_state([*self.state, *self.seeds(value)])
        arena.set_lane_state(0, lanes)
        arena.run(Schedule.single_step(), 0, 1, np.zeros(0))
        outputs = arena.executable.tapes[0].outputs
        constants = [arena.view_constant(0, layout).copy() for layout in outputs]
        rows = []
        for layout in outputs:
            if layout.buffer in arena.executable.placements[0].lane:
                rows.append(arena.view_lanes(0, layout).reshape(-1, *lanes.shape[1:]))
            else:
                rows.append(np.zeros((cells(layout.shape), *lanes.shape[1:]), lanes.dtype))
        return constants, np.concatenate(rows)
