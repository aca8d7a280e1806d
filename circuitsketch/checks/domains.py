"""Where a gate has no Taylor series, or no finite value: the words for it, and a look at one circuit at one point.

In: a circuit, the values of its inputs, which of them vary. Out: nothing, or a DomainError or KinkWarning that names
the gate and the user's line. A training run, whose constants a machine computes, is looked at in `training.health`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from circuitsketch.backends import reference
from circuitsketch.circuit import Circuit, Node
from circuitsketch.errors import DomainError, KinkWarning

TROUBLES = {
    "positive": "its operand is not positive; keep it above zero, for example by an epsilon added to it",
    "above -1": "its operand is not above -1; keep it above, for example by an epsilon",
    "nonzero": "it divides by zero; keep the divisor away from zero",
    "nonzero divisor": "it divides by zero; keep the divisor away from zero",
    "base of a power": "its base is negative or zero, where only a whole exponent that no weight changes has a series "
    "(at zero: 0 to 4, or any that is known when the function is traced); keep the base above zero, or use such "
    "exponents",
}
ORDERS = 3  # of the series by which it is told whether an operand moves

ADAM = (
    "a parameter's gradients have all been zero so far (of a feature that is always zero, of a unit that is off), "
    "and a square root has no series at zero; give the optimiser eps_root=1e-8 and eps=0, which puts the constant "
    "under the root"
)


def where(node: Node) -> str:
    """A gate and the user's line."""
    through = f" of {node.place.through}" if node.place.through else ""
    return f"gate {node.gate.name}{through} ({node.place.file}:{node.place.line})"


def is_kink(node: Node) -> bool:
    """Whether leaving the gate's domain means a kink, on both sides of which there are series."""
    return node.gate.domain is not None and node.gate.domain.startswith("kink")


def domain_error(node: Node, when: str = "") -> DomainError:
    """The error for a constant term at which a gate has no series."""
    domain = node.gate.domain
    assert domain is not None
    trouble = ADAM if node.place.through in ("cs.optim.adam", "cs.optim.adamw") else TROUBLES[domain]
    return DomainError(f"{where(node)} has no Taylor series at its constant term{when}: {trouble}")


def kink_text(node: Node, when: str = "") -> str:
    """The warning for a constant term within rounding of a kink."""
    return f"{where(node)} is within rounding of its kink{when}: it has no Taylor series there, and one side's is used"


def first_not_finite(circuit: Circuit, values: Sequence[np.ndarray]) -> Node | None:
    """The first gate whose value is not finite at values of the inputs; None where all are."""
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
    moved: Callable[[], Sequence[np.ndarray | None]] | None = None,
) -> None:
    """Look at every gate with a domain that varying inputs reach.

    moved : gives of every input which entries move at all, or None; by default all that varying inputs reach is taken
        to move. Called only where a gate is on a kink.

    Raises
    ------
    DomainError : naming the first gate without a series. KinkWarning is given for kinks.
    """
    reached = circuit.reached_from([circuit.inputs[i] for i in varying], through=lambda node: not node.gate.flat)
    sides = None if moved is None else cache(lambda: sides_of(circuit, values, moved()))
    constants: list[np.ndarray] = []

    def watch(wire: int, node: Node, series: reference.Series) -> None:
        constants.append(series[0])
        domain = node.gate.domain
        if domain is None or reached.isdisjoint(node.operands):
            return
        varies = [i in reached for i in node.operands]
        outside = node.gate.lacks_series([constants[i] for i in node.operands], varies)
        if not np.any(outside):
            return
        if not is_kink(node):
            raise domain_error(node)
        if sides is not None and not np.any(outside & sides()[wire]):
            return
        warnings.warn(kink_text(node), KinkWarning, stacklevel=2)

    reference.run(circuit, values, [None] * len(values), 0, watch)


def sides_of(
    circuit: Circuit, values: Sequence[np.ndarray], moved: Sequence[np.ndarray | None]
) -> dict[int, np.ndarray]:
    """Of every gate with a kink which entries leave it when entries of the inputs move, each in a way of its own."""
    rng = np.random.default_rng(0)
    series = [
        None if mask is None else np.where(mask, rng.normal(size=(1, ORDERS, *mask.shape)), 0.0) for mask in moved
    ]
    wires: list[reference.Series] = []
    sides: dict[int, np.ndarray] = {}

    def watch(wire: int, node: Node, found: reference.Series) -> None:
        wires.append(found)
        if is_kink(node):
            sides[wire] = moves(node, [wires[i] for i in node.operands])

    reference.run(circuit, values, series, ORDERS, watch)
    return sides


def moves(node: Node, operands: list[reference.Series]) -> np.ndarray:
    """Where a gate's operand carries a series; of two, where their series differ: there it leaves its kink."""
    marked = np.zeros(node.shape, dtype=bool)
    for k in range(1, ORDERS + 1):
        apart = operands[0][k] - operands[1][k] if len(operands) == 2 else operands[0][k]
        if isinstance(apart, np.ndarray):
            marked |= np.any(apart != 0, axis=0)
    return marked
