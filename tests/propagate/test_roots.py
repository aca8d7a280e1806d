"""How large Adam's eps_root would have to be: closed forms, and own series against own retraining before and after."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.propagate.roots import CANDIDATES, PROBES, constant_needed, error_of_step, has_roots, largest_ratio


def test_the_error_of_a_step_is_that_of_its_taylor_polynomial():
    """Coefficients by Cauchy's integral around u = 1, at radius 0.7."""
    for a in (0.1, 1.0, 9.0):
        z = 0.7 * np.exp(2j * np.pi * np.arange(256) / 256)
        step = (1 - z) * np.sqrt(1 + a) / np.sqrt(a * (1 - z) ** 2 + 1)
        series = (np.fft.fft(step) / 256).real / 0.7 ** np.arange(256)
        for order in (1, 2, 3, 6):
            assert error_of_step(a / (1 + a), order) == pytest.approx(abs(series[: order + 1].sum()), abs=1e-9)


def test_the_largest_ratio_is_where_the_error_reaches_the_tolerance():
    for order, tolerance in ((1, 0.1), (3, 0.1), (3, 0.01), (6, 0.1)):
        assert error_of_step(largest_ratio(order, tolerance), order) == pytest.approx(tolerance, rel=1e-6)


def category_run(eps_root, n=40, steps=8):
    """Adam on one parameter per category; the first example alone has the first category."""
    category = np.array([0] + [1 + i % 3 for i in range(n - 1)])
    target = np.random.default_rng(0).normal(size=n)
    target[0] = 1.0

    def step(state, batch, keep):
        def loss(p):
            return (keep * (batch[0] @ p - batch[1]) ** 2).mean()

        return cs.optim.adam(state, cs.grad(loss)(state["params"]), 0.05, eps=0.0, eps_root=eps_root)

    data = (np.eye(4)[category], target)
    return cs.Training(step, cs.optim.adam_state(np.zeros(4)), [data] * steps, [np.arange(n)] * steps, n=n)


def own_error(run, example, measure):
    """By how much an example's own series to order 3 is off, over what leaving it out changes."""
    query = cs.sketch(run, 0, 1, per_example="series", per_example_order=3).measure(measure)
    truth = measure(run.params(run.retrain(without=[example]))) - query.baseline
    return abs(query.per_example[example, 1:].sum() - truth) / abs(truth)


def test_at_the_constant_that_is_needed_own_series_agree_with_retraining():
    run, first = category_run(1e-9), lambda p: p[0]
    assert own_error(run, 0, first) > 0.5
    constant = constant_needed(run, [0])
    # One example of 40: the gradient of the first step is 2 / 40, and its square is all that is under the root.
    assert constant == pytest.approx((2 / 40) ** 2 * (1 / largest_ratio() - 1), rel=0.05)
    assert own_error(category_run(constant), 0, first) < 0.2  # 0.1 at every step, and steps depend on earlier ones
    assert constant_needed(category_run(10 * constant), [0]) is None


def lstm_run(eps_root, n=60):
    rng = np.random.default_rng(6)
    x = np.cumsum(rng.normal(size=(n, 4, 1)), axis=1) / 2
    y = (x[:, -1, 0] > x[:, 1, 0]).astype(int)

    def logits(params, x):
        h = c = np.zeros((x.shape[0], 3))
        for t in range(4):
            i, f, o, g = np.split(x[:, t] @ params["wx"] + h @ params["wh"] + params["b"], 4, axis=1)
            c = cs.sigmoid(f) * c + cs.sigmoid(i) * np.tanh(g)
            h = cs.sigmoid(o) * np.tanh(c)
        return h @ params["out"]

    def step(state, batch, keep):
        loss = lambda p: (keep * cs.cross_entropy(logits(p, batch[0]), batch[1])).mean()  # noqa: E731
        return cs.optim.adam(state, cs.grad(loss)(state["params"]), 0.03, eps=0.0, eps_root=eps_root)

    params = {
        "wx": rng.normal(0, 0.5, (1, 12)),
        "wh": rng.normal(0, 0.4, (3, 12)),
        "b": np.zeros(12),
        "out": rng.normal(0, 0.5, (3, 2)),
    }
    ids = [rng.permutation(n)[:12] for _ in range(20)]
    run = cs.Training(step, cs.optim.adam_state(params), [(x[i], y[i]) for i in ids], ids, n=n)
    return run, lambda params: cs.cross_entropy(logits(params, x), y).mean()


def test_an_lstm_under_adam_converges_at_the_constant_that_is_needed():
    def errors(run, measure):
        series = cs.sketch(run, 0, 1, per_example="series", per_example_order=3).measure(measure)
        truth = cs.sketch(run, 0, 1, per_example="retrained").measure(measure).influence().change
        return np.abs(series.per_example[:, 1:].sum(axis=1) - truth), truth.std()

    run, measure = lstm_run(1e-8)
    error, spread = errors(run, measure)
    assert np.sqrt((error**2).mean()) > spread
    constant = constant_needed(run, np.argsort(-error)[:4])
    error, spread = errors(*lstm_run(constant))
    assert np.sqrt((error**2).mean()) < 0.1 * spread


def test_a_run_without_roots_needs_nothing():
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 2.0], [[0], [1]])
    assert not has_roots(run) and constant_needed(run, [0, 1]) is None
    assert has_roots(category_run(1e-8))


def test_the_example_that_alone_moves_a_parameter_carries_its_average():
    run = category_run(1e-9)
    shares = cs.sketch(run, 0, 1, per_example="series", per_example_order=1).shares
    assert shares[0] == pytest.approx(1.0, abs=0.05)
    # By differences: what leaving out a little of an example changes of Adam's second moments.
    step = 1e-6
    v = [run.retrain(sign * step * np.eye(run.n)[5])["v"] for sign in (1, -1)]
    change = np.abs(v[0] - v[1]) / (2 * step)
    average = run.train()["v"]
    assert shares[5] == pytest.approx((change / (2 * average)).max(), rel=1e-4)


def test_random_directions_screen_examples_for_the_one_that_carries_an_average():
    run = category_run(1e-9, n=PROBES + CANDIDATES + 40)
    options = {"per_example": "series", "per_example_order": 1}
    kept = cs.sketch(run, 0, 1, keep="state", **options).shares
    screened = cs.sketch(run, 0, 1, **options).shares
    exact = np.isclose(screened, kept, rtol=1e-9)
    assert exact[0] and kept[0] == pytest.approx(1.0, abs=0.05) and exact.sum() >= CANDIDATES
    assert np.argmax(screened) == 0 and screened[1:].max() < largest_ratio()
    assert (screened <= kept * (1 + 1e-9)).all()  # estimates are cautious


def test_shares_are_the_same_whether_or_not_the_sketch_keeps_the_averages():
    run, _ = lstm_run(1e-8)
    options = {"per_example": "series", "per_example_order": 1}
    kept, pushed = (cs.sketch(run, 0, 1, keep=keep, **options).shares for keep in ("state", None))
    np.testing.assert_allclose(pushed, kept, rtol=1e-9)
