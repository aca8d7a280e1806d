"""Distributions of directions: reproducible however they are cut, with the moments that make the estimator unbiased."""

import math
from functools import cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitsketch import directions
from circuitsketch.directions import Gaussian, Given, Orthonormal, Sphere, check_count, find_distribution
from circuitsketch.errors import InputError

RANDOM = [Sphere, Gaussian, Orthonormal]
MANY = 10_000


@cache
def many(distribution):
    """Directions for moments, n = 3."""
    return distribution(3, seed=5).block(0, MANY)


steady = settings(derandomize=True, deadline=None, max_examples=25)


@steady
@given(
    distribution=st.sampled_from(RANDOM),
    n=st.integers(1, 12),
    seed=st.integers(0, 2**64 - 1),
    cuts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
)
def test_a_block_is_the_same_bits_however_it_is_cut(distribution, n, seed, cuts):
    whole = distribution(n, seed).block(0, 30)
    directions._frame.cache_clear()
    ends = sorted({0, 30, *cuts})
    pieces = [distribution(n, seed).block(a, b) for a, b in reversed(list(zip(ends, ends[1:], strict=False)))]
    assert np.array_equal(np.concatenate(pieces[::-1]), whole)
    assert whole.dtype == np.complex128 and whole.shape == (30, n)


@pytest.mark.parametrize("distribution", RANDOM)
def test_another_seed_and_another_index_give_another_direction(distribution):
    rows = np.concatenate([distribution(5, seed).block(0, 12) for seed in (0, 1, 2**63)])
    assert len(np.unique(np.round(rows, 12), axis=0)) == len(rows)


def test_the_directions_of_a_seed_never_change():
    # Sketches keep only their seed. A processor may round a logarithm or a cosine in its own way, hence 1e-14.
    found = Gaussian(n=2, seed=42).block(7, 8)[0]
    words = _philox(key=(42, 7), count=4)
    uniform = [((word >> 12) + 0.5) / 2**52 for word in words]
    expected = [
        math.sqrt(-math.log1p(-u)) * complex(math.cos(2 * math.pi * v), math.sin(2 * math.pi * v))
        for u, v in zip(uniform[:2], uniform[2:], strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-14)


def _philox(key, count):
    """Philox4x64-10 (Salmon et al., 2011) in Python integers; NumPy counts from one."""
    words, counter = [], 1
    while len(words) < count:
        c, (k0, k1) = [counter, 0, 0, 0], key
        for _ in range(10):
            low, high = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
            c = [(high >> 64) ^ c[1] ^ k0, high % 2**64, (low >> 64) ^ c[3] ^ k1, low % 2**64]
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) % 2**64, (k1 + 0xBB67AE8584CAA73B) % 2**64
        words += c
        counter += 1
    return words[:count]


def _symmetric_projection(n, r):
    """P_sym on r-tensors of C^n as a matrix (n^r, n^r): the mean over permutations of the factors."""
    eye = np.eye(n**r).reshape((n,) * (2 * r))
    order = list(permutations(range(r)))
    total = sum(eye.transpose(*p, *range(r, 2 * r)) for p in order)
    return total.reshape(n**r, n**r) / len(order)


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("distribution", RANDOM)
def test_the_moments_are_the_symmetric_projection_over_the_factor(distribution, r):
    n, m = 3, MANY
    powers = psi = many(distribution)
    for _ in range(r - 1):
        powers = np.einsum("ma,mb->mab", powers, psi).reshape(m, -1)
    moment = powers.T @ powers.conj() / m
    exact = math.factorial(r) if distribution is Gaussian else n**r / math.comb(n + r - 1, r)
    spread = np.sqrt(np.einsum("ma,mb->ab", abs(powers) ** 2, abs(powers) ** 2) / m / m)
    # 5 standard errors for up to 27 x 27 entries; orthonormal blocks have a smaller one.
    assert np.all(abs(moment - exact * _symmetric_projection(n, r)) < 5 * spread)
    assert math.exp(-distribution(n).log_factor(r)) == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("distribution", RANDOM)
def test_odd_pairings_vanish(distribution, r):
    samples = many(distribution)[:, 0] ** r * many(distribution)[:, 1]
    assert abs(samples.mean()) < 5 * np.sqrt((abs(samples) ** 2).mean() / MANY)  # 5 standard errors


@pytest.mark.parametrize("n", [1, 3, 1000, 10**6])
def test_the_factor_of_the_sphere_is_the_scaled_binomial(n):
    for r in (1, 2, 3, 17, 100):
        exact = math.log(math.comb(n + r - 1, r)) - r * math.log(n)
        # Both logarithms reach 1400, so their difference is known to some 1e-12.
        assert Sphere(n).log_factor(r) == pytest.approx(exact, abs=2e-12)
        assert Orthonormal(n).log_factor(r) == Sphere(n).log_factor(r)
        assert Gaussian(n).log_factor(r) == pytest.approx(-math.log(math.factorial(r)), rel=1e-14)


def test_sphere_directions_have_length_root_n():
    lengths = np.linalg.norm(Sphere(50, 3).block(10, 40), axis=1)
    assert lengths == pytest.approx(np.sqrt(50), rel=1e-14)


def test_an_orthonormal_block_is_a_unitary_and_blocks_are_apart():
    n = 40
    psi = Orthonormal(n, 9).block(0, 2 * n + 7) / np.sqrt(n)
    for start in (0, n, 2 * n):
        block = psi[start : start + n]
        # Gram and Schmidt done twice is orthogonal to a few roundings.
        assert abs(block @ block.conj().T - np.eye(len(block))).max() < 1e-14
    assert abs(psi[:n] @ psi[n : 2 * n].conj().T).max() > 0.1


def test_given_directions_come_back_as_they_were_and_cannot_be_changed():
    vectors = np.arange(6.0).reshape(3, 2)
    distribution = Given(vectors)
    vectors[0, 0] = 99
    assert np.array_equal(distribution.block(1, 3), [[2, 3], [4, 5]])
    assert distribution.block(0, 1).dtype == np.complex128 and distribution.vectors.dtype == np.float64
    assert (distribution.n, distribution.count, distribution.name, distribution.seed) == (2, 3, "given", None)
    with pytest.raises(ValueError):
        distribution.vectors[0, 0] = 1
    assert Given([[1j, 2]]).vectors.dtype == np.complex128


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Sphere(0), "at least 1, not 0"),
        (lambda: Gaussian(2.5), "not 2.5"),
        (lambda: Orthonormal(True), "not True"),
        (lambda: Sphere(3, -1), "seed is an int from 0"),
        (lambda: Sphere(3, 2**64), "seed is an int from 0"),
        (lambda: Sphere(3, "a"), "seed is an int"),
        (lambda: Sphere(3, None), "seed is an int"),
        (lambda: Sphere(3).block(2, 1), "from start to stop"),
        (lambda: Sphere(3).block(-1, 1), "from start to stop"),
        (
            lambda: find_distribution("cauchy", 3),
            "no distribution of directions called 'cauchy': choose one of sphere, gaussian",
        ),
        (lambda: check_count(0), "at least 1, not 0"),
        (lambda: check_count(1.0), "not 1.0"),
        (lambda: Given([1.0, 2.0]), r"shape \(count, n\)"),
        (lambda: Given(np.zeros((0, 3))), "at least 1"),
        (lambda: Given([[1.0, np.nan]]), "direction 0 holds a NaN"),
        (lambda: Given([["a", "b"]]), "array of numbers"),
        (lambda: Given([[1.0], [1.0, 2.0]]), "array of numbers"),
        (lambda: Given(np.ones((2, 3))).block(0, 3), "direction 2 was asked for and 2 were given"),
        (lambda: Given(np.ones((2, 3))).log_factor(1), "use a random distribution"),
    ],
)
def test_invalid_distributions_are_refused_with_a_reason(act, words):
    with pytest.raises(InputError, match=words):
        act()


def test_distributions_are_found_by_name_and_print_themselves():
    for distribution in RANDOM:
        assert find_distribution(distribution.name, 3, 4) == distribution(3, 4)
        assert repr(distribution(3, np.int64(4))) == f"{distribution.__name__}(n=3, seed=4)"
    assert check_count(np.int32(3)) == 3
