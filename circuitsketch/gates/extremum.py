"""The largest and the smallest element of each row, an array's last axis, with its series.

The primals choose the element, for all directions: the first that attains the extremum. Where other elements attain it
too and their series differ, there is a kink. Cotangents are divided equally between all elements that attain it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
from circuitsketch.gates.gate import Gate, Shape, cells
from circuitsketch.gates.math import Series, SeriesOps
from circuitsketch.gates.movement import broadcast, movement, reshape, sum_over
from circuitsketch.gates.selection import same, where


def extremum_shape(shape: Shape) -> Shape:
    """Remove the last axis, which must not be empty."""
    if not shape or shape[-1] == 0:
        raise ShapeError(
            f"the maximum or minimum of each row of an array of shape {shape} is undefined, because its last axis is "
            "empty or does not exist"
        )
    return shape[:-1]


def repeat_per_row(y: Any, x: Any) -> Any:
    """Repeat one element per row in the shape of the rows."""
    return broadcast(reshape(y, shape=(*x.shape[:-1], 1)), shape=tuple(x.shape))


def extremum_vjp(ct: Any, out: Any, x: Any) -> tuple[Any, ...]:
    """Divide the cotangent equally between the elements that attain the extremum."""
    attains = same(x, repeat_per_row(out, x))
    share = 1.0 / sum_over(attains, axes=(len(x.shape) - 1,))
    return (where(attains, repeat_per_row(ct * share, x), 0.0),)


def extremum(
    name: str, value: Callable[..., Any], position: Callable[..., Any], nothing: float, domain: str, pair: str
) -> Gate:
    """Register the extremum of each row.

    Parameters
    ----------
    name : str
        Its name, which is also that of the move that combines elements.
    value, position : callable
        NumPy's function of an array and `axis=` that returns the extremum, and its first position.
    nothing : float
        The extremum of no elements.
    domain : str
        The domain, whose kinks are ties.
    pair : str
        The method of `expand`'s builder that returns the extremum of two wires.
    """

    def step(k: Any, ops: SeriesOps, x: Series, v: Series) -> None:
        """v_k is the coefficient of the element that attains the extremum of the primals."""
        at = position(x[0], axis=-1)[..., None]
        at = np.broadcast_to(at, (*x[k].shape[:-1], 1)) if np.ndim(x[k]) else at
        v[k] = np.take_along_axis(x[k], at, axis=-1)[..., 0] if np.ndim(x[k]) else x[k]

    def moves(m: Any, target: Any, x: Any) -> Any:
        """Fill with the extremum of nothing, then combine with every element, the first one last."""
        axis = len(x.shape) - 1
        if x.shape[axis] == 1:
            return (m.move(target, x.reshape(target.shape)),)
        starts, steps = (*(0,) * axis, x.shape[axis] - 1), (*(1,) * axis, -1)
        backwards = x.slice(starts, steps, x.shape) if cells(x.shape) else x
        return m.fill(nothing), m.move(m.broadcast_target(target, (axis,), x.shape), backwards, name)

    def expand(b: Any, shape: Shape, x: Any) -> Any:
        """Expand to the pairwise extremum of each row."""
        out = np.empty(shape, dtype=np.int64)
        for at in np.ndindex(shape):
            out[at] = functools.reduce(getattr(b, pair), map(int, x[at]))
        return out

    return movement(
        name,
        1,
        extremum_shape,
        lambda x: value(x, axis=-1),
        extremum_vjp,
        static=(),
        step=step,
        domain=domain,
        selects=True,
        moves=moves,
        expand=expand,
    )


largest = extremum("max", np.max, np.argmax, -np.inf, "kink where the largest tie", "maximum")
smallest = extremum("min", np.min, np.argmin, np.inf, "kink where the smallest tie", "minimum")
