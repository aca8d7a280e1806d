"""Models retrained in float32: against NumPy in float32, never mixed with float64, and honest about their rounding."""

from __future__ import annotations

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_runs import raises

import circuitsketch as cs
from circuitsketch.attribution.rounding import warn_of_rounding
from circuitsketch.propagate.coefficients import trace_measurement
from circuitsketch.propagate.retrained import measure_retrained
from circuitsketch.store.kept_arrays import KeptArrays
from circuitsketch.tree import flatten

N, RATE = 60, 0.2
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 3))
Y = np.tanh(X @ [1.0, -0.5, 0.3]) + 0.1 * rng.normal(size=N)
IDS = [part for _ in range(4) for part in np.split(rng.permutation(N), 6)]
SUBSETS = (rng.random((20, N)) < 0.1).astype(float)


@functools.cache
def regression():
    """Least squares by gradient descent, whose gradient is written out."""

    def step(w, batch, keep):
        x, y = batch
        return w - RATE / 10 * (keep * (np.tanh(x @ w) - y)) @ x

    return cs.Training(step, np.zeros(3), [(X[i], Y[i]) for i in IDS], IDS, n=N)


def loss(w):
    return ((np.tanh(X[:9] @ w) - Y[:9]) ** 2).mean()


def by_numpy(row, kind):
    """The same training in NumPy in a precision."""
    x, y, keep, w = (array.astype(kind) for array in (X, Y, 1 - row, np.zeros(3)))
    for i in IDS:
        w = w - kind(RATE / 10) * (keep[i] * (np.tanh(x[i] @ w) - y[i])) @ x[i]
    return w


def test_models_in_float32_are_those_of_numpy_in_float32():
    single, double = (regression().retrain(SUBSETS, dtype=kind) for kind in (np.float32, np.float64))
    oracle = np.array([by_numpy(row, np.float32) for row in SUBSETS])
    assert single.dtype == np.float64 and np.array_equal(single, single.astype(np.float32))
    # Sums in another order: some units of the last place, of 24 steps.
    np.testing.assert_allclose(single, oracle, atol=2e-6)
    assert 1e-9 < np.abs(single - double).max() < 2e-6


def test_one_subset_is_retrained_in_float32_too():
    one = regression().retrain([3, 5], dtype="float32")
    assert one.shape == (3,) and np.array_equal(one, one.astype(np.float32))
    row = np.isin(np.arange(N), [3, 5]).astype(float)
    np.testing.assert_allclose(one, by_numpy(row, np.float32), atol=2e-6)


def test_workers_retrain_to_the_same_bits():
    with ThreadPoolExecutor(2) as pool:
        shared = regression().retrain(np.tile(SUBSETS, (3, 1)), dtype="float32", executor=pool)
    assert np.array_equal(shared, regression().retrain(np.tile(SUBSETS, (3, 1)), dtype="float32"))


@pytest.mark.parametrize("kind", ["complex64", "float16", int, "half"])
def test_another_dtype_is_refused(kind):
    with raises(cs.InputError, "float64 or float32"):
        regression().retrain([1], dtype=kind)
    with raises(cs.InputError, "float64 or float32"):
        cs.attribute(regression(), loss, dtype=kind)


def test_a_value_beyond_float32_names_float64_as_the_remedy():
    run = cs.Training(lambda s, x, keep: s * x * keep.sum(), np.ones(()), [1e20, 1e20], [[0], [1]])
    none = np.zeros((2, 2))
    assert run.retrain(none).tolist() == [1e40, 1e40]
    with raises(cs.DivergenceError, "dtype='float64'"):
        run.retrain(none, dtype="float32")


def test_answers_in_float32_hold_the_truth_in_float64_within_their_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", cs.RoundingWarning)
        query = cs.attribute(regression(), loss, budget=150, dtype="float32")
    assert query.plan.dtype == "float32" and "trainings in float32" in str(query.plan)
    assert "in float32" in str(query.without([1, 2, 3]))
    assert query.plan.own == N
    truth = regression().retrain(np.eye(N))
    exact = np.array([loss(w) for w in truth])
    for name in ("calibrated", "per-example"):
        found = query.without([[i] for i in range(N)], estimator=name)
        low, high = found.interval(0.95)
        # The rounding of 60 models: 95 %, and two standard deviations fewer.
        assert ((low <= exact) & (exact <= high)).mean() > 0.89
        assert np.all(found.stderr > 0) and np.all(found.stderr < 1e-6)
    double = cs.attribute(regression(), loss, budget=150)
    assert np.all(double.without([[i] for i in range(N)]).stderr == 0)
    assert float(np.max(query.influence().stderr)) > 0 == np.max(double.influence().stderr)
    assert query.predict(np.zeros(N)).stderr == 0


def tiny_effects():
    """Examples move a state of 1,000 by 1e-5 each, less than float32 tells apart."""
    return cs.Training(
        lambda s, x, keep: s + keep.sum() * x, np.array(1e3), np.linspace(1, 2, N) * 1e-5, [[i] for i in range(N)]
    )


def test_effects_that_float32_rounds_off_warn():
    with pytest.warns(cs.RoundingWarning, match="dtype='float64'"):
        cs.attribute(tiny_effects(), lambda s: s, budget=60, dtype="float32")
    query = cs.sketch(tiny_effects(), directions=4, order=1).measure(lambda s: s)
    with pytest.warns(cs.RoundingWarning, match="standard error"):
        query.evaluate(np.eye(N)[:5], dtype="float32")
    with pytest.warns(cs.RoundingWarning, match="standard error"):
        query.calibrate(count=20, dtype="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error", cs.RoundingWarning)
        query.calibrate(count=20)
        cs.sketch(regression(), directions=4, order=1).measure(loss).calibrate(count=20, dtype="float32")


def test_rounding_of_a_twentieth_of_the_spread_warns():
    values = np.array([[0.0, 5.0], [2.0, 5.0]])  # standard deviations 1 and 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", cs.RoundingWarning)
        warn_of_rounding(np.array([0.049, 0.0]), values)
    with pytest.warns(cs.RoundingWarning, match="1 of 2 values"):
        warn_of_rounding(np.array([0.051, 0.0]), values)


def test_kept_work_in_float32_is_not_taken_for_float64(tmp_path):
    run = regression()
    state = flatten(run.train())[0]
    circuit = trace_measurement(loss, (), run.train(), run.params)

    def measured(kind, folder):
        kept = KeptArrays(tmp_path / folder, {})
        return measure_retrained(run, circuit, state, lambda a, b: SUBSETS[a:b], 20, width=8, kept=kept, dtype=kind)[0]

    fresh = {kind: measured(kind, kind) for kind in ("float32", "float64")}
    assert not np.array_equal(fresh["float32"], fresh["float64"])
    for _ in range(2):
        for kind, values in fresh.items():
            assert np.array_equal(measured(kind, "shared"), values)


def test_a_calibration_in_float32_is_kept_as_such(tmp_path):
    sketch = cs.sketch(regression(), directions=8, order=2, path=tmp_path / "a.sketch")
    calibrated = sketch.measure(loss).calibrate(count=20, dtype="float32")
    calibrated.keep_calibration()
    again = cs.open_sketch(tmp_path / "a.sketch", regression()).query(loss)
    assert "in float32 that the sketch has kept" in str(again.without([1, 2]))
    assert again.without([1, 2]).interval() == calibrated.without([1, 2]).interval()


def test_a_sketch_of_models_in_complex64_knows_its_rounding():
    exact = np.array([loss(w) for w in regression().retrain(np.eye(N))])
    for kind in ("complex64", "complex128"):
        query = cs.sketch(regression(), directions=0, per_example="retrained", dtype=kind).measure(loss)
        found = query.without([[i] for i in range(N)], estimator="per-example")
        if kind == "complex128":
            assert np.all(found.stderr == 0)
            continue
        low, high = found.interval(0.95)
        assert ((low <= exact) & (exact <= high)).mean() > 0.89 and np.all(found.stderr < 1e-6)
