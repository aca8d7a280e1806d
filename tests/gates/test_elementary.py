"""The vector code of exp and erf against mpmath, over their whole range."""

import mpmath
import numpy as np
import pytest
from scipy import special

import circuitsketch as cs


def by_machine(function, points):
    """A function computed by the compiled constant phase, eight neighbours at a time."""
    points = np.resize(points, -(-len(points) // 8) * 8)
    return points, cs.compile(cs.trace(function, points))(points)


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
