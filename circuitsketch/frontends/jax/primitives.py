"""The table of primitives: for each of JAX's, the rule that builds it from operations on wires.

A rule gets the equation, for its parameters and the shapes of its results, and its operands: wires, or arrays where
they are static. `evaluate_in_numpy` computes simple equations of static values, for which XLA would be too slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.frontends.jax.primitives_elementwise import ELEMENTWISE, operation
from circuitsketch.frontends.jax.primitives_indexing import INDEXING
from circuitsketch.frontends.jax.primitives_moving import MOVING
from circuitsketch.frontends.jax.primitives_reducing import REDUCING
from circuitsketch.frontends.jax.primitives_windows import WINDOWS

PRIMITIVES: dict[str, Callable[..., Any]] = {**ELEMENTWISE, **MOVING, **REDUCING, **INDEXING, **WINDOWS}
# Of a known value, the circuit is given the smaller operand of these, and not their result.
VIEWS = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims")
# JAX's own functions with a derivative of their own, which are gates as a whole: their parts have kinks that they lack.
FUNCTIONS = {"logaddexp": operation("logaddexp")}

IN_NUMPY: dict[str, Callable[..., Any]] = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "max": np.maximum, "min": np.minimum},
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater},
    **{"ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "not": np.bitwise_not},
    **{name: lambda x: x for name in ("stop_gradient", "copy")},
}
MOVED_IN_NUMPY = (*VIEWS, "transpose", "slice", "rev", "iota")


def find_rule(equation: Any) -> Callable[..., Any] | None:
    """Return the rule of an equation: of its primitive, or of a function of JAX's that is a gate."""
    if equation.primitive.name == "custom_jvp_call":
        source = getattr(equation.params["call_jaxpr"].jaxpr.debug_info, "func_src_info", None) or ""
        name, _, file = source.partition(" at ")
        return FUNCTIONS.get(name) if "jax" in file else None
    return PRIMITIVES.get(equation.primitive.name)


def evaluate_in_numpy(equation: Any, operands: Sequence[Any]) -> list[Any] | None:
    """Return the results of an equation of static values in NumPy, or None if that is JAX's."""
    name = equation.primitive.name
    results = [v.aval.dtype for v in equation.outvars]
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in results):
        return None
    arrays = [np.asarray(operand) for operand in operands] if name in IN_NUMPY or name in MOVED_IN_NUMPY else []
    with np.errstate(all="ignore"):
        if name in IN_NUMPY:
            return [np.asarray(IN_NUMPY[name](*arrays), results[0])]
        if name in MOVED_IN_NUMPY:
            return [np.asarray(PRIMITIVES[name](equation, *arrays), results[0])]
    return None
