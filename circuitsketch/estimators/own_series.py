"""Every example's own series at h_i = 1, cut at its smallest term where it does not converge.

In: per-example series (n, order + 1, C). Out: `OwnSeries`, the terms that count, and what they leave out.

A series whose terms grow again is asymptotic at best: it comes nearest to the truth at its smallest term, and is wrong
by about as much as that. A term may be small by chance, so what counts is the larger one of two neighbours.

Of a series that converges the highest terms may all be small by chance, and its tail with them. So the tail is at least
what it would be if the terms fell as those of most examples do. On the smooth runs of bench/trust.py, this raised the
coverage of 95 % intervals of single examples from 78 to 98 % to 92 to 99 %; the median error grew 1.1 to 2.0 times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-12
LARGEST = 0.9  # ratio of a geometric series
FEWEST, SAMPLE = 8, 1000  # examples that tell how series typically fall, and how many are looked at


@dataclass(frozen=True, eq=False)
class OwnSeries:
    """What counts of n examples' own series.

    Attributes
    ----------
    terms : ndarray, of shape (n, order + 1, C)
        The Taylor coefficients, 0 above the last order that counts.
    tail : ndarray, of shape (n, C)
        What is left out at h_i = 1.
    last : ndarray of int, of shape (n, C)
        The last order that counts: the highest one, except where the series was cut.
    """

    terms: np.ndarray
    tail: np.ndarray
    last: np.ndarray


def cut_series(per_example: np.ndarray) -> OwnSeries:
    """Cut each example's series where its terms begin to grow, and bound what is left out.

    Of a series that converges nothing is cut, and its tail is that of a geometric series, of its own ratio or of the
    typical one.

    Examples
    --------
    >>> series = cut_series(np.array([[5.0, 1.0, 0.5, 0.25], [5.0, 1.0, 4.0, 30.0]])[:, :, None])
    >>> series.last.ravel().tolist(), series.tail.ravel().tolist(), series.terms[1].ravel().tolist()
    ([3, 1], [0.25, 4.0], [5.0, 1.0, 0.0, 0.0])
    """
    size = np.abs(per_example[:, 1:])
    n, order, values = size.shape
    last = np.full((n, values), order)
    if order == 1:
        return OwnSeries(per_example, size[:, 0], last)
    peak = size.max(axis=2)
    before, steps = (peak[:, -3], 2) if order > 2 else (peak[:, -2], 1)
    nothing = peak[:, -1] <= ROUNDING * peak.max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(nothing, 0.0, (peak[:, -1] / before) ** (1 / steps))
    bounded = np.minimum(ratio, LARGEST)[:, None]
    tail = np.maximum(size[:, -1], bounded * size[:, -2]) * bounded / (1 - bounded)
    grows = (size[:, -1] >= size[:, -3:-1].max(axis=1)) & (size[:, -1] > ROUNDING * size.max(axis=1))
    tail = np.maximum(tail, tail_by_ratio(size, typical_ratio(size, grows)))
    if not grows.any():
        return OwnSeries(per_example, tail, last)
    pairs = np.maximum(size[:, :-1], size[:, 1:])
    last = np.where(grows, np.argmin(pairs, axis=1) + 1, last)
    tail = np.where(grows, pairs.min(axis=1), tail)
    counted = np.arange(order + 1)[:, None] <= last[:, None]
    return OwnSeries(np.where(counted, per_example, 0.0), tail, last)


def typical_ratio(size: np.ndarray, grows: np.ndarray) -> np.ndarray:
    """Return the median ratio from one order to the next, (C,), of n examples' terms (n, order, C); 0 of too few.

    grows : (n, C), whose series grow, and do not count.
    """
    every = max(len(size) // SAMPLE, 1)
    first, last = size[::every, 0], size[::every, -1]
    counts = ~grows[::every] & (first > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(counts, (last / first) ** (1 / (size.shape[1] - 1)), np.inf)
    number = counts.sum(axis=0)
    middle = np.take_along_axis(np.sort(ratios, axis=0), np.maximum(number - 1, 0)[None] // 2, axis=0)[0]
    return np.where(number >= FEWEST, np.minimum(middle, LARGEST), 0.0)


def tail_by_ratio(size: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Return the tails (n, C) of terms (n, order, C), the largest of which fall by a ratio (C,) from there on."""
    reach = np.zeros_like(size[:, 0])
    for term in np.moveaxis(size, 1, 0):
        reach = ratio * np.maximum(reach, term)
    tail: np.ndarray = reach / (1 - ratio)
    return tail
