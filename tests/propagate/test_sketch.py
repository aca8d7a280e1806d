"""Sketches from end to end: a run pushed, anything measured, predictions held against retraining and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from steps import by_hand, on_a_circle

import circuitsketch as cs
from circuitsketch.directions import find_distribution

N = 5
X = np.array([[1.0, 0.5], [-0.5, 2.0], [0.25, -1.0], [1.5, 0.75], [-1.0, 1.25]])


def cubic_step(state, x, keep):
    """A polynomial of the weights: sums of products of the three examples of a step."""
    return {"params": state["params"] + keep @ x + 0.5 * np.prod(keep) * x[0], "seen": state["seen"] + 1.0}


def cubic_run():
    examples = [[0, 1, 2], [2, 3, 4], [4, 0, 1]]
    start = {"params": np.array([0.5, -1.0]), "seen": np.zeros(())}
    return cs.Training(cubic_step, start, [X[ids] for ids in examples], examples)


def cubic_params(w):
    examples = [np.array(ids) for ids in ([0, 1, 2], [2, 3, 4], [4, 0, 1])]
    start = {"params": np.array([0.5, -1.0]), "seen": np.zeros(())}
    return by_hand(cubic_step, start, [X[ids] for ids in examples], examples, w)["params"]


def smooth_step(state, batch, keep):
    """Ridge-like logistic regression, a smooth step with a moderate rate."""
    x, y = batch
    slope = cs.grad(lambda p: (keep * cs.softplus(-y * (x @ p))).mean() + 0.05 * (p * p).sum())(state)
    return state - 0.5 * slope


def smooth_run():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3))
    y = np.sign(x @ np.array([1.0, -2.0, 0.5]) + 0.3 * rng.standard_normal(12))
    ids = [rng.permutation(12)[:6] for _ in range(8)]
    return cs.Training(smooth_step, np.zeros(3), [(x[i], y[i]) for i in ids], ids)


# Measuring.


def test_a_measurement_is_the_function_of_the_series_of_the_parameters():
    psi = 0.3 * np.array([[1.0, 2j, -1.0, 0.5 - 1j, 1.0], [1j, 1.0, 0.0, -1.0, 0.3]])
    measure = lambda p, scale: np.tanh(scale * p) @ np.array([[1.0, 0.0, 2.0], [0.5, 1.0, -1.0]])  # noqa: E731
    query = cs.push(cubic_run(), psi, 3).measure(measure, 0.1)
    assert query.coefficients.shape == (2, 4, 3)
    for row in range(2):
        truth = on_a_circle(lambda z, row=row: measure(cubic_params(z * psi[row]), 0.1), 3, points=64)
        np.testing.assert_allclose(query.coefficients[row], truth, atol=1e-12)


def test_an_array_is_measured_as_its_entries_are():
    sketch = cs.sketch(cubic_run(), 10, 2, seed=1)
    whole = sketch.measure(lambda p: np.stack([p, p * p]))
    assert whole.shape == (2, 2) and whole.coefficients.shape == (10, 3, 2, 2)
    for i in range(2):
        one = sketch.measure(lambda p, i=i: p[i])
        square = sketch.measure(lambda p, i=i: p[i] * p[i])
        np.testing.assert_allclose(whole.coefficients[:, :, 0, i], one.coefficients, rtol=1e-13)
        np.testing.assert_allclose(whole.coefficients[:, :, 1, i], square.coefficients, rtol=1e-13)
        assert whole.without([1]).value[0, i] == pytest.approx(one.without([1]).value, rel=1e-12)


def test_the_whole_state_and_chosen_parts_of_it_can_be_measured():
    start = {"params": np.array([0.5, -1.0]), "seen": np.zeros(())}
    run = lambda params: cs.Training(cubic_step, start, [X[:3]], [[0, 1, 2]], params=params)  # noqa: E731
    psi = np.eye(3)
    own = cs.push(run(None), psi, 3).measure(lambda p: p[0]).coefficients
    whole = cs.push(run(lambda state: state), psi, 3)
    np.testing.assert_array_equal(whole.measure(lambda s: s["params"][0]).coefficients, own)
    seen = whole.measure(lambda s: s["seen"] * 2.0).coefficients
    np.testing.assert_array_equal(seen, [[2.0, 0.0, 0.0, 0.0]] * 3)
    pair = cs.push(run(lambda state: (state["seen"], state["params"])), psi, 3)
    np.testing.assert_array_equal(pair.measure(lambda p: p[1][0]).coefficients, own)


def test_a_measurement_that_does_not_depend_on_the_training_is_constant():
    query = cs.push(cubic_run(), np.eye(N), 2).measure(lambda p: np.ones(2))
    np.testing.assert_array_equal(query.coefficients, np.tile([[[1.0]], [[0.0]], [[0.0]]], (N, 1, 1, 2))[:, :, 0])


def test_order_zero_measures_the_run_as_it_was():
    run = cubic_run()
    query = cs.push(run, np.eye(N), 0).measure(lambda p: p)
    assert query.coefficients.shape == (N, 1, 2) and query.order == 0
    np.testing.assert_allclose(query.baseline, run.train()["params"], rtol=1e-14)
    for ask in (lambda: query.without([0]), query.influence, query.stability):
        with pytest.raises(cs.InputError, match="push to order 1"):
            ask()


def test_a_sketch_says_what_it_is_and_keeps_its_directions():
    sketch = cs.sketch(cubic_run(), 6, 2, seed=4)
    assert (sketch.order, sketch.n, sketch.count, sketch.distribution.name) == (2, N, 6, "orthonormal")
    assert "6 orthonormal directions to order 2" in repr(sketch)
    np.testing.assert_array_equal(sketch.directions, find_distribution("orthonormal", N, 4).block(0, 6))
    assert sketch.state["params"].shape == (6, 3, 2) and sketch.state["seen"].shape == (6, 3)
    given = cs.push(cubic_run(), sketch.directions, 2)
    np.testing.assert_array_equal(given.state["params"], sketch.state["params"])


# Reproducibility.


@pytest.mark.parametrize("distribution", ["sphere", "gaussian", "orthonormal"])
def test_a_seed_gives_the_same_bits_whatever_the_threads_and_the_number_of_directions(distribution):
    run = smooth_run()
    first = cs.sketch(run, 37, 2, seed=11, distribution=distribution, threads=1)
    for threads in (2, 3):
        again = cs.sketch(run, 37, 2, seed=11, distribution=distribution, threads=threads)
        assert np.array_equal(first.state, again.state)
        ours, theirs = (s.measure(lambda p: np.exp(p)).coefficients for s in (first, again))
        assert np.array_equal(ours, theirs)
    fewer = cs.sketch(run, 10, 2, seed=11, distribution=distribution, threads=1)
    assert np.array_equal(fewer.state, first.state[:10])
    assert not np.array_equal(cs.sketch(run, 10, 2, seed=12, distribution=distribution).state, fewer.state)


def test_progress_is_reported_after_every_block():
    for threads in (1, 2):
        told = []
        tell = lambda *numbers, told=told: told.append(numbers)  # noqa: E731
        cs.sketch(smooth_run(), 100, 1, threads=threads, progress=tell)
        blocks = told[0][1]
        assert sorted(told) == [(i + 1, blocks) for i in range(blocks)]


# Predictions.


@pytest.mark.parametrize("distribution", ["sphere", "gaussian", "orthonormal"])
def test_predictions_of_a_polynomial_run_are_right_within_their_standard_errors(distribution):
    run = cubic_run()
    query = cs.sketch(run, 3000, 3, seed=2, distribution=distribution).measure(lambda p: p)
    subsets = [[i] for i in range(N)] + [[i, j] for i in range(N) for j in range(i)]
    truths = run.params(run.retrain(subsets))
    scores = []
    for subset, truth in zip(subsets, truths, strict=True):
        found = query.without(subset)
        np.testing.assert_allclose(found.baseline, run.train()["params"], rtol=1e-13)
        np.testing.assert_allclose(found.value, found.baseline + found.change, rtol=1e-13)
        scores.append((found.value - truth) / found.stderr)
        assert np.all(found.stderr < 0.2)  # so that agreement within it says something
    # 30 answers from one sketch hang together: five errors each, and neither too wide nor too narrow in the mean.
    assert np.abs(scores).max() < 5
    assert 0.2 < np.mean(np.square(scores)) < 3


def test_a_full_frame_of_orthonormal_directions_knows_a_linear_run_exactly():
    run = cs.Training(lambda s, x, keep: s + keep @ x, np.zeros(2), [X[:3], X[2:]], [[0, 1, 2], [2, 3, 4]])
    query = cs.sketch(run, N, 1, distribution="orthonormal").measure(lambda p: p)
    for subset in ([0], [1, 2], [0, 1, 2, 3, 4]):
        found = query.without(subset)
        np.testing.assert_allclose(found.value, run.retrain(subset), atol=1e-12)
    exact = -np.array([X[0], X[1], 2 * X[2], X[3], X[4]])
    np.testing.assert_allclose(query.influence().change, exact, atol=1e-12)


def test_deletions_from_a_smooth_run_lie_in_their_intervals():
    run = smooth_run()
    query = cs.sketch(run, 4000, 5, seed=7, distribution="orthonormal").measure(lambda p: p)
    subsets = [[0], [5], [11], [2, 7], [1, 9], [3, 4]]
    truths = run.retrain(subsets)
    for subset, truth in zip(subsets, truths, strict=True):
        found = query.without(subset)
        low, high = found.interval(0.999)  # of 18 numbers none should lie outside
        slack = found.truncation  # and what the orders above the fifth may add
        assert np.all(low - slack < truth) and np.all(truth < high + slack), subset
        assert np.all(high - low < 0.5 * np.abs(found.baseline).max())


def test_a_query_along_given_directions_is_the_series_of_their_multiples():
    run = smooth_run()
    psi = np.zeros((2, 12))
    psi[0, [2, 7]] = 1.0
    psi[1, 5] = 1.0
    query = cs.push(run, psi, 12).measure(lambda p: p)
    for downweight in (0.5, -0.5, 0.25):
        found = query.reweight(downweight * psi[0])
        # The terms fall off by more than a half each at half of the deletion: 1e-6 is left after twelve.
        np.testing.assert_allclose(found.value, run.retrain(downweight * psi[0]), atol=1e-6)
    with pytest.raises(cs.InputError, match="multiple of a given direction"):
        query.without([0])


# Any function at all.


def test_a_local_sketch_of_one_coordinate_is_exact():
    query = cs.local_sketch(lambda x: (x**3 - 2.0 * x).sum(), at=np.array([3.0]), directions=4, order=3)
    assert query.predict([0.5]).value == pytest.approx(3.5**3 - 7.0, rel=1e-12)
    assert query.predict([-3.0]).value == pytest.approx(0.0, abs=1e-10)


def test_a_local_sketch_of_a_linear_function_is_exact_along_a_full_frame():
    a = np.arange(6.0).reshape(2, 3)
    at = {"x": np.ones((2, 3)), "y": np.array(2.0)}
    query = cs.local_sketch(
        lambda p: np.stack([(a * p["x"]).sum() + p["y"], p["y"]]),
        at,
        directions=7,
        order=1,
        distribution="orthonormal",
    )
    h = np.array([1.0, -1.0, 0.5, 0.0, 2.0, 1.0, -0.25])  # x row by row, then y
    found = query.predict(h)
    np.testing.assert_allclose(found.value, [15.0 + a.ravel() @ h[:6] + 2.0 + h[6], 2.0 + h[6]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_a_local_sketch_predicts_a_quadratic_within_its_standard_error(dtype):
    rng = np.random.default_rng(8)
    q = rng.standard_normal((4, 4))
    at = rng.standard_normal(4)
    query = cs.local_sketch(lambda x: x @ q @ x, at, directions=2000, order=2, seed=3, dtype=dtype)
    for _ in range(5):
        h = rng.standard_normal(4)
        found = query.predict(h)
        assert abs(found.value - (at + h) @ q @ (at + h)) < 4 * found.stderr < 8.0


def test_a_local_sketch_of_a_constant_changes_nothing():
    query = cs.local_sketch(lambda x: np.array(7.0), at=np.zeros(3), directions=5, order=2)
    found = query.predict([1.0, 2.0, 3.0])
    assert (found.value, found.change, found.stderr) == (7.0, 0.0, 0.0)


def test_a_local_sketch_has_the_same_bits_on_any_number_of_threads():
    make = lambda threads: cs.local_sketch(np.sin, np.ones(3), 40, 2, 5, threads=threads).coefficients  # noqa: E731
    assert np.array_equal(make(1), make(2)) and np.array_equal(make(1), make(3))
