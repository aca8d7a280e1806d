"""JAX's convolutions and reductions over windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.frontends.jax.primitives_moving import integers
from circuitsketch.frontends.operations import OPERATIONS


def conv_general_dilated(equation: Any, x: Any, kernel: Any) -> Any:
    """Convolve, in any layout of the axes."""
    params = equation.params
    layout = params["dimension_numbers"]
    y = OPERATIONS["convolve"](
        OPERATIONS["permute_dims"](x, integers(layout.lhs_spec)),
        OPERATIONS["permute_dims"](kernel, integers(layout.rhs_spec)),
        integers(params["window_strides"]),
        [integers(pair) for pair in params["padding"]],
        integers(params["lhs_dilation"]),
        integers(params["rhs_dilation"]),
        int(params["feature_group_count"]),
        int(params["batch_group_count"]),
    )
    return OPERATIONS["permute_dims"](y, integers(np.argsort(layout.out_spec)))


def window_reduction(name: str) -> Callable[..., Any]:
    """Return the rule of a reduction over windows."""

    def rule(equation: Any, x: Any) -> Any:
        params = equation.params
        return OPERATIONS[name](
            x,
            integers(params["window_dimensions"]),
            integers(params["window_strides"]),
            [integers(pair) for pair in params["padding"]],
            integers(params["base_dilation"]),
            integers(params["window_dilation"]),
        )

    return rule


def select_and_scatter_add(equation: Any, source: Any, x: Any) -> Any:
    """The derivative of a maximum over windows."""
    params = equation.params
    name = "pool_max_gradient" if params["select_prim"].name == "ge" else "pool_min_gradient"
    settings = integers(params["window_dimensions"]), integers(params["window_strides"])
    return OPERATIONS[name](source, x, *settings, [integers(pair) for pair in params["padding"]])


WINDOWS: dict[str, Callable[..., Any]] = {
    "conv_general_dilated": conv_general_dilated,
    "reduce_window_sum": window_reduction("pool_sum"),
    "reduce_window_max": window_reduction("pool_max"),
    "reduce_window_min": window_reduction("pool_min"),
    "select_and_scatter_add": select_and_scatter_add,
}
