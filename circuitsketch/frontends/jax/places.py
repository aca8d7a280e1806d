"""The line of the user's program that an equation comes from.

In: an equation of a jaxpr, whose traceback JAX records. Out: a `Place`: the innermost line outside JAX and the
libraries that are written with it, and the library that it calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from circuitsketch.circuit import NOWHERE, Place
from circuitsketch.frontends.numpy.wire import is_users

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "equinox", "haiku", "chex", "jaxtyping", "distrax", "lineax", "diffrax")


def library_folders() -> dict[str, str]:
    """Return the folders of those libraries that are imported, with their names."""
    modules = ((name, getattr(sys.modules.get(name), "__file__", None)) for name in LIBRARIES)
    return {os.path.dirname(os.path.abspath(file)) + os.sep: name for name, file in modules if file}


class Places:
    """The lines of equations; those of one traceback are found once."""

    def __init__(self) -> None:
        self.folders = library_folders()
        self.by_traceback: dict[int, tuple[Any, Place]] = {}
        self.caller: Place | None = None  # the line of the call or loop around the equations
        self.in_library = False  # whether that calls a library's function, whose equations it stands for

    @contextmanager
    def inside(self, equation: Any, called: Any = None) -> Iterator[None]:
        """Take equations of a library's function, or without a line, for those of the line of a call or loop."""
        outer = self.caller, self.in_library
        self.caller = self.of(equation)
        self.in_library = self.in_library or (called is not None and self.is_library(called))
        try:
            yield
        finally:
            self.caller, self.in_library = outer

    def is_library(self, called: Any) -> bool:
        """Return whether a jaxpr is that of a library's function. JAX traces it once, whoever calls it."""
        source = getattr(getattr(called.jaxpr, "debug_info", None), "func_src_info", None) or ""
        return any(f" at {folder}" in source for folder in self.folders)

    def of(self, equation: Any) -> Place:
        """Return the line of an equation."""
        place = self.own_line(equation)
        return self.caller if self.caller is not None and (self.in_library or place is NOWHERE) else place

    def own_line(self, equation: Any) -> Place:
        """Return the user's line in the traceback of an equation."""
        traceback = equation.source_info.traceback
        if traceback is None:
            return NOWHERE
        if id(traceback) not in self.by_traceback:
            self.by_traceback[id(traceback)] = traceback, self.user_line(traceback)
        return self.by_traceback[id(traceback)][1]

    def user_line(self, traceback: Any) -> Place:
        """Return the innermost line of a traceback in the user's program."""
        through = ""
        for frame in traceback.frames:
            library = next((name for folder, name in self.folders.items() if frame.file_name.startswith(folder)), None)
            if library is None and is_users(frame.file_name) and not frame.file_name.startswith("<"):
                return Place(frame.file_name, frame.line_num, "" if through.startswith("jax") else through)
            through = library or through
        return NOWHERE
