"""The theorem's Monte Carlo estimator: norms of the tensors, and warnings."""

import math

import numpy as np
import pytest
from polynomials import RANDOM, coefficients_of, log_factors, query_of, symmetric

from circuitsketch.attribution.query import Query
from circuitsketch.directions import Given, Orthonormal, Sphere
from circuitsketch.estimators import monte_carlo

# ---------------------------------------------------------------------------------------- norms and warnings


@pytest.mark.parametrize("distribution", RANDOM)
def test_the_measured_norms_are_those_of_the_tensors(distribution):
    rng = np.random.default_rng(7)
    n = 4
    tensors = [symmetric(rng, n, r) for r in (1, 2, 3)]
    found = query_of(tensors, distribution(n, 3), 4000).stability()
    truth = np.array([np.sqrt((tensor**2).sum()) for tensor in tensors])
    assert np.all(abs(found.norms - truth) < 5 * found.stderr + 1e-12)  # five standard errors, or rounding
    assert np.all(found.stderr < 0.1 * truth)
    assert found.decay(2.0) == pytest.approx(found.norms * [2, 4, 8], rel=1e-12)
    assert found.alpha(2.0) == pytest.approx(max(found.norms * [2, 4, 8]), rel=1e-12)
    if distribution is Orthonormal:
        assert found.stderr[0] == 0  # 4000 directions are a thousand full blocks
    assert "||F_r||" in str(found)


def test_the_error_of_a_norm_is_its_spread_over_seeds():
    tensors = [np.zeros(4), symmetric(np.random.default_rng(7), 4, 2)]
    distribution = Sphere(4, 3)
    found = []
    for start in range(0, 200 * 60, 60):
        series = coefficients_of(tensors, distribution.block(start, start + 60))[:, :, None]
        norm, error = monte_carlo.tensor_norms(series, log_factors(distribution, 2), monte_carlo.arrange(60, groups=1))
        found.append((np.exp(norm[1, 0]), np.exp(norm[1, 0]) * error[1, 0]))
    norms, errors = np.array(found).T
    assert norms.std() == pytest.approx(errors.mean(), rel=0.2)  # 200 runs know it to 5 %


def geometric_query(ratio, order=5):
    """f = sum_r (ratio h)^r in one coordinate."""
    psi = Sphere(1, 2).block(0, 4)
    return Query((ratio * psi) ** np.arange(order + 1), Sphere(1, 2))


def test_a_series_that_grows_is_reported_and_one_that_decays_is_not():
    tame = geometric_query(0.5).predict([1.0])
    assert tame.warnings == ()
    # The terms above order five of 1 / (1 - 1/2) add up to 2^-5.
    assert tame.truncation == pytest.approx(0.5**5, rel=1e-9)
    wild = geometric_query(0.5).predict([2.5])
    assert wild.truncation == np.inf
    assert len(wild.warnings) == 1 and "does not decay" in wild.warnings[0] and "retrain" in wild.warnings[0]
    assert "1.95, 2.44, 3.05" in wild.warnings[0]  # 1.25^3, ^4, ^5
    assert math.isnan(geometric_query(0.5, order=1).predict([1.0]).truncation)


def test_a_polynomial_that_ends_or_has_gaps_raises_no_alarm():
    distribution = Given([[1.0]])
    ends = Query(np.array([[1.0, 2.0, 3.0, 0.0]]), distribution).predict([5.0])
    odd = Query(np.array([[0.0, 1.0, 0.0, -1 / 6]]), distribution).predict([1.0])  # the sine
    assert ends.warnings == () and ends.truncation == 0
    assert odd.warnings == () and 0 < odd.truncation < 0.2
    assert Query(np.array([[1.0, 0.0, 0.0, 0.0]]), distribution).predict([5.0]).warnings == ()


def test_noise_above_the_change_is_reported_with_a_remedy():
    n = 200
    query = query_of([np.eye(n)[0]], Sphere(n, 1), 20)
    found = query.predict(np.eye(n)[1])  # the truth is zero
    assert any("statistical error exceeds the change" in text for text in found.warnings)
    assert any("smaller than their error" in text for text in query.influence().warnings)
    sure = query_of([np.ones(2)], Sphere(2, 1), 400).predict([1.0, 1.0])
    assert sure.warnings == ()


def test_nothing_changes_when_nothing_is_deleted():
    found = query_of([np.ones(3), np.eye(3)], Sphere(3, 1), 50, constant=4).predict(np.zeros(3))
    assert (found.value, found.change, found.stderr, found.warnings) == (4.0, 0.0, 0.0, ())


def test_outside_the_region_of_trust_more_directions_are_no_remedy():
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(40, 4)) * [0.0, 1.0, 10.0, 100.0]
    found = Query(np.where(np.arange(4) == 0, 1.0, coefficients), Sphere(30, 1)).predict(np.ones(30))
    assert bool(np.all(found.outside)) and float(found.stderr) > abs(float(found.change))
    assert any("outside the region of trust" in text for text in found.warnings)
    assert not any("directions" in text for text in found.warnings)
