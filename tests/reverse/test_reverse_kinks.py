"""Gates whose own rule is not the derivative that a sweep needs: kinks, edges of domains, and what stops a gradient.

The series along basis directions say what is right; where there is no kink, retraining does too.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.zoo import mlp

KINKS = {
    "maximum": lambda x: np.maximum(x, 1.0),
    "maximum, the other first": lambda x: np.maximum(1.0, x),
    "minimum": lambda x: np.minimum(x, 1.0),
    "minimum, the other first": lambda x: np.minimum(1.0, x),
    "absolute": lambda x: np.abs(x - 1.0),
    "relu": lambda x: cs.relu(x - 1.0),
    "where": lambda x: np.where(x > 1.0, 3.0 * x, x * x),
    "clip": lambda x: np.clip(x, 1.0, 2.0),
    "max": lambda x: np.max(np.stack([x, 2.0 * x - 1.0, 0.5 + 0.5 * x, 0.0 * x])),
    "min": lambda x: np.min(np.stack([2.0 * x - 1.0, x, 0.5 + 0.5 * x, 3.0 + x])),
}


def first_coefficients(run, measure):
    return cs.push(run, np.eye(run.n), 1).coefficients(measure)[:, 1]


@pytest.mark.parametrize("name", KINKS)
def test_on_a_kink_a_sweep_takes_the_side_that_series_take_and_warns(name):
    step = lambda s, x, keep: s * s + KINKS[name](keep[0]) * x + keep[1]  # noqa: E731
    run = cs.Training(step, np.array(0.5), [1.0, 2.0], [[0, 1], [1, 2]])
    with pytest.warns(cs.KinkWarning, match="in 2 step"):
        gradient = cs.metagradient(run, lambda s: s)
    with pytest.warns(cs.KinkWarning):
        expected = first_coefficients(run, lambda s: s)
    np.testing.assert_allclose(gradient, expected, rtol=1e-14)


def test_a_kink_that_no_weight_moves_is_silent():
    step = lambda s, x, keep: {"a": s["a"] + keep[0] * x, "b": cs.relu(s["b"])}  # noqa: E731
    run = cs.Training(step, {"a": np.zeros(2), "b": np.zeros(2)}, [1.0, 2.0], [[0], [1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(cs.metagradient(run, lambda s: s["a"].sum()), [-2.0, -4.0])


def root_mean_square_run():
    """Gradient steps divided by the root of summed squares, which is zero for the entries that no example reads."""

    def step(state, tokens, keep):
        loss = lambda p: (keep * (np.sin(cs.take(p, tokens, axis=0)) - 1.0) ** 2).sum()  # noqa: E731
        grads = cs.grad(loss)(state["params"])
        squares = state["squares"] + grads * grads
        return {"params": state["params"] - 0.1 * grads / (np.sqrt(squares) + 1e-3), "squares": squares}

    state = {"params": np.array([0.1, -0.2, 0.3, 0.5]), "squares": np.zeros(4)}
    tokens = [np.array([0, 1]), np.array([1, 0]), np.array([0, 1, 1])]
    return cs.Training(step, state, tokens, [[0, 1], [1, 2], [0, 1, 2]])


@pytest.mark.parametrize("values", [1, 2])
def test_a_root_at_zero_that_no_weight_moves_has_the_slope_zero(values):
    run = root_mean_square_run()
    measure = lambda p: np.stack([p.sum(), p[0] * p[1]])[:values]  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient = cs.metagradient(run, measure)
        np.testing.assert_allclose(gradient, first_coefficients(run, measure).T, rtol=1e-10)
        ends = [[measure(run.params(run.retrain(h * row))) for row in np.eye(3)] for h in (-1e-5, 1e-5)]
        np.testing.assert_allclose(gradient.T, (np.array(ends[1]) - ends[0]) / 2e-5, rtol=1e-6)
        rows = np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.4]])
        along = cs.metagradient(run, measure, directions=rows)
        series = cs.push(run, rows, 2).coefficients(measure)
        np.testing.assert_allclose(np.einsum("dvn,dn->dv", along[:, 1], rows), 2 * series[:, 2], rtol=1e-9)


def test_a_root_at_zero_that_a_weight_moves_has_no_derivative():
    run = cs.Training(lambda s, x, keep: s + np.sqrt((keep * x - 1.0) ** 2), np.zeros(1), [1.0], [[0]])
    for options in ({}, {"directions": [[1.0]]}):
        with pytest.raises(cs.DomainError, match="gate sqrt .* at step 0 of 1"):
            cs.metagradient(run, lambda s: s.sum(), **options)


def test_a_stopped_gradient_is_blind_to_the_training_and_not_to_the_counterfactual():
    def step(state, x, keep):
        loss = lambda p: (keep * x * p * cs.stop_gradient(p)).sum()  # noqa: E731
        return state - 0.1 * cs.grad(loss)(state)

    run = cs.Training(step, np.array(2.0), [np.ones(1), np.ones(1)], [[0], [1]])
    # One step is p (1 - k / 10), whose derivative with respect to w = 1 - k is p / 10.
    np.testing.assert_allclose(cs.metagradient(run, lambda p: p), [0.2 * 0.9, 0.2 * 0.9], rtol=1e-14)


def test_dropout_masks_and_dead_units_are_no_trouble():
    rng = np.random.default_rng(0)
    x, y = np.where(rng.random((8, 6)) < 0.5, 0.0, rng.normal(size=(8, 6))), np.arange(8) % 3
    run = mlp.training(x, y, classes=3, width=5, activation="relu", dropout=0.5, epochs=2, batch_size=3)
    measure = lambda p: mlp.margin(p, x[:2], y[:2])  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.KinkWarning)
        gradient, expected = cs.metagradient(run, measure), first_coefficients(run, measure).T
    np.testing.assert_allclose(gradient, expected, rtol=0.0, atol=1e-12 * np.abs(expected).max())
