"""Lower nodes to operations: movement without a copy to layouts, everything else to operations.

In: a circuit, and which inputs vary from lane to lane. Out: a `Program`: the layout of every wire, and operations in
order. An operation is elementwise (to be fused), a contraction, or a list of moves.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from circuitsketch.circuit import CONSTANT, Circuit, Node, value_of
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.gates import Shape
from circuitsketch.gates.contraction import split
from circuitsketch.lower.layout import Layout

Combine = Literal["copy", "add", "max", "min"]


@dataclass(frozen=True, slots=True)
class Move:
    """Elements of `source` are combined into `target`, which has the same shape.

    If there is an `index`, of that shape too, its values times `step` are added to the element numbers of one side,
    which `gathers` names.
    """

    target: Layout
    source: Layout
    combine: Combine = "copy"
    index: Layout | None = None
    step: int = 0
    gathers: Literal["source", "target"] = "source"


@dataclass(frozen=True, slots=True)
class Fill:
    """All elements of a buffer are set to a number."""

    buffer: int
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One thing to execute, which writes one buffer.

    operands : the layouts that it reads; those of an elementwise operation have its shape.
    moves : of movement, what to do in order.
    spec : of a contraction, the einsum.
    """

    kind: Literal["elementwise", "contraction", "moves"]
    wire: int
    node: Node
    buffer: int
    operands: tuple[Layout, ...]
    spec: str = ""
    moves: tuple[Move | Fill, ...] = ()


@dataclass(eq=False)
class Program:
    """A circuit as operations on buffers.

    Attributes
    ----------
    layouts : of every wire.
    varying : the wires that differ from lane to lane: with a series, or with a value per lane.
    shapes : of every buffer.
    buffer_varies : for every buffer whether it needs lanes.
    constants : the literals, by buffer.
    companions : the buffers of the auxiliary constant terms, by elementwise wire.
    """

    circuit: Circuit
    layouts: list[Layout] = field(default_factory=list)
    varying: set[int] = field(default_factory=set)
    shapes: list[Shape] = field(default_factory=list)
    buffer_varies: list[bool] = field(default_factory=list)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    companions: dict[int, tuple[int, ...]] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def add_buffer(self, shape: Shape, varies: bool) -> int:
        """Add a buffer and return its number."""
        self.shapes.append(shape)
        self.buffer_varies.append(varies)
        return len(self.shapes) - 1


def build_program(circuit: Circuit, varying_inputs: Set[int], lanes_hold_values: bool) -> Program:
    """Return a circuit as operations.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    varying_inputs : set of int
        The positions of the inputs that differ from lane to lane.
    lanes_hold_values : bool
        Whether lanes hold values, of several retrainings, and not Taylor coefficients; comparisons then differ from
        lane to lane too.
    """
    inputs = [circuit.inputs[i] for i in varying_inputs]
    varying = circuit.reached_from(inputs, through=lambda node: lanes_hold_values or not node.gate.flat)
    result = Program(circuit, varying=varying)
    for wire, node in enumerate(circuit.nodes):
        result.layouts.append(lower_node(result, wire, node, wire in varying, lanes_hold_values))
    return result


def lower_node(p: Program, wire: int, node: Node, varies: bool, lanes_hold_values: bool) -> Layout:
    """Add the operations that a node needs, and return its layout."""
    operands = [p.layouts[i] for i in node.operands]
    if node.is_source:
        buffer = p.add_buffer(node.shape, varies)
        if node.gate is CONSTANT:
            p.constants[buffer] = value_of(node)
        return Layout.contiguous(buffer, node.shape)
    if node.gate.view is not None:
        view = node.gate.view(node.shape, *operands, **node.params)
        if view is not None:
            return view
        copied = add_copy(p, wire, node, operands[0], varies)
        return Layout.contiguous(copied.buffer, node.shape)
    buffer = p.add_buffer(node.shape, varies)
    target = Layout.contiguous(buffer, node.shape)
    if node.gate.kind == "elementwise":
        if varies and not lanes_hold_values and not node.gate.flat:
            p.companions[wire] = tuple(p.add_buffer(node.shape, False) for _ in range(node.gate.companions))
        p.operations.append(Operation("elementwise", wire, node, buffer, tuple(operands)))
    elif node.gate.kind == "contraction":
        p.operations.append(Operation("contraction", wire, node, buffer, tuple(operands), spec=node.params["spec"]))
    else:
        moves = list_moves(p, node, target, operands)
        p.operations.append(Operation("moves", wire, node, buffer, tuple(operands), moves=moves))
    return target


def add_copy(p: Program, wire: int, node: Node, source: Layout, varies: bool) -> Layout:
    """Add a copy in C order of a strided layout, and return its layout."""
    target = Layout.contiguous(p.add_buffer(source.shape, varies), source.shape)
    p.operations.append(Operation("moves", wire, node, target.buffer, (source,), moves=(Move(target, source),)))
    return target


def list_moves(p: Program, node: Node, target: Layout, operands: list[Layout]) -> tuple[Move | Fill, ...]:
    """Return the moves of a gate of movement, as its record says."""
    gate = node.gate
    if gate.index is not None and node.operands[gate.index] in p.varying:
        raise ShapeError(
            f"{node.place}: {gate.name} reads an index that depends on the weights; indices must come from the data"
        )
    if gate.moves is None:
        raise InputError(f"{node.place}: gate {gate.name} has no lowering; give its record `moves` or `view`")
    return tuple(gate.moves(Moves(target.buffer), target, *operands, **node.params))


class Moves:
    """What a gate's `moves` is made of: functions of layouts."""

    def __init__(self, buffer: int) -> None:
        self.buffer = buffer

    def fill(self, value: float) -> Fill:
        """Return a fill of the result with a number."""
        return Fill(self.buffer, value)

    @staticmethod
    def move(target: Layout, source: Layout, combine: Combine = "copy") -> Move:
        """Return a move of the source to the target, of the same shape; no element may read what another one writes."""
        return Move(target, source, combine)

    @staticmethod
    def broadcast_target(target: Layout, axes: tuple[int, ...], shape: Shape) -> Layout:
        """Return a sum's target in the shape of its operand, with stride 0 along the summed axes."""
        rest = iter(target.strides)
        strides = tuple(0 if axis in axes else next(rest) for axis in range(len(shape)))
        return Layout(target.buffer, target.offset, shape, strides)

    @staticmethod
    def gather(target: Layout, source: Layout, index: Layout, axis: int) -> tuple[Move, ...]:
        """Return target[.., i.., ..] = source[.., index[i..], ..]."""
        addressed, positions, step = address_through_index(axis, target, source, index)
        return (Move(target, addressed, "copy", positions, step, "source"),)

    def scatter(self, target: Layout, source: Layout, index: Layout, axis: int) -> tuple[Move | Fill, ...]:
        """Return target[.., index[i..], ..] += source[.., i.., ..], from zero: the adjoint of `gather`."""
        addressed, positions, step = address_through_index(axis, source, target, index)
        return self.fill(0.0), Move(addressed, source, "add", positions, step, "target")


def address_through_index(axis: int, wide: Layout, narrow: Layout, index: Layout) -> tuple[Layout, Layout, int]:
    """Return the layouts of a side that is addressed through an index, and of the index, in the other side's shape.

    The addressed side has stride 0 along the index's axes, and the index has stride 0 along all others. The third
    result is the step of the index in elements.
    """
    rank = len(index.shape)
    before, after = narrow.strides[:axis], narrow.strides[axis + 1 :]
    addressed = Layout(narrow.buffer, narrow.offset, wide.shape, before + (0,) * rank + after)
    positions = Layout(index.buffer, index.offset, wide.shape, (0,) * len(before) + index.strides + (0,) * len(after))
    return addressed, positions, narrow.strides[axis]


def split_roles(spec: str) -> tuple[str, str, str, str]:
    """Return the letters of an einsum by role: batch (in all three), row (left and result), column (right), summed."""
    (left, right), result = split(spec)
    batch = "".join(x for x in result if x in left and x in right)
    rows = "".join(x for x in result if x in left and x not in right)
    columns = "".join(x for x in result if x in right and x not in left)
    summed = "".join(x for x in left if x in right and x not in result)
    return batch, rows, columns, summed
