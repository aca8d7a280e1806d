"""Find which elements of a circuit's wires its outputs read, as far as the primals choose.

In: a circuit, and the values of its inputs. Out: boolean masks. An element that a `where`, a maximum or another gate
that selects does not choose reaches no output by its series: whether it has one does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from circuitsketch.circuit import Circuit, Node, compute, evaluate


def find_chosen(circuit: Circuit, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return for every wire a mask of the elements whose series the outputs read, at these values of the inputs."""
    with np.errstate(all="ignore"):
        values = evaluate(circuit.nodes, dict(zip(circuit.inputs, inputs, strict=True)), compute)
        masks = [np.zeros(node.shape, dtype=bool) for node in circuit.nodes]
        for wire in circuit.outputs:
            masks[wire][...] = True
        for wire in reversed(range(len(circuit.nodes))):
            node = circuit.nodes[wire]
            if node.is_source or node.gate.flat or not masks[wire].any():
                continue
            for operand, mask in zip(node.operands, pull_mask(node, wire, masks[wire], values), strict=True):
                if mask is not None:
                    masks[operand] |= mask
    return masks


def pull_mask(node: Node, wire: int, mask: np.ndarray, values: Mapping[int, np.ndarray]) -> Sequence[np.ndarray | None]:
    """Return for each operand of a gate a mask of the elements that marked elements of the result read, or None.

    A gate that compares what it selects from, such as a maximum, reads an infinite element whatever it chooses: 1 / x
    at 0 is not below a bound on both sides.
    """
    gate = node.gate
    if gate.kind == "elementwise" and not gate.selects:
        return [mask] * len(node.operands)
    operands = [np.asarray(values[i]) for i in node.operands]
    if gate.kind == "contraction":
        operands = [np.ones(operand.shape) for operand in operands]
    shares = gate.vjp(mask.astype(np.float64), values[wire], *operands, **node.params)
    masks = [None if share is None else np.asarray(share) != 0 for share in shares]
    if not gate.is_kink:
        return masks
    marked = mask if gate.kind == "elementwise" else mask[..., None]
    return [
        None if chosen is None else chosen | (marked & ~np.isfinite(operand))
        for chosen, operand in zip(masks, operands, strict=True)
    ]
