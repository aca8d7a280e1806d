"""Simplify a circuit by identities, constant folding, sharing and pruning; values and series stay the same.

In: a Circuit. Out: a Circuit. A forward pass applies the identities (one line each), folds constants and shares equal
nodes; a backward pass removes nodes that no output needs, except guards; both repeat until nothing changes. No identity
makes a circuit larger: those that help only if a value has no other reader check for that.

Tempting but wrong: `x / x -> 1` and `x - x -> 0` (these hide a NaN), `x / c -> x * (1/c)` for any constant (rounds
differently; exact for powers of two), reassociating sums (rounds differently), `0 * x -> 0` and `0 / x -> 0` (0 times
infinity, and 0 / 0, are NaN).
The sign of a zero is not preserved: `x + 0 -> x` and `0 - x -> -x` hold for every nonzero x.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.circuit import CONSTANT, INPUT, Circuit, Node, compute, value_of
from circuitsketch.gates import Gate, cells
from circuitsketch.gates.arithmetic import add, copy, divide, multiply, negate, reciprocal, square, subtract
from circuitsketch.gates.movement import (
    broadcast,
    pad,
    reshape,
    scatter_add,
    sum_over,
    take,
    take_slice,
    transpose,
)
from circuitsketch.gates.powers import rsqrt, sqrt
from circuitsketch.gates.selection import where

FOLD_LIMIT = 1 << 20  # elements; above it, a folded constant costs more memory than computing it costs time


class Rewriter:
    """The circuit under reconstruction: its nodes, a table of equal nodes, and each wire's number of readers."""

    def __init__(self, counted: bool) -> None:
        self.counted = counted
        self.nodes: list[Node] = []
        self.seen: dict[Any, int] = {}
        self.readers: Counter[int] = Counter()
        self.numbers: dict[int, float | None] = {}

    def add(self, node: Node) -> int:
        """Return the wire of an equal node if there is one, else append the node."""
        key = make_node_key(node)
        if key is not None and key in self.seen:
            return self.seen[key]
        self.nodes.append(node)
        wire = len(self.nodes) - 1
        if key is not None:
            self.seen[key] = wire
        return wire

    def constant(self, value: Any, like: Node) -> int:
        """Add a constant with the label and place of the node that it replaces."""
        array = np.array(value, dtype=np.float64)
        array.setflags(write=False)
        return self.add(Node(CONSTANT, (), {"value": array}, array.shape, like.label, like.place))

    def apply(self, gate: Gate, operands: tuple[int, ...], like: Node, **params: Any) -> int:
        """Add another gate in place of a node, after simplifying it; return its wire."""
        shape = gate.shape(*(self.nodes[i].shape for i in operands), **params)
        return simplify_node(self, Node(gate, operands, params, shape, like.label, like.place))

    def broadcast_scalar(self, scalar: int, like: Node) -> int:
        """Return a scalar wire broadcast to the shape of a node."""
        return scalar if like.shape == () else self.apply(broadcast, (scalar,), like, shape=like.shape)

    def gate(self, wire: int) -> Gate:
        """Return the gate that computes a wire."""
        return self.nodes[wire].gate

    def operand(self, wire: int, position: int = 0) -> int:
        """Return an operand of the gate that computes a wire."""
        return self.nodes[wire].operands[position]

    def relabel(self, wire: int, like: Node) -> int:
        """Return a wire with the same numbers under the label of the node that it replaces."""
        if self.nodes[wire].label == like.label:
            return wire
        return self.add(Node(copy, (wire,), {}, like.shape, like.label, like.place))

    def has_one_reader(self, wire: int) -> bool:
        """Return whether a wire is known to have a single reader, so that it can be pruned with it."""
        return self.counted and self.readers[wire] == 1

    def is_constant(self, wire: int, number: float) -> bool:
        """Return whether every element of a wire is the constant `number` (through broadcasts and reshapes)."""
        return self.find_number(wire) == number

    def find_number(self, wire: int) -> float | None:
        """Return the number that is every element of a constant wire (through broadcasts and reshapes), else None."""
        while self.gate(wire) in (broadcast, reshape):
            wire = self.operand(wire)
        if wire not in self.numbers:
            value = value_of(self.nodes[wire]) if self.nodes[wire].gate is CONSTANT else np.zeros(0)
            self.numbers[wire] = value.flat[0].item() if value.size and np.all(value == value.flat[0]) else None
        return self.numbers[wire]


def make_node_key(node: Node) -> Any:
    """Return a key that is equal for equivalent nodes, or None for an input."""
    if node.gate is INPUT:
        return None
    if node.gate is CONSTANT:
        value = value_of(node)
        # A large array is compared by id, which stays unique because the node of this key keeps the array alive.
        return ("constant", node.label, value.shape, value.tobytes() if value.size <= 1 << 16 else id(value))
    operands = tuple(sorted(node.operands)) if node.gate.commutative else node.operands
    params = tuple(sorted(node.params.items()))
    # The gate, not its name, which another gate may share; the repr, because -0.0 == 0.0 and 1 == True.
    return (node.gate, operands, params, repr(params), node.label)


Rule = Callable[[Rewriter, Node], int | None]
RULES: dict[Gate, list[Rule]] = {}


def rule(*gates: Gate) -> Callable[[Rule], Rule]:
    """Register an identity for gates; it returns the wire to use instead, or None."""

    def add_rule(function: Rule) -> Rule:
        for gate in gates:
            RULES.setdefault(gate, []).append(function)
        return function

    return add_rule


def make_zero(r: Rewriter, node: Node) -> int:
    """Return the constant zero broadcast to a node's shape."""
    return r.broadcast_scalar(r.constant(0.0, node), node)


@rule(copy)
def drop_copy(r: Rewriter, node: Node) -> int | None:
    """copy(x) -> x, unless it converts integers to floats; copy(copy(x)) -> copy(x)."""
    x = node.operands[0]
    if r.nodes[x].label == node.label:
        return x
    return r.apply(copy, (r.operand(x),), node) if r.gate(x) is copy else None


@rule(add)
def simplify_sum(r: Rewriter, node: Node) -> int | None:
    """x + 0 -> x;  x + (-y) -> x - y."""
    x, y = node.operands
    if r.is_constant(y, 0.0):
        return r.relabel(x, node)
    if r.is_constant(x, 0.0):
        return r.relabel(y, node)
    if r.gate(y) is negate:
        return r.apply(subtract, (x, r.operand(y)), node)
    if r.gate(x) is negate:
        return r.apply(subtract, (y, r.operand(x)), node)
    return None


@rule(subtract)
def simplify_difference(r: Rewriter, node: Node) -> int | None:
    """x - 0 -> x;  0 - x -> -x;  x - (-y) -> x + y."""
    x, y = node.operands
    if r.is_constant(y, 0.0):
        return r.relabel(x, node)
    if r.is_constant(x, 0.0):
        return r.apply(negate, (y,), node)
    if r.gate(y) is negate:
        return r.apply(add, (x, r.operand(y)), node)
    return None


@rule(negate)
def cancel_negations(r: Rewriter, node: Node) -> int | None:
    """-(-x) -> x."""
    x = node.operands[0]
    return r.relabel(r.operand(x), node) if r.gate(x) is negate else None


@rule(multiply)
def simplify_product(r: Rewriter, node: Node) -> int | None:
    """x * 1 -> x;  x * -1 -> -x;  x * x -> x^2;  lone (-x) * y -> -(x * y);  x * lone (1/y) -> x / y."""
    x, y = node.operands
    for one, other in ((x, y), (y, x)):
        if r.is_constant(one, 1.0):
            return r.relabel(other, node)
        if r.is_constant(one, -1.0):
            return r.apply(negate, (other,), node)
    if x == y and node.label == "float":
        return r.apply(square, (x,), node)
    for one, other in ((x, y), (y, x)):
        if r.gate(one) is negate and r.has_one_reader(one) and r.nodes[one].label == node.label:
            return r.apply(negate, (r.apply(multiply, (r.operand(one), other), node),), node)
        if r.gate(one) is reciprocal and r.has_one_reader(one):
            return r.apply(divide, (other, r.operand(one)), node)
    return None


@rule(square)
def simplify_square(r: Rewriter, node: Node) -> int | None:
    """(-x)^2 -> x^2."""
    x = node.operands[0]
    return r.apply(square, (r.operand(x),), node) if r.gate(x) is negate else None


@rule(divide)
def simplify_quotient(r: Rewriter, node: Node) -> int | None:
    """x / 1 -> x;  1 / sqrt(x) -> rsqrt(x);  1 / x -> reciprocal(x);  x / 2^n -> x * 2^-n."""
    x, y = node.operands
    if r.is_constant(y, 1.0):
        return r.relabel(x, node)
    if r.is_constant(x, 1.0):
        if r.gate(y) is sqrt:
            return r.apply(rsqrt, (r.operand(y),), node)
        return r.apply(reciprocal, (y,), node)
    if (scale := find_exact_reciprocal(r, y)) is not None:
        scaled = r.constant(scale, node)
        return r.apply(multiply, (x, scaled if node.shape == () else r.broadcast_scalar(scaled, node)), node)
    return None


def find_exact_reciprocal(r: Rewriter, wire: int) -> float | None:
    """Return 1/c for a wire of one constant c, a power of two with a normal reciprocal; else None."""
    number = r.find_number(wire)
    if number is None:
        return None
    mantissa, exponent = math.frexp(number)
    return 1.0 / number if abs(mantissa) == 0.5 and abs(exponent) < 1000 else None


@rule(reshape)
def merge_reshapes(r: Rewriter, node: Node) -> int | None:
    """reshape(reshape(x)) -> reshape(x);  reshape to the same shape -> x."""
    x = node.operands[0]
    if r.nodes[x].shape == node.shape:
        return x
    if r.gate(x) is reshape:
        return r.apply(reshape, (r.operand(x),), node, shape=node.shape)
    return None


@rule(transpose)
def merge_transposes(r: Rewriter, node: Node) -> int | None:
    """transpose(transpose(x)) -> one transpose;  no permutation -> x."""
    x = node.operands[0]
    axes = node.params["axes"]
    if axes == tuple(range(len(axes))):
        return x
    if r.gate(x) is transpose:
        inner = r.nodes[x].params["axes"]
        return r.apply(transpose, (r.operand(x),), node, axes=tuple(inner[i] for i in axes))
    return None


@rule(broadcast)
def merge_broadcasts(r: Rewriter, node: Node) -> int | None:
    """broadcast(broadcast(x)) -> one broadcast;  to the same shape -> x."""
    x = node.operands[0]
    if r.nodes[x].shape == node.shape:
        return x
    if r.gate(x) is broadcast:
        return r.apply(broadcast, (r.operand(x),), node, shape=node.shape)
    return None


@rule(take_slice, pad)
def drop_full_slice(r: Rewriter, node: Node) -> int | None:
    """A slice of everything -> x;  x padded by nothing -> x."""
    x = node.operands[0]
    return x if r.nodes[x].shape == node.shape and all(s == 1 for s in node.params["steps"]) else None


@rule(pad, scatter_add, transpose, reshape, take_slice, take, sum_over, negate, square)
def propagate_zero(r: Rewriter, node: Node) -> int | None:
    """Linear gates of zero -> zero."""
    return make_zero(r, node) if cells(node.shape) and r.is_constant(node.operands[0], 0.0) else None


@rule(sum_over)
def drop_sum_over_units(r: Rewriter, node: Node) -> int | None:
    """Sum over no axis, or over axes of length 1 -> reshape(x)."""
    x = node.operands[0]
    if all(r.nodes[x].shape[axis] == 1 for axis in node.params["axes"]):
        return r.relabel(r.apply(reshape, (x,), r.nodes[x], shape=node.shape), node)
    return None


@rule(where)
def resolve_where(r: Rewriter, node: Node) -> int | None:
    """where(true, x, y) -> x;  where(false, x, y) -> y;  where(test, x, x) -> x."""
    test, x, y = node.operands
    if r.is_constant(test, 1.0):
        return r.relabel(x, node)
    if r.is_constant(test, 0.0):
        return r.relabel(y, node)
    return r.relabel(x, node) if x == y else None


def simplify_node(r: Rewriter, node: Node) -> int:
    """Return the wire for a node: by an identity, folded, or added."""
    for identity in RULES.get(node.gate, ()):
        wire = identity(r, node)
        if wire is not None:
            return wire
    constant = [r.nodes[i] for i in node.operands]
    # A broadcast is not folded: it costs nothing, while the folded array would take memory.
    if (
        constant
        and node.gate is not broadcast
        and cells(node.shape) <= FOLD_LIMIT
        and all(n.gate is CONSTANT or is_broadcast_constant(r, n) for n in constant)
    ):
        values = [fold_value(r, i) for i in node.operands]
        with np.errstate(all="ignore"):
            value = np.asarray(compute(node, *values), dtype=np.float64)
        return r.constant(value, node)
    return r.add(node)


def is_broadcast_constant(r: Rewriter, node: Node) -> bool:
    """Return whether a node is a constant, through broadcasts and reshapes."""
    while node.gate in (broadcast, reshape):
        node = r.nodes[node.operands[0]]
    return node.gate is CONSTANT


def fold_value(r: Rewriter, wire: int) -> np.ndarray:
    """Return the array of a constant wire, possibly broadcast or reshaped."""
    node = r.nodes[wire]
    if node.gate is CONSTANT:
        return value_of(node)
    return np.asarray(node.gate.value(fold_value(r, node.operands[0]), **node.params))


def simplify(circuit: Circuit) -> Circuit:
    """Return an equivalent circuit of at most the same size, after identities, folding, sharing and pruning.

    >>> import numpy as np, circuitsketch as cs
    >>> print(simplify(cs.trace(lambda x: (x + 0.0) * 1.0 - (-x) * x, np.ones(2))))  # doctest: +ELLIPSIS
    circuit: 3 nodes, size 4, depth 2
      a:f64[2] = input args.0
      b:f64[2] = square a ...
      c:f64[2] = add a b ...
      return c
    """
    # Equal wires must be shared before their readers can be counted.
    circuit = simplify_once(prune(circuit), counted=False)
    while True:
        before, circuit = circuit, simplify_once(circuit, counted=True)
        if [make_node_key(node) for node in before.nodes] == [make_node_key(node) for node in circuit.nodes]:
            return circuit


def simplify_once(circuit: Circuit, counted: bool) -> Circuit:
    """Apply one forward pass and prune; `counted`: readers may be counted, since no two wires are equal."""
    r = Rewriter(counted)
    new: list[int] = []
    inputs = [0] * len(circuit.inputs)
    position = {wire: i for i, wire in enumerate(circuit.inputs)}
    returned = Counter(circuit.outputs)
    for wire, node in enumerate(circuit.nodes):
        rewired = Node(node.gate, tuple(new[i] for i in node.operands), node.params, node.shape, node.label, node.place)
        new.append(r.add(rewired) if node.is_source else simplify_node(r, rewired))
        r.readers[new[-1]] += len(circuit.users[wire]) + returned[wire]
        if wire in position:
            inputs[position[wire]] = new[-1]
    return prune(rebuild(circuit, r.nodes, inputs, [new[i] for i in circuit.outputs]))


def rebuild(circuit: Circuit, nodes: list[Node], inputs: list[int], outputs: list[int]) -> Circuit:
    """Return the circuit with other nodes and the same signature."""
    return Circuit(
        tuple(nodes),
        tuple(inputs),
        tuple(outputs),
        circuit.input_names,
        circuit.in_tree,
        circuit.out_tree,
        circuit.output_names,
    )


def prune(circuit: Circuit) -> Circuit:
    """Remove the nodes that no output needs, except inputs and guards."""
    needed = set(circuit.outputs) | set(circuit.inputs)
    needed.update(wire for wire, node in enumerate(circuit.nodes) if node.gate.guards)
    needed = circuit.needed_for(needed)
    new: dict[int, int] = {}
    nodes: list[Node] = []
    for wire, node in enumerate(circuit.nodes):
        if wire in needed:
            new[wire] = len(nodes)
            nodes.append(
                Node(
                    node.gate,
                    tuple(new[i] for i in node.operands),
                    node.params,
                    node.shape,
                    node.label,
                    node.place,
                )
            )
    return rebuild(circuit, nodes, [new[i] for i in circuit.inputs], [new[i] for i in circuit.outputs])
