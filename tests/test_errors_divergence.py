"""Runs that leave the numbers are refused with the step and the gate, and what failed leaves nothing behind."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from small_runs import make, raises

import circuitsketch as cs

HERE = r"test_errors_divergence\.py:\d+"  # the user's line
RUN = make()
SKETCH = cs.push(RUN, np.eye(2), 1)


# Runs that leave the numbers.


def grow(state, x, keep):
    return np.exp(state * keep.sum()) * x


def test_a_diverging_run_names_the_step_and_the_gate():
    run = make(grow, 1.0, [10.0] * 5, [[0], [1], [1], [1], [1]])
    words = f"training diverged at step 2 of 5: the first non-finite value is in gate exp .*{HERE}.*; lower"
    for act in (
        run.train,
        lambda: run.retrain([0.0, 0.5]),
        lambda: run.retrain(np.array([[0.0, 1.0], [0.5, 0.0]])),
        lambda: cs.push(run, np.eye(2), 2),
        lambda: cs.push(run, np.eye(2), 0),
        lambda: cs.sketch(run, 2, 1),
    ):
        with raises(cs.DivergenceError, words):
            act()
    assert run.retrain([1]) == 10.0  # without what makes it diverge, it does not


def test_several_retrainings_name_the_subset_that_diverges():
    run = make(lambda s, x, keep: s + np.exp(1e3 * (1.0 - keep.sum())))
    assert np.all(np.isfinite(run.retrain([[0.0, 0.1]])))
    with raises(cs.DivergenceError, "step 1 of 2: the first non-finite value is in gate exp"):
        run.retrain([[0.0, 0.1], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("function", "gate", "words"),
    [
        (np.sqrt, "sqrt", "not positive"),
        (lambda v: 1.0 / np.sqrt(v + 1e-300 * (v > 1)), "rsqrt", "not positive"),
        (np.log, "log", "not positive"),
        (lambda v: v**0.3, "power", "not positive"),
        (lambda v: np.log1p(v - 1.0), "log1p", "not greater than -1"),
        (lambda v: 1.0 / v, "reciprocal", "divides by zero"),
        (lambda v: 2.5 / v, "divide", "divides by zero"),
    ],
)
def test_a_gate_without_a_series_is_named_with_its_step(function, gate, words):
    run = make(lambda s, x, keep: s + np.clip(function(keep.sum() + x - 1.0), -5.0, 5.0), batches=[1.0, 0.0])
    with raises(cs.DomainError, f"gate {gate} .*{HERE}.* at step 1 of 2: .*{words}.*; keep"):
        cs.push(run, np.eye(2), 2)
    assert cs.push(run, np.eye(2), 0).order == 0  # without series there is nothing to miss


def test_a_gate_whose_operand_does_not_move_needs_no_series():
    run = make(lambda s, x, keep: s + keep.sum() * np.sqrt(x), batches=[1.0, 0.0])
    np.testing.assert_array_equal(cs.push(run, np.eye(2), 1).state, [[1.0, -1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("function", "gate"),
    [
        (np.abs, "absolute"),
        (cs.relu, "relu"),
        (lambda v: np.maximum(v, 1.0 - v), "maximum"),
        (lambda v: np.minimum(v, v * v + 0.25), "minimum"),
        (lambda v: np.where(v > 0.5 + 1e-17, v, 0.0), "greater"),
    ],
)
@pytest.mark.parametrize("away", [False, True])
def test_a_kink_within_rounding_warns(function, gate, away):
    at = 0.0 if gate in ("absolute", "relu") else 0.5
    run = make(
        lambda s, x, keep: s + function(keep.sum() * x + at - 0.3),
        batches=[0.3, 0.4 if away else 0.3, 0.9],
        examples=[[0]] * 3,
    )
    with pytest.warns(cs.KinkWarning, match=f"gate {gate} .*{HERE}.*in {1 if away else 2} step.*first at step 0"):
        cs.push(run, [[1.0]], 2)
    far = make(lambda s, x, keep: s + function(keep.sum() * x + at), batches=[0.3], examples=[[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cs.push(far, [[1.0]], 2)
        run.train()  # values there are, on a kink too


def test_a_kink_of_a_measurement_warns():
    with pytest.warns(cs.KinkWarning, match=f"gate absolute .*{HERE}"):
        SKETCH.measure(lambda p: np.abs(p - 11.0))


def test_coefficients_beyond_the_dtype_name_the_order():
    run = make(lambda s, x, keep: s * keep.sum(), 1.0, [0.0] * 4, [[0], [0], [1], [1]])
    directions = np.array([[1.0, 0.0], [1e13, 1e13]])
    with raises(cs.DivergenceError, "coefficient 3 along direction 1 .* complex64 .*complex128 or an order below 3"):
        cs.push(run, directions, 4, dtype=np.complex64)
    assert np.all(np.isfinite(cs.push(run, directions, 2, dtype=np.complex64).state))
    assert np.all(np.isfinite(cs.push(run, directions, 4).state))
    with raises(cs.DivergenceError, "coefficient 4 along direction 0 .* complex128 .*use an order below 4 or smaller"):
        cs.push(run, [[1e100, 1e100]], 4)


def test_constants_beyond_single_precision_ask_for_double():
    run = make(lambda s, x, keep: s * x * keep.sum(), 1.0, [1e20] * 3, [[0]] * 3)
    assert run.train() == pytest.approx(1e60)
    with raises(cs.DivergenceError, "complex64.*use dtype=complex128"):
        cs.push(run, [[1.0]], 1, dtype=np.complex64)


# What failed leaves nothing behind.


def test_a_run_works_after_a_failure():
    run = make(lambda s, x, keep: s + np.log(keep.sum()) * x)
    before = run.train(), run.retrain([[0.5, 0.5]]), cs.push(run, np.eye(2), 2).state
    circuits, schedule = list(run.circuits), run.schedule
    failures = (
        (lambda: run.retrain([7]), cs.InputError),
        (lambda: run.retrain([0]), cs.DivergenceError),
        (lambda: run.retrain([[0.5, 0.5], [0.0, 1.0]]), cs.DivergenceError),
        (lambda: cs.push(run, np.ones((1, 3)), 2), cs.InputError),
        (lambda: cs.push(run, np.eye(2), -1), cs.InputError),
        (lambda: cs.push(run, 1e300 * np.eye(2), 2), cs.DivergenceError),
    )
    for act, kind in failures:
        with pytest.raises(kind):
            act()
        after = run.train(), run.retrain([[0.5, 0.5]]), cs.push(run, np.eye(2), 2).state
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert run.circuits == circuits and run.schedule is schedule


def test_an_exception_of_the_users_own_comes_through_and_leaves_the_run_whole():
    def stop(done, of):
        raise KeyError("enough")

    for threads in (1, 2):
        with pytest.raises(KeyError, match="enough"):
            cs.sketch(RUN, 100, 1, threads=threads, progress=stop)
    assert cs.sketch(RUN, 8, 1).measure(lambda p: p).baseline == 11.0

    def broken(state, x, keep):
        return state["missing"]

    with pytest.raises(KeyError, match="missing"):
        make(broken, {"a": 0.0})


def test_every_error_of_the_package_has_one_base():
    for kind in (cs.InputError, cs.TraceError, cs.ShapeError, cs.DomainError, cs.DivergenceError):
        assert issubclass(kind, cs.CircuitSketchError)
    assert issubclass(cs.InputError, ValueError) and issubclass(cs.KinkWarning, UserWarning)
