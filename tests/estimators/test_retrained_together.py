"""Errors by the misses of retrained subsets: what they grow with, what they are replaced by, and what is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student
from small_estimates import estimate, rows_of

from circuitsketch.estimators.retrained_together import (
    ALIKE,
    FLOOR,
    FREEDOM,
    GROWTHS,
    POWERS,
    PRIOR,
    ErrorLaw,
    RetrainedTogether,
)

SIZES = (5, 20, 50)
COMMON = np.zeros(1, dtype=bool)


def law(level, scale=0, most=1e9):
    """Errors of level times size^0.5, or times another scale."""
    levels = np.atleast_1d(np.asarray(level, dtype=float))[:, None]
    sizes = (1.0,) if len(levels) == 1 else SIZES
    return ErrorLaw(np.array([scale]), sizes, levels, np.full((2, 1), most))


STANDARD = len(POWERS)  # the number of the scale that is the standard error
TOGETHER = RetrainedTogether(law([2.0, 4.0, 0.1], STANDARD), law([3.0], STANDARD), 48)


def ask(together, told, *sizes, alike=False, typical=5.0, special=False):
    rows = rows_of(*sizes)
    every = np.ones(len(rows), dtype=bool)
    return together.apply(told, rows, every & alike, np.full(np.shape(told.change) or 1, typical), every & special)


# ------------------------------------------------------------------------------------------------------------- the law


@pytest.mark.parametrize("number", range(len(POWERS) + len(GROWTHS)))
def test_the_scale_that_makes_misses_alike_is_found(number):
    rng = np.random.default_rng(number)
    squares, stderr = rng.integers(2, 50, 60).astype(float), np.exp(2 * rng.normal(size=(60, 1)))
    power = (*POWERS, *GROWTHS)[number]
    scale = squares[:, None] ** power * (stderr if number >= len(POWERS) else 1.0)
    misses = 0.7 * scale * rng.uniform(0.5, 1.5, size=(60, 1))
    found = ErrorLaw.fit((1.0,), np.zeros(60, dtype=int), misses, squares, stderr, stderr)
    assert found.scale.tolist() == [number]
    np.testing.assert_allclose(found.levels, np.sqrt(((misses / scale) ** 2).mean()))
    asked, error = np.array([7.0]), np.array([[3.0]])
    expected = found.levels * 7.0**power * (3.0 if number >= len(POWERS) else 1.0)
    np.testing.assert_allclose(found.at(asked, error), expected)


def test_the_level_of_each_size_is_shrunk_to_that_of_all():
    squares, numbers = np.repeat([5.0, 20.0], [4, 8]), np.repeat([0, 1], [4, 8])
    misses = np.repeat([3.0, 1.0], [4, 8])[:, None] * np.sqrt(squares)[:, None]
    found = ErrorLaw.fit((5.0, 20.0), numbers, misses, squares, np.full((12, 1), np.inf), misses)
    scores = (misses[:, 0] / squares ** POWERS[found.scale[0]]) ** 2
    expected = [(PRIOR * scores.mean() + scores[numbers == k].sum()) / (PRIOR + (numbers == k).sum()) for k in (0, 1)]
    np.testing.assert_allclose(found.levels[:, 0] ** 2, expected)
    between = found.at(np.array([5.0, 10.0, 20.0]), np.full((3, 1), np.inf))[:, 0] / (
        np.array([5.0, 10, 20]) ** POWERS[found.scale[0]]
    )
    assert between[1] == pytest.approx((between[0] + between[2]) / 2)  # 10 is halfway on a logarithmic scale


def test_exact_predictions_have_no_error():
    zeros = np.zeros((6, 1))
    found = ErrorLaw.fit((1.0,), np.zeros(6, dtype=int), zeros, np.arange(2.0, 8.0), zeros, zeros)
    assert not found.at(np.array([4.0]), np.zeros((1, 1))).any()


@pytest.mark.parametrize("tail", [5, 1e6])
def test_intervals_of_new_subsets_hold(tail):
    """Of 200 draws of 36 subsets; normal misses, and heavy ones, that grow with the size."""
    rng = np.random.default_rng(int(tail))
    kinds = np.repeat([0, 1, 2, ALIKE], [14, 12, 10, 12])
    rows = rows_of(*np.array([*SIZES, 8])[kinds])
    held = []
    for _ in range(200):
        scale = 0.1 * rows.sum(axis=1) ** 1.5
        truth = scale * rng.standard_t(tail, 48)
        told = estimate(np.zeros(48), np.exp(3 * rng.normal(size=48)))
        together = RetrainedTogether.compare(SIZES, kinds, rows, truth, told, np.ones(48))
        for size in (5, 10, 50):
            answer = ask(together, estimate(0.0, 1.0), size)
            reach = student.ppf(0.975, answer.degrees_of_freedom) * answer.stderr
            held.append(np.mean(np.abs(0.1 * size**1.5 * rng.standard_t(tail, 50)) <= reach))
    assert 0.93 < np.mean(held) < 0.98


# -------------------------------------------------------------------------------------------------- errors of questions


@pytest.mark.parametrize(
    ("size", "outside", "factor"),
    [
        (5, False, 2.0),
        (10, False, 3.0),
        (20, False, 4.0),
        (50, False, 0.1),
        (3, False, None),
        (3, True, 2.0),
        (60, True, None),
    ],
)
def test_an_error_is_that_of_retrained_subsets_of_its_size(size, outside, factor):
    told = ask(TOGETHER, estimate(10.0, 1.0, outside), size)
    assert told.stderr == pytest.approx(1.0 if factor is None else factor)
    assert bool(told.outside) == (outside and factor is None)
    assert told.doubts == (("outside",) if factor is None else ())
    assert told.warnings == (("noisy",) if factor is None else ())
    assert told.notes == (("kinks",) if factor is None else ())
    assert told.degrees_of_freedom == (1e6 if factor is None else FREEDOM)


def test_alike_examples_have_the_error_of_retrained_ones_and_most_of_that_of_random_ones():
    assert ask(TOGETHER, estimate(10.0, 1.0), 3, alike=True).stderr == pytest.approx(3.0)
    assert ask(TOGETHER, estimate(10.0, 1.0), 20, alike=True).stderr == pytest.approx(max(3.0, FLOOR * 4.0))
    small = RetrainedTogether(TOGETHER.random, law([0.1], STANDARD), 48)
    assert ask(small, estimate(10.0, 1.0), 20, alike=True).stderr == pytest.approx(FLOOR * 4.0)


def test_an_error_above_the_change_and_what_is_typical_is_noted():
    for typical, noted in ((1.0, True), (5.0, False)):
        told = ask(TOGETHER, estimate(0.1, 1.0), 20, typical=typical)
        assert any("query.calibrate()" in text for text in told.notes) == noted
        assert told.doubts == () and told.warnings == ()


@pytest.mark.parametrize("what", [0, 1], ids=["matter more", "are known less"])
@pytest.mark.parametrize("alike", [False, True])
def test_examples_beyond_those_of_all_retrained_subsets_are_warned_of_and_keep_their_error(what, alike):
    most = np.array([[10.0], [10.0]])
    most[what] = (1.0, 1.0 / 20)[what]  # of a typical change of 5 over the root of 20, and of an error of 1 over 20
    near, far = (most.copy() for _ in range(2))
    near[what] *= (5.0 / np.sqrt(20), 1.0)[what] / 1.05
    far[what] *= (5.0 / np.sqrt(20), 1.0)[what] / 1.2
    for limit, is_beyond in ((near, False), (far, True)):
        laws = (ErrorLaw(np.array([0]), sizes, np.full((len(sizes), 1), 0.01), limit) for sizes in (SIZES, (1.0,)))
        told = ask(RetrainedTogether(*laws, 48), estimate(10.0, 1.0, True), 20, alike=alike)
        assert bool(told.outside) == is_beyond
        assert any("any of the 48 subsets that were retrained" in text for text in told.doubts) == is_beyond
        assert (told.stderr == 1.0) == is_beyond and "outside" not in told.doubts


def test_the_most_of_retrained_subsets_is_taken_by_kind():
    kinds = np.repeat([0, 1, 2, ALIKE], 4)
    rows = rows_of(*np.array([*SIZES, 8])[kinds])
    typical = np.where(kinds == ALIKE, 8.0, 1.0) * np.sqrt(rows.sum(axis=1))
    told = estimate(np.zeros(16), np.where(kinds == ALIKE, 2.0, 3.0) * rows.sum(axis=1))
    together = RetrainedTogether.compare(SIZES, kinds, rows, np.ones(16), told, typical)
    np.testing.assert_allclose(together.random.most[:, 0], [1.0, 3.0])
    np.testing.assert_allclose(together.alike.most[:, 0], [8.0, 2.0])


def test_several_subsets_are_answered_each():
    many = ask(TOGETHER, estimate([10.0, 10.0, 10.0], 1.0, [True, False, True]), 20, 3, 60)
    np.testing.assert_allclose(many.stderr, [4.0, 1.0, 1.0])
    assert many.outside.tolist() == [False, False, True] and many.doubts == ("outside",)


def test_values_of_a_measurement_have_laws_of_their_own():
    rng = np.random.default_rng(4)
    kinds = np.repeat([0, 1, 2, ALIKE], 12)
    rows = rows_of(*np.array([*SIZES, 8])[kinds])
    truth = rng.normal(size=(48, 2, 3)) * np.array([[1.0, 10.0, 100.0]])
    both = RetrainedTogether.compare(
        SIZES, kinds, rows, truth, estimate(np.zeros((48, 2, 3)), 1.0), np.ones((48, 2, 3))
    )
    answer = both.apply(estimate(np.zeros((2, 3)), 1.0), rows_of(20), COMMON, np.ones((1, 2, 3)), COMMON)
    for i, j in np.ndindex(2, 3):
        one = RetrainedTogether.compare(SIZES, kinds, rows, truth[:, i, j], estimate(np.zeros(48), 1.0), np.ones(48))
        assert answer.stderr[i, j] == pytest.approx(float(ask(one, estimate(0.0, 1.0), 20, typical=1.0).stderr))


def test_examples_known_to_be_worse_keep_their_error_and_what_is_said_of_them():
    told = ask(TOGETHER, estimate(10.0, 1.0), 50, special=True)
    assert told.stderr == 1.0 and told.doubts == ("outside",)
    assert ask(TOGETHER, estimate(10.0, 1.0), 20, special=True).stderr == 4.0


def test_one_example_is_no_subset():
    assert ask(TOGETHER, estimate(10.0, 1.0, True), 1, alike=True).stderr == 1.0


def test_weights_beyond_a_deletion_are_not_compared():
    told = TOGETHER.apply(estimate(10.0, 1.0, True), -rows_of(20), COMMON, np.array([5.0]), COMMON)
    assert told.stderr == 1.0 and told.outside
