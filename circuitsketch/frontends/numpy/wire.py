"""Wires, the values of a traced function: a wire behaves like an array and records every gate applied to it.

In: gates applied to wires, arrays and numbers. Out: nodes in the `Builder` that the wires belong to. Which NumPy
function becomes which gates is in `dispatch`; what a wire cannot do is refused here, with an alternative.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Literal

import numpy as np
import scipy
from numpy.lib.mixins import NDArrayOperatorsMixin

from circuitsketch.arrays import explain_lost_meaning, explain_unrepresentable
from circuitsketch.circuit import CONSTANT, INPUT, NOWHERE, Circuit, Label, Node, Place
from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy.hints import HINTS
from circuitsketch.frontends.numpy.methods import ArrayMethods, remedy_for
from circuitsketch.gates import Gate, Shape
from circuitsketch.gates.arithmetic import copy
from circuitsketch.gates.digest import Use, current_version, use_of
from circuitsketch.gates.gate import is_built_in
from circuitsketch.gates.movement import broadcast

PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ZOO = os.path.join(PACKAGE, "zoo") + os.sep
LIBRARIES = tuple(os.path.dirname(os.path.abspath(str(package.__file__))) + os.sep for package in (np, scipy))
# Files of the package whose functions are named in messages together with the user's line that calls them.
NAMED = {
    os.path.join(PACKAGE, "functions.py"): "cs",
    **{os.path.join(PACKAGE, "optim", f"{name}.py"): "cs.optim" for name in ("rules", "schedules", "regularisation")},
}
MASKED = os.path.join(LIBRARIES[0], "ma") + os.sep
# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np
# The builders of the active traces, the innermost last.
ACTIVE: ContextVar[tuple[Builder, ...]] = ContextVar("ACTIVE", default=())
# The line that gates and errors name instead of the current one, set by `located`.
LOCATED: ContextVar[Place | None] = ContextVar("LOCATED", default=None)


class MissingAttributeError(TraceError, AttributeError):
    """Wires lack an attribute of arrays; also an AttributeError, so that `hasattr` is false."""


class OtherTraceError(TraceError):
    """Wires of two traces are combined; `builders` are the two traces."""

    def __init__(self, message: str, *builders: Builder) -> None:
        super().__init__(message)
        self.builders = builders

    @property
    def enclosing(self) -> Builder | None:
        """The innermost active trace of the two, in which the computation can be recorded instead."""
        return next((build for build in reversed(ACTIVE.get()) if build in self.builders), None)


def is_users(file: str) -> bool:
    """Return whether a file belongs neither to this package (except its zoo) nor to NumPy or SciPy."""
    internal = file.startswith(PACKAGE + os.sep) and not file.startswith(ZOO)
    return not internal and not file.startswith(LIBRARIES) and not file.startswith("<__array")


def user_frame() -> FrameType | None:
    """Return the innermost frame of the user's program."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


@contextmanager
def located(place: Place) -> Iterator[None]:
    """Name this line of the user's program in the gates that are recorded here and in errors, not the current one.

    For derivatives, which name the line of their gate, and for front ends whose user's program is not on the stack.
    """
    outer = LOCATED.set(place)
    try:
        yield
    finally:
        LOCATED.reset(outer)


def user_place() -> Place:
    """Return the current line of the user's program, and the function of this package that it calls."""
    if (place := LOCATED.get()) is not None:
        return place
    frame: FrameType | None = sys._getframe(1)
    through = ""
    while frame is not None and not is_users(file := frame.f_code.co_filename):
        if file in NAMED and frame.f_code.co_name.isidentifier():
            through = f"{NAMED[file]}.{frame.f_code.co_name}"
        frame = frame.f_back
    return NOWHERE if frame is None else Place(frame.f_code.co_filename, frame.f_lineno, through)


# The remedy for writing into elements of an array.
WRITE_REMEDY = (
    "Wires are immutable, and plain arrays cannot hold wires: collect the parts in a list and join them with np.stack "
    "or np.concatenate, or select by position with np.where(mask, new, old)"
)


def stores_entries() -> Literal["", "write", "update"]:
    """Return whether the user's line writes elements, x[i] = y, or updates them in place, x[i] += y."""
    import dis

    frame = user_frame()
    if frame is None:
        return ""
    code = [i for i in dis.get_instructions(frame.f_code) if i.opname != "CACHE"]
    current = max((n for n, i in enumerate(code) if i.offset <= frame.f_lasti), default=0)
    stores = ("STORE_SUBSCR", "STORE_SLICE")
    if code[current].opname in stores:
        return "write"
    after = (i.opname for i in code[current + 1 :] if i.opname != "SWAP")
    return "update" if code[current].opname.startswith("BINARY_OP") and next(after, "") in stores else ""


def refused_write() -> TraceError:
    """Return the error for x[i] = y where x is a plain array, and the index or y contains a wire."""
    return TraceError(f"{user_place()} writes a wire into a plain array. {WRITE_REMEDY}")


def refused_update() -> TraceError:
    """Return the error for x[i] += y, where x is an array or contains arrays."""
    return TraceError(
        f"{user_place()} updates x[i] in place. {WRITE_REMEDY}. Where x is a list or a dict of arrays, write "
        "x[i] = x[i] + y"
    )


def asked_by_library() -> str | None:
    """Return why a NumPy or SciPy function on the stack below the user's line fails on a wire, or None."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith((*LIBRARIES, "<__array")):
        if frame.f_code.co_filename.startswith(MASKED):
            return "computes with a wire and a masked array, whose mask would be lost; use x.filled(0.0)"
        if (hint := HINTS.get(frame.f_code.co_name)) is not None:
            return f"calls {frame.f_code.co_name} on a wire, for which there is no gate: {hint}"
        frame = frame.f_back
    return None


class Rules:
    """The rules for NumPy's calls on wires. They use wires themselves, so `dispatch` sets them."""

    ufunc: Callable[..., Any]  # (ufunc, method, inputs, options)
    function: Callable[..., Any]  # (function, args, options)
    item: Callable[..., Any]  # (wire, index)
    astype: Callable[..., Any]  # (wire, dtype, **options)


RULES = Rules()


class Builder:
    """Collects the nodes of a circuit while a function is traced."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[tuple[Any, ...], Wire] = {}
        self.look: Callable[[Place], None] | None = None  # called where new plain data meets a wire
        self.gates: dict[tuple[Gate, Use], Gate] = {}  # custom gates, as they are defined during this trace

    def append(self, node: Node) -> Wire:
        """Add a node and return its wire."""
        self.nodes.append(node)
        return Wire(self, len(self.nodes) - 1)

    def input(self, shape: Shape, label: Label = "float") -> Wire:
        """Add an input and return its wire."""
        return self.append(Node(INPUT, (), {"shape": tuple(shape)}, tuple(shape), label))

    def constant(self, value: Any) -> Wire:
        """Return the wire of plain data; equal data share one wire."""
        if (reason := explain_lost_meaning(value)) is not None:
            raise TraceError(f"{user_place()} mixes a wire with {reason}")
        array = np.asarray(value)
        if (reason := explain_unrepresentable(array)) is not None:
            raise TraceError(f"{user_place()} mixes a wire with data that {reason}")
        if array.dtype == object or array.dtype.kind not in "fiub":
            raise TraceError(
                f"{user_place()} mixes a wire with {type(value).__name__} data of dtype {array.dtype}; "
                "circuits compute on real numbers: convert it to a float or integer array first"
            )
        label: Label = {"f": "float", "b": "bool"}.get(array.dtype.kind, "int")  # type: ignore[assignment]
        array = np.array(array, dtype=np.float64, order="C")
        array.setflags(write=False)
        key = (label, array.shape, hashlib.blake2b(array.data, digest_size=32).digest())
        if key not in self.constants:
            if self.look is not None:
                self.look(user_place())
            node = Node(CONSTANT, (), {"value": array}, array.shape, label, user_place())
            self.constants[key] = self.append(node)
        return self.constants[key]

    def finish(
        self,
        inputs: Sequence[Wire],
        outputs: Sequence[Wire],
        input_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
        in_tree: Any = None,
        out_tree: Any = None,
    ) -> Circuit:
        """Return the circuit of all recorded nodes, with these inputs and outputs."""
        return Circuit(
            nodes=tuple(self.nodes),
            inputs=tuple(wire.index for wire in inputs),
            outputs=tuple(wire.index for wire in outputs),
            input_names=tuple(input_names),
            in_tree=in_tree,
            out_tree=out_tree,
            output_names=tuple(output_names),
        )

    def append_copy(self, value: Any) -> Wire:
        """Add a copy of a wire or data, with respect to which a derivative can be taken."""
        wire = self.lift(value)
        return self.append(Node(copy, (wire.index,), {}, wire.shape, wire.label, user_place()))

    def lift(self, value: Any) -> Wire:
        """Return a wire of this builder, from a wire or from plain data."""
        if isinstance(value, Wire):
            if value.builder is not self:
                raise OtherTraceError(
                    f"{user_place()} uses a wire of another trace; pass it in as an argument of the traced function",
                    self,
                    value.builder,
                )
            return value
        return self.constant(value)

    def apply(self, gate: Gate, operands: tuple[Any, ...], params: dict[str, Any]) -> Wire:
        """Add a gate on wires or data; elementwise operands are broadcast to one shape first."""
        wires = [self.lift(operand) for operand in operands]
        place = user_place()
        if gate.kind == "elementwise":
            wires = self.broadcast_operands(gate, wires, place)
        try:
            shape = gate.shape(*(wire.shape for wire in wires), **params)
        except ShapeError as reason:
            raise ShapeError(f"{place}: {reason}") from None
        label = result_label(gate, wires)
        if not is_built_in(gate):
            use = gate, use_of(len(wires), params)
            gate = self.gates.setdefault(use, self.gates.get(use) or current_version(gate, len(wires), params))
        return self.append(Node(gate, tuple(wire.index for wire in wires), params, shape, label, place))

    def broadcast_operands(self, gate: Gate, wires: list[Wire], place: Place) -> list[Wire]:
        """Broadcast wires to their common shape, or raise ShapeError."""
        shapes = [wire.shape for wire in wires]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            listed = " and ".join(str(s) for s in shapes)
            raise ShapeError(
                f"{place}: {gate.name}: operands could not be broadcast together with shapes {listed}"
            ) from None
        return [wire if wire.shape == shape else broadcast(wire, shape=shape) for wire in wires]


def result_label(gate: Gate, wires: list[Wire]) -> Label:
    """Integers stay integers under + - * and movement; analytic gates make floats."""
    if gate.result != "same":
        return gate.result
    labels = {wires[i].label for i in (range(len(wires)) if gate.labels is None else gate.labels)}
    if "float" in labels:
        return "float"
    return "bool" if gate.keeps_bool and "int" not in labels else "int"


class Wire(ArrayMethods, NDArrayOperatorsMixin):
    """One value of a circuit under construction, with the interface of a NumPy array."""

    __slots__ = ("builder", "index")

    def __init__(self, builder: Builder, index: int) -> None:
        self.builder = builder
        self.index = index

    @property
    def node(self) -> Node:
        """The node that computes this wire."""
        return self.builder.nodes[self.index]

    @property
    def shape(self) -> Shape:
        """The array's shape."""
        return self.node.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        raise TraceError(f"{user_place()} assigns to .shape of a wire. Wires are immutable: write x = x.reshape(...)")

    @property
    def label(self) -> Label:
        """The kind of values: float, int or bool."""
        return self.node.label

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype: float64, int64 or bool."""
        return np.dtype({"float": np.float64, "int": np.int64, "bool": np.bool_}[self.label])

    def bind_gate(self, gate: Gate, operands: tuple[Any, ...], params: dict[str, Any]) -> Wire:
        """Apply a gate: called by the gate itself when one of its operands is a wire."""
        return self.builder.apply(gate, operands, params)

    # NumPy's protocols, and what arrays do by syntax: `dispatch` has the tables.
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return RULES.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return RULES.function(function, args, kwargs)

    def change_dtype(self, dtype: Any, **options: Any) -> Wire:
        """Convert the wire to another label, for `astype`."""
        return RULES.astype(self, dtype, **options)

    def __copy__(self) -> Wire:
        return self

    def __deepcopy__(self, memo: Any) -> Wire:
        return self

    def __getitem__(self, index: Any) -> Wire:
        if (reason := explain_lost_meaning(index)) is not None:
            raise TraceError(f"{user_place()} indexes a wire by {reason}")
        return RULES.item(self, index)

    def __len__(self) -> int:
        if not self.shape:
            raise TraceError(f"{user_place()} takes the length of a wire of shape (), or iterates over it")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # Operations that a circuit does not support.
    def __bool__(self) -> bool:
        raise TraceError(
            f"{user_place()} uses a wire as a condition. A circuit has no branches: use np.where(test, a, "
            "b), or decide on plain data before tracing"
        )

    def refuse_number(self, what: str) -> TraceError:
        """Return the error for float(wire) and similar conversions, including writes into a plain array."""
        if stores_entries():
            return refused_write()
        return TraceError(
            f"{user_place()} requests the {what} of a wire. A wire has no value during tracing: "
            "keep computing with it (np.exp, not math.exp), build arrays of wires with np.stack, or take "
            "the number from the data before tracing"
        )

    def __float__(self) -> float:
        raise self.refuse_number("value as a float")

    def __int__(self) -> int:
        raise self.refuse_number("value as an int")

    def __complex__(self) -> complex:
        raise self.refuse_number("value as a complex number")

    def __round__(self, digits: int | None = None) -> Any:
        raise self.refuse_number("value rounded")

    def __format__(self, spec: str) -> str:
        if spec:
            raise self.refuse_number(f"value as text ({spec!r})")
        return repr(self)

    def __index__(self) -> int:
        raise TraceError(
            f"{user_place()} uses a wire as an index of plain data or as a count. Gather with cs.take(array, "
            "wire, axis=0); take counts from the shapes of arrays"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        if (library := asked_by_library()) is not None:
            raise TraceError(f"{user_place()} {library}")
        if stores_entries():
            raise refused_write()
        gather = {
            "int": "To gather from plain data with a wire of indices, use cs.take(data, wire, axis=0): wires cannot "
            "intercept data[wire]. ",
            "bool": "To select from plain data by a wire of booleans, use np.where(wire, data, other). ",
            "float": "",
        }[self.label]
        raise TraceError(
            f"{user_place()} converts a wire to a NumPy array. {gather}Build arrays of wires with np.stack or "
            "np.concatenate; a function that requires concrete numbers cannot be traced"
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TraceError(f"{user_place()} writes into a wire. {WRITE_REMEDY}")

    def __delitem__(self, index: Any) -> None:
        raise TraceError(f"{user_place()} deletes elements of a wire. Wires are immutable: use np.delete")

    def refuse_in_place(self, other: Any) -> Wire:
        """Raise TraceError for `x += y` on wires, which on arrays would be an in-place write."""
        if stores_entries() == "update":
            raise refused_update()
        raise TraceError(
            f"{user_place()} updates a wire in place. Wires are immutable: write x = x + y instead of x += y"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = refuse_in_place  # type: ignore[assignment]
    __ipow__ = __imatmul__ = __iand__ = __ior__ = __ixor__ = refuse_in_place  # type: ignore[assignment]

    def __hash__(self) -> int:
        return hash((id(self.builder), self.index))

    def __getattr__(self, name: str) -> Any:
        raise MissingAttributeError(
            f"{user_place()} uses attribute {name!r} of a wire, which wires do not have; {remedy_for(name)}"
        )

    def __repr__(self) -> str:
        return f"<Wire {self.index} {self.label}{list(self.shape)} from {self.node.gate.name}>"
