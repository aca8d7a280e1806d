"""JAX's primitives that read and write at positions: gather, scatter, and dynamic slices.

Positions come from the data; those that weights reach are refused when the run is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuitsketch.frontends.jax.primitives_moving import integers, shape_of
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.frontends.operations.indexing import Slices


def clamps(equation: Any) -> bool:
    """Return whether positions out of bounds are moved to the nearest valid one."""
    return "CLIP" in str(equation.params["mode"])


def gather(equation: Any, x: Any, positions: Any) -> Any:
    """Return slices of an array."""
    numbers = equation.params["dimension_numbers"]
    batched = zip(integers(numbers.operand_batching_dims), integers(numbers.start_indices_batching_dims), strict=True)
    slices = Slices(
        sizes=integers(equation.params["slice_sizes"]),
        addressed=integers(numbers.start_index_map),
        dropped=integers(numbers.collapsed_slice_dims),
        batched=tuple(batched),
        kept=integers(numbers.offset_dims),
        clamps=clamps(equation),
    )
    return OPERATIONS["gather"](x, positions, slices, shape_of(equation))


def written_slices(equation: Any, x: Any, updates: Any) -> Slices:
    """Return the slices that a scatter writes."""
    numbers = equation.params["dimension_numbers"]
    batched_axes = integers(numbers.operand_batching_dims)
    dropped = integers(numbers.inserted_window_dims)
    kept = integers(numbers.update_window_dims)
    sizes = [1] * len(x.shape)
    windowed = [axis for axis in range(len(sizes)) if axis not in (*dropped, *batched_axes)]
    for axis, place in zip(windowed, kept, strict=True):
        sizes[axis] = updates.shape[place]
    return Slices(
        sizes=tuple(sizes),
        addressed=integers(numbers.scatter_dims_to_operand_dims),
        dropped=dropped,
        batched=tuple(zip(batched_axes, integers(numbers.scatter_indices_batching_dims), strict=True)),
        kept=kept,
        clamps=clamps(equation),
    )


def scatter(name: str) -> Callable[..., Any]:
    """Return the rule of a scatter that adds to an array, or replaces its elements."""

    def rule(equation: Any, x: Any, positions: Any, updates: Any) -> Any:
        return OPERATIONS[name](x, positions, updates, written_slices(equation, x, updates))

    return rule


def dynamic_slice(equation: Any, x: Any, *starts: Any) -> Any:
    """Return a slice that begins at positions of the data."""
    return OPERATIONS["slice_at"](x, starts, integers(equation.params["slice_sizes"]))


def dynamic_update_slice(equation: Any, x: Any, part: Any, *starts: Any) -> Any:
    """Replace a slice that begins at positions of the data."""
    return OPERATIONS["write_at"](x, part, starts)


INDEXING: dict[str, Callable[..., Any]] = {
    "gather": gather,
    "scatter": scatter("scatter_set"),
    "scatter-add": scatter("scatter_add"),
    "scatter_add": scatter("scatter_add"),
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
}
