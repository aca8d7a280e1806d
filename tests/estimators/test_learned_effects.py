"""What retrained subsets teach: a Gaussian process written out, fits without a subset, known faults that it mends."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from circuitsketch import limits
from circuitsketch.estimators import learned_effects
from circuitsketch.estimators.calibration import calibrate
from circuitsketch.estimators.fitted_weights import Described
from circuitsketch.estimators.learned_effects import FEW, KERNELS, PENALTIES, PER_SIZE, PRIOR_OF_NONE, Overlap, learn


def draw(seed, count=9, n=12):
    rng = np.random.default_rng(seed)
    rows = (rng.random(size=(count, n)) < 0.4).astype(float)
    rows[:, 0] = 1.0  # no subset is empty
    gradient = rng.normal(size=(n, 1))
    predictions = np.stack([rows @ gradient[:, 0], rng.normal(size=count)], axis=1)
    overlap = Overlap.of(rows, gradient, 1)
    return rng, rows, predictions, (rows**2).sum(axis=1), overlap


def processes_of(kernels, predictions, sizes, shared, scale, unit):
    """The covariances of all kernels and penalties, between all subsets, and the noise's variance of each."""
    x, roots = predictions / np.sqrt(sizes)[:, None] / scale, np.sqrt(np.outer(sizes, sizes))
    for by_part, by_size, by_share in kernels:
        covariance = by_part * x @ x.T / x.shape[1] + by_size * roots / unit + by_share * shared / roots
        for penalty in PENALTIES:
            yield covariance, penalty


def likelihood(covariance, r):
    """Of errors r, with the scale of the noise marginalised, up to a constant."""
    return -np.linalg.slogdet(covariance)[1] / 2 - len(r) / 2 * np.log(r @ np.linalg.solve(covariance, r))


def average(processes, r, some, given, j):
    """What processes that know the errors of `given` say of subset j, averaged by the evidence of those of `some`."""
    evidence, answers = [np.log(PRIOR_OF_NONE) - len(some) / 2 * np.log(r[some] @ r[some])], [0.0]
    for covariance, penalty in processes:
        matrix = covariance[np.ix_(some, some)] + penalty * np.eye(len(some))
        evidence.append(likelihood(matrix, r[some]) - np.log(len(processes)))
        answers.append(say_without(covariance, penalty, r, given, j))
    chances = np.exp(np.array(evidence) - max(evidence))
    return chances @ np.array(answers) / chances.sum()


def say_without(covariance, penalty, r, some, j):
    """The mean of a process at subset j, given errors r of some others."""
    matrix = covariance[np.ix_(some, some)] + penalty * np.eye(len(some))
    return covariance[j, some] @ np.linalg.solve(matrix, r[some])


@given(st.integers(0, 10**6), st.sampled_from([0, FEW]))
def test_corrections_and_residuals_are_those_of_gaussian_processes_of_the_subsets_of_each_fit(seed, few):
    rng, rows, predictions, sizes, overlap = draw(seed)
    count = len(rows)
    errors = rng.normal(size=(count + 1, count)) * np.sqrt(sizes)
    common = overlap.measure(rows)[:, :, 0]
    with mock.patch.object(learned_effects, "FEW", few):
        learned = learn(predictions, sizes, errors, common)
    kernels = PER_SIZE if few else KERNELS
    scale = np.sqrt((predictions**2 / sizes[:, None]).mean(axis=0))
    processes = list(processes_of(kernels, predictions, sizes, common, scale, sizes.mean()))
    said = predictions @ learned.weights.T + np.outer(sizes, learned.per_size) + common @ learned.shares.T
    for f in range(count + 1):
        some = np.delete(np.arange(count), f - 1) if f else np.arange(count)
        r = errors[f] / np.sqrt(sizes)
        for j in range(count):
            expected = average(processes, r, some, some, j)
            np.testing.assert_allclose(said[j, f], np.sqrt(sizes[j]) * expected, rtol=1e-6, atol=1e-9)
        for j in some:
            expected = r[j] - average(processes, r, some, some[some != j], j)
            np.testing.assert_allclose(learned.left_out[f, j], np.sqrt(sizes[j]) * expected, rtol=1e-6, atol=1e-9)
        assert f == 0 or learned.shares[f, f - 1] == 0


def test_effects_that_an_estimator_lacks_are_learned_and_intervals_hold():
    covered, better = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n, m = 30, 48
        rows = (rng.random(size=(m + 300, n)) < 0.5).astype(float)
        gradient = rng.normal(size=(n, 1))
        lacks = gradient * rng.normal(size=(n, 1))
        truths = rows @ (gradient + lacks) + 0.2 * rng.normal(size=(m + 300, 1))
        predictions = (rows @ gradient)[:, None]
        overlap = Overlap.of(rows[:m], gradient, 1)

        def describe(some, predictions=predictions, rows=rows, overlap=overlap):
            sizes = (rows[some] ** 2).sum(axis=1)
            errors = np.full((len(sizes), 1, 1), np.inf)
            return Described(predictions[some], errors, sizes, overlap.measure(rows[some]))

        known, asked = slice(m), slice(m, None)
        fit = calibrate(describe(known), truths[known])
        plain = calibrate(Described(predictions[known], describe(known).errors, describe(known).sizes), truths[known])
        low, high = fit.interval(0.9, describe(asked))
        covered.append(np.mean((low <= truths[asked]) & (truths[asked] <= high)))
        off = [truths[asked] - one.predict(describe(asked)) for one in (fit, plain)]
        better.append(np.sqrt((off[0] ** 2).mean() / (off[1] ** 2).mean()))
    assert 0.87 < np.mean(covered) < 0.95
    assert np.median(better) < 0.6 and max(better) < 1.02


def test_few_subsets_teach_an_effect_per_example_and_no_ranks():
    rng = np.random.default_rng(0)
    rows = (rng.random(size=(8, 40)) < np.linspace(0.2, 0.6, 8)[:, None]).astype(float)
    sizes = rows.sum(axis=1)
    predictions = rng.normal(size=(8, 1, 1)) * np.sqrt(sizes)[:, None, None]
    overlap = Overlap.of(rows, rng.normal(size=(40, 1)), 1).measure(rows)
    subsets = Described(predictions, np.full((8, 1, 1), np.inf), sizes, overlap)
    fit = calibrate(subsets, predictions[:, 0] + 0.7 * sizes[:, None] + 0.01 * rng.normal(size=(8, 1)))
    assert abs(fit.fits[0].per_size[0, 0] - 0.7) < 0.02 and abs(fit.fits[0].weights[0, 0, 0] - 1) < 0.02
    assert not fit.learns and fit.fits[0].shares is None
    exact = calibrate(subsets, predictions[:, 0])
    assert exact.fits[0].per_size is None and np.array_equal(exact.predict(subsets), predictions[:, 0])


def test_the_overlap_counts_examples_and_their_squared_effects():
    rows, asked = np.array([[1.0, 1.0, 0.0], [0.0, 0.5, 1.0]]), np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]])
    gradient = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    overlap = Overlap.of(rows, gradient, 2).measure(asked)
    mean = 14 / 3
    np.testing.assert_allclose(overlap[:, :, 0], [[2 + 5 / mean, 1.5 + 11 / mean], [0, 2 + 18 / mean]])
    np.testing.assert_array_equal(overlap[:, :, 1], asked @ rows.T)
    np.testing.assert_array_equal(Overlap.of(rows, None, 1).measure(asked)[:, :, 0], asked @ rows.T)


def test_the_overlap_with_subsets_picked_for_values_has_the_products_of_both_effects():
    rng = np.random.default_rng(0)
    rows, asked, gradient = rng.random((4, 6)), rng.random((3, 6)), rng.normal(size=(6, 2))
    values = np.array([0, 1, 1, 0])
    overlap = Overlap.of(rows, gradient, 2, values).measure(asked)
    unit = gradient / np.sqrt((gradient**2).mean(axis=0))
    for b, j, c in np.ndindex(3, 4, 2):
        expected = np.sum(asked[b] * rows[j] * (1 + unit[:, c] * unit[:, values[j]]))
        np.testing.assert_allclose(overlap[b, j, c], expected)


def test_many_values_are_calibrated_a_few_at_a_time_with_the_same_result(monkeypatch):
    rng = np.random.default_rng(2)
    n, m, values = 30, 24, 5
    rows = (rng.random(size=(m, n)) < 0.5).astype(float)
    gradient = rng.normal(size=(n, values))
    # Values 0 and 1 lack an effect of each example, the others are exact, so that not every block learns.
    lacks = gradient * rng.normal(size=(n, values)) * (np.arange(values) < 2)
    truths, sizes = rows @ (gradient + 3 * lacks), rows.sum(axis=1)
    overlap = Overlap.of(rows, gradient, values).measure(rows)
    subsets = Described((rows @ gradient)[:, None], np.full((m, 1, values), np.inf), sizes, overlap)
    whole = calibrate(subsets, truths)
    monkeypatch.setattr(limits, "NUMBERS_AT_ONCE", 1)
    apart = calibrate(subsets, truths)
    assert whole.learns and apart.fits[0].shares.shape == (m + 1, m, values)
    np.testing.assert_allclose(apart.fits[0].shares, whole.fits[0].shares, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(apart.predict(subsets), whole.predict(subsets), rtol=1e-9)
    np.testing.assert_allclose(apart.interval(0.9, subsets), whole.interval(0.9, subsets), rtol=1e-9)
