"""The dtypes of wires: float64, int64 and bool, and what `astype` and `dtype=` may make of one another.

In: a wire or plain data and a dtype that NumPy would take. Out: the same values under another label, or a refusal. One
rule for all: floats are float64 and integers int64, whatever width is asked for, and nothing is rounded, truncated or
wrapped around to fit a narrower one. So float32 is accepted and stays float64; a cast that truncates (float to int) or
may wrap around (an integer to 8 or 16 bits, or to an unsigned one) is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.circuit import Label, Node
from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates import GATES

LABELS: dict[str, Label] = {"f": "float", "i": "int", "u": "int", "b": "bool"}
DTYPES: dict[Label, np.dtype[Any]] = {
    "float": np.dtype(np.float64),
    "int": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
RANK: dict[Label, int] = {"bool": 0, "int": 1, "float": 2}


def dtype_of(x: Any) -> np.dtype[Any]:
    """The dtype of a wire or of plain data."""
    if isinstance(x, Wire):
        return x.dtype
    try:
        return np.asarray(x).dtype
    except ValueError as reason:
        raise ShapeError(
            f"{user_place()} mixes a wire with a {type(x).__name__} that is not an array: {reason}"
        ) from None


def label_of(x: Any) -> Label:
    """float, int or bool of a wire or of plain real numbers."""
    return x.label if isinstance(x, Wire) else LABELS.get(dtype_of(x).kind, "float")


def is_truth(x: Any) -> bool:
    """Whether an operand is truth values, for which NumPy's + and * mean or and and."""
    return bool(dtype_of(x).kind == "b")


def truth(x: Any) -> Any:
    """Truth values of an operand: what is not zero is true."""
    return x if is_truth(x) else np.not_equal(x, 0)


def parse_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The dtype of a `dtype=` argument; TraceError where it is none, or not one of real numbers."""
    try:
        parsed = np.dtype(dtype)
    except (TypeError, ValueError) as reason:
        raise TraceError(f"{user_place()} calls {name} with dtype={dtype!r}: {reason}; use float") from None
    if parsed.kind not in LABELS:
        raise TraceError(
            f"{user_place()} calls {name} with dtype {parsed}; wires are float64, int64 or bool: use float"
        )
    return parsed


def asked_label(dtype: Any, name: str) -> Label:
    """The label that `dtype=` names for the result of arithmetic, which must not wrap around where NumPy's does."""
    parsed = parse_dtype(dtype, name)
    if parsed.kind == "u" or (parsed.kind == "i" and parsed.itemsize < 4):
        raise TraceError(
            f"{user_place()} calls {name} with dtype {parsed}, in which NumPy's results wrap around; "
            "integers of a circuit are int64: use dtype=int"
        )
    return LABELS[parsed.kind]


def relabel(x: Wire, label: Label) -> Wire:
    """The wire under a wider label: bool to int to float."""
    if x.label == label:
        return x
    assert RANK[x.label] < RANK[label]
    place = x.builder.place or user_place()
    return x.builder.append(Node(GATES["copy"], (x.index,), {}, x.shape, label, place))


def convert(x: Any, label: Label, name: str) -> Any:
    """A wire or plain numbers under another label, if no value changes; a truncation is refused."""
    own = label_of(x)
    if RANK[own] > RANK[label]:
        raise TraceError(
            f"{user_place()} calls {name} on {own} values with a dtype of kind {label}, which would truncate "
            "them; leave dtype= out, or compare with a number first (x > 0, x != 0)"
        )
    if isinstance(x, Wire):
        return relabel(x, label)
    return np.asarray(x).astype(DTYPES[label])


def cast(x: Wire, dtype: Any) -> Wire:
    """`astype`: truth values to integers to floats, and what is not zero to true."""
    parsed = parse_dtype(dtype, "astype")
    label = LABELS[parsed.kind]
    if label == x.label != "int":
        return x
    if label == "bool":
        return truth(x)
    if label == "int" and x.label == "float":
        raise TraceError(
            f"{user_place()} casts a {x.label} wire to {parsed}, which has no series; cast plain data instead"
        )
    if label == "int" and x.label == "int":
        asked_label(parsed, "astype")
    return relabel(x, label)


def astype(
    x: Wire, dtype: Any, *, order: Any = "K", casting: Any = "unsafe", subok: Any = True, copy: Any = True
) -> Wire:
    """The method `astype`."""
    if not np.can_cast(x.dtype, parse_dtype(dtype, "astype"), casting):
        raise TraceError(
            f"{user_place()} casts a {x.label} wire to {np.dtype(dtype)}, which casting={casting!r} forbids; leave "
            "casting= out"
        )
    return cast(x, dtype)
