"""Which examples are alike, and which subsets are retrained to check and to calibrate errors."""

from __future__ import annotations

import numpy as np
import pytest

from circuitsketch.attribution import alike_subsets
from circuitsketch.attribution.alike_subsets import (
    RANDOM,
    SHARES,
    TOGETHER,
    draw_alike_and_random,
    draw_mixed,
)
from circuitsketch.estimators.alikeness import Alikeness, normalize, share_a_label, shares_labels
from circuitsketch.estimators.retrained_together import ALIKE

N, GROUPS = 120, 12
EFFECTS = np.random.default_rng(9).normal(size=(N, 2)) * (np.arange(N) < N // 2)[:, None]
LABELS = np.repeat(np.arange(GROUPS), N // GROUPS).tolist()


def moves(noise, seed=0, p=30):
    """Examples of a group move alike, up to some noise, and all of them in one direction too."""
    rng = np.random.default_rng(seed)
    return 3.0 + rng.normal(size=(GROUPS, p))[LABELS] + noise * rng.normal(size=(N, p))


def random_rows(count, seed):
    rng = np.random.default_rng(seed)
    rows = np.zeros((count, N))
    for row in rows:
        row[rng.choice(N, rng.integers(2, N // 4), replace=False)] = 1.0
    return rows


def test_groups_are_alike_and_random_subsets_mostly_are_not():
    alikeness = Alikeness.of(moves(0.3))
    groups = (np.array(LABELS) == np.arange(GROUPS)[:, None]).astype(float)
    assert alikeness.find_alike(groups).all()
    assert 0.02 < alikeness.find_alike(random_rows(500, 7)).mean() < 0.2
    assert not alikeness.find_alike(np.eye(N)).any()  # one example
    np.testing.assert_allclose(alikeness.coherence(2.5 * groups), alikeness.coherence(groups))
    assert alikeness.coherence(np.zeros((1, N))) == 0


def test_equal_examples_are_as_coherent_as_they_are_many():
    alikeness = Alikeness.of(moves(0.0))
    rows = np.zeros((3, N))
    for row, size in zip(rows, (2, 5, 10), strict=True):
        row[:size] = 1.0
    np.testing.assert_allclose(alikeness.coherence(rows), [2, 5, 10])


def test_subsets_have_the_sizes_and_the_alike_ones_share_a_group():
    directions = Alikeness.of(moves(0.1)).directions
    sizes, kinds, weights = draw_alike_and_random(directions, LABELS)
    assert sizes == tuple(round(share * N) for share in SHARES) and weights.shape == (len(kinds), N)
    for kind, (size, count) in enumerate(zip(sizes, RANDOM, strict=True)):
        rows = weights[kinds == kind]
        assert (rows.sum(axis=1) == size).all() and len(np.unique(rows, axis=0)) == count
    alike = weights[kinds == ALIKE]
    assert len(alike) == 2 * TOGETHER
    for row in alike:
        counts = np.bincount(np.array(LABELS)[row > 0], minlength=GROUPS)
        assert row.sum() >= 2 and counts.max() >= min(row.sum(), N // GROUPS)
    assert len(draw_alike_and_random(directions, None)[2]) == len(weights) - TOGETHER == sum(RANDOM) + TOGETHER
    np.testing.assert_array_equal(draw_alike_and_random(directions, LABELS)[2], weights)
    assert not np.array_equal(draw_alike_and_random(directions, LABELS, seed=2)[2], weights)


def test_labels_that_all_differ_are_not_shared():
    assert shares_labels(LABELS) and not shares_labels(list(range(5))) and not shares_labels(None)
    assert np.array_equal(normalize(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


@pytest.mark.parametrize("labels", [None, LABELS, list(range(N))])
@pytest.mark.parametrize("size", [None, (3, 8), 5])
def test_half_of_mixed_subsets_are_alike_and_half_are_not(labels, size):
    rows, sizes, alikeness, kind = draw_mixed(moves(0.3), EFFECTS, labels, size, 60, seed=3)
    low, high = {None: (1, 12), (3, 8): (3, 8), 5: (5, 5)}[size]
    counts = rows.sum(axis=1)
    assert kind == "mixed" and sizes == (low, high) and len(np.unique(rows, axis=0)) == 60
    assert low <= counts.min() and counts.max() <= high
    assert alikeness.find_alike(rows).tolist() == [False] * 30 + [True] * 30
    within = np.array([np.bincount(np.array(LABELS)[row > 0], minlength=GROUPS).max() for row in rows[30:]])
    assert (within >= np.minimum(counts[30:], N // GROUPS)).mean() > 0.9  # of one group
    # At half of the draws, or a third where labels are drawn too, the half of the examples that matter is more likely.
    assert rows[30:, : N // 2].sum() > 1.2 * rows[30:, N // 2 :].sum()
    again = draw_mixed(moves(0.3), EFFECTS, labels, size, 60, seed=3)[0]
    np.testing.assert_array_equal(again, rows)
    assert not np.array_equal(draw_mixed(moves(0.3), EFFECTS, labels, size, 60, seed=4)[0], rows)


def test_few_more_subsets_are_drawn_than_are_retrained(monkeypatch):
    ranked, rank = [], alike_subsets.rank_by_likeness
    monkeypatch.setattr(alike_subsets, "rank_by_likeness", lambda *some: ranked.append(some) or rank(*some))
    assert draw_mixed(moves(0.3), EFFECTS, None, None, 60, seed=3)[3] == "mixed"
    assert 30 <= len(ranked) <= 90


def test_subsets_are_random_where_no_examples_are_alike():
    rows, _, alikeness, kind = draw_mixed(np.zeros((N, 3)), EFFECTS, None, (2, 6), 48, seed=0)
    assert kind == "random" and len(rows) == 48 and not alikeness.find_alike(rows).any()
    assert draw_mixed(moves(0.3), EFFECTS, None, None, 30, seed=0)[3] == "random"  # too few to divide


def test_sharing_a_label_is_judged_as_by_counting():
    rng = np.random.default_rng(0)
    labels = rng.choice(list("aaaaaabbc"), 40).tolist()
    rows = (rng.random((300, 40)) < 0.05).astype(float)
    expected = []
    for row in rows:
        chosen = [labels[i] for i in np.flatnonzero(row)]
        chance = sum((labels.count(label) / 40) ** len(chosen) for label in set(labels) if set(chosen) == {label})
        expected.append(len(chosen) > 1 and len(set(chosen)) == 1 and chance * len(set(labels)) < 0.05)
    assert share_a_label(rows, labels).tolist() == expected and any(expected)
