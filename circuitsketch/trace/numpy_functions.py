"""Which NumPy function becomes which gates: two tables, one of ufuncs and one of array functions.

In: a NumPy call with wires among its arguments. Out: wires. Every function that is not in a table is refused with the
nearest thing that would work.
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from circuitsketch.circuit import Node
from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.gates import GATES, Shape, cells
from circuitsketch.gates.contraction import einsum as contract
from circuitsketch.gates.movement import broadcast, concatenate, pad, reshape, sum_over, take, take_slice, transpose
from circuitsketch.trace.wire import Wire, user_place


def whole_power(x: Any, exponent: int) -> Any:
    """x^n by squaring, a product of few factors."""
    if exponent < 0:
        return GATES["reciprocal"](whole_power(x, -exponent))
    if exponent == 0:
        return 0.0 * x + 1.0
    if exponent == 1:
        return x
    half = GATES["square"](whole_power(x, exponent // 2))
    return half * x if exponent % 2 else half


def power(x: Any, exponent: Any) -> Any:
    """x ** exponent; a constant exponent is one gate, or products if it is whole; else exp(exponent * log(x))."""
    if isinstance(exponent, Wire):
        return GATES["exp"](exponent * (GATES["log"](x) if isinstance(x, Wire) else np.log(x)))
    if np.ndim(exponent):
        raise TraceError(f"{user_place()} raises to an array of exponents; write np.exp(exponents * np.log(x))")
    number = float(exponent)
    if number == int(number) and abs(number) <= 64:
        return whole_power(x, int(number))
    special_case = {0.5: "sqrt", -0.5: "rsqrt"}.get(number)
    return GATES[special_case](x) if special_case else GATES["power"](x, exponent=number)


def logical(name: str) -> Callable[..., Any]:
    """and, or, not of truth values as arithmetic on 0 and 1."""

    def apply(*operands: Any) -> Any:
        x = 1.0 * operands[0]
        y = 1.0 * operands[1] if len(operands) > 1 else None
        result = {"and": lambda: x * y, "or": lambda: x + y - x * y, "not": lambda: 1.0 - x}[name]()
        return result > 0.5

    return apply


def matmul(a: Any, b: Any) -> Any:
    """a @ b with NumPy's rules for stacks and vectors."""
    left, right = np.ndim(a), np.ndim(b)
    if left == 0 or right == 0:
        raise ShapeError(f"{user_place()}: matmul needs arrays, not scalars; use *")
    i, k, j = "i" if left > 1 else "", "k", "j" if right > 1 else ""
    stacks = string.ascii_uppercase
    lead_a = stacks[max(left, right) - left : max(left, right) - 2] if left > 2 else ""
    lead_b = stacks[max(left, right) - right : max(left, right) - 2] if right > 2 else ""
    lead = lead_a if len(lead_a) >= len(lead_b) else lead_b
    return einsum(f"{lead_a}{i}{k},{lead_b}{k}{j}->{lead}{i}{j}", a, b)


def dot(a: Any, b: Any) -> Any:
    """np.dot: a product of scalars, vectors and matrices."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if np.ndim(b) == 1:
        return tensordot(a, b, axes=([-1], [0]))
    return tensordot(a, b, axes=([-1], [-2]))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """np.tensordot."""
    if isinstance(axes, int):
        axes = (list(range(np.ndim(a) - axes, np.ndim(a))), list(range(axes)))
    left, right = ([axis] if isinstance(axis, int) else list(axis) for axis in axes)
    letters = iter(string.ascii_letters)
    one = [next(letters) for _ in range(np.ndim(a))]
    two = [next(letters) for _ in range(np.ndim(b))]
    for x, y in zip(left, right, strict=True):
        two[y] = one[x]
    summed = {one[x] for x in left}
    result = [letter for letter in one + two if letter not in summed]
    return einsum(f"{''.join(one)},{''.join(two)}->{''.join(result)}", a, b)


def outer(a: Any, b: Any) -> Any:
    """np.outer."""
    return einsum("i,j->ij", np.reshape(a, -1), np.reshape(b, -1))


def einsum(spec: str, *operands: Any, **options: Any) -> Any:
    """np.einsum, of any number of operands, as contractions of two."""
    if not isinstance(spec, str):
        raise TraceError(f"{user_place()}: write einsum with a subscript string such as 'ij,jk->ik'")
    spec = spec.replace(" ", "")
    if "..." in spec:
        raise TraceError(f"{user_place()}: einsum {spec!r} uses an ellipsis; name the axes instead")
    inputs, arrow, result = spec.partition("->")
    letters = inputs.split(",")
    if len(letters) != len(operands):
        raise ShapeError(f"{user_place()}: einsum {spec!r} names {len(letters)} operands and gets {len(operands)}")
    if not arrow:
        joined = "".join(letters)
        result = "".join(sorted(letter for letter in set(joined) if joined.count(letter) == 1))
    terms = list(zip(letters, operands, strict=True))
    for named, operand in terms:
        if len(set(named)) != len(named):
            raise TraceError(f"{user_place()}: einsum {spec!r} takes a diagonal; multiply by np.eye and sum instead")
        if len(named) != np.ndim(operand):
            raise ShapeError(f"{user_place()}: einsum {spec!r} names {len(named)} axes of shape {np.shape(operand)}")
    while len(terms) > 1:
        (one, a), (two, b) = terms[0], terms[1]
        others = set(result).union(*(set(named) for named, _ in terms[2:]))
        one, a = drop(one, a, others | set(two))
        two, b = drop(two, b, others | set(one))
        one, a, two, b = stretch(one, a, two, b)
        kept = "".join(dict.fromkeys(letter for letter in one + two if letter in others))
        last = kept if len(terms) > 2 else result
        terms[:2] = [(last, contract(a, b, spec=f"{one},{two}->{last}"))]
    named, value = drop(*terms[0], set(result))
    order = tuple(named.index(letter) for letter in result)
    return value if order == tuple(range(len(order))) else transpose(value, axes=order)


def drop(named: str, value: Any, keep: set[str]) -> tuple[str, Any]:
    """Sum over the axes that nothing else reads."""
    axes = tuple(i for i, letter in enumerate(named) if letter not in keep)
    if not axes:
        return named, value
    return "".join(letter for letter in named if letter in keep), np.sum(value, axis=axes)


def stretch(one: str, a: Any, two: str, b: Any) -> tuple[str, Any, str, Any]:
    """Drop axes of extent 1 that the other operand has longer: einsum broadcasts them."""
    shape = dict(zip(one, np.shape(a), strict=True)), dict(zip(two, np.shape(b), strict=True))
    thin_a = [x for x in one if shape[0][x] == 1 and shape[1].get(x, 1) != 1]
    thin_b = [x for x in two if shape[1][x] == 1 and shape[0].get(x, 1) != 1]
    for letter in thin_a:
        a, one = np.squeeze(a, axis=one.index(letter)), one.replace(letter, "")
    for letter in thin_b:
        b, two = np.squeeze(b, axis=two.index(letter)), two.replace(letter, "")
    return one, a, two, b


UFUNCS: dict[Any, Callable[..., Any]] = {
    getattr(np, name): GATES[gate]
    for name, gate in {
        **{name: name for name in "add subtract multiply divide exp expm1 log log1p sin cos tanh sqrt square".split()},
        **{name: name for name in "reciprocal maximum minimum absolute greater greater_equal less less_equal".split()},
        **{name: name for name in "equal not_equal".split()},
        "negative": "negate",
        "true_divide": "divide",
    }.items()
}
UFUNCS |= {
    np.power: power,
    np.float_power: power,
    np.matmul: matmul,
    np.positive: lambda x: x,
    np.log2: lambda x: np.log(x) * (1.0 / np.log(2.0)),
    np.log10: lambda x: np.log(x) * (1.0 / np.log(10.0)),
    np.exp2: lambda x: np.exp(x * np.log(2.0)),
    np.tan: lambda x: np.sin(x) / np.cos(x),
    np.cosh: lambda x: 0.5 * (np.exp(x) + np.exp(-x)),
    np.sinh: lambda x: 0.5 * (np.expm1(x) - np.expm1(-x)),
    np.fabs: GATES["absolute"],
    np.logical_and: logical("and"),
    np.logical_or: logical("or"),
    np.logical_not: logical("not"),
    np.bitwise_and: logical("and"),
    np.bitwise_or: logical("or"),
    np.invert: logical("not"),
    np.logaddexp: lambda x, y: y + GATES["softplus"](x - y),
    special.erf: GATES["erf"],
    special.expit: GATES["sigmoid"],
}
NO_SERIES = "floor ceil rint trunc round sign mod remainder floor_divide fmod heaviside isnan isfinite isinf".split()


def call_ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A NumPy ufunc with a wire among its inputs."""
    if any(value is not None for value in kwargs.get("out", ())):
        raise TraceError(
            f"{user_place()} writes np.{ufunc.__name__} in place (out=...). Wires never change: assign the result to a name"
        )
    if method == "reduce" and ufunc in (np.add, np.maximum):
        reduce = total if ufunc is np.add else top
        return reduce(inputs[0], axis=kwargs.get("axis", 0), keepdims=kwargs.get("keepdims", False))
    if method != "__call__":
        raise TraceError(f"{user_place()} calls np.{ufunc.__name__}.{method} on a wire, which has no gate; use a function")
    unknown = {key for key, value in kwargs.items() if key not in ("out", "dtype", "casting") and value is not None}
    if unknown:
        raise TraceError(f"{user_place()} calls np.{ufunc.__name__} with {sorted(unknown)}, which wires do not take")
    if ufunc not in UFUNCS:
        raise unknown_function(ufunc.__name__, [f.__name__ for f in UFUNCS])
    return UFUNCS[ufunc](*inputs)


def unknown_function(name: str, known: list[str]) -> TraceError:
    """The refusal of a function without a gate."""
    if name in NO_SERIES:
        hint = "it is locally constant and has no Taylor series; compute it on plain data, or use np.where"
    else:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"near it are {', '.join('np.' + n for n in near)}" if near else "build it from + - * / exp log and einsum"
    return TraceError(f"{user_place()} calls np.{name} on a wire, for which there is no gate: {hint}")


def axes_of(x: Any, axis: Any) -> tuple[int, ...]:
    """An axis argument as a tuple of non-negative axes."""
    if axis is None:
        return tuple(range(np.ndim(x)))
    chosen = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    if any(not -np.ndim(x) <= a < np.ndim(x) for a in chosen):
        raise ShapeError(f"{user_place()}: axis {axis} does not exist in an array of shape {np.shape(x)}")
    return tuple(sorted(int(a) % np.ndim(x) for a in chosen))


def kept_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape with reduced axes kept at extent 1."""
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))


def total(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """np.sum."""
    refuse_options("sum", out=out, **options)
    axes = axes_of(x, axis)
    if x.label == "bool":
        x = 1.0 * x
    found = sum_over(x, axes=axes) if axes else x
    return reshape(found, shape=kept_shape(x.shape, axes)) if keepdims and axes else found


def mean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """np.mean: the sum over the number of entries."""
    refuse_options("mean", out=out, **options)
    count = cells(tuple(x.shape[a] for a in axes_of(x, axis)))
    if count == 0:
        raise ShapeError(f"{user_place()}: the mean over an empty axis of shape {x.shape} does not exist")
    return total(x, axis=axis, keepdims=keepdims) * (1.0 / count)


def variance(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, keepdims: Any = False) -> Any:
    """np.var."""
    refuse_options("var", out=out)
    centred = x - mean(x, axis=axis, keepdims=True)
    count = cells(tuple(x.shape[a] for a in axes_of(x, axis)))
    return total(np.square(centred), axis=axis, keepdims=keepdims) * (1.0 / (count - ddof))


def top(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """np.max, as a tree of `maximum` gates, so that it has the derivative of the entry it picks."""
    return extremum(GATES["maximum"], x, axis, out, keepdims, options)


def bottom(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """np.min, as a tree of `minimum` gates."""
    return extremum(GATES["minimum"], x, axis, out, keepdims, options)


def extremum(gate: Any, x: Any, axis: Any, out: Any, keepdims: Any, options: dict[str, Any]) -> Any:
    """Halve the reduced axes, brought together at the end, until one entry is left."""
    refuse_options(gate.name, out=out, **options)
    axes = axes_of(x, axis)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    shape = tuple(x.shape[a] for a in kept)
    rows = np.reshape(np.transpose(x, kept + axes), (*shape, -1))
    if rows.shape[-1] == 0:
        raise ShapeError(f"{user_place()}: the {gate.name} over an empty axis of shape {x.shape} does not exist")
    while rows.shape[-1] > 1:
        half = rows.shape[-1] // 2
        paired = gate(rows[..., :half], rows[..., half : 2 * half])
        rows = paired if rows.shape[-1] % 2 == 0 else np.concatenate([paired, rows[..., 2 * half :]], axis=-1)
    return np.reshape(rows, kept_shape(x.shape, axes) if keepdims else shape)


def refuse_options(name: str, **options: Any) -> None:
    """Options of a NumPy function that a circuit cannot honour."""
    for key, value in options.items():
        if value is not None and value is not np._NoValue:  # type: ignore[attr-defined]
            raise TraceError(f"{user_place()} calls np.{name} with {key}=, which wires do not take; leave it out")


def to_shape(x: Any, shape: Any, order: str = "C", **options: Any) -> Any:
    """np.reshape, one extent of -1 allowed."""
    if order != "C":
        raise TraceError(f"{user_place()} reshapes in order {order!r}; circuits are in C order: transpose first")
    wanted = [int(n) for n in ((shape,) if isinstance(shape, int | np.integer) else shape)]
    if wanted.count(-1) == 1:
        known = cells(tuple(n for n in wanted if n != -1))
        if known == 0 or x.size % known:
            raise ShapeError(f"{user_place()}: an array of shape {x.shape} cannot be reshaped to {tuple(wanted)}")
        wanted[wanted.index(-1)] = x.size // known
    return x if tuple(wanted) == x.shape else reshape(x, shape=tuple(wanted))


def permute(x: Any, axes: Any = None) -> Any:
    """np.transpose."""
    order = tuple(reversed(range(x.ndim))) if axes is None else tuple(int(a) % max(x.ndim, 1) for a in axes)
    return x if order == tuple(range(x.ndim)) else transpose(x, axes=order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """np.swapaxes."""
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return permute(x, order)


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """np.moveaxis of one axis."""
    order = [axis for axis in range(x.ndim) if axis != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return permute(x, order)


def expand_dims(x: Any, axis: Any) -> Any:
    """np.expand_dims."""
    new = (axis,) if isinstance(axis, int) else tuple(axis)
    rank = x.ndim + len(new)
    rest = iter(x.shape)
    positions = {a % rank for a in new}
    return to_shape(x, tuple(1 if i in positions else next(rest) for i in range(rank)))


def squeeze(x: Any, axis: Any = None) -> Any:
    """np.squeeze."""
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else axes_of(x, axis)
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(f"{user_place()}: axes {axes} of shape {x.shape} are not all of extent 1")
    return to_shape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def broadcast_to(x: Any, shape: Any) -> Any:
    """np.broadcast_to."""
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    return x if wanted == x.shape else broadcast(x, shape=wanted)


def first_wire(values: Any) -> Any:
    """A wire among the values, whose builder lifts the others."""
    return next(value for value in values if isinstance(value, Wire))


def join(arrays: Any, axis: int = 0, **options: Any) -> Any:
    """np.concatenate."""
    refuse_options("concatenate", **{k: v for k, v in options.items() if k != "casting"})
    build = first_wire(arrays).builder
    wires = [build.lift(array) for array in arrays]
    if axis is None:
        wires, axis = [np.reshape(wire, -1) for wire in wires], 0
    return concatenate(*wires, axis=axis % wires[0].ndim) if len(wires) > 1 else wires[0]


def stack(arrays: Any, axis: int = 0, **options: Any) -> Any:
    """np.stack: new axes, then concatenate."""
    build = first_wire(arrays).builder
    wires = [build.lift(array) for array in arrays]
    position = axis % (wires[0].ndim + 1)
    return join([expand_dims(wire, position) for wire in wires], axis=position)


def pad_with(x: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    """np.pad with a constant."""
    if mode != "constant":
        raise TraceError(f"{user_place()} pads in mode {mode!r}; wires are padded with a constant only: concatenate slices")
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    starts = tuple(int(before) for before, _ in widths)
    shape = tuple(int(before) + n + int(after) for n, (before, after) in zip(x.shape, widths, strict=True))
    found = pad(x, starts=starts, steps=(1,) * x.ndim, shape=shape)
    value = options.get("constant_values", 0)
    if np.ndim(value) or isinstance(value, Wire):
        raise TraceError(f"{user_place()} pads with several values; pad once for each")
    if value:
        outside = np.pad(np.zeros(x.shape), widths, constant_values=1.0)
        found = found + float(value) * outside
    return found


def gather(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """np.take at run-time or constant indices."""
    refuse_options("take", out=out)
    build = x.builder if isinstance(x, Wire) else indices.builder
    x, indices = build.lift(x), build.lift(indices)
    if axis is None:
        x, axis = np.reshape(x, -1), 0
    if indices.label != "int":
        raise TraceError(f"{user_place()} takes at indices of dtype {indices.dtype}; indices must be integers")
    (axis,) = axes_of(x, axis)
    if indices.node.gate.name == "constant":
        values = indices.node.params["value"]
        if np.any(values < -x.shape[axis]) or np.any(values >= x.shape[axis]):
            raise ShapeError(f"{user_place()}: an index of np.take leaves axis {axis} of shape {x.shape}")
        indices = build.constant(np.where(values < 0, values + x.shape[axis], values).astype(np.int64))
    return take(x, indices, axis=axis)


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    """np.take_along_axis, as one gather from the flattened array."""
    build = x.builder if isinstance(x, Wire) else indices.builder
    x, indices = build.lift(x), build.lift(indices)
    position = axis % x.ndim
    flat = 0
    for a, extent in enumerate(x.shape):
        if indices.shape[a] not in (extent,) and a != position:
            raise ShapeError(
                f"{user_place()}: take_along_axis of shapes {x.shape} and {indices.shape}; give the index every axis in full"
            )
        along = np.arange(extent).reshape([-1 if i == a else 1 for i in range(x.ndim)])
        flat = flat * extent + (indices if a == position else along)
    return take(np.reshape(x, -1), flat, axis=0)


def where(test: Any, x: Any = None, y: Any = None) -> Any:
    """np.where of three operands."""
    if x is None or y is None:
        raise TraceError(f"{user_place()} asks np.where for positions, which depend on values; use np.where(test, a, b)")
    return GATES["where"](test, x, y)


def clip(x: Any, a_min: Any = None, a_max: Any = None, **options: Any) -> Any:
    """np.clip."""
    low = a_min if a_min is not None else options.get("min")
    high = a_max if a_max is not None else options.get("max")
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def filled(value: float) -> Callable[..., Any]:
    """np.zeros_like and its kin: plain data of a wire's shape."""
    return lambda x, **options: np.full(np.shape(x), value)


def split_array(x: Any, sections: Any, axis: int = 0) -> list[Any]:
    """np.split."""
    extent = x.shape[axis]
    if isinstance(sections, int | np.integer):
        if extent % int(sections):
            raise ShapeError(f"{user_place()}: an axis of {extent} does not split into {sections} equal parts")
        ends = list(range(0, extent + 1, extent // int(sections)))
    else:
        ends = [0, *(int(s) for s in sections), extent]
    lead = (slice(None),) * (axis % x.ndim)
    return [x[(*lead, slice(a, b))] for a, b in zip(ends[:-1], ends[1:], strict=True)]


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """np.linalg.norm, Euclidean."""
    if ord not in (None, 2, "fro"):
        raise TraceError(f"{user_place()}: only the Euclidean norm has a gate, not ord={ord}")
    return np.sqrt(total(np.square(x), axis=axis, keepdims=keepdims))


def trace_of(x: Any) -> Any:
    """np.trace."""
    return total(x * np.eye(*x.shape))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: total,
    np.mean: mean,
    np.var: variance,
    np.std: lambda x, **options: np.sqrt(variance(x, **options)),
    np.max: top,
    np.min: bottom,
    np.amax: top,
    np.amin: bottom,
    np.reshape: to_shape,
    np.ravel: lambda x, order="C": to_shape(x, -1, order),
    np.transpose: permute,
    np.swapaxes: swapaxes,
    np.moveaxis: moveaxis,
    np.expand_dims: expand_dims,
    np.squeeze: squeeze,
    np.broadcast_to: broadcast_to,
    np.concatenate: join,
    np.stack: stack,
    np.hstack: lambda xs: join(xs, axis=0 if np.ndim(xs[0]) == 1 else 1),
    np.vstack: lambda xs: join([np.reshape(x, (1, -1)) if np.ndim(x) == 1 else x for x in xs], axis=0),
    np.split: split_array,
    np.pad: pad_with,
    np.take: gather,
    np.take_along_axis: take_along_axis,
    np.where: where,
    np.clip: clip,
    np.dot: dot,
    np.vdot: lambda a, b: dot(np.reshape(a, -1), np.reshape(b, -1)),
    np.inner: lambda a, b: tensordot(a, b, axes=([-1], [-1])) if np.ndim(a) and np.ndim(b) else a * b,
    np.outer: outer,
    np.tensordot: tensordot,
    np.einsum: einsum,
    np.linalg.norm: norm,
    np.trace: trace_of,
    np.zeros_like: filled(0.0),
    np.ones_like: filled(1.0),
    np.full_like: lambda x, value, **options: np.full(x.shape, float(value)),
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: x.size if axis is None else x.shape[axis],
    np.flip: lambda x, axis=None: get_item(
        x, tuple(slice(None, None, -1) if a in axes_of(x, axis) else slice(None) for a in range(x.ndim))
    ),
    np.result_type: lambda *xs: np.dtype(np.float64),
    np.square: GATES["square"],
}


def call_function(function: Any, args: Any, kwargs: Any) -> Any:
    """A NumPy array function with a wire among its arguments."""
    if function not in FUNCTIONS:
        raise unknown_function(function.__name__, [f.__name__ for f in FUNCTIONS])
    return FUNCTIONS[function](*args, **kwargs)


def cast(x: Wire, dtype: np.dtype[Any]) -> Wire:
    """A change of label; a float wire cannot become whole."""
    label = {"f": "float", "i": "int", "u": "int", "b": "bool"}.get(dtype.kind)
    if label == x.label:
        return x
    if label != "float":
        raise TraceError(f"{user_place()} casts a {x.label} wire to {dtype}, which has no series; cast plain data instead")
    gate = GATES["copy"]
    return x.builder.append(Node(gate, (x.index,), {}, x.shape, "float", user_place()))


def get_item(x: Wire, index: Any) -> Any:
    """Basic indexing by slices, integers, None and ellipsis; one integer array or wire becomes a gather."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [e for e in entries if isinstance(e, type(Ellipsis))]:
        at = next(i for i, e in enumerate(entries) if e is Ellipsis)
        missing = x.ndim - sum(1 for e in entries if e is not None and e is not Ellipsis)
        entries[at : at + 1] = [slice(None)] * missing
    entries += [slice(None)] * (x.ndim - sum(1 for e in entries if e is not None))
    if sum(1 for e in entries if e is not None) > x.ndim:
        raise ShapeError(f"{user_place()}: {len(entries)} indices for an array of shape {x.shape}")
    gathers = [e for e in entries if isinstance(e, Wire | np.ndarray | list)]
    if gathers:
        return gather_item(x, entries)
    starts, steps, shape, final = [], [], [], []
    axis = 0
    for entry in entries:
        if entry is None:
            final.append(1)
            continue
        extent = x.shape[axis]
        if isinstance(entry, slice):
            if any(isinstance(bound, Wire) for bound in (entry.start, entry.stop, entry.step)):
                raise TraceError(f"{user_place()} slices by a wire: a circuit's shapes are fixed; gather with np.take")
            start, stop, step = entry.indices(extent)
            count = len(range(start, stop, step))
            final.append(count)
        elif isinstance(entry, int | np.integer) and not isinstance(entry, bool | np.bool_):
            start, step, count = int(entry) + (extent if entry < 0 else 0), 1, 1
            if not 0 <= start < extent:
                raise IndexError(f"{user_place()}: index {entry} leaves axis {axis} of an array of shape {x.shape}")
        else:
            raise TraceError(
                f"{user_place()} indexes a wire by {type(entry).__name__}; wires take integers, slices, None, ... and "
                "integer arrays; for a mask use np.where"
            )
        starts.append(start if count else 0)
        steps.append(step)
        shape.append(count)
        axis += 1
    found: Any = x
    if tuple(shape) != x.shape or any(step != 1 for step in steps):
        found = take_slice(x, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))
    return to_shape(found, tuple(final))


def gather_item(x: Wire, entries: list[Any]) -> Any:
    """x[i] and x[:, i] with an array of integers: a gather; x[rows, columns] with two: a gather of the flat array."""
    arrays = [(i, e) for i, e in enumerate(entries) if isinstance(e, Wire | np.ndarray | list)]
    for _, entry in arrays:
        kind = entry.dtype.kind if not isinstance(entry, list) else np.asarray(entry).dtype.kind
        if kind == "b":
            raise TraceError(f"{user_place()} indexes a wire by a mask, whose count is no fixed shape; use np.where")
    plain = all(isinstance(e, slice) and e == slice(None) for i, e in enumerate(entries) if i not in dict(arrays))
    if len(arrays) == 1 and plain:
        at, entry = arrays[0]
        return gather(x, entry if isinstance(entry, Wire) else np.asarray(entry), axis=at)
    if len(arrays) == len(entries) == x.ndim:
        flat: Any = 0
        for extent, (_, entry) in zip(x.shape, arrays, strict=True):
            flat = flat * extent + (entry if isinstance(entry, Wire) else np.asarray(entry))
        return gather(np.reshape(x, -1), flat, axis=0)
    raise TraceError(f"{user_place()} mixes arrays and slices in one index; take one axis at a time with np.take")
