"""Every example's own series at h_i = 1, cut at its smallest term where it does not converge.

In: per-example series (n, order + 1, C). Out: `OwnSeries`, the terms that count, and what they leave out.

A series whose terms grow again is asymptotic at best: it comes nearest to the truth at its smallest term, and is wrong
by about as much as that. A term may be small by chance, so what counts is the larger one of two neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-12


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

    Of a series that converges nothing is cut, and its tail is that of a geometric series.

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
    bounded = np.minimum(ratio, 0.9)[:, None]
    tail = np.maximum(size[:, -1], bounded * size[:, -2]) * bounded / (1 - bounded)
    grows = (size[:, -1] >= size[:, -3:-1].max(axis=1)) & (size[:, -1] > ROUNDING * size.max(axis=1))
    if not grows.any():
        return OwnSeries(per_example, tail, last)
    pairs = np.maximum(size[:, :-1], size[:, 1:])
    last = np.where(grows, np.argmin(pairs, axis=1) + 1, last)
    tail = np.where(grows, pairs.min(axis=1), tail)
    counted = np.arange(order + 1)[:, None] <= last[:, None]
    return OwnSeries(np.where(counted, per_example, 0.0), tail, last)
