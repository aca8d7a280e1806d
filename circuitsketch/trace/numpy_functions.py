"""Which NumPy function becomes which gates: two tables, one of ufuncs and one of array functions.

In: a NumPy call with wires among its arguments. Out: wires. Every function that is not in a table is refused with the
nearest thing that would work. Products, reductions, indexing and rearranging are told in files of their own.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.circuit import Label, Node
from circuitsketch.errors import TraceError
from circuitsketch.gates import GATES
from circuitsketch.trace import products, rearranging, reductions
from circuitsketch.trace.indexing import gather, get_item, take_along_axis
from circuitsketch.trace.selecting import WRITERS, append, compress, delete, extract, insert
from circuitsketch.trace.wire import WRITE_REMEDY, Wire, refused_update, stores_entries, user_place

__all__ = ["FUNCTIONS", "SPECIAL", "UFUNCS", "call_function", "call_ufunc", "cast", "get_item"]

LARGEST_POWER = 1 << 20  # by squaring, a whole power costs two products a binary digit


def whole_power(x: Any, exponent: int) -> Any:
    """x^n by squaring, a product of few factors."""
    if exponent < 0:
        return GATES["reciprocal"](whole_power(x, -exponent))
    if exponent == 0:
        return x.builder.lift(np.ones(x.shape))
    if exponent == 1:
        return x
    half = GATES["square"](whole_power(x, exponent // 2))
    return half * x if exponent % 2 else half


def power(x: Any, exponent: Any) -> Any:
    """x ** exponent; a constant exponent is one gate, or products if it is whole; else exp(exponent * log(x))."""
    if isinstance(exponent, Wire):
        return wire_power(x, exponent)
    if np.ndim(exponent):
        return power_by_array(x, np.asarray(exponent, dtype=np.float64))
    number = float(exponent)
    if number.is_integer() and abs(number) <= LARGEST_POWER:
        return whole_power(x, int(number))
    if special_case := {0.5: "sqrt", -0.5: "rsqrt"}.get(number):
        return GATES[special_case](x)
    return GATES["power"](x, exponent=number)


def power_by_array(x: Any, exponents: np.ndarray) -> Any:
    """x ** exponents: whole ones each by products, chosen by place, so that a negative base is no harm."""
    if not np.all(exponents == np.round(exponents)):
        return GATES["exp"](exponents * GATES["log"](x))
    found: Any = np.ones(np.broadcast_shapes(x.shape, exponents.shape))
    for number in np.unique(exponents[exponents != 0]):
        found = np.where(exponents == number, power(x, number), found)
    return found if isinstance(found, Wire) else x.builder.lift(found)


def wire_power(x: Any, exponent: Wire) -> Any:
    """x ** exponent with an exponent known at run time, of a base that is not negative."""
    if isinstance(x, Wire):
        return GATES["exp"](exponent * GATES["log"](x))
    if np.any(np.asarray(x) < 0):
        raise TraceError(
            f"{user_place()} raises a negative number to a wire, which is no real number but for whole "
            "exponents; raise to a plain exponent"
        )
    zero = np.asarray(x) == 0
    found = GATES["exp"](exponent * np.log(np.where(zero, 1.0, x)))
    return np.where(zero, np.where(np.equal(exponent, 0.0), 1.0, 0.0), found) if np.any(zero) else found


def is_truth(x: Any) -> bool:
    """Whether an operand is truth values, for which NumPy's + and * mean or and and."""
    return bool((x.dtype if isinstance(x, Wire) else np.asarray(x).dtype).kind == "b")


def truth(x: Any) -> Any:
    """Truth values of an operand: what is not zero is true."""
    return x if is_truth(x) else np.not_equal(x, 0)


def logical_and(x: Any, y: Any) -> Any:
    """Choices, which are no arithmetic."""
    return np.where(truth(x), truth(y), False)


def logical_or(x: Any, y: Any) -> Any:
    """Choices, which are no arithmetic."""
    return np.where(truth(x), True, truth(y))


def logical_not(x: Any) -> Any:
    """A choice, which is no arithmetic."""
    return np.where(truth(x), False, True)


def on_truth(ufunc: Callable[..., Any]) -> Callable[..., Any]:
    """A bitwise function: of truth values only, where it is the logical one."""

    def apply(*operands: Any) -> Any:
        if not all(is_truth(x) for x in operands):
            raise TraceError(
                f"{user_place()} combines bits of whole numbers, which no gate does; compare them first"
            )
        return ufunc(*operands)

    return apply


def or_logical(gate: Any, logical: Callable[..., Any]) -> Callable[..., Any]:
    """A gate that on truth values alone is a logical function, as in NumPy."""
    return lambda x, y: logical(x, y) if is_truth(x) and is_truth(y) else gate(x, y)


UFUNCS: dict[Any, Callable[..., Any]] = {
    getattr(np, name): GATES[gate]
    for name, gate in {
        **{name: name for name in "subtract divide exp expm1 log log1p sin cos tanh sqrt square".split()},
        **{name: name for name in "reciprocal absolute greater greater_equal less less_equal".split()},
        **{name: name for name in "equal not_equal".split()},
        "negative": "negate",
        "true_divide": "divide",
    }.items()
}
UFUNCS |= {
    np.add: or_logical(GATES["add"], logical_or),
    np.multiply: or_logical(GATES["multiply"], logical_and),
    np.maximum: or_logical(GATES["maximum"], logical_or),
    np.minimum: or_logical(GATES["minimum"], logical_and),
    np.power: power,
    np.float_power: power,
    np.matmul: products.matmul,
    np.positive: lambda x: x,
    np.log2: lambda x: np.log(x) * (1.0 / np.log(2.0)),
    np.log10: lambda x: np.log(x) * (1.0 / np.log(10.0)),
    np.exp2: lambda x: np.exp(x * np.log(2.0)),
    np.tan: lambda x: np.sin(x) / np.cos(x),
    np.cosh: lambda x: 0.5 * (np.exp(x) + np.exp(-x)),
    np.sinh: lambda x: 0.5 * (np.expm1(x) - np.expm1(-x)),
    np.fabs: GATES["absolute"],
    np.logical_and: logical_and,
    np.logical_or: logical_or,
    np.logical_not: logical_not,
    np.bitwise_and: on_truth(logical_and),
    np.bitwise_or: on_truth(logical_or),
    np.invert: on_truth(logical_not),
    np.logaddexp: lambda x, y: y + GATES["softplus"](x - y),
}
# Of scipy.special, a slow import, which is there when one of its functions meets a wire.
SPECIAL: dict[str, Callable[..., Any]] = {"erf": GATES["erf"], "expit": GATES["sigmoid"]}
REDUCTIONS: dict[Any, Callable[..., Any]] = {
    np.add: reductions.total,
    np.multiply: reductions.product,
    np.maximum: reductions.top,
    np.minimum: reductions.bottom,
}
NO_SERIES = (
    "floor ceil rint trunc round sign mod remainder floor_divide fmod heaviside isnan isfinite isinf "
    "argmax argmin argsort"
).split()


def call_ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A NumPy ufunc with a wire among its inputs."""
    name = called(ufunc)
    if any(value is not None for value in kwargs.get("out", ())):
        if stores_entries() == "update":
            raise refused_update()
        raise TraceError(
            f"{user_place()} writes {name} in place (out=..., or += on an array). Wires never change: "
            "write x = x + y, or assign the result to a name"
        )
    options = {key: value for key, value in kwargs.items() if key not in ("out", "dtype", "casting")}
    if method == "reduce" and ufunc in REDUCTIONS:
        return REDUCTIONS[ufunc](*inputs, **{"axis": 0, **options})
    if method == "at":
        raise TraceError(
            f"{user_place()} calls {name}.at, which writes into an array. {WRITE_REMEDY}. To add up by index, multiply "
            "by a one-hot matrix, (i == np.arange(n)[:, None]) @ x"
        )
    if method != "__call__":
        raise TraceError(
            f"{user_place()} calls {name}.{method} on a wire, which has no gate; use np.sum, np.max or "
            "np.einsum"
        )
    if unknown := sorted(key for key, value in options.items() if value is not None and value is not True):
        raise TraceError(f"{user_place()} calls {name} with {unknown}, which wires do not take; use np.where")
    function = UFUNCS.get(ufunc)
    if function is None and name.startswith("scipy.special."):
        function = SPECIAL.get(ufunc.__name__)
    if function is None:
        raise unknown_function(ufunc)
    return function(*inputs)


def called(function: Any) -> str:
    """A function's name as a user writes it."""
    if isinstance(function, np.ufunc):
        known = getattr(np, function.__name__, None) is function
        return f"np.{function.__name__}" if known else f"scipy.special.{function.__name__}"
    return f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)


def unknown_function(function: Any) -> TraceError:
    """The refusal of a function without a gate."""
    if function.__name__ in NO_SERIES:
        hint = "it is locally constant and has no Taylor series; compute it on plain data, or use np.where"
    else:
        known = sorted({f.__name__ for f in (*UFUNCS, *FUNCTIONS)} | set(SPECIAL))
        near = difflib.get_close_matches(function.__name__, known, n=3, cutoff=0.6)
        hint = "build it from + - * / exp log np.where and einsum"
        hint += f" (near it: {', '.join('np.' + n for n in near)})" if near else ""
    return TraceError(
        f"{user_place()} calls {called(function)} on a wire, for which there is no gate: {hint}"
    )


def where(test: Any, x: Any = None, y: Any = None) -> Any:
    """np.where of three operands."""
    if x is None or y is None:
        raise TraceError(
            f"{user_place()} asks np.where for positions, which depend on values; use np.where(test, a, b)"
        )
    return GATES["where"](test, x, y)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """np.clip."""
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def filled(value: float) -> Callable[..., Any]:
    """np.zeros_like and its kin: plain data of a wire's shape and dtype."""

    def fill(x: Any, dtype: Any = None, order: Any = None, subok: Any = None, shape: Any = None) -> Any:
        return np.full(
            np.shape(x) if shape is None else shape, value, dtype=x.dtype if dtype is None else dtype
        )

    return fill


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """np.full_like, of one value that may be a wire."""
    if isinstance(fill_value, Wire):
        return np.broadcast_to(fill_value, np.shape(x))
    return np.full(np.shape(x), fill_value, dtype=x.dtype if dtype is None else dtype)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: reductions.total,
    np.mean: reductions.mean,
    np.var: reductions.variance,
    np.std: reductions.deviation,
    np.max: reductions.top,
    np.min: reductions.bottom,
    np.amax: reductions.top,
    np.amin: reductions.bottom,
    np.prod: reductions.product,
    np.linalg.norm: reductions.norm,
    np.trace: lambda x: reductions.total(rearranging.diagonal(x)),
    np.reshape: rearranging.to_shape,
    np.ravel: rearranging.ravel,
    np.transpose: rearranging.permute,
    np.swapaxes: rearranging.swapaxes,
    np.moveaxis: rearranging.moveaxis,
    np.expand_dims: rearranging.expand_dims,
    np.squeeze: rearranging.squeeze,
    np.atleast_1d: rearranging.at_least(1),
    np.atleast_2d: rearranging.at_least(2),
    np.broadcast_to: rearranging.broadcast_to,
    np.concatenate: rearranging.join,
    np.stack: rearranging.stack,
    np.hstack: rearranging.hstack,
    np.vstack: rearranging.vstack,
    np.split: rearranging.split,
    np.pad: rearranging.pad_with,
    np.flip: rearranging.flip,
    np.roll: rearranging.roll,
    np.repeat: rearranging.repeat,
    np.tile: rearranging.tile,
    np.tril: rearranging.masked(np.tril),
    np.triu: rearranging.masked(np.triu),
    np.diag: rearranging.diag,
    np.diagonal: rearranging.diagonal,
    np.diff: rearranging.difference,
    np.take: gather,
    np.take_along_axis: take_along_axis,
    np.compress: compress,
    np.extract: extract,
    np.delete: delete,
    np.insert: insert,
    np.append: append,
    np.where: where,
    np.clip: clip,
    np.dot: products.dot,
    np.vdot: products.vdot,
    np.inner: products.inner,
    np.outer: products.outer,
    np.tensordot: products.tensordot,
    np.einsum: products.einsum,
    np.zeros_like: filled(0),
    np.empty_like: filled(0),
    np.ones_like: filled(1),
    np.full_like: full_like,
    np.copy: lambda x: x,
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: x.size if axis is None else x.shape[axis],
    np.result_type: lambda *xs: np.result_type(*(x.dtype if isinstance(x, Wire) else x for x in xs)),
}


def call_function(function: Any, args: Any, kwargs: Any) -> Any:
    """A NumPy array function with a wire among its arguments."""
    if function in WRITERS:
        raise TraceError(f"{user_place()} calls {called(function)}, which writes into an array. {WRITE_REMEDY}")
    if function not in FUNCTIONS:
        raise unknown_function(function)
    rule = FUNCTIONS[function]
    try:
        inspect.signature(rule).bind(*args, **kwargs)
    except TypeError as reason:
        raise TraceError(
            f"{user_place()} calls {called(function)} in a form that wires do not take ({reason}); leave "
            "the option out"
        ) from None
    return rule(*args, **kwargs)


def cast(x: Wire, dtype: np.dtype[Any]) -> Wire:
    """A change of label: truth values to whole numbers to floats, and what is not zero to true."""
    label: Label | None = {"f": "float", "i": "int", "u": "int", "b": "bool"}.get(dtype.kind)  # type: ignore[assignment]
    if label == x.label:
        return x
    if label == "bool":
        return truth(x)
    if label is None or x.label == "float":
        raise TraceError(
            f"{user_place()} casts a {x.label} wire to {dtype}, which has no series; cast plain data instead"
        )
    return x.builder.append(Node(GATES["copy"], (x.index,), {}, x.shape, label, user_place()))
