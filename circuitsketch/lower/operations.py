"""From nodes to operations: movement becomes layouts, and what is left reads layouts and writes one buffer each.

In: a circuit and which inputs vary from lane to lane. Out: `Program`: the layout of every wire, and operations in
order. An operation is elementwise (to be fused), a contraction, or a list of moves.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from circuitsketch.circuit import CONSTANT, Circuit, Node, value_of
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.gates import GATES, Gate, Shape, cells
from circuitsketch.gates.contraction import split
from circuitsketch.lower.layout import Layout

Combine = Literal["copy", "add", "max"]


@dataclass(frozen=True, slots=True)
class Move:
    """Entries of `source` combined into `target`, both of one shape.

    Where `index` is given (also of that shape), its entries times `step` are added to the element number of the side
    that `gathers` names.
    """

    target: Layout
    source: Layout
    combine: Combine = "copy"
    index: Layout | None = None
    step: int = 0
    gathers: Literal["source", "target"] = "source"


@dataclass(frozen=True, slots=True)
class Fill:
    """A number put into a whole buffer."""

    buffer: int
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Something to execute: what it reads and the one buffer that it writes.

    gate and operands : for elementwise operations, the gate and its operands' layouts (of the operation's own shape).
    moves : for movement, what to do in order.
    spec : for contractions, the einsum.
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
    layouts : of every wire. varying : the wires that differ from lane to lane (carry a series, or a value a lane).
    shapes : of every buffer. buffer_varies : buffers that need lanes.
    constants : buffers that hold plain data. companions : the extra constant terms of an elementwise wire.
    """

    circuit: Circuit
    layouts: list[Layout] = field(default_factory=list)
    varying: set[int] = field(default_factory=set)
    shapes: list[Shape] = field(default_factory=list)
    buffer_varies: list[bool] = field(default_factory=list)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    companions: dict[int, tuple[int, ...]] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def new_buffer(self, shape: Shape, varies: bool) -> int:
        """A buffer of its own."""
        self.shapes.append(shape)
        self.buffer_varies.append(varies)
        return len(self.shapes) - 1


def program(circuit: Circuit, varying_inputs: Set[int], lanes_hold_values: bool) -> Program:
    """The operations of a circuit.

    Parameters
    ----------
    varying_inputs : positions among the circuit's inputs.
    lanes_hold_values : lanes hold values (many retrainings) rather than Taylor coefficients: then a comparison differs
        from lane to lane too.
    """
    inputs = [circuit.inputs[i] for i in varying_inputs]
    varying = circuit.reached_from(inputs, through=lambda node: lanes_hold_values or not node.gate.flat)
    result = Program(circuit, varying=varying)
    for wire, node in enumerate(circuit.nodes):
        result.layouts.append(place(result, wire, node, wire in varying, lanes_hold_values))
    return result


def place(p: Program, wire: int, node: Node, varies: bool, lanes_hold_values: bool) -> Layout:
    """Emit what a node needs and return its layout."""
    operands = [p.layouts[i] for i in node.operands]
    if node.is_source:
        buffer = p.new_buffer(node.shape, varies)
        if node.gate is CONSTANT:
            p.constants[buffer] = value_of(node)
        return Layout.whole(buffer, node.shape)
    name, params = node.gate.name, node.params
    if name == "attained":
        return operands[0]
    if name == "transpose":
        return operands[0].transposed(params["axes"])
    if name == "broadcast":
        return operands[0].broadcast(node.shape)
    if name == "slice":
        return operands[0].sliced(params["starts"], params["steps"], node.shape)
    if name == "reshape":
        view = operands[0].reshaped(node.shape)
        if view is not None:
            return view
        copied = copy_of(p, wire, node, operands[0], varies)
        return Layout.whole(copied.buffer, node.shape)
    buffer = p.new_buffer(node.shape, varies)
    target = Layout.whole(buffer, node.shape)
    if node.gate.kind == "elementwise":
        if varies and not lanes_hold_values and not node.gate.flat:
            p.companions[wire] = tuple(p.new_buffer(node.shape, False) for _ in range(node.gate.companions))
        p.operations.append(Operation("elementwise", wire, node, buffer, tuple(operands)))
    elif node.gate.kind == "contraction":
        p.operations.append(Operation("contraction", wire, node, buffer, tuple(operands), spec=params["spec"]))
    else:
        moves = movements(p, node, node.gate, target, operands)
        p.operations.append(Operation("moves", wire, node, buffer, tuple(operands), moves=moves))
    return target


def copy_of(p: Program, wire: int, node: Node, source: Layout, varies: bool) -> Layout:
    """A copy in C order of a strided layout."""
    target = Layout.whole(p.new_buffer(source.shape, varies), source.shape)
    p.operations.append(Operation("moves", wire, node, target.buffer, (source,), moves=(Move(target, source),)))
    return target


def movements(p: Program, node: Node, gate: Gate, target: Layout, operands: list[Layout]) -> tuple[Move | Fill, ...]:
    """The moves that a gate of movement, sum, scatter or extremum is made of."""
    params = node.params
    if gate.name == "sum":
        return (
            Fill(target.buffer, 0.0),
            Move(spread(target, params["axes"], operands[0].shape), operands[0], "add"),
        )
    if gate.name == "max_constant":
        kept = target.broadcast(operands[0].shape) if cells(target.shape) else target
        return (Fill(target.buffer, -np.inf), Move(kept, operands[0], "max"))
    if gate.name == "pad":
        inside = target.sliced(params["starts"], params["steps"], operands[0].shape)
        return (Fill(target.buffer, 0.0), Move(inside, operands[0]))
    if gate.name == "concatenate":
        moves: list[Move | Fill] = []
        begin = 0
        for operand in operands:
            starts = tuple(begin if axis == params["axis"] else 0 for axis in range(len(operand.shape)))
            moves.append(Move(target.sliced(starts, (1,) * len(starts), operand.shape), operand))
            begin += operand.shape[params["axis"]]
        return tuple(moves)
    if gate.name in ("take", "scatter_add"):
        index_wire = node.operands[1]
        if index_wire in p.varying:
            raise ShapeError(
                f"{node.place}: {gate.name} reads an index that depends on the weights; indices must come from the data"
            )
        return indexed(gate.name, params["axis"], target, operands[0], operands[1])
    raise InputError(f"{node.place}: there is no lowering for gate {gate.name}")


def spread(target: Layout, axes: tuple[int, ...], shape: Shape) -> Layout:
    """A sum's target seen from its operand: stride 0 along the summed axes."""
    rest = iter(target.strides)
    return Layout(
        target.buffer,
        target.offset,
        shape,
        tuple(0 if axis in axes else next(rest) for axis in range(len(shape))),
    )


def indexed(name: str, axis: int, target: Layout, source: Layout, index: Layout) -> tuple[Move | Fill, ...]:
    """take: target[.., i.., ..] = source[.., index[i..], ..]; scatter_add is its adjoint.

    Both walk the shape that has the index's axes in it. The side whose axis is addressed through the index has stride 0
    along them, and the index stride 0 along all others.
    """
    rank = len(index.shape)
    wide, narrow = (target, source) if name == "take" else (source, target)
    step = narrow.strides[axis]
    before, after = narrow.strides[:axis], narrow.strides[axis + 1 :]
    addressed = Layout(narrow.buffer, narrow.offset, wide.shape, before + (0,) * rank + after)
    positions = Layout(index.buffer, index.offset, wide.shape, (0,) * len(before) + index.strides + (0,) * len(after))
    if name == "take":
        return (Move(wide, addressed, "copy", positions, step, "source"),)
    return (Fill(target.buffer, 0.0), Move(addressed, wide, "add", positions, step, "target"))


def contraction_axes(spec: str) -> tuple[str, str, str, str]:
    """The letters of an einsum by role: batch (in all three), rows (left and result), columns (right), summed."""
    (left, right), result = split(spec)
    batch = "".join(x for x in result if x in left and x in right)
    rows = "".join(x for x in result if x in left and x not in right)
    columns = "".join(x for x in result if x in right and x not in left)
    summed = "".join(x for x in left if x in right and x not in result)
    return batch, rows, columns, summed


__all__ = ["GATES", "Fill", "Move", "Operation", "Program", "contraction_axes", "program"]
