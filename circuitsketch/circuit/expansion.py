"""Expand a small array circuit to scalar gates: every element of every array becomes a node.

A gate that moves numbers moves the numbers of nodes in the same way; the expansion of any other gate is on its record.
Tests compare `size` with the expansion.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.circuit.graph import Graph, evaluate
from circuitsketch.circuit.node import CONSTANT, INPUT, Node, Place, compute
from circuitsketch.errors import InputError
from circuitsketch.gates import Gate, cells
from circuitsketch.gates.arithmetic import add, multiply
from circuitsketch.gates.selection import maximum, minimum


class ScalarBuilder:
    """Collects scalar nodes; equal constants are one node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[bytes, int] = {}

    def add(self, gate: Gate, operands: tuple[int, ...], params: dict[str, Any], label: Any, place: Place) -> int:
        """Append a scalar node, return its wire."""
        self.nodes.append(Node(gate, operands, params, (), label, place))
        return len(self.nodes) - 1

    def constant(self, value: float) -> int:
        """Return the node of a constant."""
        array = np.asarray(value, dtype=np.float64)
        key = array.tobytes()  # -0.0 is not 0.0, and a NaN is itself
        if key not in self.constants:
            self.nodes.append(Node(CONSTANT, (), {"value": array}, ()))
            self.constants[key] = len(self.nodes) - 1
        return self.constants[key]

    def constants_of(self, array: np.ndarray) -> np.ndarray:
        """Return the nodes of an array's elements."""
        wires = [self.constant(float(x)) for x in array.ravel()]
        return np.array(wires, dtype=np.int64).reshape(array.shape)


@dataclass(frozen=True, slots=True)
class Elements:
    """An array wire: the scalar wires of its elements, and their values if these are known before run time."""

    wires: np.ndarray
    value: np.ndarray | None = None


def expand(circuit: Graph, *indices: Any) -> Graph:
    """Return the scalar circuit.

    Parameters
    ----------
    circuit : Circuit
        A small circuit.
    *indices : array_like of int
        The values of the circuit's integer inputs, in order. Indices determine the wiring of a scalar circuit, so these
        inputs become constants.

    Returns
    -------
    Circuit
        A circuit of scalar gates.

    Raises
    ------
    InputError
        If the number of values differs from the number of integer inputs.
    """
    integers = [wire for wire in circuit.inputs if circuit.nodes[wire].label == "int"]
    if len(integers) != len(indices):
        raise InputError(
            f"this circuit has {len(integers)} integer inputs, but expand got {len(indices)} values; "
            "indices determine the wiring: pass expand(*values of the integer inputs)"
        )
    given = dict(zip(integers, indices, strict=True))
    build = ScalarBuilder()

    def constant(value: Any, node: Node) -> Elements:
        array = np.asarray(value, dtype=np.float64).reshape(node.shape)
        return Elements(build.constants_of(array), array)

    def apply(node: Node, *operands: Elements) -> Elements:
        values = [operand.value for operand in operands]
        if node.gate is CONSTANT or (node.label != "float" and all(value is not None for value in values)):
            return constant(compute(node, *values), node)
        return Elements(add_scalars(build, node, [operand.wires for operand in operands], values))

    elements: dict[int, Elements] = {}
    for wire in sorted(circuit.inputs):
        node = circuit.nodes[wire]
        if wire in given:
            elements[wire] = constant(given[wire], node)
        else:
            numbers = [build.add(INPUT, (), {"shape": ()}, node.label, node.place) for _ in range(cells(node.shape))]
            elements[wire] = Elements(np.array(numbers, dtype=np.int64).reshape(node.shape))
    elements = evaluate(circuit.nodes, elements, apply)
    inputs = tuple(int(wire) for i in circuit.inputs if i not in given for wire in elements[i].wires.ravel())
    outputs = tuple(int(wire) for i in circuit.outputs for wire in elements[i].wires.ravel())
    return Graph(tuple(build.nodes), inputs, outputs, input_names=tuple(f"x{i}" for i in range(len(inputs))))


def add_scalars(
    build: ScalarBuilder, node: Node, operands: list[np.ndarray], values: list[np.ndarray | None]
) -> np.ndarray:
    """Add the scalar gates of one array gate and return their wires."""
    gate, place = node.gate, node.place
    if gate.kind == "elementwise":
        flat = [x.ravel() for x in operands]
        wires = [
            build.add(gate, tuple(int(i) for i in row), dict(node.params), node.label, place)
            for row in zip(*flat, strict=True)
        ]
        return np.array(wires, dtype=np.int64).reshape(node.shape)
    if gate.index is not None:
        if (index := values[gate.index]) is None:
            raise InputError(f"{place}: {gate.name} has an index that is only known at run time")
        operands = [*operands[: gate.index], index, *operands[gate.index + 1 :]]
    if gate.expand is None:
        return np.asarray(gate.value(*operands, **node.params))
    return np.asarray(gate.expand(Scalars(build, node), node.shape, *operands, **node.params))


class Scalars:
    """The scalar gates that a gate's `expand` may add in place of its node."""

    def __init__(self, build: ScalarBuilder, node: Node) -> None:
        self.build = build
        self.node = node

    def apply(self, gate: Gate, *operands: int, **params: Any) -> int:
        """Add a scalar gate and return its wire."""
        return self.build.add(gate, operands, params, self.node.label, self.node.place)

    def zero(self) -> int:
        """Return the wire of the constant 0."""
        return self.build.constant(0.0)

    def add(self, x: int, y: int) -> int:
        """Add x + y."""
        return self.apply(add, x, y)

    def multiply(self, x: int, y: int) -> int:
        """Add x * y."""
        return self.apply(multiply, x, y)

    def maximum(self, x: int, y: int) -> int:
        """Add max(x, y)."""
        return self.apply(maximum, x, y)

    def minimum(self, x: int, y: int) -> int:
        """Add min(x, y)."""
        return self.apply(minimum, x, y)

    def total(self, terms: Iterable[int]) -> int:
        """Add the sum of L terms, with L - 1 additions."""
        wires = [int(term) for term in terms]
        return functools.reduce(self.add, wires) if wires else self.zero()
