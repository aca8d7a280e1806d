"""softmax, cross-entropy, activations against SciPy; optimisers against their papers' formulas, number by number.

Whatever works on arrays must work on wires, and be differentiable there.
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import circuitsketch as cs
from circuitsketch import optim
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import check
from circuitsketch.errors import BoundsError, InputError, ShapeError, TraceError
from circuitsketch.tree import flatten, unflatten

HERE = os.path.basename(__file__)
rng = np.random.default_rng(0)
X = 3 * rng.normal(size=(2, 4, 5))
LABELS = np.array([[0, 4, 2, 1], [3, 0, 4, 2]])
seeds = st.integers(0, 2**32 - 1)


def on_wires(function, *args):
    """The function's result by its traced circuit."""
    circuit = check(cs.trace(function, *args))
    return unflatten(circuit.out_tree, evaluate(circuit, flatten(args)[0]))


def both(function, *args):
    """The function's result on arrays; on wires it must be the same."""
    plain, traced = function(*args), on_wires(function, *args)
    for one, two in zip(flatten(plain)[0], flatten(traced)[0], strict=True):
        # The same gates on the same numbers, but for a product that NumPy sums in another order.
        np.testing.assert_allclose(one, two, rtol=1e-14, atol=1e-15)
    return plain


# Softmax and its kin. SciPy subtracts the maximum too, and rounds differently: 1e-14 is some forty roundings.


@pytest.mark.parametrize("axis", [-1, 0, 1, 2, -3])
def test_softmax_and_its_logarithm_are_scipys(axis):
    np.testing.assert_allclose(both(lambda x: cs.softmax(x, axis), X), special.softmax(X, axis), rtol=1e-14)
    ours = both(lambda x: cs.log_softmax(x, axis), X)
    np.testing.assert_allclose(ours, special.log_softmax(X, axis), rtol=1e-13, atol=1e-14)


@pytest.mark.filterwarnings("error")
def test_softmax_neither_overflows_nor_loses_masked_entries():
    far = np.array([1000.0, 1001.0, -1000.0])
    np.testing.assert_allclose(both(cs.softmax, far), special.softmax(far), rtol=1e-14)
    np.testing.assert_allclose(both(cs.log_softmax, far), special.log_softmax(far), rtol=1e-14)
    masked = both(lambda x: cs.softmax(np.where(np.array([True, False, True]), x, -np.inf)), far[::-1])
    assert masked.tolist() == [0.0, 0.0, 1.0]


def test_softmax_of_whole_numbers_and_of_one_axis_is_defined():
    np.testing.assert_allclose(both(cs.softmax, np.array([1, 2, 3])), special.softmax([1, 2, 3]), rtol=1e-15)
    assert cs.softmax([[0, 0]]).tolist() == [[0.5, 0.5]]
    with pytest.raises(
        ShapeError, match=rf"{HERE}:\d+: axis 2 is out of bounds for array of dimension 1 \(shape \(2,\)\)"
    ):
        cs.softmax(np.zeros(2), axis=2)
    with pytest.raises(ShapeError, match=r"axis -1 is out of bounds for array of dimension 0 \(shape \(\)\)"):
        cs.softmax(1.0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_cross_entropy_is_the_negative_log_probability_of_the_label(shape):
    logits, labels = 3 * rng.normal(size=(*shape, 5)), rng.integers(0, 5, shape)
    expected = np.empty(shape)
    for at in np.ndindex(shape):
        expected[at] = -special.log_softmax(logits[at])[labels[at]]
    np.testing.assert_allclose(both(cs.cross_entropy, logits, labels), expected, rtol=1e-13, atol=1e-14)
    closed = on_wires(lambda x: cs.cross_entropy(x, labels), logits)
    np.testing.assert_allclose(closed, expected, rtol=1e-13, atol=1e-14)
    plain = on_wires(lambda y: cs.cross_entropy(logits, y), labels)
    np.testing.assert_allclose(plain, expected, rtol=1e-13, atol=1e-14)


def test_the_gradient_of_cross_entropy_is_probability_less_label():
    slope = cs.grad(lambda x: np.sum(cs.cross_entropy(x, LABELS)))(X)
    np.testing.assert_allclose(slope, special.softmax(X, -1) - np.eye(5)[LABELS], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("logits", "labels", "kind", "message"),
    [
        (X, LABELS[0], ShapeError, r"labels of shape \(2, 4\), not \(4,\)"),
        (X, LABELS + 1, InputError, r"integers in 0\.\.4, .* int64 from \d to 5"),
        (X, LABELS - 5, InputError, r"int64 from -5 to -1"),
        (X, LABELS * 1.0, InputError, r"got float64; use labels.astype\(int\)"),
        (1.0, 0, ShapeError, "not a scalar"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_the_reason(logits, labels, kind, message):
    with pytest.raises(kind, match=rf"{HERE}:\d+: .*{message}"):
        cs.cross_entropy(logits, labels)


def test_take_gathers_from_data_and_wires_alike():
    assert both(lambda i: cs.take(X[0], i, axis=0), np.array([3, 0])).shape == (2, 5)
    assert cs.take([2.0, 3.0], 1) == 3.0
    with pytest.raises(BoundsError, match=rf"{HERE}:\d+: index 2 is out of bounds for axis 0 with size 2"):
        cs.take([2.0, 3.0], [2])
    for indices, words in (([0.5], "must be integers"), ([True, False], "would read as 0 and 1")):
        with pytest.raises(TraceError, match=rf"{HERE}:\d+ .*{words}"):
            cs.take([2.0, 3.0], indices)
    with pytest.raises(TraceError, match="indices must be integers"):
        cs.trace(lambda x: cs.take(X, x), 1.0)
    with pytest.raises(BoundsError, match="index 99 is out of bounds for axis 0 with size 40"):
        cs.trace(lambda x: cs.take(x, [99]), X)


@pytest.mark.parametrize(
    ("function", "theirs"),
    [
        (cs.relu, lambda x: np.clip(x, 0, None)),
        (cs.gelu, lambda x: x * stats.norm.cdf(x)),
        (cs.silu, lambda x: x * special.expit(x)),
        (cs.sigmoid, special.expit),
        (cs.softplus, lambda x: np.logaddexp(x, 0)),
        (cs.erf, lambda x: 2 * stats.norm.cdf(x * math.sqrt(2)) - 1),
        (lambda x: cs.rsqrt(x * x), lambda x: 1 / np.abs(x)),
        (cs.stop_gradient, lambda x: x),
    ],
)
def test_an_activation_is_scipys(function, theirs):
    # Differences of numbers near one: absolute errors of some 1e-16.
    np.testing.assert_allclose(both(function, X), theirs(X), rtol=1e-13, atol=1e-15)


# Optimisers: two formulas a rule, ours on pytrees and one here on single numbers.

RATE = 0.1


def trees(seed, steps):
    """Parameters and the gradients of some steps, as pytrees."""
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(2, 3)), "b": [rng.normal(size=3), np.float64(rng.normal())]}
    leaves, tree = flatten(params)
    return params, [unflatten(tree, [rng.normal(size=np.shape(x)) for x in leaves]) for _ in range(steps)]


def run(rule, params, grads, **options):
    state = getattr(optim, f"{rule}_state")(params)
    for slope in grads:
        before = {key: flatten(part)[0] for key, part in state.items()}
        state = getattr(optim, rule)(state, slope, RATE, **options)
        assert before.keys() == state.keys()
    return state


def by_number(update, params, grads):
    """A rule on one number at a time: update(memory, p, g, t) -> p."""
    leaves, tree = flatten(params)
    found = []
    for i, leaf in enumerate(leaves):
        out = np.array(leaf)
        for at in np.ndindex(out.shape):
            memory, p = {}, float(out[at])
            for t, slope in enumerate(grads, start=1):
                p = update(memory, p, float(np.asarray(flatten(slope)[0][i])[at]), t)
            out[at] = p
        found.append(out)
    return unflatten(tree, found)


def sgd_number(decay=0.0):
    return lambda memory, p, g, t: p - RATE * (g + decay * p)


def momentum_number(beta, nesterov, decay=0.0):
    def update(memory, p, g, t):
        g = g + decay * p
        memory["v"] = beta * memory.get("v", 0.0) + g
        return p - RATE * (beta * memory["v"] + g if nesterov else memory["v"])

    return update


def adam_number(b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, decay=0.0):
    def update(memory, p, g, t):
        memory["m"] = b1 * memory.get("m", 0.0) + (1 - b1) * g
        memory["v"] = b2 * memory.get("v", 0.0) + (1 - b2) * g**2
        m, v = memory["m"] / (1 - b1**t), memory["v"] / (1 - b2**t)
        return p - RATE * m / (math.sqrt(v + eps_root) + eps) - RATE * decay * p

    return update


RULES = [
    ("sgd", {}, sgd_number()),
    ("sgd", {"weight_decay": 0.3}, sgd_number(0.3)),
    ("momentum", {}, momentum_number(0.9, False)),
    ("momentum", {"decay": 0.5}, momentum_number(0.5, False)),
    ("momentum", {"nesterov": True}, momentum_number(0.9, True)),
    ("momentum", {"nesterov": True, "decay": 0.7, "weight_decay": 0.2}, momentum_number(0.7, True, 0.2)),
    ("adam", {}, adam_number()),
    ("adam", {"b1": 0.85, "b2": 0.99, "eps": 0.0, "eps_root": 1e-3}, adam_number(0.85, 0.99, 0.0, 1e-3)),
    ("adam", {"eps": 0.1, "eps_root": 0.2}, adam_number(eps=0.1, eps_root=0.2)),
    ("adam", {"b1": 0.0}, adam_number(b1=0.0)),
    ("adamw", {"weight_decay": 0.3}, adam_number(decay=0.3)),
]


@pytest.mark.parametrize(("rule", "options", "number"), RULES)
@pytest.mark.filterwarnings("error")
def test_an_optimizer_takes_the_steps_of_its_formula(rule, options, number):
    params, grads = trees(1, 3)
    ours = both(lambda p, *g: run(rule, p, g, **options)["params"], params, *grads)
    theirs = by_number(number, params, grads)
    for one, two in zip(flatten(ours)[0], flatten(theirs)[0], strict=True):
        # 1 - b2^t cancels three digits in Adam: the bias corrections of two orders of operations differ by 1e-13.
        np.testing.assert_allclose(one, two, rtol=1e-12)


def test_adam_takes_first_steps_of_the_learning_rate():
    params, (slope, *_) = trees(2, 1)
    after = run("adam", params, [slope], eps=0.0)["params"]
    for new, old, g in zip(flatten(after)[0], flatten(params)[0], flatten(slope)[0], strict=True):
        np.testing.assert_allclose(new, old - RATE * np.sign(g), rtol=1e-13)


@given(seed=seeds)
def test_a_learning_rate_may_be_a_wire(seed):
    params, grads = trees(seed, 2)

    def trained(rate):
        state = optim.adam_state(params)
        for slope in grads:
            state = optim.adam(state, slope, rate)
        return np.sum(state["params"]["w"])

    step = 1e-6
    # The parameters are linear in the rate where gradients are given: differences only round, 1e-16 over the step.
    expected = (trained(RATE + step) - trained(RATE - step)) / (2 * step)
    assert cs.grad(trained)(RATE) == pytest.approx(expected, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize(
    ("rule", "state", "missing"),
    [
        ("sgd", {}, "params"),
        ("momentum", {"params": 1.0}, "velocity"),
        ("adam", {"params": 1.0, "m": 0.0, "v": 0.0}, "t"),
        ("adamw", {"params": 1.0, "v": 0.0, "t": 0.0}, "m"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(rule, state, missing):
    with pytest.raises(
        InputError, match=rf"{rule} requires state\['{missing}'\]; start from optim.{rule}_state\(params\)"
    ):
        getattr(optim, rule)(state, 1.0, RATE)
    with pytest.raises(InputError, match="different structure"):
        optim.sgd(optim.sgd_state({"w": 1.0}), {"v": 1.0}, RATE)


def test_an_optimizer_keeps_other_state_and_takes_gradients_in_any_key_order():
    state = {**optim.sgd_state({"a": 1.0, "b": 2.0}), "seen": 7}
    after = optim.sgd(state, {"b": 20.0, "a": 10.0}, RATE)
    assert after == {"params": {"a": 0.0, "b": 0.0}, "seen": 7}
    assert state["params"] == {"a": 1.0, "b": 2.0}


# Learning rates by step, clipping, dropout.


def test_factors_of_the_learning_rate_follow_their_formulas():
    steps = np.arange(12.0)
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * min(t / 8, 1))) / 2 for t in steps]
    np.testing.assert_allclose(both(lambda t: optim.cosine(t, 8, floor=0.1), steps), cosine, rtol=1e-14)
    np.testing.assert_allclose(both(lambda t: optim.warmup(t, 5), steps), [min((t + 1) / 5, 1) for t in steps])
    decay = [0.5 ** sum(t >= b for b in (3, 7)) for t in steps]
    np.testing.assert_allclose(both(lambda t: optim.step_decay(t, [3, 7], 0.5), steps), decay, rtol=0)
    for refused in (lambda: optim.cosine(1, 0), lambda: optim.warmup(1, 0)):
        with pytest.raises(InputError, match="requires steps >= 1, not 0"):
            refused()


@given(seed=seeds)
def test_clipping_keeps_the_direction_and_the_norm_below_the_limit(seed):
    _, (grads,) = trees(seed, 1)
    for limit in (0.1, 1.0, 100.0):
        clipped = both(lambda g, limit=limit: optim.clip_by_norm(g, limit), grads)
        flat, ours = (np.concatenate([np.ravel(leaf) for leaf in flatten(tree)[0]]) for tree in (grads, clipped))
        size = np.linalg.norm(flat)
        np.testing.assert_allclose(ours, flat / math.sqrt(1 + (size / limit) ** 2), rtol=1e-13)
        assert np.linalg.norm(ours) < min(limit, size)
    with pytest.raises(InputError, match="a positive limit, not 0"):
        optim.clip_by_norm(grads, 0)


def test_a_dropout_mask_is_drawn_by_seed_and_step_and_keeps_the_mean():
    mask = optim.dropout_mask((100, 100), 0.25, seed=3, step=5)
    assert np.array_equal(mask, optim.dropout_mask((100, 100), 0.25, seed=3, step=5))
    assert not np.array_equal(mask, optim.dropout_mask((100, 100), 0.25, seed=3, step=6))
    assert not np.array_equal(mask, optim.dropout_mask((100, 100), 0.25, seed=4, step=5))
    assert set(np.unique(mask)) == {0.0, 1 / 0.75}
    # Five deviations of the mean of 10,000: sqrt(0.25 / 0.75 / 10000) each.
    assert abs(mask.mean() - 1) < 5 * math.sqrt(0.25 / 0.75 / 10000)
    assert np.all(optim.dropout_mask(4, 0.0, 0, 0) == 1.0)
    with pytest.raises(InputError, match=r"requires a rate in \[0, 1\), not 1\.0"):
        optim.dropout_mask(4, 1.0, 0, 0)
