"""Laws over the whole table of gates: value, jet, adjoint, second derivative, shape, size.

A new gate is tested by existing: it needs operands (tests/strategies.py) and, here, a meaning that shares no code with
its rules. The meaning is evaluated on complex numbers; a Fourier transform of its values on a circle gives the Taylor
coefficients that the gate's jet must find (Cauchy's formula).
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import EXEMPT, NAMES, applications

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.backends import reference
from circuitsketch.circuit import check
from circuitsketch.gates import DOMAINS, GATES

ORDER = 6
seeds = st.integers(0, 2**32 - 1)
everyone = pytest.mark.parametrize("name", NAMES)


# What the gates mean, said a second time.


def on_each(function):
    """A function of one mpmath number on every entry of a complex array."""

    def apply(z):
        z = np.asarray(z, dtype=complex)
        return np.array([complex(function(mpmath.mpc(x))) for x in z.ravel()]).reshape(z.shape)

    return apply


def normal(z):
    return (1 + mpmath.erf(z / mpmath.sqrt(2))) / 2


def density(z):
    return mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)


def reals(compare):
    """A comparison of real parts: on the small circles of these tests it never changes."""
    return lambda x, y: compare(np.real(x), np.real(y)).astype(complex)


ELEMENTWISE = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "negate": lambda x: -x,
    "multiply": lambda x, y: x * y,
    "square": lambda x: x * x,
    "divide": lambda x, y: x * y**-1.0,
    "reciprocal": lambda x: x**-1.0,
    "copy": lambda x: x,
    "in_bounds": lambda i, n, axis, what: i - n * np.floor(i.real / n.real),
    "stop_gradient": lambda x: x,
    "exp": lambda x: np.cosh(x) + np.sinh(x),
    "expm1": on_each(mpmath.expm1),
    "log": np.log,
    "log1p": lambda x: np.log(1 + x),
    "sin": lambda x: (np.exp(1j * x) - np.exp(-1j * x)) / 2j,
    "cos": lambda x: (np.exp(1j * x) + np.exp(-1j * x)) / 2,
    "tanh": lambda x: 1 - 2 / (np.exp(2 * x) + 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "erf": on_each(mpmath.erf),
    "gelu": on_each(lambda z: z * normal(z)),
    "gelu_slope": on_each(lambda z: normal(z) + z * density(z)),
    "power": lambda x, exponent: np.exp(exponent * np.log(x)),
    "sqrt": lambda x: np.exp(np.log(x) / 2),
    "rsqrt": lambda x: np.exp(-np.log(x) / 2),
    "greater": reals(np.greater),
    "greater_equal": reals(np.greater_equal),
    "less": reals(np.less),
    "less_equal": reals(np.less_equal),
    "equal": reals(np.equal),
    "not_equal": reals(np.not_equal),
    "same": reals(np.equal),
    "balance": lambda x, y: (1 + np.sign(np.real(x) - np.real(y)) + 0j) / 2,
    "gap": lambda x, y: x - y,
    "logaddexp": lambda x, y: np.log(np.exp(x) + np.exp(y)),
    "raise_to": lambda x, y: np.exp(y * np.log(x)),
    "where": lambda test, x, y: test * x + (1 - test) * y,
    "maximum": lambda x, y: np.where(np.real(x) > np.real(y), x, y),
    "minimum": lambda x, y: np.where(np.real(x) < np.real(y), x, y),
    "relu": lambda x: x * (np.real(x) > 0),
    "absolute": lambda x: x * np.sign(np.real(x)),
    "sinh": lambda x: (np.exp(x) - np.exp(-x)) / 2,
    "cosh": lambda x: (np.exp(x) + np.exp(-x)) / 2,
    "arctan": on_each(mpmath.atan),
    "arcsin": on_each(mpmath.asin),
    "arccos": on_each(mpmath.acos),
    "arcsinh": on_each(mpmath.asinh),
    "arccosh": on_each(mpmath.acosh),
    "arctanh": on_each(mpmath.atanh),
    "arctan2": lambda y, x: on_each(mpmath.atan)(y / x),  # the operands are right of the origin
    "hypot": lambda x, y: np.sqrt(x * x + y * y),
    "erfc": on_each(mpmath.erfc),
    "logit": lambda x: np.log(x) - np.log(1 - x),
    "log_ndtr": on_each(lambda z: mpmath.log(normal(z))),
    "log_ndtr_slope": on_each(lambda z: density(z) / normal(z)),
    "gammaln": on_each(mpmath.loggamma),
    "polygamma": lambda x, order: on_each(lambda z: mpmath.psi(order, z))(x),
}


def run_indices(starts, steps, counts):
    """The entries that a strided slice reads, one list an axis."""
    return np.ix_(*([start + i * step for i in range(n)] for start, step, n in zip(starts, steps, counts, strict=True)))


def padded(x, starts, steps, shape):
    out = np.zeros(shape, dtype=x.dtype)
    out[run_indices(starts, steps, x.shape)] = x
    return out


def transposed(x, axes):
    out = np.empty([x.shape[axis] for axis in axes], dtype=x.dtype)
    for at in np.ndindex(out.shape):
        source = dict(zip(axes, at, strict=True))
        out[at] = x[tuple(source[axis] for axis in range(x.ndim))]
    return out


def summed(x, axes):
    for axis in sorted(axes, reverse=True):
        total = np.zeros(x.shape[:axis] + x.shape[axis + 1 :], dtype=x.dtype)
        for i in range(x.shape[axis]):
            total = total + np.take(x, i, axis)
        x = np.asarray(total)
    return x


def joined(*xs, axis):
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    out, begin = np.empty(shape, dtype=xs[0].dtype), 0
    for x in xs:
        out[(slice(None),) * axis + (slice(begin, begin + x.shape[axis]),)] = x
        begin += x.shape[axis]
    return out


def scattered(x, index, axis, length):
    out = np.zeros((*x.shape[:axis], length, *x.shape[axis + index.ndim :]), dtype=x.dtype)
    for at in np.ndindex(x.shape):
        out[(*at[:axis], index[at[axis : axis + index.ndim]], *at[axis + index.ndim :])] += x[at]
    return out


def contracted(a, b, spec):
    """An einsum by broadcasting both operands to all indices, multiplying, and summing."""
    operands, result = spec.split("->")
    left, right = operands.split(",")
    letters = sorted(set(left + right))

    def spread(named, x):
        order = sorted(range(len(named)), key=lambda i: named[i])
        return transposed(x, order).reshape([x.shape[named.index(c)] if c in named else 1 for c in letters])

    kept = [c for c in letters if c in result]
    total = summed(spread(left, a) * spread(right, b), [i for i, c in enumerate(letters) if c not in result])
    return transposed(total, [kept.index(c) for c in result])


def on_rows(x, place):
    """The element of each row at a place in the order of the real parts."""
    out = np.empty(x.shape[:-1], dtype=x.dtype)
    for at in np.ndindex(out.shape):
        out[at] = sorted(x[at], key=np.real)[place]
    return out


OTHERS = {
    "reshape": lambda x, shape: np.array(list(x.flat), dtype=x.dtype).reshape(shape),
    "transpose": transposed,
    "broadcast": lambda x, shape: np.ones(shape) * x,
    "slice": lambda x, starts, steps, shape: x[run_indices(starts, steps, shape)],
    "pad": padded,
    "sum": summed,
    "concatenate": joined,
    "take": lambda x, index, axis: x[(slice(None),) * axis + (index,)],
    "scatter_add": scattered,
    "einsum": contracted,
    "max": lambda x: on_rows(x, -1),
    "min": lambda x: on_rows(x, 0),
    "cumsum": lambda x, axis: np.tensordot(x, np.tri(x.shape[axis]), (axis, 1)).transpose(
        np.insert(np.arange(x.ndim - 1), axis, x.ndim - 1)
    ),
    "max_constant": lambda x, axes: np.maximum.reduce(np.real(x), axis=axes, keepdims=True) + 0j,
}


def meaning(name, *operands, **params):
    """The gate's value, by this file."""
    known = ELEMENTWISE | OTHERS
    assert name in known, f"{name} has no meaning here: write one in tests/gates/test_gates.py"
    with np.errstate(all="ignore"):
        return np.asarray(known[name](*operands, **params))


# Oracles.


def one_gate(applied):
    """The gate as a circuit whose inputs are the operands a derivative is in."""
    return check(cs.trace(lambda *moving: applied.with_moving(moving), *applied.moving))


def jet(applied, series):
    """The gate's coefficients for operands x + sum_k series[k - 1] z^k, by the reference evaluator."""
    (found,) = reference.run(one_gate(applied), applied.moving, series, series[0].shape[1])
    return found


def cauchy(function, order, radius=0.5, points=64):
    """Taylor coefficients 0..order at 0 of a function that is analytic well beyond the radius."""
    circle = radius * np.exp(2j * np.pi * np.arange(points) / points)
    values = np.array([function(z) for z in circle])
    coefficients = np.fft.fft(values, axis=0)[: order + 1] / points
    return coefficients / radius ** np.arange(order + 1).reshape(-1, *[1] * (values.ndim - 1))


def small_series(rng, shape, directions, order):
    """Complex coefficients 1..order, so small that a circle of radius 1 stays within the operands' margins."""
    sizes = 0.2 / np.arange(1, order + 1).reshape(-1, *[1] * len(shape)) ** 2
    full = (directions, order, *shape)
    return sizes * rng.uniform(0.3, 1.0, full) * np.exp(2j * np.pi * rng.random(full))


def differences(function, operands, moves, step=1e-5):
    """The derivative of a function of arrays along some moves, by central differences."""
    ahead, behind = (
        np.asarray(function(*(x + sign * step * t for x, t in zip(operands, moves, strict=True)))) for sign in (1, -1)
    )
    return (ahead - behind) / (2 * step)


def moves_for(applied, rng):
    return [rng.uniform(-1.0, 1.0, x.shape) for x in applied.moving]


# The laws.


@everyone
@given(data=st.data())
def test_the_value_of_a_gate_is_its_meaning(name, data):
    applied = data.draw(applications(name))
    ours = applied(*applied.operands)
    theirs = meaning(name, *applied.operands, **applied.params)
    assert np.shape(ours) == theirs.shape
    # Elementary functions are good to a few units in the last place; sums of a few terms likewise.
    np.testing.assert_allclose(ours, theirs.real, rtol=1e-14, atol=1e-14)


@everyone
@given(data=st.data(), seed=seeds)
def test_the_jet_of_a_gate_is_the_taylor_series_of_its_meaning(name, data, seed):
    applied = data.draw(applications(name))
    if GATES[name].flat:
        return
    rng = np.random.default_rng(seed)
    series = [small_series(rng, x.shape, 2, ORDER) for x in applied.moving]
    found = jet(applied, series)
    for direction in range(2):

        def along(z, direction=direction):
            powers = z ** np.arange(1, ORDER + 1)
            rest = iter(x + np.tensordot(powers, u[direction], 1) for x, u in zip(applied.moving, series, strict=True))
            operands = (next(rest) if moves else x for x, moves in zip(applied.operands, applied.moves, strict=True))
            return meaning(name, *operands, **applied.params)

        theirs = cauchy(along, ORDER)
        # The transform rounds to 1e-16 of the largest value, and divides by 0.5^6; the meanings carry a few units
        # more. What aliases in is 64 powers of (0.5 / 1.25) away: nothing.
        scale = 1.0 + np.max(np.abs(theirs), initial=0.0)
        np.testing.assert_allclose(found[direction], theirs, rtol=0, atol=1e-12 * scale)


@everyone
@given(data=st.data(), seed=seeds)
def test_the_first_coefficient_of_a_gate_is_its_derivative(name, data, seed):
    applied = data.draw(applications(name))
    moves = moves_for(applied, np.random.default_rng(seed))
    found = jet(applied, [t[None, None] for t in moves])[0, 1]
    if GATES[name].flat:
        assert not np.any(found)
        return
    theirs = differences(lambda *xs: applied.with_moving(xs), applied.moving, moves)
    # Central differences at 1e-5: truncation 1e-10 of the third derivative (up to 1e3 here), rounding 1e-11.
    np.testing.assert_allclose(found.real, theirs, rtol=1e-6, atol=1e-6)
    assert not np.any(found.imag)


@everyone
@given(data=st.data(), seed=seeds)
def test_the_vjp_of_a_gate_is_the_adjoint_of_its_first_coefficient(name, data, seed):
    applied = data.draw(applications(name))
    rng = np.random.default_rng(seed)
    moves = moves_for(applied, rng)
    pushed = jet(applied, [t[None, None] for t in moves])[0, 1].real
    out = np.asarray(applied(*applied.operands))
    ct = rng.uniform(-1.0, 1.0, out.shape)
    shares = GATES[name].vjp(ct, out, *applied.operands, **applied.params)
    assert len(shares) == len(applied.operands)
    moving = [share for share, moves in zip(shares, applied.moves, strict=True) if moves]
    if name in EXEMPT or GATES[name].flat:
        assert all(share is None for share in shares)
        return
    assert all(share is None for share, moves in zip(shares, applied.moves, strict=True) if not moves)
    assert [np.shape(share) for share in moving] == [x.shape for x in applied.moving]
    pulled = sum(np.sum(share * t) for share, t in zip(moving, moves, strict=True))
    # Two sums of at most a hundred products of numbers of order 10.
    assert np.sum(ct * pushed) == pytest.approx(pulled, rel=1e-11, abs=1e-12)


@everyone
@given(data=st.data(), seed=seeds)
def test_the_vjp_of_the_vjp_of_a_gate_is_its_second_derivative(name, data, seed):
    if name in EXEMPT or GATES[name].flat:
        return
    applied = data.draw(applications(name))
    rng = np.random.default_rng(seed)
    ct = rng.uniform(-1.0, 1.0, np.shape(applied(*applied.operands)))
    moves, others = moves_for(applied, rng), moves_for(applied, rng)

    def slope(moving):
        first = cs.grad(lambda xs: np.sum(ct * applied.with_moving(xs)))(moving)
        return sum(np.sum(t * share) for t, share in zip(moves, first, strict=True))

    second = cs.grad(slope)(applied.moving)
    ours = sum(np.sum(t * share) for t, share in zip(others, second, strict=True))
    theirs = differences(lambda *xs: slope(xs), applied.moving, others)
    # As for the first derivative; the differences are of sums of up to a hundred terms.
    assert ours == pytest.approx(float(theirs), rel=1e-5, abs=1e-5)


@everyone
@given(data=st.data())
def test_the_shape_rule_of_a_gate_gives_the_shape_of_its_value(name, data):
    applied = data.draw(applications(name))
    shape = GATES[name].shape(*(x.shape for x in applied.operands), **applied.params)
    assert shape == np.shape(applied(*applied.operands))
    assert isinstance(shape, tuple) and all(type(n) is int for n in shape)


@everyone
@given(data=st.data())
def test_the_size_of_a_gate_counts_the_scalar_gates_it_expands_to(name, data):
    applied = data.draw(applications(name))
    circuit = one_gate(applied)
    scalar = check(circuit.expand())
    sizes = [scalar.size_of(wire) for wire in range(len(scalar.nodes))]
    assert set(sizes) <= {0, 1}
    assert circuit.size == scalar.size == sum(sizes)
    flat = [float(x) for operand in applied.moving for x in operand.ravel()]
    theirs = np.asarray(applied(*applied.operands)).ravel()
    # The same gates on the same numbers; sums may be in another order.
    np.testing.assert_allclose(evaluate(scalar, flat), theirs.tolist(), rtol=1e-14, atol=1e-14)


@everyone
def test_a_gate_carries_what_its_kind_needs(name):
    gate = GATES[name]
    assert gate.name == name
    if gate.kind == "elementwise":
        assert gate.constants is not None and (gate.flat or gate.step is not None)
        assert gate.domain is None or gate.domain in DOMAINS
        assert name not in OTHERS
    else:
        assert (gate.step is not None) == gate.selects and gate.companions == 0
        assert name not in ELEMENTWISE


@given(data=st.data(), seed=seeds)
def test_a_stopped_gradient_leaves_the_series_as_it_is(data, seed):
    applied = data.draw(applications("stop_gradient"))
    (x,) = applied.moving
    series = small_series(np.random.default_rng(seed), x.shape, 2, ORDER)
    found = jet(applied, [series])
    np.testing.assert_array_equal(found[:, 1:], series)
    stopped = cs.grad(lambda y: np.sum(cs.stop_gradient(np.sin(y)) * y))(x)
    # d/dy of sin(y) y with sin(y) held fixed: sin(y) itself, to the last place.
    np.testing.assert_allclose(stopped, np.sin(x), rtol=1e-15)


NAN = float("nan")


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("pair", [(NAN, 1.0), (1.0, NAN), (NAN, NAN)])
def test_a_nan_does_not_vanish_in_an_extremum(name, pair):
    assert np.isnan(GATES[name](*map(np.array, pair)))


@pytest.mark.parametrize("reduce", [np.max, np.min])
@pytest.mark.parametrize("row", [(NAN, 1.0, 2.0), (1.0, NAN, 2.0), (1.0, 2.0, NAN)])
def test_a_nan_does_not_vanish_in_the_extremum_of_a_row(reduce, row):
    assert np.isnan(cs.compile(cs.trace(reduce, np.array(row)))(np.array(row)))


@pytest.mark.parametrize("name", ["relu", "absolute", "gelu", "silu", "softplus", "sigmoid", "tanh"])
def test_a_nan_does_not_vanish_in_an_activation(name):
    assert np.isnan(GATES[name](np.array(NAN)))


@pytest.mark.parametrize("at", [-800.0, 800.0])
@pytest.mark.parametrize("name", ["sigmoid", "silu", "softplus", "gelu"])
@pytest.mark.filterwarnings("error")
def test_an_activation_far_from_zero_neither_overflows_nor_warns(name, at):
    limit = {"sigmoid": float(at > 0)}.get(name, max(at, 0.0))
    assert GATES[name](np.array(at)) == limit


@pytest.mark.parametrize("reduce", [np.max, np.min])
def test_at_a_tie_the_series_of_a_row_is_that_of_its_first_element(reduce):
    x = np.array([[2.0, 2.0, 2.0], [5.0, 3.0, 3.0]]) * (1 if reduce is np.max else -1)
    circuit = cs.trace(lambda x: reduce(x, axis=1), x)
    series = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    first = [1.0, 4.0]
    assert reference.run(circuit, [x], [series], 1)[0][0, 1].tolist() == first
    for order in (1, 3, 10):
        with pytest.warns(cs.KinkWarning):
            assert cs.compile(circuit, order).series((x,), (series,))[0, 1].tolist() == first


def test_at_a_tie_value_and_series_are_the_first_operands_and_the_vjp_is_shared():
    x = np.array(2.0)
    for name in ("maximum", "minimum"):
        circuit = cs.trace(GATES[name], x, x)
        series = [np.full((1, 1), 3.0), np.full((1, 1), 5.0)]
        assert reference.run(circuit, [x, x], series, 1)[0][0, 1] == 3.0
        assert cs.grad(GATES[name], 0)(x, x) == cs.grad(GATES[name], 1)(x, x) == 0.5
