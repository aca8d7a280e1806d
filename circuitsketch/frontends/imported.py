"""What front ends of other libraries have in common: the step that they import, and the extra that they need.

Also how they take a user's pytrees apart, and tell the user's own errors from those of the library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from circuitsketch import arguments
from circuitsketch.display import list_some
from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.tree import refuse_too_deep

PACKAGE = os.path.dirname(os.path.abspath(arguments.__file__)) + os.sep


@dataclass(frozen=True)
class ImportedStep:
    """A training that was imported: what `Training` takes, and the layout of the user's state.

    Attributes
    ----------
    step : (state, batch, keep) -> state, on wires.
    state : the initial state. batches : one per step. layout : the front end's `StateLayout`.
    """

    step: Callable[[Any, Any, Any], Any]
    state: Any
    batches: list[Any]
    layout: Any


@contextmanager
def require_extra(extra: str, *packages: str) -> Iterator[None]:
    """Within the context, raise InputError that names the extra if one of its packages is not installed.

    >>> with require_extra("torch", "no_such_package"):  # doctest: +ELLIPSIS
    ...     import no_such_package
    Traceback (most recent call last):
    circuitsketch.errors.InputError: circuitsketch.torch needs the package torch, which is not installed; ...
    """
    try:
        yield
    except ModuleNotFoundError as reason:
        if (reason.name or "").partition(".")[0] not in packages:
            raise
        raise InputError(
            f"circuitsketch.{extra} needs the package {extra}, which is not installed; "
            f"pip install 'circuitsketch[{extra}]'"
        ) from None


def flatten_pytree(flatten: Callable[[Any], Any], value: Any, name: str) -> Any:
    """Return `flatten(value)`, by a library's own function; raise InputError where it cannot flatten the value."""
    try:
        with refuse_too_deep():
            return flatten(value)
    except CircuitSketchError:
        raise
    except Exception as reason:
        text = " ".join(str(reason).split())[:200]
        raise InputError(
            f"{name} cannot be taken apart as a pytree ({type(reason).__name__}: {text}); it may have dicts whose keys "
            "are of one type, such as strings, lists and tuples, and none of them within itself"
        ) from None


def explain_difference(names: Sequence[str], before: Sequence[str]) -> str:
    """Return which leaves a state has that the state before has not, and the reverse; nothing if they are the same.

    >>> explain_difference(["state.w", "state.loss"], ["state.w", "state.t"])
    'state.loss, which the state has not, and lacks state.t'
    """
    more = [name for name in dict.fromkeys(names) if name not in set(before)]
    fewer = [name for name in dict.fromkeys(before) if name not in set(names)]
    parts = [f"{list_some(more)}, which the state has not"] if more else []
    if fewer:
        parts.append(f"lacks {list_some(fewer)}" if more else f"a state without {list_some(fewer)}")
    return ", and ".join(parts)


def fingerprint(leaf: Any) -> Any:
    """Return what tells a leaf that is not numbers apart from others: its repr, if it has one."""
    try:
        return repr(leaf)
    except Exception:
        return id(leaf)


def is_inside_call(traceback: TracebackType | None) -> bool:
    """Return whether an exception was raised while a function of the user's was running, see `arguments.call`."""
    inside = False
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename.startswith(PACKAGE):
            inside = code is arguments.call.__code__
        traceback = traceback.tb_next
    return inside
