"""Circuits of functions of JAX and PyTorch that are called many times on arrays of the same shapes.

In: a function's arguments. Out: the circuit that was traced for the same ones, within `traces_remembered`. There the
caller promises that nothing but the arguments changes from call to call; elsewhere every call is traced, since a
function may close over something that changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from circuitsketch.circuit import Circuit

Traced = tuple[Circuit, Any]
MOST = 16  # circuits that are remembered at once
LARGEST = 1 << 20  # bytes of an argument that is not traced, above which a call is not remembered

remembered: ContextVar[dict[Hashable, Traced] | None] = ContextVar("remembered", default=None)


@contextmanager
def traces_remembered() -> Iterator[None]:
    """Within the context, trace a function of JAX or PyTorch once for arguments of the same shapes."""
    token = remembered.set({})
    try:
        yield
    finally:
        remembered.reset(token)


def trace_or_remember(
    function: Callable[..., Any],
    structure: Hashable,
    leaves: Sequence[Any],
    floats: Sequence[int],
    trace: Callable[[], Traced],
) -> Traced:
    """Return `trace()`, or what it returned for the same function, structure, shapes of floats and other leaves.

    floats : the positions of the leaves that are the circuit's inputs.
    """
    traces = remembered.get()
    key = None if traces is None else key_of(function, structure, leaves, set(floats))
    if traces is None or key is None:
        return trace()
    if key not in traces:
        if len(traces) >= MOST:
            del traces[next(iter(traces))]
        traces[key] = trace()
    return traces[key]


def key_of(
    function: Callable[..., Any], structure: Hashable, leaves: Sequence[Any], floats: set[int]
) -> Hashable | None:
    """Return what tells calls apart whose circuits differ; None if that cannot be told."""
    parts: list[Hashable] = [function, structure]
    for i, leaf in enumerate(leaves):
        if i in floats:
            parts.append(np.shape(leaf))
        elif leaf is None or isinstance(leaf, bool | int | float | complex | str | bytes):
            parts.append((type(leaf), repr(leaf)))
        else:
            try:
                array = np.asarray(leaf)
            except Exception:  # an array of another library that does not convert
                return None
            if array.dtype.kind not in "biuf" or array.nbytes > LARGEST:
                return None
            parts.append((type(leaf), array.dtype.str, array.shape, array.tobytes()))
    return tuple(parts)
