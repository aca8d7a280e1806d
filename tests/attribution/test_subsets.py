"""Subsets drawn for a calibration: sizes, kinds, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import raises

import circuitsketch as cs
from circuitsketch.attribution.subsets import draw_subsets

LABELS = ["a"] * 20 + ["b"] * 5 + ["c"]


def test_random_subsets_have_every_size_up_to_a_tenth_by_default():
    rows, sizes = draw_subsets(100, None, count=2000)
    counts = np.bincount(rows.sum(axis=1).astype(int), minlength=11)
    assert sizes == (1, 10) and counts[0] == 0 and (counts[1:11] > 0).all() and set(np.unique(rows)) == {0, 1}
    # Sizes from 1 to 10 are equally likely: of 2,000 draws 200 +- 13.4 have each; four deviations.
    assert abs(counts[1:11] - 200).max() < 54


def test_subsets_of_a_label_stay_within_it():
    rows, sizes = draw_subsets(26, LABELS, "label", count=200)
    assert sizes == (1, 20)
    for row in rows:
        assert len({LABELS[i] for i in np.flatnonzero(row)}) == 1
    assert {LABELS[np.flatnonzero(row)[0]] for row in rows} == {"a", "b"}  # one example alone is no group


def test_a_seed_draws_the_same_subsets_and_sizes_are_kept():
    one, two = (draw_subsets(30, None, size=(3, 6), count=50, seed=4)[0] for _ in range(2))
    assert np.array_equal(one, two) and set(one.sum(axis=1)) == {3, 4, 5, 6}
    assert not np.array_equal(one, draw_subsets(30, None, size=(3, 6), count=50, seed=5)[0])
    assert (draw_subsets(30, None, size=7, count=5)[0].sum(axis=1) == 7).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "random", "size": 0}, "integer from 1 to 10"),
        ({"kind": "random", "size": 11}, "integer from 1 to 10"),
        ({"kind": "random", "size": (5, 2)}, "smaller number first"),
        ({"kind": "label"}, "needs a label per example"),
        ({"kind": "lable"}, "kind"),
        ({"count": 0}, "count"),
        ({"kind": "label", "labels": list(range(10))}, "no two examples share"),
    ],
)
def test_invalid_kinds_and_sizes_of_subsets_are_refused(arguments, message):
    with raises(cs.InputError, message):
        draw_subsets(10, arguments.pop("labels", None), **arguments)
