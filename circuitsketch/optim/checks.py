"""Check the arguments of optimisers and schedules: states, gradients, numbers and step numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.arguments import check_instance, kind_of, quoted
from circuitsketch.arrays import finite_array, plain_array, real_array
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.tree import flatten, flatten_up_to

State = dict[str, Any]


def check_state(state: State, grads: Any, rule: str, *keys: str) -> None:
    """Raise InputError or ShapeError if a part of a state is missing or does not fit the gradients."""
    if not isinstance(state, dict):
        raise InputError(f"{rule} requires a state dict, not {kind_of(state)}; start from optim.{rule}_state(params)")
    missing = [key for key in ("params", *keys) if key not in state]
    if missing:
        raise InputError(f"{rule} requires state[{missing[0]!r}]; start from optim.{rule}_state(params)")
    params, tree = flatten(check_numbers(state["params"], "params"))
    for name in (*keys, "grads"):
        if name == "t":
            check_number(state["t"], "t")
            continue
        leaves = flatten_up_to(tree, check_numbers(grads if name == "grads" else state[name], name))
        for param, leaf, where in zip(params, leaves, tree.names(name), strict=True):
            if not broadcasts(np.shape(leaf), np.shape(param)):
                raise ShapeError(f"{where} has shape {np.shape(leaf)}, but its parameters {np.shape(param)}")


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Return whether an array of one shape broadcasts to another shape."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(size in (1, other) for size, other in pairs)


def check_numbers(value: Any, name: str) -> Any:
    """Return a pytree unchanged if its leaves are wires or arrays of numbers; else raise InputError."""
    leaves, tree = flatten(value)
    for leaf, where in zip(leaves, tree.names(name), strict=True):
        if not isinstance(leaf, Wire):
            if plain_array(leaf, where).dtype.kind not in "fiubc":
                raise InputError(f"{where} has dtype {plain_array(leaf, where).dtype}; pass numbers")
            check_instance(leaf, where, np.ndarray | np.generic | int | float, "an array of numbers")
    return value


def check_number(value: Any, name: str) -> Any:
    """Return a wire or a finite real number unchanged; else raise InputError."""
    if isinstance(value, Wire):
        return value
    array = finite_array(value, name)
    if array.ndim or isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be a number, not {quoted(value)}")
    return value


def check_steps(t: Any, name: str) -> Any:
    """Return step numbers, a wire or real numbers that are not NaN; else raise InputError."""
    if isinstance(t, Wire):
        return t
    array = real_array(t, name)
    if np.isnan(array).any():
        raise InputError(f"{name} must be a step number, not NaN")
    return t if isinstance(t, np.ndarray | np.generic | int | float) else array
