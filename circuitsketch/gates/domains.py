"""Where gates have a Taylor series, one record per domain: the condition, what to do outside, and operands inside.

In: nothing. Out: `DOMAINS`, by the name that a gate's record gives. A gate with another domain adds one record here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape, int], list[np.ndarray]]

KINK_TOLERANCE = 4 * np.finfo(np.float64).eps
MARGIN = 0.5  # how far the operands that are drawn stay from the edge of the domain


@dataclass(frozen=True)
class Domain:
    """Where a gate has a Taylor series at real constant terms.

    Attributes
    ----------
    lacks_series : of the operands, true where there is none.
    draw : `draw(rng, shape, arity)` -> operands inside, by `MARGIN`, that tests are made of.
    advice : what is wrong outside, and what to do.
    is_kink : there are series on both sides of where one is lacking: within rounding of it a warning is given, not an
        error.
    by_operand : `lacks_series` is also told which operands carry a series.
    """

    lacks_series: Callable[..., Any]
    draw: Draw
    advice: str = ""
    is_kink: bool = False
    by_operand: bool = False


def uniform(low: float, high: float) -> Draw:
    """Operands from an interval."""
    return lambda rng, shape, arity: [rng.uniform(low, high, shape) for _ in range(arity)]


def away_from_zero(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Numbers of either sign, from MARGIN to 2 in size."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(MARGIN, 2.0, shape)


def apart(rng: np.random.Generator, shape: Shape, arity: int = 2) -> list[np.ndarray]:
    """Two arrays that differ in every entry."""
    x = rng.uniform(-1.5, 1.5, shape)
    return [x, x + away_from_zero(rng, shape)]


def around_origin(rng: np.random.Generator, shape: Shape, arity: int = 2) -> list[np.ndarray]:
    """Points of a half plane, away from the origin and from the cut of arctan2."""
    return [rng.uniform(-1.5, 1.5, shape), rng.uniform(2.0, 3.0, shape)]


anywhere: Draw = uniform(-1.5, 1.5)


def power_lacks_series(x: Any, y: Any, base_varies: bool, exponent_varies: bool) -> Any:
    """Where x^y has no series. Of a varying base, whole powers have one below zero, and small ones at zero."""
    if exponent_varies:
        return ~((x > 0) | ((x == 0) & (y > 0) & (not base_varies)))
    whole = np.isfinite(y) & (y == np.rint(y))
    return ~((x > 0) | (whole & (x < 0)) | (whole & (x == 0) & (y >= 0) & (y <= 4)))


DOMAINS: dict[str, Domain] = {
    "positive": Domain(
        lambda x: ~(x > 0),
        uniform(MARGIN, 2.0),
        "its operand is not positive; keep it above zero, for example by an epsilon added to it",
    ),
    "above -1": Domain(
        lambda x: ~(x > -1),
        uniform(MARGIN - 1.0, 1.5),
        "its operand is not above -1; keep it above, for example by an epsilon",
    ),
    "above 1": Domain(
        lambda x: ~(x > 1),
        uniform(2.5, 4.0),
        "its operand is not above 1; keep it above, for example by an epsilon",
    ),
    "between -1 and 1": Domain(
        lambda x: ~(np.abs(x) < 1),
        uniform(-0.4, 0.4),
        "its operand is not between -1 and 1; keep it inside, for example by a factor just below 1",
    ),
    "between 0 and 1": Domain(
        lambda x: ~((x > 0) & (x < 1)),
        uniform(0.4, 0.6),
        "its operand is not between 0 and 1; keep it inside, for example by np.clip(x, 1e-6, 1 - 1e-6)",
    ),
    "nonzero": Domain(
        lambda x: x == 0,
        lambda rng, shape, arity: [away_from_zero(rng, shape)],
        "it divides by zero; keep the divisor away from zero",
    ),
    "nonzero divisor": Domain(
        lambda x, y: y == 0,
        lambda rng, shape, arity: [rng.uniform(-1.5, 1.5, shape), away_from_zero(rng, shape)],
        "it divides by zero; keep the divisor away from zero",
    ),
    "not the origin": Domain(
        lambda x, y: (x == 0) & (y == 0),
        around_origin,
        "both operands are zero; keep one of them away from zero, for example by an epsilon",
    ),
    "kink at zero": Domain(
        lambda x: np.abs(x) <= KINK_TOLERANCE,
        lambda rng, shape, arity: [away_from_zero(rng, shape)],
        is_kink=True,
    ),
    "kink at equality": Domain(
        lambda x, y: np.abs(x - y) <= KINK_TOLERANCE * np.maximum(np.abs(x), np.abs(y)),
        apart,
        is_kink=True,
    ),
    "base of a power": Domain(
        lambda x, y, varies=(True, True): power_lacks_series(x, y, *varies),
        lambda rng, shape, arity: [rng.uniform(MARGIN, 2.0, shape), rng.uniform(-1.5, 1.5, shape)],
        "its base is negative or zero, where only a whole exponent that no weight changes has a series (at zero: 0 to "
        "4, or any that is known when the function is traced); keep the base above zero, or use such exponents",
        by_operand=True,
    ),
}


def draw_operands(domain: str | None, rng: np.random.Generator, shape: Shape, arity: int) -> Sequence[np.ndarray]:
    """Operands inside a domain, or anywhere near zero."""
    return (anywhere if domain is None else DOMAINS[domain].draw)(rng, shape, arity)
