"""Detect random draws during tracing: the function is called once, so its circuit would repeat one draw forever.

In: a function that is about to be traced. Out: nothing, or an error or warning at the line where a drawn number meets a
wire. A draw changes the state of a generator: NumPy's global one, Python's, or one reachable from the function's
closure, defaults, globals, or attributes of objects there. A generator that the function creates on each call changes
no such state, so the function's code is searched for the names that create generators.
"""

from __future__ import annotations

import dis
import os
import random
import sysconfig
import types
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Literal

import numpy as np

from circuitsketch.errors import FrozenDrawWarning, TraceError
from circuitsketch.frontends.numpy.wire import LIBRARIES, PACKAGE, ZOO, Place, user_place

OnDraw = Literal["allow", "warn", "refuse"]
MAKERS = {"default_rng", "RandomState", "PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937", "dropout_mask"}
CLOSED = {"builtins", "numpy", "scipy", "circuitsketch"}  # packages whose objects are not searched
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
MAX_OBJECTS = 2000  # objects searched at most
REMEDY = (
    "it is traced once, so every call would reuse the same numbers. Draw beforehand and pass the numbers in (for a "
    "training run, in its batches; for dropout, cs.optim.dropout_mask draws a mask for a batch)"
)


class Draws:
    """The states, before tracing, of the generators that a function can draw from."""

    def __init__(self, function: Callable[..., Any], on_draw: OnDraw) -> None:
        self.function = function
        self.on_draw = on_draw
        self.sources: dict[str, Callable[[], Any]] = {
            "np.random": partial(np.random.get_state, legacy=False),
            "Python's random": random.getstate,
        }
        makers = set()
        for name, value in reachable(function):
            if isinstance(value, np.random.Generator):
                self.sources[f"the Generator {name}"] = partial(getattr, value.bit_generator, "state")
            elif isinstance(value, np.random.RandomState):
                self.sources[f"the RandomState {name}"] = partial(value.get_state, legacy=False)
            elif isinstance(value, random.Random):
                self.sources[f"the random.Random {name}"] = value.getstate
            elif isinstance(value, types.FunctionType):
                loaded, attributes = names_in(value.__code__)
                makers |= {(maker, definition_of(value)) for maker in MAKERS & (loaded | attributes)}
        self.before = {name: snapshot(state()) for name, state in self.sources.items()}
        for maker, place in sorted(makers):
            text = f"{place}: a traced function creates random numbers ({maker}): {REMEDY}"
            warnings.warn(text, FrozenDrawWarning, stacklevel=5)

    def changed(self) -> str | None:
        """Return the name of a generator whose state changed since the last check, or None."""
        now = {name: snapshot(state()) for name, state in self.sources.items()}
        before, self.before = self.before, now
        return next((name for name in now if now[name] != before[name]), None)

    def stop(self, place: Place) -> None:
        """Abort the function when plain data meets a wire after a number has been drawn."""
        if self.changed() is not None:
            raise DrawnAt(place)

    def report(self, source: str, place: Place | None) -> None:
        """Raise the error or issue the warning about a draw."""
        text = f"{place or definition_of(self.function)} draws random numbers from {source} in a traced function: "
        if self.on_draw == "refuse":
            raise TraceError(text + REMEDY)
        warnings.warn(text + REMEDY, FrozenDrawWarning, stacklevel=4)


class DrawnAt(BaseException):
    """Aborts a repeated call that locates a draw; a BaseException, so that no `except Exception` catches it."""

    def __init__(self, place: Place) -> None:
        super().__init__(str(place))
        self.place = place


def definition_of(function: Any) -> Place:
    """Return where a function is defined; for one that is not written in Python, the line that traces it."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return Place(code.co_filename, code.co_firstlineno) if code is not None else user_place()


def snapshot(state: Any) -> Any:
    """Return a generator's state in a comparable form."""
    if isinstance(state, dict):
        return tuple((key, snapshot(value)) for key, value in state.items())
    return state.tobytes() if isinstance(state, np.ndarray) else state


@cache
def names_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the globals and of the attributes that code loads, nested functions included."""
    loaded: set[str] = set()
    attributes: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            loaded.add(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            more = names_in(constant)
            loaded |= more[0]
            attributes |= more[1]
    return frozenset(loaded), frozenset(attributes)


def is_foreign(file: str) -> bool:
    """Return whether a file belongs to this package (except its zoo), to Python, or to an installed package."""
    return file.startswith((PACKAGE + os.sep, *INSTALLED, *LIBRARIES)) and not file.startswith(ZOO)


def is_foreign_function(value: Any) -> bool:
    """Return whether a value is a function that need not be searched."""
    return isinstance(value, types.FunctionType) and is_foreign(value.__code__.co_filename)


def reachable(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the objects reachable from a function, itself included, with the names that lead to them."""
    queue: list[tuple[str, Any]] = [(getattr(function, "__name__", "step"), function)]
    seen: set[int] = set()
    loaded_names = {"__call__"}  # attribute names in the code so far, which select methods
    while queue and len(seen) < MAX_OBJECTS:
        name, value = queue.pop(0)
        if id(value) in seen or isinstance(value, np.ndarray | str | bytes | int | float | type(None)):
            continue
        seen.add(id(value))
        yield name, value
        if isinstance(value, types.FunctionType):
            loaded_names |= names_in(value.__code__)[1]
        if value is function or not is_foreign_function(value):
            queue += list(within(name, value, loaded_names))


def within(name: str, value: Any, loaded_names: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield the objects that an object refers to, with their names."""
    if isinstance(value, types.FunctionType):
        yield from of_function(value)
    elif isinstance(value, types.MethodType):
        yield from ((name, value.__func__), (name, value.__self__))
    elif isinstance(value, partial):
        parts = (value.func, *value.args, *value.keywords.values())
        yield from ((name, part) for part in parts)
    elif isinstance(value, dict):
        yield from ((f"{name}[{key!r}]", part) for key, part in list(value.items())[:100])
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((name, part) for part in list(value)[:100])
    elif isinstance(value, type):
        yield from methods(value, loaded_names)
    elif not isinstance(value, types.ModuleType) and package_of(type(value)) not in CLOSED:
        yield from methods(type(value), loaded_names)
        try:
            attributes = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return
        yield from ((f"{name}.{key}", part) for key, part in list(attributes.items()))


def package_of(kind: type) -> str:
    """Return the package that defines a class; "" where it does not say, as of functions of older Cython versions."""
    module: Any = kind.__module__
    return module.split(".")[0] if isinstance(module, str) else ""


def methods(kind: type, loaded_names: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a class and its bases that code loads by name, and generators."""
    for base in kind.__mro__:
        for key, part in list(vars(base).items()):
            if key in loaded_names or isinstance(part, GENERATORS):
                yield f"{base.__name__}.{key}", part


def of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield a function's closure, defaults and globals; of a module among these, the attributes that the code loads."""
    for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield key, cell.cell_contents
        except ValueError:  # not filled yet
            continue
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    yield from ((function.__name__, part) for part in defaults)
    loaded, attributes = names_in(function.__code__)
    for key in sorted(loaded & function.__globals__.keys()):
        part = function.__globals__[key]
        if not isinstance(part, types.ModuleType):
            yield key, part
        elif not is_foreign(getattr(part, "__file__", None) or ""):
            yield from ((f"{key}.{name}", vars(part)[name]) for name in sorted(attributes & vars(part).keys()))
