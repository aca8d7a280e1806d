"""Measurements without a derivative: counts, rates and accuracies are refused, part by part where they are parts; what
truly does not change is answered. The truth is retraining."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.checks import dependence

N = 24
X = np.random.default_rng(5).normal(size=(N, 3))
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)
TOKENS = np.arange(N) % 3  # of four: the last is never read


def logits(p):
    return np.tanh(X @ p["w"]) @ p["v"] + cs.take(p["table"], TOKENS, axis=0)


def margin(p):
    z = logits(p)
    return z[:, 1] - z[:, 0]


def step(state, batch, keep):
    x, y, tokens = batch

    def loss(p):
        z = np.tanh(x @ p["w"]) @ p["v"] + cs.take(p["table"], tokens, axis=0)
        return (keep * cs.cross_entropy(z, y)).mean()

    grads = cs.grad(loss)(state["params"])
    return cs.optim.sgd(state, grads | {"fixed": np.zeros(2)}, 0.3)


def training():
    rng = np.random.default_rng(6)
    first = {
        "w": rng.normal(size=(3, 4)),
        "v": rng.normal(size=(4, 2)),
        "table": rng.normal(size=(4, 2)),
        "fixed": np.array([1.0, 2.0]),
    }
    ids = [np.arange(i, i + 8) for i in (0, 8, 16)] * 2
    return cs.Training(step, cs.optim.sgd_state(first), [(X[i], Y[i], TOKENS[i]) for i in ids], ids, n=N)


RUN = training()
SKETCHES = {
    "directions": lambda: cs.sketch(RUN, 8, 2),
    "singles": lambda: cs.sketch(RUN, 8, 2, per_example="series"),
    "singles alone": lambda: cs.sketch(RUN, 0, 2, per_example="series"),
    "complex64": lambda: cs.sketch(RUN, 8, 2, per_example="series", dtype=np.complex64),
    "groups": lambda: cs.sketch(RUN, 4, 2, per_example="series", groups=[int(y) for y in Y]),
    "given": lambda: cs.push(RUN, np.eye(N)[:2], 2),
}


@pytest.fixture(scope="module", params=list(SKETCHES))
def sketch(request):
    return SKETCHES[request.param]()


def rounded(z):
    return sum(np.where(z > k - 0.5, 1.0, 0.0) for k in (-1, 0, 1, 2)) - 2.0


COMPARED = {
    "rate": lambda p: np.where(margin(p) > 0, 1, 0).mean(),
    "threshold of a probability": lambda p: (cs.sigmoid(margin(p)) > 0.5).mean(),
    "accuracy": lambda p: (logits(p).max(axis=1) == np.take_along_axis(logits(p), Y[:, None], 1)[:, 0]).mean(),
    "truth values": lambda p: margin(p) > 0,
    "count": lambda p: np.sum(margin(p) <= 0),
    "rounding": lambda p: rounded(margin(p)).sum(),
}
SATURATED = {
    "what is multiplied away": lambda p: np.where(margin(p) > 0, margin(p) * 0 + 1, 0).mean(),
    "clipped": lambda p: np.clip(1e6 * margin(p), -1.0, 1.0).mean(),
    "a sign by division": lambda p: (margin(p) / np.abs(margin(p))).mean(),
    "a relu that is off": lambda p: cs.relu(margin(p) - 1e4).sum(),
    "a step in disguise": lambda p: cs.sigmoid(1e7 * margin(p)).mean(),
}
CONSTANT = {
    "a parameter that is not trained": lambda p: (p["fixed"] ** 2).sum(),
    "whether it is large": lambda p: np.where(p["fixed"] > 1.5, 1, 0).sum(),
    "an entry that no example reads": lambda p: p["table"][3].sum(),
    "whether that is positive": lambda p: np.maximum(p["table"][3], 0.0),
    "a number": lambda p: 5.0,
    "probabilities, summed": lambda p: cs.softmax(logits(p)).sum(),
}


@pytest.mark.parametrize("name", COMPARED)
def test_a_measurement_decided_by_comparisons_is_refused_with_line_and_remedy(sketch, name):
    with pytest.raises(cs.TraceError, match=r"locally constant.*test_constant_measurements.py:\d+.*logits.*sigmoid"):
        sketch.measure(COMPARED[name])
    with pytest.raises(cs.TraceError, match="locally constant"):
        sketch.coefficients(COMPARED[name])


@pytest.mark.parametrize("name", SATURATED)
def test_a_measurement_with_constant_coefficients_is_refused(sketch, name):
    with pytest.raises(cs.InputError, match="locally constant at the trained parameters.*logits"):
        sketch.measure(SATURATED[name])


@pytest.mark.parametrize("name", CONSTANT)
def test_a_measurement_that_no_weight_changes_is_predicted_exactly(sketch, name):
    query = sketch.measure(CONSTANT[name])
    found = query.without([0])
    if query.n == N:
        truth = CONSTANT[name](RUN.params(RUN.retrain([0])))
        np.testing.assert_allclose(found.value, truth, rtol=1e-9)
    np.testing.assert_allclose(found.change, 0, atol=1e-6)
    assert np.all(np.isfinite(found.stderr)) and not np.any(found.outside)
    assert any(f"does not depend on any {query.unit}'s weight" in text for text in found.warnings)


def test_a_partly_constant_measurement_names_its_constant_part(sketch):
    def parts(p):
        z = margin(p)
        return np.stack([np.where(z > 0, 1, 0).mean(), (z**2).mean(), (p["fixed"] ** 2).sum()])

    query, alone = sketch.measure(parts), sketch.measure(lambda p: (margin(p) ** 2).mean())
    found = query.without([0])
    assert any("locally constant at 1 of 3 values ([0])" in text for text in found.warnings)
    assert np.isinf(found.stderr[0]) and found.outside[0]
    assert np.isfinite(found.stderr[1:]).all() and found.stderr[2] == 0 and not found.outside[2]
    assert found.change[1] == pytest.approx(alone.without([0]).change, rel=1e-6)
    low, high = found.interval()
    assert low[0] == -np.inf and high[0] == np.inf
    if query.distribution.name != "given":
        influence = query.influence()
        assert any("locally constant" in text for text in influence.warnings)
        assert np.isinf(influence.stderr[:, 0]).all() and not re.search(r"\binf\b", str(influence))


def test_every_estimator_and_batch_knows_the_constant_part():
    query = SKETCHES["singles"]().measure(lambda p: np.maximum(0.0, 1.0 - margin(p) * (2 * Y - 1)))
    off = np.asarray(query.baseline) == 0
    assert 0 < off.sum() < N
    for estimator in ("interactions", "per-example", "first-order", "theorem"):
        found = query.without([[0], [1, 2]], estimator=estimator)
        assert np.array_equal(np.isinf(found.stderr), np.broadcast_to(off, (2, N)))
        assert found.outside[:, off].all()
    truth = np.tile(query.baseline, (2, 1)) + np.array([[0.0], [0.1]])
    scores = cs.evaluate(query, [[0], [1, 2]], truth=truth)
    assert any("locally constant" in text for text in scores.to_dict()["warnings"])
    assert any("locally constant" in text for text in query.stability().warnings)


def test_a_function_of_ones_own_is_judged_in_the_same_way():
    at = np.array([3.0, -2.0])
    with pytest.raises(cs.TraceError, match="locally constant"):
        cs.local_sketch(lambda x: np.where(x > 0, 1.0, 0.0).sum(), at, 4, 2)
    with pytest.raises(cs.InputError, match="locally constant"):
        cs.local_sketch(lambda x: np.clip(x, -1.0, 1.0).sum(), at, 4, 2)
    found = cs.local_sketch(lambda x: np.clip(x, -2.5, 2.5), at, 4, 2).predict([0.1, 0.1])
    assert np.isinf(found.stderr[0]) and found.value[1] == pytest.approx(-1.9)
    assert cs.local_sketch(lambda x: 7.0, at, 4, 2).predict([1.0, 1.0]).value == 7.0


def test_state_that_moves_only_through_comparisons_is_not_predicted():
    def by_sign(smooth):
        def step(s, x, keep):
            slope = cs.grad(lambda p: (keep * (x * p["a"] + p["b"] - 1.0) ** 2).sum())(s)
            b = s["b"] - smooth * slope["b"] if smooth else s["b"]
            return {"a": s["a"] - 0.1 * np.where(slope["a"] > 0, 1.0, -1.0), "b": b}

        batches = [np.array([1.0, 0.5]), np.array([2.0, -1.0])]
        return cs.Training(step, {"a": np.zeros(()), "b": np.zeros(())}, batches, [[0, 1], [2, 3]])

    with pytest.raises(cs.InputError, match="only through comparisons"):
        cs.sketch(by_sign(0.0), 4, 2)
    sketch = cs.sketch(by_sign(0.1), 4, 2)
    with pytest.raises(cs.TraceError, match="parts of the state that depend on the examples' weights only through"):
        sketch.measure(lambda s: s["a"] ** 2)
    assert np.isfinite(sketch.measure(lambda s: s["b"]).without([0]).value)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 2**12 - 1))
def test_entries_are_followed_through_movement_sums_and_products(moves, bits):
    """The oracle: change each entry of the input and see which entries of the output change."""
    matrix = np.arange(1.0, 13.0).reshape(3, 4)
    kinds = (
        lambda x: x.T,
        lambda x: x[::-1],
        lambda x: np.concatenate([x[:1], x[1:] * 2.0]),
        lambda x: cs.take(x, [0, 0, len(x) - 1], axis=0),
        lambda x: x + x.sum(axis=0),
        lambda x: np.tanh(x) @ np.eye(x.shape[1])[:, :1] + 0.5 * x,
    )

    def function(x):
        for kind in moves:
            x = kinds[kind](x)
        return x

    varying = np.array([bits >> i & 1 for i in range(12)], dtype=bool).reshape(3, 4)
    circuit = cs.trace(function, matrix)
    touched, decided = dependence.find_dependent_elements(circuit, [matrix], [varying])
    changed = np.zeros(touched.shape, dtype=bool)
    for index in np.argwhere(varying):
        other = matrix.copy()
        other[tuple(index)] += 0.25
        changed |= function(other) != function(matrix)
    assert not decided.any() and not (changed & ~touched).any()
    assert np.array_equal(changed, touched)
