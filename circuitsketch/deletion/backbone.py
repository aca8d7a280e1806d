"""Every example's own series, summed, and what is known of interactions: from h's to changes with honest errors.

In: the singles (n, order + 1, C), fitted interactions, h's (B, n), perhaps evidence. Out: `Answer`: the change, its
terms, one error that holds the posterior's spread and what both series leave out, and the ratio by which h is
trusted or not. How interactions are fitted is left to `interactions`, sentences and tables to `prediction`.

The error. At random deletions the posterior's deviations are right as they come (orders 2); three things they do not
know. Orders above the fitted ones: a geometric tail, by the ratio of the prior deviations of the last two orders at
h. Coherence: the examples of a group act in one direction, which directions of random phases hardly see. With
coherence = |sum h_i v_i|^2 / sum |h_i v_i|^2 (v: first-order effects on the measurement and the parameters), order r
is inflated by its root to the power r - 1, and (coherence - 1) x the group's own terms of order 2, what equal
examples would do together, counts as an error. And the fitted shapes count as wrong by as much as they say. The
numbers here (TRUST, TAIL, HIGH, DUPLICATES, WIDTH, FREEDOM) are heuristics: set on retrainings of microgpt, a
perceptron and a logistic regression, where bench/accuracy.py measures the coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.deletion.interactions import Interactions, Points, inner

TRUST = 0.4  # the ratio from one order of interactions to the next up to which h lies in the region of trust; their
# means count in full up to half of it and fade to nothing there: a series that hardly converges is worse than none
TAIL = 3.0  # errors of an example's own series, over its geometric tail
HIGH = 2.0  # deviations at orders above two, over the posterior's
DUPLICATES = 2.0  # weight of what equal examples would do together
WIDTH = 0.85  # deviations over those of a normal law, whose tails are lighter than errors are
FREEDOM = 5  # of Student's t for the intervals, for the same reason
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Answer:
    """For B h's and C values: change, stderr, left_out (B, C); terms, term_stderr (order, B, C); ratio (B,)."""

    change: np.ndarray
    stderr: np.ndarray
    terms: np.ndarray
    term_stderr: np.ndarray
    left_out: np.ndarray
    ratio: np.ndarray


@dataclass(frozen=True, eq=False)
class Parts:
    """What is known at B h's, before evidence.

    own (order, B, C): the summed terms of single examples. means, deviations (R - 1, B, C): of O_2..O_R.
    factors (R - 1, B): deviations over the posterior's. rest (B, C): the deviation of everything else. ratio (B,).
    """

    own: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    factors: np.ndarray
    rest: np.ndarray
    ratio: np.ndarray
    points: Points | None


def own_terms(singles: np.ndarray, h: np.ndarray, order: int) -> np.ndarray:
    """sum_i F_r(e_i, ..., e_i) h_i^r for r = 1..order: (order, B, C)."""
    used = np.flatnonzero(h.any(axis=0))
    h, singles = (h, singles) if 2 * len(used) > h.shape[1] else (h[:, used], singles[used])
    if np.isin(h, (0.0, 1.0)).all():
        flat = singles[:, 1 : order + 1].reshape(len(singles), -1)
        return np.moveaxis((h @ flat).reshape(len(h), order, -1), 1, 0)
    return np.stack([h**r @ singles[:, r] for r in range(1, order + 1)])


def own_tail(singles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each example's own series leaves out at h_i = 1, (n, C), and the ratio of its last orders, (n,)."""
    size = np.abs(singles[:, 1:])
    order = size.shape[1]
    peak = size.max(axis=2)
    if order == 1:
        return size[:, 0], np.full(len(size), np.nan)
    before, steps = (peak[:, -3], 2) if order > 2 else (peak[:, -2], 1)
    nothing = peak[:, -1] <= ROUNDING * peak.max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(nothing, 0.0, (peak[:, -1] / before) ** (1 / steps))
    bounded = np.minimum(ratio, 0.9)[:, None]
    return np.maximum(size[:, -1], bounded * size[:, -2]) * bounded / (1 - bounded), ratio


def coherence(
    singles: np.ndarray, h: np.ndarray, model: Interactions | None, at: Points | None
) -> np.ndarray:
    """|sum h_i v_i|^2 / sum |h_i v_i|^2, at least 1, over the values measured and the metric (which counts as four)."""
    first = singles[:, 1]
    rows = h if at is None else at.rows
    together = ((rows @ first) ** 2).sum(axis=1)
    apart = rows**2 @ (first**2).sum(axis=1)
    values = np.divide(together, apart, out=np.ones_like(apart), where=apart > 0)
    if model is None or at is None:
        return np.maximum(values, 1)
    apart = rows**2 @ np.diag(model.metric)
    metric = np.divide(inner(at.through, rows), apart, out=np.ones_like(apart), where=apart > 0)
    count = first.shape[1]
    return np.maximum((count * values + 4 * metric) / (count + 4), 1)


def parts_of(
    singles: np.ndarray, model: Interactions | None, h: np.ndarray, estimator: str, order: int
) -> Parts:
    """Everything known at h's (B, n), by an estimator: "interactions", "singles" or "first-order"."""
    whole = own_terms(singles, h, singles.shape[1] - 1)
    own = whole[: 1 if estimator == "first-order" else order]
    missing = whole[len(own) :].sum(axis=0)
    tail, _ = own_tail(singles)
    tail = TAIL * np.sqrt(h**2 @ tail**2)
    fits = [] if model is None else [fit for fit in model.orders if fit.r <= max(order, 2)]
    several = np.count_nonzero(h, axis=1) > 1
    batch, cells = h.shape[0], singles.shape[2]
    means, deviations = np.zeros((len(fits), batch, cells)), np.zeros((len(fits), batch, cells))
    factors = np.ones((len(fits), batch))
    if not fits or model is None:
        unknown = np.where(several, np.inf, 0.0)[:, None]
        ratio = np.where(several, np.nan, 0.0)
        return Parts(own, means, deviations, factors, np.sqrt(missing**2 + tail**2) + unknown, ratio, None)

    at = model.points(h)
    alike = np.where(several, coherence(singles, h, model, at), 1.0)
    found = [model.see(fit, at) for fit in fits]
    ratio = ratio_between([prior for _, _, prior, _ in found], singles, h)
    ratio = np.where(several, ratio * np.sqrt(alike), 0.0)
    counted = np.where(several, np.clip(2 - ratio / (TRUST / 2), 0, 1), 0.0)[:, None]
    shaped = np.zeros((batch, cells))
    for i, (fit, (mean, shape, prior, variance)) in enumerate(zip(fits, found, strict=True)):
        factors[i] = np.sqrt(alike) ** (fit.r - 1) * (1 if fit.r == 2 else HIGH)
        deviations[i] = factors[i][:, None] * np.sqrt(prior)
        if estimator == "interactions":
            means[i] = counted * mean
            deviations[i] = factors[i][:, None] * np.sqrt(variance)
            shaped = shaped + shape**2 + ((1 - counted) * mean) ** 2
    bounded = np.minimum(ratio, 0.9)[:, None]
    beyond = deviations[0] * bounded ** len(fits) / (1 - bounded)
    own_two = whole[1] if len(whole) > 1 else np.zeros((batch, cells))
    equal = (
        DUPLICATES
        * (alike - 1)[:, None]
        * np.sqrt((own_two**2 + (own_two**2).mean(axis=1, keepdims=True)) / 2)
    )
    rest = np.sqrt(missing**2 + tail**2 + (beyond**2 + equal**2 + shaped) * several[:, None])
    return Parts(own, means, deviations * several[:, None], factors, rest, ratio, at)


def ratio_between(priors: Sequence[np.ndarray], singles: np.ndarray, h: np.ndarray) -> np.ndarray:
    """How much smaller the last order of interactions is than the one before, (B,): a median over values.

    With order 2 alone, its deviation over that of first-order effects.
    """
    below = priors[-2] if len(priors) > 1 else h**2 @ singles[:, 1] ** 2
    below = np.maximum(below, np.finfo(float).tiny)
    return np.sqrt(np.median(priors[-1] / below, axis=1))


def combine(parts: Parts, means: np.ndarray | None = None, variance: np.ndarray | None = None) -> Answer:
    """The answer: own terms plus means of interactions; means and the whole variance may have been updated by
    evidence."""
    means = parts.means if means is None else means
    spread = (parts.deviations**2).sum(axis=0)
    total = spread + parts.rest**2 if variance is None else variance
    order = max(len(parts.own), len(means) + 1 if len(means) and means.any() else 1)
    terms = np.zeros((order, *parts.own.shape[1:]))
    errors = np.zeros_like(terms)
    terms[: len(parts.own)] = parts.own
    for i, (mean, deviation) in enumerate(zip(means, parts.deviations, strict=True), start=1):
        if i < order:
            terms[i] += mean
            errors[i] = WIDTH * deviation
    change = parts.own.sum(axis=0) + means.sum(axis=0)
    return Answer(change, WIDTH * np.sqrt(total), terms, errors, WIDTH * parts.rest, parts.ratio)
