"""Identities, folding, sharing, pruning: a smaller circuit of the same values and series.

In: a Circuit. Out: a Circuit. A forward walk applies the identities (one line each), computes what is constant and
shares equal nodes; a backward look drops what no output needs, but for gates that guard; both again until nothing
changes. No identity makes a circuit larger: those that save only where a value has no other reader ask for that.

Tempting but wrong: `x / x -> 1` and `x - x -> 0` (a NaN would vanish), `x / c -> x * (1/c)` for any constant (another
rounding; exact for powers of two), reassociating sums (another rounding), `0 * x -> 0` and `0 / x -> 0` (0 times
infinity, and 0 / 0, are NaN).
The sign of a zero is not kept: `x + 0 -> x` and `0 - x -> -x` are for every x but a zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.circuit import CONSTANT, INPUT, Circuit, Node, compute, value_of
from circuitsketch.gates import GATES, cells

COMMUTATIVE = {"add", "multiply", "equal", "not_equal"}  # exactly, in floating point too
FOLD_LIMIT = 1 << 20  # a folded constant larger than this many entries would cost more memory than the gate costs time


class Rewriter:
    """The circuit being rebuilt: nodes, where equal ones are found, and how many readers the original gives a wire."""

    def __init__(self, counted: bool) -> None:
        self.counted = counted
        self.nodes: list[Node] = []
        self.seen: dict[Any, int] = {}
        self.readers: Counter[int] = Counter()
        self.numbers: dict[int, float | None] = {}

    def add(self, node: Node) -> int:
        """The wire of a node, an equal one if there is one."""
        key = identity_of(node)
        if key is not None and key in self.seen:
            return self.seen[key]
        self.nodes.append(node)
        wire = len(self.nodes) - 1
        if key is not None:
            self.seen[key] = wire
        return wire

    def constant(self, value: Any, like: Node) -> int:
        """A constant with the label and place of the node that it replaces."""
        array = np.array(value, dtype=np.float64)
        array.setflags(write=False)
        return self.add(Node(CONSTANT, (), {"value": array}, array.shape, like.label, like.place))

    def apply(self, name: str, operands: tuple[int, ...], like: Node, **params: Any) -> int:
        """Another gate in the place of a node, itself simplified."""
        gate = GATES[name]
        shape = gate.shape(*(self.nodes[i].shape for i in operands), **params)
        return simplified(self, Node(gate, operands, params, shape, like.label, like.place))

    def spread(self, scalar: int, like: Node) -> int:
        """One number in the shape of a node."""
        return scalar if like.shape == () else self.apply("broadcast", (scalar,), like, shape=like.shape)

    def gate(self, wire: int) -> str:
        """The name of the gate that yields a wire."""
        return self.nodes[wire].gate.name

    def operand(self, wire: int, position: int = 0) -> int:
        """An operand of the gate that yields a wire."""
        return self.nodes[wire].operands[position]

    def relabelled(self, wire: int, like: Node) -> int:
        """A wire in the place of a node: the same numbers under the node's label."""
        if self.nodes[wire].label == like.label:
            return wire
        return self.add(Node(GATES["copy"], (wire,), {}, like.shape, like.label, like.place))

    def is_lone(self, wire: int) -> bool:
        """Whether a wire is known to have one reader, so that it goes when the reader stops reading it."""
        return self.counted and self.readers[wire] == 1

    def is_all(self, wire: int, number: float) -> bool:
        """Whether a wire is the constant `number` in every entry (through broadcasts and reshapes)."""
        return self.number_of(wire) == number

    def number_of(self, wire: int) -> float | None:
        """The one number in all entries of a constant wire (through broadcasts and reshapes), else None."""
        while self.gate(wire) in ("broadcast", "reshape"):
            wire = self.operand(wire)
        if wire not in self.numbers:
            value = value_of(self.nodes[wire]) if self.nodes[wire].gate is CONSTANT else np.zeros(0)
            self.numbers[wire] = value.flat[0].item() if value.size and np.all(value == value.flat[0]) else None
        return self.numbers[wire]


def identity_of(node: Node) -> Any:
    """What makes two nodes the same; inputs never are."""
    if node.gate is INPUT:
        return None
    if node.gate is CONSTANT:
        value = value_of(node)
        # A large array is itself: its id is its own, since a node that keeps the array alive is found under it.
        return ("constant", node.label, value.shape, value.tobytes() if value.size <= 1 << 16 else id(value))
    operands = tuple(sorted(node.operands)) if node.gate.name in COMMUTATIVE else node.operands
    params = tuple(sorted(node.params.items()))
    # The gate and not its name, which a user may give to another gate; the text, because -0.0 equals 0.0, and 1 True.
    return (node.gate, operands, params, repr(params), node.label)


Rule = Callable[[Rewriter, Node], int | None]
RULES: dict[str, list[Rule]] = {}


def rule(*gates: str) -> Callable[[Rule], Rule]:
    """Register an identity for gates; it returns the wire to use instead, or None."""

    def put(function: Rule) -> Rule:
        for gate in gates:
            RULES.setdefault(gate, []).append(function)
        return function

    return put


def zero(r: Rewriter, node: Node) -> int:
    """The constant zero of a node's shape, one number broadcast."""
    return r.spread(r.constant(0.0, node), node)


@rule("copy")
def without_copy(r: Rewriter, node: Node) -> int | None:
    """copy(x) -> x, unless it changes whole numbers to real ones; copy(copy(x)) -> copy(x)."""
    x = node.operands[0]
    if r.nodes[x].label == node.label:
        return x
    return r.apply("copy", (r.operand(x),), node) if r.gate(x) == "copy" else None


@rule("attained")
def extremum(r: Rewriter, node: Node) -> int | None:
    """attained(value, x) -> value: what x is beside it for is in the gradient by now."""
    return r.relabelled(node.operands[0], node)


@rule("add")
def add_zero(r: Rewriter, node: Node) -> int | None:
    """x + 0 -> x;  x + (-y) -> x - y."""
    x, y = node.operands
    if r.is_all(y, 0.0):
        return r.relabelled(x, node)
    if r.is_all(x, 0.0):
        return r.relabelled(y, node)
    if r.gate(y) == "negate":
        return r.apply("subtract", (x, r.operand(y)), node)
    if r.gate(x) == "negate":
        return r.apply("subtract", (y, r.operand(x)), node)
    return None


@rule("subtract")
def subtract_zero(r: Rewriter, node: Node) -> int | None:
    """x - 0 -> x;  0 - x -> -x;  x - (-y) -> x + y."""
    x, y = node.operands
    if r.is_all(y, 0.0):
        return r.relabelled(x, node)
    if r.is_all(x, 0.0):
        return r.apply("negate", (y,), node)
    if r.gate(y) == "negate":
        return r.apply("add", (x, r.operand(y)), node)
    return None


@rule("negate")
def negate_twice(r: Rewriter, node: Node) -> int | None:
    """-(-x) -> x."""
    x = node.operands[0]
    return r.relabelled(r.operand(x), node) if r.gate(x) == "negate" else None


@rule("multiply")
def multiply_by(r: Rewriter, node: Node) -> int | None:
    """x * 1 -> x;  x * -1 -> -x;  x * x -> x^2;  lone (-x) * y -> -(x * y);  x * lone (1/y) -> x / y."""
    x, y = node.operands
    for one, other in ((x, y), (y, x)):
        if r.is_all(one, 1.0):
            return r.relabelled(other, node)
        if r.is_all(one, -1.0):
            return r.apply("negate", (other,), node)
    if x == y and node.label == "float":
        return r.apply("square", (x,), node)
    for one, other in ((x, y), (y, x)):
        if r.gate(one) == "negate" and r.is_lone(one) and r.nodes[one].label == node.label:
            return r.apply("negate", (r.apply("multiply", (r.operand(one), other), node),), node)
        if r.gate(one) == "reciprocal" and r.is_lone(one):
            return r.apply("divide", (other, r.operand(one)), node)
    return None


@rule("square")
def square_of(r: Rewriter, node: Node) -> int | None:
    """(-x)^2 -> x^2."""
    x = node.operands[0]
    return r.apply("square", (r.operand(x),), node) if r.gate(x) == "negate" else None


@rule("divide")
def divide_by(r: Rewriter, node: Node) -> int | None:
    """x / 1 -> x;  1 / sqrt(x) -> rsqrt(x);  1 / x -> reciprocal(x);  x / 2^n -> x * 2^-n."""
    x, y = node.operands
    if r.is_all(y, 1.0):
        return r.relabelled(x, node)
    if r.is_all(x, 1.0):
        if r.gate(y) == "sqrt":
            return r.apply("rsqrt", (r.operand(y),), node)
        return r.apply("reciprocal", (y,), node)
    if (scale := exact_reciprocal(r, y)) is not None:
        scaled = r.constant(scale, node)
        return r.apply("multiply", (x, scaled if node.shape == () else r.spread(scaled, node)), node)
    return None


def exact_reciprocal(r: Rewriter, wire: int) -> float | None:
    """1/c for a wire that is one constant c, a power of two whose reciprocal is a normal number; else None."""
    number = r.number_of(wire)
    if number is None:
        return None
    mantissa, exponent = math.frexp(number)
    return 1.0 / number if abs(mantissa) == 0.5 and abs(exponent) < 1000 else None


@rule("reshape")
def reshape_of(r: Rewriter, node: Node) -> int | None:
    """reshape(reshape(x)) -> reshape(x);  reshape to the same shape -> x."""
    x = node.operands[0]
    if r.nodes[x].shape == node.shape:
        return x
    if r.gate(x) == "reshape":
        return r.apply("reshape", (r.operand(x),), node, shape=node.shape)
    return None


@rule("transpose")
def transpose_of(r: Rewriter, node: Node) -> int | None:
    """transpose(transpose(x)) -> one transpose;  no permutation -> x."""
    x = node.operands[0]
    axes = node.params["axes"]
    if axes == tuple(range(len(axes))):
        return x
    if r.gate(x) == "transpose":
        inner = r.nodes[x].params["axes"]
        return r.apply("transpose", (r.operand(x),), node, axes=tuple(inner[i] for i in axes))
    return None


@rule("broadcast")
def broadcast_of(r: Rewriter, node: Node) -> int | None:
    """broadcast(broadcast(x)) -> one broadcast;  to the same shape -> x."""
    x = node.operands[0]
    if r.nodes[x].shape == node.shape:
        return x
    if r.gate(x) == "broadcast":
        return r.apply("broadcast", (r.operand(x),), node, shape=node.shape)
    return None


@rule("slice", "pad")
def slice_all(r: Rewriter, node: Node) -> int | None:
    """A slice of everything -> x;  x padded by nothing -> x."""
    x = node.operands[0]
    return x if r.nodes[x].shape == node.shape and all(s == 1 for s in node.params["steps"]) else None


@rule("pad", "scatter_add", "transpose", "reshape", "slice", "take", "sum", "negate", "square")
def zero_stays(r: Rewriter, node: Node) -> int | None:
    """Linear gates of zero -> zero."""
    return zero(r, node) if cells(node.shape) and r.is_all(node.operands[0], 0.0) else None


@rule("sum")
def sum_of(r: Rewriter, node: Node) -> int | None:
    """Sum over no axis, or over axes of extent 1 -> reshape(x)."""
    x = node.operands[0]
    if all(r.nodes[x].shape[axis] == 1 for axis in node.params["axes"]):
        return r.relabelled(r.apply("reshape", (x,), r.nodes[x], shape=node.shape), node)
    return None


@rule("sum")
def sum_of_negated(r: Rewriter, node: Node) -> int | None:
    """The sum of a lone -x -> -(the sum of x)."""
    x = node.operands[0]
    if r.gate(x) != "negate" or not r.is_lone(x) or r.nodes[x].label != node.label:
        return None
    total = r.apply("sum", (r.operand(x),), node, axes=node.params["axes"])
    return r.apply("negate", (total,), node)


@rule("where")
def where_known(r: Rewriter, node: Node) -> int | None:
    """where(true, x, y) -> x;  where(false, x, y) -> y;  where(test, x, x) -> x."""
    test, x, y = node.operands
    if r.is_all(test, 1.0):
        return r.relabelled(x, node)
    if r.is_all(test, 0.0):
        return r.relabelled(y, node)
    return r.relabelled(x, node) if x == y else None


def simplified(r: Rewriter, node: Node) -> int:
    """The wire for a node: by an identity, folded, or added."""
    for identity in RULES.get(node.gate.name, ()):
        found = identity(r, node)
        if found is not None:
            return found
    constant = [r.nodes[i] for i in node.operands]
    # A broadcast stays a gate: it moves nothing, while a folded one would be an array.
    if (
        constant
        and node.gate.name != "broadcast"
        and cells(node.shape) <= FOLD_LIMIT
        and all(n.gate is CONSTANT or is_spread(r, n) for n in constant)
    ):
        values = [folded_value(r, i) for i in node.operands]
        with np.errstate(all="ignore"):
            value = np.asarray(compute(node, *values), dtype=np.float64)
        return r.constant(value, node)
    return r.add(node)


def is_spread(r: Rewriter, node: Node) -> bool:
    """A broadcast or reshape of a constant."""
    while node.gate.name in ("broadcast", "reshape"):
        node = r.nodes[node.operands[0]]
    return node.gate is CONSTANT


def folded_value(r: Rewriter, wire: int) -> np.ndarray:
    """The array that a constant wire, or a broadcast of one, stands for."""
    node = r.nodes[wire]
    if node.gate is CONSTANT:
        return value_of(node)
    return np.asarray(node.gate.value(folded_value(r, node.operands[0]), **node.params))


def simplify(circuit: Circuit) -> Circuit:
    """An equivalent circuit after identities, folding, sharing and pruning, of at most the size.

    >>> import numpy as np, circuitsketch as cs
    >>> print(simplify(cs.trace(lambda x: (x + 0.0) * 1.0 - (-x) * x, np.ones(2))))  # doctest: +ELLIPSIS
    circuit: 3 nodes, size 4, depth 2
      a:f64[2] = input args.0
      b:f64[2] = square a ...
      c:f64[2] = add a b ...
      return c
    """
    # Equal wires must be one before their readers can be counted.
    found = simplified_once(prune(circuit), counted=False)
    while True:
        before, found = found, simplified_once(found, counted=True)
        if [identity_of(node) for node in before.nodes] == [identity_of(node) for node in found.nodes]:
            return found


def simplified_once(circuit: Circuit, counted: bool) -> Circuit:
    """One walk forward and one look back; `counted`: readers may be counted, since no two wires are equal."""
    r = Rewriter(counted)
    new: list[int] = []
    inputs = [0] * len(circuit.inputs)
    position = {wire: i for i, wire in enumerate(circuit.inputs)}
    returned = Counter(circuit.outputs)
    for wire, node in enumerate(circuit.nodes):
        moved = Node(node.gate, tuple(new[i] for i in node.operands), node.params, node.shape, node.label, node.place)
        new.append(r.add(moved) if node.is_source else simplified(r, moved))
        r.readers[new[-1]] += len(circuit.users[wire]) + returned[wire]
        if wire in position:
            inputs[position[wire]] = new[-1]
    return prune(rebuilt(circuit, r.nodes, inputs, [new[i] for i in circuit.outputs]))


def rebuilt(circuit: Circuit, nodes: list[Node], inputs: list[int], outputs: list[int]) -> Circuit:
    """The circuit with other nodes, its signature kept."""
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
    """Only what an output needs; inputs and what guards stay, used or not."""
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
    return rebuilt(circuit, nodes, [new[i] for i in circuit.inputs], [new[i] for i in circuit.outputs])
