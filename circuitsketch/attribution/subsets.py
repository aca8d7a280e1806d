"""Subsets of a kind, drawn at random: what a calibration retrains.

In: the number of examples, perhaps their labels, a kind, sizes, a seed. Out: downweights, a row for each subset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import check_choice, check_int, is_int, quoted
from circuitsketch.errors import InputError

MIXED = "mixed"  # half random ones, half ones of alike examples, see `alike_subsets`
KINDS = ("random", "label", MIXED)
SHARE = 10  # of all examples, the largest random subset by default: a tenth


def draw_subsets(
    n: int,
    labels: Sequence[Any] | None,
    kind: str = "random",
    size: Any = None,
    count: int = 48,
    seed: int = 0,
    smallest: int = 1,
) -> tuple[np.ndarray, tuple[float, float]]:
    """Draw subsets.

    Parameters
    ----------
    n : int
        The number of examples.
    labels : sequence, optional
        The label of each, for the kind "label".
    kind : {"random", "label"}
        "random": any examples; "label": examples that share a label.
    size : int or (int, int), optional
        The number of examples, or its smallest and largest value, all sizes between them being equally likely. By
        default from 1 to a tenth of the examples at random, or to all that share a label.
    count : int
        The number of subsets.
    smallest : int
        A size that smaller ones are raised to, where it is among those asked for.
    seed : int
        The same seed draws the same subsets.

    Returns
    -------
    rows : array, shape (count, n)
        Downweights 0 and 1.
    sizes : tuple of float
        The smallest and the largest size that there may be.

    Raises
    ------
    InputError
        For sizes that there are no subsets of, an unknown kind, or no labels.

    Examples
    --------
    >>> rows, sizes = draw_subsets(6, None, size=2, count=3)
    >>> rows.sum(axis=1), sizes
    (array([2., 2., 2.]), (2.0, 2.0))
    """
    draw, sizes = prepare_draws(n, labels, kind, size, count, seed, smallest)
    return draw(count), sizes


def prepare_draws(
    n: int, labels: Sequence[Any] | None, kind: str, size: Any, count: int, seed: int, smallest: int = 1
) -> tuple[Callable[[int], np.ndarray], tuple[float, float]]:
    """Return what draws the next so many subsets, up to `count` in all, and their sizes; see `draw_subsets`."""
    check_choice(kind, "kind", ("random", "label"))
    check_int(count, "count", 1)
    rng = np.random.default_rng([seed, count])
    groups = [np.arange(n)]
    if kind == "label":
        if labels is None:
            raise InputError("kind='label' needs a label per example; give the run labels=, or use kind='random'")
        members: dict[Any, list[int]] = {}
        for i, label in enumerate(labels):
            members.setdefault(label, []).append(i)
        groups = [np.array(ids) for ids in members.values() if len(ids) >= min(2, n)]
        if not groups:
            raise InputError("kind='label': no two examples share a label; use kind='random'")
    largest = max(map(len, groups)) if kind == "label" else default_sizes(n, smallest)[1]
    low, high = check_sizes(size, n, smallest, largest)
    low = max(low, min(smallest, high))

    def draw(some: int) -> np.ndarray:
        rows = np.zeros((some, n))
        for row in rows:
            group = groups[rng.integers(len(groups))]
            chosen = rng.choice(group, size=min(int(rng.integers(low, high + 1)), len(group)), replace=False)
            row[chosen] = 1.0
        return rows

    return draw, (float(low), float(high))


def default_sizes(n: int, smallest: int = 1) -> tuple[int, int]:
    """Return the smallest and the largest random subset by default, for `check_sizes`."""
    return smallest, max(n // SHARE, smallest)


def refuse_with_subsets(**options: Any) -> None:
    """Raise InputError if options of subsets that are drawn are passed though subsets were given."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} is for subsets that are drawn, and subsets were given; leave it out")


def check_sizes(size: Any, n: int, smallest: int, largest: int) -> tuple[int, int]:
    """Return the smallest and the largest size of subsets, or raise InputError."""
    if size is None:
        return min(smallest, largest), largest
    pair = (size, size) if is_int(size) else size
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(is_int(x, 1, n) for x in pair):
        raise InputError(f"size must be an integer from 1 to {n}, or a pair of them, not {quoted(size)}")
    low, high = int(pair[0]), int(pair[1])
    if low > high:
        raise InputError(f"size is {quoted(size)}; pass the smaller number first")
    return low, high
