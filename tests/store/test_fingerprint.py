"""Fingerprints of runs: the same wherever the same run is made, another as soon as it would train otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.errors import StoreError
from circuitsketch.store.fingerprint import device_of, digest, fingerprint, fingerprint_of

SOURCE = """
def step(state, batch, keep):
    x, label = batch
    score = np.take(state["params"], label, axis=0) * x
    slope = (keep[:, None] * np.tanh(score)).sum(axis=0, keepdims=True)
    return {"params": state["params"] - RATE * np.broadcast_to(slope, state["params"].shape)}
"""


def run_of(
    rate: float = 0.1,
    power: float = 1.0,
    label: int = 1,
    first: float = 0.0,
    ids: tuple[int, int] = (0, 1),
    steps: int = 3,
    n: int = 3,
    source: str = SOURCE,
) -> cs.Training:
    """A run with something of everything: numbers in circuits, float data, index data, ids, a first state."""
    names = {"np": np, "RATE": rate}
    exec(compile(source, "step.py", "exec"), names)
    batches = [(np.array([[1.0, 2.0 + t], [3.0, power]]), np.array([0, label])) for t in range(steps)]
    state = {"params": np.array([[first, 1.0], [2.0, 3.0]])}
    return cs.Training(names["step"], state, batches, [list(ids)] * steps, n=n)


def print_of(run: cs.Training) -> dict[str, str]:
    return fingerprint(run.circuits, run.schedule, run.state_leaves, run.n, run.steps)


CHANGES = [
    ({"rate": np.nextafter(0.1, 1)}, "circuits"),
    ({"source": SOURCE.replace("np.tanh", "np.sin")}, "circuits"),
    ({"source": SOURCE.replace("axis=0, keepdims", "axis=1, keepdims")}, "circuits"),
    ({"power": np.nextafter(1.0, 2)}, "data"),
    ({"label": 0}, "data"),
    ({"ids": (1, 0)}, "data"),
    ({"steps": 4}, "data"),
    ({"n": 4}, "data"),
    ({"first": -0.0}, "state"),
]


@pytest.mark.parametrize(("change", "part"), CHANGES)
def test_a_change_shows_in_the_part_that_it_belongs_to(change, part):
    one, two = print_of(run_of()), print_of(run_of(**change))
    assert [name for name in one if one[name] != two[name]] == [part]


def test_moving_and_renaming_source_lines_changes_nothing():
    moved = "\n\n# a comment\n\n" + SOURCE.replace("score", "points")
    assert print_of(run_of(source=moved)) == print_of(run_of())


def test_another_process_and_hash_seed_give_the_same_fingerprint():
    found = set()
    for seed in ("1", "2"):
        found.add(
            subprocess.run(
                [sys.executable, __file__],
                env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout
        )
    assert found == {spelled()}


def spelled() -> str:
    """The fingerprints of two runs, one of them with many gates and shapes."""
    from circuitsketch.zoo import microgpt

    names = microgpt.training(["emma", "olivia", "ava"], seed=3)
    return f"{print_of(run_of())} {print_of(names)}\n"


def test_a_gates_parameters_count():
    circuit = cs.trace(lambda x: x.sum(axis=0), np.ones((2, 2)))
    wire = next(i for i, node in enumerate(circuit.nodes) if "axes" in node.params)
    node = circuit.nodes[wire]
    changed = replace(node, params={**node.params, "axes": (1,)})
    other = replace(circuit, nodes=(*circuit.nodes[:wire], changed, *circuit.nodes[wire + 1 :]))
    schedule = run_of().schedule
    one, two = (fingerprint([c], schedule, [], 3, 3)["circuits"] for c in (circuit, other))
    assert one != two


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


def canonical(value: object) -> object:
    """Equal if and only if values are of equal kinds and bits."""
    if isinstance(value, dict):
        return ("dict", sorted((key, canonical(below)) for key, below in value.items()))
    if isinstance(value, list):
        return ("list", [canonical(below) for below in value])
    return (type(value).__name__, np.float64(value).tobytes() if isinstance(value, float) else value)


@settings(max_examples=200)
@given(plain, plain)
def test_different_values_have_different_digests(one, two):
    assert (digest(one) == digest(two)) == (repr(canonical(one)) == repr(canonical(two)))
    assert digest([one, two]) != digest([[one, two]])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["ab"], ["a", "b"]),
        ([1, 23], [12, 3]),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2), np.zeros(4, np.float32)),
        (np.zeros(1, np.int64), np.zeros(1)),
        (np.array(1.0), 1.0),
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ({"a": [1], "b": []}, {"a": [], "b": [1]}),
        ([np.ones(1), np.ones(2)], [np.ones(2), np.ones(1)]),
    ],
)
def test_neighbouring_values_have_different_digests(one, two):
    assert digest(one) != digest(two)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_fingerprint_tells_its_device(device):
    prints = fingerprint_of(run_of(), device)
    assert device_of(prints) == device
    assert ("device" in prints) == (device != "cpu")  # sketches of the CPU were stored before there was another
    with pytest.raises(StoreError, match="does not support; it supports cpu, cuda"):
        device_of(prints | {"device": digest("abacus")})


def test_the_same_numbers_in_another_layout_have_the_same_digest():
    array = np.arange(6.0).reshape(2, 3)
    for same in (
        np.asfortranarray(array),
        array.astype(">f8"),
        np.stack([array, array])[0],
        array[::-1][::-1],
    ):
        assert digest(same) == digest(array)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest((1, np.int32(2))) == digest([1, 2])


def test_values_without_canonical_bytes_are_refused():
    for strange in (object(), {1, 2}, np.array(["a"], dtype=object), lambda: 0):
        with pytest.raises(TypeError, match="cannot compute the fingerprint"):
            digest(strange)


if __name__ == "__main__":
    sys.stdout.write(spelled())
