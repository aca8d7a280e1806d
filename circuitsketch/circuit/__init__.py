"""Circuits: the program as data and as a graph, its listing, invariants, and expansion to scalar gates."""

from circuitsketch.circuit.check import check
from circuitsketch.circuit.circuit import Circuit
from circuitsketch.circuit.graph import evaluate, needed_for, reached_from
from circuitsketch.circuit.node import CONSTANT, INPUT, NOWHERE, Label, Node, Place, compute, value_of

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
    "evaluate",
    "needed_for",
    "reached_from",
    "value_of",
]
