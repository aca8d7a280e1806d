"""The table of operations: a function of wires or arrays for each name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.frontends.numpy.dtypes import relabel
from circuitsketch.frontends.numpy.powers import integer_power, power
from circuitsketch.frontends.numpy.scans import accumulate
from circuitsketch.frontends.numpy.ufuncs import logical_and, logical_not, logical_or
from circuitsketch.frontends.operations import elementwise, indexing, moving, windows
from circuitsketch.gates import GATES

__all__ = ["OPERATIONS"]

# By the name of their gate, where it differs.
GATE_NAMES = {
    **{name: name for name in "add subtract multiply divide reciprocal square sqrt rsqrt exp expm1 log log1p".split()},
    **{
        name: name for name in "sin cos sinh cosh tanh hypot logaddexp sigmoid silu gelu softplus relu erf erfc".split()
    },
    **{name: name for name in "logit log_ndtr polygamma greater greater_equal less less_equal equal not_equal".split()},
    **{name: name for name in "same where stop_gradient take cumsum".split()},
    **{"negative": "negate", "abs": "absolute", "asin": "arcsin", "acos": "arccos", "atan": "arctan"},
    **{"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "atan2": "arctan2", "lgamma": "gammaln"},
}
OPERATIONS: dict[str, Callable[..., Any]] = {name: GATES[gate] for name, gate in GATE_NAMES.items()}
OPERATIONS |= {
    "exp2": np.exp2,
    "tan": np.tan,
    "digamma": functools.partial(GATES["polygamma"], order=0),
    "pow": power,
    "integer_pow": integer_power,
    "maximum": elementwise.maximum,
    "minimum": elementwise.minimum,
    "clip": elementwise.clip,
    "sign": elementwise.sign,
    "cbrt": elementwise.cube_root,
    "isnan": elementwise.is_nan,
    "isinf": elementwise.is_infinite,
    "isfinite": elementwise.is_finite,
    "choose": elementwise.choose,
    "astype": relabel,  # (x, label), to a wider label: bool, int, float
    "logical_and": logical_and,
    "logical_or": logical_or,
    "logical_not": logical_not,
    "logical_xor": np.logical_xor,
    # The axes are a tuple, as in NumPy.
    "sum": np.sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
    "any": np.any,
    "all": np.all,
    "cumprod": np.cumprod,
    "cummax": functools.partial(accumulate, np.maximum),
    "cummin": functools.partial(accumulate, np.minimum),
    "cumlogsumexp": functools.partial(accumulate, np.logaddexp),
    "einsum": np.einsum,
    "reshape": np.reshape,
    "permute_dims": np.transpose,
    "broadcast_to": np.broadcast_to,
    "broadcast_axes": moving.broadcast_axes,
    "flip": np.flip,
    "concat": np.concatenate,
    "stack": moving.stack,
    "tile": np.tile,
    "slice": moving.slice_axes,
    "split": moving.split_axis,
    "pad": moving.pad,
    "slice_at": moving.slice_at,
    "write_at": moving.write_at,
    "write_flat": moving.write_flat,
    "add_flat": moving.add_flat,
    "gather": indexing.gather,
    "scatter_add": indexing.scatter_add,
    "scatter_set": indexing.scatter_set,
    "convolve": windows.convolve,
    "pool_sum": functools.partial(windows.pool, np.sum, 0.0),
    "pool_max": functools.partial(windows.pool, np.max, -np.inf),
    "pool_min": functools.partial(windows.pool, np.min, np.inf),
    "pool_max_gradient": functools.partial(windows.pool_gradient, np.max, -np.inf),
    "pool_min_gradient": functools.partial(windows.pool_gradient, np.min, np.inf),
}
