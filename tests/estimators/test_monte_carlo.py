"""The theorem's Monte Carlo estimator: unbiased, of the variance that the theory gives, exact where it can be."""

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polynomials import RANDOM, along, query_of, samples_of, steady, symmetric, terms_of

from circuitsketch.attribution.query import Query
from circuitsketch.directions import Gaussian, Given, Orthonormal, Sphere
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.estimators import monte_carlo

# ---------------------------------------------------------------------------------------- unbiased, and its variance


@pytest.mark.parametrize("n", [3, 4, 6])
@pytest.mark.parametrize("distribution", RANDOM)
def test_the_estimate_is_unbiased_at_every_order(distribution, n):
    rng = np.random.default_rng(n)
    tensors = [symmetric(rng, n, r) for r in (1, 2, 3)]
    h = rng.normal(size=n) / np.sqrt(n)
    found = query_of(tensors, distribution(n, seed=n), 4000, constant=2.5, groups=1).predict(h)
    truth = terms_of(tensors, h)
    # Five standard errors; at order one an orthonormal distribution is exact but for rounding and its last, partial
    # block.
    assert np.all(abs(found.terms - truth) < 5 * found.term_stderr + 1e-10)
    assert abs(found.change - truth.sum()) < 5 * found.stderr
    assert found.value == 2.5 + found.change and found.baseline == 2.5
    assert found.stderr < 0.5 * abs(truth).sum() + 0.1  # so that the bounds above say something


def outer_power(h, r):
    """h (x) ... (x) h, r times."""
    power = h
    for _ in range(r - 1):
        power = np.multiply.outer(power, h)
    return power


def only(tensor):
    """The tensors of a function whose single order is that of `tensor`."""
    n, r = len(tensor), tensor.ndim
    return [np.zeros((n,) * s) for s in range(1, r)] + [tensor]


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("distribution", [Sphere, Gaussian])
def test_the_variance_is_that_of_the_theory_and_below_its_bound(distribution, r):
    n = 3
    rng = np.random.default_rng(10 + r)
    tensor, h = symmetric(rng, n, r), rng.normal(size=n)
    query = query_of(only(tensor), distribution(n, seed=r), 6000)
    square = samples_of(query, h)[-1] ** 2 + samples_of(query, h, turn=-1j)[-1] ** 2
    # |Z_r| is a polynomial of degree 2r with the tensor sym(h^r (x) F_r): (2r)! over r!^2 times its norm squared.
    product = np.multiply.outer(outer_power(h, r), tensor)
    orders = list(permutations(range(2 * r)))
    whole = sum(product.transpose(p) for p in orders) / len(orders)
    exact = math.comb(2 * r, r) * (whole**2).sum()
    if distribution is Sphere:
        exact *= math.comb(n + r - 1, r) ** 2 / math.comb(n + 2 * r - 1, 2 * r) / math.comb(2 * r, r)
    assert exact <= math.comb(2 * r, r) * (h @ h) ** r * (tensor**2).sum()
    error = square.std() / np.sqrt(len(square))
    assert abs(square.mean() - exact) < 5 * error  # five standard errors
    assert error < 0.25 * exact  # so that they say something


@pytest.mark.parametrize("r", [1, 2, 3])
def test_the_real_part_halves_the_variance_where_the_truth_is_zero(r):
    n = 4
    rng = np.random.default_rng(20 + r)
    tensor, h = symmetric(rng, n, r), rng.normal(size=n)
    tensor = tensor - outer_power(h, r) * (along(tensor, h[None])[0] / (h @ h) ** r)
    query = query_of(only(tensor), Gaussian(n, seed=2), 6000)
    real, imaginary = samples_of(query, h)[-1], samples_of(query, h, turn=-1j)[-1]
    excess = real**2 - imaginary**2
    error = excess.std() / np.sqrt(len(excess))
    assert abs(excess.mean()) < 5 * error  # five standard errors
    assert error < 0.15 * (real**2 + imaginary**2).mean()  # so that they say something


# ---------------------------------------------------------------------------------------- exact where it can be


@steady
@given(
    distribution=st.sampled_from([Sphere, Orthonormal]),
    numbers=st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    h=st.floats(-1.5, 1.5),
    m=st.integers(1, 60),
)
def test_in_one_coordinate_every_polynomial_is_exact(distribution, numbers, h, m):
    psi = distribution(1, seed=4).block(0, m)[:, 0]
    series = np.stack([np.ones(m), *(c * psi**r for r, c in enumerate(numbers, start=1))], axis=1)
    found = Query(series, distribution(1, seed=4)).predict([h])  # h may be a subnormal number
    truth = math.fsum(c * h**r for r, c in enumerate(numbers, start=1))
    # Twelve terms of size up to 3 x 1.5^12 = 400, each to some 200 roundings.
    assert found.change == pytest.approx(truth, abs=1e-10)
    assert found.stderr == 0


@pytest.mark.parametrize("groups", [None, 1, 3])
def test_full_orthonormal_blocks_are_exact_at_order_one(groups):
    rng = np.random.default_rng(0)
    n = 12
    gradient, h = rng.normal(size=n), rng.normal(size=n)
    for blocks in (1, 3):
        if blocks == 1 and groups == 3:
            continue
        found = query_of([gradient], Orthonormal(n, 3), blocks * n, groups=groups).predict(h)
        assert found.change == pytest.approx(gradient @ h, abs=1e-13)  # rounding of 12 terms
        assert found.stderr == 0 and found.term_stderr[0] == 0
        assert found.interval() == (found.value, found.value)


@steady
@given(
    numbers=st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    t=st.floats(-2, 2, allow_subnormal=False),
    which=st.integers(0, 2),
)
def test_along_a_given_direction_the_series_is_exact(numbers, t, which):
    distribution = Given(np.array([[1.0, 2.0, 0.0], [0.0, 0.5, -1.0], [3.0, 0.0, 0.0]]))
    rows = [[7.0, *((j + 1) * c for c in numbers)] for j in range(3)]
    found = Query(np.array(rows), distribution).predict(t * distribution.vectors[which])
    truth = [(which + 1) * c * t**r for r, c in enumerate(numbers, start=1)]
    assert found.terms == pytest.approx(truth, rel=1e-13, abs=1e-13)
    assert found.value == pytest.approx(7 + math.fsum(truth), rel=1e-13, abs=1e-13)
    assert found.estimator == "series" and found.stderr == 0


def test_a_complex_given_direction_answers_for_its_real_multiple():
    distribution = Given(np.array([[1j, 2j]]))
    found = Query(np.array([[0, 3j, -5]]), distribution).predict([2.0, 4.0])  # f = 3 x_1 + 5 x_1^2
    assert found.terms == pytest.approx([6, 20], rel=1e-14)


def test_given_directions_refuse_other_downweights():
    query = Query(np.array([[0, 1.0]]), Given([[1.0, 2.0]]))
    with pytest.raises(InputError, match="no multiple of a given direction.*random distribution"):
        query.predict([1.0, 2.0 + 1e-6])
    with pytest.raises(InputError, match="no multiple"):
        query.predict([1e200, 1e199])
    assert query.predict([1e200, 2e200]).value == pytest.approx(1e200, rel=1e-14)
    with pytest.raises(InputError, match="h number 1"):
        query.predict([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InputError, match="use a random distribution"):
        query.stability()
    with pytest.raises(InputError, match="no median"):
        query.predict([1.0, 2.0], median_groups=3)


def test_basis_directions_give_every_influence_exactly():
    rng = np.random.default_rng(1)
    n = 7
    tensors = [symmetric(rng, n, r) for r in (1, 2, 3)]
    found = query_of(tensors, Given(2 * np.eye(n)), n).influence()
    truth = [terms_of(tensors, e).sum() for e in np.eye(n)]
    assert found.change == pytest.approx(truth, rel=1e-12)
    assert not found.stderr.any() and not found.warnings


def test_an_exponential_is_predicted_within_its_error():
    rng = np.random.default_rng(2)
    n, order, m = 5, 8, 3000
    slope, h = rng.normal(size=n), np.array([0.3, -0.2, 0.1, 0.4, 0.0])
    for distribution in (Sphere(n, 1), Gaussian(n, 1), Orthonormal(n, 1)):
        inner = distribution.block(0, m) @ slope
        series = np.stack([inner**r / math.factorial(r) for r in range(order + 1)], axis=1)
        found = Query(series, distribution).predict(h)
        # Five standard errors; the terms above order 8 are below 1e-6.
        assert abs(found.value - math.exp(slope @ h)) < 5 * found.stderr
        assert found.truncation < 1e-2 and not any("decay" in text for text in found.warnings)


# ---------------------------------------------------------------------------------------- far orders


def exact_power_terms(n, q, p, r):
    """Re C(n+r-1, r) / n^r (q p)^r in fractions of whole numbers."""
    a, b = Fraction(q.real), Fraction(q.imag)
    c, d = Fraction(p.real), Fraction(p.imag)
    x, y = a * c - b * d, a * d + b * c
    u, v = Fraction(1), Fraction(0)
    for _ in range(r):
        u, v = u * x - v * y, u * y + v * x
    return u * math.comb(n + r - 1, r) / n**r


def test_order_a_hundred_in_a_thousand_coordinates_is_right():
    n, order, m = 1000, 100, 3
    distribution = Sphere(n, 6)
    rng = np.random.default_rng(6)
    slope, h = rng.normal(size=n) / 10, np.ones(n)  # |slope| is about 3, |h| about 32
    inner = distribution.block(0, m) @ slope
    series = inner[:, None] ** np.arange(order + 1)
    samples = samples_of(Query(series, distribution), h)
    q = (distribution.block(0, m) @ h).conj()
    for r in (1, 10, 100):
        truth = [float(exact_power_terms(n, q[j], inner[j], r)) for j in range(m)]
        # Powers take r times the rounding of the inner products, exponentials of 500 another 1e-13.
        assert samples[r - 1] == pytest.approx(truth, rel=1e-11 * r)
    found = Query(series, distribution).predict(h)
    assert np.isfinite(found.terms).all() and np.isfinite(found.value)


def test_a_power_that_overflows_alone_meets_its_small_coefficient():
    # <psi, h>^100 = 10^600, factor x coefficient = 10^-600: only together are they one.
    n, r = 10**6, 100
    factor = math.log(math.comb(n + r - 1, r)) - r * math.log(n)
    tiny = np.zeros((1, r + 1, 1), dtype=complex)
    tiny[0, r] = 1e-300
    factors = np.zeros(r)
    factors[-1] = factor
    found = monte_carlo.contributions(tiny, np.array([[1e6 + 0j]]), factors)[-1, 0, 0, 0]
    assert found == pytest.approx(math.exp(factor + 300 * math.log(10)), rel=1e-11)
    assert np.isfinite(Sphere(n).log_factor(r))


@pytest.mark.parametrize("tiny", [1e-310, 5e-324])
def test_subnormal_numbers_are_estimated(tiny):
    # A subnormal number keeps few digits: its products are right to one unit of the smallest number, times |psi| < 3.
    distribution = Sphere(2, 1)
    slope = query_of([np.array([3.0, 1.0])], distribution, 400, groups=1)
    assert slope.predict([tiny, 0.0]).change == pytest.approx(tiny * slope.predict([1.0, 0.0]).change, abs=5e-322)
    small = Query(slope.coefficients * tiny, distribution, median_groups=1)
    assert small.predict([1.0, 0.0]).change == pytest.approx(tiny * slope.predict([1.0, 0.0]).change, abs=5e-322)
    assert np.isfinite(small.stability().norms).all()


def test_terms_that_overflow_are_refused():
    query = query_of([np.ones(2), np.eye(2)], Sphere(2, 1), 10)
    with pytest.raises(DivergenceError, match="outside the region"):
        query.predict([1e200, 1e200])
    with pytest.raises(DivergenceError, match="outside the region"):
        Query(np.array([[0, 1.0, 1e300]]), Given([[1.0]])).predict([1e10])
