"""Check the invariants of a circuit, for tests after every pass.

In: a circuit. Out: the same circuit, or a CircuitError that names the node that violates an invariant.
"""

from __future__ import annotations

from circuitsketch.circuit.circuit import Circuit
from circuitsketch.circuit.node import CONSTANT, INPUT
from circuitsketch.errors import CircuitError, ShapeError
from circuitsketch.gates.gate import REGISTERED


def check(circuit: Circuit) -> Circuit:
    """Return the circuit if it is valid, else raise CircuitError.

    Operands precede their users; gates are registered and have the right number of operands and the right parameters;
    the shape rule gives the node's shape; indices are integers; constants hold arrays of their shape; inputs are input
    nodes, each listed once; outputs exist.
    """
    for wire, node in enumerate(circuit.nodes):
        where = f"node {wire} ({node.gate.name}, {node.place})"
        if node.gate not in REGISTERED:
            raise CircuitError(f"{where} applies a gate that is not registered")
        if any(not 0 <= operand < wire for operand in node.operands):
            raise CircuitError(f"{where} reads {node.operands}: an operand must come before its user")
        if node.gate.arity is not None and len(node.operands) != node.gate.arity:
            raise CircuitError(f"{where} has {len(node.operands)} operands, but the gate takes {node.gate.arity}")
        expected = {CONSTANT: ("value",), INPUT: ("shape",)}.get(node.gate, node.gate.static)
        if set(node.params) != set(expected):
            raise CircuitError(f"{where} has parameters {sorted(node.params)}, but the gate takes {sorted(expected)}")
        if node.gate is CONSTANT:
            if tuple(node.params["value"].shape) != node.shape:
                shape = node.params["value"].shape
                raise CircuitError(f"{where} has shape {node.shape}, but its array has shape {shape}")
            continue
        if node.gate is INPUT:
            if tuple(node.params["shape"]) != node.shape:
                raise CircuitError(f"{where} has shape {node.shape}, but its parameter says {node.params['shape']}")
            continue
        if node.gate.index is not None and (label := circuit.nodes[node.operands[node.gate.index]].label) != "int":
            raise CircuitError(f"{where} has indices of label {label}, not int")
        try:
            shape = node.gate.shape(*(circuit.nodes[i].shape for i in node.operands), **node.params)
        except (ShapeError, ValueError, IndexError, KeyError, TypeError) as reason:
            raise CircuitError(f"{where}: {reason}") from reason
        if shape != node.shape:
            raise CircuitError(f"{where} has shape {node.shape}, but the gate's rule gives {shape}")
    inputs = tuple(wire for wire, node in enumerate(circuit.nodes) if node.gate is INPUT)
    if sorted(circuit.inputs) != list(inputs):
        raise CircuitError(f"the input nodes are {inputs}, but the circuit lists {circuit.inputs}")
    if any(not 0 <= wire < len(circuit.nodes) for wire in circuit.outputs):
        raise CircuitError(f"outputs {circuit.outputs} are not all nodes: there are {len(circuit.nodes)}")
    return circuit
