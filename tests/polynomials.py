"""Polynomials with given symmetric tensors, whose Taylor series are known, and queries that measured them."""

from itertools import permutations

import numpy as np
from hypothesis import settings

from circuitsketch.attribution.query import Query
from circuitsketch.directions import Gaussian, Orthonormal, Sphere
from circuitsketch.estimators import monte_carlo

RANDOM = [Sphere, Gaussian, Orthonormal]
LETTERS = "abcdef"
steady = settings(derandomize=True, deadline=None, max_examples=20)


# ---------------------------------------------------------------------------------------- the model of a function


def symmetric(rng, n, r, similarity=None):
    """A random symmetric r-tensor on R^n, of covariance similarity^(x r) if there is one."""
    tensor = rng.normal(size=(n,) * r)
    if similarity is not None:
        root = np.linalg.cholesky(similarity + 1e-12 * np.eye(n))
        for axis in range(r):
            tensor = np.moveaxis(np.tensordot(root, tensor, (1, axis)), 0, axis)
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


def query_of(tensors, distribution, m, constant=0.0, groups=None):
    return Query(coefficients_of(tensors, distribution.block(0, m), constant), distribution, median_groups=groups)


def query_with_singles(tensors, m, n, factor=None, seed=0, **more):
    """A query of m directions on the sphere and of the series of every single example; the constant is 1."""
    distribution = Sphere(n, seed)
    per_example = coefficients_of(tensors, np.eye(n), 1.0).real
    coefficients = coefficients_of(tensors, distribution.block(0, m), 1.0) if m else np.zeros((0, len(tensors) + 1))
    return Query(coefficients, distribution, per_example=per_example, similarity=factor, **more)


def terms_of(tensors, h):
    return np.array([along(tensor, h[None])[0] for tensor in tensors])


def log_factors(distribution, order):
    return np.array([distribution.log_factor(r) for r in range(1, order + 1)])


def samples_of(query, h, turn=1):
    """Re Z_r of each direction (order, m); turn = -1j gives the imaginary parts."""
    inner = monte_carlo.inner_products(query.directions, h[None])
    found = monte_carlo.contributions(
        (turn * query.coefficients)[:, :, None], inner, log_factors(query.distribution, query.order)
    )
    return found[:, 0, :, 0]
