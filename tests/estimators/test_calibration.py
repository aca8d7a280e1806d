"""Calibration by retrained subsets: fits without one subset, coverage of new ones, never much worse than the best."""

from __future__ import annotations

import numpy as np
import pytest

from circuitsketch import limits
from circuitsketch.estimators.calibrated import calibrate_estimators
from circuitsketch.estimators.calibration import calibrate
from circuitsketch.estimators.fitted_weights import SCALES, Described
from circuitsketch.estimators.known_effects import NAMES, FromKnownEffects, KnownEffects
from circuitsketch.estimators.retrained_subsets import RetrainedSubsets

M, TEST = 48, 400


def subsets_of(kind, rng, count, values=3):
    """Predictions (count, 2, values) of two estimators, sizes and truths, of a run of some kind."""
    sizes = rng.choice([5.0, 10.0, 20.0], size=count)
    first = rng.normal(size=(count, values)) * np.sqrt(sizes)[:, None]
    noise = rng.normal(size=(count, values))
    if kind == "chaotic":  # nothing adds up
        truths, own = 0.5 * first + 3 * noise, 3 * first + 20 * rng.normal(size=first.shape)
    elif kind == "smooth":  # an error that grows with the size
        truths, own = first + 0.02 * noise * sizes[:, None], first + 0.01 * noise * sizes[:, None]
    elif kind == "unrelated":
        truths, own = rng.standard_t(3, size=first.shape), 2 * first
    else:
        truths, own = first + 0.3 * noise, first + 0.3 * noise + rng.normal(size=first.shape)
    return np.stack([first, own], axis=1), sizes, truths


def describe(predictions, sizes, errors=np.inf, kinds=None):
    """Subsets with estimators that know no errors, by default."""
    return Described(predictions, np.broadcast_to(errors, predictions.shape), sizes, kinds=kinds)


@pytest.mark.parametrize("kind", ["chaotic", "smooth", "unrelated", "noisy"])
def test_calibrated_intervals_cover_new_subsets_and_no_estimator_is_much_better(kind):
    covered, ratios = [], []
    for seed in range(12):
        predictions, sizes, truths = subsets_of(kind, np.random.default_rng(seed), M + TEST)
        fit = calibrate(describe(predictions[:M], sizes[:M]), truths[:M])
        asked = describe(predictions[M:], sizes[M:])
        off = truths[M:] - fit.predict(asked)
        low, high = fit.interval(0.9, asked)
        covered.append((low <= truths[M:]) & (truths[M:] <= high))
        singles = [truths[M:], *(truths[M:] - predictions[M:, k] for k in range(2))]
        ratios.append(np.sqrt((off**2).mean() / min((one**2).mean() for one in singles)))
    # 12 runs of 3 values with 48 subsets each: the share has a deviation of (.1 .9 / 49 / 36)^(1/2) = .007.
    assert 0.87 < np.mean(covered) < 0.95
    assert max(ratios) < 1.05


def test_the_interval_grows_as_errors_were_seen_to_grow():
    predictions, sizes, truths = subsets_of("smooth", np.random.default_rng(1), 200)
    fit = calibrate(describe(predictions[:, 1:], sizes), truths)
    assert [SCALES[i] for i in fit.fits[0].scale[0]] == ["size^1"] * 3
    zeros = np.zeros((2, 1, 3))  # where all fits say the same, the interval is as long on both sides
    low, high = fit.interval(0.95, describe(zeros, np.array([5.0, 20.0])))
    np.testing.assert_allclose(high[1], 4 * high[0])
    np.testing.assert_allclose(low, -high)


def test_a_standard_error_that_tells_which_subsets_are_hard_scales_the_interval():
    rng = np.random.default_rng(2)
    truths, hard = rng.normal(size=(100, 1)), rng.choice([0.001, 0.1], size=(100, 1))
    predictions = (truths + hard * rng.normal(size=(100, 1)))[:, None]
    fit = calibrate(describe(predictions, np.ones(100), 3 * hard[:, None]), truths)
    assert SCALES[fit.fits[0].scale[0, 0]] == "standard error"


def test_too_few_subsets_for_a_level_give_infinite_intervals_and_exact_ones_give_none():
    predictions, sizes, truths = subsets_of("noisy", np.random.default_rng(3), 18)
    fit = calibrate(describe(predictions, sizes), truths)
    asked = describe(predictions[:1], sizes[:1])
    assert np.isinf(fit.interval(0.95, asked)).all() and np.isfinite(fit.interval(0.94, asked)).all()
    exact = calibrate(describe(truths[:, None], sizes), truths)
    low, high = exact.interval(0.9, describe(truths[:1, None], sizes[:1]))
    assert np.array_equal(low, truths[:1]) and np.array_equal(high, truths[:1])


def test_a_fit_that_changes_with_one_subset_costs_no_coverage():
    # Two estimators, equally good on average, that fail on different subsets: which is best hangs on single subsets.
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truths = rng.normal(size=(248, 1))
        wild = rng.choice([0.01, 3.0], p=[0.9, 0.1], size=(248, 2, 1))
        predictions = truths[:, None] + wild * rng.normal(size=(248, 2, 1))
        fit = calibrate(describe(predictions[:M], np.ones(M)), truths[:M])
        low, high = fit.interval(0.9, describe(predictions[M:], np.ones(200)))
        held.append(((low <= truths[M:]) & (truths[M:] <= high)).mean())
    assert np.mean(held) > 0.88 and min(held) > 0.75


def test_an_estimator_that_overflows_has_no_weight():
    predictions, sizes, truths = subsets_of("noisy", np.random.default_rng(4), 30)
    predictions[7, 1, 0], predictions[8, 1, 1] = np.inf, np.nan
    subsets = describe(predictions, sizes)
    fit = calibrate(subsets, truths)
    assert np.all(fit.fits[0].weights[0, 1, :2] == 0)
    assert np.isfinite(fit.predict(subsets)).all() and np.isfinite(fit.residuals).all()


def test_a_value_that_all_subsets_were_picked_for_is_calibrated_as_if_it_were_alone():
    rng = np.random.default_rng(4)
    gradient, own = rng.normal(size=(2, 40, 3))
    rows = (rng.random(size=(30, 40)) < 0.2).astype(float)
    changes = rows @ own + 0.3 * rng.normal(size=(30, 3))
    asked = (rng.random(size=(7, 40)) < 0.2).astype(float)
    for value in range(3):
        cut = slice(value, value + 1)
        alone, together = (
            calibrate_estimators(
                [FromKnownEffects(KnownEffects.of_own(slopes, effects, shape), name) for name in NAMES[:2]],
                RetrainedSubsets(rows, truths, "given", (1.0, 20.0), values=values),
                slopes,
                shape,
            ).predict(asked)
            for slopes, effects, truths, shape, values in (
                (gradient[:, cut], own[:, cut], changes[:, cut], (1,), None),
                (gradient, own, changes, (3,), np.full(30, value)),
            )
        )
        np.testing.assert_allclose(together.change[:, cut], alone.change, rtol=1e-9)
        for ours, theirs in zip(together.bounds(0.9), alone.bounds(0.9), strict=True):
            np.testing.assert_allclose(ours[:, cut], theirs, rtol=1e-9)


@pytest.mark.parametrize("gradient", [True, False])
def test_effects_of_all_examples_are_predicted_a_few_at_a_time(gradient, monkeypatch):
    rng = np.random.default_rng(5)
    n, m = 40, 15
    slopes, own = rng.normal(size=(2, n, 2))
    rows = (rng.random(size=(m, n)) < 0.2).astype(float)
    asked = []

    class Watched(FromKnownEffects):
        def predict(self, h, *rest):
            asked.append(len(h))
            return super().predict(h, *rest)

    part = Watched(KnownEffects.of_own(slopes, own, (2,)), "first-order")
    retrained = RetrainedSubsets(rows, rows @ own, "given", (2.0, 20.0))  # one alone is smaller
    calibrated = calibrate_estimators([part], retrained, slopes if gradient else None, (2,))
    whole = calibrated.predict(np.eye(n))
    asked.clear()
    monkeypatch.setattr(limits, "NUMBERS_AT_ONCE", 3 * (n + 2 * m))
    effects = calibrated.influence()
    assert asked == [3] * 13 + [1]
    np.testing.assert_array_equal(effects.change, whole.change)
    np.testing.assert_array_equal(effects.stderr, whole.stderr)
    assert effects.warnings == whole.warnings and "40 of 40 subsets" in effects.warnings[0]


def test_kinds_are_calibrated_as_if_alone():
    rng = np.random.default_rng(3)
    truths = rng.normal(size=(40, 2))
    kinds = np.arange(40) % 2
    predictions = (truths + np.where(kinds == 0, 0.1, 1.0)[:, None] * rng.normal(size=(40, 2)))[:, None]
    sizes = rng.integers(2, 9, 40).astype(float)
    subsets = describe(predictions, sizes, kinds=kinds)
    both = calibrate(subsets, truths)
    ends = both.interval(0.9, subsets)
    change = both.predict(subsets)
    of = kinds == 0
    first = describe(predictions[of], sizes[of])
    alone = calibrate(first, truths[of])
    np.testing.assert_array_equal(change[of], alone.predict(first))
    np.testing.assert_array_equal([end[of] for end in ends], alone.interval(0.9, first))
    assert set(np.unique(both.fits[1].weights)) <= {0.0, 1.0}  # one estimator, or none
    assert ((ends[0] <= truths) & (truths <= ends[1]))[kinds == 1].mean() > 0.85
    width = ends[1] - ends[0]
    assert np.median(width[kinds == 1]) > 4 * np.median(width[kinds == 0])
