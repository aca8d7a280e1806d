"""The vector code of exp and erf against mpmath, over their whole range."""

import mpmath
import numpy as np
import pytest
from scipy import special

import circuitsketch as cs
from circuitsketch.lower.instructions import Mode


def by_machine(function, points):
    """A function computed by the compiled constant phase, eight neighbours at a time."""
    points = np.resize(points, -(-len(points) // 8) * 8)
    return points, cs.compile(cs.trace(function, points))(points)


def by_lanes(function, points):
    """A function computed in float32 by kernels of eight lanes that hold values; infinities and NaNs pass."""

    def step(state, batch, keep):
        return {"x": state["x"], "y": function(state["x"] * keep.sum())}

    points = points.astype(np.float32).astype(float)
    run = cs.Training(step, {"x": points, "y": points}, [0.0], [[0]])
    executable = run.executable(Mode(0, complex=False, values=True), np.float32, width=8)
    return points, run.retrain_lanes(np.zeros((2, 1)), executable, 1)[1][1]


def units_off(ours, truth):
    """The largest error of numbers in float32, in units of the last place of the truth."""
    return np.max(np.abs(ours - truth) / np.spacing(np.abs(truth).astype(np.float32)))


def exactly(function, points):
    """The correctly rounded values, by a library of arbitrary precision."""
    with mpmath.workdps(40):
        return np.array([float(function(mpmath.mpf(float(x)))) for x in points])


def test_exp_is_within_two_units_of_the_last_place_over_its_whole_range():
    rng = np.random.default_rng(0)
    points, ours = by_machine(np.exp, np.concatenate([rng.uniform(-708, 709, 3000), rng.uniform(-1, 1, 1000)]))
    truth = exactly(mpmath.exp, points)
    assert np.max(np.abs(ours - truth) / np.spacing(truth)) <= 2


def test_exp_reaches_its_limits():
    points = np.array([0.0, -0.0, 709.78, 710.0, 1e300, np.inf, -745.0, -746.0, -1e300, -np.inf, -720.5, np.nan])
    _, ours = by_machine(np.exp, points)
    with np.errstate(over="ignore"):
        truth = np.exp(points)
    # Subnormal results have fewer digits; the rest agree to two units.
    np.testing.assert_allclose(ours[: len(points)], truth, rtol=5e-16, atol=1e-323)


def test_erf_is_within_four_units_of_the_last_place():
    rng = np.random.default_rng(1)
    spread = [rng.uniform(-7, 7, 3000), rng.uniform(-1.1, 1.1, 1000), rng.normal(size=500) * 1e-9]
    points, ours = by_machine(special.erf, np.concatenate(spread))
    truth = exactly(mpmath.erf, points)
    assert np.max(np.abs(ours - truth) / np.spacing(np.abs(truth))) <= 4


@pytest.mark.parametrize("x, value", [(np.inf, 1.0), (-np.inf, -1.0), (0.0, 0.0), (40.0, 1.0), (-6.0, -1.0)])
def test_erf_reaches_its_limits(x, value):
    _, ours = by_machine(special.erf, np.full(8, x))
    assert np.all(ours == value)


def test_exp_and_erf_of_nan_are_nan():
    for function in (np.exp, special.erf):
        _, ours = by_machine(function, np.full(8, np.nan))
        assert np.isnan(ours).all()


def test_exp_in_float32_is_within_two_units_of_the_last_place():
    rng = np.random.default_rng(2)
    points, ours = by_lanes(np.exp, np.concatenate([rng.uniform(-87, 88.7, 3000), rng.uniform(-1, 1, 1000)]))
    assert units_off(ours, exactly(mpmath.exp, points)) <= 2


def test_exp_in_float32_reaches_its_limits():
    points = np.array([0.0, 88.72, 88.73, 1e30, -1e30, -104.0, -100.0, -87.5])
    points, ours = by_lanes(np.exp, points)
    truth = exactly(mpmath.exp, points)
    truth[truth > np.finfo(np.float32).max] = np.inf
    np.testing.assert_allclose(ours, truth, rtol=3e-7, atol=1.5e-45)


def test_erf_in_float32_is_within_four_units_of_the_last_place():
    rng = np.random.default_rng(3)
    spread = [rng.uniform(-5, 5, 3000), rng.uniform(-1.1, 1.1, 1000), rng.normal(size=500) * 1e-9, [0.0, 40.0, -1e30]]
    points, ours = by_lanes(special.erf, np.concatenate(spread))
    truth = exactly(mpmath.erf, points)
    assert units_off(ours, truth) <= 4 and np.all(np.abs(ours) <= 1)


def test_exp_and_erf_in_float32_of_nan_are_nan():
    for function in (np.exp, special.erf):
        _, ours = by_lanes(lambda x: function(x * x * (x - 1e30)), np.full(8, 1e30))  # noqa: B023
        assert np.isnan(ours).all()
