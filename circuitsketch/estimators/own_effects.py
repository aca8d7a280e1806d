"""Every example's own series, summed, and what is known of interactions: from h's to changes with honest errors.

In: per-example series (n, order + 1, C), fitted interactions, h's (B, n), perhaps evidence. Out: `Estimate`: the
change, its terms, one error that holds the posterior's spread and what both series leave out, and the ratio by which h
is trusted or not. How interactions are fitted is left to `interactions.fitting`, sentences and tables to `prediction`.

The error. The posterior's deviations are right as they come where examples act apart. Three things they do not know.
Orders above the fitted ones: a geometric tail, by the ratio of the prior deviations of the last two orders at h.
Coherence: the examples of a group act in one direction, which directions of random phases hardly see. With coherence =
|sum h_i v_i|^2 / sum |h_i v_i|^2 (v: first-order effects on the measurement and the parameters) above what chance
makes of it, order r is inflated by its root to the power r - 1. And where effects point in one direction u, a pair's
F_ij is to S_ij as F_ii is to S_ii, some number that depends on u alone: with c_i = F_ii / S_ii and c the root of the
mean of c_i^2 by S_ii over the group, order 2 may be off by c (coherence - 1) sum S_ii, what equal examples do together.
The fitted shapes count as wrong by as much as they say.

The posterior rests on many directions, each of these on a number or two. So the interval's quantile is Student's, with
the degrees of freedom by Satterthwaite's rule: infinitely many for the posterior, GUESSED for each of the others. A
random subset is then near the normal distribution, a coherent group far from it. TRUST, TAIL and HIGH are heuristics:
set on retrainings of microgpt, a perceptron and a logistic regression, where bench/accuracy.py measures the coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from circuitsketch.arrays import power
from circuitsketch.errors import InputError
from circuitsketch.estimators.caveats import typical_change
from circuitsketch.estimators.checks import choose_order, refuse_nonfinite
from circuitsketch.estimators.convergence import (
    notes_of_error,
    reach_of,
    sentence_outside,
    sentences_of_beyond,
    warnings_of_error,
    warnings_of_influence,
    warnings_of_lack,
)
from circuitsketch.estimators.exact_series import ExactSeries
from circuitsketch.estimators.interactions.fitting import InteractionsFit
from circuitsketch.estimators.interactions.posterior import Interactions
from circuitsketch.estimators.interface import Effects, Estimate, Measurement
from circuitsketch.estimators.monte_carlo import MonteCarlo
from circuitsketch.estimators.own_series import cut_series
from circuitsketch.limits import blocks_of

CONVERGES = 0.4  # the ratio from one order of interactions to the next up to which their means count; in full up to
# half of it, fading to nothing there: a series that hardly converges is worse than none
TRUST = 0.1  # what the orders left out may add, over the change, up to which h lies in the region of trust
TAIL = 2.0  # errors of an example's own series, over its geometric tail
HIGH = 2.0  # deviations at orders above two, over the posterior's
GUESSED = 3  # degrees of freedom of a deviation that one or two numbers tell: right up to a factor of about two
NORMAL = 1e6  # degrees of freedom: the normal distribution


@dataclass(frozen=True, eq=False)
class Parts:
    """What is known at B h's, before evidence.

    own (order, B, C): the summed terms of single examples. means, deviations (R - 1, B, C): of O_2..O_R.
    factors (R - 1, B): deviations over the posterior's. rest (B, C): the deviation of everything else. beyond (B, C):
    what both series may leave out. guessed (B, C): of variances that are guesses, the sum of the squares.
    """

    own: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    factors: np.ndarray
    rest: np.ndarray
    beyond: np.ndarray
    guessed: np.ndarray
    h: np.ndarray


@dataclass(frozen=True, eq=False)
class OwnEffects:
    """Every example's own series, summed: the estimators "per-example" and "first-order" (the first orders alone).

    random : the estimator of the random directions, which measures the region of trust. fit : the fitted interactions,
    whose deviations are part of the error.
    """

    measurement: Measurement
    random: MonteCarlo | ExactSeries
    fit: InteractionsFit
    evidence = None  # of estimators that take some in
    name: str = "per-example"

    @property
    def working_bytes(self) -> int:
        """A few copies of the per-example series."""
        return 2 * self.measurement.flat_per_example.nbytes

    @property
    def highest_order(self) -> int:
        """The highest order of a prediction."""
        return max(self.measurement.order, self.measurement.flat_per_example.shape[1] - 1)

    def predict(self, h: np.ndarray, order: int | None = None, median_groups: int | None = None) -> Estimate:
        """Estimate the change for h of shape (n,) or (B, n)."""
        if median_groups is not None:
            raise InputError(f"median_groups belongs to estimator='theorem'; {self.name!r} takes no median")
        order = 1 if self.name == "first-order" else choose_order(order, self.highest_order)
        rows, shape = np.atleast_2d(h), self.measurement.shape
        blocks = blocks_of(len(rows), 16 * self.measurement.n)
        estimate = join([self.estimate(rows[block], order) for block in blocks], shape, h.ndim == 1)
        refuse_nonfinite(estimate.change)
        return self.judge(estimate, rows)

    def estimate(self, h: np.ndarray, order: int) -> Estimate:
        """Estimate the changes (B, C) for h's (B, n)."""
        parts = parts_of(self.measurement.flat_per_example, self.fit.model, h, self.name, order)
        return combine(parts) if order < 2 or self.evidence is None else self.update(parts)

    def update(self, parts: Parts) -> Estimate:
        """Combine the parts with the evidence; for estimators that take some in."""
        raise NotImplementedError

    def judge(self, estimate: Estimate, rows: np.ndarray) -> Estimate:
        """Say whether h's (B, n) lie in the region of trust, by their lengths and by what the orders left out may
        add."""
        lengths = np.linalg.norm(rows, axis=1)
        change, stderr, slowness, shape = estimate.change, estimate.stderr, estimate.slowness, self.measurement.shape
        assert slowness is not None
        slow = (slowness > TRUST).reshape(slowness.shape + (1,) * len(shape))
        slow = np.broadcast_to(slow, change.shape) & ((change != 0) | (stderr != 0))
        outside = np.zeros(change.shape, dtype=bool)
        sentences: tuple[str, ...] = ()
        region = self.random.region
        if region is not None:
            excluded = region.excludes(lengths)
            cut = slice(None) if slowness.ndim else 0
            outside = excluded[cut]
            if outside.any():
                reach = reach_of(region, lengths, excluded)
                sentences = (sentence_outside(region.terms(lengths)[:, cut], outside, reach),)
                every = outside.reshape(*slowness.shape, -1).all(axis=-1)
                slowness = np.where(every, 0.0, slowness)  # the warning is there already
        sentences += sentences_of_beyond(slowness, TRUST)
        typical = typical_change(rows, self.measurement.flat_per_example[:, 1])
        return replace(
            estimate,
            outside=outside | slow,
            estimator=self.name,
            doubts=sentences,
            warnings=(
                *warnings_of_error(stderr),
                *warnings_of_lack("" if self.fit.model is None else self.fit.lack, rows),
            ),
            notes=notes_of_error(change, stderr, typical.reshape(change.shape)),
        )

    def influence(self) -> Effects:
        """Sum every example's own series; the error is what the series leaves out."""
        flat = self.measurement.flat_per_example
        order = 1 if self.name == "first-order" else flat.shape[1] - 1
        change, stderr = influence(flat, order)
        return self.effects(change, stderr, order)

    def effects(self, change: np.ndarray, stderr: np.ndarray, order: int) -> Effects:
        """Shape the changes of all examples as the measurement is."""
        change, stderr = (part.reshape(self.measurement.n, *self.measurement.shape) for part in (change, stderr))
        name = "first-order" if self.name == "first-order" else "per-example"
        remedy = "query.retrain_worst(16) retrains the worst of them"
        return Effects(change, stderr, order, name, warnings_of_influence(change, stderr, remedy))


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the examples of B h's, C values each.

    own (order, B, C): sum_i F_r(e_i, ..., e_i) h_i^r. By h_i^2: tail, first (B, C), squared tails and first-order
    effects; two (B, C), F_2(e_i, e_i)^2 / S_ii; similarity (B,), S_ii.
    """

    own: np.ndarray
    tail: np.ndarray
    first: np.ndarray
    two: np.ndarray
    similarity: np.ndarray


def sums_of(per_example: np.ndarray, diagonal: np.ndarray | None, h: np.ndarray) -> Sums:
    """The sums at h's (B, n); diagonal: S_ii, (n,)."""
    series = cut_series(per_example)
    per_example = series.terms
    n, order, count = len(per_example), per_example.shape[1] - 1, per_example.shape[2]
    diagonal = np.zeros(n) if diagonal is None else diagonal
    two = per_example[:, 2] ** 2 if order > 1 else np.zeros((n, count))
    two = np.divide(two, diagonal[:, None], out=np.zeros_like(two), where=diagonal[:, None] > 0)
    squared = np.concatenate([series.tail**2, per_example[:, 1] ** 2, two, diagonal[:, None]], axis=1)
    if ((h == 0) | (h == 1)).all():  # h^r is h: one product
        both = h @ np.concatenate([per_example[:, 1:].reshape(n, -1), squared], axis=1)
        own = np.moveaxis(both[:, : order * count].reshape(len(h), order, count), 1, 0)
        rest = both[:, order * count :]
    else:
        own = np.stack([power(h, r) @ per_example[:, r] for r in range(1, order + 1)])
        rest = h**2 @ squared
    tail, first, two = (rest[:, i * count : (i + 1) * count] for i in range(3))
    return Sums(own, tail, first, two, rest[:, -1])


def influence(per_example: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Every example's own series to an order, summed, and its error: two arrays (n, C)."""
    series = cut_series(per_example)
    error = np.hypot(TAIL * series.tail, series.terms[:, order + 1 :].sum(axis=1))
    return series.terms[:, 1 : order + 1].sum(axis=1), error


def coherence(sums: Sums, square: np.ndarray, sizes: tuple[float, float]) -> np.ndarray:
    """|sum h_i v_i|^2 / sum |h_i v_i|^2 less what chance adds, at least 1: (B,).

    Of first-order effects on the values measured and of those that the similarity knows (square: h S h), weighed by
    their effective dimensions D (sizes). Of effects that point anywhere the ratio is 1 with a deviation of (2 /
    D)^(1/2): an excess of that much is chance.
    """
    together, apart = (sums.own[0] ** 2).sum(axis=1), sums.first.sum(axis=1)
    values = np.divide(together, apart, out=np.ones_like(apart), where=apart > 0)
    there = np.divide(square, sums.similarity, out=np.ones_like(apart), where=sums.similarity > 0)
    whole = sum(sizes)
    return np.maximum((sizes[0] * values + sizes[1] * there) / whole - np.sqrt(2 / whole), 1)


def parts_of(per_example: np.ndarray, model: Interactions | None, h: np.ndarray, estimator: str, order: int) -> Parts:
    """Everything known at h's (B, n), by an estimator: "interactions", "per-example" or "first-order"."""
    sums = sums_of(per_example, None if model is None else model.prior.diagonal, h)
    whole = sums.own
    own = whole[: 1 if estimator == "first-order" else order]
    missing = whole[len(own) :].sum(axis=0) ** 2
    tail = TAIL**2 * sums.tail
    fits = [] if model is None else [fit for fit in model.orders if fit.r <= max(order, 2)]
    several = np.count_nonzero(h, axis=1) > 1
    batch, cells = h.shape[0], per_example.shape[2]
    means, deviations = np.zeros((len(fits), batch, cells)), np.zeros((len(fits), batch, cells))
    factors = np.ones((len(fits), batch))
    if not fits or model is None:
        unknown = np.where(several, np.inf, 0.0)[:, None]
        beyond = np.where(several[:, None], np.nan, np.zeros((batch, cells)))
        return Parts(own, means, deviations, factors, np.sqrt(missing + tail) + unknown, beyond, tail**2, h)

    square, at_orders = model.look(h, fits)
    alike = np.where(several, coherence(sums, square, model.effective), 1.0)
    ratio = ratio_between([at.prior for at in at_orders], sums.first)
    ratio = np.where(several, ratio * np.sqrt(alike), 0.0)
    counted = np.where(several, np.clip(2 - ratio / (CONVERGES / 2), 0, 1), 0.0)[:, None]
    shaped, guessed = np.zeros((batch, cells)), tail**2
    for i, (fit, at) in enumerate(zip(fits, at_orders, strict=True)):
        factors[i] = np.sqrt(alike) ** (fit.r - 1) * (1 if fit.r == 2 else HIGH)
        variance = np.maximum(at.prior, at.variance + at.mean**2)  # what was measured and is left out counts as error
        if estimator == "interactions" and order < fit.r:  # known, and left out
            missing = missing + (counted * at.mean) ** 2
            variance = at.variance
        elif estimator == "interactions":
            means[i] = counted * at.mean
            variance = at.variance
            shaped = shaped + at.shaped**2 + ((1 - counted) * at.mean) ** 2
        deviations[i] = factors[i][:, None] * np.sqrt(variance) * several[:, None]
        guessed = guessed + ((factors[i] ** 2 - 1)[:, None] * variance) ** 2
    bounded = np.minimum(ratio, 0.9)[:, None]
    beyond = deviations[0] * bounded ** len(fits) / (1 - bounded)
    equal = ((alike - 1) ** 2 * sums.similarity)[:, None] * sums.two
    guesses = [part * several[:, None] for part in (beyond**2, equal, shaped)]
    rest = np.sqrt(missing + tail + sum(guesses))
    guessed = guessed + sum(part**2 for part in guesses)
    last = whole[-1] if len(whole) > 1 else 0.0  # a series whose last order still counts has not converged either
    return Parts(own, means, deviations, factors, rest, np.hypot(beyond, last), guessed, h)


def ratio_between(priors: Sequence[np.ndarray], first: np.ndarray) -> np.ndarray:
    """How much smaller the last order of interactions is than the one before, (B,): a median over values.

    With order 2 alone, its deviation over that of first-order effects, whose sum of squares is `first` (B, C).
    """
    below = priors[-2] if len(priors) > 1 else first
    below = np.maximum(below, np.finfo(float).tiny)
    return np.sqrt(np.median(priors[-1] / below, axis=1))


def combine(parts: Parts, means: np.ndarray | None = None, variance: np.ndarray | None = None) -> Estimate:
    """Add the means of interactions to the examples' own terms, for B h's and C values.

    means (R - 1, B, C), variance (B, C) : of the interactions and of everything, where evidence has updated them.
    """
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
            errors[i] = deviation
    change = parts.own.sum(axis=0) + means.sum(axis=0)
    tiny = np.finfo(float).tiny
    prior = spread + parts.rest**2
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        degrees_of_freedom = GUESSED * np.nan_to_num(
            (prior / np.sqrt(np.maximum(parts.guessed, tiny))) ** 2, nan=NORMAL
        )
        slowness = np.sqrt((parts.beyond**2).mean(axis=1) / np.maximum((change**2).mean(axis=1), tiny))
    degrees_of_freedom = np.clip(degrees_of_freedom, GUESSED, NORMAL)
    return Estimate(change, np.sqrt(total), terms, errors, parts.rest, degrees_of_freedom, slowness=slowness)


def join(estimates: Sequence[Estimate], shape: tuple[int, ...], single: bool) -> Estimate:
    """Join the estimates of blocks of h's (B, C) to one of shape (B, *S), or S for a single h."""

    def joined(name: str, axis: int = 0, shape: tuple[int, ...] = shape) -> np.ndarray:
        whole = np.concatenate([getattr(estimate, name) for estimate in estimates], axis=axis)
        shaped = whole.reshape(*whole.shape[: axis + 1], *shape)
        return shaped.take(0, axis=axis) if single else shaped

    return Estimate(
        joined("change"),
        joined("stderr"),
        joined("terms", 1),
        joined("term_stderr", 1),
        joined("truncation"),
        joined("degrees_of_freedom"),
        slowness=joined("slowness", 0, ()),
    )
