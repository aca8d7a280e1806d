"""Check whether every gate of a circuit has a Taylor series, and a finite value, at a point.

In: a circuit, the values of its inputs, and which of them vary. Out: nothing, or a DomainError or KinkWarning that
names the gate and the user's line. What no output reads, such as the side of a `where` that is not chosen, needs no
series. Training runs, whose constants compiled code computes, are checked in
`training.health`, with the messages of this file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from circuitsketch.backends import reference
from circuitsketch.checks.chosen import find_chosen
from circuitsketch.circuit import Circuit, Node
from circuitsketch.errors import DomainError, KinkWarning
from circuitsketch.gates import DOMAINS
from circuitsketch.gates.domains import KINK_TOLERANCE

PROBE_ORDERS = 3  # the order of the series that show whether an operand changes

ADAM_REMEDY = (
    "Adam's update takes the square root of a parameter's mean squared gradient, which is zero here, although the "
    "examples' weights move it (for example, because the gradients of two examples cancel); pass eps_root=1e-8 and "
    "eps=0 to the optimiser, which adds the constant under the square root"
)


def describe_gate(node: Node) -> str:
    """Describe a gate and the user's line."""
    through = f" of {node.place.through}" if node.place.through else ""
    return f"gate {node.gate.name}{through} ({node.place.file}:{node.place.line})"


def is_kink(node: Node) -> bool:
    """Return whether the boundary of the gate's domain is a kink, with a series on either side."""
    return node.gate.is_kink


def make_domain_error(node: Node, when: str = "") -> DomainError:
    """Return the error for a primal value at which a gate has no series."""
    domain = node.gate.domain
    assert domain is not None
    remedy = ADAM_REMEDY if node.place.through in ("cs.optim.adam", "cs.optim.adamw") else DOMAINS[domain].advice
    return DomainError(f"{describe_gate(node)} is evaluated where it has no Taylor series{when}: {remedy}")


def format_kink_warning(node: Node, when: str = "") -> str:
    """Return the warning for a primal value within rounding error of a kink."""
    gate = describe_gate(node)
    return (
        f"{gate} is evaluated within rounding error of its kink{when}: it is not differentiable there, and the Taylor "
        "series of one side is used"
    )


def find_first_nonfinite(circuit: Circuit, values: Sequence[np.ndarray]) -> Node | None:
    """Return the first gate whose value is not finite at these values of the inputs, or None."""
    nodes: list[Node] = []

    def watch(wire: int, node: Node, series: reference.Series) -> None:
        if not nodes and not node.is_source and not np.all(np.isfinite(series[0])):
            nodes.append(node)

    reference.run(circuit, values, [None] * len(values), 0, watch)
    return nodes[0] if nodes else None


def check_point(
    circuit: Circuit,
    values: Sequence[np.ndarray],
    varying: Sequence[int],
    mask_changes: Callable[[], Sequence[np.ndarray | None]] | None = None,
) -> None:
    """Check the domain of every gate that depends on varying inputs and that outputs read.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    values : sequence of ndarray
        The values of its inputs.
    varying : sequence of int
        The positions of the inputs that vary.
    mask_changes : callable, optional
        Returns for each input a mask of the elements that change, or None; called only if a gate is on a kink. By
        default, everything that depends on varying inputs is assumed to change.

    Raises
    ------
    DomainError
        If a gate has no series; names the first one.

    Warns
    -----
    KinkWarning
        If a gate is on its kink.
    """
    reached = circuit.reached_from([circuit.inputs[i] for i in varying], through=lambda node: not node.gate.flat)
    sides = None if mask_changes is None else cache(lambda: find_departures(circuit, values, mask_changes()))
    chosen = cache(lambda: find_chosen(circuit, values))
    constants: list[np.ndarray] = []

    def watch(wire: int, node: Node, series: reference.Series) -> None:
        constants.append(series[0])
        domain = node.gate.domain
        if domain is None or reached.isdisjoint(node.operands):
            return
        varies = [i in reached for i in node.operands]
        outside = node.gate.lacks_series([constants[i] for i in node.operands], varies)
        if not np.any(outside) or not (node.gate.flat or np.any(outside & chosen()[wire])):
            return
        if not is_kink(node):
            raise make_domain_error(node)
        if sides is not None and not np.any(outside & sides()[wire]):
            return
        warnings.warn(format_kink_warning(node), KinkWarning, stacklevel=2)

    reference.run(circuit, values, [None] * len(values), 0, watch)


def find_departures(
    circuit: Circuit, values: Sequence[np.ndarray], masks: Sequence[np.ndarray | None]
) -> dict[int, np.ndarray]:
    """Return for each gate with a kink a mask of the elements that leave it when the inputs change at random."""
    rng = np.random.default_rng(0)
    series = [
        None if mask is None else np.where(mask, rng.normal(size=(1, PROBE_ORDERS, *mask.shape)), 0.0) for mask in masks
    ]
    wires: list[reference.Series] = []
    sides: dict[int, np.ndarray] = {}

    def watch(wire: int, node: Node, result: reference.Series) -> None:
        wires.append(result)
        if is_kink(node):
            sides[wire] = find_moving(node, [wires[i] for i in node.operands], result)

    reference.run(circuit, values, series, PROBE_ORDERS, watch)
    return sides


def find_moving(node: Node, operands: list[reference.Series], result: reference.Series) -> np.ndarray:
    """Return where a gate leaves its kink: where its operand has a series, or the series of what is equal differ."""
    if node.gate.kind == "movement":
        return find_parting(operands[0], result)
    marked = np.zeros(node.shape, dtype=bool)
    for k in range(1, PROBE_ORDERS + 1):
        apart = operands[0][k] - operands[1][k] if len(operands) == 2 else operands[0][k]
        if isinstance(apart, np.ndarray):
            marked |= np.any(apart != 0, axis=0)
    return marked


def find_parting(x: reference.Series, extremum: reference.Series) -> np.ndarray:
    """Return for each row whether elements that tie for its extremum have series that differ."""
    elements, extreme = x[0], per_element(extremum[0])
    ties = np.abs(extreme - elements) <= KINK_TOLERANCE * np.maximum(np.abs(extreme), np.abs(elements))
    marked = np.zeros(elements.shape, dtype=bool)
    for k in range(1, PROBE_ORDERS + 1):
        if isinstance(x[k], np.ndarray):
            marked |= ties & np.any(x[k] != per_element(extremum[k]), axis=0)
    return np.asarray(marked.any(axis=-1))


def per_element(row: Any) -> Any:
    """Return what there is per row in a shape that broadcasts to one per element; a number as it is."""
    return row[..., None] if np.ndim(row) else row
