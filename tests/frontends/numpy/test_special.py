"""`circuitsketch.special` against SciPy's values and mpmath's Taylor series."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import special

import circuitsketch as cs
from circuitsketch.errors import DomainError, InputError, ShapeError

X = np.array([[0.5, -1.0, 800.0], [2.0, -np.inf, 1.0]])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_sums_of_exponentials_are_scipys_on_wires_and_arrays(name, axis):
    ours, theirs = getattr(cs.special, name), getattr(special, name)(X, axis=axis)
    np.testing.assert_allclose(ours(X, axis=axis), theirs, rtol=1e-14)
    np.testing.assert_allclose(cs.compile(cs.trace(lambda x: ours(x, axis=axis), X))(X), theirs, rtol=1e-14)


def test_logsumexp_takes_factors_several_axes_and_infinities():
    x, b = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 0.5])
    for options in ({"b": b, "axis": 1}, {"axis": (0, 1), "keepdims": True}, {"b": b, "keepdims": True}):
        np.testing.assert_allclose(cs.special.logsumexp(x, **options), special.logsumexp(x, **options), rtol=1e-14)
    for row in ([-np.inf, -np.inf], [np.inf, 1.0]):
        assert cs.special.logsumexp(np.array(row)) == special.logsumexp(row)
    np.testing.assert_allclose(cs.grad(cs.special.logsumexp)(x[0]), special.softmax(x[0]), rtol=1e-14)
    with pytest.raises(ShapeError, match="of an empty array"):
        cs.special.logsumexp(np.zeros((0, 2)))


@pytest.mark.parametrize("at", [0.01, 0.7, 1.46, 3.0, 40.0])
@pytest.mark.parametrize(
    ("function", "exact"),
    [(cs.special.gammaln, mpmath.loggamma), (cs.special.digamma, lambda z: mpmath.psi(0, z))],
    ids=["gammaln", "digamma"],
)
def test_the_series_of_the_gamma_functions_are_exact_at_high_order(function, exact, at):
    order = 12
    with mpmath.workdps(60):
        theirs = np.array([float(c) for c in mpmath.taylor(exact, mpmath.mpf(at), order)])
    ours = cs.compile(cs.trace(function, 0.0), order).series((at,), (np.eye(1, order),))[0].real
    # Relative: coefficients span many powers of ten. The root of digamma at 1.46 leaves a few digits less.
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-15)


def test_polygamma_is_the_derivative_of_digamma():
    x = np.array([0.3, 1.0, 7.5])
    for n in range(4):
        np.testing.assert_allclose(cs.special.polygamma(n, x), special.polygamma(n, x), rtol=1e-13)
    np.testing.assert_allclose(cs.grad(lambda x: special.psi(x).sum())(x), special.polygamma(1, x), rtol=1e-13)
    with pytest.raises(InputError, match="n must be non-negative, not -1"):
        cs.special.polygamma(-1, x)


@pytest.mark.parametrize(
    ("function", "at", "remedy"),
    [
        (np.arcsin, 1.0, "between -1 and 1"),
        (np.arccosh, 1.0, "above 1"),
        (special.logit, 0.0, "between 0 and 1"),
        (special.gammaln, -0.5, "not positive"),
        (lambda x: np.hypot(x, x), 0.0, "both operands are zero"),
    ],
)
def test_where_there_is_no_series_the_error_says_which_operands_have_one(function, at, remedy):
    with pytest.raises(DomainError, match=remedy):
        cs.compile(cs.trace(function, at), order=2).series((at,), (np.eye(1, 2),))
