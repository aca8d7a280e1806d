"""Weights by ridge regressions: fits of all subsets but one, against least squares of each alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitsketch.estimators.fitted_weights import SCALES, Described, best_scale, fit_weights, ridge


def draw(seed, count=7, parts=2, values=2):
    rng = np.random.default_rng(seed)
    truths = rng.normal(size=(count, values))
    predictions = truths[:, None] * rng.normal(size=(parts, values)) + rng.normal(size=(count, parts, values))
    return predictions, rng.choice([5.0, 10.0, 20.0], size=count), truths, rng


def leave_one_out(count):
    return np.concatenate([np.ones((1, count), dtype=bool), ~np.eye(count, dtype=bool)])


@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.3, 1.0]))
def test_ridges_and_their_residuals_left_out_are_least_squares_of_the_subsets_included(seed, penalty):
    predictions, sizes, truths, rng = draw(seed)
    included = leave_one_out(7)
    centre = rng.normal(size=(8, 2, 2))
    errors = np.where(included[:, :, None], truths - np.einsum("mkc,fkc->fmc", predictions, centre), 0.0)
    weights, left_out = ridge(predictions, sizes, errors, centre, penalty, included)

    def solve(some, c, f, scale):
        x = predictions[some][:, :, c] / np.sqrt(sizes[some])[:, None]
        y = truths[some, c] / np.sqrt(sizes[some])
        matrix = np.concatenate([x, np.diag(np.sqrt(penalty * scale[:, c]))])
        right = np.concatenate([y, np.sqrt(penalty * scale[:, c]) * centre[f, :, c]])
        return np.linalg.lstsq(matrix, right, rcond=None)[0]

    for f, some in enumerate(included):
        scale = (predictions[some] ** 2 / sizes[some, None, None]).sum(axis=0)
        for c in range(2):
            assert weights[f, :, c] == pytest.approx(solve(some, c, f, scale), rel=1e-8, abs=1e-8)
            for j in np.flatnonzero(some):  # the penalty's unit stays that of all subsets of the fit
                rest = some & (np.arange(7) != j)
                expected = truths[j, c] - predictions[j, :, c] @ solve(rest, c, f, scale)
                assert left_out[f, j, c] == pytest.approx(expected, rel=1e-8, abs=1e-8)
        assert np.all(left_out[f, ~some] == 0)


@given(st.integers(0, 10**6))
def test_fits_without_a_subset_are_fits_to_the_others(seed):
    predictions, sizes, truths, _ = draw(seed, 9, 3)
    subsets = Described(predictions, np.full(predictions.shape, np.inf), sizes)
    together, residuals = fit_weights(subsets, truths, leave_one_out(9))
    for j in range(9):
        rest = np.delete(np.arange(9), j)
        alone, left_out = fit_weights(subsets.pick(rest), truths[rest], np.ones((1, 8), dtype=bool))
        np.testing.assert_array_equal(together.best[1 + j], alone.best[0])
        np.testing.assert_array_equal(together.scale[1 + j], alone.scale[0])
        np.testing.assert_allclose(together.weights[1 + j], alone.weights[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(residuals[1 + j, rest], left_out[0], rtol=1e-9, atol=1e-12)


def test_weights_improve_on_the_best_single_estimator_where_it_is_half_the_truth():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(400, 3))
    truths = 0.5 * first + rng.normal(size=first.shape)
    predictions = np.stack([first, 3 * first + 20 * rng.normal(size=first.shape)], axis=1)
    subsets = Described(predictions, np.full(predictions.shape, np.inf), np.ones(400))
    fits, _ = fit_weights(subsets, truths, np.ones((1, 400), dtype=bool))
    assert np.all(np.abs(fits.weights[0, 0] - 0.5) < 0.15) and np.all(np.abs(fits.weights[0, 1]) < 0.05)


def test_fits_say_of_subsets_what_their_sums_say_and_ignore_overflow_without_weight():
    predictions, sizes, truths, rng = draw(3, 9, 3)
    subsets = Described(predictions, np.abs(rng.normal(size=predictions.shape)), sizes)
    fits, _ = fit_weights(subsets, truths, leave_one_out(9))
    changes, scales = fits.predict(subsets), fits.scale_of(subsets)
    for f in range(10):
        for c in range(2):
            expected = predictions[:, :, c] @ fits.weights[f, :, c]
            np.testing.assert_allclose(changes[f, :, c], expected, rtol=1e-12, atol=1e-15)
            name, best = SCALES[fits.scale[f, c]], fits.best[f, c]
            known = np.full(9, np.nan) if best == 3 else subsets.errors[:, best, c]
            expected = known if name == "standard error" else sizes ** float(name.removeprefix("size^"))
            np.testing.assert_array_equal(scales[f, :, c], expected)
    unused = np.flatnonzero((fits.weights[0] == 0).all(axis=1))
    wild = predictions.copy()
    wild[:, unused] = np.nan
    again = fits.pick(slice(1)).predict(Described(wild, subsets.errors, sizes))
    np.testing.assert_array_equal(again, changes[:1])


def test_the_scale_is_that_which_makes_the_residuals_of_the_included_subsets_alike():
    sizes = np.array([1.0, 4.0, 16.0, 2.0, 8.0, 3.0])
    residuals = np.stack([sizes, sizes**0.5], axis=0)[:, :, None] * [1.0, -2.0]
    included = np.ones((2, 6), dtype=bool)
    included[1, 2] = False
    residuals[1, 2] = 1e9  # not looked at
    found = best_scale(residuals, sizes, np.full((2, 6, 2), np.nan), included)
    assert [[SCALES[i] for i in row] for row in found] == [["size^1"] * 2, ["size^0.5"] * 2]
