"""Rules of products, sums, extrema and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.gates.movement import cumsum
from circuitsketch.gates.selection import max_constant

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np


def axes_of(dim: Any) -> Any:
    """Return an argument `dim` as NumPy's `axis`; an empty list means all axes."""
    if dim is None or dim == []:
        return None
    return tuple(dim) if isinstance(dim, list | tuple) else dim


def reduce_by(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rule of a reduction over `dim`."""
    return lambda x, dim=None, keepdim=False, **options: function(x, axis=axes_of(dim), keepdims=keepdim)


def shifted(x: Any, dim: Any) -> tuple[Any, Any]:
    """Return x without its maximum, which is held constant, and the maximum."""
    axes = (dim,) if isinstance(dim, int) else dim or range(np.ndim(x))
    top = max_constant(x, axes=tuple(sorted(axis % max(np.ndim(x), 1) for axis in axes)))
    return x - top, top


def softmax(x: Any, dim: int, half_to_float: bool = False, dtype: Any = None) -> Any:
    """Return the softmax."""
    if not np.ndim(x):
        return 0.0 * x + 1.0
    e = np.exp(shifted(x, dim)[0])
    return e / np.sum(e, axis=dim, keepdims=True)


def log_softmax(x: Any, dim: int, half_to_float: bool = False) -> Any:
    """Return the logarithm of the softmax."""
    if not np.ndim(x):
        return 0.0 * x
    y = shifted(x, dim)[0]
    return y - np.log(np.sum(np.exp(y), axis=dim, keepdims=True))


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """Return the logarithm of a sum of exponentials."""
    y, top = shifted(x, dim)
    total = np.log(np.sum(np.exp(y), axis=axes_of(dim), keepdims=True)) + top
    return total if keepdim else numpy.squeeze(total, axis=axes_of(dim))


def variance(x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    """Return the variance."""
    return np.var(x, axis=axes_of(dim), ddof=1 if correction is None else correction, keepdims=keepdim)


def variance_and_mean(x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> tuple[Any, Any]:
    """Return the variance and the mean."""
    return variance(x, dim, correction, keepdim), np.mean(x, axis=axes_of(dim), keepdims=keepdim)


def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, **options: Any) -> Any:
    """Return the norm of order 1, 2 or infinity."""
    axes = axes_of(dim)
    if ord == 2:
        return np.sqrt(np.sum(x * x, axis=axes, keepdims=keepdim))
    if ord == 1:
        return np.sum(np.abs(x), axis=axes, keepdims=keepdim)
    if ord == float("inf"):
        return np.max(np.abs(x), axis=axes, keepdims=keepdim)
    raise TraceError(
        f"{user_place()} takes a norm of order {ord}; there are gates for those of order 1, 2 and infinity"
    )


def scaled_sum(beta: Any, x: Any, alpha: Any, y: Any) -> Any:
    """Return beta x + alpha y."""
    return (x if beta == 1 else beta * x) + (y if alpha == 1 else alpha * y)


REDUCING: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "matmul"), np.matmul),
    **dict.fromkeys(
        ("addmm", "baddbmm", "addmv"),
        lambda b, x, y, beta=1, alpha=1: scaled_sum(beta, b, alpha, np.matmul(x, y)),
    ),
    "sum": reduce_by(np.sum),
    "mean": reduce_by(np.mean),
    "prod": reduce_by(np.prod),
    "amax": reduce_by(np.max),
    "amin": reduce_by(np.min),
    "aten.max.default": lambda x: np.max(x),
    "aten.min.default": lambda x: np.min(x),
    "any": reduce_by(OPERATIONS["any"]),
    "all": reduce_by(OPERATIONS["all"]),
    "var": variance,
    "var_mean": variance_and_mean,
    "linalg_vector_norm": vector_norm,
    "_softmax": softmax,
    "_safe_softmax": softmax,
    "_log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "cumsum": lambda x, dim, dtype=None: cumsum(x, axis=dim % x.ndim),
    "cumprod": lambda x, dim, dtype=None: OPERATIONS["cumprod"](x, axis=dim),
}
