"""How far a series can be trusted, and the sentences that say so (THEORY section 6).

In: the measured decay over orders, or what the orders left out may add, with changes and errors. Out: ratios, what is
left out, warnings in plain words. Records and tables are left to `prediction`.
"""

from __future__ import annotations

import math

import numpy as np

NEGLIGIBLE = 1e-12  # of the largest order: a coefficient of this size is rounding


def scaled_norms(log_norms: np.ndarray, lengths: float | np.ndarray) -> np.ndarray:
    """||F_r|| |h|^r from log ||F_r|| (order, *S): (order, *S) for one length, (order, B, *S) for many."""
    order, *shape = log_norms.shape
    lengths = np.asarray(lengths, dtype=np.float64)
    steps = np.arange(1, order + 1).reshape(order, *(1,) * (lengths.ndim + len(shape)))
    norms = log_norms.reshape(order, *(1,) * lengths.ndim, *shape)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        found = np.exp(norms + steps * np.log(lengths).reshape(lengths.shape + (1,) * len(shape)))
    return np.where(np.isnan(found), 0.0, found)  # inf - inf: an infinite norm times the length 0


def ratio_of_decay(decay: np.ndarray) -> np.ndarray:
    """The factor from one order to the next, at the highest orders: (order, *S) -> S, NaN for a single order.

    The root of the last order over the last but two, which does not mind a function whose odd or even orders
    vanish; with two orders, the last over the first. Zero where the last order is rounding.
    """
    order = len(decay)
    if order == 1:
        return np.full(decay.shape[1:], np.nan)
    top, before, steps = decay[-1], decay[-3 if order > 2 else -2], 2 if order > 2 else 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = (top / before) ** (1 / steps)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    return np.where(top <= NEGLIGIBLE * decay.max(axis=0), 0.0, ratio)


def truncation_of(decay: np.ndarray) -> np.ndarray:
    """The sum of the orders left out if the decay goes on as a geometric series: (order, *S) -> S."""
    ratio = ratio_of_decay(decay)
    last = decay[-1] if len(decay) == 1 else np.maximum(decay[-1], ratio * decay[-2])
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = np.where(ratio < 1, last * ratio / (1 - ratio), np.inf)
    return np.where(np.isnan(ratio), np.nan, tail)


def warnings_of(
    decay: np.ndarray, change: np.ndarray, stderr: np.ndarray, directions: int
) -> tuple[str, ...]:
    """What the measured decay and the statistical error have to say against a prediction, in plain words."""
    found = []
    ratio = ratio_of_decay(decay)
    growing = ratio >= 1
    if growing.any():
        worst = np.unravel_index(np.argmax(ratio), ratio.shape)
        last = range(max(1, len(decay) - 2), len(decay) + 1)
        sizes = ", ".join(f"{decay[(r - 1, *worst)]:.3g}" for r in last)
        found.append(
            f"the series does not decay for this h{_share(growing)}: at orders {last[0]} to {last[-1]} its "
            f"terms can be as large as {sizes}, so h probably lies outside the region where the series can be "
            "trusted; retrain to check, or ask about a smaller change"
        )
    noisy = stderr > np.abs(change)
    if np.isinf(stderr).any():
        found.append("the statistical error is unknown, one direction having no spread: use more directions")
    elif noisy.any():
        with np.errstate(divide="ignore", over="ignore"):
            worst_ratio = np.max(stderr[noisy] / np.abs(change[noisy]))
        remedy = "use more directions"
        if not noisy.ndim and worst_ratio < 100:
            wanted = math.ceil(directions * (2 * worst_ratio) ** 2)
            remedy = f"about {wanted} directions instead of {directions} would bring it to half the change"
        found.append(f"the statistical error exceeds the change itself{_share(noisy)}: {remedy}")
    return tuple(found)


def warnings_of_beyond(
    beyond: np.ndarray, limit: float, change: np.ndarray, stderr: np.ndarray
) -> tuple[str, ...]:
    """What the orders left out may add, over the change, (B,) or one, and the error say against a prediction."""
    found = []
    outside = beyond > limit
    if outside.any():
        found.append(
            f"h lies outside the region of trust{_share(outside)}: the series falls so slowly from order to order that "
            f"the orders left out may add {np.max(beyond):.2g} of the change (trusted up to {limit}); retrain to "
            "check, or ask about fewer examples"
        )
    unknown = np.isinf(stderr)
    if unknown.any():
        found.append(
            "nothing was measured of what several examples do together, so the error is unknown: add random "
            "directions of "
            "order 2 or more"
        )
    noisy = ~unknown & (stderr > np.abs(change))
    if noisy.any():
        found.append(
            f"the error exceeds the change itself{_share(noisy)}: more directions, or retrainings, narrow it"
        )
    return tuple(found)


def warnings_of_influence(change: np.ndarray, stderr: np.ndarray) -> tuple[str, ...]:
    """How many influences are noise."""
    noisy = int((stderr > np.abs(change)).sum())
    if not noisy:
        return ()
    return (f"{noisy} of {change.size} influences are smaller than their error: use more directions",)


def _share(where: np.ndarray) -> str:
    return f" (at {int(where.sum())} of {where.size} values)" if where.ndim else ""
