"""Optimisers against the papers' formulas in scalar arithmetic, and what stands around them against its promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch import optim
from circuitsketch.errors import InputError

GRADIENTS = [0.5, -1.25, 2.0, 0.125, -0.75]
RATES = [0.1, 0.2, 0.05, 0.1, 0.3]


def sgd_by_hand(p, weight_decay=0.0):
    for rate, g in zip(RATES, GRADIENTS, strict=True):
        p = p - rate * (g + weight_decay * p)
    return p


def momentum_by_hand(p, decay=0.9, nesterov=False, weight_decay=0.0):
    velocity = 0.0
    for rate, g in zip(RATES, GRADIENTS, strict=True):
        g = g + weight_decay * p
        velocity = decay * velocity + g
        p = p - rate * (decay * velocity + g if nesterov else velocity)
    return p


def adam_by_hand(p, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, weight_decay=0.0):
    """Algorithm 2 of arXiv 1711.05101 (Algorithm 1 of 1412.6980 without decay), its decay times the rate."""
    m = v = 0.0
    for t, (rate, g) in enumerate(zip(RATES, GRADIENTS, strict=True), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        root = math.sqrt(v / (1 - b2**t) + eps_root) + eps
        p = p - rate * (m / (1 - b1**t) / root + weight_decay * p)
    return p


@pytest.mark.parametrize(
    ("rule", "by_hand", "options"),
    [
        ("sgd", sgd_by_hand, {}),
        ("sgd", sgd_by_hand, {"weight_decay": 0.3}),
        ("momentum", momentum_by_hand, {}),
        ("momentum", momentum_by_hand, {"decay": 0.5, "weight_decay": 0.3}),
        ("momentum", momentum_by_hand, {"nesterov": True}),
        ("adam", adam_by_hand, {}),
        ("adam", adam_by_hand, {"b1": 0.85, "b2": 0.99, "eps": 0.0, "eps_root": 1e-3}),
        ("adamw", adam_by_hand, {"weight_decay": 0.3}),
        ("adamw", adam_by_hand, {"eps": 0.0, "eps_root": 1e-3, "weight_decay": 0.01}),
    ],
)
def test_an_optimizer_follows_its_formula_on_arrays_and_in_a_training(rule, by_hand, options):
    update = getattr(optim, rule)
    first = getattr(optim, f"{rule}_state")({"a": np.array([1.5, -2.0]), "b": np.array(0.25)})
    expected = {"a": [by_hand(1.5, **options), by_hand(-2.0, **options)], "b": by_hand(0.25, **options)}

    state = first
    for rate, g in zip(RATES, GRADIENTS, strict=True):
        state = update(state, {"a": np.full(2, g), "b": np.array(g)}, rate, **options)

    def step(state, batch, keep):
        g, rate = batch
        return update(state, {"a": keep * g * np.ones(2), "b": keep[0] * g}, rate, **options)

    run = cs.Training(step, first, list(zip(GRADIENTS, RATES, strict=True)), [[0]] * len(RATES))
    for found in (state["params"], run.train()["params"]):
        # Some ten roundings a step.
        assert np.asarray(found["a"]) == pytest.approx(expected["a"], rel=1e-14)
        assert float(found["b"]) == pytest.approx(expected["b"], rel=1e-14)


def test_adamw_without_decay_is_adam():
    state = optim.adam_state(np.array([1.0, 2.0]))
    grads = np.array([0.3, -0.7])
    plain, decayed = optim.adam(state, grads, 0.1), optim.adamw(state, grads, 0.1, weight_decay=0.0)
    assert np.array_equal(plain["params"], decayed["params"])


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "adamw"])
def test_an_optimizer_refuses_the_state_of_another_one(rule):
    with pytest.raises(InputError, match=rf"optim.{rule}_state\(params\)"):
        getattr(optim, rule)({}, np.zeros(1), 0.1)


SCHEDULES = {
    "cosine": lambda t: optim.cosine(t, 8, floor=0.1),
    "warmup": lambda t: optim.warmup(t, 4),
    "step_decay": lambda t: optim.step_decay(t, [3, 6], factor=0.5),
}
LANDMARKS = {
    "cosine": {0: 1.0, 4: 0.55, 8: 0.1, 12: 0.1},
    "warmup": {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 12: 1.0},
    "step_decay": {0: 1.0, 2: 1.0, 3: 0.5, 5: 0.5, 6: 0.25, 12: 0.25},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_passes_its_landmarks_on_numbers_arrays_and_wires(name):
    schedule, landmarks = SCHEDULES[name], LANDMARKS[name]
    steps = np.arange(13)
    along = schedule(steps)
    traced = cs.compile(cs.trace(schedule, np.zeros(13)))(steps.astype(float))
    np.testing.assert_allclose(along, traced, rtol=1e-15, atol=1e-16)
    for t, factor in landmarks.items():
        assert float(schedule(t)) == pytest.approx(factor, rel=1e-14)
        assert along[t] == pytest.approx(factor, rel=1e-14)


def test_a_rate_from_the_states_t_is_the_rate_from_the_batches():
    def schedule(t):
        return 0.1 * optim.warmup(t, 3) * optim.cosine(t, 8) * optim.step_decay(t, [5])

    def step(state, batch, keep):
        g, rate = batch
        return optim.adam(state, keep * g * state["params"], rate, eps=0.0, eps_root=1e-3)

    def step_by_t(state, batch, keep):
        return step(state, (batch[0], schedule(state["t"])), keep)

    first = optim.adam_state(np.array([1.0]))
    batches = [(np.float64(t % 3 - 0.5), schedule(t)) for t in range(8)]
    runs = [cs.Training(each, first, batches, [[0]] * 8) for each in (step, step_by_t)]
    one, other = (run.retrain(without=[0.5])["params"] for run in runs)
    assert one == pytest.approx(other, rel=1e-14)
    # And the series of both: a step's number is a constant, wherever it comes from.
    one, other = (cs.push(run, [[1.0]], 3).measure(lambda p: p[0]).coefficients for run in runs)
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_clipping_keeps_the_direction_and_stays_below_the_limit():
    rng = np.random.default_rng(0)
    grads = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
    for factor in (1e-6, 0.1, 1.0, 10.0, 1e6):
        scaled = {name: factor * g for name, g in grads.items()}
        clipped = optim.clip_by_norm(scaled, limit=2.0)
        length = math.sqrt(sum((g**2).sum() for g in clipped.values()))
        # The stated law, by Pythagoras: 1 / length^2 = 1 / norm^2 + 1 / limit^2.
        assert length == pytest.approx(math.hypot(1 / (factor * norm), 1 / 2.0) ** -1, rel=1e-12)
        assert length <= 2.0
        ratio = clipped["w"] / scaled["w"]
        assert ratio == pytest.approx(np.full_like(ratio, clipped["b"][0] / scaled["b"][0]), rel=1e-12)


def test_clipping_has_a_derivative_at_the_limit():
    g, along = np.array([3.0, 4.0]), np.array([1.0, -2.0])
    _, slope = cs.jvp(lambda g: optim.clip_by_norm(g, 5.0), (g,), (along,))
    # A complex step: exact to rounding for an analytic function, and this one is analytic.
    assert slope == pytest.approx(optim.clip_by_norm(g + 1e-20j * along, 5.0).imag / 1e-20, rel=1e-14)


def test_a_dropout_mask_is_fixed_by_seed_and_step_and_keeps_the_mean():
    mask = optim.dropout_mask((50, 40), 0.25, seed=1, step=2)
    assert np.array_equal(mask, optim.dropout_mask((50, 40), 0.25, seed=1, step=2))
    assert not np.array_equal(mask, optim.dropout_mask((50, 40), 0.25, seed=1, step=3))
    assert not np.array_equal(mask, optim.dropout_mask((50, 40), 0.25, seed=2, step=2))
    assert set(np.unique(mask)) == {0.0, 1 / 0.75}
    # The mean of 2,000 has the deviation sqrt(0.25 / 0.75 / 2000) = 0.013; five of those.
    assert abs(mask.mean() - 1) < 0.065
    assert np.array_equal(optim.dropout_mask(4, 0.0, seed=0, step=0), np.ones(4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.cosine(0, 0), "requires steps >= 1, not 0"),
        (lambda: optim.warmup(0, 0), "requires steps >= 1, not 0"),
        (lambda: optim.clip_by_norm(np.ones(2), 0.0), "a positive limit, not 0.0"),
        (lambda: optim.clip_by_norm(np.ones(2), math.nan), "a positive limit, not nan"),
        (lambda: optim.dropout_mask(2, 1.0, 0, 0), "requires a rate in \\[0, 1\\), not 1.0"),
        (lambda: optim.dropout_mask(2, -0.1, 0, 0), "not -0.1"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
