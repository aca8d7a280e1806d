"""Circuits as data: graph, text, depth, expansion to scalar gates, and the check that refuses what is broken."""

from __future__ import annotations

import dataclasses
import os
import re

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import many, programs

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import (
    CONSTANT,
    INPUT,
    NOWHERE,
    Circuit,
    Node,
    Place,
    check,
    compute,
    needed_for,
    reached_from,
)
from circuitsketch.circuit import evaluate as evaluate_nodes
from circuitsketch.errors import CircuitError, InputError
from circuitsketch.gates import GATES, Gate
from circuitsketch.tree import flatten

HERE = os.path.basename(__file__)
V = np.array([0.5, -1.0, 2.0])


# The graph.


@many
@given(program=programs())
def test_the_graph_is_acyclic_and_has_an_edge_for_every_operand(program):
    circuit = cs.trace(program, *program.inputs)
    graph = circuit.graph
    assert isinstance(graph, nx.MultiDiGraph) and nx.is_frozen(graph)
    assert nx.is_directed_acyclic_graph(graph)
    assert list(graph.nodes) == list(range(len(circuit.nodes)))
    for wire, node in enumerate(circuit.nodes):
        read = sorted((position, source) for source, _, position in graph.in_edges(wire, keys=True))
        assert [source for _, source in read] == list(node.operands)
        assert graph.nodes[wire]["gate"] == node.gate.name
        assert graph.nodes[wire]["shape"] == node.shape
    assert sum(size for _, size in graph.nodes(data="size")) == circuit.size
    assert [list(users) for users in circuit.users] == [
        sorted(user for _, user in graph.out_edges(wire)) for wire in range(len(circuit.nodes))
    ]


def test_a_square_written_as_a_product_has_two_edges():
    circuit = cs.trace(lambda x: x * x, V)
    assert sorted(circuit.graph.edges(keys=True)) == [(0, 1, 0), (0, 1, 1)]
    assert circuit.graph.nodes[1] == {
        "gate": "multiply",
        "shape": (3,),
        "label": "float",
        "place": circuit.graph.nodes[1]["place"],
        "size": 3,
        "params": {},
    }
    assert circuit.graph.nodes[1]["place"].startswith(HERE)


# Reach, need, longest paths, evaluation: held against networkx's own algorithms and NumPy.


def some_wires(data, circuit):
    return data.draw(st.sets(st.integers(0, len(circuit.nodes) - 1), max_size=3))


@many
@given(program=programs(), data=st.data())
def test_what_wires_reach_is_what_networkx_finds_without_the_gates_that_stop_a_path(program, data):
    circuit = cs.trace(program, *program.inputs)
    wires = some_wires(data, circuit)
    blocked = {circuit.nodes[i].gate for i in some_wires(data, circuit)}
    open_ones = [i for i, node in enumerate(circuit.nodes) if node.gate not in blocked or i in wires]
    graph = circuit.graph.subgraph(open_ones)
    expected = wires.union(*(nx.descendants(graph, i) for i in wires))
    assert circuit.reached_from(wires, through=lambda node: node.gate not in blocked) == expected
    assert circuit.reached_from(wires) == wires.union(*(nx.descendants(circuit.graph, i) for i in wires))
    assert circuit.needed_for(wires) == wires.union(*(nx.ancestors(circuit.graph, i) for i in wires))


def test_reach_looks_at_no_node_from_where_it_stops():
    circuit = cs.trace(lambda x: np.exp(np.exp(np.exp(x))), V)
    assert reached_from(circuit.nodes, [0], stop=3) == {0, 1, 2}
    assert reached_from(circuit.nodes, []) == needed_for(circuit.nodes, []) == set()


@many
@given(program=programs())
def test_the_depth_is_the_longest_weighted_path_that_networkx_finds(program):
    circuit = cs.trace(program, *program.inputs)
    graph = nx.DiGraph((("start", wire, {"weight": int(size > 0)}) for wire, size in circuit.graph.nodes(data="size")))
    for one, other in circuit.graph.edges():
        graph.add_edge(one, other, weight=int(circuit.graph.nodes[other]["size"] > 0))
    needed = {"start"} | set(circuit.outputs).union(*(nx.ancestors(circuit.graph, i) for i in circuit.outputs))
    assert circuit.depth == nx.dag_longest_path_length(graph.subgraph(needed))


def test_an_evaluation_takes_what_is_given_and_computes_only_the_wires_asked_for():
    circuit = cs.trace(lambda x: (np.exp(x) + 1.0, np.sin(x)), V)
    gates = [node.gate.name for node in circuit.nodes]
    exp, total, sin = gates.index("exp"), gates.index("add"), gates.index("sin")
    seen = []
    wires = sorted(circuit.needed_for([total]))
    values = evaluate_nodes(circuit.nodes, {0: V, exp: 10 * V}, compute, wires, lambda *args: seen.append(args))
    np.testing.assert_array_equal(values[total], 10 * V + 1.0)
    assert sin not in values and [wire for wire, _, _ in seen] == wires
    assert all(node is circuit.nodes[wire] and value is values[wire] for wire, node, value in seen)


# Size and depth.


def test_the_size_of_a_small_network_is_that_counted_by_hand():
    def loss(w, b, x):
        return np.sum(np.tanh(x @ w + b) ** 2)

    # 4 x 5 dot products of length 3 (3 products, 2 sums); 20 sums, tanh, squares; 19 sums.
    circuit = cs.trace(loss, np.ones((3, 5)), np.ones(5), np.ones((4, 3)))
    assert circuit.size == 20 * 5 + 20 + 20 + 20 + 19
    assert circuit.depth == 5
    assert repr(circuit) == f"<Circuit of {len(circuit.nodes)} nodes, size 179, depth 5>"


def test_moves_choices_and_counts_do_not_count_as_arithmetic():
    def function(x, i):
        y = np.maximum(x[::-1], x).reshape(3, 1).T
        return (
            np.where(y > 0, y, np.abs(np.pad(x, 1)[1:-1])),
            np.take(x, 2 * i + 1),
            (x > 0).sum(),
            (x > 0) & (x < 1),
        )

    circuit = cs.trace(function, V, np.array([0]))
    assert (circuit.size, circuit.depth) == (0, 0)


def test_the_depth_is_the_longest_chain_of_arithmetic():
    assert cs.trace(lambda x: np.exp(np.exp(x)) + np.exp(x), V).depth == 3
    assert cs.trace(lambda x: (x, np.ones(2)), V).depth == 0
    # What no output reads has no depth.
    assert cs.trace(lambda x: [np.exp(np.exp(x)), x + 1][1:], V).depth == 1
    chain = cs.trace(lambda x: sum([x] * 10), V)
    assert chain.depth == 10


# The text.


@many
@given(program=programs())
def test_the_text_has_a_line_a_node_and_names_each_wire_once(program):
    circuit = cs.trace(program, *program.inputs)
    header, *lines, last = str(circuit).split("\n")
    assert header == f"circuit: {len(circuit.nodes)} nodes, size {circuit.size:,}, depth {circuit.depth}"
    names = [line.strip().split(":")[0] for line in lines]
    assert len(lines) == len(circuit.nodes) == len(set(names))
    for line, node in zip(lines, circuit.nodes, strict=True):
        _, shape, gate = re.fullmatch(r"  ([a-z]+):\w+(\[[\d,]*\]) = (\w+).*", line).groups()
        assert shape == f"[{','.join(map(str, node.shape))}]" and gate == node.gate.name
        if not node.is_source:
            assert re.search(r" # \S+\.py:\d+$", line)
    assert last == "  return " + " ".join(names[i] for i in circuit.outputs)


def test_the_text_of_a_circuit_reads_like_its_program():
    def loss(params, i):
        return np.take(params["w"], i, axis=0) * 2.5 > 0

    line = loss.__code__.co_firstlineno + 1
    assert str(cs.trace(loss, {"w": np.ones((4, 2))}, np.array([1, 1, 0]))) == "\n".join(
        [
            "circuit: 12 nodes, size 6, depth 1",
            "  a:f64[4,2] = input args.0.w",
            "  b:i64[3] = input args.1",
            "  c:i64[] = constant 4",
            f"  d:i64[3] = broadcast[shape=(3)] c            # {HERE}:{line}",
            f"  e:i64[3] = in_bounds[axis=0 what=index] b d  # {HERE}:{line}",
            f"  f:f64[3,2] = take[axis=0] a e                # {HERE}:{line}",
            "  g:f64[] = constant 2.5",
            f"  h:f64[3,2] = broadcast[shape=(3,2)] g        # {HERE}:{line}",
            f"  i:f64[3,2] = multiply f h                    # {HERE}:{line}",
            "  j:i64[] = constant 0",
            f"  k:i64[3,2] = broadcast[shape=(3,2)] j        # {HERE}:{line}",
            f"  l:bool[3,2] = greater i k                    # {HERE}:{line}",
            "  return l",
        ]
    )


def test_a_place_is_written_by_the_name_of_its_file():
    assert str(Place(os.path.join("some", "where", "model.py"), 12)) == "model.py:12"
    assert str(NOWHERE) == "?:0"


# The expansion to scalar gates.


@many
@given(program=programs())
def test_the_scalar_circuit_computes_the_same_and_has_as_many_gates_as_the_size_says(program):
    circuit = cs.trace(program, *program.inputs)
    scalar = check(circuit.expand(*program.indices))
    assert all(node.shape == () for node in scalar.nodes)
    sizes = [scalar.size_of(wire) for wire in range(len(scalar.nodes))]
    assert set(sizes) <= {0, 1}
    assert sum(sizes) == scalar.size == circuit.size
    flat = [float(x) for i in program.floats for x in program.inputs[i].ravel()]
    theirs = np.concatenate([np.ravel(output) for output in program(*program.inputs)])
    # Sums run in another order than NumPy's: some units in the last place of the largest number of a program.
    np.testing.assert_allclose(evaluate(scalar, flat), theirs, rtol=1e-13, atol=1e-13)


def test_expanding_needs_the_integers_that_the_circuit_gathers_by():
    circuit = cs.trace(lambda i, x, j: np.take(x, i) + np.take(x, j + i), np.array([1]), V, np.array([0]))
    scalar = check(circuit.expand([1], [1]))
    assert len(scalar.inputs) == 3 and scalar.size == 1
    assert evaluate(scalar, V) == [V[1] + V[2]]
    with pytest.raises(InputError, match=r"has 2 integer inputs, but expand got 1 values; .*expand\(\*values"):
        circuit.expand([1])
    with pytest.raises(InputError, match="has 2 integer inputs, but expand got 3 values"):
        circuit.expand([1], [1], [1])


def test_empty_arrays_and_plain_outputs_expand_too():
    circuit = cs.trace(lambda x: (np.sum(x[:0]), x[:, :0].sum(axis=1), 3.0, x[:0] @ np.ones((3, 2))), np.ones((2, 3)))
    assert evaluate(circuit.expand(), np.ones(6)) == [0.0, 0.0, 0.0, 3.0]


# The check.

LEGAL = cs.trace(lambda x, i: np.exp(np.take(x, i)) @ np.ones((2, 1)), V, np.array([0, 1]))


def with_node(wire, **changes):
    """The legal circuit with one node changed."""
    nodes = list(LEGAL.nodes)
    nodes[wire] = dataclasses.replace(nodes[wire], **changes)
    return dataclasses.replace(LEGAL, nodes=tuple(nodes))


def wire_of(name):
    return next(wire for wire, node in enumerate(LEGAL.nodes) if node.gate.name == name)


def a_stranger():
    known = {f.name: getattr(GATES["exp"], f.name) for f in dataclasses.fields(Gate)}
    return Gate(**known)


BROKEN = [
    (lambda: with_node(wire_of("exp"), gate=a_stranger()), "a gate that is not registered"),
    (lambda: with_node(wire_of("exp"), operands=(wire_of("exp"),)), "an operand must come before its user"),
    (lambda: with_node(wire_of("exp"), operands=(-1,)), "an operand must come before its user"),
    (lambda: with_node(wire_of("exp"), operands=(2, 2)), "has 2 operands, but the gate takes 1"),
    (lambda: with_node(wire_of("take"), params={}), r"has parameters \[\], but the gate takes \['axis'\]"),
    (lambda: with_node(wire_of("take"), params={"axis": 1}), "no axis 1"),
    (lambda: with_node(wire_of("take"), operands=(0, 0)), "indices of label float, not int"),
    (lambda: with_node(wire_of("exp"), shape=(3,)), r"has shape \(3,\), but the gate's rule gives \(2,\)"),
    (lambda: with_node(wire_of("einsum"), params={"spec": "kk,kj->j"}), "repeats an index in 'kk'"),
    (lambda: with_node(wire_of("einsum"), params={"spec": "a,kj->j"}), "index a appears only once"),
    (lambda: with_node(wire_of("einsum"), params={"spec": "nonsense"}), "node .*einsum"),
    (
        lambda: with_node(wire_of("constant"), params={"value": np.ones(4)}),
        r"has shape \(\), but its array has shape \(4,\)",
    ),
    (lambda: with_node(0, shape=(4,)), r"has shape \(4,\), but its parameter says \(3,\)"),
    (lambda: dataclasses.replace(LEGAL, inputs=(0,)), r"the input nodes are \(0, 1\), but the circuit lists \(0,\)"),
    (lambda: dataclasses.replace(LEGAL, inputs=(0, 1, 1)), "input nodes are"),
    (lambda: dataclasses.replace(LEGAL, outputs=(99,)), "are not all nodes"),
]


@pytest.mark.parametrize("row", range(len(BROKEN)))
def test_the_check_refuses_a_broken_circuit_and_says_where(row):
    broken, message = BROKEN[row]
    with pytest.raises(CircuitError, match=message):
        check(broken())


def test_the_check_returns_a_legal_circuit():
    assert check(LEGAL) is LEGAL
    assert check(Circuit((), (), ())).size == 0
    source = Circuit((Node(INPUT, (), {"shape": ()}, ()), Node(CONSTANT, (), {"value": np.ones(())}, ())), (0,), (1, 0))
    assert flatten(evaluate(check(source), [2.0]))[0] == [1.0, 2.0]
