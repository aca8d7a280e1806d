"""Run-time indices, looked at before machine code follows them: a kernel does not ask whether an address exists.

In: a circuit, and the values of the inputs that decide where it gathers and scatters. Out: nothing, or an InputError
that names the gate and the user's line. What an index cannot depend on is told where circuits are chained, in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.circuit import INPUT, Circuit, Node, value_of
from circuitsketch.errors import InputError
from circuitsketch.kernels.domains import where


@dataclass(frozen=True, eq=False)
class Gathers:
    """The part of a circuit that decides where it gathers and scatters.

    Attributes
    ----------
    looks : (node, wire of its index, extent of the axis) of every gather and scatter whose index is known at run time.
    wires : what must be computed for the looks, and for further outputs asked for, in order.
    inputs : the positions of the inputs among them.
    """

    circuit: Circuit
    looks: tuple[tuple[Node, int, int], ...]
    wires: tuple[int, ...]
    inputs: tuple[int, ...]

    def check(self, values: Mapping[int, np.ndarray], when: str = "") -> dict[int, np.ndarray]:
        """Compute the wires from the inputs' values, by position, and look at the indices; returns the wires."""
        found: dict[int, np.ndarray] = {self.circuit.inputs[i]: values[i] for i in self.inputs}
        for wire in self.wires:
            node = self.circuit.nodes[wire]
            if node.gate is not INPUT:
                operands = [found[i] for i in node.operands]
                value = value_of(node) if node.is_source else node.gate.value(*operands, **node.params)
                found[wire] = np.asarray(value)
        for node, wire, extent in self.looks:
            index = found[wire]
            if np.any(index < 0) or np.any(index >= extent):
                worst = index[(index < 0) | (index >= extent)].flat[0]
                raise InputError(
                    f"{where(node)} is at entry {worst:.0f} of an axis of {extent}{when}; run-time indices go "
                    f"from 0 to {extent - 1}"
                )
        return found


def gathers(circuit: Circuit, outputs: Sequence[int] = ()) -> Gathers:
    """What decides where a circuit gathers, and what yields some of its outputs (wires)."""
    reached = set(circuit.inputs)  # wires that are known at run time only
    looks = []
    for wire, node in enumerate(circuit.nodes):
        if any(i in reached for i in node.operands):
            reached.add(wire)
        if node.gate.name in ("take", "scatter_add") and node.operands[1] in reached:
            array, index = node.operands
            axis = node.params["axis"]
            extent = (
                node.params["length"] if node.gate.name == "scatter_add" else circuit.nodes[array].shape[axis]
            )
            looks.append((node, index, extent))
    needed = {index for _, index, _ in looks} | set(outputs)
    for wire in range(len(circuit.nodes) - 1, -1, -1):
        if wire in needed:
            needed.update(circuit.nodes[wire].operands)
    inputs = tuple(i for i, wire in enumerate(circuit.inputs) if wire in needed)
    return Gathers(circuit, tuple(looks), tuple(sorted(needed)), inputs)


def check_indices(circuit: Circuit, values: Sequence[np.ndarray]) -> None:
    """Look at the indices of a circuit at one point.

    Raises
    ------
    InputError : naming a gate whose index leaves its axis.
    """
    found = gathers(circuit)
    if found.looks:
        found.check(dict(enumerate(values)))
