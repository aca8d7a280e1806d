"""Validate arguments at the public API and convert them to the expected type.

Every check takes a value and the name of its argument, and raises an InputError that says what the argument must be
and what it is. No value is trusted: its `repr`, its length and its `__array__` may raise.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from circuitsketch.errors import CircuitSketchError, InputError, printable

SHOWN = 60  # characters of a value that a message quotes
LARGEST = 2**48  # upper bound on counts: nothing larger fits into memory
HIGHEST = 10_000  # largest order; a product of series takes its square in multiply-adds


def quoted(value: Any) -> str:
    """Return the repr of a value for a message, on one line and at most SHOWN characters long.

    >>> quoted("a" * 100)[-8:], quoted(10**5000)
    ('aaaaa...', 'an integer of 16610 bits')
    """
    if type(value) is int and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    try:
        if isinstance(value, str | bytes) and len(value) > SHOWN:
            value = value[: SHOWN + 2]
        text = " ".join(repr(value).split()) if not isinstance(value, str | bytes) else repr(value)
    except Exception:
        text = f"an object of {type(value).__name__}, which cannot be printed"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def shortened(path: str) -> str:
    """Return a path for a message, cut after 400 characters."""
    return path if len(path) <= 400 else path[:397] + "..."


def text_of(value: Any) -> str:
    """Return a label or an item as text on one line, without control characters.

    >>> text_of("a\\tb"), text_of(3)
    ('a b', '3')
    """
    try:
        return printable(" ".join(str(value).split()))
    except Exception:
        return quoted(value)


def kind_of(value: Any) -> str:
    """Return the name of a value's type."""
    return type(value).__name__


def is_int(value: Any, low: int | None = None, high: int = LARGEST) -> bool:
    """Return whether a value is a Python or NumPy integer from `low` to `high`; booleans and timedeltas are not.

    >>> is_int(np.int64(3), 0), is_int(True), is_int(3.0), is_int(-1, 0)
    (True, False, False, False)
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool | np.timedelta64):
        return False
    return (low is None or int(value) >= low) and int(value) <= high


def check_int(value: Any, name: str, low: int | None = None, high: int = LARGEST) -> int:
    """Return a Python or NumPy integer from `low` to `high` as an int, or raise InputError.

    >>> check_int(np.int64(3), "order", low=0)
    3
    """
    if not is_int(value, low, high):
        bound = "" if low is None else f" of at least {low}"
        if is_int(value, low, 2**100_000):
            bound = f" of at most {high}"
        raise InputError(f"{name} must be an integer{bound}, not {quoted(value)}")
    return int(value)


def check_order(order: Any) -> int:
    """Return an order, an integer from 0 to HIGHEST, or raise InputError."""
    if not is_int(order, 0, HIGHEST):
        raise InputError(f"order must be an integer from 0 to {HIGHEST}, not {quoted(order)}")
    return int(order)


def is_real(value: Any) -> bool:
    """Return whether a value is a Python or NumPy real number; booleans are not."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value.dtype.kind in "iuf"
    kinds = int | float | np.integer | np.floating
    return isinstance(value, kinds) and not isinstance(value, bool | np.timedelta64)


def check_real(value: Any, name: str, low: float = -math.inf, high: float = math.inf, *, ends: bool = True) -> float:
    """Return a finite real number from `low` to `high` (both excluded unless `ends`) as a float, or raise InputError.

    >>> check_real(1, "epsilon", low=0, ends=False)
    1.0
    """
    words = {(True, True): "a finite number", (False, True): f"a number of at least {low:g}"}
    if not ends:
        words[False, True] = f"a number above {low:g}"
    expected = words.get((low == -math.inf, high == math.inf), f"a number from {low:g} to {high:g}")
    if not ends and math.isfinite(low) and math.isfinite(high):
        expected = f"a number between {low:g} and {high:g}"
    number = math.nan
    if is_real(value):
        try:
            number = float(value)
        except OverflowError:
            pass
    inside = low <= number <= high if ends else low < number < high
    if not inside or not math.isfinite(number):
        raise InputError(f"{name} must be {expected}, not {quoted(value)}")
    return number


def check_bool(value: Any, name: str) -> bool:
    """Return a Python or NumPy boolean as a bool, or raise InputError."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, not {quoted(value)}")
    return bool(value)


def check_choice(value: Any, name: str, choices: Sequence[str], or_none: bool = False) -> Any:
    """Return a string that is one of the choices (or None if `or_none`), or raise InputError."""
    if value is None and or_none:
        return None
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"{name} is {quoted(value)}; choose {' or '.join(map(repr, choices))}" + (", or None" if or_none else "")
        )
    return str(value)


def check_picklable(function: Any, name: str) -> None:
    """Raise InputError if a user's function, which is part of what is being pickled, cannot be pickled itself."""
    try:
        pickle.dumps(function)
    except Exception as reason:
        raise InputError(
            f"{name} is {quoted(function)}, which cannot be pickled: {reason}; use a function that is defined at the "
            "top level of a module, without a lambda"
        ) from reason


def check_executor(executor: Any) -> Executor | None:
    """Return an executor or None, or raise InputError."""
    if executor is not None and not isinstance(executor, Executor):
        raise InputError(
            "executor must be a concurrent.futures.Executor, as in `with cs.executor('processes') as executor`, not "
            f"{kind_of(executor)}"
        )
    return executor


def refuse_device(executor: Executor | None, device: str) -> None:
    """Raise InputError for an executor and a GPU."""
    if executor is not None and device != "cpu":
        raise InputError(
            f"executor= cannot be combined with device={device!r}, because its workers compute on CPUs; omit one of "
            "the two"
        )


def check_callable(value: Any, name: str) -> Callable[..., Any]:
    """Return a value that is callable, or raise InputError."""
    if not callable(value):
        raise InputError(f"{name} must be a function, not {kind_of(value)}")
    return value  # type: ignore[no-any-return]


def check_instance(value: Any, name: str, kind: Any, words: str) -> Any:
    """Return a value that is an instance of `kind`, or raise InputError, which describes the type by `words`."""
    if not isinstance(value, kind):
        raise InputError(f"{name} must be {words}, not {kind_of(value)}")
    return value


def check_tuple(value: Any, name: str) -> tuple[Any, ...]:
    """Return a tuple or list as a tuple, or raise InputError."""
    if not isinstance(value, tuple | list):
        raise InputError(f"{name} must be a tuple, as in (x, y), not {kind_of(value)}")
    return tuple(value)


def call(function: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
    """Call a user's function; if its signature does not fit, raise an InputError that shows the arguments passed.

    Exceptions raised inside the function propagate unchanged.
    """
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError) as reason:
        inside = reason.__traceback__ is None or reason.__traceback__.tb_next is not None
        if inside or isinstance(reason, CircuitSketchError) or isinstance(reason.__cause__, CircuitSketchError):
            raise
        kinds = ", ".join(map(kind_of, arguments))
        raise InputError(f"{name} cannot be called with {len(arguments)} arguments ({kinds}): {reason}") from None


def check_hashable(value: Any, name: str) -> Any:
    """Return a value that is hashable and equal to itself, or raise InputError."""
    try:
        usable = hash(value) is not None and bool(value == value)
    except Exception:
        usable = False
    if not usable:
        raise InputError(
            f"{name} is {quoted(value)}, which cannot be used as a label; labels must be hashable and equal to "
            "themselves (not NaN), such as strings or integers"
        )
    return value


def check_path(value: Any, name: str = "path") -> str:
    """Return a valid path (a str, bytes or os.PathLike) as a str, or raise InputError."""
    try:
        path = os.fspath(value)
        path = os.fsdecode(path) if isinstance(path, bytes) else path
    except Exception:
        raise InputError(f"{name} must be a path, not {quoted(value)}") from None
    if not path.strip():
        raise InputError(f"{name} is {path!r}, an empty path; give the path of a folder")
    if "\0" in path:
        raise InputError(f"{name} is {quoted(path)}, which contains a NUL character; remove it")
    try:
        os.fsencode(path)
    except UnicodeError:
        raise InputError(
            f"{name} is {quoted(path)}, which contains characters that this file system cannot encode"
        ) from None
    return str(path)


def as_list(value: Any, name: str, entries: str) -> list[Any]:
    """Return an ordered iterable as a list, or raise InputError; `entries` describes the elements."""
    if isinstance(value, str | bytes | dict | set | frozenset) or not isinstance(value, Iterable):
        raise InputError(f"{name} must be a list with {entries}, not {kind_of(value)}")
    try:
        return list(value)
    except CircuitSketchError:
        raise
    except Exception as reason:
        raise InputError(f"{name} must be a list with {entries}, not {quoted(value)}: {reason}") from None
