"""A measurement may be a pytree: predictions are pytrees then, and say what the same numbers say one by one.

The oracles: each leaf measured alone, retraining, and a run that is linear in its weights.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.tree import flatten, tree_map


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Box:
    inside: Any


def step(state, x, keep):
    return {"w": 0.9 * state["w"] + keep.sum() * x, "b": [np.sin(state["b"][0]) + keep.sum(), state["b"][1] * keep[0]]}


@pytest.fixture(scope="module")
def run():
    first = {"w": np.zeros((2, 2)), "b": [np.ones(()), np.ones(3)]}
    data = [np.array([[1.0, 2.0], [3.0, 4.0]]) * x for x in (1.0, 0.5, -1.0, 2.0)]
    return cs.Training(step, first, data, [[0], [1], [2], [3]], items=["ann", "bob", "cid", "dan"], labels=list("aabb"))


SHAPES = {
    "the parameters": lambda p: p,
    "a tuple": lambda p: (p["w"].sum(), p["b"][1]),
    "a named tuple": lambda p: Pair(p["w"], p["b"][0] ** 2),
    "a dataclass": lambda p: Box({"deep": [p["w"], (p["b"][0],)]}),
    "one leaf": lambda p: {"only": p["w"].sum()},
    "a leaf twice, and a constant": lambda p: [p["w"], p["w"], np.ones(2)],
}


def same(left, right, tolerance=1e-12):
    """Pytrees of one structure and the same numbers."""
    tree_map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), left, right)
    assert flatten(left)[1] == flatten(right)[1]


@pytest.mark.parametrize("estimator", ["theorem", "per-example"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_leaf_is_predicted_as_if_it_were_measured_alone(run, shape, estimator):
    measure = SHAPES[shape]
    sketch = cs.sketch(run, 6, 2, per_example="series")
    query = sketch.measure(measure)
    leaves, tree = flatten(measure(run.train()))
    for what in ([1], [[0], [1, 2], [3]]):
        found = query.without(what, estimator=estimator)
        low, high = found.interval(0.8)
        parts = {"low": low, "high": high} | {name: getattr(found, name) for name in NAMES}
        for name, value in parts.items():
            assert flatten(value)[1] == tree, name
        for i in range(len(leaves)):
            one = sketch.measure(lambda p, i=i: flatten(measure(p))[0][i]).without(what, estimator=estimator)
            ends = one.interval(0.8)
            expected = {"low": ends[0], "high": ends[1]} | {name: getattr(one, name) for name in NAMES}
            # The errors of the other estimators look at all values together.
            looking = ("stderr", "term_stderr", "truncation", "low", "high", "outside")
            skipped = () if estimator == "theorem" else looking
            for name, value in parts.items():
                if name in skipped:
                    assert np.shape(flatten(value)[0][i]) == np.shape(expected[name])
                else:
                    np.testing.assert_allclose(flatten(value)[0][i], expected[name], rtol=1e-9, atol=1e-12)


NAMES = ("value", "change", "stderr", "terms", "term_stderr", "truncation", "outside")


def test_a_prediction_of_the_parameters_is_what_retraining_gives(run):
    measure = lambda p: {"w": p["w"], "sum": p["w"].sum()}  # noqa: E731  (linear in the weights)
    query = cs.sketch(run, 4, 1).measure(measure)
    same(query.baseline, measure(run.train()))
    same(query.without([2]).value, measure(run.retrain([2])), 1e-9)
    same(query.without([2]).baseline, measure(run.train()))
    many = query.without([[0], [1, 3]])
    assert many.value["w"].shape == (2, 2, 2) and many.value["sum"].shape == (2,)
    assert many.terms["w"].shape == (1, 2, 2, 2)
    same(tree_map(lambda x: x[1], many.value), measure(run.retrain([1, 3])), 1e-9)


def test_influence_evaluation_and_evidence_take_pytrees(run):
    measure = lambda p: p  # noqa: E731
    sketch = cs.sketch(run, 8, 2, per_example="series")
    query = sketch.measure(measure)
    found = query.influence()
    flat = sketch.measure(lambda p: np.concatenate([np.reshape(leaf, -1) for leaf in flatten(p)[0]]))
    plain = flat.influence()
    assert found.change["w"].shape == (4, 2, 2) and found.change["b"][0].shape == (4,)
    rows = np.concatenate([leaf.reshape(4, -1) for leaf in flatten(found.change)[0]], axis=1)
    np.testing.assert_allclose(rows, plain.change, atol=1e-12)
    assert (found.top() == plain.top()).all() and str(found) == str(plain)

    subsets = [[0], [1], [2, 3]]
    truth = run.retrain(subsets)
    scored, given = (cs.evaluate(query, subsets, **how) for how in ({"run": run, "measure": measure}, {"truth": truth}))
    reference = cs.evaluate(flat, subsets, truth=scored.truth)
    assert scored.rmse == pytest.approx(reference.rmse) and (scored.truth == given.truth).all()
    known = query.with_evidence([[0], [1]], run.retrain([[0], [1]]))
    same(known.without([0]).value, run.retrain([0]), 1e-5)
    worst = cs.retrain_worst(query, run=run, measure=measure, count=1)
    assert worst.evidence is not None
    norms = query.stability().norms
    np.testing.assert_allclose(norms, flat.stability().norms)
    with pytest.raises(cs.InputError, match="different structure"):
        query.with_evidence([[0]], {"w": np.ones((1, 2, 2))})


def test_coefficients_and_local_sketches_are_pytrees_too(run):
    sketch = cs.sketch(run, 3, 2)
    found = sketch.coefficients(lambda p: p)
    same(found, sketch.state, 1e-12)
    query = cs.local_sketch(lambda x: {"sum": x.sum(), "squares": [x * x]}, np.ones(3), 3, 2)
    half = query.predict([0.5, 0.0, 0.0], median_groups=1)
    assert half.value["sum"] == pytest.approx(3.5) and half.value["squares"][0].shape == (3,)


def test_pytrees_print_and_turn_into_json(run):
    query = cs.sketch(run, 6, 2, per_example="series").measure(lambda p: p)
    found = query.without([1])
    text = str(found)
    assert "w[0, 0]" in text and "w[1, 1]" in text and "9 leaves" not in repr(found) and "3 leaves" in repr(found)
    plain = json.loads(json.dumps(found.to_dict(0.5)))
    assert plain["level"] == 0.5 and np.shape(plain["value"]["w"]) == (2, 2)
    assert np.shape(plain["terms"]["b"][1]) == (2, 3)
    low, high = found.interval(0.5)
    np.testing.assert_allclose(plain["low"]["w"], low["w"])
    assert "3 leaves, 8 numbers" in str(query)
    with pytest.raises(cs.InputError, match="returns no value"):
        cs.sketch(run, 2, 1).measure(lambda p: {})
