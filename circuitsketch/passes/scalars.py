"""Multiply the scalars of a product with each other first: s * ((x * t) * y) becomes (x * (s * t)) * y.

In: a circuit. Out: one of at most the same size, whose values differ by rounding. Optimisers of other libraries scale
an update several times, by a bias correction and by a learning rate: each is a multiplication per parameter.
"""

from __future__ import annotations

from circuitsketch.circuit import CONSTANT, Circuit, Node, value_of
from circuitsketch.gates.arithmetic import multiply
from circuitsketch.gates.movement import broadcast
from circuitsketch.passes.simplify import Rewriter, rebuild, simplify

MODERATE = 1e100  # a constant beyond it, or below its reciprocal, stays where it is: a product may overflow


def gather_scalars(circuit: Circuit) -> Circuit:
    """Return a simplified circuit in which no product of arrays has several scalars among its factors.

    A product that others read as well remains as it is.

    >>> import numpy as np, circuitsketch as cs
    >>> circuit = cs.trace(lambda x, y, s, t: s * (t * x * y), np.ones(3), np.ones(3), 2.0, 3.0)
    >>> circuit.size, gather_scalars(circuit).size
    (9, 7)
    """
    r = Rewriter(counted=False)
    new: list[int] = []
    returned = set(circuit.outputs)

    def factors(wire: int, is_outer: bool) -> list[int]:
        """Return the factors of a product, in order."""
        node = circuit.nodes[wire]
        is_read_once = len(circuit.users[wire]) == 1 and wire not in returned
        if node.gate is not multiply or not (is_outer or is_read_once):
            return [wire]
        return [factor for operand in node.operands for factor in factors(operand, False)]

    def is_scalar(wire: int) -> bool:
        """Return whether a wire repeats one moderate number."""
        node = circuit.nodes[wire]
        if node.gate is not broadcast or node.label != "float":
            return False
        source = circuit.nodes[node.operands[0]]
        if source.shape != () or source.gate is not CONSTANT:
            return source.shape == ()
        return 1.0 / MODERATE < abs(float(value_of(source))) < MODERATE

    for wire, node in enumerate(circuit.nodes):
        parts = factors(wire, True) if node.gate is multiply and node.label == "float" else []
        scalars = [new[circuit.nodes[part].operands[0]] for part in parts if is_scalar(part)]
        arrays = [new[part] for part in parts if not is_scalar(part)]
        if len(scalars) < 2 or not arrays:
            operands = tuple(new[i] for i in node.operands)
            new.append(r.add(Node(node.gate, operands, node.params, node.shape, node.label, node.place)))
            continue
        scale = scalars[0]
        for scalar in scalars[1:]:
            scale = r.add(Node(multiply, (scale, scalar), {}, (), "float", node.place))
        scaled = r.add(Node(broadcast, (scale,), {"shape": node.shape}, node.shape, "float", node.place))
        for array in arrays:
            scaled = r.add(Node(multiply, (array, scaled), {}, node.shape, "float", node.place))
        new.append(scaled)
    return simplify(rebuild(circuit, r.nodes, [new[i] for i in circuit.inputs], [new[i] for i in circuit.outputs]))
