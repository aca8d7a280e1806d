"""Expand a small array circuit to scalar gates: every element of every array becomes a node.

Movement needs no rule: a gate that moves numbers also moves node numbers. Tests compare `size` with the result.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.circuit.graph import Graph, evaluate
from circuitsketch.circuit.node import CONSTANT, INPUT, Node, Place, compute
from circuitsketch.errors import InputError
from circuitsketch.gates import GATES, Gate, cells
from circuitsketch.gates.contraction import split


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
        entries = [self.constant(float(x)) for x in array.ravel()]
        return np.array(entries, dtype=np.int64).reshape(array.shape)

    def total(self, terms: list[int], label: Any, place: Place) -> int:
        """Add terms one by one: L - 1 sums."""
        if not terms:
            return self.constant(0.0)
        found = terms[0]
        for term in terms[1:]:
            found = self.add(GATES["add"], (found, term), {}, label, place)
        return found


@dataclass(frozen=True, slots=True)
class Entries:
    """An array wire: the scalar wires of its entries, and their values where these are known before run time."""

    wires: np.ndarray
    value: np.ndarray | None = None


def expand(circuit: Graph, *indices: Any) -> Graph:
    """The scalar circuit.

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

    def known(value: Any, node: Node) -> Entries:
        array = np.asarray(value, dtype=np.float64).reshape(node.shape)
        return Entries(build.constants_of(array), array)

    def apply(node: Node, *operands: Entries) -> Entries:
        values = [operand.value for operand in operands]
        if node.gate is CONSTANT or (node.label != "float" and all(value is not None for value in values)):
            return known(compute(node, *values), node)
        return Entries(scalars(build, node, [operand.wires for operand in operands], values))

    entries: dict[int, Entries] = {}
    for wire in sorted(circuit.inputs):
        node = circuit.nodes[wire]
        if wire in given:
            entries[wire] = known(given[wire], node)
        else:
            numbers = [build.add(INPUT, (), {"shape": ()}, node.label, node.place) for _ in range(cells(node.shape))]
            entries[wire] = Entries(np.array(numbers, dtype=np.int64).reshape(node.shape))
    entries = evaluate(circuit.nodes, entries, apply)
    inputs = tuple(int(entry) for i in circuit.inputs if i not in given for entry in entries[i].wires.ravel())
    outputs = tuple(int(entry) for i in circuit.outputs for entry in entries[i].wires.ravel())
    return Graph(tuple(build.nodes), inputs, outputs, input_names=tuple(f"x{i}" for i in range(len(inputs))))


def scalars(
    build: ScalarBuilder, node: Node, operands: list[np.ndarray], values: list[np.ndarray | None]
) -> np.ndarray:
    """Add the scalar gates of one array gate and return their wires."""
    gate, place = node.gate, node.place
    if gate.kind == "elementwise":
        flat = [x.ravel() for x in operands]
        entries = [
            build.add(gate, tuple(int(i) for i in row), dict(node.params), node.label, place)
            for row in zip(*flat, strict=True)
        ]
        return np.array(entries, dtype=np.int64).reshape(node.shape)
    if gate.kind == "sum":
        rows = rows_of(operands[0], node.params["axes"])
        out = np.empty(node.shape, dtype=np.int64)
        for at in np.ndindex(node.shape):
            out[at] = build.total([int(i) for i in rows[at]], node.label, place)
        return out
    if gate.kind == "contraction":
        return contraction(build, node, *operands)
    if gate.kind == "scatter":
        return scattered(build, node, operands[0], values[1])
    if gate.kind == "extremum":
        entries = []
        rows = rows_of(operands[0], node.params["axes"])
        for at in np.ndindex(rows.shape[:-1]):
            top = int(rows[at][0])
            for other in rows[at][1:]:
                top = build.add(GATES["maximum"], (top, int(other)), {}, node.label, place)
            entries.append(build.add(gate, (top,), {"axes": ()}, node.label, place))
        return np.array(entries, dtype=np.int64).reshape(node.shape)
    if gate.name == "take":
        if values[1] is None:
            raise InputError(f"{place} gathers at an index that is not known before run time")
        return gate.value(operands[0], values[1], **node.params)
    if gate.name == "pad":
        # The pad's own zeros must not be mistaken for wire 0: move wire numbers counted from 1.
        moved = gate.value(operands[0] + 1, **node.params) - 1
        if np.any(moved < 0):
            moved = np.where(moved < 0, build.constant(0.0), moved)
        return moved
    return np.asarray(gate.value(*operands, **node.params))


def rows_of(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """An array with some axes brought together at its end."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(x.shape[axis] for axis in kept)
    return x.transpose(kept + list(axes)).reshape(*shape, cells(tuple(x.shape[axis] for axis in axes)))


def contraction(build: ScalarBuilder, node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products and sums of an einsum, entry by entry."""
    (left, right), result = split(node.params["spec"])
    extent = dict(zip(left + right, a.shape + b.shape, strict=True))
    summed = [letter for letter in string.ascii_letters if letter in extent and letter not in result]
    out = np.empty(node.shape, dtype=np.int64)
    for at in np.ndindex(node.shape):
        fixed = dict(zip(result, at, strict=True))
        terms = []
        for inner in np.ndindex(*(extent[letter] for letter in summed)):
            index = fixed | dict(zip(summed, inner, strict=True))
            x, y = a[tuple(index[i] for i in left)], b[tuple(index[i] for i in right)]
            terms.append(build.add(GATES["multiply"], (int(x), int(y)), {}, node.label, node.place))
        out[at] = build.total(terms, node.label, node.place)
    return out


def scattered(build: ScalarBuilder, node: Node, x: np.ndarray, index: np.ndarray | None) -> np.ndarray:
    """One sum for every entry that is added to its place."""
    if index is None:
        raise InputError(f"{node.place} scatters to an index that is not known before run time")
    axis = node.params["axis"]
    flat = x.reshape(x.shape[:axis] + (index.size,) + x.shape[axis + index.ndim :])
    out = np.full(node.shape, build.constant(0.0), dtype=np.int64)
    for at in np.ndindex(flat.shape):
        place = at[:axis] + (int(index.ravel()[at[axis]]),) + at[axis + 1 :]
        out[place] = build.add(GATES["add"], (int(out[place]), int(flat[at])), {}, node.label, node.place)
    return out
