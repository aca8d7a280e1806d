"""The theorem's estimator, its errors and its warnings, on polynomials whose tensors are known."""

import json
import math
import statistics
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitsketch.attribution.prediction import Prediction
from circuitsketch.attribution.query import Query
from circuitsketch.directions import Gaussian, Given, Orthonormal, Sphere
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.estimators import monte_carlo

RANDOM = [Sphere, Gaussian, Orthonormal]
LETTERS = "abcdef"
steady = settings(derandomize=True, deadline=None, max_examples=20)


# ---------------------------------------------------------------------------------------- the model of a function


def symmetric(rng, n, r):
    """A random symmetric r-tensor on R^n."""
    tensor = rng.normal(size=(n,) * r)
    orders = list(permutations(range(r)))
    return sum(tensor.transpose(p) for p in orders) / len(orders)


def along(tensor, vectors):
    """F(v, ..., v) for each row v."""
    letters = LETTERS[: tensor.ndim]
    sums = ",".join(f"z{letter}" for letter in letters)
    return np.einsum(f"{letters},{sums}->z", tensor, *[vectors] * tensor.ndim, optimize=True)


def coefficients_of(tensors, vectors, constant=0.0):
    """Taylor coefficients of constant + sum_r F_r(x, ..., x) at zero along each row: (m, order+1)."""
    columns = [np.full(len(vectors), constant, dtype=complex)]
    return np.stack(columns + [along(tensor, vectors) for tensor in tensors], axis=1)


def query_of(tensors, law, m, constant=0.0, groups=None):
    return Query(coefficients_of(tensors, law.block(0, m), constant), law, groups=groups)


def terms_of(tensors, h):
    return np.array([along(tensor, h[None])[0] for tensor in tensors])


def log_factors(law, order):
    return np.array([law.log_factor(r) for r in range(1, order + 1)])


def samples_of(query, h, turn=1):
    """Re Z_r of each direction (order, m); turn = -1j gives the imaginary parts."""
    inner = monte_carlo.inner_products(query.directions, h[None])
    found = monte_carlo.contributions(
        (turn * query.coefficients)[:, :, None], inner, log_factors(query.law, query.order)
    )
    return found[:, 0, :, 0]


# ---------------------------------------------------------------------------------------- unbiased, and its variance


@pytest.mark.parametrize("n", [3, 4, 6])
@pytest.mark.parametrize("law", RANDOM)
def test_the_estimate_is_unbiased_at_every_order(law, n):
    rng = np.random.default_rng(n)
    tensors = [symmetric(rng, n, r) for r in (1, 2, 3)]
    h = rng.normal(size=n) / np.sqrt(n)
    found = query_of(tensors, law(n, seed=n), 4000, constant=2.5, groups=1).predict(h)
    truth = terms_of(tensors, h)
    # Five standard errors; at order one an orthonormal law is exact but for rounding and its last, partial block.
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
@pytest.mark.parametrize("law", [Sphere, Gaussian])
def test_the_variance_is_that_of_the_theory_and_below_its_bound(law, r):
    n = 3
    rng = np.random.default_rng(10 + r)
    tensor, h = symmetric(rng, n, r), rng.normal(size=n)
    query = query_of(only(tensor), law(n, seed=r), 6000)
    square = samples_of(query, h)[-1] ** 2 + samples_of(query, h, turn=-1j)[-1] ** 2
    # |Z_r| is a polynomial of degree 2r with the tensor sym(h^r (x) F_r): (2r)! over r!^2 times its norm squared.
    product = np.multiply.outer(outer_power(h, r), tensor)
    orders = list(permutations(range(2 * r)))
    whole = sum(product.transpose(p) for p in orders) / len(orders)
    exact = math.comb(2 * r, r) * (whole**2).sum()
    if law is Sphere:
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
    law=st.sampled_from([Sphere, Orthonormal]),
    numbers=st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    h=st.floats(-1.5, 1.5),
    m=st.integers(1, 60),
)
def test_in_one_coordinate_every_polynomial_is_exact(law, numbers, h, m):
    psi = law(1, seed=4).block(0, m)[:, 0]
    series = np.stack([np.ones(m), *(c * psi**r for r, c in enumerate(numbers, start=1))], axis=1)
    found = Query(series, law(1, seed=4)).predict([h])  # h may be a subnormal number
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
    law = Given(np.array([[1.0, 2.0, 0.0], [0.0, 0.5, -1.0], [3.0, 0.0, 0.0]]))
    rows = [[7.0, *((j + 1) * c for c in numbers)] for j in range(3)]
    found = Query(np.array(rows), law).predict(t * law.vectors[which])
    truth = [(which + 1) * c * t**r for r, c in enumerate(numbers, start=1)]
    assert found.terms == pytest.approx(truth, rel=1e-13, abs=1e-13)
    assert found.value == pytest.approx(7 + math.fsum(truth), rel=1e-13, abs=1e-13)
    assert found.estimator == "series" and found.stderr == 0


def test_a_complex_given_direction_answers_for_its_real_multiple():
    law = Given(np.array([[1j, 2j]]))
    found = Query(np.array([[0, 3j, -5]]), law).predict([2.0, 4.0])  # f = 3 x_1 + 5 x_1^2
    assert found.terms == pytest.approx([6, 20], rel=1e-14)


def test_any_other_h_needs_a_random_law():
    query = Query(np.array([[0, 1.0]]), Given([[1.0, 2.0]]))
    with pytest.raises(InputError, match="no multiple of a given direction.*random law"):
        query.predict([1.0, 2.0 + 1e-6])
    with pytest.raises(InputError, match="no multiple"):
        query.predict([1e200, 1e199])
    assert query.predict([1e200, 2e200]).value == pytest.approx(1e200, rel=1e-14)
    with pytest.raises(InputError, match="h number 1"):
        query.predict([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InputError, match="use a random law"):
        query.stability()
    with pytest.raises(InputError, match="no groups"):
        query.predict([1.0, 2.0], groups=3)


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
    for law in (Sphere(n, 1), Gaussian(n, 1), Orthonormal(n, 1)):
        inner = law.block(0, m) @ slope
        series = np.stack([inner**r / math.factorial(r) for r in range(order + 1)], axis=1)
        found = Query(series, law).predict(h)
        # Five standard errors; the terms above order 8 are below 1e-6.
        assert abs(found.value - math.exp(slope @ h)) < 5 * found.stderr
        assert found.truncation < 1e-2 and not any("decay" in text for text in found.warnings)


# ---------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(("m", "groups"), [(50, 1), (50, 5), (53, 4), (160, None)])
def test_the_estimate_is_a_median_of_means(m, groups):
    rng = np.random.default_rng(m)
    tensors = [symmetric(rng, 3, r) for r in (1, 2)]
    query = query_of(tensors, Sphere(3, 1), m)
    h = rng.normal(size=3)
    psi = query.directions
    k = groups or 9
    sizes = {m // k, m // k + 1}
    z = [[], []]
    for j in range(m):
        q = sum(complex(x).conjugate() * y for x, y in zip(psi[j], h, strict=True))
        for r in (1, 2):
            z[r - 1].append((math.comb(3 + r - 1, r) / 3**r * q**r * query.coefficients[j, r]).real)
    ends = [m * i // k for i in range(k + 1)]
    assert {b - a for a, b in zip(ends, ends[1:], strict=False)} <= sizes

    def reference(samples):
        return statistics.median(math.fsum(samples[a:b]) / (b - a) for a, b in zip(ends, ends[1:], strict=False))

    found = query.predict(h, groups=groups)
    assert found.groups == k
    # Rounding: other orders of summation of some fifty numbers of size ten.
    assert found.change == pytest.approx(reference([a + b for a, b in zip(*z, strict=True)]), abs=1e-12)
    assert found.terms == pytest.approx([reference(z[0]), reference(z[1])], abs=1e-12)


def test_one_wild_direction_moves_the_median_only_within_the_other_groups():
    rng = np.random.default_rng(3)
    query = query_of([symmetric(rng, 4, 2) if r == 2 else rng.normal(size=4) for r in (1, 2)], Sphere(4, 1), 180)
    h = rng.normal(size=4)
    clean = samples_of(query, h).sum(axis=0).reshape(9, 20).mean(axis=1)
    wild = query.coefficients.copy()
    wild[33, 1:] *= 1e12
    found = Query(wild, query.law).predict(h)
    others = np.delete(clean, 1)
    assert others.min() <= found.change <= others.max()
    assert abs(Query(wild, query.law).predict(h, groups=1).change) > 1e8


def test_groups_of_orthonormal_directions_are_whole_blocks():
    assert monte_carlo.arrange(30, block_size=10, groups=3).groups == (10, 10, 10)
    assert monte_carlo.arrange(37, block_size=10, groups=3).groups == (10, 10, 17)
    assert monte_carlo.arrange(50, block_size=10, groups=2).groups == (20, 30)
    assert monte_carlo.arrange(7, block_size=10).groups == (7,)
    assert monte_carlo.arrange(7, block_size=10, groups=2).groups == (3, 4)
    assert monte_carlo.arrange(1000, block_size=100).groups == (100,) * 8 + (200,)
    assert monte_carlo.arrange(1000, block_size=300).groups == (300, 300, 400)
    with pytest.raises(InputError, match="at most 4 groups, not 5"):
        monte_carlo.arrange(37, block_size=10, groups=5)
    with pytest.raises(InputError, match="at most 7"):
        monte_carlo.arrange(7, block_size=10, groups=8)


# ---------------------------------------------------------------------------------------- standard errors


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9, 10, 25])
def test_the_variance_of_a_median_of_normals_is_known_to_two_percent(k):
    draws = np.median(np.random.default_rng(k).normal(size=(60_000, k)), axis=1)
    # 2 % for the formula and 5 x 0.6 % for 60,000 draws.
    assert monte_carlo.median_variance(k) == pytest.approx(draws.var(), rel=0.05)


def spread_and_report(law, tensors, h, m, groups, runs=300):
    """The empirical standard deviation of the prediction over seeds, and the root mean square of what it reported."""
    found = []
    for start in range(0, runs * m, m):
        psi = law.block(start, start + m)
        inner = monte_carlo.inner_products(psi, h[None])
        series = coefficients_of(tensors, psi)
        grouping = monte_carlo.arrange(m, law.block_size, groups)
        estimate = monte_carlo.estimate(series, inner, log_factors(law, len(tensors)), grouping)
        found.append((estimate.change[0], estimate.stderr[0], *estimate.terms[:, 0], *estimate.term_stderr[:, 0]))
    change, stderr, *rest = np.array(found).T
    half = len(tensors)
    terms, term_stderr = np.array(rest[:half]), np.array(rest[half:])
    return (
        change.std() / np.sqrt((stderr**2).mean()),
        terms.std(axis=1) / np.maximum(np.sqrt((term_stderr**2).mean(axis=1)), 1e-300),
    )


@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize("law", [Sphere, Gaussian])
def test_the_reported_error_is_the_spread_over_seeds(law, groups):
    rng = np.random.default_rng(4)
    tensors = [rng.normal(size=4), symmetric(rng, 4, 2)]
    total, terms = spread_and_report(law(4, 11), tensors, rng.normal(size=4) / 2, 120, groups)
    # 300 runs know a standard deviation to 4 %; heavy tails and the normal approximation of the median add.
    assert total == pytest.approx(1, abs=0.2)
    assert terms == pytest.approx(1, abs=0.2)


class Fresh:
    """Orthonormal directions whose every block of m is the beginning of a new unitary."""

    def __init__(self, n, m):
        self.n, self.m, self.block_size = n, m, n

    def block(self, start, stop):
        return Orthonormal(self.n, start // self.m).block(0, stop - start)

    def log_factor(self, r):
        return Sphere(self.n).log_factor(r)


@pytest.mark.parametrize("m", [4, 6, 8, 20, 24])
def test_the_error_of_part_of_a_block_is_exact_at_order_one_and_a_bound_above(m):
    rng = np.random.default_rng(5)
    n = 8
    tensors = [rng.normal(size=n), symmetric(rng, n, 2)]
    total, terms = spread_and_report(Fresh(n, m), tensors, rng.normal(size=n) / 2, m, None, runs=600)
    if m < n:
        assert terms[0] == pytest.approx(1, abs=0.2)  # 400 runs of heavy-tailed samples of 4 or 6
    # Above order one the reported error may be too large, by the part of the variance that orthogonality removes.
    assert 0.5 < terms[1] < 1.15
    assert 0.5 < total < 1.15


@pytest.mark.parametrize(("n", "groups"), [(2, 1), (3, 5)])
def test_many_small_blocks_tell_their_error_by_the_spread_between_them(n, groups):
    # A tensor v (x) v with v far from h: both directions of a pair say nearly the same, wrong in the same way.
    rng = np.random.default_rng(1)
    v, h = rng.normal(size=n), np.eye(n)[0]
    tensors = [np.zeros(n), np.multiply.outer(v, v)]
    _, terms = spread_and_report(Orthonormal(n, 5), tensors, h, 15 * n, groups, runs=300)
    # 300 runs know a standard deviation to 4 %; fifteen blocks of heavy-tailed means add some bias.
    assert terms[1] == pytest.approx(1, abs=0.2)


def test_one_direction_has_no_known_error():
    found = query_of([np.ones(3)], Sphere(3), 1).predict([1.0, 0, 0])
    assert found.stderr == np.inf and found.interval() == (-np.inf, np.inf)
    assert any("unknown" in text for text in found.warnings)
    assert found.to_dict()["stderr"] is None


def test_the_interval_is_student_s():
    found = query_of([np.arange(3.0)], Sphere(3, 1), 12).predict([1.0, 1, 0])
    low, high = found.interval(0.95)
    # 2.200985 is the 97.5 % quantile for 11 degrees of freedom in any printed table.
    assert (high - low) / 2 == pytest.approx(2.200985 * found.stderr, rel=1e-6)
    assert (high + low) / 2 == pytest.approx(found.value, rel=1e-12)
    with pytest.raises(InputError, match="between 0 and 1"):
        found.interval(95)


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
    law = Sphere(n, 6)
    rng = np.random.default_rng(6)
    slope, h = rng.normal(size=n) / 10, np.ones(n)  # |slope| is about 3, |h| about 32
    inner = law.block(0, m) @ slope
    series = inner[:, None] ** np.arange(order + 1)
    samples = samples_of(Query(series, law), h)
    q = (law.block(0, m) @ h).conj()
    for r in (1, 10, 100):
        truth = [float(exact_power_terms(n, q[j], inner[j], r)) for j in range(m)]
        # Powers take r times the rounding of the inner products, exponentials of 500 another 1e-13.
        assert samples[r - 1] == pytest.approx(truth, rel=1e-11 * r)
    found = Query(series, law).predict(h)
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
def test_numbers_below_the_normal_ones_are_numbers(tiny):
    # A subnormal number keeps few digits: its products are right to one unit of the smallest number, times |psi| < 3.
    law = Sphere(2, 1)
    slope = query_of([np.array([3.0, 1.0])], law, 400, groups=1)
    assert slope.predict([tiny, 0.0]).change == pytest.approx(tiny * slope.predict([1.0, 0.0]).change, abs=5e-322)
    small = Query(slope.coefficients * tiny, law, groups=1)
    assert small.predict([1.0, 0.0]).change == pytest.approx(tiny * slope.predict([1.0, 0.0]).change, abs=5e-322)
    assert np.isfinite(small.stability().norms).all()


def test_terms_that_leave_the_floats_are_refused():
    query = query_of([np.ones(2), np.eye(2)], Sphere(2, 1), 10)
    with pytest.raises(DivergenceError, match="outside the region"):
        query.predict([1e200, 1e200])
    with pytest.raises(DivergenceError, match="outside the region"):
        Query(np.array([[0, 1.0, 1e300]]), Given([[1.0]])).predict([1e10])


# ---------------------------------------------------------------------------------------- norms and warnings


@pytest.mark.parametrize("law", RANDOM)
def test_the_measured_norms_are_those_of_the_tensors(law):
    rng = np.random.default_rng(7)
    n = 4
    tensors = [symmetric(rng, n, r) for r in (1, 2, 3)]
    found = query_of(tensors, law(n, 3), 4000).stability()
    truth = np.array([np.sqrt((tensor**2).sum()) for tensor in tensors])
    assert np.all(abs(found.norms - truth) < 5 * found.stderr + 1e-12)  # five standard errors, or rounding
    assert np.all(found.stderr < 0.1 * truth)
    assert found.decay(2.0) == pytest.approx(found.norms * [2, 4, 8], rel=1e-12)
    assert found.alpha(2.0) == pytest.approx(max(found.norms * [2, 4, 8]), rel=1e-12)
    if law is Orthonormal:
        assert found.stderr[0] == 0  # 4000 directions are a thousand full blocks
    assert "||F_r||" in str(found)


def test_the_error_of_a_norm_is_its_spread_over_seeds():
    tensors = [np.zeros(4), symmetric(np.random.default_rng(7), 4, 2)]
    law = Sphere(4, 3)
    found = []
    for start in range(0, 200 * 60, 60):
        series = coefficients_of(tensors, law.block(start, start + 60))[:, :, None]
        norm, error = monte_carlo.tensor_norms(series, log_factors(law, 2), monte_carlo.arrange(60, groups=1))
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
    law = Given([[1.0]])
    ends = Query(np.array([[1.0, 2.0, 3.0, 0.0]]), law).predict([5.0])
    odd = Query(np.array([[0.0, 1.0, 0.0, -1 / 6]]), law).predict([1.0])  # the sine
    assert ends.warnings == () and ends.truncation == 0
    assert odd.warnings == () and 0 < odd.truncation < 0.2
    assert Query(np.array([[1.0, 0.0, 0.0, 0.0]]), law).predict([5.0]).warnings == ()


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


# ---------------------------------------------------------------------------------------- shapes, batches, questions


def wide_query(law, m=80, shape=(2, 3), order=3, seed=8):
    """A measurement of six values, each its own polynomial."""
    rng = np.random.default_rng(seed)
    psi = law.block(0, m)
    cells = [
        coefficients_of([symmetric(rng, law.n, r) for r in range(1, order + 1)], psi, constant=i) for i in range(6)
    ]
    return Query(np.stack(cells, axis=2).reshape(m, order + 1, *shape), law)


@pytest.mark.parametrize("law", [Sphere(5, 1), Gaussian(5, 1), Orthonormal(5, 1)])
def test_a_measurement_of_many_values_is_each_of_them(law):
    query = wide_query(law)
    h = np.array([0.5, 0, 0, -1, 0.2])
    found, stability, influence = query.predict(h), query.stability(), query.influence()
    assert found.value.shape == (2, 3) and found.terms.shape == (3, 2, 3) and influence.change.shape == (5, 2, 3)
    for cell in np.ndindex(2, 3):
        one = Query(query.coefficients[(slice(None), slice(None), *cell)], law)
        single = one.predict(h)
        # Six values are scaled together before they are weighed: some roundings.
        assert found.value[cell] == pytest.approx(single.value, rel=1e-12)
        assert found.stderr[cell] == pytest.approx(single.stderr, rel=1e-12)
        assert found.terms[(slice(None), *cell)] == pytest.approx(single.terms, rel=1e-11)
        assert found.truncation[cell] == pytest.approx(single.truncation, rel=1e-11)
        assert stability.norms[(slice(None), *cell)] == pytest.approx(one.stability().norms, rel=1e-12)
        assert influence.change[(slice(None), *cell)] == pytest.approx(one.influence().change, rel=1e-11)
        assert query.baseline[cell] == one.baseline


def test_a_batch_is_its_members():
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


@pytest.mark.parametrize("law", RANDOM)
def test_influences_are_the_predictions_of_single_deletions(law, monkeypatch):
    query = wide_query(law(7, 2))
    whole = query.influence()
    for i in range(7):
        one = query.without([i])
        assert whole.change[i] == pytest.approx(one.change, rel=1e-12, abs=1e-14)
        assert whole.stderr[i] == pytest.approx(one.stderr, rel=1e-12, abs=1e-14)
    monkeypatch.setattr(monte_carlo, "CELLS_AT_ONCE", 3 * 80 * 6 * 2)  # two examples at a time
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


def test_every_form_of_a_deletion_set_asks_the_same_question():
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
    assert query.predict(h, order=2, groups=1).change == pytest.approx(
        query.predict(h, groups=1).terms[:2].sum(axis=0), rel=1e-12
    )


def test_single_precision_coefficients_serve_as_well():
    query = wide_query(Sphere(5, 1))
    narrow = Query(query.coefficients.astype(np.complex64), query.law)
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
    assert "law 'sphere' in 3 coordinates" in str(query) and str(query) in repr(query)


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
        (lambda q: Query(np.ones(3), q.law), r"shape \(directions, order \+ 1"),
        (lambda q: Query(np.ones((3, 0)), q.law), "order 0, not"),
        (lambda q: Query(np.ones((3, 1)), q.law).predict(np.ones(3)), "nothing of changes"),
        (lambda q: Query(np.ones((3, 2, 0)), q.law), "nothing to predict"),
        (lambda q: Query(np.array([["a", "b"]]), q.law), "are numbers"),
        (
            lambda q: Query(np.array([[0, 1], [0, np.nan]]), q.law),
            "direction 1 has a NaN or an infinity at order 1",
        ),
        (lambda q: Query(np.array([[0, 1], [1, 1.0]]), q.law), "same for every direction"),
        (lambda q: Query(np.array([[1j, 1]]), q.law), "real and the same"),
        (
            lambda q: Query(np.ones((3, 2)), Given(np.ones((2, 4)))),
            "3 directions were measured and the law has 2",
        ),
        (lambda q: Query(q.coefficients, q.law, groups=0), "number of groups"),
        (lambda q: Query(q.coefficients, q.law, groups=99), "99 groups"),
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
def test_what_cannot_be_asked_is_refused_with_a_reason(act, words):
    query = query_of([np.ones(3), np.eye(3)], Sphere(3, 1), 20)
    with pytest.raises(InputError, match=words):
        act(query)
