"""A node of a circuit: a gate applied to wires, and the two kinds of nodes that no gate computes.

A node is a bundle of scalar gates of one kind; its wire is the array that it yields.
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
    """A line of the user's program, and the function of this package that it calls there, where that has parts."""

    file: str
    line: int
    through: str = ""

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


NOWHERE = Place("?", 0)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One gate applied: which, to what wires, with what parameters, and where the user asked for it."""

    gate: Gate
    operands: tuple[int, ...]
    params: Mapping[str, Any]
    shape: Shape
    label: Label = "float"
    place: Place = NOWHERE

    @property
    def is_source(self) -> bool:
        """An input or a constant."""
        return self.gate.kind == "source"


def source(name: str) -> Gate:
    """A node that no gate computes."""
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


def value_of(node: Node) -> np.ndarray:
    """The array that a constant node holds."""
    return node.params["value"]


def compute(node: Node, *operands: Any) -> np.ndarray:
    """The value of a gate's node; an index that leaves its axis is refused in the name of the user's line."""
    try:
        return np.asarray(node.gate.value(*operands, **node.params))
    except BoundsError as error:
        raise error.at(node.place) from None
