"""Queries of sketches, calibrated by retrained subsets: coverage where their own intervals fail, and refusals."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from small_runs import raises
from test_attribute import N, fresh_subsets, measure, network, truths

import circuitsketch as cs


@functools.cache
def query_of(kind):
    return cs.sketch(network(kind), 16, 2, per_example="series", per_example_order=3).measure(measure)


@pytest.mark.parametrize("kind", ["tanh", "relu", "adam"])
def test_calibrated_intervals_of_a_sketch_hold_where_series_fail(kind):
    query = query_of(kind).calibrate(size=(2, 15), threads=2)
    prediction = query.without(fresh_subsets())
    low, high = prediction.interval(0.9)
    truth = truths(kind)
    assert ((low <= truth) & (truth <= high)).mean() > 0.9 - 2 * 0.043  # 48 subsets: (.1 .9 / 49)^(1/2)
    error = np.sqrt(((prediction.value - truth) ** 2).mean())
    first = np.sqrt(((query.without(fresh_subsets(), estimator="first-order").value - truth) ** 2).mean())
    none = np.sqrt(((query.baseline - truth) ** 2).mean())
    assert error < 1.1 * min(first, none)
    assert query.worth.subsets == 48 and prediction.estimator == query.estimator == "calibrated"


def test_truths_that_are_known_are_not_retrained():
    query, rows = query_of("tanh"), fresh_subsets()
    known = cs.Query(query.coefficients, query.distribution, per_example=query.per_example, similarity=query.similarity)
    calibrated = known.calibrate(rows[:48], truth=truths("tanh")[:48])
    low, high = calibrated.without(rows[48:]).interval(0.9)
    truth = truths("tanh")[48:]
    assert ((low <= truth) & (truth <= high)).mean() > 0.8


def test_a_calibrated_query_calibrates_again_and_takes_no_order():
    query = query_of("tanh").calibrate(size=4, count=12, threads=1)
    again = query.calibrate(size=6, count=16, threads=1)
    assert again.worth.subsets == 16 and len(again.estimators) == len(query.estimators)
    with raises(cs.InputError, "takes no order"):
        query.without([1, 2], order=1)
    with raises(cs.InputError, "use query.calibrate"):
        query_of("tanh").without([1], estimator="calibrated")
    with raises(cs.InputError, "cs.attribute with a larger budget"):
        query_of("tanh").without([1], estimator="pairs")


def test_nothing_deleted_changes_nothing():
    query = query_of("tanh").calibrate(size=4, count=12, threads=1)
    prediction = query.reweight(np.zeros(N))
    assert np.array_equal(prediction.value, query.baseline)
    np.testing.assert_array_equal(prediction.interval(), (query.baseline, query.baseline))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3}, "at least 8 subsets"),
        ({"subsets": [[1, 2], [3]]}, "at least 8 subsets"),
        ({"truth": np.zeros((48, 2))}, "pass subsets= too"),
        ({"kind": "user"}, "kind"),
        ({"size": (4, 400)}, "integer from 1"),
        ({"subsets": fresh_subsets(10), "truth": np.zeros((9, 2))}, "shape"),
    ],
)
def test_invalid_calibrations_are_refused(arguments, message):
    with raises(cs.InputError, message):
        query_of("tanh").calibrate(**arguments)
