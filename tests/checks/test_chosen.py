"""Gates without a series matter only where a `where`, a maximum or the like chooses them; an extremum's kinks are ties.

The oracles are retraining and closed forms.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.checks.chosen import find_chosen

AT = np.array([0.0, 4.0, -1.0, 9.0])


def roots(x):
    return np.where(x > 0.0, np.sqrt(x), 1.0)


GUARDED = {
    "where": roots,
    "the other side of where": lambda x: np.where(x <= 0.0, 1.0, np.sqrt(x)),
    "where, and sums and products after the root": lambda x: np.where(x > 0.0, 3.0 * np.sqrt(x) + x, 1.0),
    "a quotient": lambda x: np.where(x > 0.0, 1.0 / np.sqrt(x), 0.0),
    "a logarithm, moved": lambda x: np.where((x > 0.0)[::-1], np.log(x)[::-1], 0.0),
    "a root that is summed": lambda x: np.where(x.min() > 0.0, np.sqrt(x).sum(), x.sum()),
    "a root in a product": lambda x: np.where(x.min() > 0.0, np.sqrt(x) @ np.eye(4), x),
    "a maximum": lambda x: np.maximum(np.sqrt(np.abs(x) + np.where(x < 0.0, 1.0, 0.0)), 0.1),
    "an extremum of others": lambda x: np.max(np.stack([np.where(x > 0.0, np.sqrt(x), -1.0), 0.1 * x]), axis=0),
}


def series_of(function, order=3):
    """The compiled series along one direction, and warnings as errors except that of the test x > 0 at 0."""
    h = np.array([0.0, 0.3, -0.2, 0.5])
    compiled = cs.compile(cs.trace(function, AT), order)
    return h, compiled.series((AT,), (h[None, None],))[0].real


@pytest.mark.parametrize("order", [3, 10])
@pytest.mark.parametrize("name", GUARDED)
def test_a_root_that_is_not_chosen_is_not_refused_and_leaves_no_nan(name, order):
    function = GUARDED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.KinkWarning)  # of the test itself, which is at its kink
        h, series = series_of(function, order)
    assert np.isfinite(series).all()
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(series[0], function(AT), rtol=1e-14)
        slope = (function(AT + 1e-5 * h) - function(AT - 1e-5 * h)) / 2e-5
    np.testing.assert_allclose(series[1], slope, rtol=1e-8, atol=1e-9)


CHOSEN = {
    "alone": np.sqrt,
    "by where": lambda x: np.where(x > -0.5, np.sqrt(x), 1.0),
    "times zero": lambda x: (x > 0.0) * np.sqrt(x),
    "by a maximum": lambda x: np.maximum(np.sqrt(np.maximum(x, 0.0)), -1.0),
    "in one of two outputs": lambda x: (roots(x), np.sqrt(x)),
    "by a bound, at a pole": lambda x: np.minimum(1.0 / np.sqrt(np.abs(x)), 5.0),
    "by an extremum": lambda x: np.max(np.sqrt(np.abs(x)) - 10.0 * np.abs(x)),
}


@pytest.mark.filterwarnings("ignore::circuitsketch.KinkWarning")
@pytest.mark.parametrize("name", CHOSEN)
def test_a_root_that_is_chosen_is_refused_with_its_line(name):
    with pytest.raises(cs.DomainError, match=r"gate r?sqrt .*test_chosen.py:\d+"):
        cs.compile(cs.trace(CHOSEN[name], AT), 3).series((AT,), (np.ones((1, 1, 4)),))


def test_the_masks_follow_what_selects():
    x, y = np.array([[1.0, 5.0, 2.0]]), np.array([[4.0, 3.0, 9.0]])
    circuit = cs.trace(lambda x, y: np.max(np.maximum(x, np.where(x > 1.5, y, x + 1.0)), axis=1)[0], x, y)
    masks = find_chosen(circuit, [x, y])
    assert masks[circuit.inputs[0]].tolist() == [[False, False, False]]
    assert masks[circuit.inputs[1]].tolist() == [[False, False, True]]


def lamb_like(state, batch, keep):
    """A step by the ratio of two norms, one of which is 0 for biases at first and for good where nothing is learned."""
    x, y = batch
    loss = lambda p: (keep * (x @ p["w"] + p["b"] - y) ** 2).mean() + 0.0 * p["dead"].sum()  # noqa: E731
    grads = cs.grad(loss)(state)

    def update(p, g):
        size, step = np.sum(p * p), np.sum(g * g)
        ratio = np.where((size > 0.0) & (step > 0.0), np.sqrt(size) / np.sqrt(step), 1.0)
        return p - 0.1 * ratio * g

    return {name: update(state[name], grads[name]) for name in state}


def lamb_run():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    steps = [np.arange(i, i + 4) for i in (0, 4, 8)] * 2
    first = {"w": rng.normal(size=3), "b": np.zeros(1), "dead": np.zeros(2)}
    return cs.Training(lamb_like, first, [(x[i], y[i]) for i in steps], steps)


@pytest.mark.parametrize("order", [3, 9])
def test_a_run_with_guarded_norms_is_pushed_and_swept(order):
    run = lamb_run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        h = np.random.default_rng(1).normal(size=(1, 12))
        measured = lambda p: p["w"].sum() + p["b"].sum()  # noqa: E731
        series = cs.push(run, h, order).measure(measured).coefficients[0].real
        slope = cs.metagradient(run, measured)
    nodes = np.arange(-4, 5)
    values = [measured(run.retrain(without=0.02 * z * h[0])) for z in nodes]
    fit = np.linalg.solve(np.vander(nodes, 9, increasing=True), values)
    # Of nine values with a step of .02: they round to 1e-16 of 1, and the ninth power is 1e-15 of what it multiplies.
    for k, tolerance in ((1, 1e-9), (2, 1e-7), (3, 1e-5)):
        assert series[k] == pytest.approx(fit[k] / 0.02**k, rel=tolerance)
    assert slope @ h[0] == pytest.approx(series[1], rel=1e-12)


def test_a_run_whose_root_at_zero_is_chosen_is_refused_with_its_line_and_step():
    def step(s, x, keep):
        moved = s + keep.sum() * x
        return np.where(moved[0] > 1.0, np.sqrt(moved[1] - 4.0), 0.5) + 0.0 * moved

    run = cs.Training(step, np.array([0.0, 0.0]), [np.array([0.4, 0.1]), np.array([2.0, 3.5])], [[0], [1]])
    with pytest.raises(cs.DomainError, match=r"gate sqrt \(.*test_chosen.py:\d+\).* at step 1 of 2"):
        cs.push(run, np.ones((1, 2)), 2)


# Extrema.

ROWS = np.array([[1.0, 5.0, 2.0, 5.0], [7.0, -1.0, 3.0, 0.0]])


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("h", [np.array([1.0, 2.0, 3.0, 2.0]), np.array([1.0, 0.0, 3.0, 0.0])])
def test_a_tie_whose_elements_move_together_is_no_kink(sign, h):
    reduce = np.max if sign > 0 else np.min
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = cs.Training(
            lambda s, x, keep: s + reduce(sign * (ROWS + (keep[0] - 1.0) * h * x), axis=1), np.zeros(2), [1.0], [[0]]
        )
        series = cs.push(run, np.ones((1, 1)), 2).state[0].real
    assert series[1].tolist() == [-sign * h[1], -sign * h[0]]


def test_a_tie_at_the_top_whose_elements_part_is_a_kink():
    step = lambda s, x, keep: s + np.max(ROWS + (keep[0] - 1.0) * x, axis=1)  # noqa: E731
    run = cs.Training(step, np.zeros(2), [np.array([1.0, 2.0, 3.0, 4.0])], [[0]])
    with pytest.warns(cs.KinkWarning, match=r"gate max \(.*test_chosen.py:\d+\)"):
        cs.push(run, np.ones((1, 1)), 2)


def test_ties_below_the_top_are_no_kinks():
    """Scores under a causal mask, all equal to it, in a softmax by hand; and a pooled image with a flat background."""

    def step(state, x, keep):
        def loss(p):
            scores = (x @ p) @ (x @ p).T + np.where(np.tri(4) > 0.0, 0.0, -1e30)
            e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
            pooled = np.max(np.maximum((x @ p).reshape(2, 2, 3), 0.0), axis=1)
            return keep[0] * ((e / e.sum(-1, keepdims=True) @ x).sum() + pooled.sum())

        return state - 0.05 * cs.grad(loss)(state)

    rng = np.random.default_rng(0)
    data = list(rng.normal(size=(4, 4, 3)))
    run = cs.Training(step, rng.normal(size=(3, 3)), data, [[0], [1], [2], [3]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series = cs.push(run, np.ones((1, 4)), 2).measure(np.sum).coefficients[0].real
    ends = [np.sum(run.retrain(without=np.full(4, z))) for z in (-1e-5, 1e-5)]
    assert series[1] == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6)
