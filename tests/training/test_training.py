"""Whole training runs against the same training written plainly in NumPy, on weights that may be complex.

The plain trainings have their gradients derived by hand and share no code with the package. Their values on a circle of
weights, Fourier transformed, are the run's Taylor coefficients of every order (Cauchy's formula).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from steps import on_a_circle

import circuitsketch as cs
from circuitsketch.tree import flatten

N = 8
# Directions of this size keep all poles of the plain training far outside the circle: the 32nd coefficient, which
# the 32 points mistake for the 0th, is below the rounding.
SIZE = 0.1


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 3)), rng.standard_normal((N, 2)), rng.integers(0, 2, N)


def minibatches(epochs=2):
    """The ids of every step: another order in every epoch, batches of 3, 3 and 2."""
    rng = np.random.default_rng(1)
    return [part for _ in range(epochs) for part in np.split(rng.permutation(N), [3, 6])]


def first_params():
    rng = np.random.default_rng(2)
    return {
        "w1": rng.standard_normal((3, 4)),
        "b1": rng.standard_normal(4),
        "w2": rng.standard_normal((4, 2)),
        "b2": rng.standard_normal(2),
    }


# The models, for circuits, and their gradients by hand.


def outputs(p, x):
    return np.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def squares(p, x, y):
    return 0.5 * np.sum((outputs(p, x) - y) ** 2, axis=1)


def entropy(p, x, labels):
    return cs.cross_entropy(outputs(p, x), labels)


def gradient_by_hand(p, x, target, keep):
    """Of the mean over the batch of keep times the loss: squares for real targets, cross-entropy for labels."""
    h = np.tanh(x @ p["w1"] + p["b1"])
    out = h @ p["w2"] + p["b2"]
    if target.dtype.kind == "i":
        e = np.exp(out)
        error = e / e.sum(axis=1, keepdims=True) - np.eye(2)[target]
    else:
        error = out - target
    error = error * keep[:, None] / len(keep)
    back = (error @ p["w2"].T) * (1 - h * h)
    return {"w1": x.T @ back, "b1": back.sum(axis=0), "w2": h.T @ error, "b2": error.sum(axis=0)}


def sgd_by_hand(p, memory, g, rate):
    return {k: p[k] - rate * g[k] for k in p}, memory


def nesterov_by_hand(p, memory, g, rate):
    memory = {k: 0.9 * memory.get(k, 0.0) + g[k] for k in p}
    return {k: p[k] - rate * (0.9 * memory[k] + g[k]) for k in p}, memory


def adam_by_hand(p, memory, g, rate):
    m, v, t = memory.get("m", {}), memory.get("v", {}), memory.get("t", 0) + 1
    m = {k: 0.9 * m.get(k, 0.0) + 0.1 * g[k] for k in p}
    v = {k: 0.99 * v.get(k, 0.0) + 0.01 * g[k] ** 2 for k in p}
    new = {k: p[k] - rate * (m[k] / (1 - 0.9**t)) / np.sqrt(v[k] / (1 - 0.99**t) + 1e-3) for k in p}
    return new, {"m": m, "v": v, "t": t}


@dataclass
class Case:
    """A run and the same training by hand."""

    loss: object
    rule: object
    rule_by_hand: object
    first: object

    @cached_property
    def batches(self):
        x, y, labels = data()
        target = labels if self.loss is entropy else y
        rates = 0.3 / (1.0 + np.arange(6.0))  # a schedule: what changes from step to step is read with the batch
        return [(x[ids], target[ids], rate) for ids, rate in zip(minibatches(), rates, strict=True)]

    @cached_property
    def run(self):
        def step(state, batch, keep):
            x, target, rate = batch
            slopes = cs.grad(lambda p: (keep * self.loss(p, x, target)).mean())(state["params"])
            return self.rule(state, slopes, rate)

        return cs.Training(step, self.first(first_params()), self.batches, minibatches())

    def by_hand(self, w):
        """The trained parameters for downweights w, real or complex, as one vector."""
        p, memory = first_params(), {}
        for (x, target, rate), ids in zip(self.batches, minibatches(), strict=True):
            p, memory = self.rule_by_hand(p, memory, gradient_by_hand(p, x, target, 1.0 - w[ids]), rate)
        return flat(p)


def flat(params, lead=0):
    """Parameters as vectors, leading axes kept."""
    return np.concatenate([leaf.reshape(*leaf.shape[:lead], -1) for leaf in params.values()], axis=-1)


def adam(state, slopes, rate):
    return cs.optim.adam(state, slopes, rate, b2=0.99, eps=0.0, eps_root=1e-3)


def nesterov(state, slopes, rate):
    return cs.optim.momentum(state, slopes, rate, nesterov=True)


CASES = {
    "squares, sgd": Case(squares, cs.optim.sgd, sgd_by_hand, cs.optim.sgd_state),
    "squares, nesterov": Case(squares, nesterov, nesterov_by_hand, cs.optim.momentum_state),
    "entropy, adam": Case(entropy, adam, adam_by_hand, cs.optim.adam_state),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
SGD = CASES["squares, sgd"]


def complex_directions(count, seed=3):
    rng = np.random.default_rng(seed)
    return SIZE * (rng.standard_normal((count, N)) + 1j * rng.standard_normal((count, N)))


# Series of whole runs.


@every_case
def test_coefficients_of_every_order_are_those_of_a_plain_training_on_complex_weights(case):
    directions = complex_directions(2)
    pushed = flat(cs.push(case.run, directions, 4).state["params"], lead=2)
    for row, psi in enumerate(directions):
        truth = on_a_circle(lambda z, psi=psi: case.by_hand(z * psi), 4, points=32)
        # The transform's own error: some roundings of the parameters' size, about 1.
        np.testing.assert_allclose(pushed[row], truth, rtol=1e-9, atol=1e-14)


@every_case
def test_first_coefficients_are_central_differences_of_retrainings(case):
    psi = complex_directions(1)[0].real
    first = flat(cs.push(case.run, psi[None], 1).state["params"], lead=2)[0, 1].real
    step = 1e-3
    ahead, behind = (flat(case.run.params(case.run.retrain(sign * step * psi))) for sign in (1.0, -1.0))
    # The third coefficient, at most a few hundredths in this size of direction, times the step's square.
    np.testing.assert_allclose(first, (ahead - behind) / (2 * step), atol=1e-7)


@every_case
def test_the_constant_coefficient_is_plain_training(case):
    trained = case.run.train()
    np.testing.assert_allclose(flat(trained["params"]), case.by_hand(np.zeros(N)), rtol=1e-12, atol=1e-13)
    for order in (0, 2):
        state = cs.push(case.run, complex_directions(3), order, keep="state").state
        assert list(state) == list(trained)
        for ours, truth in zip(flatten(state)[0], flatten(trained)[0], strict=True):
            assert ours.shape == (3, order + 1, *truth.shape)
            # Products and sums may be fused to one rounding in the one, and not in the other.
            np.testing.assert_allclose(ours[:, 0], np.broadcast_to(truth, ours[:, 0].shape), rtol=1e-13, atol=1e-14)


def test_real_directions_give_the_coefficients_of_the_same_complex_ones():
    directions = complex_directions(5).real
    one, two = (cs.push(SGD.run, rows, 2).state["params"] for rows in (directions, directions.astype(complex)))
    for name in one:
        # The same sums, in another order of multiply-adds.
        np.testing.assert_allclose(one[name], two[name], rtol=1e-12, atol=1e-15)
        assert not np.any(two[name].imag)


def test_the_bits_do_not_depend_on_threads_or_on_what_is_pushed_beside():
    directions = complex_directions(37)
    whole = cs.push(SGD.run, directions, 2, threads=1)
    for threads in (2, 3):
        again = cs.push(SGD.run, directions, 2, threads=threads)
        assert np.array_equal(again.lanes, whole.lanes)
    # One alone, behind others, and beside one that has moved since an earlier step.
    last = minibatches()[-1][0]
    alone = np.zeros((1, N))
    alone[0, last] = SIZE
    for rows in (directions[30:31], alone):
        single = cs.push(SGD.run, rows.astype(complex), 2).state["params"]
        behind = cs.push(SGD.run, np.concatenate([directions[:13], rows]), 2).state["params"]
        for name in single:
            assert np.array_equal(single[name][0], behind[name][13])


def test_single_precision_carries_six_digits():
    directions = complex_directions(16)
    one = cs.push(SGD.run, directions, 2, dtype=np.complex64)
    two = cs.push(SGD.run, directions, 2)
    assert one.nbytes < 0.6 * two.nbytes
    for ours, truth in zip(one.state["params"].values(), two.state["params"].values(), strict=True):
        assert np.array_equal(ours[:, 0], truth[:, 0])
        for k in (1, 2):
            # Some hundred roundings of a float, of the largest coefficient of the order.
            np.testing.assert_allclose(ours[:, k], truth[:, k], atol=1e-5 * np.abs(truth[:, k]).max())


# Retraining.


@every_case
def test_retraining_is_plain_training_on_other_weights(case):
    def truth(w):
        return case.by_hand(np.asarray(w, dtype=float))

    deleted = np.zeros(N)
    deleted[[1, 6]] = 1.0
    some = np.random.default_rng(4).uniform(-1.0, 1.0, N)
    for without, w in (
        ([1, 6], deleted),
        ((6, 1), deleted),
        ({1, 6}, deleted),
        (np.array([1, 6]), deleted),
        (deleted > 0, deleted),
        (deleted, deleted),
        (some, some),
        (0.0 * some, 0.0 * some),
    ):
        found = flat(case.run.params(case.run.retrain(without)))
        np.testing.assert_allclose(found, truth(w), rtol=1e-11, atol=1e-12)


def test_several_retrainings_accept_every_form_of_subsets():
    run = SGD.run
    rng = np.random.default_rng(5)
    weights = rng.uniform(-1.0, 1.0, (19, N))
    masks = rng.random((5, N)) < 0.5
    masks[:, 0] = True
    lists = [[0], [3, 4], [7, 2, 1]]
    rows = lambda subsets: np.array([[float(i in subset) for i in range(N)] for subset in subsets])  # noqa: E731
    for without, w in (
        (weights, weights),
        (masks, masks.astype(float)),
        (list(masks), masks.astype(float)),
        (lists, rows(lists)),
        ([{0}, (3, 4), np.array([7, 2, 1])], rows(lists)),
        ([range(2), frozenset([5])], rows([[0, 1], [5]])),
        ([[0], weights[0], masks[0]], np.stack([rows([[0]])[0], weights[0], masks[0]])),
    ):
        found = flat(run.params(run.retrain(without)), lead=1)
        np.testing.assert_allclose(found, [SGD.by_hand(row) for row in w], rtol=1e-11, atol=1e-12)


def test_several_retrainings_give_the_same_bits_on_any_number_of_threads():
    weights = np.random.default_rng(6).uniform(-1.0, 1.0, (21, N))
    one, two, three = (SGD.run.retrain(weights, threads=threads)["params"] for threads in (1, 2, 3))
    for name in one:
        assert np.array_equal(one[name], two[name]) and np.array_equal(one[name], three[name])


def test_a_series_sums_to_the_retrained_value():
    w = np.zeros(N)
    w[2] = 0.2
    series = flat(cs.push(SGD.run, w[None], 8).state["params"], lead=2)[0].real
    # At a downweight of 0.2 every order is at least five times smaller than the one before.
    np.testing.assert_allclose(series.sum(axis=0), SGD.by_hand(w), atol=1e-7)


# What a run is made of.


def test_the_size_of_a_run_is_the_sum_of_its_steps():
    def step(state, x, keep):
        return state + (keep * x).sum()

    sizes = {}
    for length in (1, 2, 5):
        run = cs.Training(step, np.zeros(()), [np.zeros(length)], [range(length)])
        sizes[length] = run.size
        assert run.size == 2 * length  # a product each, and as many sums
    lengths = [1, 5, 5, 2, 1, 5]
    run = cs.Training(step, np.zeros(()), [np.zeros(n) for n in lengths], [range(n) for n in lengths])
    assert run.size == sum(sizes[n] for n in lengths)
    assert len(run.circuits) == 3 and run.steps == 6
    assert SGD.run.size == sum(SGD.run.circuits[p].size for p in SGD.run.schedule.program)


def test_a_counter_in_the_state_reads_a_table():
    def step(state, x, keep):
        rate = np.take(state["rates"], state["t"], axis=0)
        slope = keep[0] * (state["p"] - x)
        return {"p": state["p"] - rate * slope, "rates": state["rates"], "t": state["t"] + 1}

    rates = np.array([0.5, 0.25, 0.125])
    xs = [1.0, 2.0, 3.0]
    run = cs.Training(step, {"p": np.zeros(()), "rates": rates, "t": np.array(0)}, xs, [[0], [1], [2]])

    def by_hand(w):
        p = 0.0
        for x, rate, weight in zip(xs, rates, w, strict=True):
            p = p - rate * (1.0 - weight) * (p - x)
        return np.asarray(p)

    assert run.train()["t"] == 3
    np.testing.assert_allclose(run.retrain([1])["p"], by_hand([0, 1, 0]), rtol=1e-14)
    psi = np.array([0.3, 0.2 + 0.5j, -1j])
    found = cs.push(run, psi[None], 3).state
    np.testing.assert_allclose(found["p"][0], on_a_circle(lambda z: by_hand(z * psi), 3), atol=1e-14)
    assert np.array_equal(found["rates"][0, 0], rates) and not np.any(found["rates"][0, 1:])


def test_a_step_may_read_an_example_twice_and_an_example_may_be_read_by_no_step():
    run = cs.Training(lambda s, x, keep: s + (keep * x).prod(), np.zeros(()), [np.array([2.0, 3.0])], [[1, 1]], n=3)
    psi = np.array([[5.0, 1.0, 7.0]])
    np.testing.assert_allclose(cs.push(run, psi, 3).state[0], [6.0, -12.0, 6.0, 0.0], atol=1e-14)
    assert run.retrain([0]) == run.train() == 6.0


def test_a_training_that_only_compares_has_no_series():
    def step(state, x, keep):
        if np.ndim(x) == 0:
            return state + keep.sum() * x
        return np.where(state > np.exp(x[0]) * 2.0, x[0], 2.0 * x[0])  # decided by the constant term alone

    run = cs.Training(step, np.zeros(()), [1.0, np.ones(1), 2.0], [[0], [1], [2]])
    pushed = cs.push(run, np.eye(3), 2).state
    np.testing.assert_array_equal(pushed.real, [[4.0, 0.0, 0.0], [4.0, 0.0, 0.0], [4.0, -2.0, 0.0]])
    np.testing.assert_array_equal(run.retrain([[0], [1], [2]]), [4.0, 4.0, 2.0])


def test_a_step_may_return_its_dicts_in_another_order():
    step = lambda s, x, keep: {"b": s["b"] + keep[0], "a": s["a"] * x}  # noqa: E731
    run = cs.Training(step, {"a": np.array(2.0), "b": np.zeros(3)}, [3.0], [[0]])
    trained = run.train()
    assert list(trained) == ["a", "b"] and trained["a"] == 6.0
    np.testing.assert_array_equal(trained["b"], np.ones(3))


def test_arguments_may_change_after_a_training_was_made():
    state, batch, ids = {"params": np.ones(2)}, np.array([2.0, 3.0]), np.array([0])
    run = cs.Training(lambda s, x, keep: {"params": s["params"] * keep * x}, state, [batch], [ids])
    state["params"][:], batch[:], ids[:] = 7.0, 7.0, 7
    np.testing.assert_array_equal(run.train()["params"], [2.0, 3.0])
    first = run.train()
    first["params"][:] = 0.0
    np.testing.assert_array_equal(run.train()["params"], [2.0, 3.0])
