"""What a worker does: load what the tasks of a computation share, once, and call a function of the package with it.

In: a function, the digests of pickled objects that it shares with other tasks, and its own arguments. Out: a `Reply`: a
result, an error of the package, or the digests of what the worker has not loaded yet, for whoever distributes the tasks
to send along. Pickles travel between processes that their user started; nothing in a sketch on disk is unpickled.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from circuitsketch.errors import CircuitSketchError, InputError

MAX_LOADED = 4  # objects that a worker keeps, such as a run and a measurement
loaded: OrderedDict[str, Any] = OrderedDict()  # by digest, the least recently used first
loading = Lock()


@dataclass(frozen=True)
class Reply:
    """What a worker answers.

    Attributes
    ----------
    worker : str
        The host and the process id.
    result : object
        What the function returned.
    error : CircuitSketchError or None
        What it raised.
    missing : tuple of str
        The digests of objects that have to be sent first; the function was not called.
    """

    worker: str
    result: Any = None
    error: CircuitSketchError | None = None
    missing: tuple[str, ...] = ()


def perform(
    function: Callable[..., Any], digests: tuple[str, ...], pickles: Mapping[str, bytes], arguments: tuple[Any, ...]
) -> Reply:
    """Call `function(*shared, *arguments)` with the objects of these digests, which `pickles` may bring along."""
    worker = f"{socket.gethostname()} (process {os.getpid()})"
    try:
        shared, missing = load(digests, pickles)
        if missing:
            return Reply(worker, missing=missing)
        return Reply(worker, function(*shared, *arguments))
    except CircuitSketchError as error:
        return Reply(worker, error=error)
    except MemoryError:
        return Reply(worker, error=InputError(f"worker {worker} ran out of memory; use fewer workers"))


def load(digests: tuple[str, ...], pickles: Mapping[str, bytes]) -> tuple[list[Any], tuple[str, ...]]:
    """Return the objects of some digests, and the digests of those that neither this process nor `pickles` has."""
    with loading:
        for digest, data in pickles.items():
            if digest not in loaded:
                loaded[digest] = pickle.loads(data)
        missing = tuple(digest for digest in digests if digest not in loaded)
        for digest in digests:
            if digest in loaded:
                loaded.move_to_end(digest)
        while len(loaded) > max(MAX_LOADED, len(digests)):
            loaded.popitem(last=False)
        return [loaded[digest] for digest in digests if digest in loaded], missing
