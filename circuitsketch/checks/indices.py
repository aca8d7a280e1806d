"""Check run-time indices before compiled code uses them, since kernels do not check bounds.

In: a circuit, and the values of the inputs on which its gathers and scatters depend. Out: nothing, or a BoundsError
that names the user's line. That no index depends on the weights is checked in `training.indices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.circuit import Circuit, Node, compute, evaluate
from circuitsketch.errors import BoundsError


@dataclass(frozen=True, eq=False)
class IndexChecks:
    """The part of a circuit that computes its indices.

    Attributes
    ----------
    checks : (node, wire of its index, size of the axis) of every bounds check, gather and scatter at a run-time index.
    wires : the wires to compute for the checks and for further requested outputs, in order.
    inputs : the positions of the inputs among them.
    """

    circuit: Circuit
    checks: tuple[tuple[Node, int, int], ...]
    wires: tuple[int, ...]
    inputs: tuple[int, ...]

    def check(
        self,
        values: Mapping[int, np.ndarray],
        when: Callable[[np.ndarray, tuple[int, ...]], str] | None = None,
    ) -> dict[int, np.ndarray]:
        """Compute the wires from the inputs' values, given by position, and check the indices; returns the wires.

        when : describes where in a run a refused index is, given the index array and the position in it.
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
        for node, wire, size in self.checks:
            index = results[wire]
            # In a circuit that was not traced from indexing, `in_bounds` has not checked the index.
            if not node.gate.guards and not np.all(inside := (index >= 0) & (index < size)):
                bad_index = index[~inside].flat[0]
                raise BoundsError(
                    f"index {bad_index:.0f} is out of bounds for an axis with size {size}", (), node.place
                )
        return results


def find_index_checks(circuit: Circuit, outputs: Sequence[int] = ()) -> IndexChecks:
    """Return the checks of a circuit's run-time indices; outputs : further wires to compute with them."""
    reached = circuit.reached_from(circuit.inputs)  # what is known at run time only
    checks: dict[tuple[int, int], tuple[Node, int, int]] = {}
    needed = set(outputs)
    for wire, node in enumerate(circuit.nodes):
        if node.gate.guards and node.operands[0] in reached:
            checks[wire, -1] = (node, node.operands[0], -1)
            needed.add(wire)
        elif node.gate.index is not None and (index := node.operands[node.gate.index]) in reached:
            assert node.gate.index_extent is not None
            size = node.gate.index_extent(circuit.nodes[node.operands[0]].shape, **node.params)
            checks.setdefault((index, size), (node, index, size))
            needed.add(index)
    needed = circuit.needed_for(needed)
    inputs = tuple(i for i, wire in enumerate(circuit.inputs) if wire in needed)
    return IndexChecks(circuit, tuple(checks.values()), tuple(sorted(needed)), inputs)


def check_indices(circuit: Circuit, values: Sequence[np.ndarray]) -> None:
    """Check the indices of a circuit at one point.

    Raises
    ------
    BoundsError
        If an index is out of bounds; names the user's line.
    """
    indexing = find_index_checks(circuit)
    if indexing.checks:
        indexing.check(dict(enumerate(values)))
