"""Have JAX trace a function, and say in the package's words where it cannot.

In: a function and the shapes of its arguments. Out: its jaxpr. What fails in JAX (a Python branch on an array, an array
of texts) becomes a TraceError with the user's line; what fails in the user's own lines goes through as it is.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import jax

from circuitsketch.circuit import Place
from circuitsketch.errors import CircuitSketchError, TraceError
from circuitsketch.frontends.imported import is_inside_call
from circuitsketch.frontends.jax.places import library_folders
from circuitsketch.frontends.numpy.wire import is_users

LONGEST = 300  # characters of a message of JAX's
BRANCHES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
BRANCH = "branch with jnp.where or lax.cond, and pass numbers as arrays"
LISTS = "in a state or batch, a list is a pytree of its entries: pass arrays, np.asarray(x)"
SHAPES = (
    "check the shapes and dtypes there: they are those of the state and of the batch; losses are one per example, are "
    "multiplied by keep, and their mean is a number"
)


def is_of_jax(reason: BaseException) -> bool:
    """Return whether JAX raised an error, also one of Python's types, whose traceback it has shortened."""
    shortened = type(reason.__cause__).__name__ == "UnfilteredStackTrace"
    noted = any("JAX has removed" in note for note in getattr(reason, "__notes__", ()))
    return shortened or noted or type(reason).__module__.startswith("jax")


def trace_with_jax(function: Callable[..., Any], *specs: Any) -> tuple[Any, Any]:
    """Return the closed jaxpr of a function of arrays of these shapes, and the shapes of its result."""
    try:
        return jax.make_jaxpr(function, return_shape=True)(*specs)  # type: ignore[no-any-return]
    except CircuitSketchError:
        raise
    except Exception as reason:
        frames, folders = traceback.extract_tb(reason.__traceback__), tuple(library_folders())
        own = [frame for frame in frames if is_users(frame.filename) and not frame.filename.startswith(folders)]
        is_own = own and own[-1] is frames[-1] and not is_of_jax(reason)
        meets_tracer = isinstance(reason, TypeError) and "Tracer'" in str(reason)
        if is_own and not meets_tracer and is_inside_call(reason.__traceback__):
            raise
        place = f"{Place(own[-1].filename, own[-1].lineno or 0)}: " if own else ""
        text = " ".join(str(reason).split()).partition(" The error occurred while tracing")[0][:LONGEST]
        advice = LISTS if meets_tracer else BRANCH if isinstance(reason, BRANCHES) else SHAPES
        raise TraceError(f"{place}JAX cannot trace this: {text}; {advice}") from reason
