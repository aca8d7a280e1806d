"""Arguments, checked at the border: what a user gave comes in, the same in the type that is meant goes out.

Every check takes a value and the name that its user knows it by, and raises an InputError that says what the argument
must be and what it is. Nothing here trusts a value: its `repr`, its length, its `__array__` may raise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import CircuitSketchError, InputError, printable

SHOWN = 60  # characters of a value that a message quotes
LARGEST = 2**48  # more of anything than there is memory for
HIGHEST = 10_000  # order: a product of series takes as many multiply-adds as its square


def quoted(value: Any) -> str:
    """A value as a message quotes it: in one line, and short.

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
    """A path as a message names it: whole, unless it is so long that nobody reads it."""
    return path if len(path) <= 400 else path[:397] + "..."


def text_of(value: Any) -> str:
    """A label or an item as it is printed: in one line, without control characters.

    >>> text_of("a\\tb"), text_of(3)
    ('a b', '3')
    """
    try:
        return printable(" ".join(str(value).split()))
    except Exception:
        return quoted(value)


def kind_of(value: Any) -> str:
    """The type of a value, by its name."""
    return type(value).__name__


def is_int(value: Any, low: int | None = None, high: int = LARGEST) -> bool:
    """Whether a value is an integer, NumPy's own too, from `low` to `high`; a bool is not, nor is a duration.

    >>> is_int(np.int64(3), 0), is_int(True), is_int(3.0), is_int(-1, 0)
    (True, False, False, False)
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool | np.timedelta64):
        return False
    return (low is None or int(value) >= low) and int(value) <= high


def check_int(value: Any, name: str, low: int | None = None, high: int = LARGEST) -> int:
    """An integer, NumPy's own too, from `low` to `high`; not a bool.

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
    """An order is a whole number >= 0."""
    if not is_int(order, 0, HIGHEST):
        raise InputError(f"order is {quoted(order)}; it must be a whole number >= 0, and at most {HIGHEST}")
    return int(order)


def is_real(value: Any) -> bool:
    """Whether a value is a real number, of Python's or NumPy's; a bool is not."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value.dtype.kind in "iuf"
    kinds = int | float | np.integer | np.floating
    return isinstance(value, kinds) and not isinstance(value, bool | np.timedelta64)


def check_real(value: Any, name: str, low: float = -math.inf, high: float = math.inf, *, ends: bool = True) -> float:
    """A finite real number from `low` to `high`; without these two where `ends` is False.

    >>> check_real(1, "epsilon", low=0, ends=False)
    1.0
    """
    words = {(True, True): "a finite number", (False, True): f"a number of at least {low:g}"}
    if not ends:
        words[False, True] = f"a number above {low:g}"
    wanted = words.get((low == -math.inf, high == math.inf), f"a number from {low:g} to {high:g}")
    if not ends and math.isfinite(low) and math.isfinite(high):
        wanted = f"a number between {low:g} and {high:g}"
    number = math.nan
    if is_real(value):
        try:
            number = float(value)
        except OverflowError:
            pass
    inside = low <= number <= high if ends else low < number < high
    if not inside or not math.isfinite(number):
        raise InputError(f"{name} must be {wanted}, not {quoted(value)}")
    return number


def check_bool(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, not {quoted(value)}")
    return bool(value)


def check_choice(value: Any, name: str, choices: Sequence[str], or_none: bool = False) -> Any:
    """One of some words, or None where that is one of them."""
    if value is None and or_none:
        return None
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"{name} is {quoted(value)}; choose {' or '.join(map(repr, choices))}" + (", or None" if or_none else "")
        )
    return str(value)


def check_callable(value: Any, name: str) -> Callable[..., Any]:
    """A function."""
    if not callable(value):
        raise InputError(f"{name} must be a function, not {kind_of(value)}")
    return value  # type: ignore[no-any-return]


def check_instance(value: Any, name: str, kind: Any, words: str) -> Any:
    """A value of a type; `words` name the type to a user."""
    if not isinstance(value, kind):
        raise InputError(f"{name} must be {words}, not {kind_of(value)}")
    return value


def check_tuple(value: Any, name: str) -> tuple[Any, ...]:
    """A tuple, or a list as one."""
    if not isinstance(value, tuple | list):
        raise InputError(f"{name} must be a tuple, as in (x, y), not {kind_of(value)}")
    return tuple(value)


def call(function: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
    """What a user's function returns; where the call itself is refused, an InputError that says how it is called.

    What the function raises inside goes through: it is its author's.
    """
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError) as reason:
        inside = reason.__traceback__ is None or reason.__traceback__.tb_next is not None
        if inside or isinstance(reason, CircuitSketchError) or isinstance(reason.__cause__, CircuitSketchError):
            raise
        kinds = ", ".join(map(kind_of, arguments))
        raise InputError(f"{name} is called with {len(arguments)} arguments ({kinds}), and refuses: {reason}") from None


def check_hashable(value: Any, name: str) -> Any:
    """What can be looked up in a table: it has a hash, and equals itself."""
    try:
        fine = hash(value) is not None and bool(value == value)
    except Exception:
        fine = False
    if not fine:
        raise InputError(
            f"{name} is {quoted(value)}, which cannot tell groups apart; labels are strings, numbers, or anything "
            "hashable that equals itself"
        )
    return value


def check_path(value: Any, name: str = "path") -> str:
    """A path that a file can have, as text; what has `__fspath__` and bytes are paths, too."""
    try:
        path = os.fspath(value)
        path = os.fsdecode(path) if isinstance(path, bytes) else path
    except Exception:
        raise InputError(f"{name} must be a path, not {quoted(value)}") from None
    if not path.strip():
        raise InputError(f"{name} is {path!r}, and there is no file of that name; give the path of a folder")
    if "\0" in path:
        raise InputError(f"{name} is {quoted(path)}, and no file has a NUL character in its name; leave it out")
    try:
        os.fsencode(path)
    except UnicodeError:
        raise InputError(
            f"{name} is {quoted(path)}, which has characters that no file's name has here; use others"
        ) from None
    return str(path)


def as_list(value: Any, name: str, entries: str) -> list[Any]:
    """What can be gone through, as a list; `entries` says of what."""
    if isinstance(value, str | bytes | dict | set | frozenset) or not isinstance(value, Iterable):
        raise InputError(f"{name} must be a list with {entries}, not {kind_of(value)}")
    try:
        return list(value)
    except CircuitSketchError:
        raise
    except Exception as reason:
        raise InputError(f"{name} must be a list with {entries}, not {quoted(value)}: {reason}") from None
