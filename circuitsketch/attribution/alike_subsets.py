"""Subsets to retrain of both kinds that are asked about: examples at random, and examples that act alike.

In: how each example moves the parameters to first order, perhaps labels. Out: downweights, for the checks of a run
(`draw_alike_and_random`) and for a calibration (`draw_mixed`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.attribution.subsets import MIXED, check_sizes, default_sizes, draw_subsets, prepare_draws
from circuitsketch.estimators.alikeness import Alikeness
from circuitsketch.estimators.calibration import LEAST_FOR_95
from circuitsketch.estimators.retrained_together import ALIKE

# Of the checks of a run.
SHARES = (0.05, 0.2, 0.5)  # of the examples, in random subsets
RANDOM = (14, 12, 10)  # random subsets of each size: errors of small ones have the heaviest tails
TOGETHER = 12  # alike subsets of each kind
# Of a calibration.
TRIES = 20  # draws per subset at most, until enough differ and are of the right kind
NOT_ALIKE = 0.8  # the share of random subsets that do not count as alike
ENOUGH_OF_BOTH = 2 * LEAST_FOR_95 + 2  # subsets that are worth dividing


def draw_alike_and_random(
    directions: np.ndarray, labels: Sequence[Any] | None, seed: int = 1
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Draw subsets at random, of SHARES of the examples, and alike ones.

    Alike are an example and those that move the parameters most like it and, where there are labels, examples that
    share one.

    Parameters
    ----------
    directions : array, shape (n, p)
        In which examples move the parameters, see `Alikeness`.
    labels : sequence or None
        The label of each example.
    seed : int
        Of the draws.

    Returns
    -------
    sizes : tuple of int
        Of the random subsets.
    kinds : array of int, shape (subsets,)
        The number of the size of each random subset, and ALIKE of others.
    weights : array, shape (subsets, n)
        Downweights 0 and 1: random subsets of each size, then alike ones, then those of one label, if there are labels.
    """
    rng, n = np.random.default_rng(seed), len(directions)
    sizes = tuple(sorted({min(max(2, round(share * n)), n) for share in SHARES}))
    kinds = np.repeat([*range(len(sizes)), ALIKE], [*RANDOM[: len(sizes)], TOGETHER])
    weights = np.zeros((len(kinds), n))
    for kind, subset in zip(kinds, weights, strict=True):
        if kind != ALIKE:
            subset[rng.choice(n, sizes[kind], replace=False)] = 1.0
            continue
        nearest = rank_by_likeness(directions, rng.integers(n))
        subset[nearest[: round(np.exp(rng.uniform(np.log(3), np.log(max(n // 8, 4)))))]] = 1.0
    if labels is not None:
        of_one_label = draw_subsets(n, labels, "label", (min(2, n), n // 2), TOGETHER, seed)[0]
        weights = np.concatenate([weights, of_one_label])
        kinds = np.concatenate([kinds, np.full(len(of_one_label), ALIKE)])
    return sizes, kinds, weights


def draw_mixed(
    moves: np.ndarray,
    effects: np.ndarray,
    labels: Sequence[Any] | None,
    size: Any,
    count: int,
    seed: int,
    smallest: int = 1,
) -> tuple[np.ndarray, tuple[float, float], Alikeness, str]:
    """Draw subsets to calibrate on: half of them random ones, half of them of alike examples.

    Alike are an example and those that move the parameters most like it; where some share labels, a third of these
    subsets is of one label. Half of the examples are drawn in proportion to their effect on what is measured, as
    questions are mostly about groups that matter to it; the others are drawn alike. Whether a subset counts as alike is
    decided by its coherence, and so it is of a question.

    Parameters
    ----------
    moves : array, shape (n, p)
        First-order effects of the examples on the parameters, or on projections of these.
    effects : array, shape (n, C)
        First-order effects of the examples on the measured values.
    labels : sequence or None
        The label of each example.
    size, count, seed, smallest :
        As for `draw_subsets`.

    Returns
    -------
    rows : array, shape (count, n)
        Downweights 0 and 1.
    sizes : tuple of float
        The smallest and the largest size that there may be.
    alikeness : Alikeness
        By which a question's kind is told.
    kind : {"mixed", "random"}
        "random" if there are too few subsets of a kind; then all are drawn at random.
    """
    n = len(moves)
    low, high = check_sizes(size, n, *default_sizes(n, smallest))
    alikeness = alikeness_for(moves, labels, (low, high))
    most = TRIES * count
    draw_random, sizes = prepare_draws(n, None, "random", size, most, seed, smallest)
    several = max(low, 2), high
    scale = np.sqrt((effects**2).mean(axis=0))
    matter = np.linalg.norm(effects / np.where(scale > 0, scale, 1.0), axis=1)
    chances = [np.full(n, 1 / n)]
    if matter.sum() > 0:
        chances.append(matter / matter.sum())
    draws = [prepare_nearest(alikeness.directions, chance, several, most, seed) for chance in chances]
    if alikeness.labels is not None:
        draws.append(prepare_draws(n, labels, "label", (min(max(low, 2), n), high), most, seed)[0])
    alike = gather(draws, alikeness.find_alike, count // 2, most)
    apart = gather([draw_random], lambda rows: ~alikeness.find_alike(rows), count - len(alike), most)
    if min(len(alike), len(apart)) < LEAST_FOR_95:
        return *draw_subsets(n, None, "random", size, count, seed, smallest), alikeness, "random"
    return np.concatenate([apart, alike]), sizes, alikeness, MIXED


def gather(
    draws: Sequence[Callable[[int], np.ndarray]],
    is_wanted: Callable[[np.ndarray], np.ndarray],
    count: int,
    most: int,
) -> np.ndarray:
    """Return different subsets that are wanted, of several draws in turns, (count, n); fewer if `most` are not enough.

    Most draws are wanted, so few are made at a time.
    """
    each = -(-count // len(draws))
    wanted, drawn = None, 0
    while drawn < most and (wanted is None or len(wanted) < count):
        some = min(each, most - drawn)
        rows = np.stack([draw(some) for draw in draws], axis=1)
        rows = rows.reshape(-1, rows.shape[-1])
        rows = rows[is_wanted(rows)]
        wanted = first_different(rows if wanted is None else np.concatenate([wanted, rows]), count)
        drawn += some
    assert wanted is not None
    return wanted


def prepare_nearest(
    directions: np.ndarray, chances: np.ndarray, sizes: tuple[int, int], count: int, seed: int
) -> Callable[[int], np.ndarray]:
    """Return what draws the next so many examples by some chances (n,), up to `count` in all, each with those that move
    the parameters most like it."""
    rng, n = np.random.default_rng([seed, count]), len(directions)

    def draw(some: int) -> np.ndarray:
        rows = np.zeros((some, n))
        for row in rows:
            size = rng.integers(sizes[0], max(sizes) + 1)
            row[rank_by_likeness(directions, rng.choice(n, p=chances))[:size]] = 1.0
        return rows

    return draw


def rank_by_likeness(directions: np.ndarray, example: int | np.integer) -> np.ndarray:
    """Return the ids of all examples (n,), that which moves the parameters most like an example first."""
    return np.argsort(-(directions @ directions[example]), kind="stable")


def alikeness_for(moves: np.ndarray, labels: Sequence[Any] | None, sizes: tuple[float, float]) -> Alikeness:
    """Learn which subsets of some sizes are alike, for a calibration: the same where they are drawn and asked about."""
    low, high = sizes
    return Alikeness.of(moves, labels, (round(low), round(high)), NOT_ALIKE)


def first_different(rows: np.ndarray, count: int) -> np.ndarray:
    """Return the first so many rows that are not the same as one before."""
    return rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])[:count]]
