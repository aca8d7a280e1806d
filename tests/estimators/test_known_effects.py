"""Estimators of derivatives and retrained effects: exact on functions of second order, against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import raises

import circuitsketch as cs
from circuitsketch.estimators.known_effects import (
    FromKnownEffects,
    KnownEffects,
    select_for_pairs,
    select_strongest_pairs,
)
from circuitsketch.estimators.pair_completion import complete_pairs, fit_mixtures

N, C = 7, 2


def quadratic(seed, chosen):
    """A function g h + h A h / 2 of C values, and all that is known of it where the pairs of some examples are."""
    rng = np.random.default_rng(seed)
    g, a = rng.normal(size=(N, C)), rng.normal(size=(C, N, N))
    a = a + a.transpose(0, 2, 1)
    own = g + np.diagonal(a, axis1=1, axis2=2).T / 2
    known = KnownEffects(g, own, np.array(chosen, dtype=np.int64), a[:, chosen].transpose(1, 0, 2), (C,))
    return g, a, known


@given(st.integers(0, 10**6), st.sets(st.integers(0, N - 1)))
def test_pairs_are_the_sum_over_pairs_with_a_chosen_example_and_completed_ones(seed, chosen):
    chosen = sorted(chosen)
    g, a, known = quadratic(seed, chosen)
    h = np.random.default_rng(seed + 1).normal(size=(3, N))
    estimate = FromKnownEffects(known, "pairs").predict(h)
    for row, change in zip(h, estimate.change, strict=True):
        right = row @ g + row**2 @ np.diagonal(a, axis1=1, axis2=2).T / 2
        for i in range(N):
            for j in range(i):
                if i in chosen or j in chosen:
                    right = right + row[i] * row[j] * a[:, i, j]
                elif known.mixtures is not None:
                    mixed = known.mixtures[i] @ a[:, chosen, j].T + known.mixtures[j] @ a[:, chosen, i].T
                    right = right + row[i] * row[j] * mixed / 2
        np.testing.assert_allclose(change, right, rtol=1e-9, atol=1e-9)


def low_rank(n, rank, seed=0):
    """Symmetric matrices (C, n, n) of a rank, and how they look in rows: zero on the diagonal."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, rank))
    core = rng.normal(size=(C, rank, rank))
    a = features @ (core + core.transpose(0, 2, 1)) @ features.T
    return a * (1 - np.eye(n))


def test_pairs_of_low_rank_are_completed_from_some_rows_and_noise_is_not():
    n, chosen = 60, np.arange(0, 60, 3)
    rest = np.setdiff1d(np.arange(n), chosen)
    a = low_rank(n, 3)
    mixtures = complete_pairs(a[:, chosen], chosen)
    assert not mixtures[chosen].any()
    half = mixtures @ a[:, chosen]
    completed = (half + half.transpose(0, 2, 1))[:, rest][:, :, rest] / 2 * (1 - np.eye(len(rest)))
    truth = a[:, rest][:, :, rest]
    assert ((completed - truth) ** 2).sum() < 0.05 * (truth**2).sum()
    noise = np.random.default_rng(1).normal(size=(C, n, n))
    noise = (noise + noise.transpose(0, 2, 1)) * (1 - np.eye(n))
    assert complete_pairs(noise[:, chosen], chosen) is None
    assert complete_pairs(a[:, chosen[:3]], chosen[:3]) is None
    assert not fit_mixtures(0 * a[:, chosen], chosen, 1.0).any()


def test_completed_pairs_reduce_the_error_of_predictions():
    n, chosen = 60, np.arange(0, 60, 3)
    a, g = low_rank(n, 3), np.random.default_rng(2).normal(size=(n, C))
    known = KnownEffects(g, g, chosen, a[:, chosen].transpose(1, 0, 2), (C,))
    h = np.random.default_rng(3).random((50, n)) < 0.1
    truth = h @ g + np.einsum("bi,cij,bj->bc", h, a, h) / 2
    error = np.abs(FromKnownEffects(known).predict(h.astype(float)).change - truth).mean()
    vars(known)["mixtures"] = None
    assert error < 0.3 * np.abs(FromKnownEffects(known).predict(h.astype(float)).change - truth).mean()


def test_the_strongest_pairs_are_selected_once_each():
    own, chosen = np.ones((N, C)), np.array([1, 4])
    pairs = np.zeros((2, C, N))
    pairs[0, :, 4], pairs[1, :, 1], pairs[1, 0, 6], pairs[0, 0, 1] = 3.0, 1.0, -2.5, 100.0
    both = select_strongest_pairs(own, pairs, chosen, 5)
    assert [sorted(pair) for pair in both.tolist()] == [[1, 4], [4, 6]]
    assert select_strongest_pairs(own, pairs, chosen, 1).shape == (1, 2)


def test_all_pairs_predict_a_function_of_second_order():
    g, a, known = quadratic(3, list(range(N)))
    h = np.random.default_rng(4).normal(size=N)
    for name, right in {
        "first-order": h @ g,
        "per-example": h @ g + h**2 @ np.diagonal(a, axis1=1, axis2=2).T / 2,
        "pairs": h @ g + np.einsum("i,cij,j->c", h, a, h) / 2,
    }.items():
        estimate = FromKnownEffects(known, name).predict(h)
        np.testing.assert_allclose(estimate.change, right)
        assert estimate.change.shape == (C,) and np.isinf(estimate.stderr).all() and estimate.warnings


def test_one_retrained_example_has_no_error_and_others_have_an_unknown_one():
    _, _, known = quadratic(0, [1])
    known.own[3] = np.nan
    estimate = FromKnownEffects(known, "pairs").predict(np.eye(N))
    exact = np.arange(N) != 3
    np.testing.assert_array_equal(estimate.change[exact], known.own[exact])
    np.testing.assert_array_equal(estimate.change[3], known.gradient[3])
    assert not estimate.stderr[exact].any() and np.isinf(estimate.stderr[3]).all()
    influence = FromKnownEffects(known, "per-example").influence()
    np.testing.assert_array_equal(influence.change, estimate.change)
    np.testing.assert_array_equal(np.isinf(influence.stderr[:, 0]), ~exact)


def test_names_say_what_is_known():
    assert KnownEffects.of_gradient(np.ones((N, C)), (C,)).names == ("first-order",)
    assert quadratic(0, [])[2].names == ("first-order", "per-example")
    assert quadratic(0, [2])[2].names == ("first-order", "per-example", "pairs")


def test_a_lower_order_leaves_own_effects_and_pairs_out_and_a_median_is_refused():
    g, _, known = quadratic(1, [0, 4])
    h = np.ones(N)
    np.testing.assert_allclose(FromKnownEffects(known).predict(h, order=1).change, h @ g)
    with raises(cs.InputError, "takes no median"):
        FromKnownEffects(known).predict(h, median_groups=3)


def test_examples_of_large_effect_and_of_large_distance_are_selected_first():
    own, distances = np.zeros((N, C)), np.ones(N)
    own[2], distances[5] = 10.0, 10.0
    assert set(select_for_pairs(own, distances)[:2]) == {2, 5}
    assert sorted(select_for_pairs(own, distances)) == list(range(N))
    assert select_for_pairs(own, distances)[0] in (2, 5)


def test_a_scalar_measurement_keeps_its_shape():
    g, _, known = quadratic(2, [1])
    scalar = KnownEffects(g[:, :1], known.own[:, :1], known.chosen, known.pairs[:, :1], ())
    assert FromKnownEffects(scalar).predict(np.ones(N)).change.shape == ()
    assert FromKnownEffects(scalar).predict(np.ones((3, N))).change == pytest.approx(
        np.full(3, FromKnownEffects(known).predict(np.ones(N)).change[0])
    )
