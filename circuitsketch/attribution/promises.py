"""How large a sketch the theorem asks for: from an error and a probability to an order, a number of directions, groups.

In: epsilon and delta, perhaps a pilot's measurement. Out: a `Plan` without its costs. The constants are proved, for any
function and any deletion, so they are large: see `plan`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.arguments import is_real, quoted
from circuitsketch.attribution.plan_record import Plan
from circuitsketch.attribution.query import Query
from circuitsketch.errors import InputError
from circuitsketch.estimators.convergence import ratio_of_decay, scaled_norms, truncation_of
from circuitsketch.training.training import Training

MOST_ORDERS, MOST_GROUPS = 60, 399  # more never pay: 4^-60 is below rounding, and 399 groups reach delta = 1e-40
MOST_DIRECTIONS = 2**53  # in a group, beyond which a count is not exact
LARGEST_FLOAT = int(np.finfo(np.float64).max)
ERRORS = 2.0  # standard errors that are added to a pilot's norms: it saw few directions
DELETED = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # deletions whose error is listed where none was asked for


def promise_of(
    epsilon: float, delta: float, alpha: float | None, query: Query | None, deleted: float | None, run: Training | None
) -> Plan:
    """The plan without its costs."""
    if query is None:
        size, how = (1.0, "assumed") if alpha is None else (float(alpha), "given")
        order, per_group, groups = cheapest(epsilon, delta, truncation)
        left = size * truncation(order)
        return Plan(epsilon, delta, size, order, per_group, groups, epsilon * size, left, alpha_is=how)
    if not isinstance(query, Query):
        raise InputError(f"query is a measurement of a pilot sketch, sketch.measure(...), not a {type(query).__name__}")
    if run is not None and run.n != query.n:
        of = f"the pilot is of {query.n:,} {query.unit}s and the run of {run.n:,}"
        raise InputError(f"{of}; give a pilot of this run")
    deleted = None if deleted is None else check_positive("deleted", deleted)
    pilot = pilot_of(query)
    gone = 1.0 if deleted is None else float(deleted)
    size, tail, most = pilot.at(gone)
    order, per_group, groups = cheapest(epsilon, delta, tail, most)
    further = []
    for more in DELETED if deleted is None else ():
        if 1 < more <= query.n and pilot.falls(4 * math.sqrt(more)):
            further.append((float(more), pilot.alpha(4 * math.sqrt(more))))
    return Plan(
        epsilon,
        delta,
        size,
        order,
        per_group,
        groups,
        epsilon * size,
        size * tail(order),
        alpha_is="measured",
        deleted=gone,
        further=tuple(further),
        pilot=pilot.describe(gone),
        unit=query.unit,
    )


@dataclass(frozen=True, eq=False)
class Pilot:
    """What a pilot says of norms: norms (order, values), two standard errors above what was measured."""

    norms: np.ndarray
    directions: int

    def decay(self, radius: float) -> np.ndarray:
        """radius^r ||F_r||, (order, values)."""
        with np.errstate(divide="ignore"):
            return scaled_norms(np.log(self.norms), radius)

    def falls(self, radius: float) -> bool:
        """Whether radius^r ||F_r|| falls from order to order at the highest ones, of all values."""
        return bool((ratio_of_decay(self.decay(radius)) < 1).all())

    def alpha(self, radius: float) -> float:
        """The largest radius^r ||F_r|| of all orders and values."""
        return max(float(self.decay(radius).max()), np.finfo(float).tiny)

    def at(self, deleted: float) -> tuple[float, Callable[[int], float], int]:
        """alpha, what the orders above s add at most over alpha, by s, and the highest s that is known of."""
        length = math.sqrt(deleted)
        alpha = self.alpha(4 * length)
        if self.falls(4 * length):
            return alpha, truncation, MOST_ORDERS
        if not self.falls(length):
            sizes = ", ".join(f"{size:.3g}" for size in self.decay(length).max(axis=1))
            raise InputError(
                f"the pilot's terms do not fall for deletions of {deleted:,g}: at orders 1 to {len(self.norms)} they "
                f"are as large as {sizes}, so no number of directions keeps a promise there; plan fewer deletions, or "
                "measure a pilot of more directions and a higher order"
            )
        terms = self.decay(length)
        above = truncation_of(terms)

        def tail(s: int) -> float:
            return float((terms[s:].sum(axis=0) + above).max()) / alpha

        return alpha, tail, len(self.norms)

    def describe(self, deleted: float) -> str:
        """What alpha rests on."""
        text = f"measured along {self.directions:,} directions to order {len(self.norms)}, two standard errors added"
        if self.falls(4 * math.sqrt(deleted)):
            return text
        return f"{text}; the largest of these orders, which still grow there, and what is truncated is measured too"


def pilot_of(query: Query) -> Pilot:
    """The norms of a pilot's measurement; InputError where they tell no alpha."""
    stability = query.stability()
    if stability.order < 2:
        raise InputError("a pilot of order 1 does not tell how the orders go on; sketch it to order 3 or 4")
    norms = (stability.norms + ERRORS * stability.stderr).reshape(stability.order, -1)
    if not np.isfinite(norms).all():
        raise InputError("a pilot of one direction has no errors, so it tells no alpha; take a few dozen")
    return Pilot(norms, stability.directions)


def cheapest(
    epsilon: float, delta: float, tail: Callable[[int], float], most: int = MOST_ORDERS
) -> tuple[int, int, int]:
    """s, m and k of the least cost; tail : what is truncated above s, over alpha."""
    from scipy.special import betaincinv  # a slow import

    left = [(s, epsilon - tail(s)) for s in range(1, most + 1)]
    ways = []
    for k in range(1, MOST_GROUPS + 1, 2):
        half = (k + 1) / 2
        p = float(betaincinv(half, half, delta))
        for s, t in left:
            if t > 0 and p * t * t > 0:
                m = spread(s) ** 2 / (p * t * t)
                if m < MOST_DIRECTIONS:
                    m = max(math.ceil(m), 1)
                    ways.append((k * m * s * (s + 1), s, m, k))
    if not ways:
        least = "" if most == MOST_ORDERS else f": above order {most}, the pilot's, {tail(most):.2g} alpha is left"
        raise InputError(f"no order reaches epsilon = {epsilon!r} with delta = {delta!r}{least}; ask for less")
    return min(ways)[1:]


def truncation(s: int) -> float:
    """What the orders above s add at most, over alpha."""
    return 4.0**-s / 3


def spread(s: int) -> float:
    """v(s), the standard deviation of one sample over alpha."""
    return sum(math.sqrt(math.comb(2 * r, r)) * 4.0**-r for r in range(1, s + 1))


def check_positive(name: str, value: Any) -> float:
    """A finite real number above zero."""
    if not is_real(value) or not 0 < value < math.inf or value > LARGEST_FLOAT:
        raise InputError(f"{name} is a number above 0, not {quoted(value)}")
    return float(value)
