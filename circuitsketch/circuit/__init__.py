"""Circuits: the program as data, its text, its legality check, and its expansion to scalar gates."""

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
