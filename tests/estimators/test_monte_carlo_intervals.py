"""The theorem's Monte Carlo estimator: medians of groups, standard errors and intervals."""

import math
import statistics

import numpy as np
import pytest
from polynomials import coefficients_of, log_factors, query_of, samples_of, symmetric

from circuitsketch.attribution.query import Query
from circuitsketch.directions import Gaussian, Orthonormal, Sphere
from circuitsketch.errors import InputError
from circuitsketch.estimators import grouping, monte_carlo

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

    found = query.predict(h, median_groups=groups)
    assert found.median_groups == k
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
    found = Query(wild, query.distribution).predict(h)
    others = np.delete(clean, 1)
    assert others.min() <= found.change <= others.max()
    assert abs(Query(wild, query.distribution).predict(h, median_groups=1).change) > 1e8


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
    assert grouping.median_variance(k) == pytest.approx(draws.var(), rel=0.05)


def spread_and_report(distribution, tensors, h, m, groups, runs=300):
    """The empirical standard deviation of the prediction over seeds, and the root mean square of what it reported."""
    found = []
    for start in range(0, runs * m, m):
        psi = distribution.block(start, start + m)
        inner = monte_carlo.inner_products(psi, h[None])
        series = coefficients_of(tensors, psi)
        groups_of = monte_carlo.arrange(m, distribution.block_size, groups)
        estimate = monte_carlo.estimate(series, inner, log_factors(distribution, len(tensors)), groups_of)
        found.append((estimate.change[0], estimate.stderr[0], *estimate.terms[:, 0], *estimate.term_stderr[:, 0]))
    change, stderr, *rest = np.array(found).T
    half = len(tensors)
    terms, term_stderr = np.array(rest[:half]), np.array(rest[half:])
    return (
        change.std() / np.sqrt((stderr**2).mean()),
        terms.std(axis=1) / np.maximum(np.sqrt((term_stderr**2).mean(axis=1)), 1e-300),
    )


@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize("distribution", [Sphere, Gaussian])
def test_the_reported_error_is_the_spread_over_seeds(distribution, groups):
    rng = np.random.default_rng(4)
    tensors = [rng.normal(size=4), symmetric(rng, 4, 2)]
    total, terms = spread_and_report(distribution(4, 11), tensors, rng.normal(size=4) / 2, 120, groups)
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
def test_the_error_of_many_small_blocks_is_the_spread_between_them(n, groups):
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
