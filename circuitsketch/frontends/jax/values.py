"""What a value of a jaxpr can be: static, known, or a wire.

A *static* value is an array that is the same in every step. A `Known` value differs from step to step, but no example's
weight reaches it: token ids, keys, counters, schedules, dropout masks. Every other value is a wire, which is `Reached`
in the walks that make none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from circuitsketch.frontends.numpy import Wire


@dataclass(eq=False, slots=True)
class Known:
    """A value that JAX computes in advance, in every step anew.

    Attributes
    ----------
    aval : its shape and dtype.
    value : JAX's array, only in the walk that computes it.
    view : (equation, known) of a reshaped or broadcast value: only the smaller one is handed to the circuit.
    """

    aval: Any
    value: Any = None
    view: tuple[Any, Known] | None = None


@dataclass(eq=False, slots=True)
class Reached:
    """A value that weights reach, in a walk that makes no wires."""

    aval: Any


def is_reached(value: Any) -> bool:
    """Return whether a value is a wire, or stands for one."""
    return isinstance(value, Wire | Reached)


def is_static(value: Any) -> bool:
    """Return whether a value is an array that is the same in every step."""
    return not isinstance(value, Wire | Reached | Known)


def aval_of(value: Any) -> Any:
    """Return the shape and dtype of a value, as JAX describes them."""
    if isinstance(value, Known | Reached):
        return value.aval
    return jax.ShapeDtypeStruct(np.shape(value), value.dtype)


def plain(value: Any) -> np.ndarray:
    """Return a static value as wires meet it: float64, int64 or bool."""
    array = np.asarray(value)
    kind = "f" if array.dtype.kind == "V" else array.dtype.kind  # bfloat16 and its like
    return array.astype({"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_}.get(kind, array.dtype))


def is_complex(aval: Any) -> bool:
    """Return whether a value has complex numbers."""
    return bool(jax.numpy.issubdtype(aval.dtype, np.complexfloating))
