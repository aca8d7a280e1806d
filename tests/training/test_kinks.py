"""Kinks within reach of a deletion: against networks trained in plain NumPy, which record the signs they see.

After one step of gradient descent the parameters are linear in the weights, so at the second step first order is exact,
whatever is deleted; after more steps it is for small changes only.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.training import crossings as module
from circuitsketch.training.crossings import find_crossings, measure_crossings
from circuitsketch.training.kinks import Kinks, error_at, random_deletions, summarize

FEATURES, HIDDEN, RATE = 3, 5, 0.1
ACTIVATIONS = {
    "relu": cs.relu,
    "maximum": lambda z: np.maximum(0.0, z),
    "where": lambda z: np.where(z > 0.0, z, 0.0),
    "absolute": lambda z: 0.5 * (np.abs(z) + z),
    "clip": lambda z: np.clip(z, 0.0, 1e6),
}


def problem(seed, n, sizes):
    """First parameters, inputs, targets, and batches of these sizes."""
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(FEATURES, HIDDEN)), "v": rng.normal(size=HIDDEN)}
    x, y = rng.normal(size=(n, FEATURES)), rng.normal(size=n)
    return params, x, y, [rng.choice(n, size, replace=False) for size in sizes]


def training(params, x, y, batches, activation="relu"):
    def step(state, batch, keep):
        def loss(p):
            return (keep * (ACTIVATIONS[activation](batch[0] @ p["w"]) @ p["v"] - batch[1]) ** 2).mean()

        return cs.optim.sgd(state, cs.grad(loss)(state["params"]), RATE)

    return cs.Training(step, {"params": params}, [(x[ids], y[ids]) for ids in batches], batches, n=len(x))


def train_by_hand(params, x, y, batches, w):
    """The trained parameters, and the hidden units' operands at every step, with the derivatives written out."""
    hidden, out = params["w"], params["v"]
    operands = []
    for ids in batches:
        z = x[ids] @ hidden
        operands.append(z)
        a = z * (z > 0)
        slope = (1.0 - w[ids]) * 2.0 * (a @ out - y[ids]) / len(ids)
        hidden, out = (
            hidden - RATE * x[ids].T @ (slope[:, None] * out * (z > 0)),
            out - RATE * a.T @ slope,
        )
    return {"w": hidden, "v": out}, operands


def changed_signs(problem, w):
    """Per step, how many operands have another sign with downweights w than without."""
    before, after = (train_by_hand(*problem, weights)[1] for weights in (np.zeros_like(w), w))
    return [int(np.sum((z > 0) != (moved > 0))) for z, moved in zip(before, after, strict=True)]


# ------------------------------------------------------------------------------------------------ one run, subsets


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**16),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.sampled_from([(4, 4), (6, 3), (5, 5)]),
    st.floats(0.2, 1.0),
)
def test_a_deletion_crosses_what_changes_sign_when_retrained(seed, activation, sizes, share):
    data = problem(seed, 9, sizes)
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((11, 9)) < share, rng.choice([1.0, 0.5, -1.0], size=(11, 9)), 0.0)
    crossings = find_crossings(training(*data, activation), weights)
    expected = [changed_signs(data, w)[1] for w in weights]
    assert crossings.counts.sum(axis=1).tolist() == expected
    assert crossings.first_steps.min(axis=1).tolist() == [1 if count else 2 for count in expected]


def test_small_changes_cross_what_changes_sign_over_all_steps():
    data = problem(0, 400, [400] * 20)
    weights = 1e-2 * np.random.default_rng(1).normal(size=(32, 400))
    counts = find_crossings(training(*data), weights).counts[:, 0]
    expected = np.array([sum(changed_signs(data, w)) for w in weights])
    assert expected.sum() > 80
    assert np.abs(counts - expected).sum() < 0.15 * expected.sum()  # after a crossing, first order is not exact


def test_the_share_is_the_error_of_first_order():
    data = problem(0, 400, [400] * 20)
    weights = 1e-2 * np.random.default_rng(2).normal(size=(8, 400))
    crossings = find_crossings(training(*data), weights)
    vector = lambda p, *row: np.concatenate([np.ravel(p[name][row]) for name in ("w", "v")])  # noqa: E731
    base = vector(train_by_hand(*data, np.zeros(400))[0])
    errors = []
    for row, w in enumerate(weights):
        predicted = vector(crossings.change["params"], row)
        real = vector(train_by_hand(*data, w)[0]) - base
        errors.append(np.linalg.norm(real - predicted) / np.linalg.norm(predicted))
    assert crossings.shares.max() > 0.2
    np.testing.assert_allclose(crossings.shares, errors, rtol=0.02, atol=2e-3)  # the curvature adds 1e-3


def test_what_crossing_adds_to_a_measurement_is_what_first_order_misses():
    data = problem(0, 400, [400] * 20)
    weights = 1e-2 * np.random.default_rng(2).normal(size=(8, 400))
    run = training(*data)
    crossings = find_crossings(run, weights)
    measure = lambda p, x: {"mean": (p["w"] @ p["v"]).mean(), "all": np.tanh(x @ p["w"])}  # noqa: E731
    added = measure_crossings(run, crossings, measure, data[1][:3])
    for row, w in enumerate(weights):
        base, moved = (train_by_hand(*data, at)[0] for at in (np.zeros(400), w))
        predicted = {name: base[name] + crossings.change["params"][name][row] for name in base}
        real, first_order = measure(moved, data[1][:3]), measure(predicted, data[1][:3])
        for name, values in added.items():
            np.testing.assert_allclose(values[row], real[name] - first_order[name], rtol=0.02, atol=1e-5)
    assert np.abs(added["all"]).max() > 3e-4


@pytest.mark.parametrize(
    "function",
    [
        cs.relu,
        np.abs,
        lambda z: np.clip(z, -0.5, 0.5),
        lambda z: np.maximum(z, 1.0 - z),
        lambda z: np.where(z > 0.3, 2.0, -z),
        lambda z: np.where((z > 0.0) & (z < 1.0), z, 0.25),
        lambda z: np.max(z, axis=0) + np.min(z, axis=0),
        lambda z: 1.0 * (z > 0.1),
        lambda z: (z > 0.1).any(axis=0),
    ],
)
def test_the_change_across_is_the_real_one_of_a_function_of_linear_pieces(function):
    matrix = np.random.default_rng(0).normal(size=(4, 3, 6))
    run = cs.Training(lambda s, x, keep: s + z_sum(function(x @ keep)), 0.0, [matrix], [range(6)])
    weights = 2 * np.random.default_rng(1).normal(size=(20, 6))
    crossings = find_crossings(run, weights)
    assert crossings.counts.any(axis=1).mean() > 0.9
    np.testing.assert_allclose(crossings.change_across, run.retrain(weights) - run.train(), atol=1e-12)


def z_sum(values):
    """A weighted sum in which no two elements cancel, beside what varies smoothly."""
    return (np.arange(1.0, values.size + 1).reshape(values.shape) * values).sum()


def test_the_change_is_the_first_order_change():
    run = training(*problem(3, 12, [6, 4, 6]))
    h = np.random.default_rng(0).normal(size=(5, 12))
    change = find_crossings(run, h).change
    series = cs.push(run, h, 1).measure(lambda p: p["w"]).coefficients[:, 1].real
    np.testing.assert_allclose(change["params"]["w"], series, rtol=1e-12, atol=1e-14)


def test_groups_cross_what_their_examples_cross():
    run = training(*problem(4, 12, [12, 12, 12]))
    labels = np.arange(12) % 3
    grouped, single = (
        find_crossings(run.grouped(labels), np.eye(3)),
        find_crossings(run, [labels == i for i in range(3)]),
    )
    assert single.counts.any()
    np.testing.assert_array_equal(grouped.counts, single.counts)


def test_the_worst_gate_and_its_line_are_named():
    def step(state, batch, keep):
        moved = state["a"] - keep[0] * batch
        return {"a": moved, "b": state["b"] + np.maximum(moved, 0.0).sum() + np.abs(moved - 100.0).sum()}

    run = cs.Training(step, {"a": np.zeros(4), "b": 0.0}, [np.array([1.0, -1.0, 2.0, 3.0])] * 3, [[0], [1], [2]])
    crossings = find_crossings(run, [[0], [0, 1], [2]])
    line = step.__code__.co_firstlineno + 2
    assert len(crossings.kinks) == 2
    # To take a step away leads back to the kink where all begin, and not across; to turn it round does.
    assert crossings.counts.sum(axis=1).tolist() == [0, 0, 0]
    doubled = find_crossings(run, np.array([[2.0, 0, 0], [2.0, 2.0, 0.0], [0, 0, 4.0]]))
    assert doubled.counts.sum(axis=1).tolist() == [4, 12, 4]
    assert doubled.first_steps.min(axis=1).tolist() == [0, 0, 2]
    assert doubled.worst(0) == doubled.worst(1) and f"gate maximum ({__file__}:{line})" == doubled.worst(0)
    assert crossings.worst(0) is None


def test_a_smooth_run_returns_at_once(monkeypatch):
    run = cs.Training(lambda s, x, keep: np.tanh(s + keep[0] * x), 0.0, [1.0, 2.0], [[0], [1]])
    monkeypatch.setattr(module, "executable_of", None)  # would be called for anything else
    crossings = find_crossings(run, [[0], [1], [0, 1]])
    assert crossings.kinks == () and crossings.counts.shape == (3, 0) and not crossings.shares.any()
    assert crossings.worst(0) is None and crossings.change is None
    summary = summary_of(run)
    assert not measure_crossings(run, crossings, np.sin).any()
    assert summary == Kinks() and summary.expected(5) == 0 and summary.share(5) == 0 and summary.worst(5) is None


def test_an_overflow_is_an_error():
    run = cs.Training(lambda s, x, keep: np.maximum(1e300 * s * keep[0], -1.0), 1e-300, [0.0] * 2, [[0], [1]])
    with pytest.raises(cs.DivergenceError, match="first-order change of the state for subset 1 overflows"):
        find_crossings(run, np.array([[0.0, 0.0], [1e20, 1e20]]))


# ----------------------------------------------------------------------------------------------------- the summary


def summary_of(run, draws=8, seed=0):
    sizes, weights = random_deletions(run.n, draws, seed)
    return summarize(find_crossings(run, weights.reshape(-1, run.n)), sizes)


def test_the_summary_expects_what_random_deletions_cross():
    data = problem(5, 40, [40, 40])
    summary = summary_of(training(*data), draws=40)
    assert summary.sizes == (1, 4, 16, 20) and Kinks.from_json(summary.to_json()) == summary
    rng = np.random.default_rng(9)
    for size in summary.sizes:
        real = []
        for _ in range(200):
            w = np.zeros(40)
            w[rng.choice(40, size, replace=False)] = 1.0
            real.append(sum(changed_signs(data, w)))
        # Five standard errors of a mean of 40.
        assert abs(summary.expected(size) - np.mean(real)) < 5 * np.std(real) / np.sqrt(40)
    assert summary.expected(1) < summary.expected(2) < summary.expected(4)
    assert "gate relu" in summary.worst(4) and summary.share(4) > 0


def test_a_summary_can_be_repeated():
    run = training(*problem(6, 20, [20, 20]))
    assert summary_of(run, seed=1) == summary_of(run, seed=1) != summary_of(run, seed=2)


def test_intervals_hold_once_they_are_widened_by_what_crossing_adds():
    """First-order predictions of retrained values, whose only other error, the curvature's, is far smaller here."""
    run = training(*problem(0, 400, [400] * 20))
    rng = np.random.default_rng(3)
    size = 9
    weights = np.zeros((60, 400))
    for row in weights:
        row[rng.choice(400, size, replace=False)] = 0.1
    crossings = find_crossings(run, weights)
    measure = lambda p: p["w"].ravel()  # noqa: E731
    first_order = np.stack([measure({"w": w}) for w in crossings.change["params"]["w"]])
    real = np.stack([measure({"w": w}) for w in run.retrain(weights)["params"]["w"]]) - measure(run.train()["params"])
    sizes, deletions = random_deletions(400, 12)
    drawn = find_crossings(run, 0.1 * deletions.reshape(-1, 400))
    errors = measure_crossings(run, drawn, measure).reshape(len(sizes), 12, -1)
    misses = np.abs(real - first_order) - 6e-6  # the rest, by which both sides' change misses, for 99 % of the values
    assert np.mean(misses <= 1.96 * error_at(size, sizes, errors)) > 0.9
    assert np.mean(misses <= 0.0) < 0.7
