"""The region of trust: how far a series can be trusted, and the sentences that say so (THEORY section 6).

In: the measured norms ||F_r||, or what the orders left out may add, with changes and errors. Out: the radius of the
region, which h lie outside of it, what is left out, warnings in plain words. Records and tables are left to
`prediction`.

The criterion is the same for the radius that `stability` prints, for `outside` and for the warning, whatever the
estimator: the terms ||F_r|| |h|^r that h can have at most must fall from order to order. With `growth` the factor from
one norm to the next, that is growth |h| < 1, so the radius is 1 / growth.

That bound is nearly reached where deletions add up, as those of half of all examples do, and far from being reached by
a few examples, whose terms mostly average out. Random directions alone cannot tell which is the case. Where the series
of every single example is known, the estimators know the part that does not add up; what they miss is the rest, and
`counted` says how much of |h| is counted for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NEGLIGIBLE = 1e-12  # of the largest order: a coefficient of this size is rounding
# What `counted` counts where the series of single examples are known, a heuristic: twice |h| from this share of the
# examples on (the theorem's bound lets a term of order r err by 2^r times its size), and less by the square of the
# share below it. Seen on nine models (50 to 1,000 examples; linear, logistic, tanh and ReLU networks, microgpt; plain
# descent, momentum, Adam; 1 to 4 seeds): random deletions of 10 % are inside, of a half and more outside. In between it
# can be too generous: of a tanh network's deletions of 30 % of 50 examples, 75 % were inside, of which .61 of the 95 %
# intervals held. Without the rule, half of the examples of a linear model deleted, 97 % were inside and .49 held.
FULL, TWICE, POWER = 0.4, 2.0, 2


@dataclass(frozen=True, eq=False)
class Region:
    """The region of trust of a measurement of shape S.

    log_norms : (order, *S), log ||F_r||. examples : how many there are, where the series of each is known; else None.
    """

    log_norms: np.ndarray
    examples: int | None = None

    @property
    def growth(self) -> np.ndarray:
        """The factor from one norm to the next at the highest orders, by `ratio_of_logs`: shape S."""
        return ratio_of_logs(self.log_norms)

    @property
    def radius(self) -> np.ndarray:
        """The length |h| at which the terms stop falling: shape S; NaN where a single order was measured."""
        with np.errstate(divide="ignore"):
            return length_of(1 / self.growth, self.examples)

    def terms(self, lengths: float | np.ndarray) -> np.ndarray:
        """||F_r|| to the counted lengths: (order, *S) for one, (order, B, *S) for many."""
        return scaled_norms(self.log_norms, counted(lengths, self.examples))

    def excludes(self, lengths: np.ndarray) -> np.ndarray:
        """Whether an h of length |h| lies outside, bool (B, *S) for B lengths."""
        return lengths.reshape(-1, *(1,) * self.radius.ndim) > self.radius


def counted(lengths: float | np.ndarray, examples: int | None) -> np.ndarray:
    """How much of |h| is counted: all of it, or, where every example's own series is known, 2 |h| (d / FULL n)^2 for
    d = |h|^2 deleted examples of n, and 2 |h| from FULL n on."""
    lengths = np.asarray(lengths, dtype=np.float64)
    if examples is None:
        return lengths
    return TWICE * lengths * np.minimum(lengths**2 / (FULL * examples), 1) ** POWER


def length_of(count: np.ndarray, examples: int | None) -> np.ndarray:
    """The length |h| of which so much is counted: the inverse of `counted`."""
    if examples is None:
        return count
    full = math.sqrt(FULL * examples)
    length = count / TWICE
    return np.where(length < full, (length * full ** (2 * POWER)) ** (1 / (2 * POWER + 1)), length)


def ratio_of_logs(log_norms: np.ndarray) -> np.ndarray:
    """`ratio_of_decay` of norms (order, *S) whose logarithms are given: S."""
    with np.errstate(invalid="ignore", over="ignore"):
        return ratio_of_decay(np.exp(log_norms - np.maximum(log_norms.max(axis=0), -1e300)))


def scaled_norms(log_norms: np.ndarray, lengths: float | np.ndarray) -> np.ndarray:
    """||F_r|| |h|^r from log ||F_r|| (order, *S): (order, *S) for one length, (order, B, *S) for many."""
    order, *shape = log_norms.shape
    lengths = np.asarray(lengths, dtype=np.float64)
    steps = np.arange(1, order + 1).reshape(order, *(1,) * (lengths.ndim + len(shape)))
    norms = log_norms.reshape(order, *(1,) * lengths.ndim, *shape)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        terms = np.exp(norms + steps * np.log(lengths).reshape(lengths.shape + (1,) * len(shape)))
    return np.where(np.isnan(terms), 0.0, terms)  # inf - inf: an infinite norm times the length 0


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


def truncation_of(terms: np.ndarray, order: int | None = None) -> np.ndarray:
    """The sum of the orders left out: (orders, *S) -> S. Those above `order` that were measured, and, if the decay goes
    on as a geometric series, all that come after them."""
    ratio = ratio_of_decay(terms)
    last = terms[-1] if len(terms) == 1 else np.maximum(terms[-1], ratio * terms[-2])
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = np.where(ratio < 1, last * ratio / (1 - ratio), np.inf)
        measured = terms[order:].sum(axis=0) if order is not None else 0.0
    return np.where(np.isnan(ratio), np.nan, tail + measured)


def warnings_of(
    terms: np.ndarray, outside: np.ndarray, change: np.ndarray, stderr: np.ndarray, directions: int, reach: str = ""
) -> tuple[str, ...]:
    """What the region of trust and the statistical error of random directions have to say against a prediction, in
    plain words. terms : (order, *S), the largest that each can be. reach : see `reach_of`."""
    sentences = []
    if outside.any():
        sentences.append(sentence_outside(terms, outside, reach))
    noisy = (stderr > np.abs(change)) & ~outside  # outside, more directions do not help
    if np.isinf(stderr).any():
        sentences.append("the statistical error is unknown, one direction having no spread: use more directions")
    elif noisy.any():
        with np.errstate(divide="ignore", over="ignore"):
            worst_ratio = np.max(stderr[noisy] / np.abs(change[noisy]))
        remedy = "use more directions"
        if not noisy.ndim and worst_ratio < 100:
            wanted = math.ceil(directions * (2 * worst_ratio) ** 2)
            remedy = f"about {wanted} directions instead of {directions} would bring it to half the change"
        sentences.append(f"the statistical error exceeds the change itself{_share(noisy)}: {remedy}")
    return tuple(sentences)


def sentence_outside(terms: np.ndarray, outside: np.ndarray, reach: str = "") -> str:
    """That h lies outside the region of trust, and by what; terms (order, *S), outside S."""
    with np.errstate(invalid="ignore"):
        ratio = np.where(outside, ratio_of_decay(terms), -1.0)
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    last = range(max(1, len(terms) - 2), len(terms) + 1)
    sizes = ", ".join(f"{terms[(r - 1, *worst)]:.3g}" for r in last)
    return (
        f"h lies outside the region of trust{_share(outside)}: the series does not decay for this h{reach}; at orders "
        f"{last[0]} to {last[-1]} its terms can be as large as {sizes}; retrain to check, query.calibrate() on "
        "subsets like this one, or ask about a smaller change"
    )


def reach_of(region: Region, lengths: np.ndarray, outside: np.ndarray) -> str:
    """The length and the radius of the h and the value (B, *S) that lies farthest outside, in words."""
    radius = np.broadcast_to(region.radius, outside.shape)
    wide = np.broadcast_to(lengths.reshape(-1, *(1,) * (outside.ndim - 1)), outside.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = np.unravel_index(np.argmax(np.where(outside, wide / radius, -1.0)), outside.shape)
    return f" (|h| = {wide[worst]:.3g}, and the radius is {radius[worst]:.3g})"


def sentences_of_beyond(beyond: np.ndarray, limit: float) -> tuple[str, ...]:
    """What the orders left out may add, over the change, (B,) or one, says against a prediction."""
    outside = beyond > limit
    if not outside.any():
        return ()
    return (
        f"h lies outside the region of trust{_share(outside)}: the series falls so slowly from order to order that "
        f"the orders left out may add {np.max(beyond):.2g} of the change (trusted up to {limit}); retrain to "
        "check, query.calibrate() on subsets like this one, or ask about fewer examples",
    )


def warnings_of_lack(lack: str, rows: np.ndarray) -> tuple[str, ...]:
    """What a fit without the similarity of examples says against the errors of h's (B, n) of several examples."""
    if not lack or (np.count_nonzero(rows, axis=1) < 2).all():
        return ()
    return (
        f"which examples are alike is left out of what they do together: it would take {lack}; the interval may be too "
        "narrow for examples that act alike; query.calibrate() gives one that holds, groups= where examples always go "
        "together",
    )


def warnings_of_error(stderr: np.ndarray) -> tuple[str, ...]:
    """What an error that is unknown says against a prediction."""
    if not np.isinf(stderr).any():
        return ()
    return (
        "nothing was measured of what several examples do together, so the error is unknown: add random directions of "
        "order 2 or more",
    )


def notes_of_error(change: np.ndarray, stderr: np.ndarray, typical: np.ndarray) -> tuple[str, ...]:
    """What a known error that is large says of a prediction, by the change and by what so many examples typically
    change.

    A change of nearly 0 is no worse known than a larger one, so its size alone does not count.
    """
    noisy = ~np.isinf(stderr) & (stderr > np.maximum(np.abs(change), typical))
    if not noisy.any():
        return ()
    return (
        f"the error exceeds the change itself, and what such examples typically change{_share(noisy)}: "
        "query.retrain_worst(16) or query.calibrate() narrows it, and groups= where these examples always go together",
    )


def warnings_of_influence(
    change: np.ndarray, stderr: np.ndarray, remedy: str = "use more directions"
) -> tuple[str, ...]:
    """How many influences are noise."""
    noisy = int((stderr > np.abs(change)).sum())
    if not noisy:
        return ()
    return (f"{noisy} of {change.size} influences are smaller than their error: {remedy}",)


def _share(where: np.ndarray) -> str:
    return f" (at {int(where.sum())} of {where.size} values)" if where.ndim else ""
