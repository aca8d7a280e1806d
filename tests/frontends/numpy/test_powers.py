"""x ** e for exponents of every kind: a number, an array, a wire of integers or floats; values, slopes and series.

The oracles are NumPy's power, closed forms of the derivatives, and Cauchy's formula on mpmath's complex powers.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.backends import reference
from circuitsketch.errors import DomainError, TraceError

BASES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 1e-160, -1e160]
WHOLE = [0, 1, 2, 3, 5, 12, -1, -2, -7]
FRACTIONS = [0.5, 1.5, -0.5, 2.25]


def compiled(function, *xs):
    return cs.compile(cs.trace(function, *xs))(*xs)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-300)


@given(data=st.data())
def test_an_array_of_whole_and_fractional_exponents_is_taken_entry_by_entry(data):
    count = data.draw(st.integers(1, 6))
    entries = lambda values: np.array(data.draw(st.lists(st.sampled_from(values), min_size=count, max_size=count)))  # noqa: E731
    x, e = entries(BASES), entries([float(n) for n in WHOLE] + FRACTIONS)
    with np.errstate(all="ignore"):
        close(compiled(lambda x: x**e, x), x**e)
        close(compiled(lambda x: np.float_power(x[:, None], e), x), np.float_power(x[:, None], e))
        close(compiled(lambda x, e: x**e, x, e), x**e)
        close(compiled(lambda e: x**e, e), x**e)


def test_an_exponent_that_is_an_integer_wire_gives_numpys_values():
    x, n = (grid.ravel() for grid in np.meshgrid(np.array(BASES), np.array(WHOLE)))
    with np.errstate(all="ignore"):
        close(compiled(lambda x, n: x**n, x, n), x**n)
        close(compiled(lambda n: x**n, n), x**n)
        close(compiled(lambda n: 2.0**n, n), 2.0**n)
        close(compiled(lambda x: x ** (n % 2 == 0), x), x ** (n % 2 == 0))


def test_integers_to_integers_are_integers_and_refuse_negative_exponents_as_numpy_does():
    x, n = np.array([2, -3, 0, 7]), np.array([3, 2, 0, 1])
    for function in (lambda x: x**n, lambda x: x**2, lambda x: x**0, lambda x: 2 ** np.abs(x), lambda x: (x > 0) ** n):
        circuit = cs.trace(function, x)
        assert cs.compile(circuit)(x).tolist() == function(x).tolist()
        assert circuit.nodes[circuit.outputs[0]].label == "int"
    assert compiled(lambda x, n: x**n, x, n).tolist() == (x**n).tolist()
    for function in (lambda x: x**2.0, lambda x: np.float_power(x, 2)):
        circuit = cs.trace(function, x)
        assert circuit.nodes[circuit.outputs[0]].label == "float"
    assert compiled(lambda x: np.float_power(x, -1), x[:2]).tolist() == [0.5, -1 / 3]
    for function in (lambda x: x**-2, lambda x: x ** np.array([1, -1, 2, 2])):
        with pytest.raises(TraceError, match=r"test_powers.py:\d+: Integers to negative integer powers"):
            cs.trace(function, x)
    # Known at run time only: no number is given.
    assert np.isnan(compiled(lambda x, n: x**n, x, -n)[:2]).all()


def test_the_slopes_of_a_power_are_closed_forms_at_whole_exponents_of_any_base():
    x, n = (grid.ravel() for grid in np.meshgrid(np.array(BASES[:8]), np.array([0, 1, 2, 3, 5])))
    e = n.astype(float)
    with np.errstate(all="ignore"):
        want = np.where(n == 0, 0.0, n * np.float_power(x, np.where(n == 0, 1, n - 1)))
    for function, exponent in ((lambda x, e: x**e, e), (lambda x, n: x**n, n)):
        got = compiled(lambda x, e, f=function: cs.grad(lambda x: f(x, e).sum())(x), x, exponent)
        close(got, want)
    close(compiled(lambda x: cs.grad(lambda x: (x**e).sum())(x), x), want)
    with np.errstate(all="ignore"):
        second = np.where(n < 2, 0.0, n * (n - 1) * np.float_power(x, np.where(n < 2, 1, n - 2)))
    twice = lambda x: cs.grad(lambda y: cs.grad(lambda x: (x**e).sum())(y).sum())(x)  # noqa: E731
    close(compiled(twice, x), second)
    run_time = lambda x, e: cs.grad(lambda y: cs.grad(lambda x: (x**e).sum())(y).sum())(x)  # noqa: E731
    inside = x != 0  # at zero the second derivative is asked of 0 ** -1
    close(compiled(run_time, x[inside], e[inside]), second[inside])


def test_the_slope_in_the_exponent_is_the_power_times_the_logarithm_and_zero_at_a_base_of_zero():
    x, e = np.array([0.5, 2.0, 3.0, 0.0, 0.0]), np.array([-1.5, 0.0, 2.0, 1.0, 2.5])
    got = compiled(lambda e: cs.grad(lambda e: (x**e).sum())(e), e)
    close(got, [*(x[:3] ** e[:3] * np.log(x[:3])), 0.0, 0.0])
    got = compiled(lambda x, e: cs.grad(lambda e: (x**e).sum())(e), x, e)
    close(got, [*(x[:3] ** e[:3] * np.log(x[:3])), 0.0, 0.0])


def test_an_entry_that_needs_no_care_does_not_suffer_from_one_that_does():
    """Of x ** [2, -1, 0.5], the first at 0 and the others at 4: no division by zero, no root of zero."""
    x, e = np.array([0.0, 4.0, 4.0, 1e200]), np.array([2.0, -1.0, 0.5, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slope = compiled(lambda x: cs.grad(lambda x: (x**e).sum())(x), x)
        close(slope, [0.0, -1 / 16, 0.25, 1.0])
        f = cs.compile(cs.trace(lambda x: x**e, x), order=2)
        found = f.series((x,), (np.ones((1, 1, 4)),))[0].real
    close(found[:, 0], [0.0, 0.0, 1.0])
    close(found[:, 1], [0.25, -1 / 16, 1 / 64])


# Series.


def circle(function, order, radius=0.25, points=64):
    """Taylor coefficients by Cauchy's formula."""
    z = radius * np.exp(2j * np.pi * np.arange(points) / points)
    values = np.array([function(point) for point in z])
    return np.fft.fft(values, axis=0)[: order + 1] / points / radius ** np.arange(order + 1)[:, None]


@pytest.mark.parametrize("order", [3, 10])  # straight code, and loops over coefficients
def test_the_series_of_a_power_by_a_run_time_exponent_is_that_of_the_product(order):
    x = np.array([-2.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5, 2.0])
    n = np.array([3.0, -2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 2.5, -1.0])
    direction = np.array([1.0, 0.5, 1.0, 1.0, 2.0, -1.0, 1.0, 0.3, 0.4])
    f = cs.compile(cs.trace(lambda x, n: x**n, x, n), order=order)
    given = (np.stack([direction, 0.5 * direction])[None] + 0j, None)  # x + d z + d z^2 / 2
    found = f.series((x, n), given)[0]
    want = circle(lambda z: (x + direction * (z + z * z / 2)).astype(complex) ** n, order)
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-9)
    full = np.concatenate([given[0], np.zeros((1, order - 2, len(x)))], axis=1)
    (slow,) = reference.run(f.circuit, [x, n], [full, None], order)
    np.testing.assert_allclose(slow[0], want, rtol=1e-9, atol=1e-9)


def test_the_series_of_a_power_by_a_moving_exponent_is_that_of_the_exponential():
    x, e = np.array([0.5, 2.0, 1.0]), np.array([0.0, -1.5, 3.0])
    f = cs.compile(cs.trace(lambda x, e: x**e, x, e), order=4)
    found = f.series((x, e), (np.full((1, 1, 3), 0.2), np.full((1, 1, 3), 0.7)))[0]
    want = circle(lambda z: np.exp((e + 0.7 * z) * np.log(x + 0.2 * z)), 4)
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-10)
    of_zero = cs.compile(cs.trace(lambda e: 0.0**e, 2.0), order=2).series((2.0,), (np.ones((1, 1)),))
    assert of_zero.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("base", "exponent", "varies"),
    [(0.0, 0.5, (1, 0)), (-1.0, 0.5, (1, 0)), (0.0, -1.0, (1, 0)), (0.0, 9.0, (1, 0)), (-1.0, 2.0, (0, 1))]
    + [(0.0, 0.0, (0, 1)), (0.0, -1.0, (0, 1)), (0.0, 2.0, (1, 1)), (-2.0, 2.0, (1, 1))],
)
def test_a_power_without_a_series_is_refused_with_the_way_out(base, exponent, varies):
    f = cs.compile(cs.trace(lambda x, e: x**e, 1.0, 1.0), order=1)
    given = tuple(np.ones((1, 1)) if moves else None for moves in varies)
    with pytest.raises(DomainError, match=r"raise_to .*test_powers.py:\d+.*keep the base above zero"):
        f.series((base, exponent), given)


def test_a_run_whose_exponents_are_data_is_pushed_and_one_that_learns_them_is_refused_at_a_negative_base():
    def step(state, batch, keep):
        x, n = batch
        return state + 0.1 * keep.sum() * ((state - x) ** n).sum()

    batches = [(np.array([2.0, 0.5]), np.array([2.0, 3.0])), (np.array([1.0, -1.0]), np.array([3.0, 1.0]))]
    run = cs.Training(step, np.array(0.3), batches, [[0], [1]])
    exact = cs.push(run, np.eye(2), 3).measure(lambda s: s).coefficients[0, 1].real
    h = 1e-5
    ahead, behind = (float(run.retrain(without=np.array([sign * h, 0.0]))) for sign in (1, -1))
    assert exact == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)
    base = np.array([-1.0])
    learns = cs.Training(lambda s, x, keep: s + keep.sum() * (x**s).sum(), np.array(2.0), [base] * 2, [[0], [1]])
    with pytest.raises(DomainError, match="an integer that does not depend on the weights"):
        cs.push(learns, np.eye(2), 1)
