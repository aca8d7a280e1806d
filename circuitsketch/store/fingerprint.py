"""Fingerprints of training runs: equal exactly if the runs would train alike, bit for bit.

In: a run's step circuits, its schedule, its first state. Out: sha256 digests of a canonical byte form, in three parts,
so that an error can say which differs. A learning rate is a constant of a circuit or part of the data. Source lines are
left out: moving a line changes nothing. So are names, except those of gates: a built-in gate is identified by its name,
a user's own by its name and the digest of its rules (`gates.digest`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Schedule
from circuitsketch.backends.registry import DEFAULT_DEVICE, MODULES
from circuitsketch.circuit import Circuit, Node
from circuitsketch.errors import StoreError
from circuitsketch.gates.digest import digest_when_traced
from circuitsketch.gates.gate import is_built_in
from circuitsketch.training.training import Training


def fingerprint(
    circuits: Sequence[Circuit], schedule: Schedule, state: Sequence[np.ndarray], n: int, steps: int
) -> dict[str, str]:
    """Compute the fingerprint of a training run.

    Parameters
    ----------
    circuits
        One per kind of step.
    schedule
        The circuit of each step, the data it reads, the examples it weights.
    state
        The first state's leaves.
    n, steps
        How many examples and steps.

    Returns
    -------
    hexadecimal sha256 digests of the "circuits", the "data" (which steps, what they read, n) and the first "state".

    >>> import numpy as np, circuitsketch as cs
    >>> def run(rate):
    ...     return cs.Training(lambda s, x, keep: s - rate * keep.sum() * x, np.zeros(()), [1.0], [[0]])
    >>> one, two = (fingerprint(r.circuits, r.schedule, r.state_leaves, r.n, r.steps) for r in (run(0.1), run(0.2)))
    >>> [part for part in one if one[part] != two[part]]
    ['circuits']
    """
    read = (schedule.program, schedule.data, schedule.data_start, schedule.ids, schedule.ids_start)
    return {
        "circuits": digest([describe_circuit(circuit) for circuit in circuits]),
        "data": digest([*read, n, steps]),
        "state": digest(list(state)),
    }


def fingerprint_of(run: Training, device: str = "cpu") -> dict[str, str]:
    """Compute the fingerprint of a run on a device.

    A GPU's blocks equal a CPU's only up to rounding and must not be mixed with them, so their fingerprint has one more
    part.
    """
    digests = fingerprint(run.circuits, run.schedule, run.state_leaves, run.n, run.steps)
    return digests if device == DEFAULT_DEVICE else digests | {"device": digest(device)}


def device_of(prints: Mapping[str, str]) -> str:
    """Return the device that a fingerprint was made for, or raise StoreError if no backend has that name."""
    if "device" not in prints:
        return DEFAULT_DEVICE
    for device in MODULES:
        if prints["device"] == digest(device):
            return device
    raise StoreError(
        "the sketch was computed on a device that this version of circuitsketch does not support; it supports "
        f"{', '.join(MODULES)}"
    )


def describe_circuit(circuit: Circuit) -> list[Any]:
    """Return what a circuit computes, as lists and tuples."""
    nodes = [(gate_identity(node), node.operands, node.params, node.shape, node.label) for node in circuit.nodes]
    return [nodes, circuit.inputs, circuit.outputs]


def same_program(one: Circuit, other: Circuit) -> bool:
    """Return whether two circuits compute the same, node by node: whether their descriptions have one digest."""
    if len(one.nodes) != len(other.nodes) or (one.inputs, one.outputs) != (other.inputs, other.outputs):
        return False
    return all(
        (a.operands, a.shape, a.label) == (b.operands, b.shape, b.label)
        and (a.gate is b.gate or gate_identity(a) == gate_identity(b))
        and a.params.keys() == b.params.keys()
        and all(value is b.params[name] or digest(value) == digest(b.params[name]) for name, value in a.params.items())
        for a, b in zip(one.nodes, other.nodes, strict=True)
    )


def gate_identity(node: Node) -> str | list[str]:
    """Return what identifies a node's gate: its name and, of a user's own gate, its meaning.

    A built-in gate's name cannot be reused. If its rule were digested too, rewriting the rule would invalidate stored
    sketches.
    """
    gate = node.gate
    if is_built_in(gate):
        return gate.name
    return [gate.name, digest_when_traced(gate, len(node.operands), node.params)]


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical bytes."""
    hasher = hashlib.sha256()
    feed(hasher, value)
    return hasher.hexdigest()


def feed(hasher: Any, value: Any) -> None:
    """Hash a value. Every type starts with its own letter and a length, so that no two values have the same bytes.

    Floats are hashed by their bits: -0.0 is not 0.0, and a NaN equals itself.
    """
    if value is None:
        hasher.update(b"N")
    elif isinstance(value, bool | np.bool_):
        hasher.update(b"T" if value else b"F")
    elif isinstance(value, int | np.integer):
        text = str(int(value)).encode()
        hasher.update(b"i%d:" % len(text) + text)
    elif isinstance(value, float | np.floating):
        hasher.update(b"f" + struct.pack("<d", value))
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        hasher.update(b"s%d:" % len(text) + text)
    elif isinstance(value, np.ndarray):
        plain = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        if plain.dtype.kind not in "biufc":
            raise TypeError(f"cannot compute the fingerprint of an array of dtype {value.dtype}")
        label = plain.dtype.str.encode()  # "<f8", "|b1"
        hasher.update(b"a%d:" % len(label) + label)
        feed(hasher, value.shape)
        hasher.update(plain.data)  # without a copy, which may be all data of a run
    elif isinstance(value, list | tuple):
        hasher.update(b"l%d:" % len(value))
        for entry in value:
            feed(hasher, entry)
    elif isinstance(value, Mapping):
        hasher.update(b"m%d:" % len(value))
        for key in sorted(value):
            feed(hasher, key)
            feed(hasher, value[key])
    else:  # never its repr, which may hold an address
        raise TypeError(f"cannot compute the fingerprint of a {type(value).__name__}; add this type to `feed`")
