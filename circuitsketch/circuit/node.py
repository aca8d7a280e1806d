"""Nodes of a circuit: gates applied to wires, and the two kinds of sources, inputs and constants.

A node stands for scalar gates of one kind; its wire is the array of their results.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from circuitsketch.errors import BoundsError, InputError
from circuitsketch.gates import Gate, Shape
from circuitsketch.gates.digest import digest_gate, digest_when_traced
from circuitsketch.gates.gate import is_built_in, register

Label = Literal["float", "int", "bool"]


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the user's program and, if that function adds several gates, the function of the package it calls."""

    file: str
    line: int
    through: str = ""

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


NOWHERE = Place("?", 0)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A gate applied to wires, with its parameters and the line of the user's program."""

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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the node; of a user's gate with the digest of its rules, which are not pickled."""
        fields = (self.gate, self.operands, dict(self.params), self.shape, self.label, self.place)
        if is_built_in(self.gate):
            return Node, fields
        return restore_node, (digest_when_traced(self.gate, len(self.operands), self.params), *fields)


def restore_node(digest: str, gate: Gate, operands: tuple[int, ...], params: Mapping[str, Any], *rest: Any) -> Node:
    """Return the node of a user's gate.

    Raises
    ------
    InputError
        If the rules that the gate has in this process are not those of the pickled circuit.
    """
    if digest_gate(gate, len(operands), params) != digest:
        raise InputError(
            f"gate {gate.name!r} of module {gate.module!r} has other rules here than in the process that traced the "
            "circuit; use the same version of its module everywhere, with rules that read no changing variable"
        )
    return Node(gate, operands, params, *rest)


def register_source(name: str) -> Gate:
    """Register the gate of a source node."""
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


INPUT = register_source("input")
CONSTANT = register_source("constant")


def value_of(node: Node) -> np.ndarray:
    """Return the array of a constant node."""
    return node.params["value"]


def compute(node: Node, *operands: Any) -> np.ndarray:
    """Return the value of a node; a BoundsError names the user's line."""
    try:
        return np.asarray(node.gate.value(*operands, **node.params))
    except BoundsError as error:
        raise error.at(node.place) from None
