"""Rules of elementwise operations.

Where PyTorch computes a smooth function by cases, for the sake of overflow, the gate of the function is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.frontends.numpy.dtypes import relabel
from circuitsketch.frontends.numpy.ufuncs import logical_and, logical_not, logical_or
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.gates import GATES
from circuitsketch.gates.selection import relu


def add(x: Any, y: Any, alpha: Any = 1) -> Any:
    """Add a multiple of y."""
    return x + (y if alpha == 1 else alpha * y)


def subtract(x: Any, y: Any, alpha: Any = 1) -> Any:
    """Subtract a multiple of y."""
    return x - (y if alpha == 1 else alpha * y)


def divide(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    """Divide; a rounded quotient is locally constant."""
    if rounding_mode is not None:
        raise TraceError(
            f"{user_place()} rounds a quotient that the examples' weights reach, which is locally constant; divide "
            "without rounding_mode, or compute the quotient from the data"
        )
    return x / y


def compare(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rule of a comparison; that of a relu with 0 is one of the relu's operand."""

    def rule(x: Any, y: Any) -> Any:
        if isinstance(x, Wire) and x.node.gate is relu and not isinstance(y, Wire) and np.ndim(y) == 0 and y == 0:
            x = Wire(x.builder, x.node.operands[0])
        return function(x, y)

    return rule


def gelu(x: Any, approximate: str = "none") -> Any:
    """Return the GELU, exact or by tanh."""
    if approximate == "none":
        return GATES["gelu"](x)
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """Return x between bounds."""
    x = x if min is None else OPERATIONS["maximum"](x, min)
    return x if max is None else OPERATIONS["minimum"](x, max)


def convert(x: Any, dtype: Any = None, **options: Any) -> Any:
    """Convert to another dtype: all floats are float64, and floats that weights reach do not become integers."""
    if dtype is None or not isinstance(x, Wire):
        return x
    if dtype == torch.bool:
        return x if x.label == "bool" else x != 0
    if dtype.is_floating_point:
        return x if x.label == "float" else relabel(x, "float")
    if x.label == "float":
        raise TraceError(
            f"{user_place()} converts floats that the examples' weights reach to {dtype}: integers are locally "
            "constant and have no Taylor series; keep floats, or compute the integers from the data"
        )
    return x if x.label == "int" else relabel(x, "int")


def identity(x: Any, *options: Any, **more: Any) -> Any:
    """Return x."""
    return x


def softplus(x: Any, beta: Any = 1, threshold: Any = 20) -> Any:
    """Return log(1 + exp(beta x)) / beta, which PyTorch replaces by x above a threshold."""
    return GATES["softplus"](beta * x) / beta


LIKE_NUMPY = {
    **{name: getattr(np, name) for name in "exp log log1p expm1 sqrt tanh sin cos tan sinh cosh abs square".split()},
    **{name: getattr(np, name) for name in "exp2 log2 log10 reciprocal arctan2 hypot logaddexp logical_xor".split()},
    "neg": np.negative,
    "mul": np.multiply,
    "pow": np.power,
    "where": np.where,
    "maximum": OPERATIONS["maximum"],
    "minimum": OPERATIONS["minimum"],
    "atan2": np.arctan2,
}
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **LIKE_NUMPY,
    **{name: GATES[name] for name in "relu silu sigmoid rsqrt erf erfc".split()},
    **{name: OPERATIONS[name] for name in "asin acos atan asinh acosh atanh lgamma sign isnan isinf isfinite".split()},
    **{"eq": compare(np.equal), "ne": compare(np.not_equal), "lt": compare(np.less), "le": compare(np.less_equal)},
    **{"gt": compare(np.greater), "ge": compare(np.greater_equal), "sgn": OPERATIONS["sign"]},
    **dict.fromkeys(("logical_and", "bitwise_and", "__and__"), logical_and),
    **dict.fromkeys(("logical_or", "bitwise_or", "__or__"), logical_or),
    **dict.fromkeys(("logical_not", "bitwise_not"), logical_not),
    **dict.fromkeys(("clone", "detach", "alias", "lift_fresh", "contiguous", "resolve_conj"), identity),
    "add": add,
    "sub": subtract,
    "rsub": lambda x, y, alpha=1: subtract(y, x, alpha),
    "div": divide,
    "true_divide": divide,
    "gelu": gelu,
    "clamp": clamp,
    "clamp_min": lambda x, low: clamp(x, low),
    "clamp_max": lambda x, high: clamp(x, None, high),
    "hardtanh": lambda x, low=-1.0, high=1.0: clamp(x, low, high),
    "softplus": softplus,
    "softplus_backward": lambda ct, x, beta, threshold: ct * GATES["sigmoid"](beta * x),
    "log_sigmoid_forward": lambda x: (-GATES["softplus"](-x), x),
    "log_sigmoid_backward": lambda ct, x, buffer: ct * GATES["sigmoid"](-x),
    "log_ndtr": GATES["log_ndtr"],
    "special_log_ndtr": GATES["log_ndtr"],
    "digamma": lambda x: GATES["polygamma"](x, order=0),
    "_to_copy": convert,
}
