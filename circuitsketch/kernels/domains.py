"""Where a gate has no Taylor series: the words for it, and a look at one circuit at one point.

In: a circuit, the values of its inputs, which of them vary. Out: nothing, or a DomainError or KinkWarning that names
the gate and the user's line. A training run, whose constants a machine computes, is looked at in `training.health`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from circuitsketch.circuit import Circuit, Node
from circuitsketch.errors import DomainError, KinkWarning
from circuitsketch.kernels import reference

TROUBLES = {
    "positive": "its operand is not positive; keep it above zero, for example by an epsilon added to it",
    "above -1": "its operand is not above -1; keep it above, for example by an epsilon",
    "nonzero": "it divides by zero; keep the divisor away from zero",
    "nonzero divisor": "it divides by zero; keep the divisor away from zero",
    "base of a power": "its base is negative or zero, where only a whole exponent that no weight changes has a series "
    "(at zero: 0 to 4, or any that is known when the function is traced); keep the base above zero, or use such "
    "exponents",
}

ADAM = (
    "a parameter's gradients have all been zero so far (an embedding row that no step has read, a unit that is off), "
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


def check_point(circuit: Circuit, values: Sequence[np.ndarray], varying: Sequence[int]) -> None:
    """Look at every gate with a domain that varying inputs reach.

    Raises
    ------
    DomainError : naming the first gate without a series. KinkWarning is given for kinks.
    """
    reached = {circuit.inputs[i] for i in varying}
    constants: list[np.ndarray] = []

    def watch(wire: int, node: Node, series: reference.Series) -> None:
        constants.append(series[0])
        if not any(i in reached for i in node.operands):
            return
        if not node.gate.flat:
            reached.add(wire)
        domain = node.gate.domain
        if domain is None:
            return
        varies = [i in reached for i in node.operands]
        if not np.any(node.gate.lacks_series([constants[i] for i in node.operands], varies)):
            return
        if not is_kink(node):
            raise domain_error(node)
        warnings.warn(kink_text(node), KinkWarning, stacklevel=2)

    reference.run(circuit, values, [None] * len(values), 0, watch)
