"""The table of gates: every primitive of a circuit, by family."""

from circuitsketch.gates import (
    arithmetic,
    contraction,
    exponential,
    extremum,
    gamma,
    inverse,
    movement,
    powers,
    selection,
)
from circuitsketch.gates.domains import DOMAINS
from circuitsketch.gates.gate import GATES, Gate, Shape, cells

__all__ = [
    "DOMAINS",
    "GATES",
    "Gate",
    "Shape",
    "arithmetic",
    "cells",
    "contraction",
    "exponential",
    "extremum",
    "gamma",
    "inverse",
    "movement",
    "powers",
    "selection",
]
