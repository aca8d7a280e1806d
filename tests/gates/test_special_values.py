"""Every elementwise function at zeros, denormals, huge numbers, infinities and NaN: the values are NumPy's and SciPy's.

The functions are those of the tables; one without an oracle here fails. Each is computed three ways: compiled (as
vectors, and one entry at a time), by the reference evaluator, and on plain arrays. Slopes are those of closed forms.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import circuitsketch as cs
from circuitsketch.backends import reference
from circuitsketch.frontends.numpy.ufuncs import SPECIAL, UFUNCS
from circuitsketch.gates import GATES

INF, NAN = np.inf, np.nan
LARGEST = np.finfo(float).max
SIZES = [0.5, 1.0, 2.0, 3.0, 1e-8, 1e-300, 5e-324, 20.0, 700.0, 709.9, 745.2, 800.0, 1e8, 1e200, LARGEST]
VALUES = np.array([0.0, -0.0, *SIZES, *(-x for x in SIZES), INF, -INF, NAN])
LEFT, RIGHT = (grid.ravel() for grid in np.meshgrid(VALUES, VALUES))


def quiet(function):
    """A function without NumPy's warnings of what this file is about."""

    def call(*xs, **options):
        with np.errstate(all="ignore"):
            return function(*xs, **options)

    return call


def at_most_zero(x, y):
    """x * y, and 0 where y is: the limits of x times a distribution function."""
    return np.where(y == 0, y, x * y)


MEANINGS = {
    **{name: quiet(getattr(np, name)) for name in "add subtract multiply divide square reciprocal sqrt exp".split()},
    **{name: quiet(getattr(np, name)) for name in "expm1 log log1p sin cos tanh absolute logaddexp".split()},
    **{name: quiet(getattr(np, name)) for name in "greater greater_equal less less_equal equal not_equal".split()},
    **{name: quiet(getattr(np, name)) for name in "maximum minimum where".split()},
    **{name: quiet(getattr(np, name)) for name in "sinh cosh arctan arcsin arccos arcsinh arccosh".split()},
    **{name: quiet(getattr(np, name)) for name in "arctanh arctan2 hypot".split()},
    **{name: quiet(getattr(special, name)) for name in "erfc logit log_ndtr".split()},
    "log_ndtr_slope": quiet(lambda x: np.where(x < -1e8, -x, np.sqrt(2 / np.pi) / special.erfcx(-x / np.sqrt(2)))),
    "gammaln": quiet(lambda x: np.where(np.abs(x) < 1e-300, -np.log(np.abs(x)), special.gammaln(x))),  # SciPy overflows
    "negate": np.negative,
    "copy": np.positive,
    "stop_gradient": np.positive,
    "same": np.equal,
    "gap": quiet(lambda x, y: np.where(x == y, 0.0, x - y)),
    "balance": quiet(lambda x, y: 0.5 * (x > y) + 0.5 * (x >= y)),
    "raise_to": quiet(np.float_power),
    "relu": quiet(lambda x: np.where(x <= 0, 0.0, x)),
    "rsqrt": quiet(lambda x: 1 / np.sqrt(x)),
    "sigmoid": special.expit,
    "softplus": quiet(lambda x: np.logaddexp(x, 0.0)),
    "silu": quiet(lambda x: at_most_zero(x, special.expit(x))),
    "erf": special.erf,
    "gelu": quiet(lambda x: at_most_zero(x, special.ndtr(x))),
    "gelu_slope": quiet(lambda x: special.ndtr(x) + at_most_zero(x, np.exp(-x * x / 2) / np.sqrt(2 * np.pi))),
}
PARAMETERS = {"power": [-1.5, -1.0, 0.3, 0.5, 2.0, INF]}
ELEMENTWISE = sorted(name for name, gate in GATES.items() if gate.kind == "elementwise" and not gate.static)
# Entry-by-entry functions of NumPy's that are not gates themselves.
UFUNC_NAMES = sorted(f.__name__ for f in UFUNCS if f.signature is None)
ON_TRUTH = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert"}


def close(got, want):
    """To some roundings; denormals to the last few of their places."""
    np.testing.assert_allclose(np.asarray(got, dtype=float), np.asarray(want, dtype=float), rtol=1e-12, atol=1e-16)


def every_way(function, *xs):
    """The values by each carrier."""
    circuit = cs.trace(function, *xs)
    yield cs.compile(circuit)(*xs)
    one = cs.compile(cs.trace(function, *(x[:1] for x in xs)))
    yield np.concatenate([one(*(x[i : i + 1] for x in xs)) for i in range(0, len(xs[0]), 7)]), slice(None, None, 7)
    yield reference.run(circuit, xs, [None] * len(xs), 0)[0][0, 0].real


def agrees(function, meaning, *xs):
    want = meaning(*xs)
    for found in every_way(function, *xs):
        got, part = found if isinstance(found, tuple) else (found, slice(None))
        close(got, want[part])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_gate_has_numpys_value_at_every_special_number(name):
    assert name in MEANINGS, f"{name} has no oracle: write one in tests/gates/test_special_values.py"
    gate = GATES[name]
    xs = {1: (VALUES,), 2: (LEFT, RIGHT), 3: (RIGHT == RIGHT[::-1], LEFT, RIGHT)}[gate.arity]
    agrees(gate, MEANINGS[name], *xs)
    with np.errstate(all="ignore"):
        close(gate(*xs), MEANINGS[name](*xs))


def test_several_retrainings_compute_the_same_special_values_as_one():
    """Lanes that hold values have code of their own; a run's state is finite, so these entries are."""
    with np.errstate(all="ignore"):
        values = {name: MEANINGS[name](LEFT, RIGHT) for name in ELEMENTWISE if GATES[name].arity == 2}
        values |= {name: MEANINGS[name](VALUES) for name in ELEMENTWISE if GATES[name].arity == 1}
    state, want = {}, {}
    for name, value in values.items():
        xs = (VALUES,) if GATES[name].arity == 1 else (LEFT, RIGHT)
        fine = np.all([np.isfinite(x) for x in (*xs, value)], axis=0)
        state[name], want[name] = [x[fine] for x in xs], value[fine]

    def step(state, batch, keep):
        moved = {name: [keep[0] * x for x in xs] for name, xs in state["in"].items()}
        return {"in": state["in"], "out": {name: GATES[name](*moved[name]) + 0.0 for name in state["in"]}}

    run = cs.Training(step, {"in": state, "out": {k: np.zeros(len(v)) for k, v in want.items()}}, [0.0], [[0]], n=2)
    found = run.retrain(without=np.array([[0.0, 1.0], [0.0, 0.5]]))["out"]
    for name, value in want.items():
        close(found[name], [value, value])


@pytest.mark.parametrize("name", UFUNC_NAMES)
def test_a_ufunc_has_numpys_value_at_every_special_number(name):
    ufunc = getattr(np, name)
    xs = (VALUES,) if ufunc.nin == 1 else (LEFT, RIGHT)
    if name in ON_TRUTH:
        xs = tuple(x > 0 for x in xs)
    agrees(ufunc, quiet(ufunc), *xs)


@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_a_function_of_scipys_has_its_value_at_every_special_number(name):
    agrees(getattr(special, name), MEANINGS.get(name, getattr(special, name)), VALUES)


@pytest.mark.parametrize("constant", [0.0, 1.0, -1.0, 2.0, INF, NAN])
@pytest.mark.parametrize("name", "add subtract multiply divide maximum minimum logaddexp power greater".split())
def test_a_constant_operand_changes_no_value(name, constant):
    ufunc = getattr(np, name)
    agrees(lambda x: ufunc(x, constant), quiet(lambda x: ufunc(x, constant)), VALUES)
    agrees(lambda x: ufunc(constant, x), quiet(lambda x: ufunc(constant, x)), VALUES)


@pytest.mark.parametrize(
    "exponent", [0, 1, 2, 3, -1, -2, -3, 0.5, 1.5, -1.5, 1 / 3, INF, -INF, NAN, 1e6 + 0.5, 2.0**21]
)
def test_a_power_with_a_number_has_numpys_value(exponent):
    agrees(lambda x: x**exponent, quiet(lambda x: x ** np.float64(exponent)), VALUES)


@pytest.mark.parametrize("base", [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, INF, -INF, NAN, 1e300])
def test_a_number_to_a_power_has_numpys_value(base):
    agrees(lambda x: base**x, quiet(lambda x: np.float64(base) ** x), VALUES)


def test_nothing_that_is_nan_vanishes_in_a_product_with_zero():
    x = np.array([INF, NAN, 0.0])
    for function in (lambda x: x * 0.0, lambda x: 0.0 / x, lambda x: (x * np.zeros(3)).sum(keepdims=True) + 0 * x):
        agrees(function, quiet(function), x)
    with np.errstate(all="ignore"):
        want = np.where(np.eye(3, dtype=bool), x[:, None], 1.0) @ np.zeros((3, 2))
    agrees(lambda m: m @ np.zeros((3, 2)), lambda m: want, np.where(np.eye(3, dtype=bool), x[:, None], 1.0))


# Reductions: rows with infinities, NaN and overflow.
ROWS = np.array(
    [[1, 2, 3], [INF, 1, 2], [-INF, 1, 2], [INF, -INF, 0], [NAN, 1, 2], [1, NAN, INF], [INF, INF, 1], [-INF] * 3]
    + [[0, 0, 0], [-0.0, 0, -0.0], [1e200, 1e200, 1], [1e-200, 1e-200, 0], [800, -800, 0], [5e-324, 0, 0]]
).astype(float)


@pytest.mark.parametrize("function", [np.sum, np.mean, np.var, np.std, np.max, np.min, np.prod, np.linalg.norm])
def test_a_reduction_has_numpys_value_at_rows_of_special_numbers(function):
    agrees(lambda x: function(x, axis=1), quiet(lambda x: function(x, axis=1)), ROWS)


def test_the_logarithm_of_a_sum_of_exponentials_is_scipys():
    agrees(lambda x: np.logaddexp.reduce(x, axis=1), quiet(lambda x: special.logsumexp(x, axis=1)), ROWS)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_masked_logits_have_scipys_probabilities(name):
    rows = ROWS[[0, 2, 7, 8, 10, 11, 12, 13]]
    agrees(getattr(cs, name), quiet(lambda x: getattr(special, name)(x, axis=-1)), rows)


# Slopes: closed forms, also where a formula that is written without care has 0 * infinity.


def slopes(function, *xs):
    """The compiled derivatives of an elementwise function in each operand."""

    def all_of_them(*xs):
        def one(i):
            return cs.grad(lambda x: function(*(x if j == i else y for j, y in enumerate(xs))).sum())(xs[i])

        return tuple(one(i) for i in range(len(xs)))

    return cs.compile(cs.trace(all_of_them, *xs))(*xs)


NORMAL = VALUES[~np.isnan(VALUES)]
FINITE = VALUES[np.isfinite(VALUES)]


@pytest.mark.parametrize(
    ("function", "slope", "at"),
    [
        (np.exp, np.exp, NORMAL),
        (np.tanh, lambda x: 1 - np.tanh(x) ** 2, NORMAL),
        (cs.sigmoid, lambda x: special.expit(x) * special.expit(-x), NORMAL),
        (cs.softplus, special.expit, NORMAL),
        (cs.silu, lambda x: special.expit(x) * (1 + at_most_zero(x, special.expit(-x))), FINITE),
        (cs.gelu, MEANINGS["gelu_slope"], NORMAL),
        (cs.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x), NORMAL),
        (cs.relu, lambda x: 1.0 * (x > 0), NORMAL),
        (np.abs, np.sign, NORMAL),
        (np.sinh, np.cosh, NORMAL),
        (np.cosh, np.sinh, NORMAL),
        (np.arctan, lambda x: 1 / (1 + x * x), NORMAL),
        (np.arcsinh, lambda x: 1 / np.hypot(1, x), NORMAL),
        (special.erfc, lambda x: -2 / np.sqrt(np.pi) * np.exp(-x * x), NORMAL),
        (special.log_ndtr, MEANINGS["log_ndtr_slope"], NORMAL),
        (lambda x: x**-2, lambda x: -2 * np.float_power(x, -3), NORMAL),
        (lambda x: x**3, lambda x: 3 * np.float_power(x, 2), NORMAL),
    ],
)
def test_a_slope_is_the_closed_form_at_every_special_number(function, slope, at):
    with np.errstate(all="ignore"):
        want = slope(at)
    # Slopes near zero are differences of numbers near one.
    np.testing.assert_allclose(slopes(function, at)[0], want, rtol=1e-12, atol=1e-15)


def test_the_slopes_of_logaddexp_are_probabilities_also_of_infinite_terms():
    x, y = (z[~np.isnan(LEFT) & ~np.isnan(RIGHT)] for z in (LEFT, RIGHT))
    first, second = slopes(np.logaddexp, x, y)
    with np.errstate(all="ignore"):
        difference = np.where(x == y, 0.0, x - y)
    np.testing.assert_allclose(first, special.expit(difference), rtol=1e-12, atol=0)
    np.testing.assert_allclose(second, special.expit(-difference), rtol=1e-12, atol=0)
    base_two, _ = slopes(np.logaddexp2, np.array([1.0, -INF, 2.0]), np.array([-INF, 3.0, 2.0]))
    np.testing.assert_allclose(base_two, [1.0, 0.0, 0.5], rtol=1e-12)


def test_a_masked_logit_gets_no_gradient_and_spoils_none():
    mask = np.array([[0, -INF, 0, 0], [0, 0, -INF, -INF]])
    x, w = np.array([[0.3, 5.0, -1.0, 0.2], [2.0, 1.0, 0.0, 0.5]]), np.array([0.7, -0.2, 0.4, 1.0])
    kept = np.isfinite(mask)
    p = special.softmax(x + mask, axis=-1)
    (found,) = slopes(lambda x: cs.softmax(x + mask) * w, x)
    np.testing.assert_allclose(found, p * (w - (p * w).sum(-1, keepdims=True)), rtol=1e-12, atol=1e-16)
    (found,) = slopes(lambda x: cs.cross_entropy(x + mask, np.array([2, 1])), x)
    np.testing.assert_allclose(found, p - np.eye(4)[[2, 1]], rtol=1e-12, atol=1e-16)
    assert not found[~kept].any()


# Ties: PyTorch's, JAX's and autograd's extrema share the gradient equally.


def test_at_a_tie_of_two_operands_each_gets_half_in_either_order():
    x, y = np.array([0.0, 1.0, 2.0, -0.0]), np.array([0.0, 2.0, 1.0, 0.0])
    first, second = slopes(np.maximum, x, y)
    assert first.tolist() == [0.5, 0.0, 1.0, 0.5] and second.tolist() == [0.5, 1.0, 0.0, 0.5]
    first, second = slopes(np.minimum, x, y)
    assert first.tolist() == [0.5, 1.0, 0.0, 0.5] and second.tolist() == [0.5, 0.0, 1.0, 0.5]
    assert slopes(lambda x: np.maximum(x, 0.0), x)[0][0] == slopes(lambda x: np.maximum(0.0, x), x)[0][0] == 0.5
    assert slopes(lambda x: np.clip(x, 0.0, 2.0), x)[0].tolist() == [0.5, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("sign", [1, -1])
def test_entries_that_share_an_extremum_share_its_gradient_equally(sign):
    reduce = np.max if sign > 0 else np.min
    x = sign * np.array([[1.0, 1.0, 1.0, 0.0, 1.0], [3.0, 1.0, 2.0, 3.0, 0.0], [5.0, 1.0, 2.0, 3.0, 4.0]])
    weights = np.array([1.0, 10.0, -2.0])
    (found,) = slopes(lambda x: reduce(x, axis=1) * weights, x)
    ties = x == reduce(x, axis=1, keepdims=True)
    np.testing.assert_allclose(found, ties / ties.sum(1, keepdims=True) * weights[:, None], rtol=1e-15)
    (found,) = slopes(lambda x: reduce(x, axis=(0, 1), keepdims=True), x)
    ties = x == reduce(x)
    np.testing.assert_allclose(found, ties / ties.sum(), rtol=1e-15)


def test_without_a_gradient_an_extremum_is_one_gate():
    circuit = cs.compile(cs.trace(lambda x: np.max(x, axis=1), np.ones((2, 4)))).circuit
    assert [node.gate.name for node in circuit.nodes] == ["input", "max"]
    assert circuit.size == 0
