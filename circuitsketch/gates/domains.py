"""The domains of gates, where they have a Taylor series: one record per domain, by the name that a gate's record gives.

A record has the condition, advice for operands outside, and operands inside for tests. A gate with a new domain adds a
record to `DOMAINS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape, int], list[np.ndarray]]

KINK_TOLERANCE = 4 * np.finfo(np.float64).eps
MARGIN = 0.5  # distance of drawn operands from the boundary of the domain


@dataclass(frozen=True)
class Domain:
    """Where a gate has a Taylor series, given the real primal values of its operands.

    Attributes
    ----------
    lacks_series : callable
        `lacks_series(*operands)` is true where there is no series.
    draw : callable
        `draw(rng, shape, arity)` returns operands inside the domain, at least `MARGIN` from its boundary, for tests.
    advice : str
        What is wrong outside the domain, and what to do about it.
    is_kink : bool
        Whether there are series on both sides of the excluded points. A run within rounding error of such a point
        warns; otherwise a point outside the domain is an error.
    by_operand : bool
        Whether `lacks_series` also receives which operands carry a series, as its last argument.
    """

    lacks_series: Callable[..., Any]
    draw: Draw
    advice: str = ""
    is_kink: bool = False
    by_operand: bool = False


def uniform(low: float, high: float) -> Draw:
    """Return a function that draws operands from an interval."""
    return lambda rng, shape, arity: [rng.uniform(low, high, shape) for _ in range(arity)]


def draw_nonzero(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw numbers of either sign and magnitude from MARGIN to 2."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(MARGIN, 2.0, shape)


def draw_unequal(rng: np.random.Generator, shape: Shape, arity: int = 2) -> list[np.ndarray]:
    """Draw two arrays that differ in every element."""
    x = rng.uniform(-1.5, 1.5, shape)
    return [x, x + draw_nonzero(rng, shape)]


def draw_beside_origin(rng: np.random.Generator, shape: Shape, arity: int = 2) -> list[np.ndarray]:
    """Draw points of a half-plane, away from the origin and from the branch cut of arctan2."""
    return [rng.uniform(-1.5, 1.5, shape), rng.uniform(2.0, 3.0, shape)]


def draw_apart(rng: np.random.Generator, shape: Shape, arity: int = 1) -> list[np.ndarray]:
    """Draw an array whose rows have elements that differ by 2 * MARGIN or more."""
    ranks = rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1)
    return [2 * MARGIN * ranks - 1.5 + rng.uniform(0.0, 0.1, (*shape[:-1], 1))]


anywhere: Draw = uniform(-1.5, 1.5)


def largest_tie(x: Any) -> Any:
    """Return for each row whether two elements or more are the largest, within rounding; of wires or arrays."""
    if type(x) is np.ndarray:  # every step of a run asks: without the overhead of np.max and np.sum
        top = np.maximum.reduce(x, axis=-1, keepdims=True)
        near = top - x <= KINK_TOLERANCE * np.maximum(np.abs(top), np.abs(x))
        return np.add.reduce(near, axis=-1, dtype=np.intp) > 1
    top = np.max(x, axis=-1, keepdims=True)
    near = top - x <= KINK_TOLERANCE * np.maximum(np.abs(top), np.abs(x))
    return np.sum(np.where(near, 1.0, 0.0), axis=-1) > 1.5


def power_lacks_series(x: Any, y: Any, base_varies: bool, exponent_varies: bool) -> Any:
    """Return where x^y has no series: integer powers of a varying base have one below zero, small ones at zero too."""
    if exponent_varies:
        return ~((x > 0) | ((x == 0) & (y > 0) & (not base_varies)))
    is_integer = np.isfinite(y) & (y == np.rint(y))
    return ~((x > 0) | (is_integer & (x < 0)) | (is_integer & (x == 0) & (y >= 0) & (y <= 4)))


DOMAINS: dict[str, Domain] = {
    "positive": Domain(
        lambda x: ~(x > 0),
        uniform(MARGIN, 2.0),
        "its operand is not positive; keep it above zero, for example by adding an epsilon",
    ),
    "above -1": Domain(
        lambda x: ~(x > -1),
        uniform(MARGIN - 1.0, 1.5),
        "its operand is not greater than -1; keep it above -1, for example by adding an epsilon",
    ),
    "above 1": Domain(
        lambda x: ~(x > 1),
        uniform(2.5, 4.0),
        "its operand is not greater than 1; keep it above 1, for example by adding an epsilon",
    ),
    "between -1 and 1": Domain(
        lambda x: ~(np.abs(x) < 1),
        uniform(-0.4, 0.4),
        "its operand is not between -1 and 1; keep it inside this interval, for example by multiplying it by a "
        "factor just below 1",
    ),
    "between 0 and 1": Domain(
        lambda x: ~((x > 0) & (x < 1)),
        uniform(0.4, 0.6),
        "its operand is not between 0 and 1; keep it inside this interval, for example by np.clip(x, 1e-6, 1 - 1e-6)",
    ),
    "nonzero": Domain(
        lambda x: x == 0,
        lambda rng, shape, arity: [draw_nonzero(rng, shape)],
        "it divides by zero; keep the divisor away from zero",
    ),
    "nonzero divisor": Domain(
        lambda x, y: y == 0,
        lambda rng, shape, arity: [rng.uniform(-1.5, 1.5, shape), draw_nonzero(rng, shape)],
        "it divides by zero; keep the divisor away from zero",
    ),
    "not the origin": Domain(
        lambda x, y: (x == 0) & (y == 0),
        draw_beside_origin,
        "both operands are zero; keep one of them away from zero, for example by adding an epsilon",
    ),
    "kink at zero": Domain(
        lambda x: np.abs(x) <= KINK_TOLERANCE,
        lambda rng, shape, arity: [draw_nonzero(rng, shape)],
        is_kink=True,
    ),
    "kink at equality": Domain(
        lambda x, y: np.abs(x - y) <= KINK_TOLERANCE * np.maximum(np.abs(x), np.abs(y)),
        draw_unequal,
        is_kink=True,
    ),
    "kink where the largest tie": Domain(largest_tie, draw_apart, is_kink=True),
    "kink where the smallest tie": Domain(lambda x: largest_tie(-x), draw_apart, is_kink=True),
    "base of a power": Domain(
        lambda x, y, varies=(True, True): power_lacks_series(x, y, *varies),
        lambda rng, shape, arity: [rng.uniform(MARGIN, 2.0, shape), rng.uniform(-1.5, 1.5, shape)],
        "its base is negative or zero; there, a power has a Taylor series only if the exponent is an integer that "
        "does not depend on the weights (for a base of zero: an integer from 0 to 4, or any non-negative integer "
        "that is a constant of the traced function); keep the base above zero",
        by_operand=True,
    ),
}


def draw_operands(domain: str | None, rng: np.random.Generator, shape: Shape, arity: int) -> Sequence[np.ndarray]:
    """Draw operands inside a domain, or near zero if there is no domain."""
    return (anywhere if domain is None else DOMAINS[domain].draw)(rng, shape, arity)
