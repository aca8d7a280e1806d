"""Errors of kinks and against examples retrained alone: what widens them, and what is said."""

from __future__ import annotations

import numpy as np
import pytest
from small_estimates import N, estimate, rows_of

from circuitsketch.estimators.caveats import (
    NORMAL,
    KinkErrors,
    RetrainedAlone,
    typical_change,
    widen,
)
from circuitsketch.training.kinks import Kinks


def test_a_miss_is_special_in_a_few_examples_and_not_among_many():
    alone = RetrainedAlone(np.array([0, 1]), np.array([3.0, 0.0]), np.zeros(N))
    assert alone.find_special(rows_of(5, 10, 20, 50), 6.0).tolist() == [True, True, False, False]
    others = np.zeros((1, N))
    others[0, 1:6] = 1.0
    assert not alone.find_special(others, 6.0).any()


def test_examples_that_were_not_retrained_have_the_error_of_those_at_random():
    truth = np.array([1.0, 1.0, 3.0, 5.0])
    alone = RetrainedAlone.compare(np.arange(4), truth, estimate(np.zeros(4), 1.0), np.array([0, 0, 1, 1], bool), 10)
    assert alone.misses.tolist() == [0.0, 0.0, 0.0, 5.0]
    np.testing.assert_allclose(alone.errors[4:], np.sqrt((8 + 24) / 2))
    assert not alone.errors[:4].any()
    told = alone.apply(estimate(0.0, 3.0), np.eye(10)[[7]])
    assert told.stderr == pytest.approx(5.0)


def test_a_miss_is_named_with_the_worst_example_of_the_deletion_where_it_is_a_good_part_of_the_interval():
    alone = RetrainedAlone(np.array([2, 5, 7]), np.array([9.0, 3.0, 0.0]), np.zeros(10))
    row = np.zeros((1, 10))
    row[0, [5, 7]] = 1.0
    widened = alone.apply(estimate(0.0, 1.0), row)
    assert widened.stderr == pytest.approx(np.sqrt(1 + 9))
    assert "example 5 was retrained alone" in widened.doubts[-1] and "by 3 more or less" in widened.doubts[-1]
    assert "of 3 that were retrained, 1 in this deletion are off" in widened.doubts[-1]
    assert alone.apply(estimate(0.0, 4.0), row).doubts == ("outside",)  # 3 of an interval of half-width 8
    np.testing.assert_array_equal(alone.worst(3), [2, 5])
    np.testing.assert_array_equal(alone.worst(1), [2])


SUMMARY = Kinks(("gate relu (model.py:3)",), (1, 4), ((2.0,), (6.0,)), (0.1, 0.2))
CROSSED = np.array([[3.0, -3.0], [8.0, 8.0]])  # by size and draw


def test_alike_examples_cross_as_many_kinks_as_random_ones_that_move_the_parameters_as_far():
    moves = np.array([[1.0], [1.0], [4.0], [-1.0]])
    kinks = KinkErrors(SUMMARY, CROSSED, moves, (1.0, 16.0))
    rows = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    plain = estimate(np.zeros(4), 1.0)
    error = np.array([3.0, 8.0, 5.5, 0.0])  # the third moves nothing, and counts by its size
    np.testing.assert_allclose(kinks.apply(plain, rows, np.ones(4)).stderr, np.hypot(1.0, error))
    by_size = KinkErrors(SUMMARY, CROSSED).apply(plain, rows, np.ones(4))
    np.testing.assert_allclose(by_size.stderr, np.hypot(1.0, [3.0, 3.0, 5.5, 0.0]))


def test_larger_random_deletions_count_as_moving_as_far_as_smaller_ones_at_least():
    weights = np.array([[[1.0, 0, 0, 0], [0, 1, 0, 0]], [[1, 1, 1, 1], [1, 1, 1, 1]]])
    assert KinkErrors.of(SUMMARY, CROSSED, weights, np.array([[3.0], [-3], [3], [-3]])).lengths == (9.0, 9.0)
    assert KinkErrors.of(SUMMARY, CROSSED, weights, None).lengths == (1.0, 4.0)


@pytest.mark.parametrize(
    ("stderr", "typical", "is_named"), [(2.0, 5.0, True), (2.0, 7.0, False), (4.0, 5.0, False), (0.0, 5.0, True)]
)
def test_kinks_are_named_where_their_error_is_a_good_part_of_the_interval_and_of_what_is_typical(
    stderr, typical, is_named
):
    widened = KinkErrors(SUMMARY, CROSSED).apply(estimate(0.0, stderr), rows_of(1), np.array([typical]))
    assert widened.stderr == pytest.approx(np.hypot(stderr, 3.0))
    named = any("moves about 2 elements across kinks, most of them of gate relu" in text for text in widened.notes)
    assert named == is_named and widened.doubts == ("outside",)


def test_kinks_of_unknown_error_are_named_unless_nothing_is_deleted():
    kinks = KinkErrors(SUMMARY, None)
    assert "has kinks (gate relu (model.py:3))" in kinks.apply(estimate(0.0, 1.0), rows_of(1), np.ones(1)).doubts[-1]
    assert kinks.apply(estimate(0.0, 1.0), rows_of(0), np.ones(1)).doubts == ("outside",)


def test_an_error_of_many_degrees_of_freedom_adds_by_the_rule_of_satterthwaite():
    plain = estimate(np.zeros(4), 1.0)
    plain.stderr[2:] = 0.0, np.inf
    plain.degrees_of_freedom[:] = 4
    widened = widen(plain, np.array([1.0, 0.0, 3.0, 3.0]))
    np.testing.assert_allclose(widened.stderr, [np.sqrt(2), 1.0, 3.0, np.inf])
    np.testing.assert_allclose(widened.degrees_of_freedom, [16, 4, NORMAL, 4])
    assert widen(plain, np.zeros(4)) is plain


def test_typical_changes_add_up_as_if_examples_acted_apart():
    effects = np.array([3.0, 4.0, 0.0])
    floor = 25 / 3
    assert typical_change(np.array([[1.0, 1.0, 0.0]]), effects)[0] == pytest.approx(np.sqrt(9 + 16))
    assert typical_change(np.array([[0.0, 0.0, 1.0]]), effects)[0] == pytest.approx(np.sqrt(floor))
