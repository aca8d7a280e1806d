"""Import a function of JAX as a function of wires, for measurements and for losses under `cs.grad`.

In: a function written in JAX. Out: one that takes wires in the place of arrays. It is traced by JAX when it is called;
arguments without wires stay what they are, so that they may be text, or decide what the function does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from circuitsketch.arguments import call
from circuitsketch.circuit import Circuit, compute, evaluate
from circuitsketch.errors import InputError
from circuitsketch.frontends.imported import flatten_pytree
from circuitsketch.frontends.jax.state import explain_refusal, is_array, narrowed, spec_of
from circuitsketch.frontends.jax.tracing import trace_with_jax
from circuitsketch.frontends.jax.values import plain
from circuitsketch.frontends.jax.walk import Program, WireWalk
from circuitsketch.frontends.numpy import Wire, trace
from circuitsketch.frontends.remembered import trace_or_remember


def import_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of wires; of plain arrays alone, it computes in double precision, too."""

    @functools.wraps(function)
    def imported(*args: Any, **options: Any) -> Any:
        leaves, structure = flatten_pytree(jax.tree_util.tree_flatten, (args, options), "an argument")
        for leaf in leaves:
            if is_array(leaf) and (problem := explain_refusal(leaf)) is not None:
                raise InputError(f"an argument {problem}")
        leaves = list(map(narrowed, leaves))
        if any(isinstance(leaf, Wire) for leaf in leaves):
            return apply_to_wires(function, structure, leaves)
        floats = [i for i, leaf in enumerate(leaves) if is_array(leaf) and np.asarray(leaf).dtype.kind in "fV"]
        arrays = [np.asarray(leaves[i], np.float64) for i in floats]

        def trace_floats() -> tuple[Circuit, Any]:
            trees: list[Any] = []

            def on_wires(*wires: Wire) -> list[Any]:
                replaced = [*leaves]
                for i, wire in zip(floats, wires, strict=True):
                    replaced[i] = wire
                result = apply_to_wires(function, structure, replaced)
                outputs, tree = jax.tree_util.tree_flatten(result)
                trees[:] = [tree]
                return outputs

            return trace(on_wires, *arrays), trees[0]

        circuit, tree = trace_or_remember(imported, structure, leaves, floats, trace_floats)
        with np.errstate(all="ignore"):
            values = evaluate(circuit.nodes, dict(zip(circuit.inputs, arrays, strict=True)), compute)
        return jax.tree_util.tree_unflatten(tree, [values[i] for i in circuit.outputs])

    return imported


def apply_to_wires(function: Callable[..., Any], structure: Any, leaves: list[Any]) -> Any:
    """Return the result of a function whose arguments, flattened, contain wires."""
    traced = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Wire)]

    def of_wires(*values: Any) -> Any:
        replaced = [*leaves]
        for i, value in zip(traced, values, strict=True):
            replaced[i] = value
        args, options = jax.tree_util.tree_unflatten(structure, replaced)
        return call(function, "the function", *args, **options)

    wires = [leaves[i] for i in traced]
    closed, result = trace_with_jax(of_wires, *map(spec_of, wires))
    walk = WireWalk(Program(), (), ())
    outputs = walk.run(closed.jaxpr, closed.consts, wires, [True] * len(closed.jaxpr.outvars))
    tree = jax.tree_util.tree_structure(result)
    return jax.tree_util.tree_unflatten(tree, [x if isinstance(x, Wire) else plain(x) for x in outputs])
