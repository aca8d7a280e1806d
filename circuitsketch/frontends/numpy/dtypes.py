"""The dtypes of wires, float64, int64 and bool, and conversions between them by `astype` and `dtype=`.

In: a wire or plain data and a NumPy dtype. Out: the same values under another label, or a TraceError. Floats are always
float64 and integers int64, whatever width is requested; nothing is rounded, truncated or wrapped to a narrower type. So
float32 is accepted and stays float64; a cast that truncates (float to int) or may wrap around (to 8 or 16 bits, or to
unsigned integers) raises an error.
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
    """Return the dtype of a wire or of plain data."""
    if isinstance(x, Wire):
        return x.dtype
    try:
        return np.asarray(x).dtype
    except ValueError as reason:
        raise ShapeError(
            f"{user_place()} mixes a wire with a {type(x).__name__} that is not an array: {reason}"
        ) from None


def label_of(x: Any) -> Label:
    """Return the label (float, int or bool) of a wire or of plain real numbers."""
    return x.label if isinstance(x, Wire) else LABELS.get(dtype_of(x).kind, "float")


def is_truth(x: Any) -> bool:
    """Return whether an operand is boolean; for booleans NumPy's + and * mean or and and."""
    return bool(dtype_of(x).kind == "b")


def truth(x: Any) -> Any:
    """Convert an operand to booleans: nonzero values are true."""
    return x if is_truth(x) else np.not_equal(x, 0)


def parse_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """Parse a `dtype=` argument; raise TraceError if it is invalid or not a dtype of real numbers."""
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
    """Return the label that `dtype=` requests for an arithmetic result; raise TraceError if the dtype can overflow."""
    parsed = parse_dtype(dtype, name)
    if parsed.kind == "u" or (parsed.kind == "i" and parsed.itemsize < 4):
        raise TraceError(
            f"{user_place()} calls {name} with dtype {parsed}, in which NumPy's results wrap around; "
            "integers of a circuit are int64: use dtype=int"
        )
    return LABELS[parsed.kind]


def relabel(x: Wire, label: Label) -> Wire:
    """Convert a wire to a wider label: bool to int to float."""
    if x.label == label:
        return x
    assert RANK[x.label] < RANK[label]
    return x.builder.append(Node(GATES["copy"], (x.index,), {}, x.shape, label, user_place()))


def convert(x: Any, label: Label, name: str) -> Any:
    """Convert a wire or plain numbers to another label; raise TraceError if that would truncate."""
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
    """Cast a wire as `astype` does: booleans to integers to floats, and nonzero values to true."""
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
    """Cast a wire, for the method `astype`, after checking `casting=`."""
    if not np.can_cast(x.dtype, parse_dtype(dtype, "astype"), casting):
        raise TraceError(
            f"{user_place()} casts a {x.label} wire to {np.dtype(dtype)}, which casting={casting!r} forbids; leave "
            "casting= out"
        )
    return cast(x, dtype)
