"""Circuits: programs as data, with their text, legality check, and expansion to scalar gates."""

from circuitsketch.circuit.check import check
from circuitsketch.circuit.circuit import (
    CONSTANT,
    INPUT,
    NOWHERE,
    Circuit,
    Label,
    Node,
    Place,
    compute,
    value_of,
)
from circuitsketch.circuit.expansion import expand

__all__ = [
    "CONSTANT",
    "INPUT",
    "NOWHERE",
    "Circuit",
    "Label",
    "Node",
    "Place",
    "check",
    "compute",
    "expand",
    "value_of",
]
