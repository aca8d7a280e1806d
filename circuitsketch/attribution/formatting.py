"""How numbers and examples are printed: figures of six digits, columns, one short line per example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import text_of

COLUMNS_SHOWN = 6


def cut(value: Any, width: int = 24) -> str:
    """Shorten the text of an example to one line.

    >>> cut("emma"), cut("a" * 30)
    ('emma', 'aaaaaaaaaaaaaaaaaaaaa...')
    """
    text = text_of(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def figure(x: float) -> str:
    """Format a number with six digits."""
    return "unknown" if math.isnan(x) else f"{x:.6g}"


def names_of_columns(shape: tuple[int, ...], shown: int) -> list[str]:
    """Return the indices of the first values of an array, as titles of columns; none for a scalar."""
    return [str(list(map(int, np.unravel_index(i, shape)))) for i in range(shown)] if shape else []


def line(label: str, entries: Sequence[str]) -> str:
    """Format a row of a table: its label, and entries in columns."""
    return f"  {label:<12}" + "".join(f"{entry:>13}" for entry in entries)


def to_json(number: Any) -> Any:
    """Convert numbers to what JSON can hold: arrays to lists, what is not finite to None."""
    if np.ndim(number) == 0:
        return float(number) if math.isfinite(number) else None
    return [to_json(part) for part in np.asarray(number)]
