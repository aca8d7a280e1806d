"""What a metagradient refuses, in words; and what it says while it computes."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import make, raises

import circuitsketch as cs
from circuitsketch import limits
from circuitsketch.reverse import forward


def smooth(**options):
    return make(lambda s, x, keep: np.tanh(s + keep.sum() * x), **options)


ARGUMENTS = {
    "directions": (np.ones((2, 3)), r"directions must have shape \(directions, 2\), not \(2, 3\)"),
    "at": (np.ones(3), r"at must have shape \(2,\), one downweight per example, not \(3,\)"),
    "checkpoints": (0, "checkpoints must be an integer of at least 1, not 0"),
    "threads": (0, "threads"),
    "dtype": ("int8", "complex128 or complex64"),
    "device": ("cuda", "reverse-mode differentiation is not available on device 'cuda'; use device='cpu'"),
    "progress": (3, r"progress must be True or a function of \(steps done, steps in total\)"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_that_cannot_be_is_refused(name):
    value, words = ARGUMENTS[name]
    with raises(cs.InputError, words):
        cs.metagradient(smooth(), lambda s: s, **{name: value})


def test_more_arguments_that_cannot_be():
    with raises(cs.InputError, "run must be a cs.Training, not function"):
        cs.metagradient(lambda s: s, smooth())
    with raises(cs.InputError, "order must be an integer of at least 1, not 0"):
        cs.metagradient(smooth(), lambda s: s, directions=np.eye(2), order=0)
    with raises(cs.InputError, "order, the highest order .* requires directions="):
        cs.metagradient(smooth(), lambda s: s, order=2)
    with raises(cs.InputError, "direction 1 .*NaN"):
        cs.metagradient(smooth(), lambda s: s, directions=[[1.0, 0.0], [np.nan, 0.0]])
    with raises(cs.InputError, "at contains NaN"):
        cs.metagradient(smooth(), lambda s: s, at=[np.nan, 0.0])


def test_a_run_that_does_not_depend_on_its_weights_is_refused():
    with raises(cs.InputError, "no part of the state depends on the examples' weights"):
        cs.metagradient(make(lambda s, x, keep: s + x), lambda s: s)
    with raises(cs.InputError, "only through comparisons"):
        cs.metagradient(make(lambda s, x, keep: s + (keep > 0.5).sum() * x), lambda s: s)


def test_a_measurement_that_is_constant_is_refused():
    run = make(lambda s, x, keep: {"a": s["a"] + keep.sum() * x, "b": s["b"]}, {"a": np.zeros(2), "b": np.ones(2)})
    for measure in (lambda s: 3.0, lambda s: s["b"].sum()):
        with raises(cs.InputError, "depends on no part of the trained state that"):
            cs.metagradient(run, measure)
    with raises(cs.TraceError, "only through comparisons, here gate greater"):
        cs.metagradient(run, lambda s: (s["a"] > 0.0).sum())
    with raises(cs.InputError, "locally constant at the trained parameters"):
        cs.metagradient(run, lambda s: cs.relu(-s["a"]).sum())
    with raises(cs.InputError, "must be a function of the trained parameters"):
        cs.metagradient(run, 3)
    with raises(cs.InputError, "something different each time"):
        cs.metagradient(run, lambda s: s["a"].sum() * np.random.default_rng().normal())


def test_a_part_that_no_weight_changes_has_the_derivative_zero():
    run = make(lambda s, x, keep: {"a": s["a"] + keep.sum() * x, "b": s["b"]}, {"a": np.zeros(2), "b": np.ones(2)})
    gradient = cs.metagradient(
        run, lambda s: {"moved": s["a"], "frozen": s["b"].sum(), "both": s["a"].sum() * s["b"][0]}
    )
    np.testing.assert_array_equal(gradient["moved"], [[-1.0, -10.0]] * 2)
    np.testing.assert_array_equal(gradient["frozen"], [0.0, 0.0])
    np.testing.assert_array_equal(gradient["both"], [-2.0, -20.0])


def test_a_gate_of_the_measurement_without_a_series_is_named():
    with raises(cs.DomainError, "gate log .*test_reverse_refusals"):
        cs.metagradient(make(lambda s, x, keep: s + keep[0] * x), lambda s: np.log(s - 11.0))


def test_a_run_that_diverges_names_its_step():
    run = make(lambda s, x, keep: np.exp(s) * keep[0] * x, 1.0, [1.0] * 6, [[0]] * 6)
    for options in ({}, {"directions": [[1.0]]}):
        with raises(cs.DivergenceError, "training diverged at step 3 of 6"):
            cs.metagradient(run, lambda s: s, **options)


@pytest.mark.parametrize("values", [1, 3])
def test_a_derivative_that_overflows_names_where(values):
    run = make(lambda s, x, keep: 1e160 * s + (keep[0] - 1.0) * x, 0.0, [1.0] * 5, [[0]] * 5)
    with raises(cs.DivergenceError, "derivative with respect to the state before step .* of 5 is not finite"):
        cs.metagradient(run, lambda s: np.stack([s, 2.0 * s, s])[:values])


def test_what_memory_would_not_hold_is_refused_before_anything_is_played(monkeypatch):
    step = lambda s, x, keep: s + keep.sum() * x  # noqa: E731
    run = make(step, np.zeros(1 << 20), np.ones(100), [[0]] * 100)
    for module in (limits, forward):
        monkeypatch.setattr(module, "memory_available", lambda: 64 << 20)
    with raises(
        cs.InputError,
        "10 states and the intermediate values of 10 steps .* would take 168 MB .* 67.1 MB are available",
    ):
        cs.metagradient(run, lambda s: s[0])


@pytest.mark.parametrize(
    "function, directions, sweeps",
    [
        (lambda s: s, None, 1),
        (lambda s: np.stack([s, s * s]), None, 1),  # values are lanes
        (lambda s: np.stack([s, s * s]), np.eye(2), 2),
    ],
)
def test_progress_counts_the_steps_of_all_sweeps(function, directions, sweeps):
    run = smooth(batches=np.ones(20), examples=[[t % 2] for t in range(20)])
    calls = []
    cs.metagradient(run, function, directions=directions, progress=lambda *call: calls.append(call))
    assert calls == sorted(calls) and {steps for _, steps in calls} == {20 * sweeps}
    assert calls[-1] == (20 * sweeps, 20 * sweeps)


def test_what_a_callback_raises_ends_the_sweeps():
    def stop(done, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cs.metagradient(smooth(), lambda s: s, progress=stop, threads=2)


def test_a_result_that_memory_would_not_hold_is_refused(monkeypatch):
    run = smooth(n=1 << 20)
    for module in (limits, forward):
        monkeypatch.setattr(module, "memory_available", lambda: 64 << 20)
    with raises(cs.InputError, r"a result of shape \(6, 1048576\) would take 101 MB .*; use fewer values at a time"):
        cs.metagradient(run, lambda s: s * np.ones(6))


def test_a_measurement_that_is_not_finite_or_has_an_infinite_slope_is_refused():
    with raises(cs.DivergenceError, "value 1 of the measurement is inf at the trained parameters"):
        cs.metagradient(smooth(), lambda s: np.stack([s, np.exp(800.0 * s)]))
    for options in ({}, {"directions": np.eye(2)}):
        with raises(cs.DivergenceError, "derivative of the measurement .* is not finite for value 0"):
            cs.metagradient(smooth(), lambda s: 1e306 * np.sin(400.0 * s), **options)
