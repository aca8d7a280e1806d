"""Metagradients of the models without one example each, against single metagradients and against retraining."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import raises

import circuitsketch as cs
from circuitsketch.reverse.leave_one_out import leave_one_out

N = 9


def network(activation=np.tanh):
    """A network in minibatches of two sizes, three epochs; the last example is read by no step."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, 3)), rng.integers(0, 2, N)

    def step(state, batch, keep):
        x, y = batch
        loss = lambda p: (keep * cs.cross_entropy(activation(x @ p["w"]) @ p["v"], y)).mean()  # noqa: E731
        return cs.optim.adam(state, cs.grad(loss)(state["params"]), 0.05, eps=0.0, eps_root=1e-6)

    ids = [part for _ in range(3) for part in np.split(rng.permutation(N - 1), [3, 6])]
    params = {"w": rng.normal(size=(3, 4)), "v": rng.normal(size=(4, 2))}
    return cs.Training(step, cs.optim.adam_state(params), [(x[i], y[i]) for i in ids], ids, n=N)


def measure(p, x):
    return {"out": np.tanh(x @ p["w"]) @ p["v"], "norm": (p["v"] ** 2).sum()}


X = np.array([[0.3, -0.2, 0.5]])


def take_all(run, function, args, examples=None, **options):
    """The values and the derivatives of every example's model."""
    taken = {}
    leave_one_out(run, function, args, examples, take=lambda i, *rest: taken.__setitem__(i, rest), **options)
    return taken


@pytest.mark.parametrize("activation", [np.tanh, cs.relu])
def test_leave_one_out_gradients_are_metagradients_at_each_example(activation):
    run = network(activation)
    taken = take_all(run, measure, (X,), threads=1)
    assert sorted(taken) == list(range(N))
    for i in (0, 4, N - 1):
        w = np.eye(N)[i]
        right = cs.metagradient(run, measure, X, at=w, threads=1)
        value = measure(run.retrain(w)["params"], X)
        np.testing.assert_allclose(taken[i][0], [*value["out"].ravel(), value["norm"]], rtol=1e-12)
        np.testing.assert_allclose(taken[i][1], np.vstack([right["out"].reshape(2, N), right["norm"]]), rtol=1e-12)


def test_leave_one_out_gradients_are_differences_of_retrainings():
    run = network()
    taken = take_all(run, lambda p: (p["v"] ** 2).sum(), (), [2])
    step = 1e-4
    rows = np.array([np.eye(N)[2] + sign * step * np.eye(N)[j] for j in range(N) for sign in (1, -1)])
    values = (run.retrain(rows)["params"]["v"] ** 2).sum(axis=(1, 2)).reshape(N, 2)
    np.testing.assert_allclose(taken[2][1][0], (values[:, 0] - values[:, 1]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_leave_one_out_gives_the_same_bits_on_any_number_of_threads():
    run = network()
    one, two = (take_all(run, measure, (X,), [5, 1, 3], threads=threads) for threads in (1, 2))
    assert all(np.array_equal(one[i][1], two[i][1]) for i in (1, 3, 5))


def test_leave_one_out_with_half_a_weight_and_progress():
    run, reports = network(), []
    taken = take_all(
        run, measure, (X,), [1, 2], weight=0.5, threads=1, progress=lambda *numbers: reports.append(numbers)
    )
    right = cs.metagradient(run, measure, X, at=0.5 * np.eye(N)[1])
    np.testing.assert_allclose(taken[1][1][-1], right["norm"], rtol=1e-12)
    assert reports == [(1, 2), (2, 2)]


def test_leave_one_out_refuses_a_measurement_without_the_state():
    with raises(cs.InputError, "depends on no part of the trained state"):
        take_all(network(), lambda p: np.ones(2), ())
