"""Nodes of a circuit: gates applied to wires, and the two kinds of sources, inputs and constants.

A node stands for scalar gates of one kind; its wire is the array of their results.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from circuitsketch.errors import BoundsError
from circuitsketch.gates import Gate, Shape
from circuitsketch.gates.gate import register

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
