"""Run-time indices, looked at before machine code follows them: a kernel does not ask whether an address exists.

In: a circuit, and the values of the inputs that decide where it gathers and scatters. Out: nothing, or a BoundsError
that names the user's line. That no index depends on the weights is looked at in `training.indices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.circuit import Circuit, Node, compute, evaluate
from circuitsketch.errors import BoundsError


@dataclass(frozen=True, eq=False)
class Gathers:
    """The part of a circuit that decides where it gathers and scatters.

    Attributes
    ----------
    looks : (node, wire of its index, extent of the axis) of every gate that holds an index known at run time to its
        axis, and of every gather and scatter at one.
    wires : what must be computed for the looks, and for further outputs asked for, in order.
    inputs : the positions of the inputs among them.
    """

    circuit: Circuit
    looks: tuple[tuple[Node, int, int], ...]
    wires: tuple[int, ...]
    inputs: tuple[int, ...]

    def check(
        self,
        values: Mapping[int, np.ndarray],
        when: Callable[[np.ndarray, tuple[int, ...]], str] | None = None,
    ) -> dict[int, np.ndarray]:
        """Compute the wires from the inputs' values, by position, and look at the indices; returns the wires.

        when : of an index array and the place in it of an entry that is refused, words for where in a run that is.
        """

        def apply(node: Node, *operands: np.ndarray) -> np.ndarray:
            try:
                return compute(node, *operands)
            except BoundsError as error:
                if when is None:
                    raise
                reason = f"{error.reason}{when(operands[0], error.entry)}"
                raise BoundsError(reason, error.entry, node.place) from None

        given = {self.circuit.inputs[i]: values[i] for i in self.inputs}
        results = evaluate(self.circuit.nodes, given, apply, self.wires)
        for node, wire, extent in self.looks:
            index = results[wire]
            # What `in_bounds` has not passed, in a circuit that was not traced from indexing.
            if not node.gate.guards and not np.all(inside := (index >= 0) & (index < extent)):
                worst = index[~inside].flat[0]
                raise BoundsError(f"index {worst:.0f} is out of bounds for an axis with size {extent}", (), node.place)
        return results


def gathers(circuit: Circuit, outputs: Sequence[int] = ()) -> Gathers:
    """What decides where a circuit gathers, and what yields some of its outputs (wires)."""
    reached = circuit.reached_from(circuit.inputs)  # what is known at run time only
    looks: dict[tuple[int, int], tuple[Node, int, int]] = {}
    needed = set(outputs)
    for wire, node in enumerate(circuit.nodes):
        if node.gate.guards and node.operands[0] in reached:
            looks[wire, -1] = (node, node.operands[0], -1)
            needed.add(wire)
        elif node.gate.name in ("take", "scatter_add") and node.operands[1] in reached:
            array, index = node.operands
            axis = node.params["axis"]
            extent = node.params["length"] if node.gate.name == "scatter_add" else circuit.nodes[array].shape[axis]
            looks.setdefault((index, extent), (node, index, extent))
            needed.add(index)
    needed = circuit.needed_for(needed)
    inputs = tuple(i for i, wire in enumerate(circuit.inputs) if wire in needed)
    return Gathers(circuit, tuple(looks.values()), tuple(sorted(needed)), inputs)


def check_indices(circuit: Circuit, values: Sequence[np.ndarray]) -> None:
    """Look at the indices of a circuit at one point.

    Raises
    ------
    BoundsError : naming the line at which an index leaves its axis.
    """
    looked = gathers(circuit)
    if looked.looks:
        looked.check(dict(enumerate(values)))
