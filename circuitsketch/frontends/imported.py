"""What front ends of other libraries have in common: the step that they import, and the extra that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from circuitsketch.errors import InputError


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
