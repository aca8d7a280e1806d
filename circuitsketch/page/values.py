"""The values on a page: the numbers of one or several measurements, side by side, each with a name.

In: queries, by the names of their measurements. Out: `Value`s, and arrays whose last axis is that of the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from circuitsketch.arguments import text_of
from circuitsketch.attribution.formatting import names_of_columns
from circuitsketch.attribution.query import Query
from circuitsketch.errors import InputError

MOST = 64  # values on one page


@dataclass(frozen=True)
class Value:
    """One number that is measured: the name of its measurement, its column there, its own name, and its baseline."""

    measurement: str
    column: int
    name: str
    baseline: float


def list_values(queries: Mapping[str, Query]) -> list[Value]:
    """Return the values of all measurements, in order.

    Raises
    ------
    InputError
        If there are more than a page can show.
    """
    values: list[Value] = []
    for measurement, query in queries.items():
        baselines = np.ravel(query.first_value)
        count = len(baselines)
        if len(values) + count > MOST:
            raise InputError(
                f"{measurement} has {count:,} values, and a page shows at most {MOST} in all; measure fewer, such as "
                "their mean by group"
            )
        if query.structure is not None:
            columns = query.structure.names
        else:
            columns = names_of_columns(query.shape, count) or [""]
        for column, (suffix, baseline) in enumerate(zip(columns, baselines, strict=True)):
            name = f"{measurement}{suffix}" if query.structure is None else f"{measurement}: {suffix}"
            values.append(Value(measurement, column, text_of(name), float(baseline)))
    return values


def columns_of(array: object, lead: int) -> np.ndarray:
    """Return an array (*lead, *measurement) as (*lead, C), its values along the last axis.

    >>> columns_of(np.zeros((5, 2, 3)), lead=1).shape, columns_of(1.0, lead=0).shape
    ((5, 6), (1,))
    """
    values = np.asarray(array, dtype=np.float64)
    return values.reshape(*values.shape[:lead], -1)
