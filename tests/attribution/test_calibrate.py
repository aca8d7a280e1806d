"""Queries of sketches, calibrated by retrained subsets: coverage where their own intervals fail, and refusals."""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest
from small_networks import N, measure, network
from small_runs import raises
from test_attribute import fresh_subsets, truths

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


def test_subsets_of_alike_examples_are_calibrated_apart_from_random_ones():
    query = query_of("tanh").calibrate(size=(2, 15), threads=2)
    calibrated = query.estimators["calibrated"]
    kinds = calibrated.alikeness.find_alike(calibrated.retrained.rows)
    assert calibrated.retrained.kind == "mixed" and kinds.sum() == 24
    for kind, words in enumerate(("24 retrained random subsets", "24 retrained subsets of alike examples")):
        assert words in str(query.without(calibrated.retrained.rows[kinds == kind][0]))
    some, changes = (array[~kinds] for array in (calibrated.retrained.rows, calibrated.retrained.changes))
    alone = query_of("tanh").calibrate(some, truth=query.baseline + changes)
    ends = [np.array(one.without(some[:5]).interval()) for one in (query, alone)]
    np.testing.assert_allclose(*ends, rtol=1e-5)  # a fit of interactions stops at a tolerance
    assert "48 retrained subsets, random ones and ones of alike" in str(query.without(calibrated.retrained.rows))


def test_a_mixed_calibration_needs_to_know_what_is_alike():
    query = cs.sketch(network("tanh"), 4, 1).measure(measure)
    with raises(cs.InputError, "kind='mixed' needs to know which examples act alike"):
        query.calibrate(kind="mixed")
    assert query.calibrate(size=4, threads=2).estimators["calibrated"].retrained.kind == "random"
    alone = cs.sketch(network("tanh"), 0, 1, per_example="retrained", threads=2).measure(measure)
    assert alone.calibrate(size=4, threads=2).estimators["calibrated"].retrained.kind == "mixed"


def test_a_group_more_alike_than_all_that_were_retrained_is_warned_of():
    query = query_of("tanh").calibrate(kind="random", size=(2, 15), threads=2)
    alikeness = query.estimators["calibrated"].alikeness
    nearest = np.argsort(-(alikeness.directions @ alikeness.directions[3]))[:10]
    (warning,) = query.without(nearest).warnings
    assert "move the parameters more alike" in warning and "kind='mixed'" in warning
    assert not query.without([1, 50, 90]).warnings


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


# --------------------------------------------------------------------------------------------------- kept in a sketch


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A sketch on disk with a calibration of `measure`, and the query that was kept."""
    path = tmp_path_factory.mktemp("kept") / "a.sketch"
    sketch = cs.sketch(network("relu"), 8, 2, per_example="series", per_example_order=2, path=path)
    query = sketch.measure(measure).calibrate(size=(2, 15), count=24, threads=2)
    query.keep_calibration()
    return path, query


def same_answers(one, other):
    rows = fresh_subsets(5)
    a, b = one.without(rows), other.without(rows)
    return np.array_equal(a.value, b.value) and np.array_equal(a.interval(), b.interval())


def test_a_kept_calibration_is_taken_in_to_the_same_bits_without_retraining(stored, monkeypatch):
    path, query = stored
    run = network("relu")
    monkeypatch.setattr(cs.Training, "retrain", None)
    again = cs.open_sketch(path, run).query(measure)
    assert same_answers(again, query) and again.worth == query.worth
    assert "24 retrained random subsets that the sketch has kept" in str(again.without([3, 4]))
    assert "kept" not in str(query.without([3, 4]))
    without_run = cs.open_sketch(path).query(measure, kind="random", size=15)
    assert same_answers(without_run, query)


def test_an_extended_sketch_weighs_its_new_estimators_by_what_was_kept(stored, tmp_path):
    path = tmp_path / "a.sketch"
    shutil.copytree(stored[0], path)
    extended = cs.open_sketch(path, network("relu")).extend(12)
    query = extended.query(measure)
    assert query.worth.subsets == 24 and len(query.coefficients) == 12


def test_models_that_were_kept_are_calibrated_likewise(tmp_path):
    sketch = cs.sketch(network("tanh"), 0, 1, per_example="retrained", path=tmp_path / "a.sketch")
    query = sketch.measure(measure).calibrate(size=(2, 15), count=24, threads=2)
    assert query.keep_calibration().startswith(str(tmp_path / "a.sketch" / "calibrations"))
    assert same_answers(sketch.query(measure), query)


def test_a_calibration_of_something_else_is_not_taken_in(stored, tmp_path):
    path, query = stored
    sketch = cs.open_sketch(path)
    with raises(cs.InputError, "no calibration of this measurement: make one"):
        sketch.query(lambda p: measure(p)[0])
    with raises(cs.InputError, "for size 40: it has 24 random subsets of sizes 2 to 15"):
        sketch.query(measure, size=40)
    with raises(cs.InputError, "of kind 'label'"):
        sketch.query(measure, kind="label")
    with raises(cs.InputError, "kind"):
        sketch.query(measure, kind="user")
    with raises(cs.InputError, "call query.calibrate"):
        sketch.measure(measure).keep_calibration()
    with raises(cs.InputError, "make the sketch with path="):
        query_of("tanh").calibrate(size=4, count=12, threads=1).keep_calibration()
    other = tmp_path / "other.sketch"
    cs.sketch(network("tanh"), 8, 2, per_example="series", per_example_order=2, path=other)
    shutil.copytree(path / "calibrations", other / "calibrations")
    with raises(cs.StoreError, "a different run or measurement"):
        cs.open_sketch(other).query(measure)


def test_of_several_kinds_one_is_named(stored, tmp_path):
    path = tmp_path / "a.sketch"
    shutil.copytree(stored[0], path)
    sketch = cs.open_sketch(path, network("relu"))
    sketch.measure(measure).calibrate(fresh_subsets(12), threads=2).keep_calibration()
    with raises(cs.InputError, "kinds given and random; pass kind="):
        sketch.query(measure)
    assert sketch.query(measure, kind="given").worth.subsets == 12
