"""The scalar circuit of a small array circuit: every entry of every array a node of its own.

A gate that moves numbers moves node numbers as well; what else a gate makes of scalars stands on its record. This is
what `size` is held against.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from circuitsketch.circuit.circuit import CONSTANT, INPUT, Circuit, Node, Place, compute, value_of
from circuitsketch.errors import InputError
from circuitsketch.gates import Gate, cells
from circuitsketch.gates.arithmetic import add, multiply
from circuitsketch.gates.selection import maximum


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
        """The node of a constant."""
        array = np.asarray(value, dtype=np.float64)
        key = array.tobytes()  # -0.0 is not 0.0, and a NaN is itself
        if key not in self.constants:
            self.nodes.append(Node(CONSTANT, (), {"value": array}, ()))
            self.constants[key] = len(self.nodes) - 1
        return self.constants[key]

    def constants_of(self, array: np.ndarray) -> np.ndarray:
        """The nodes of an array's entries."""
        entries = [self.constant(float(x)) for x in array.ravel()]
        return np.array(entries, dtype=np.int64).reshape(array.shape)


def expand(circuit: Circuit, *indices: Any) -> Circuit:
    """The scalar circuit.

    Parameters
    ----------
    indices : the values of the circuit's integer inputs, in their order: where a gather reads is part of a scalar
        circuit's wiring, and these inputs are constants of it.

    Raises
    ------
    InputError : when integer inputs are missing, or when there are too many.
    """
    whole = [wire for wire in circuit.inputs if circuit.nodes[wire].label == "int"]
    if len(whole) != len(indices):
        raise InputError(
            f"this circuit has {len(whole)} integer inputs, and expand got values for {len(indices)}; "
            "where it gathers is part of its wiring: expand(*values of the integer inputs)"
        )
    given = dict(zip(whole, indices, strict=True))
    build = ScalarBuilder()
    wires: list[np.ndarray] = []  # for every array node, the scalar wires of its entries
    known: list[np.ndarray | None] = []  # the values of index arrays
    for wire, node in enumerate(circuit.nodes):
        place = node.place
        operands = [wires[i] for i in node.operands]
        values = [known[i] for i in node.operands]
        known.append(None)
        if node.gate is CONSTANT:
            known[-1] = value_of(node)
            wires.append(build.constants_of(value_of(node)))
            continue
        if node.gate is INPUT:
            if wire in given:
                values_now = np.asarray(given[wire], dtype=np.float64).reshape(node.shape)
                known[-1] = values_now
                wires.append(build.constants_of(values_now))
                continue
            entries = [build.add(INPUT, (), {"shape": ()}, node.label, place) for _ in range(cells(node.shape))]
            wires.append(np.array(entries, dtype=np.int64).reshape(node.shape))
            continue
        if node.label != "float" and all(v is not None for v in values):
            values_now = np.asarray(compute(node, *values), dtype=np.float64)
            known[-1] = values_now
            wires.append(build.constants_of(values_now))
            continue
        wires.append(scalars(build, node, operands, values))
    inputs = [int(entry) for i in circuit.inputs if i not in given for entry in wires[i].ravel()]
    outputs = tuple(int(entry) for i in circuit.outputs for entry in wires[i].ravel())
    names = tuple(f"x{i}" for i in range(len(inputs)))
    return Circuit(tuple(build.nodes), tuple(inputs), outputs, input_names=names)


def scalars(
    build: ScalarBuilder, node: Node, operands: list[np.ndarray], values: list[np.ndarray | None]
) -> np.ndarray:
    """The scalar wires of one array gate."""
    gate, place = node.gate, node.place
    if gate.kind == "elementwise":
        flat = [x.ravel() for x in operands]
        entries = [
            build.add(gate, tuple(int(i) for i in row), dict(node.params), node.label, place)
            for row in zip(*flat, strict=True)
        ]
        return np.array(entries, dtype=np.int64).reshape(node.shape)
    if gate.index is not None:
        if (index := values[gate.index]) is None:
            raise InputError(f"{place}: {gate.name} has an index that is not known before run time")
        operands = [*operands[: gate.index], index, *operands[gate.index + 1 :]]
    if gate.expand is None:
        return np.asarray(gate.value(*operands, **node.params))
    return np.asarray(gate.expand(Scalars(build, node), node.shape, *operands, **node.params))


class Scalars:
    """What a gate's `expand` may ask for: scalar gates in the place of one array node."""

    def __init__(self, build: ScalarBuilder, node: Node) -> None:
        self.build = build
        self.node = node

    def apply(self, gate: Gate, *operands: int, **params: Any) -> int:
        """A scalar gate."""
        return self.build.add(gate, operands, params, self.node.label, self.node.place)

    def zero(self) -> int:
        """The constant 0."""
        return self.build.constant(0.0)

    def add(self, x: int, y: int) -> int:
        """x + y."""
        return self.apply(add, x, y)

    def multiply(self, x: int, y: int) -> int:
        """x * y."""
        return self.apply(multiply, x, y)

    def maximum(self, x: int, y: int) -> int:
        """The larger."""
        return self.apply(maximum, x, y)

    def total(self, terms: Iterable[int]) -> int:
        """Add up terms one by one: L - 1 sums."""
        wires = [int(term) for term in terms]
        return functools.reduce(self.add, wires) if wires else self.zero()
