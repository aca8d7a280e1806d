"""Dispatch NumPy functions to gates, by two tables: one of ufuncs and one of array functions.

In: a NumPy call with wires among its arguments. Out: wires. A function in neither table raises a TraceError with the
closest alternative. Products, reductions, indexing and rearranging have files of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.arrays import explain_lost_meaning
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import dtypes, einsum, joining, products, rearranging, reductions
from circuitsketch.frontends.numpy.dtypes import (
    LABELS,
    RANK,
    asked_label,
    cast,
    convert,
    dtype_of,
    is_truth,
    label_of,
    truth,
)
from circuitsketch.frontends.numpy.hints import advice
from circuitsketch.frontends.numpy.indexing import gather, get_item, take_along_axis
from circuitsketch.frontends.numpy.options import NO_VALUE, absent, call_rule, check_options, signature_of
from circuitsketch.frontends.numpy.powers import float_power, power
from circuitsketch.frontends.numpy.selecting import WRITERS, append, compress, delete, extract, insert
from circuitsketch.frontends.numpy.wire import RULES, WRITE_REMEDY, Wire, refused_update, stores_entries, user_place
from circuitsketch.gates import GATES

__all__ = ["FUNCTIONS", "SPECIAL", "UFUNCS", "call_function", "call_ufunc", "cast", "get_item"]


def logical_and(x: Any, y: Any) -> Any:
    """Compute np.logical_and by selections, which do not count as arithmetic."""
    return np.where(truth(x), truth(y), False)


def logical_or(x: Any, y: Any) -> Any:
    """Compute np.logical_or by selections, which do not count as arithmetic."""
    return np.where(truth(x), True, truth(y))


def logical_not(x: Any) -> Any:
    """Compute np.logical_not by a selection, which does not count as arithmetic."""
    return np.where(truth(x), False, True)


def booleans_only(ufunc: Callable[..., Any]) -> Callable[..., Any]:
    """Return a bitwise function restricted to booleans, where it equals the logical function."""

    def apply(*operands: Any) -> Any:
        if not all(is_truth(x) for x in operands):
            raise TraceError(
                f"{user_place()} uses bitwise operations on integers, for which there is no gate; compare them first"
            )
        return ufunc(*operands)

    return apply


def with_logical(gate: Any, logical: Callable[..., Any]) -> Callable[..., Any]:
    """Return a gate that on booleans is a logical function instead, as in NumPy."""
    return lambda x, y: logical(x, y) if is_truth(x) and is_truth(y) else gate(x, y)


LN2 = float(np.log(2.0))


UFUNCS: dict[Any, Callable[..., Any]] = {
    getattr(np, name): GATES[gate]
    for name, gate in {
        **{name: name for name in "subtract divide exp expm1 log log1p sin cos tanh sqrt square".split()},
        **{name: name for name in "sinh cosh arctan arcsin arccos arcsinh arccosh arctanh arctan2 hypot".split()},
        **{name: name for name in "reciprocal absolute greater greater_equal less less_equal".split()},
        **{name: name for name in "equal not_equal".split()},
        "negative": "negate",
        "true_divide": "divide",
    }.items()
}
UFUNCS |= {
    np.add: with_logical(GATES["add"], logical_or),
    np.multiply: with_logical(GATES["multiply"], logical_and),
    np.maximum: with_logical(GATES["maximum"], logical_or),
    np.minimum: with_logical(GATES["minimum"], logical_and),
    np.power: power,
    np.float_power: float_power,
    np.matmul: products.matmul,
    np.positive: lambda x: x,
    np.log2: lambda x: np.log(x) * (1.0 / np.log(2.0)),
    np.log10: lambda x: np.log(x) * (1.0 / np.log(10.0)),
    np.exp2: lambda x: power(2.0, x * 1.0),
    np.tan: lambda x: np.sin(x) / np.cos(x),
    np.fabs: GATES["absolute"],
    np.logical_and: logical_and,
    np.logical_or: logical_or,
    np.logical_not: logical_not,
    np.logical_xor: lambda x, y: np.not_equal(truth(x), truth(y)),
    np.bitwise_xor: booleans_only(np.not_equal),
    np.conjugate: lambda x: x,
    np.deg2rad: lambda x: x * (np.pi / 180.0),
    np.radians: lambda x: x * (np.pi / 180.0),
    np.rad2deg: lambda x: x * (180.0 / np.pi),
    np.degrees: lambda x: x * (180.0 / np.pi),
    np.bitwise_and: booleans_only(logical_and),
    np.bitwise_or: booleans_only(logical_or),
    np.invert: booleans_only(logical_not),
    np.logaddexp: GATES["logaddexp"],
    np.logaddexp2: lambda x, y: GATES["logaddexp"](x * LN2, y * LN2) * (1.0 / LN2),
}
# Some of NumPy's products of stacks are younger than the oldest NumPy that is supported.
UFUNCS |= {getattr(np, name): getattr(products, name) for name in ("vecdot", "matvec", "vecmat") if hasattr(np, name)}
# Of scipy.special, a slow import, which is there when one of its functions meets a wire.
SPECIAL: dict[str, Callable[..., Any]] = {
    **{name: GATES[name] for name in ("erf", "erfc", "gammaln", "log_ndtr", "logit")},
    "expit": GATES["sigmoid"],
    "psi": functools.partial(GATES["polygamma"], order=0),
}
REDUCTIONS: dict[Any, Callable[..., Any]] = {
    np.add: reductions.sum_,
    np.multiply: reductions.prod,
    np.maximum: reductions.max_,
    np.minimum: reductions.min_,
    np.logaddexp: reductions.logaddexp_reduce,
    np.logical_or: reductions.any_true,
    np.logical_and: reductions.all_true,
}


def call_ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply a NumPy ufunc that has a wire among its inputs."""
    name = numpy_name(ufunc)
    refuse_lost_meaning(name, inputs)
    if any(value is not None for value in kwargs.get("out", ())):
        if stores_entries() == "update":
            raise refused_update()
        raise TraceError(
            f"{user_place()} writes {name} in place (out=..., or += on an array). Wires are immutable: "
            "write x = x + y, or assign the result to a name"
        )
    options = {key: value for key, value in kwargs.items() if key != "out"}
    if method == "reduce" and ufunc in REDUCTIONS:
        rule = REDUCTIONS[ufunc]
        if "dtype" not in signature_of(rule).parameters and absent(options.get("dtype")):
            options.pop("dtype", None)
        return call_rule(f"{name}.reduce", rule, inputs, {"axis": 0, **options})
    if method == "outer" and len(inputs) == 2:
        one, two = inputs
        return ufunc(np.reshape(one, (*np.shape(one), *(1,) * np.ndim(two))), two, **options)
    if method == "at":
        raise TraceError(
            f"{user_place()} calls {name}.at, which writes into an array. {WRITE_REMEDY}. To add up by index, multiply "
            "by a one-hot matrix, (i == np.arange(n)[:, None]) @ x"
        )
    if method == "accumulate" and ufunc in SCANS:
        return call_rule(f"{name}.accumulate", functools.partial(reductions.accumulate, ufunc), inputs, options)
    if method != "__call__":
        raise TraceError(
            f"{user_place()} calls {name}.{method} on a wire, which has no gate; use np.sum, np.max or np.einsum"
        )
    function = UFUNCS.get(ufunc)
    if function is None and name.startswith("scipy.special."):
        function = SPECIAL.get(ufunc.__name__)
    if function is None:
        raise unknown_function(ufunc)
    check_options(name, options)
    own = {key: options.pop(key) for key in ("axis", "keepdims") if ufunc in CORES and key in options}
    allowed = {"dtype", "order", "casting", "subok", "axes", "signature", "sig"}
    if unknown := sorted(
        key for key, value in options.items() if key not in allowed and not (key == "where" and value is True)
    ):
        raise TraceError(f"{user_place()} calls {name} with {unknown}, which wires do not take; use np.where")
    return apply_with_dtype(ufunc, name, inputs, options.get("dtype"), lambda *xs: call_rule(name, function, xs, own))


# Associative functions, of which there are running totals.
SCANS = (np.add, np.multiply, np.maximum, np.minimum, np.logaddexp)
CORES = (getattr(np, "vecdot", None),)  # ufuncs of which a rule takes axis= and keepdims=
DIVIDE_INTEGERS = (np.reciprocal,)  # ufuncs that truncate on integers


def apply_with_dtype(ufunc: Any, name: str, inputs: tuple[Any, ...], dtype: Any, function: Callable[..., Any]) -> Any:
    """Apply a ufunc's rule to operands of the requested dtype; label the result as NumPy does.

    NumPy's own dtype resolution decides; combinations that it rejects (the difference of booleans) raise TraceError.
    """
    kinds = [type(x) if type(x) in (int, float) else dtype_of(x) for x in inputs]
    if any(isinstance(kind, np.dtype) and kind.kind not in LABELS for kind in kinds):
        return function(*inputs)
    label = None if absent(dtype) else asked_label(dtype, name)
    asked = {} if label is None else {"signature": (None,) * ufunc.nin + (np.dtype(dtype),)}
    try:
        *wanted, result = ufunc.resolve_dtypes((*kinds, None), **asked)
    except TypeError as reason:
        raise TraceError(
            f"{user_place()} calls {name} on {' and '.join(map(str, kinds))} values: {reason}; convert them with "
            "astype(float) first"
        ) from None
    if label is not None:
        inputs = tuple(convert(x, LABELS[kind.kind], name) for x, kind in zip(inputs, wanted, strict=True))
    if ufunc in DIVIDE_INTEGERS and LABELS.get(result.kind) == "int":
        raise TraceError(
            f"{user_place()} calls {name} on integers, for which NumPy truncates the quotient; write 1 / x, or convert "
            "with astype(float) first"
        )
    value = function(*inputs)
    expected = LABELS[result.kind]
    if isinstance(value, Wire) and value.label != expected:
        if expected == "int" and value.label == "float":
            raise TraceError(
                f"{user_place()} calls {name} on integers, where NumPy's result is an integer and a circuit's "
                "is a float; convert them with astype(float) first"
            )
        return truth(value) if RANK[expected] < RANK[value.label] else convert(value, expected, name)
    return value


def refuse_lost_meaning(name: str, operands: tuple[Any, ...]) -> None:
    """Raise TraceError for a masked array, a matrix or the like combined with a wire."""
    for operand in operands:
        if (reason := explain_lost_meaning(operand)) is not None:
            raise TraceError(f"{user_place()} calls {name} with a wire and {reason}")


def numpy_name(function: Any) -> str:
    """Return a function's name as users write it, such as np.exp."""
    if isinstance(function, np.ufunc):
        known = getattr(np, function.__name__, None) is function
        return f"np.{function.__name__}" if known else f"scipy.special.{function.__name__}"
    return f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)


def unknown_function(function: Any) -> TraceError:
    """Return the error for a function without a gate."""
    name = numpy_name(function)
    known = sorted({numpy_name(f) for f in (*UFUNCS, *FUNCTIONS)} | {f"scipy.special.{f}" for f in SPECIAL})
    return TraceError(f"{user_place()} calls {name} on a wire, for which there is no gate: {advice(name, known)}")


def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """np.where with three operands."""
    if x is None or y is None:
        raise TraceError(
            f"{user_place()} calls np.where with one argument, whose result depends on values; use np.where(test, a, b)"
        )
    return GATES["where"](condition, x, y)


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """np.select: the first choice whose condition is true."""
    conditions, choices = list(condlist), list(choicelist)
    if len(conditions) != len(choices) or not conditions:
        raise TraceError(
            f"{user_place()} calls np.select with {len(conditions)} conditions and {len(choices)} choices; "
            "pass the same number of both, at least one"
        )
    if not all(is_truth(condition) for condition in conditions):
        raise TraceError(f"{user_place()} calls np.select with a condition that is not boolean; compare first")
    label = max((label_of(x) for x in (*choices, default)), key=RANK.__getitem__)
    result = default
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = np.where(condition, choice, result)
    return convert(result, label, "np.select")


def clip(
    a: Any,
    a_min: Any = NO_VALUE,
    a_max: Any = NO_VALUE,
    out: Any = None,
    *,
    min: Any = NO_VALUE,
    max: Any = NO_VALUE,
    **kwargs: Any,
) -> Any:
    """np.clip; options of ufuncs are passed on."""
    if a_min is NO_VALUE and a_max is NO_VALUE:
        low, high = min, max
    elif a_min is NO_VALUE or a_max is NO_VALUE or not (min is NO_VALUE and max is NO_VALUE):
        raise TraceError(
            f"{user_place()} calls np.clip with only one of a_min and a_max, or with min= and max= as well; pass "
            "both of one pair, None for no bound"
        )
    else:
        low, high = a_min, a_max
    if absent(low) and absent(high):
        return np.positive(a, **kwargs)
    a = a if absent(low) else np.maximum(a, low, **kwargs)
    return a if absent(high) else np.minimum(a, high, **kwargs)


def fill(a: Any, value: Any, dtype: Any, shape: Any) -> Any:
    """Return plain data filled with one value, by default in a wire's shape and dtype."""
    return np.full(np.shape(a) if absent(shape) else shape, value, dtype=a.dtype if absent(dtype) else dtype)


def filled_like(value: float) -> Callable[..., Any]:
    """Return the rule of np.zeros_like or np.ones_like."""

    def fill_like(
        a: Any,
        dtype: Any = None,
        order: Any = "K",
        subok: Any = True,
        shape: Any = None,
        *,
        device: Any = None,
    ) -> Any:
        return fill(a, value, dtype, shape)

    return fill_like


def empty_like(
    prototype: Any,
    /,
    dtype: Any = None,
    order: Any = "K",
    subok: Any = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """np.empty_like, filled with zeros."""
    return fill(prototype, 0, dtype, shape)


def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: Any = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """np.full_like, also for a value that is a wire."""
    if not isinstance(fill_value, Wire):
        return fill(a, fill_value, dtype, shape)
    wanted = dtype_of(a) if absent(dtype) else dtype
    return np.broadcast_to(cast(fill_value, wanted), np.shape(a) if absent(shape) else shape)


def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """np.take."""
    return gather(a, indices, axis, out, mode)


def take_along(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    """np.take_along_axis."""
    return take_along_axis(arr, indices, axis)


def copy_of(a: Any, order: Any = "K", subok: bool = False) -> Any:
    """np.copy: the wire itself."""
    return a


def size(a: Any, axis: Any = None) -> int:
    """np.size."""
    return int(np.prod([a.shape[i] for i in reductions.axes_of(a, axis)], dtype=np.int64))


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """np.astype."""
    return cast(x, dtype)


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """np.can_cast with a wire's dtype."""
    one, two = plain_dtypes((from_, to))
    return bool(np.can_cast(one, two, casting))


def plain_dtypes(values: tuple[Any, ...]) -> list[Any]:
    """Replace wires by their dtypes, for NumPy's functions of dtypes."""
    return [x.dtype if isinstance(x, Wire) else x for x in values]


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: reductions.sum_,
    np.mean: reductions.mean,
    np.var: reductions.var,
    np.std: reductions.std,
    np.average: reductions.average,
    np.max: reductions.max_,
    np.min: reductions.min_,
    np.amax: reductions.max_,
    np.amin: reductions.min_,
    np.ptp: reductions.ptp,
    np.prod: reductions.prod,
    np.cumsum: reductions.running_sum,
    np.cumprod: reductions.running_product,
    np.any: reductions.any_true,
    np.all: reductions.all_true,
    np.count_nonzero: reductions.count_nonzero,
    np.linalg.norm: reductions.norm,
    np.linalg.vector_norm: reductions.vector_norm,
    np.linalg.matrix_norm: reductions.matrix_norm,
    np.trace: rearranging.trace_of,
    np.linalg.trace: rearranging.linalg_trace,
    np.reshape: rearranging.reshape,
    np.ravel: rearranging.ravel,
    np.transpose: rearranging.permute,
    np.matrix_transpose: rearranging.matrix_transpose,
    np.linalg.matrix_transpose: rearranging.matrix_transpose,
    np.swapaxes: rearranging.swapaxes,
    np.moveaxis: rearranging.moveaxis,
    np.rollaxis: rearranging.rollaxis,
    np.expand_dims: rearranging.expand_dims,
    np.squeeze: rearranging.squeeze,
    np.atleast_1d: rearranging.at_least(1),
    np.atleast_2d: rearranging.at_least(2),
    np.atleast_3d: rearranging.at_least(3),
    np.broadcast_to: rearranging.broadcast_to,
    np.broadcast_arrays: rearranging.broadcast_arrays,
    np.meshgrid: rearranging.meshgrid,
    np.concatenate: joining.concatenate_arrays,
    np.stack: joining.stack,
    np.hstack: joining.hstack,
    np.vstack: joining.vstack,
    np.dstack: joining.dstack,
    np.column_stack: joining.column_stack,
    np.append: append,
    np.split: joining.split,
    np.array_split: joining.array_split,
    np.hsplit: joining.split_along(1, 1, "np.hsplit"),
    np.vsplit: joining.split_along(0, 2, "np.vsplit"),
    np.dsplit: joining.split_along(2, 3, "np.dsplit"),
    np.pad: joining.pad_array,
    np.flip: rearranging.flip,
    np.flipud: rearranging.flip_along(0, "np.flipud"),
    np.fliplr: rearranging.flip_along(1, "np.fliplr"),
    np.rot90: rearranging.rot90,
    np.roll: joining.roll,
    np.repeat: joining.repeat,
    np.tile: joining.tile,
    np.tril: rearranging.triangle(np.tril),
    np.triu: rearranging.triangle(np.triu),
    np.diag: rearranging.diag,
    np.diagflat: rearranging.diagflat,
    np.diagonal: rearranging.diagonal,
    np.linalg.diagonal: rearranging.linalg_diagonal,
    np.diff: joining.diff,
    np.take: take,
    np.take_along_axis: take_along,
    np.compress: compress,
    np.extract: extract,
    np.delete: delete,
    np.insert: insert,
    np.where: where,
    np.select: select,
    np.clip: clip,
    np.dot: products.dot,
    np.vdot: products.vdot,
    np.inner: products.inner,
    np.outer: products.outer,
    np.linalg.outer: products.linalg_outer,
    np.linalg.matmul: products.linalg_matmul,
    np.linalg.vecdot: products.linalg_vecdot,
    np.tensordot: products.tensordot,
    np.linalg.tensordot: products.linalg_tensordot,
    np.linalg.multi_dot: products.multi_dot,
    np.kron: products.kron,
    np.cross: products.cross,
    np.linalg.cross: products.linalg_cross,
    np.einsum: einsum.einsum,
    np.zeros_like: filled_like(0),
    np.empty_like: empty_like,
    np.ones_like: filled_like(1),
    np.full_like: full_like,
    np.copy: copy_of,
    np.real: lambda val: val,
    np.imag: lambda val: np.zeros(val.shape, val.dtype),
    np.isrealobj: lambda x: True,
    np.iscomplexobj: lambda x: False,
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: size,
    np.result_type: lambda *arrays_and_dtypes: np.result_type(*plain_dtypes(arrays_and_dtypes)),
    np.can_cast: can_cast,
}
# Functions that are younger than the oldest NumPy that is supported.
FUNCTIONS |= {
    getattr(np, name): rule
    for name, rule in {
        "astype": astype,
        "unstack": joining.unstack,
        "cumulative_sum": reductions.cumulative_sum,
        "cumulative_prod": reductions.cumulative_product,
    }.items()
    if hasattr(np, name)
}


def call_function(function: Any, args: Any, kwargs: Any) -> Any:
    """Apply a NumPy array function that has a wire among its arguments."""
    if function in WRITERS:
        raise TraceError(f"{user_place()} calls {numpy_name(function)}, which writes into an array. {WRITE_REMEDY}")
    if function not in FUNCTIONS:
        raise unknown_function(function)
    refuse_lost_meaning(numpy_name(function), (*args, *kwargs.values()))
    return call_rule(numpy_name(function), FUNCTIONS[function], args, kwargs)


def change_dtype(x: Wire, dtype: Any, **options: Any) -> Wire:
    """The method `astype` of a wire."""
    result: Wire = call_rule("astype", dtypes.astype, (x, dtype), options)
    return result


RULES.ufunc, RULES.function, RULES.item, RULES.astype = call_ufunc, call_function, get_item, change_dtype
