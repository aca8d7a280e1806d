"""Count the useful multiply-adds of a training run, from its circuits and not from any kernel.

In: a run and a mode. Out: useful real multiply-adds per direction. With coefficients 1..s (complex, with a real primal
that all directions share) the count is

    product of two series    4s + 2s(s-1)           2s real-by-complex products, s(s-1)/2 complex: 24 at s = 3
    number times series      2s
    square                   2s + 4 floor(s^2/4)    mirrored products once
    quotient                 4s + 2s(s-1)           v w = u solved for v; by a number, 2s
    any other function       2s + 2s(s-1)           one Cauchy product without the primal of u
    sum, copy, selection     0                      additions are part of multiply-adds

For real directions: 2s + s(s-1)/2, s, s + floor(s^2/4), as the product, s + s(s-1)/2. Functions whose rule has several
products (gelu: four) count as one, and what is computed once for all directions counts zero, so the count and any share
of the peak computed from it are lower bounds.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from circuitsketch.circuit import Circuit
from circuitsketch.gates import cells
from circuitsketch.gates.contraction import index_sizes
from circuitsketch.lower.instructions import Mode
from circuitsketch.training.training import Training

LINEAR = {"add", "subtract", "negate", "copy", "stop_gradient", "where", "maximum", "minimum", "relu", "abs"}


def series_product(mode: Mode) -> int:
    """Count the multiply-adds in the product of two series."""
    return 2 * number_product(mode) + mixed_products(mode)


def number_product(mode: Mode) -> int:
    """Count the multiply-adds in a real number times a series."""
    return mode.order * (2 if mode.complex else 1)


def mixed_products(mode: Mode) -> int:
    """Count the multiply-adds in the products of coefficients j and k - j, both at least 1."""
    pairs = mode.order * (mode.order - 1) // 2
    return pairs * (4 if mode.complex else 1)


def element_cost(name: str, varies: list[bool], mode: Mode) -> int:
    """Count the multiply-adds per element of an elementwise gate whose operands have series where `varies`."""
    if name in LINEAR:
        return 0
    if name == "multiply":
        return series_product(mode) if all(varies) else number_product(mode)
    if name == "divide":
        return series_product(mode) if varies[1] else number_product(mode)
    if name == "square":
        return number_product(mode) + mode.order**2 // 4 * (4 if mode.complex else 1)
    return number_product(mode) + mixed_products(mode)


def step_cost(circuit: Circuit, varying: Set[int], mode: Mode) -> int:
    """Count the multiply-adds per direction in a circuit whose inputs at the positions `varying` have series."""
    reached = {circuit.inputs[i] for i in varying}
    total = 0
    for wire, node in enumerate(circuit.nodes):
        varies = [i in reached for i in node.operands]
        if not any(varies) or node.gate.flat:
            continue
        reached.add(wire)
        if node.gate.kind == "contraction":
            shapes = [circuit.nodes[i].shape for i in node.operands]
            products = cells(tuple(index_sizes(node.params["spec"], *shapes).values()))
            total += products * (series_product(mode) if all(varies) else number_product(mode))
        elif node.gate.kind == "elementwise":
            total += cells(node.shape) * element_cost(node.gate.name, varies, mode)
    return total


def run_cost(run: Training, mode: Mode) -> int:
    """Count the multiply-adds per direction in a run."""
    counts = np.bincount(run.schedule.program, minlength=len(run.circuits))
    state = set(run.varying())
    return sum(
        int(count) * step_cost(circuit, state | {len(circuit.inputs) - 1}, mode)
        for count, circuit in zip(counts, run.circuits, strict=True)
    )


__all__ = ["run_cost", "step_cost"]
