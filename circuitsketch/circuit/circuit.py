"""Circuits: programs as data, DAGs of array gates that are also networkx graphs.

In: nodes in topological order. Out: a frozen record that can be printed, measured, checked, drawn and expanded to
scalar gates. A node stands for many scalar gates of one kind; its wire is the array that it computes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from circuitsketch.errors import BoundsError
from circuitsketch.gates import GATES, Gate, Shape, cells
from circuitsketch.gates.gate import register

if TYPE_CHECKING:
    import networkx as nx

Label = Literal["float", "int", "bool"]


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the user's program, and the composite function of this package that it calls there, if any."""

    file: str
    line: int
    through: str = ""

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


NOWHERE = Place("?", 0)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An application of a gate: its operand wires, parameters, and the line of the user's program."""

    gate: Gate
    operands: tuple[int, ...]
    params: Mapping[str, Any]
    shape: Shape
    label: Label = "float"
    place: Place = NOWHERE

    @property
    def is_source(self) -> bool:
        """Whether the node is an input or a constant."""
        return self.gate.kind == "source"


def source(name: str) -> Gate:
    """Register a gate of nodes without operands."""
    return register(
        Gate(
            name=name,
            kind="source",
            arity=0,
            shape=lambda **params: params["shape"],
            value=lambda **params: params["value"],
            vjp=lambda ct, out: (),
            size=lambda out, **params: 0,
        )
    )


INPUT = source("input")
CONSTANT = source("constant")


@dataclass(frozen=True, eq=False)
class Circuit:
    """A DAG of array gates.

    Attributes
    ----------
    nodes : tuple of Node
        In topological order; node i's wire is i.
    inputs : tuple of int
        The input wires, in the order of the leaves of the traced function's arguments.
    outputs : tuple of int
        The output wires, in the order of the leaves of its result.
    input_names : tuple of str
        A path for each input leaf, such as `params.w1`.
    in_tree : Tree
        The structure of the arguments (see `circuitsketch.tree`).
    out_tree : Tree
        The structure of the result.
    output_names : tuple of str
        A path for each output leaf, such as `out.loss`.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: tuple[str, ...] = ()
    in_tree: Any = None
    out_tree: Any = None
    output_names: tuple[str, ...] = field(default=())

    @cached_property
    def graph(self) -> nx.MultiDiGraph:
        """The circuit as a frozen networkx graph.

        It has one node per wire (attributes gate, shape, label, place, size, params) and one edge per operand, keyed by
        its position, since `x * x` has two.
        """
        import networkx as nx  # a slow import, and needed only here

        graph = nx.MultiDiGraph()
        for wire, node in enumerate(self.nodes):
            graph.add_node(
                wire,
                gate=node.gate.name,
                shape=node.shape,
                label=node.label,
                place=str(node.place),
                size=self.size_of(wire),
                params=dict(node.params),
            )
            for position, operand in enumerate(node.operands):
                graph.add_edge(operand, wire, key=position)
        return nx.freeze(graph)

    def size_of(self, wire: int) -> int:
        """Return the number of scalar arithmetic gates in one node; operations on integers and booleans count 0."""
        node = self.nodes[wire]
        if node.label != "float":
            return 0
        return node.gate.size(node.shape, *(self.nodes[i].shape for i in node.operands), **node.params)

    @cached_property
    def size(self) -> int:
        """size(A): the exact number of scalar gates.

        Every `+ - * /` and analytic unary gate on a traced scalar counts 1; inputs, constants, copies, gathers and
        selections count 0.
        """
        return sum(self.size_of(wire) for wire in range(len(self.nodes)))

    @cached_property
    def depth(self) -> int:
        """The length of the longest chain of arithmetic array gates to an output (a sum or contraction counts 1)."""
        depth = [0] * len(self.nodes)
        for wire, node in enumerate(self.nodes):
            below = max((depth[i] for i in node.operands), default=0)
            depth[wire] = below + (1 if self.size_of(wire) else 0)
        return max((depth[i] for i in self.outputs), default=0)

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """For every wire, the nodes that read it, once per operand position."""
        users: list[list[int]] = [[] for _ in self.nodes]
        for wire, node in enumerate(self.nodes):
            for operand in node.operands:
                users[operand].append(wire)
        return tuple(tuple(readers) for readers in users)

    def expand(self, *indices: Any) -> Circuit:
        """Return the same program in scalar gates (see `circuitsketch.circuit.expansion`); for small circuits."""
        from circuitsketch.circuit.expansion import expand

        return expand(self, *indices)

    def __str__(self) -> str:
        from circuitsketch.circuit.text import text

        return text(self)

    def _repr_html_(self) -> str:
        from circuitsketch.circuit.text import html

        return html(self)

    def __repr__(self) -> str:
        return f"<Circuit of {len(self.nodes)} nodes, size {self.size:,}, depth {self.depth}>"


def value_of(node: Node) -> np.ndarray:
    """Return the array of a constant node."""
    return node.params["value"]


def compute(node: Node, *operands: Any) -> np.ndarray:
    """Compute the value of a node; a BoundsError for an index names the user's line."""
    try:
        return np.asarray(node.gate.value(*operands, **node.params))
    except BoundsError as error:
        raise error.at(node.place) from None


__all__ = ["CONSTANT", "GATES", "INPUT", "NOWHERE", "Circuit", "Label", "Node", "Place", "cells", "compute", "value_of"]
