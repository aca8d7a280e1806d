"""The legality check: what every circuit must satisfy, run after every pass in tests.

In: a circuit. Out: the same circuit, or a CircuitError naming the node that breaks a rule.
"""

from __future__ import annotations

from circuitsketch.circuit.circuit import Circuit
from circuitsketch.circuit.node import CONSTANT, INPUT
from circuitsketch.errors import CircuitError, ShapeError
from circuitsketch.gates.gate import REGISTERED


def check(circuit: Circuit) -> Circuit:
    """Return the circuit if it is legal.

    Operands come before their users; gates stand in the table, get as many operands as they take and the parameters
    they name; the shape rule gives the node's shape; indices are whole numbers; constants hold arrays of their shape;
    inputs are input nodes, each listed once; outputs exist.
    """
    for wire, node in enumerate(circuit.nodes):
        where = f"node {wire} ({node.gate.name}, {node.place})"
        if node.gate not in REGISTERED:
            raise CircuitError(f"{where} applies a gate that is not in the table")
        if any(not 0 <= operand < wire for operand in node.operands):
            raise CircuitError(f"{where} reads {node.operands}: an operand must come before its user")
        if node.gate.arity is not None and len(node.operands) != node.gate.arity:
            raise CircuitError(f"{where} has {len(node.operands)} operands, the gate takes {node.gate.arity}")
        wanted = {CONSTANT: ("value",), INPUT: ("shape",)}.get(node.gate, node.gate.static)
        if set(node.params) != set(wanted):
            raise CircuitError(f"{where} has parameters {sorted(node.params)}, the gate takes {sorted(wanted)}")
        if node.gate is CONSTANT:
            if tuple(node.params["value"].shape) != node.shape:
                raise CircuitError(f"{where} says shape {node.shape} and holds {node.params['value'].shape}")
            continue
        if node.gate is INPUT:
            if tuple(node.params["shape"]) != node.shape:
                raise CircuitError(f"{where} says shape {node.shape}, its parameter {node.params['shape']}")
            continue
        if node.gate.name in ("take", "scatter_add") and circuit.nodes[node.operands[1]].label != "int":
            raise CircuitError(f"{where} has indices of label {circuit.nodes[node.operands[1]].label}, not int")
        try:
            shape = node.gate.shape(*(circuit.nodes[i].shape for i in node.operands), **node.params)
        except (ShapeError, ValueError, IndexError, KeyError, TypeError) as reason:
            raise CircuitError(f"{where}: {reason}") from reason
        if shape != node.shape:
            raise CircuitError(f"{where} says shape {node.shape}, the gate's rule gives {shape}")
    found = tuple(wire for wire, node in enumerate(circuit.nodes) if node.gate is INPUT)
    if sorted(circuit.inputs) != list(found):
        raise CircuitError(f"input nodes are {found}, the circuit lists {circuit.inputs}")
    if any(not 0 <= wire < len(circuit.nodes) for wire in circuit.outputs):
        raise CircuitError(f"outputs {circuit.outputs} are not all nodes of {len(circuit.nodes)}")
    return circuit
