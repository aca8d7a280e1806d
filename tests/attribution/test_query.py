"""A query: the shapes of its answers, batches, influences, deletion sets in every form, and what it refuses."""

import json

import numpy as np
import pytest
from polynomials import (
    RANDOM,
    coefficients_of,
    query_of,
    symmetric,
)

from circuitsketch import limits
from circuitsketch.attribution.prediction import Prediction
from circuitsketch.attribution.query import Query
from circuitsketch.directions import Gaussian, Given, Orthonormal, Sphere
from circuitsketch.errors import InputError

# ---------------------------------------------------------------------------------------- shapes, batches, questions


def wide_query(distribution, m=80, shape=(2, 3), order=3, seed=8):
    """A measurement of six values, each its own polynomial."""
    rng = np.random.default_rng(seed)
    psi = distribution.block(0, m)
    cells = [
        coefficients_of([symmetric(rng, distribution.n, r) for r in range(1, order + 1)], psi, constant=i)
        for i in range(6)
    ]
    return Query(np.stack(cells, axis=2).reshape(m, order + 1, *shape), distribution)


@pytest.mark.parametrize("distribution", [Sphere(5, 1), Gaussian(5, 1), Orthonormal(5, 1)])
def test_a_measurement_of_several_values_predicts_each_value(distribution):
    query = wide_query(distribution)
    h = np.array([0.5, 0, 0, -1, 0.2])
    found, stability, influence = query.predict(h), query.stability(), query.influence()
    assert found.value.shape == (2, 3) and found.terms.shape == (3, 2, 3) and influence.change.shape == (5, 2, 3)
    for cell in np.ndindex(2, 3):
        one = Query(query.coefficients[(slice(None), slice(None), *cell)], distribution)
        single = one.predict(h)
        # Six values are scaled together before they are weighed: some roundings.
        assert found.value[cell] == pytest.approx(single.value, rel=1e-12)
        assert found.stderr[cell] == pytest.approx(single.stderr, rel=1e-12)
        assert found.terms[(slice(None), *cell)] == pytest.approx(single.terms, rel=1e-11)
        assert found.truncation[cell] == pytest.approx(single.truncation, rel=1e-11)
        assert stability.norms[(slice(None), *cell)] == pytest.approx(one.stability().norms, rel=1e-12)
        assert influence.change[(slice(None), *cell)] == pytest.approx(one.influence().change, rel=1e-11)
        assert query.baseline[cell] == one.baseline


def test_a_batch_of_subsets_predicts_each_subset():
    query = wide_query(Sphere(5, 1))
    batch = np.random.default_rng(1).normal(size=(4, 5))
    batch[2, 1:] = 0
    found = query.predict(batch)
    assert found.value.shape == (4, 2, 3) and found.term_stderr.shape == (3, 4, 2, 3)
    for i, h in enumerate(batch):
        one = query.predict(h)
        for name in ("value", "change", "stderr", "truncation"):
            assert getattr(found, name)[i] == pytest.approx(getattr(one, name), rel=1e-12)
        assert found.terms[:, i] == pytest.approx(one.terms, rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("distribution", RANDOM)
def test_influences_are_the_predictions_of_single_deletions(distribution, monkeypatch):
    query = wide_query(distribution(7, 2))
    whole = query.influence()
    for i in range(7):
        one = query.without([i])
        assert whole.change[i] == pytest.approx(one.change, rel=1e-12, abs=1e-14)
        assert whole.stderr[i] == pytest.approx(one.stderr, rel=1e-12, abs=1e-14)
    monkeypatch.setattr(limits, "NUMBERS_AT_ONCE", 3 * 80 * 6 * 2)  # two examples at a time
    parts = query.influence()
    assert np.array_equal(parts.change, whole.change) and np.array_equal(parts.stderr, whole.stderr)


def test_top_lists_the_largest_changes_first():
    rng = np.random.default_rng(9)
    found = query_of([rng.normal(size=20)], Given(np.eye(20)), 20).influence()
    ranked = sorted(range(20), key=lambda i: -abs(found.change[i]))
    assert found.top(4).tolist() == ranked[:4] and len(found.top()) == 10
    lines = str(found).splitlines()
    assert lines[2].split()[0] == str(ranked[0]) and "10 smaller ones" in lines[-1]
    assert wide_query(Sphere(5, 1)).influence().top(3).shape == (3,)
    with pytest.raises(InputError, match="at least 1"):
        found.top(0)


def test_every_form_of_a_deletion_set_gives_the_same_prediction():
    query = wide_query(Sphere(5, 1))
    mask = np.array([False, True, False, True, False])
    first = query.without([3, 1])
    for other in (
        query.without(mask),
        query.without([0.0, 1, 0, 1, 0]),
        query.reweight([0.0, 1, 0, 1, 0]),
        query.reweight([0, 1, 0, 1, 0]),
        query.predict(mask.astype(float)),
    ):
        assert np.array_equal(first.value, other.value)
    assert np.array_equal(query.without(np.stack([mask, ~mask])).value[0], first.value)
    halved = query.reweight(0.5 * mask)
    assert np.array_equal(halved.value, query.predict(0.5 * mask).value)


def test_a_lower_order_leaves_the_higher_terms_out():
    query = wide_query(Sphere(5, 1))
    h = np.ones(5) / 3
    short, whole = query.predict(h, order=2), query.predict(h)
    assert short.order == 2 and np.array_equal(short.terms, whole.terms[:2])
    assert query.predict(h, order=2, median_groups=1).change == pytest.approx(
        query.predict(h, median_groups=1).terms[:2].sum(axis=0), rel=1e-12
    )


def test_single_precision_coefficients_serve_as_well():
    query = wide_query(Sphere(5, 1))
    narrow = Query(query.coefficients.astype(np.complex64), query.distribution)
    # Coefficients of 24 bits, weights of at most a hundred.
    assert narrow.predict(np.ones(5)).value == pytest.approx(query.predict(np.ones(5)).value, abs=1e-4)


def test_a_scalar_measurement_gives_floats_and_prints_itself():
    query = query_of([np.ones(3), np.eye(3)], Sphere(3, 1), 200, constant=1.5)
    found = query.without([0])
    assert all(type(x) is float for x in (found.value, found.baseline, found.change, found.stderr, *found.interval()))
    text = str(found)
    for word in (
        "value",
        "baseline",
        "change",
        "95 % from",
        "order 2",
        "median over 9 groups of 200 directions",
    ):
        assert word in text
    assert f"{found.value:.6g}" in text
    assert "<table>" in found._repr_html_() and "order 2" in found._repr_html_()
    assert "distribution 'sphere' in 3 coordinates" in str(query) and str(query) in repr(query)


def test_a_prediction_is_json():
    for h in (np.ones(5) / 4, np.ones((2, 5))):
        found = wide_query(Sphere(5, 1)).predict(h)
        back = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert np.array_equal(back["value"], found.value)
        assert np.array_equal(back["terms"], found.terms)
        assert back["directions"] == 80 and back["warnings"] == list(found.warnings)
        assert "more values" in str(found) or found.value.size == 6


def test_records_are_frozen():
    found = query_of([np.ones(3)], Sphere(3), 5).predict(np.ones(3))
    assert isinstance(found, Prediction)
    with pytest.raises(AttributeError):
        found.value = 3


# ---------------------------------------------------------------------------------------- the border


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda q: Query(np.ones(3), q.distribution), r"shape \(directions, order \+ 1"),
        (lambda q: Query(np.ones((3, 0)), q.distribution), "order 0, not"),
        (lambda q: Query(np.ones((3, 1)), q.distribution).predict(np.ones(3)), "nothing of changes"),
        (lambda q: Query(np.ones((3, 2, 0)), q.distribution), "nothing to predict"),
        (lambda q: Query(np.array([["a", "b"]]), q.distribution), "are numbers"),
        (
            lambda q: Query(np.array([[0, 1], [0, np.nan]]), q.distribution),
            "direction 1 has a NaN or an infinity at order 1",
        ),
        (lambda q: Query(np.array([[0, 1], [1, 1.0]]), q.distribution), "same for every direction"),
        (lambda q: Query(np.array([[1j, 1]]), q.distribution), "real and the same"),
        (
            lambda q: Query(np.ones((3, 2)), Given(np.ones((2, 4)))),
            "3 directions were measured and the distribution has 2",
        ),
        (lambda q: Query(q.coefficients, q.distribution, median_groups=0), "number of groups"),
        (lambda q: Query(q.coefficients, q.distribution, median_groups=99), "99 groups"),
        (lambda q: q.predict([1.0, 2.0]), r"h has the shape \(3,\)"),
        (lambda q: q.predict(1.0), r"h has the shape \(3,\)"),
        (lambda q: q.predict(np.ones((2, 2, 3))), r"h has the shape \(3,\)"),
        (lambda q: q.predict(np.ones((0, 3))), r"h has the shape \(3,\)"),
        (lambda q: q.predict([1, 2, np.nan]), "infinity at coordinate 2"),
        (lambda q: q.predict([1j, 0, 0]), "real numbers"),
        (lambda q: q.predict([[1.0], [1.0, 2.0]]), "real numbers"),
        (lambda q: q.predict([1, 0, 0], order=3), "from 1 to 2"),
        (lambda q: q.predict([1, 0, 0], order=0), "from 1 to 2"),
        (lambda q: q.without([]), "empty"),
        (lambda q: q.without([7]), "out of range"),
        (lambda q: q.without(np.zeros((2, 3), dtype=bool)), "subset 0"),
        (lambda q: q.reweight([0, 1]), "one float per example"),
        (lambda q: q.reweight([True, False, False]), "use without"),
    ],
)
def test_invalid_queries_and_predictions_are_refused(act, words):
    query = query_of([np.ones(3), np.eye(3)], Sphere(3, 1), 20)
    with pytest.raises(InputError, match=words):
        act(query)
