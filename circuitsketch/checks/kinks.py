"""Kinks within reach: what a first-order change of a circuit's inputs would move across a kink of one of its gates.

In: a circuit, and which of its inputs change. Out: its kinks, the changes of its wires, and the elements that cross,
whose distance to a kink is shorter than their first-order change towards it. A series stays on the primal's side of
every kink, so no coefficient of it knows what crossing changes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.autodiff import evaluate, jvp
from circuitsketch.backends import reference
from circuitsketch.checks.dependence import find_reached
from circuitsketch.checks.domains import describe_gate, is_kink, per_element
from circuitsketch.circuit import CONSTANT, Circuit, Node, value_of
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.frontends.numpy.wire import ACTIVE, Wire
from circuitsketch.gates.movement import broadcast, reshape

LANES = 16  # first-order changes that `count_crossings` evaluates together


@dataclass(frozen=True)
class Kink:
    """A kink that gates share: where an array is zero, or where two arrays are equal.

    name : the first of the gates and the user's line. operands : one wire or two. is_point : the gates have one
    constant value on both sides of the kink and another at it, as an equality has; only elements at it can leave it.
    of_rows : the first operand is the extremum of each row of the second: elements that overtake it cross.
    """

    name: str
    operands: tuple[int, ...]
    is_point: bool
    of_rows: bool = False

    def difference(self, values: Mapping[int, Any]) -> Any:
        """Return the signed distance to the kink, or its change, from those of the wires."""
        first, *second = (values.get(wire, 0.0) for wire in self.operands)
        if self.of_rows:
            first = per_element(first)
        return first - second[0] if second else first


def find_kinks(circuit: Circuit, varying: Sequence[int]) -> list[Kink]:
    """Return the kinks of gates that inputs at these positions reach by their series."""
    wires = find_reached(circuit, varying, by_value=False)
    kinks: dict[tuple[int, ...], Kink] = {}
    for number, node in enumerate(circuit.nodes):
        if not is_kink(node) or wires.isdisjoint(node.operands):
            continue
        if node.gate.kind == "movement":
            operands = (number, *node.operands)
            kinks[operands] = Kink(describe_gate(node), operands, is_point=False, of_rows=True)
            continue
        operands = tuple(sorted(wire for wire in node.operands if not is_zero(circuit, wire)))
        kink = kinks.get(operands, Kink(describe_gate(node), operands, is_point=True))
        kinks[operands] = replace(kink, is_point=kink.is_point and has_equal_sides(node))
    return list(kinks.values())


def is_zero(circuit: Circuit, wire: int) -> bool:
    """Return whether a wire is a constant zero, perhaps broadcast."""
    node = circuit.nodes[wire]
    while node.gate in (broadcast, reshape):
        node = circuit.nodes[node.operands[0]]
    return node.gate is CONSTANT and not np.any(value_of(node))


def has_equal_sides(node: Node) -> bool:
    """Return whether a gate with a kink has one constant value on both sides of it."""
    gate = node.gate
    return gate.flat and gate.arity == 2 and bool(gate.value(1.0, 0.0) == gate.value(0.0, 1.0))


def is_crossed(distance: Any, change: Any, is_point: bool) -> Any:
    """Return which elements a change moves across a kink, or off it; of wires or arrays."""
    if is_point:
        return np.logical_and(distance == 0.0, change != 0.0)
    opposite = np.where(distance > 0.0, change < -distance, change > -distance)
    return np.where(distance == 0.0, change != 0.0, opposite)


def push(
    circuit: Circuit, inputs: Sequence[Any], changes: Mapping[int, Any], *, takes_sides: bool
) -> tuple[dict[int, Wire], dict[int, Wire]]:
    """Record a circuit and its change along a change of its inputs in the active trace, gate by gate.

    Parameters
    ----------
    inputs : of the circuit, wires or arrays. changes : by position, the changes of those inputs that vary.
    takes_sides : whether an element that crosses a kink goes on along the other side, so that gates with a kink and
        selections by them change by what they really change. False: first order, as the series has it.

    Returns
    -------
    By wire of the circuit, the values, and the changes of those wires that change.
    """
    build = ACTIVE.get()[-1]
    values = {wire: build.lift(value) for wire, value in zip(circuit.inputs, inputs, strict=True)}
    moves = {circuit.inputs[position]: build.lift(change) for position, change in changes.items()}
    for wire, node in enumerate(circuit.nodes):
        if wire in values:
            continue
        operands = [values[i] for i in node.operands]
        values[wire] = build.append(replace(node, operands=tuple(operand.index for operand in operands)))
        own = [moves.get(i) for i in node.operands]
        if node.label == "int" or all(move is None for move in own):
            continue
        chosen = any(i in moves and circuit.nodes[i].label == "bool" for i in node.operands)
        if takes_sides and (is_kink(node) or chosen):
            moved = [x if move is None else x + move for x, move in zip(operands, own, strict=True)]
            moves[wire] = 1.0 * node.gate(*moved, **node.params) - 1.0 * values[wire]
        elif not node.gate.flat:
            moves[wire] = tangent(node, operands, own)
    return values, moves


def tangent(node: Node, operands: list[Wire], moves: list[Wire | None]) -> Wire:
    """Return the first-order change of a gate's result."""
    chosen = [position for position, move in enumerate(moves) if move is not None]

    def gate(*varying: Wire) -> Any:
        replaced = dict(zip(chosen, varying, strict=True))
        return node.gate(*(replaced.get(i, operand) for i, operand in enumerate(operands)), **node.params)

    result: Wire = jvp(gate, tuple(operands[i] for i in chosen), tuple(moves[i] for i in chosen))[1]
    if node.gate.domain is None or is_kink(node):
        return result
    # At the edge of its domain, as sqrt at 0, what does not change has no change, and not 0 times infinity.
    changes = functools.reduce(np.logical_or, [moves[i] != 0.0 for i in chosen])
    selected: Wire = np.where(changes, result, 0.0)  # type: ignore[assignment]
    return selected


def count_crossings(
    circuit: Circuit, values: Sequence[np.ndarray], changes: Sequence[np.ndarray | None]
) -> dict[str, np.ndarray]:
    """Count the elements that first-order changes of a circuit's inputs move across kinks, at one point, in NumPy.

    Parameters
    ----------
    values : of the inputs. changes : for every input None, or B first-order changes (B, *shape).

    Returns
    -------
    By gate and line, integers (B,).
    """
    varying = [position for position, change in enumerate(changes) if change is not None]
    kinks = find_kinks(circuit, varying)
    count = max((len(change) for change in changes if change is not None), default=0)
    totals = {kink.name: np.zeros(count, dtype=np.int64) for kink in kinks}
    for begin in range(0, count, LANES) if kinks else ():
        rows = slice(begin, begin + LANES)
        series = [None if change is None else np.asarray(change)[rows, None] for change in changes]
        distances: dict[int, np.ndarray] = {}
        moves: dict[int, Any] = {}

        def watch(wire: int, node: Node, terms: reference.Series) -> None:
            distances[wire], moves[wire] = terms[0], np.real(terms[1])  # noqa: B023

        reference.run(circuit, values, series, 1, watch)
        for kink in kinks:
            change = kink.difference(moves)
            if np.ndim(change):  # not the 0.0 of an operand without a series
                crossed = is_crossed(kink.difference(distances), change, kink.is_point)
                totals[kink.name][rows] += crossed.sum(axis=tuple(range(1, crossed.ndim)))
    return totals


def measure_sides(
    circuit: Circuit, values: Sequence[np.ndarray], changes: Sequence[np.ndarray | None]
) -> list[np.ndarray]:
    """Compute what taking the other side of every kink that is crossed adds to the first-order change of the outputs.

    Parameters
    ----------
    values, changes : as for `count_crossings`.

    Returns
    -------
    Per output, (B, *shape).

    Examples
    --------
    >>> from circuitsketch.compiler import trace
    >>> circuit = trace(lambda x: np.abs(x).sum(), np.array([1.0, 5.0]))
    >>> measure_sides(circuit, [np.array([1.0, 5.0])], [np.array([[-3.0, -3.0], [-0.5, 0.0]])])
    [array([4., 0.])]
    """
    varying = [position for position, change in enumerate(changes) if change is not None]
    moves = [changes[position] for position in varying]

    def difference(*inputs: Any) -> Any:
        at, along = inputs[: len(values)], dict(zip(varying, inputs[len(values) :], strict=True))
        across, first = (push(circuit, at, along, takes_sides=takes_sides)[1] for takes_sides in (True, False))
        return [
            across.get(wire, 0.0) - first.get(wire, 0.0) + np.zeros(circuit.nodes[wire].shape)
            for wire in circuit.outputs
        ]

    examples = [*values, *(change[0] for change in moves if change is not None)]
    traced_difference = traced(difference, tuple(examples), "allow")
    rows = [
        evaluate(traced_difference, [*values, *(change[row] for change in moves if change is not None)])
        for row in range(max((len(change) for change in moves if change is not None), default=0))
    ]
    return [np.stack(column) for column in zip(*rows, strict=True)]
