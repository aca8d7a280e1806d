"""The table of ufuncs: for each, a gate or a composition of gates.

`UFUNCS` has NumPy's ufuncs, `SPECIAL` those of scipy.special, `REDUCTIONS` the methods `reduce`. `dispatch` calls them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import products, reductions
from circuitsketch.frontends.numpy.dtypes import is_truth, truth
from circuitsketch.frontends.numpy.powers import float_power, power
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.gates import GATES

__all__ = ["CORES", "DIVIDE_INTEGERS", "REDUCTIONS", "SCANS", "SPECIAL", "UFUNCS"]


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
# Some of NumPy's products of stacks are newer than the oldest supported NumPy.
UFUNCS |= {getattr(np, name): getattr(products, name) for name in ("vecdot", "matvec", "vecmat") if hasattr(np, name)}
# By name, because the import of scipy.special is slow; it is imported already when a wire meets one of its ufuncs.
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
# Associative ufuncs, with the method `accumulate`.
SCANS = (np.add, np.multiply, np.maximum, np.minimum, np.logaddexp)
CORES = (getattr(np, "vecdot", None),)  # ufuncs whose rules take axis= and keepdims=
DIVIDE_INTEGERS = (np.reciprocal,)  # ufuncs that truncate on integers
