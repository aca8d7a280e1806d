"""What a measurement depends on: which entries of a circuit's output the varying inputs reach, and in which way.

In: a circuit and which inputs (or entries of them) vary. Out: truth values. An input reaches a wire "by its series"
where a path of gates leads there none of which is flat, else at most "by its value", as it does through a comparison;
and where a comparison, or another gate with a kink, lies on the way, the value was decided by it. A measurement that
the weights reach by value, but by no series, is locally constant: its prediction would be "no change", with certainty,
and wrong. Such measurements are refused here, in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.backends import reference
from circuitsketch.checks.domains import is_kink, where
from circuitsketch.circuit import Circuit, Node
from circuitsketch.errors import InputError, TraceError


def reached(circuit: Circuit, varying: Sequence[int], by_value: bool) -> set[int]:
    """The wires that inputs at these positions reach, by their series or also by value."""
    return circuit.reached_from(
        [circuit.inputs[i] for i in varying], through=lambda node: by_value or not node.gate.flat
    )


def deciding(circuit: Circuit, varying: Sequence[int]) -> list[Node]:
    """The gates with a kink on the way to the outputs at whose operands inputs at these positions arrive by value."""
    wires = reached(circuit, varying, by_value=True)
    needed = [circuit.nodes[wire] for wire in sorted(circuit.needed_for(circuit.outputs))]
    return [node for node in needed if is_kink(node) and not wires.isdisjoint(node.operands)]


def named(nodes: Sequence[Node], most: int = 3) -> str:
    """Gates and their lines in words, one for each line."""
    texts = list(dict.fromkeys(where(node) for node in nodes))
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def in_one(circuit: Circuit, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays, one for each output: the array itself of a single one, of a pytree the vector of its leaves."""
    return outputs[0] if circuit.out_tree.kind is None else np.concatenate([np.ravel(leaf) for leaf in outputs])


def entries(
    circuit: Circuit, values: Sequence[np.ndarray], varying: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Which entries of the value depend on entries of the inputs by value, and which of these by way of a decision.

    values : of every input, which give the indices of gathers. varying : of every input bool of its shape, or None.
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
        known = [constants[i] for i in node.operands]
        touched, decided = (spread(node, [masks[i][k] for i in node.operands], known) for k in (0, 1))
        masks.append((touched, decided | touched if is_kink(node) else decided))

    reference.run(circuit, values, [None] * len(values), 0, watch)
    touched, decided = (in_one(circuit, [masks[wire][k] for wire in circuit.outputs]) for k in (0, 1))
    return touched, decided


def spread(node: Node, masks: list[np.ndarray], constants: list[np.ndarray]) -> np.ndarray:
    """Which entries of a gate's result depend on marked entries of its operands."""
    gate, params = node.gate, node.params
    if not any(mask.any() for mask in masks):
        return np.zeros(node.shape, dtype=bool)
    if gate.kind == "elementwise":
        return np.logical_or.reduce(masks)
    numbers = [mask.astype(np.float64) for mask in masks]
    if gate.kind == "contraction":
        ones = [np.ones_like(number) for number in numbers]
        both = gate.value(numbers[0], ones[1], **params) + gate.value(ones[0], numbers[1], **params)
        return np.asarray(both > 0)
    if gate.name in ("take", "scatter_add"):
        return np.asarray(gate.value(numbers[0], constants[1], **params) > 0)
    return np.asarray(gate.value(*numbers, **params) > 0)


# ------------------------------------------------------------------------------------------ constant measurements

WAY_OUT = (
    "predict the logits or margins and count them afterwards, or measure something smooth, such as a sigmoid of the "
    "margin"
)
RESOLUTION = {False: 1e-13, True: 1e-8}  # of coefficients over the value, by single precision: below it is rounding
TRIED = (0.1, 0.3, 1.0, 3.0) * 4  # sizes of the changes of the parameters, over theirs, by which a constant is told


@dataclass(frozen=True, eq=False)
class Constancy:
    """What the coefficients of a measurement of shape S say of entries that do not change.

    flat : bool S, entries that are locally constant although the weights may change them. notes : sentences about these
    and other entries without a change.
    """

    flat: np.ndarray
    notes: tuple[str, ...]


def refuse_flat(circuit: Circuit, varying: Sequence[int], by_value: Sequence[int]) -> None:
    """Refuse a measurement that is locally constant by its construction.

    varying, by_value : positions of the inputs that carry a series, and of those that vary at least by value.

    Raises
    ------
    TraceError : the weights reach outputs by value, and none of them by a series.
    """
    outputs = set(circuit.outputs)
    if not outputs & reached(circuit, by_value, by_value=True) or outputs & reached(circuit, varying, by_value=False):
        return
    nodes = deciding(circuit, by_value)
    if nodes:
        raise TraceError(
            f"the measurement is locally constant: what was trained reaches its value only through comparisons, here "
            f"{named(nodes)}, so that every derivative is zero and a series cannot predict it; {WAY_OUT}"
        )
    raise TraceError(
        "the measurement is locally constant: it reads parts of the state that depend on the examples' weights only "
        "through comparisons, so that every derivative is zero and a series cannot predict it; measure parameters that "
        "the training changes smoothly"
    )


def constancy_of(
    circuit: Circuit,
    values: Sequence[np.ndarray],
    moved: Callable[[], Sequence[np.ndarray | None]],
    series: Sequence[np.ndarray],
    resolution: float,
) -> Constancy | None:
    """Look at measured coefficients for entries that no direction changes; None where there are none.

    values : of the circuit's inputs. moved : gives of every input which entries the weights change, or None; called
        only where it is needed. series : arrays of coefficients (directions, order + 1, *S). resolution : the size of a
        coefficient, over the value, up to which it is rounding.

    Raises
    ------
    InputError : all entries that the weights may change are locally constant.
    """
    known = [part for part in series if part.size and part.shape[1] > 1]
    if not known:
        return None
    constant = np.abs(known[0][0, 0])
    peak = np.max([np.abs(part[:, 1:]).max(axis=(0, 1)) for part in known], axis=0)
    still = peak <= resolution * constant
    if not still.any():
        return None
    marked = moved()
    touched, decided = entries(circuit, values, marked)
    flat = still & touched
    if (flat & ~decided).any():  # saturated, or the same for all parameters
        flat &= decided | changes_far_away(circuit, values, marked)
    nodes = deciding_of(circuit) if (flat & decided).any() else []
    reason = f"although it depends on them through {named(nodes)}" if nodes else "although others would change it"
    if flat.any() and not (touched & ~still).any():
        raise InputError(
            "the measurement is locally constant at the trained parameters: no coefficient of its series differs from "
            f"zero, {reason}, so that a series cannot predict how it changes; {WAY_OUT}"
        )
    if flat.any():
        note = (
            f"the measurement is locally constant{at_entries(flat)} at the trained parameters: no coefficient of the "
            f"series differs from zero there, {reason}, so the change is unknown; {WAY_OUT}"
        )
    elif (touched & ~still).any():
        return None
    else:
        note = (
            "no example's weight changes this measurement: it does not depend on what the training changes, so that "
            "the change is 0"
        )
    return Constancy(flat, (note,))


def changes_far_away(circuit: Circuit, values: Sequence[np.ndarray], moved: Sequence[np.ndarray | None]) -> np.ndarray:
    """Which entries of the output change when what the weights move is changed by much, at random."""
    rng = np.random.default_rng(0)

    def measured(at: Sequence[np.ndarray]) -> np.ndarray:
        return in_one(circuit, [leaf[0, 0] for leaf in reference.run(circuit, at, [None] * len(at), 0)])

    here = measured(values)
    changed = np.zeros(here.shape, dtype=bool)
    for size in TRIED:
        tried = []
        for value, entries_moved in zip(values, moved, strict=True):
            scale = size * max(float(np.sqrt(np.mean(np.square(value)))) if np.size(value) else 0.0, 1e-3)
            step = scale * rng.normal(size=np.shape(value))
            tried.append(value if entries_moved is None else value + np.where(entries_moved, step, 0.0))
        apart = np.abs(measured(tried) - here)
        changed |= np.isfinite(apart) & (apart > 1e-9 * np.abs(here))
    return changed


def deciding_of(circuit: Circuit) -> list[Node]:
    """The gates with a kink that any input reaches."""
    return deciding(circuit, range(len(circuit.inputs)))


def at_entries(marked: np.ndarray, most: int = 5) -> str:
    """Which entries of an array are marked, in words; nothing for a single number or all of them."""
    if marked.all():
        return ""
    places = [str([int(i) for i in index]) for index in np.argwhere(marked)]
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return f" at {len(places)} of {marked.size} values ({', '.join(places[:most])}{more})"
