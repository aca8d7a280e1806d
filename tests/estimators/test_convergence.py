"""The region of trust: one criterion for the radius, for `outside` and for the warning, whatever the estimator.

The oracle is retraining: intervals without a warning hold, and large deletions are not called trusted.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.attribution.run_checks import COMPARED
from circuitsketch.directions import Sphere
from circuitsketch.estimators.convergence import Region, counted, length_of, truncation_of

N = 50
ESTIMATORS = ("interactions", "per-example", "first-order", "theorem")


def linear(rng):
    """Least squares by stochastic descent, which hardly depends on the early steps: its series grows for long."""
    x = rng.normal(size=(N, 3))
    y = x @ np.array([1.5, -1.0, 0.5]) + 0.4 * rng.normal(size=N)
    ids = [rng.permutation(N)[:10] for _ in range(40)]
    return x, y, ids, {"w": np.zeros(3)}, lambda p, x: x @ p["w"], lambda z, y: (z - y) ** 2, 0.15


def logistic(rng):
    x = rng.normal(size=(N, 4))
    y = (x[:, 0] + x[:, 1] + rng.logistic(size=N) > 0).astype(float)
    ids = [np.arange(N)] * 25
    return x, y, ids, {"w": np.zeros(4)}, lambda p, x: x @ p["w"], lambda z, y: np.logaddexp(0, z) - y * z, 0.5


def tanh(rng):
    x = rng.normal(size=(N, 3))
    y = np.sin(x[:, 0]) + 0.2 * rng.normal(size=N)
    ids = [part for _ in range(4) for part in np.split(rng.permutation(N), 5)]
    first = {"w": 0.7 * rng.normal(size=(3, 5)), "v": 0.7 * rng.normal(size=5)}
    return x, y, ids, first, lambda p, x: np.tanh(x @ p["w"]) @ p["v"], lambda z, y: (z - y) ** 2, 0.1


def training(model, seed, adam=False):
    """The run and its measurement, three predictions."""
    rng = np.random.default_rng(seed)
    x, y, ids, first, predict, loss, rate = model(rng)
    probe = rng.normal(size=(3, x.shape[1]))

    def step(state, batch, keep):
        grads = cs.grad(lambda p: (keep * loss(predict(p, batch[0]), batch[1])).mean())(state["params"])
        if adam:
            return cs.optim.adam(state, grads, 0.02, eps_root=1e-4)
        return cs.optim.sgd(state, grads, rate)

    state = (cs.optim.adam_state if adam else cs.optim.sgd_state)(first)
    return cs.Training(step, state, [(x[i], y[i]) for i in ids], ids, n=N), lambda p: predict(p, probe)


RUNS = {
    "linear": (linear, False),
    "logistic": (logistic, False),
    "tanh": (tanh, False),
    "tanh by Adam": (tanh, True),
}


def random_deletions(share, count, rng):
    masks = np.zeros((count, N), dtype=bool)
    for mask in masks:
        mask[rng.permutation(N)[: round(share * N)]] = True
    return masks


@pytest.fixture(scope="module", params=list(RUNS))
def measured(request):
    """A query with every example alone, random deletions, their shares, and the retrained truth."""
    model, adam = RUNS[request.param]
    run, measure = training(model, 0, adam)
    query = cs.sketch(run, 64, 3, per_example="series", per_example_order=4).measure(measure)
    shares = np.repeat([0.04, 0.1, 0.2, 0.5, 0.8, 1.0], 10)
    rng = np.random.default_rng(0)
    masks = np.concatenate([random_deletions(share, 1, rng) for share in shares])
    return query, masks, shares, measure_all(run, measure, masks)


def measure_all(run, measure, masks):
    states = run.retrain(masks)
    return np.stack([measure({k: v[i] for k, v in run.params(states).items()}) for i in range(len(masks))])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_intervals_without_a_warning_hold_and_large_deletions_have_one(measured, estimator):
    query, masks, shares, truth = measured
    found = query.without(masks, estimator=estimator)
    low, high = found.interval()
    inside, right = ~found.outside, (low <= truth) & (truth <= high)
    raw = query.estimators[estimator].predict(masks.astype(float))
    assert np.all(raw.outside[shares >= 0.5])
    if estimator in COMPARED:  # with retrained subsets, up to a half of the examples, whatever the series does
        assert right[shares == 0.5].mean() >= 0.8 and not inside[shares > 0.5].any()
    else:
        assert not inside[shares >= 0.5].any()
    assert right[inside].mean() >= 0.8  # intervals of 95 % that rest on guesses
    assert inside[shares <= 0.1].mean() >= 0.5  # the warning is not given to everything


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_beyond_the_printed_radius_every_estimator_warns(measured, estimator):
    query = measured[0]
    radius = np.asarray(query.stability().radius[0])
    rng = np.random.default_rng(3)
    directions = [rng.normal(size=N) for _ in range(3)] + [(rng.permutation(N) < 10).astype(float)]
    for h in directions:
        for factor in (0.999, 1.001):
            for value in range(3):
                found = query.predict(h * (factor * radius[value] / np.linalg.norm(h)), estimator=estimator)
                lengths = np.full(3, factor * radius[value])
                beyond = lengths > radius
                assert np.all(found.outside[beyond])
                if estimator == "theorem":
                    assert np.array_equal(found.outside, beyond)
                assert beyond.any() == any("does not decay" in text for text in found.warnings)


def test_random_directions_alone_are_trusted_up_to_one_over_the_rate(measured):
    query = measured[0]
    alone = cs.Query(query.coefficients, query.distribution)
    stability = alone.stability()
    radius, rate = (np.asarray(pair[0]) for pair in (stability.radius, stability.rate))
    np.testing.assert_allclose(radius, 1 / rate, rtol=1e-12)
    expected = np.sqrt(stability.norms[0] / stability.norms[2])
    np.testing.assert_allclose(radius, expected, rtol=1e-9)
    for d in range(1, N + 1):
        found = alone.without(range(d))
        assert np.array_equal(found.outside, math.sqrt(d) > radius)
        assert np.array_equal(np.isinf(found.truncation), np.sqrt(d) > radius) or d == 1


def test_a_lower_order_is_judged_by_all_that_was_measured(measured):
    query, masks, shares, _ = measured
    for order in (1, 2):
        found = query.without(masks[shares == 1.0][0], order=order, estimator="theorem")
        assert np.all(found.outside) and any("does not decay" in text for text in found.warnings)


def test_influences_beyond_the_radius_carry_the_warning():
    psi = Sphere(1, 2).block(0, 4)
    far, near = (cs.Query((ratio * psi) ** np.arange(5), Sphere(1, 2)) for ratio in (1.5, 0.5))
    assert any("outside the region of trust" in text for text in far.influence().warnings)
    assert near.influence().warnings == () and near.stability().radius[0] == pytest.approx(2)


def test_a_series_that_ends_is_trusted_everywhere():
    psi = Sphere(1, 2).block(0, 4)
    query = cs.Query(psi ** np.arange(5) * (np.arange(5) < 3), Sphere(1, 2))
    assert query.stability().radius == (np.inf, 0.0) and not query.predict([1e6]).outside


def test_what_an_estimator_leaves_out_although_it_was_measured_counts_as_its_error(measured):
    query, masks, shares, _ = measured
    rows = masks[shares == 0.2].astype(float)
    known, less = (query.estimators[name].predict(rows) for name in ("interactions", "per-example"))
    assert np.all(less.stderr >= 0.7 * np.abs(known.change - less.change))


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(1, 10**6))
def test_the_length_that_counts_is_undone_by_its_inverse(length, n):
    assert length_of(counted(length, n), n) == pytest.approx(length, rel=1e-9)
    assert counted(2 * length, n) > counted(length, n) and counted(length, None) == length
    assert counted(math.sqrt(0.1 * n), n) == pytest.approx(math.sqrt(0.1 * n) / 8)  # a tenth of all: an eighth
    assert counted(math.sqrt(0.5 * n), n) == pytest.approx(2 * math.sqrt(0.5 * n))  # a half: twice


@settings(deadline=None)
@given(st.lists(st.floats(-700, 700), min_size=2, max_size=5), st.floats(1e-3, 1e3), st.none() | st.integers(1, 1000))
def test_the_terms_grow_where_the_region_ends(logs, factor, n):
    region = Region(np.array(logs), n)
    radius = float(region.radius)
    if not 1e-100 < radius < 1e100:
        return
    assert bool(region.excludes(np.array([radius * factor]))[0]) == (radius * factor > radius)
    if n is None and 1e-3 < radius < 1e3:
        steps = 2 if len(logs) > 2 else 1
        top, before = (logs[-1 - i] + (len(logs) - i) * math.log(radius) for i in (0, steps))
        assert top == pytest.approx(before, abs=1e-6)


def test_left_out_orders_that_were_measured_are_added_up():
    terms = 0.5 ** np.arange(1.0, 5.0)
    assert truncation_of(terms) == pytest.approx(1 / 16)
    assert truncation_of(terms, 2) == pytest.approx(1 / 8 + 1 / 16 + 1 / 16)
