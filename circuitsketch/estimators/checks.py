"""What estimators check before they answer, and of their answers: the data suffice, the order was measured, memory
too."""

from __future__ import annotations

import numpy as np

from circuitsketch.arguments import is_int, quoted
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.estimators.interface import Measurement
from circuitsketch.limits import require_memory


def choose_order(order: int | None, highest: int) -> int:
    """Return the order of a prediction, by default the highest; raise InputError for one that was not measured."""
    if not highest:
        raise InputError(
            "coefficients of order 0 tell the measurement as it was, and nothing of changes: push to order 1"
        )
    if order is None:
        return highest
    if not is_int(order, 1, highest):
        raise InputError(f"the order of a prediction is an int from 1 to {highest}, not {quoted(order)}")
    return int(order)


def require_directions(measurement: Measurement) -> None:
    """Raise InputError if there are no directions to predict from."""
    if not len(measurement.coefficients):
        raise InputError(
            "this query has no random directions, only single examples' series: make the sketch with "
            "directions=, or use estimator='per-example'"
        )
    choose_order(None, measurement.order)


def refuse_nonfinite(change: np.ndarray) -> None:
    """Raise DivergenceError if a change is not finite."""
    if not np.isfinite(change).all():
        raise DivergenceError(
            "a term of the series leaves the floating-point numbers for this h: it lies far outside the region where "
            "the series can be trusted; take a smaller h, or a lower order"
        )


def require_answers(measurement: Measurement, count: int, orders: int, working_bytes: int) -> None:
    """Refuse more h's than memory holds answers for: a change, its error and the terms of so many orders per value."""
    values = measurement.size
    require_memory(
        8 * values * count * (8 + 4 * orders) + working_bytes,
        f"the answers for {count:,} subsets of {values:,} values",
        ["fewer subsets at a time", "a measurement of fewer values"],
    )
