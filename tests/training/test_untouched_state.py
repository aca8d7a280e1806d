"""Kinks and edges of domains where no weight has moved anything: no warning, no error, and the right series.

The oracle is retraining: finite differences of it along the direction that was pushed.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.reverse.leave_one_out import leave_one_out
from circuitsketch.training.crossings import find_crossings

N = 12
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, 3)), (RNG.normal(size=N) > 0).astype(int)
PADDED = np.where(np.arange(N)[:, None] % 4 == 0, 0.0, X)
TOKENS = np.array([0, 1, 0, 1, 2, 0, 1, 2, 3, 3, 0, 2])
STEPS = [np.arange(i, i + 4) for i in (0, 4, 8)] * 2


def training(loss, first, batches, update=None):
    def step(state, batch, keep):
        grads = cs.grad(lambda p: (keep * loss(p, *batch)).mean())(state["params"])
        return cs.optim.sgd(state, grads, 0.2) if update is None else update(state, grads)

    state = cs.optim.sgd_state(first)
    if update is not None:
        state["squares"] = {name: np.zeros_like(value) for name, value in first.items()}
    return cs.Training(step, state, [tuple(part[i] for part in batches) for i in STEPS], STEPS)


def slopes(run, measure):
    """The derivative along a direction, as pushed and by central differences of retraining."""
    h = np.random.default_rng(1).normal(size=(1, N))
    series = cs.push(run, h, 2).measure(measure).coefficients[0].real
    ends = [measure(run.params(run.retrain(size * h[0]))) for size in (-1e-5, 1e-5)]
    return series[1], (ends[1] - ends[0]) / 2e-5


@pytest.fixture(autouse=True)
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error", cs.KinkWarning)
        yield


def shifted(p, x, y):
    z = x @ p["w"]
    z = z - z.max(axis=-1, keepdims=True)
    return np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, y[:, None], -1)[:, 0]


def hidden(p, x, y):
    return cs.cross_entropy(cs.relu(x @ p["w"] + p["b"]) @ p["v"], y)


def embedded(p, tokens, y):
    return cs.cross_entropy(cs.relu(cs.take(p["table"], tokens, axis=0)) @ p["v"], y)


WEIGHTS = {"w": RNG.normal(size=(3, 4)), "v": RNG.normal(size=(4, 2))}
CASES = {
    "ties of a first layer of zeros": (shifted, {"w": np.zeros((3, 2))}, (X, Y)),
    "padding and biases of zero": (hidden, WEIGHTS | {"b": np.zeros(4)}, (PADDED, Y)),
    # No bias: the padded rows stay in the kink, in every step and every counterfactual.
    "padding for ever": (lambda p, x, y: hidden(p | {"b": 0.0}, x, y), WEIGHTS, (PADDED, Y)),
    "rows that are zero until they are read": (
        embedded,
        {"table": np.where(np.arange(5)[:, None] > 1, 0.0, RNG.normal(size=(5, 4))), "v": RNG.normal(size=(4, 2))},
        (TOKENS, Y),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_kink_whose_operands_do_not_move_is_ignored(name):
    loss, first, batches = CASES[name]
    pushed, differences = slopes(training(loss, first, batches), lambda p: loss(p, *batches).mean())
    assert pushed == pytest.approx(differences, rel=1e-5, abs=1e-9)


def by_root(state, grads):
    """Adagrad without an epsilon in the root, so that squares of zero stand there until a gradient comes."""
    squares = {k: v + grads[k] ** 2 for k, v in state["squares"].items()}
    params = {k: v - 0.05 * grads[k] / (np.sqrt(squares[k]) + 1e-3) for k, v in state["params"].items()}
    return {"params": params, "squares": squares}


def smooth(p, tokens, y):
    return cs.cross_entropy(np.tanh(cs.take(p["table"], tokens, axis=0)) @ p["v"], y)


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_the_edge_of_a_domain_is_ignored_for_rows_that_were_not_read(dtype):
    first = {"table": RNG.normal(size=(5, 3)), "v": RNG.normal(size=(3, 2))}
    run = training(smooth, first, (TOKENS, Y), by_root)
    pushed, differences = slopes(run, lambda p: smooth(p, TOKENS, Y).mean())
    assert pushed == pytest.approx(differences, rel=1e-5)
    state = cs.push(run, np.eye(N)[:3], 3, dtype=dtype).state
    assert np.isfinite(state["params"]["table"]).all()
    assert not state["params"]["table"][:, 1:, 4].any()  # the last row is never read


def hidden_embedded(p, tokens, y):
    return cs.cross_entropy(cs.relu(cs.take(p["table"], tokens, axis=0) @ p["w"] + p["b"]) @ p["v"], y)


def clipped(state, grads):
    """The same after a clip by the norm of all gradients, which every weight moves."""
    norm = np.sqrt(sum((grad**2).sum() for grad in grads.values()))
    return by_root(state, {name: grad * np.minimum(0.5 / norm, 1.0) for name, grad in grads.items()})


def adam_like(state, grads):
    """A root that is divided by: of where the squares are not zero, as in adafactor, and as it is elsewhere."""
    squares = {k: 0.9 * v + 0.1 * grads[k] ** 2 for k, v in state["squares"].items()}
    params = {k: v - 0.02 * grads[k] / (np.sqrt(squares[k]) + 1e-8) for k, v in state["params"].items()}
    return {"params": params, "squares": squares}


OTHER = np.random.default_rng(2)
DEAD = {
    "table": OTHER.normal(size=(5, 3)),
    "w": OTHER.normal(size=(3, 6)),
    "b": np.array([0.0, 0.0, 0.0, 0.0, -90.0, -90.0]),  # two units that no example activates
    "v": OTHER.normal(size=(6, 2)),
}


@pytest.mark.parametrize("update", [by_root, clipped, adam_like])
def test_the_edge_of_a_domain_is_ignored_for_units_that_are_inactive(update):
    run = training(hidden_embedded, DEAD, (TOKENS, Y), update)
    measure = lambda p: hidden_embedded(p, TOKENS, Y).mean()  # noqa: E731
    pushed, differences = slopes(run, measure)
    assert pushed == pytest.approx(differences, rel=1e-5)
    gradient = cs.metagradient(run, measure)
    h = np.random.default_rng(1).normal(size=N)
    assert gradient @ h == pytest.approx(differences, rel=1e-5)
    state = cs.push(run, np.eye(N)[:3], 3).state["params"]
    assert not state["w"][:, 1:, :, 4:].any() and not state["v"][:, 1:, 4:].any() and state["w"][:, 1:, :, :4].any()


def test_gradients_that_cannot_be_anything_but_zero_are_no_edge():
    first = {"table": np.zeros((5, 3)), "v": np.zeros((3, 2)), "b": np.array([0.3, 0.0])}
    loss = lambda p, tokens, y: cs.cross_entropy(np.tanh(cs.take(p["table"], tokens, axis=0)) @ p["v"] + p["b"], y)  # noqa: E731
    run = training(loss, first, (TOKENS, Y), by_root)  # those of table and v are products with zeros that stay
    pushed, differences = slopes(run, lambda p: loss(p, TOKENS, Y).mean())
    assert pushed == pytest.approx(differences, rel=1e-5)


EDGES = {
    "two examples cancel": lambda state, total: state + np.sqrt(total**2),
    "a product of zeros that move": lambda state, total: state + np.sqrt((total * total) * (1.0 + state)),
    "a side at its kink": lambda state, total: state + np.sqrt(np.maximum(total, 0.0) ** 2),
    "a side that is chosen": lambda state, total: state + np.sqrt(np.where(state > 0.0, total, 1.0) ** 2),
    "a sum of a zero and a constant zero": lambda state, total: state + np.sqrt((total + 0.0 * state) ** 2),
    "a unit at its kink": lambda state, total: state + np.sqrt(cs.relu(total) ** 2),
    "a contraction of zeros that move": lambda state, total: state + np.sqrt(np.stack([total]) @ np.stack([total])),
    "a contraction": lambda state, total: state + np.sqrt(np.stack([total, total]) @ np.ones(2)),
}


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_that_a_weight_moves_is_still_an_error(name):
    step = lambda state, x, keep: EDGES[name](state, (keep * x).sum())  # noqa: E731
    run = cs.Training(step, np.ones(()), [np.array([1.0, -1.0])], [[0, 1]])  # the sum is zero, and both weights move it
    with pytest.raises(cs.DomainError, match=r"gate sqrt .*test_untouched_state.py:\d+.* at step 0"):
        cs.push(run, np.eye(2)[:1], 2)


def test_a_kink_that_a_weight_moves_still_warns():
    def step(state, x, keep):
        return state + np.abs(state - x) + keep.sum() * x

    run = cs.Training(step, np.zeros(()), [0.0, 0.0, 1.0], [[0], [1], [0]])  # nothing is moved yet by x = 0
    cs.push(run, np.eye(2), 2)
    run = cs.Training(step, np.zeros(()), [1.0, 2.0], [[0], [1]])  # state 2 meets x = 2
    with pytest.warns(cs.KinkWarning, match="gate absolute .* in 1 step.*first at step 1"):
        warnings.simplefilter("always")
        cs.push(run, np.eye(2), 2)


def test_a_measurement_on_a_kink_that_nothing_moves_does_not_warn():
    run = training(smooth, {"table": np.zeros((5, 3)) + 0.1, "v": RNG.normal(size=(3, 2))}, (TOKENS, Y))
    sketch = cs.sketch(run, 4, 2)
    query = sketch.measure(lambda p: np.maximum(p["table"], 0.1).sum(axis=1))  # the last row stays at 0.1
    assert query.without([0]).change[4] == 0
    with pytest.warns(cs.KinkWarning):
        warnings.simplefilter("always")
        row = np.asarray(run.params(run.train())["table"])[0]
        sketch.measure(lambda p: np.maximum(p["table"][0], row).sum())


def test_what_a_deletion_crosses_is_found_beside_roots_at_zero():
    run = training(hidden_embedded, DEAD, (TOKENS, Y), clipped)
    found = find_crossings(run, np.eye(N))
    first = found.change["params"]
    assert all(
        np.isfinite(leaf).all() for part in (found.change, found.change_across) for leaf in part["params"].values()
    )
    for i in range(0, N, 5):  # the first-order change is that of the series
        series = cs.push(run, np.eye(N)[i : i + 1], 1).state["params"]
        for name, leaf in series.items():
            np.testing.assert_allclose(first[name][i], leaf[0, 1].real, rtol=1e-9, atol=1e-12)


def test_the_derivatives_without_the_only_example_of_a_row_are_finite():
    tokens = np.where(np.arange(N) == 5, 4, TOKENS)  # example 5 alone reads the last row
    run = training(hidden_embedded, DEAD, (tokens, Y), clipped)
    measure = lambda p: hidden_embedded(p, tokens[:3], Y[:3]).sum()  # noqa: E731
    found = {}
    leave_one_out(run, measure, examples=[5], take=lambda example, *rest: found.update({example: rest}))
    values, gradient = found[5]
    deleted = np.eye(N)[5]
    assert values[0] == pytest.approx(measure(run.params(run.retrain(deleted))), rel=1e-12)
    for j in (0, 4, 7):
        ends = [measure(run.params(run.retrain(deleted + size * np.eye(N)[j]))) for size in (-1e-5, 1e-5)]
        assert gradient[0, j] == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-5, abs=1e-9)
