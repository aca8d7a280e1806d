"""The table of array functions: for each of NumPy's functions, the rule that builds it from gates.

In: NumPy's arguments, by NumPy's names and in its order. Out: wires. Products, reductions, running totals, norms,
indexing and rearranging have files of their own; the short rules are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import einsum, joining, norms, products, rearranging, reductions, scans
from circuitsketch.frontends.numpy.dtypes import RANK, cast, convert, dtype_of, is_truth, label_of
from circuitsketch.frontends.numpy.indexing import gather, take_along_axis
from circuitsketch.frontends.numpy.options import NO_VALUE, absent
from circuitsketch.frontends.numpy.selecting import append, compress, delete, extract, insert
from circuitsketch.frontends.numpy.wire import Wire, user_place
from circuitsketch.gates import GATES

__all__ = ["FUNCTIONS"]


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
    value = cast(fill_value, dtype_of(a) if absent(dtype) else dtype)
    return np.broadcast_to(value, np.shape(a) if absent(shape) else shape)


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
    np.cumsum: scans.running_sum,
    np.cumprod: scans.running_product,
    np.any: reductions.any_true,
    np.all: reductions.all_true,
    np.count_nonzero: reductions.count_nonzero,
    np.linalg.norm: norms.norm,
    np.linalg.vector_norm: norms.vector_norm,
    np.linalg.matrix_norm: norms.matrix_norm,
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
# Functions that are newer than the oldest supported NumPy.
FUNCTIONS |= {
    getattr(np, name): rule
    for name, rule in {
        "astype": astype,
        "unstack": joining.unstack,
        "cumulative_sum": scans.cumulative_sum,
        "cumulative_prod": scans.cumulative_product,
    }.items()
    if hasattr(np, name)
}
