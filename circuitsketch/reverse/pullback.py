"""The vjp of a training step as a circuit, made by the gates' own rules and compiled as any other.

In: a step's circuit. Out: a circuit that maps the cotangent of the state after the step to that of the state before it,
and yields the derivative with respect to the downweights that the step reads. The derivative is that of the series by
which directions are pushed, since it belongs to the counterfactual and not to the user's own gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from circuitsketch.autodiff import Vjp, pull_back, vjp_of_gate
from circuitsketch.checks.domains import is_kink
from circuitsketch.circuit import Circuit, Node, reached_from
from circuitsketch.frontends.numpy import Builder, Wire, replay
from circuitsketch.gates import DOMAINS
from circuitsketch.gates.arithmetic import multiply, stop_gradient
from circuitsketch.gates.extremum import largest, repeat_per_row, smallest
from circuitsketch.gates.movement import cumsum
from circuitsketch.gates.selection import absolute, greater_equal, maximum, minimum, same, where
from circuitsketch.passes import simplify

CIRCUITS: WeakKeyDictionary[Circuit, dict[Any, Circuit]] = WeakKeyDictionary()


def vjp_of_series(node: Node, ct: Any, result: Wire, *operands: Wire) -> Sequence[Any]:
    """Return the cotangents of a node's operands that belong to its Taylor rule.

    The series passes through `stop_gradient`, and at a kink it is that of the side which the rule chooses there.
    """
    if node.gate is stop_gradient:
        return (ct,)
    if node.gate is maximum or node.gate is minimum:
        x, y = operands
        first = greater_equal(x, y) if node.gate is maximum else greater_equal(y, x)
        return where(first, ct, 0.0), where(first, 0.0, ct)
    if node.gate is largest or node.gate is smallest:
        (x,) = operands
        attains = same(x, repeat_per_row(result, x))
        first = multiply(attains, same(cumsum(attains, axis=x.ndim - 1), 1.0))
        return (where(first, repeat_per_row(ct, x), 0.0),)
    if node.gate is absolute:
        return (where(greater_equal(operands[0], 0.0), ct, -ct),)
    return vjp_of_gate(node, ct, result, *operands)


def vjp_at_edges(node: Node, ct: Any, result: Wire, *operands: Wire) -> Sequence[Any]:
    """Return the cotangents of `vjp_of_series`, with the slope 0 where a gate has none.

    At the edge of its domain, sqrt at 0, an operand that no weight changes has the series 0, and not 0 times infinity.
    """
    if node.gate.domain is None or is_kink(node):
        return vjp_of_series(node, ct, result, *operands)
    slopes = vjp_of_series(node, np.ones(node.shape), result, *operands)
    return [slope if slope is None else ct * where(same(slope - slope, 0.0), slope, 0.0) for slope in slopes]


def pullback_circuit(
    circuit: Circuit, varying: Sequence[int], at_edges: bool = False, of_series: bool = False
) -> Circuit:
    """Return the vjp of a step as a circuit.

    Its inputs are the cotangents of the state's varying leaves, the number of suspects so far, and the inputs of the
    step; its outputs are the cotangents before the step, the number of suspects, and the derivative with respect to the
    downweights of the step's examples. A suspect is an entry of an operand at which a gate may lack a derivative.

    Parameters
    ----------
    circuit : of the step, from state, batch and keeps to the state.
    varying : the positions of the state's leaves that depend on the weights.
    at_edges : whether gates are at the edge of their domains, see `vjp_at_edges`.
    of_series : whether the circuit is for series: then entries outside a domain are suspects as well as those on a
        kink. Values show them by not being finite.
    """
    key = tuple(varying), at_edges, of_series
    pullbacks = CIRCUITS.setdefault(circuit, {})
    if key not in pullbacks:
        vjp = vjp_at_edges if at_edges else vjp_of_series
        pullbacks[key] = simplify(traced_pullback(circuit, varying, vjp, of_series))
    return pullbacks[key]


def traced_pullback(circuit: Circuit, varying: Sequence[int], vjp: Vjp, of_series: bool) -> Circuit:
    """Return the circuit of `pullback_circuit` before it is simplified."""
    build = Builder()
    cotangents = [build.input(circuit.nodes[circuit.outputs[i]].shape) for i in varying]
    suspects = build.input(())
    inputs = [build.input(circuit.nodes[wire].shape, circuit.nodes[wire].label) for wire in circuit.inputs]
    outputs = replay(build, circuit, inputs)
    sources = [*(inputs[i] for i in varying), inputs[-1]]
    count = count_suspects(build, sources, of_series)
    *before, keeps = pull_back([outputs[i] for i in varying], cotangents, sources, vjp)
    results = [*before, suspects + count, -keeps]
    names = [*(f"cotangent.{circuit.input_names[i]}" for i in varying), "suspects", *circuit.input_names]
    return build.finish([*cotangents, suspects, *inputs], results, names)


def count_suspects(build: Builder, sources: Sequence[Wire], of_series: bool) -> Any:
    """Return the number of entries at which gates that depend on the sources by their series may lack a derivative."""
    nodes = tuple(build.nodes)
    varies = reached_from(nodes, [wire.index for wire in sources], through=lambda node: not node.gate.flat)
    count: Any = 0.0
    for node in nodes:
        domain = node.gate.domain
        if domain is None or varies.isdisjoint(node.operands) or not (of_series or is_kink(node)):
            continue
        operands = [Wire(build, i) for i in node.operands]
        if DOMAINS[domain].by_operand:  # of powers, whose condition is none on wires: at least all that it excludes
            outside = ~(operands[0] > 0.0)
        else:
            outside = node.gate.lacks_series(operands, [i in varies for i in node.operands])
        count = count + np.sum(np.where(outside, 1.0, 0.0))
    return count
