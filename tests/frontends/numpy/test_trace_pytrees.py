"""Tracing: pytrees come back as they were, and plain data become constants of the circuit."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from agreement import ROWS, V, W, X, agrees

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.errors import InputError
from circuitsketch.tree import tree_map

# Pytrees.


@dataclasses.dataclass(frozen=True)
class Layer:
    weights: Any
    bias: Any


class Pair(NamedTuple):
    first: Any
    second: Any


def test_pytrees_come_in_and_go_out_as_they_were():
    layer = Layer(W, W[0])
    agrees(lambda p, x: {"y": x @ p.weights + p.bias, "p": Layer(p.weights * 2, p.bias)}, layer, X)
    agrees(lambda p: Pair(p.second, [p.first, (p.second, None)]), Pair(X, V))
    agrees(lambda p: {"b": p["a"], "a": p["b"]}, {"a": X, "b": V})
    agrees(lambda p: [], X)
    agrees(lambda p: (), X)
    agrees(lambda x: (x, 1.0, np.ones(2), 3, True), X)
    agrees(lambda: np.ones(3))


def test_the_leaves_of_a_circuit_have_the_names_of_their_paths():
    circuit = cs.trace(lambda p, x: {"y": x @ p.weights, "z": (x, x)}, Layer(W, W[0]), X)
    assert circuit.input_names == ("args.0.weights", "args.0.bias", "args.1")
    assert circuit.output_names == ("out.y", "out.z.0", "out.z.1")


def test_pytrees_of_one_structure_are_transformed_leaf_by_leaf():
    added = tree_map(lambda x, y: x + y, {"a": 1, "b": (2, [3])}, {"b": (20, [30]), "a": 10})
    assert added == {"a": 11, "b": (22, [33])}
    assert tree_map(abs, OrderedDict(a=-1)) == {"a": 1}
    with pytest.raises(InputError, match=r"b is a tuple of \[0\] in one and a list of \[0\] in the other"):
        tree_map(lambda x, y: x, {"b": (1,)}, {"b": [1]})
    with pytest.raises(InputError, match="a is a leaf in only one"):
        tree_map(lambda x, y: x, {"a": 1}, {"a": {"c": 1}})


def test_the_example_values_do_not_count_but_their_shapes_and_dtypes_do():
    first, second = (cs.trace(lambda x, i: np.take(x, i), x, i) for x, i in [(X, ROWS), (0 * X, 0 * ROWS)])
    assert str(first) == str(second)
    single = cs.trace(lambda x: x * np.float32(0.1), np.float32(2.0))
    # float32 data become float64 as they are, not as they were written.
    assert evaluate(single, [1.0]) == [float(np.float32(0.1))]


def test_equal_data_is_one_constant_whether_small_or_large():
    def program(x):
        return x * np.ones(5000) + np.ones(5000) * x + x * np.full(5000, 2.0)

    constants = [node for node in cs.trace(program, np.ones(5000)).nodes if node.gate.name == "constant"]
    assert len(constants) == 2
    # True, 1 and 1.0 are equal, but whole numbers are not real ones.
    mixed = cs.trace(lambda x: (x + 1.0, np.where(x > 0, 1, 2), np.where(x > 0, True, False)), X)
    assert {node.label for node in mixed.nodes if node.gate.name == "constant"} == {"float", "int", "bool"}


def test_data_changed_after_it_was_read_leaves_the_circuit_as_it_was():
    data = np.ones(3)

    def program(x):
        y = x * data
        data[:] = 7.0
        return y

    assert evaluate(cs.trace(program, V), [V])[0].tolist() == V.tolist()


def test_a_copied_wire_is_the_wire():
    agrees(lambda p: copy.deepcopy(p)["a"] + copy.copy(p["a"]), {"a": X})
