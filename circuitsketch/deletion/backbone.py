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

from circuitsketch.deletion.interactions import Interactions
from circuitsketch.deletion.kernel import power

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
    h: np.ndarray


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


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the examples of B h's, C values each. own (order, B, C): sum_i F_r(e_i, ..., e_i) h_i^r. tail, first
    (B, C): the squared tails and first-order effects. metric (B,): the metric's diagonal, by h_i^2."""

    own: np.ndarray
    tail: np.ndarray
    first: np.ndarray
    metric: np.ndarray


def sums_of(singles: np.ndarray, metric: np.ndarray | None, h: np.ndarray) -> Sums:
    """The sums at h's (B, n)."""
    n, order, count = len(singles), singles.shape[1] - 1, singles.shape[2]
    diagonal = np.zeros(n) if metric is None else np.diag(metric)
    squared = np.concatenate([own_tail(singles)[0] ** 2, singles[:, 1] ** 2, diagonal[:, None]], axis=1)
    if ((h == 0) | (h == 1)).all():  # h^r is h: one product
        both = h @ np.concatenate([singles[:, 1:].reshape(n, -1), squared], axis=1)
        own = np.moveaxis(both[:, : order * count].reshape(len(h), order, count), 1, 0)
        rest = both[:, order * count :]
    else:
        own = np.stack([power(h, r) @ singles[:, r] for r in range(1, order + 1)])
        rest = h**2 @ squared
    return Sums(own, rest[:, :count], rest[:, count : 2 * count], rest[:, -1])


def coherence(sums: Sums, square: np.ndarray) -> np.ndarray:
    """|sum h_i v_i|^2 / sum |h_i v_i|^2, at least 1, over the values measured and the metric (which counts as four).

    square: h S h, (B,).
    """
    together, apart = (sums.own[0] ** 2).sum(axis=1), sums.first.sum(axis=1)
    values = np.divide(together, apart, out=np.ones_like(apart), where=apart > 0)
    there = np.divide(square, sums.metric, out=np.ones_like(apart), where=sums.metric > 0)
    count = sums.first.shape[1]
    return np.maximum((count * values + 4 * there) / (count + 4), 1)


def parts_of(
    singles: np.ndarray, model: Interactions | None, h: np.ndarray, estimator: str, order: int
) -> Parts:
    """Everything known at h's (B, n), by an estimator: "interactions", "singles" or "first-order"."""
    sums = sums_of(singles, None if model is None else model.prior.metric, h)
    whole = sums.own
    own = whole[: 1 if estimator == "first-order" else order]
    missing = whole[len(own) :].sum(axis=0)
    tail = TAIL * np.sqrt(sums.tail)
    fits = [] if model is None else [fit for fit in model.orders if fit.r <= max(order, 2)]
    several = np.count_nonzero(h, axis=1) > 1
    batch, cells = h.shape[0], singles.shape[2]
    means, deviations = np.zeros((len(fits), batch, cells)), np.zeros((len(fits), batch, cells))
    factors = np.ones((len(fits), batch))
    if not fits or model is None:
        unknown = np.where(several, np.inf, 0.0)[:, None]
        ratio = np.where(several, np.nan, 0.0)
        return Parts(own, means, deviations, factors, np.sqrt(missing**2 + tail**2) + unknown, ratio, h)

    square, found = model.look(h, fits)
    alike = np.where(several, coherence(sums, square), 1.0)
    ratio = ratio_between([at.prior for at in found], sums.first)
    ratio = np.where(several, ratio * np.sqrt(alike), 0.0)
    counted = np.where(several, np.clip(2 - ratio / (TRUST / 2), 0, 1), 0.0)[:, None]
    shaped = np.zeros((batch, cells))
    for i, (fit, at) in enumerate(zip(fits, found, strict=True)):
        factors[i] = np.sqrt(alike) ** (fit.r - 1) * (1 if fit.r == 2 else HIGH)
        deviations[i] = factors[i][:, None] * np.sqrt(at.prior)
        if estimator == "interactions":
            means[i] = counted * at.mean
            deviations[i] = factors[i][:, None] * np.sqrt(at.variance)
            shaped = shaped + at.shaped**2 + ((1 - counted) * at.mean) ** 2
    bounded = np.minimum(ratio, 0.9)[:, None]
    beyond = deviations[0] * bounded ** len(fits) / (1 - bounded)
    own_two = whole[1] if len(whole) > 1 else np.zeros((batch, cells))
    equal = (
        DUPLICATES
        * (alike - 1)[:, None]
        * np.sqrt((own_two**2 + (own_two**2).mean(axis=1, keepdims=True)) / 2)
    )
    rest = np.sqrt(missing**2 + tail**2 + (beyond**2 + equal**2 + shaped) * several[:, None])
    return Parts(own, means, deviations * several[:, None], factors, rest, ratio, h)


def ratio_between(priors: Sequence[np.ndarray], first: np.ndarray) -> np.ndarray:
    """How much smaller the last order of interactions is than the one before, (B,): a median over values.

    With order 2 alone, its deviation over that of first-order effects, whose sum of squares is `first` (B, C).
    """
    below = priors[-2] if len(priors) > 1 else first
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
