"""Import a function of PyTorch as a function of wires, for measurements and for losses under `cs.grad`.

In: a function written in PyTorch. Out: one that takes wires in the place of tensors. It is captured when it is called;
arguments without wires stay what they are, so that they may be text, or decide what the function does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from circuitsketch.arguments import call, quoted
from circuitsketch.circuit import Circuit, compute, evaluate
from circuitsketch.errors import InputError, TraceError
from circuitsketch.frontends.imported import flatten_pytree
from circuitsketch.frontends.numpy import Wire, trace
from circuitsketch.frontends.remembered import trace_or_remember
from circuitsketch.frontends.torch.capture import capture
from circuitsketch.frontends.torch.program import Program, plain
from circuitsketch.frontends.torch.state import is_number, tensor_of


def import_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of wires; of plain arrays alone, it computes in double precision, too."""

    @functools.wraps(function)
    def imported(*args: Any, **options: Any) -> Any:
        leaves, structure = flatten_pytree(pytree.tree_flatten, (args, options), "an argument")
        if any(isinstance(leaf, Wire) for leaf in leaves):
            return apply_to_wires(function, structure, leaves)
        floats = [i for i, leaf in enumerate(leaves) if is_float(leaf)]
        arrays = [plain(tensor_of(leaves[i])) for i in floats]

        def trace_floats() -> tuple[Circuit, Any]:
            trees: list[Any] = []
            kept: list[Any] = []

            def on_wires(*wires: Wire) -> list[Any]:
                replaced = list(leaves)
                for i, wire in zip(floats, wires, strict=True):
                    replaced[i] = wire
                outputs, tree = pytree.tree_flatten(apply_to_wires(function, structure, replaced))
                trees[:] = [tree]
                kept[:] = [output is not None for output in outputs]
                return [output for output in outputs if output is not None]

            return trace(on_wires, *arrays), (trees[0], tuple(kept))

        circuit, (tree, kept) = trace_or_remember(imported, structure, leaves, floats, trace_floats)
        with np.errstate(all="ignore"):
            values = evaluate(circuit.nodes, dict(zip(circuit.inputs, arrays, strict=True)), compute)
        numbers = (values[i] for i in circuit.outputs)
        return pytree.tree_unflatten([next(numbers) if is_kept else None for is_kept in kept], tree)

    return imported


def is_float(leaf: Any) -> bool:
    """Return whether a leaf is floats."""
    if isinstance(leaf, torch.Tensor):
        return leaf.is_floating_point()
    return is_number(leaf) and np.asarray(leaf).dtype.kind == "f"


def as_output(leaf: Any) -> Any:
    """Return a leaf of a function's result as PyTorch traces it, or raise InputError."""
    if leaf is None or isinstance(leaf, torch.Tensor | bool):
        return leaf
    if not is_number(leaf):
        raise InputError(f"the function returns {quoted(leaf)}; return tensors and numbers, in a pytree")
    return tensor_of(leaf)


def example_of(wire: Wire, floats: torch.dtype) -> torch.Tensor:
    """Return a tensor of a wire's shape, with the dtype of floats given."""
    dtype = {"float": floats, "int": torch.int64, "bool": torch.bool}[wire.label]
    return torch.zeros(wire.shape, dtype=dtype)


def capture_in_either(function: Callable[[torch.dtype], Program]) -> Program:
    """Return a program captured with PyTorch's default dtype of floats or else, where that fails, in double precision.

    A wire does not say in what dtype a model was trained, and PyTorch does not multiply float32 by float64: a function
    may use test data in double precision.
    """
    default = torch.get_default_dtype()
    try:
        return function(default)
    except TraceError:
        if default == torch.float64:
            raise
        try:
            return function(torch.float64)
        except TraceError:
            pass
        raise


def apply_to_wires(function: Callable[..., Any], structure: Any, leaves: list[Any]) -> Any:
    """Return the result of a function whose arguments, flattened, contain wires."""
    at = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Wire)]
    others = [tensor_of(leaf) if isinstance(leaf, np.ndarray) and is_number(leaf) else leaf for leaf in leaves]
    trees: list[Any] = []
    wires = [leaves[i] for i in at]

    def capture_with(floats: torch.dtype) -> Program:
        cast = [x.to(floats) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in others]

        def of_tensors(*tensors: torch.Tensor) -> list[Any]:
            replaced = list(cast)
            for i, tensor in zip(at, tensors, strict=True):
                replaced[i] = tensor
            args, options = pytree.tree_unflatten(replaced, structure)
            result = call(function, "the function", *args, **options)
            outputs, tree = flatten_pytree(pytree.tree_flatten, result, "the function's result")
            trees[:] = [tree]
            return [as_output(output) for output in outputs]

        return Program(capture(of_tensors, [example_of(wire, floats) for wire in wires]))

    program = capture_in_either(capture_with)
    program.divide(range(len(wires)), {})
    results = program.record(dict(enumerate(wires)), {}, range(len(program.outputs)))
    results = [plain(x) if isinstance(x, torch.Tensor) else x for x in results]
    return pytree.tree_unflatten(results, trees[0])
