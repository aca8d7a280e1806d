"""Check NumPy options that do not affect values: each is honoured, irrelevant to wires, or rejected.

In: the name of a NumPy function and its arguments by name. Out: nothing, or a TraceError. Wires have no memory layout,
so `order`, `subok` and `copy` change no value, except where `order` is the order in which elements are read: functions
that use it support "C" and "F". `where`, `initial`, `keepdims` and `dtype` are handled by the functions themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from circuitsketch.errors import CircuitSketchError, ShapeError, TraceError
from circuitsketch.frontends.numpy.wire import user_place

NO_VALUE = np._NoValue  # type: ignore[attr-defined]  # NumPy's default of an omitted argument


def absent(value: Any) -> bool:
    """Return whether an option was omitted."""
    return value is None or value is NO_VALUE


def one_of(*accepted: Any) -> Callable[[Any], bool]:
    """Return a predicate for membership in a few plain values."""
    return lambda value: (value is None or isinstance(value, str | bool | np.bool_)) and value in accepted


# By option: a predicate for settings that change no value, and the remedy for other settings.
HARMLESS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "out": (
        lambda value: absent(value) or (isinstance(value, tuple) and all(v is None for v in value)),
        "wires are immutable: assign the result to a name",
    ),
    "order": (one_of(None, "C", "F", "A", "K"), "use order='C'"),
    "casting": (one_of("same_kind", "unsafe"), "leave it out"),
    "subok": (one_of(True, False), "leave it out"),
    "copy": (one_of(True, False, None), "leave it out"),
    "like": (one_of(None), "leave it out"),
    "device": (one_of(None, "cpu"), "leave it out"),
    "signature": (one_of(), "use dtype="),
    "sig": (one_of(), "use dtype="),
    "axes": (one_of(), "transpose the operands first"),
}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise TraceError for options that a circuit cannot honour."""
    for key, value in options.items():
        harmless, remedy = HARMLESS.get(key, (None, ""))
        if harmless is not None and not harmless(value):
            shown = value if isinstance(value, str | int | tuple) else type(value).__name__
            raise TraceError(f"{user_place()} calls {name} with {key}={shown!r}, which wires do not take; {remedy}")


@cache
def signature_of(rule: Callable[..., Any]) -> inspect.Signature:
    """Return a rule's signature; cached."""
    return inspect.signature(rule)


def call_rule(name: str, rule: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Check options and call the rule of a NumPy function; convert any exception to one of the package's.

    A rule has its NumPy function's parameters, in order and by name; the options in HARMLESS are checked only here.
    `axes` is such an option for ufuncs only: array functions have parameters of that name that matter.
    """
    try:
        bound = signature_of(rule).bind(*args, **kwargs)
    except TypeError as reason:
        raise TraceError(
            f"{user_place()} calls {name} in a form that wires do not take ({reason}); leave the option out"
        ) from None
    check_options(name, {key: value for key, value in bound.arguments.items() if key != "axes"})
    try:
        return rule(*args, **kwargs)
    except CircuitSketchError:
        raise
    except (ValueError, LookupError) as reason:
        raise ShapeError(f"{user_place()}: {name}: {reason}") from reason
    except (TypeError, AttributeError, OverflowError, StopIteration) as reason:
        raise TraceError(
            f"{user_place()} calls {name} in a form that wires do not take ({reason}); see NumPy's "
            f"documentation of {name}"
        ) from reason


def reads_in_fortran_order(order: Any, rank: int, name: str) -> bool:
    """Return whether elements are read in Fortran order; raise TraceError for "A" and "K", which depend on memory."""
    if order in ("A", "K") and rank > 1:
        raise TraceError(
            f"{user_place()} calls {name} with order={order!r}, which depends on an array's memory layout; "
            "wires have none: use order='C' or 'F'"
        )
    return bool(order == "F" and rank > 1)
