"""Find which elements of a circuit's outputs depend on the varying inputs, and how; refuse constant measurements.

In: a circuit, and the inputs (or elements of them) that vary. Out: boolean masks. An input reaches a wire "by a series"
if a path of gates without a locally constant one leads there; otherwise at most "by value", as through a comparison. A
comparison, or another gate with a kink, on the path is said to decide the value. A measurement that depends on the
weights by value but not by a series is locally constant: its series would predict "no change" with certainty, wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.backends import reference
from circuitsketch.checks.domains import describe_gate, is_kink
from circuitsketch.circuit import Circuit, Node
from circuitsketch.errors import ConstantError, TraceError


def find_reached(circuit: Circuit, varying: Sequence[int], by_value: bool) -> set[int]:
    """Return the wires that inputs at these positions reach, by a series or, if `by_value`, also by value."""
    return circuit.reached_from(
        [circuit.inputs[i] for i in varying], through=lambda node: by_value or not node.gate.flat
    )


def find_deciding(circuit: Circuit, varying: Sequence[int]) -> list[Node]:
    """Return the gates with a kink between inputs at these positions and the outputs."""
    wires = find_reached(circuit, varying, by_value=True)
    needed = [circuit.nodes[wire] for wire in sorted(circuit.needed_for(circuit.outputs))]
    return [node for node in needed if is_kink(node) and not wires.isdisjoint(node.operands)]


def describe_gates(nodes: Sequence[Node], most: int = 3) -> str:
    """Describe gates and their lines, the first `most` of them."""
    texts = list(dict.fromkeys(describe_gate(node) for node in nodes))
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def flatten_outputs(circuit: Circuit, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Join one array per output: a single output's array as it is, a pytree's as the vector of its leaves."""
    return outputs[0] if circuit.out_tree.kind is None else np.concatenate([np.ravel(leaf) for leaf in outputs])


def find_dependent_elements(
    circuit: Circuit, values: Sequence[np.ndarray], varying: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of the elements that depend on the inputs by value, and of those that a gate with a kink decided.

    values : of every input, for the indices of gathers. varying : for every input a boolean mask of its shape, or None.
    """
    masks: list[tuple[np.ndarray, np.ndarray]] = []
    constants: list[np.ndarray] = []
    position = {wire: i for i, wire in enumerate(circuit.inputs)}

    def watch(wire: int, node: Node, series: reference.Series) -> None:
        constants.append(series[0])
        if node.is_source:
            given = varying[position[wire]] if wire in position else None
            touched = np.zeros(node.shape, dtype=bool) if given is None else np.asarray(given, dtype=bool)
            masks.append((touched.reshape(node.shape), np.zeros(node.shape, dtype=bool)))
            return
        nonconstant = [constants[i] for i in node.operands]
        touched, decided = (propagate_mask(node, [masks[i][k] for i in node.operands], nonconstant) for k in (0, 1))
        masks.append((touched, decided | touched if is_kink(node) else decided))

    reference.run(circuit, values, [None] * len(values), 0, watch)
    touched, decided = (flatten_outputs(circuit, [masks[wire][k] for wire in circuit.outputs]) for k in (0, 1))
    return touched, decided


def propagate_mask(
    node: Node, masks: list[np.ndarray], constants: list[np.ndarray], by_series: bool = False
) -> np.ndarray:
    """Return a mask of the elements of a gate's result that depend on marked elements of its operands.

    A product with an unmarked zero depends on nothing. by_series : whether only dependence by a series counts. Elements
    that a `where`, a maximum or the like does not choose have none, although the value may depend on them.
    """
    gate, params = node.gate, node.params
    if not any(mask.any() for mask in masks):
        return np.zeros(node.shape, dtype=bool)
    if gate.kind == "elementwise":
        if by_series and gate.selects:
            return mark_chosen(node, masks, constants)
        zero = [~masks[i] & (constants[i] == 0) for i in gate.zeroed_by]
        marked = np.logical_or.reduce(masks)
        return np.asarray(marked & ~np.logical_or.reduce(zero)) if zero else marked
    if gate.selects:
        return np.asarray(masks[0].any(axis=-1))
    numbers = [mask.astype(np.float64) for mask in masks]
    if gate.kind == "contraction":
        factors = [(mask | (constant != 0)).astype(np.float64) for mask, constant in zip(masks, constants, strict=True)]
        both = gate.value(numbers[0], factors[1], **params) + gate.value(factors[0], numbers[1], **params)
        return np.asarray(both > 0)
    if gate.index is not None:
        return np.asarray(gate.value(numbers[0], constants[gate.index], **params) > 0)
    return np.asarray(gate.value(*numbers, **params) > 0)


def mark_chosen(node: Node, masks: list[np.ndarray], constants: list[np.ndarray]) -> np.ndarray:
    """Return a mask of the elements of an elementwise gate's result that are marked elements of its operands.

    At a kink, all operands count; what decides which of them is chosen has no series.
    """
    gate = node.gate
    with np.errstate(all="ignore"):
        shares = gate.vjp(np.ones(node.shape), gate.value(*constants, **node.params), *constants, **node.params)
    parts = [mask & (share != 0) for mask, share in zip(masks, shares, strict=True) if share is not None]
    if gate.is_kink:
        parts.append(np.logical_or.reduce(masks) & gate.lacks_series(constants, [True] * len(constants)))
    return np.asarray(np.logical_or.reduce(parts))


# ------------------------------------------------------------------------------------------ constant measurements

SMOOTH_HINT = (
    "measure the logits or margins and count afterwards, or measure a smooth function, such as a sigmoid of the margin"
)
# By single precision: the relative size of a coefficient below which it is rounding.
RESOLUTION = {False: 1e-13, True: 1e-8}
PROBE_SIZES = (0.1, 0.3, 1.0, 3.0) * 4  # relative sizes of the parameter changes that test for a constant


@dataclass(frozen=True, eq=False)
class Constancy:
    """The elements of a measurement of shape S that do not change, according to its coefficients.

    flat : bool S, elements that are locally constant although the weights may change them. notes : sentences about
    these and other elements without a change.
    """

    flat: np.ndarray
    notes: tuple[str, ...]


def check_not_flat(circuit: Circuit, varying: Sequence[int], by_value: Sequence[int]) -> None:
    """Refuse a measurement that is locally constant by construction.

    varying, by_value : the positions of inputs that have a series, and of those that vary at least by value.

    Raises
    ------
    TraceError
        If the outputs depend on the weights by value, but not by a series.
    """
    outputs = set(circuit.outputs)
    if not outputs & find_reached(circuit, by_value, by_value=True) or outputs & find_reached(
        circuit, varying, by_value=False
    ):
        return
    nodes = find_deciding(circuit, by_value)
    if nodes:
        raise TraceError(
            "the measurement is locally constant: it depends on the trained state only through comparisons, here "
            f"{describe_gates(nodes)}, so all of its derivatives are zero and a Taylor series cannot predict it; "
            f"{SMOOTH_HINT}"
        )
    raise TraceError(
        "the measurement is locally constant: it reads parts of the state that depend on the examples' weights only "
        "through comparisons, so all of its derivatives are zero and a Taylor series cannot predict it; measure "
        "parameters that the training changes smoothly"
    )


def find_constancy(
    circuit: Circuit,
    values: Sequence[np.ndarray],
    mask_changes: Callable[[], Sequence[np.ndarray | None]],
    series: Sequence[np.ndarray],
    resolution: float,
) -> Constancy | None:
    """Find the elements of a measurement that no direction changes; None if there are none.

    Parameters
    ----------
    circuit : Circuit
        The measurement.
    values : sequence of ndarray
        The values of its inputs.
    mask_changes : callable
        Returns for each input a mask of the elements that the weights change, or None; called only if needed.
    series : sequence of ndarray
        Coefficients (directions, order + 1, *S).
    resolution : float
        The relative size up to which a coefficient is rounding.

    Raises
    ------
    ConstantError
        If all elements that the weights may change are locally constant.
    """
    nonconstant = [part for part in series if part.size and part.shape[1] > 1]
    if not nonconstant:
        return None
    constant = np.abs(nonconstant[0][0, 0])
    peak = np.max([np.abs(part[:, 1:]).max(axis=(0, 1)) for part in nonconstant], axis=0)
    unchanged = peak <= resolution * constant
    if not unchanged.any():
        return None
    masks = mask_changes()
    touched, decided = find_dependent_elements(circuit, values, masks)
    flat = unchanged & touched
    if (flat & ~decided).any():  # saturated, or the same for all parameters
        flat &= decided | find_far_changes(circuit, values, masks)
    nodes = find_deciding(circuit, range(len(circuit.inputs))) if (flat & decided).any() else []
    reason = (
        f"although the measurement depends on the parameters through {describe_gates(nodes)}"
        if nodes
        else "although the measurement has other values at other parameters"
    )
    if flat.any() and not (touched & ~unchanged).any():
        raise ConstantError(
            "the measurement is locally constant at the trained parameters: all coefficients of its Taylor series "
            f"are zero, {reason}, so the series cannot predict how the measurement changes; {SMOOTH_HINT}"
        )
    if flat.any():
        note = (
            f"the measurement is locally constant{describe_elements(flat)} at the trained parameters: the Taylor "
            f"coefficients of these values are all zero, {reason}, so the change of these values is unknown; "
            f"{SMOOTH_HINT}"
        )
    elif (touched & ~unchanged).any():
        return None
    else:
        note = (
            "this measurement does not depend on any example's weight: training does not change the values that the "
            "measurement reads, so the predicted change is 0"
        )
    return Constancy(flat, (note,))


def find_far_changes(circuit: Circuit, values: Sequence[np.ndarray], masks: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return which elements of the output change under large random changes of the elements that the weights change."""
    rng = np.random.default_rng(0)

    def measured(at: Sequence[np.ndarray]) -> np.ndarray:
        return flatten_outputs(circuit, [leaf[0, 0] for leaf in reference.run(circuit, at, [None] * len(at), 0)])

    here = measured(values)
    changed = np.zeros(here.shape, dtype=bool)
    for size in PROBE_SIZES:
        perturbed = []
        for value, mask in zip(values, masks, strict=True):
            scale = size * max(float(np.sqrt(np.mean(np.square(value)))) if np.size(value) else 0.0, 1e-3)
            step = scale * rng.normal(size=np.shape(value))
            perturbed.append(value if mask is None else value + np.where(mask, step, 0.0))
        difference = np.abs(measured(perturbed) - here)
        changed |= np.isfinite(difference) & (difference > 1e-9 * np.abs(here))
    return changed


def describe_elements(marked: np.ndarray, most: int = 5) -> str:
    """Describe which elements of an array are marked; empty if all are."""
    if marked.all():
        return ""
    places = [str([int(i) for i in index]) for index in np.argwhere(marked)]
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return f" at {len(places)} of {marked.size} values ({', '.join(places[:most])}{more})"
