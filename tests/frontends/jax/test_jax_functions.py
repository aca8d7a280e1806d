"""Functions of JAX in a step: trained, retrained and predicted as in JAX, or refused with a line and a way out."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("jax.numpy", reason="the extra jax is not installed")

import jax
import jax.numpy as jnp
from jax import lax
from jax_cases import EXAMPLES, Case, check_series, distance

import circuitsketch as cs
from circuitsketch.frontends.jax import control_flow

APART = np.sin(7.0 * np.arange(16.0)).reshape(4, 4)  # added to elements that nearly tie
START = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)) / 2 + np.eye(4))
NUMBERS = (1, 3, 2)  # b["n"] of the three steps
WEIGHTS, DIRECTION = np.zeros((2, EXAMPLES))
WEIGHTS[:3], DIRECTION[:3] = (1.0, 0.5, -1.0), (0.3, -0.2, 0.5)


def positive(w):
    return jnp.square(w) + 0.5


def inside(w):
    return jnp.tanh(w) * 0.5


def key(b):
    return jax.random.PRNGKey(b["n"])


# Each is a function of a parameter w (4, 4) and a batch b with one integer n, which no weight reaches.
FUNCTIONS = {
    "while_on_data": lambda w, b: lax.while_loop(
        lambda c: c[0] < b["n"], lambda c: (c[0] + 1, jnp.tanh(c[1] @ w)), (0, w)
    )[1],
    "fori_loop": lambda w, b: lax.fori_loop(0, 3, lambda i, c: jnp.tanh(c @ w) + i, w),
    "scan_reversed": lambda w, b: lax.scan(lambda c, x: (jnp.tanh(c + x), c * x), w[0], w, reverse=True)[1],
    "scan_of_data": lambda w, b: lax.scan(lambda c, x: (c * x, b["n"] * x), w, jnp.arange(1.0, 4.0))[0],
    "cond_on_data": lambda w, b: lax.cond(b["n"] > 2, jnp.tanh, jnp.sin, w),
    "switch_on_data": lambda w, b: lax.switch(b["n"] % 3, [jnp.tanh, jnp.sin, jnp.cos], w),
    "cond_on_a_parameter": lambda w, b: lax.cond(w[0, 0] > 0, jnp.tanh, jnp.sin, w),
    "vmap_of_cond": lambda w, b: jax.vmap(lambda r: lax.cond(b["n"] > 2, jnp.tanh, jnp.sin, r))(w),
    "vmap_of_cond_on_a_parameter": lambda w, b: jax.vmap(lambda r: lax.cond(r[0] > 0, jnp.tanh, jnp.sin, r))(w),
    "dynamic_slice": lambda w, b: lax.dynamic_slice(w, (b["n"] - 1, 0), (2, 3)),
    "dynamic_update_slice": lambda w, b: lax.dynamic_update_slice(w, jnp.tanh(w[:2, :2]), (b["n"] - 1, 1)),
    "at_set": lambda w, b: w.at[b["n"]].set(jnp.tanh(w[0])),
    "at_add_twice": lambda w, b: w.at[jnp.array([0, 0, 2])].add(w[:3]),
    "at_set_diagonal": lambda w, b: w.at[jnp.arange(4), jnp.arange(4)].set(0.0),
    "gather_diagonals": lambda w, b: w[jnp.arange(3), (jnp.arange(3) + b["n"]) % 4],
    "gather_columns": lambda w, b: w[:, jnp.array([2, 0, 2]) - b["n"] + 1],
    "gather_clipped": lambda w, b: w.at[jnp.arange(3) + b["n"]].get(mode="clip"),
    "take_along_axis": lambda w, b: jnp.take_along_axis(w, jnp.arange(16).reshape(4, 4) % (b["n"] + 1), 1),
    "cumsum": lambda w, b: jnp.cumsum(w, 1),
    "cumprod": lambda w, b: jnp.cumprod(w, 1),
    "cumlogsumexp": lambda w, b: lax.cumlogsumexp(w, 1, reverse=True),
    "cummax": lambda w, b: lax.cummax(w, 1),
    "associative_scan": lambda w, b: lax.associative_scan(lambda a, c: (a[0] * c[0], c[0] * a[1] + c[1]), (w, w))[1],
    "norm": lambda w, b: jnp.linalg.norm(w, axis=1),
    "max": lambda w, b: w.max(1),
    "min_and_clip": lambda w, b: jnp.clip(w, -0.4, 0.9).min(1),
    "prod": lambda w, b: w.prod(1),
    "round_straight_through": lambda w, b: w + lax.stop_gradient(jnp.round(w * 8) / 8 - w),
    "lgamma": lambda w, b: lax.lgamma(positive(w)),
    "digamma": lambda w, b: lax.digamma(positive(w)),
    "atan": lambda w, b: jnp.arctan(w),
    "atan2": lambda w, b: jnp.arctan2(w, positive(w)),
    "asin": lambda w, b: jnp.arcsin(inside(w)),
    "acos": lambda w, b: jnp.arccos(inside(w)),
    "acosh": lambda w, b: jnp.arccosh(positive(w) + 1),
    "asinh": lambda w, b: jnp.arcsinh(w),
    "atanh": lambda w, b: jnp.arctanh(inside(w)),
    "cbrt": lambda w, b: jnp.cbrt(w),
    "log_ndtr": lambda w, b: jax.scipy.stats.norm.logcdf(w),
    "exp2": lambda w, b: jnp.exp2(w),
    "logaddexp": lambda w, b: jnp.logaddexp(w, 0.3),
    "power_of_a_parameter": lambda w, b: positive(w) ** w,
    "power": lambda w, b: positive(w) ** 1.7 + w**3 + positive(w) ** -0.5,
    "sinc": lambda w, b: jnp.sinc(w),
    "hypot": lambda w, b: jnp.hypot(w, positive(w)),
    "hyperbolic": lambda w, b: jnp.sinh(w) / jnp.cosh(w) + jnp.tan(w / 2),
    "noise": lambda w, b: w + jax.random.normal(key(b), (4, 4)),
    "gumbel_softmax": lambda w, b: jax.nn.softmax(w + jax.random.gumbel(key(b), (4, 4))),
    "pure_callback_of_data": lambda w, b: (
        w * jax.pure_callback(lambda n: np.asarray(n, float), jax.ShapeDtypeStruct((), float), b["n"])
    ),
    "einsum": lambda w, b: jnp.einsum("ij,jk,kl->il", w, w, w),
    "moving": lambda w, b: jnp.roll(jnp.flip(jnp.tile(jnp.repeat(w, 2, 0), (1, 2)), 1), 1, 0),
    "padding": lambda w, b: lax.pad(w, 0.5, ((1, -1, 1), (-1, 2, 0))),
    "debug_print": lambda w, b: (jax.debug.callback(lambda *_: None, w[0, 0]), w)[1],
    "nan_to_zero": lambda w, b: jnp.where(jnp.isnan(w) | ~jnp.isfinite(w), 0.0, w),
    "logic": lambda w, b: jnp.where((w > 0) & ~(w > 0.5) | (w < -0.2) ^ (w < -0.4), w, jnp.tanh(w)),
    "any_all": lambda w, b: jnp.where((w > 0).any(1) & (w > -9).all(1), w.sum(1), 0.0),
    "sign_abs": lambda w, b: jnp.sign(w) * jnp.abs(w) ** 2,
    "pool_min": lambda w, b: lax.reduce_window(w + APART, jnp.inf, lax.min, (2, 2), (1, 1), "SAME"),
    "pool_max": lambda w, b: lax.reduce_window(w, -jnp.inf, lax.max, (2, 3), (2, 1), "VALID"),
    "pool_sum": lambda w, b: lax.reduce_window(w, 0.0, lax.add, (2, 2), (2, 2), "SAME"),
    "convolve": lambda w, b: jnp.convolve(w[0], w[1], mode="full"),
    "accuracy_beside": lambda w, b: (w.argmax(1), jnp.sort(w), jnp.tanh(w))[2],
}
SOLVE, ORDER, CONSTANT = "decompositions of matrices", "the order of its elements", "locally constant"
REFUSED = {
    "while_on_a_parameter": (
        lambda w, b: lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2 + 1, w),
        "fixed number",
    ),
    "sort": (lambda w, b: jnp.sort(w, 1), ORDER),
    "top_k": (lambda w, b: lax.top_k(w, 2)[0], ORDER),
    "median": (lambda w, b: jnp.median(w, 1), ORDER),
    "argmax": (lambda w, b: w[jnp.arange(4), jnp.argmax(w, 1)], CONSTANT),
    "categorical": (lambda w, b: w[jax.random.categorical(key(b), w[0])], CONSTANT),
    "floor": (lambda w, b: jnp.floor(w) * w, CONSTANT),
    "to_integers": (lambda w, b: w.astype(int) * w, CONSTANT),
    "erf_inv": (lambda w, b: jax.scipy.special.erfinv(inside(w)), "no gate"),
    "bessel": (lambda w, b: lax.bessel_i0e(w), "no gate"),
    "solve": (lambda w, b: jnp.linalg.solve(w, jnp.ones(4)), SOLVE),
    "cholesky": (lambda w, b: jnp.linalg.cholesky(w @ w.T + jnp.eye(4)), SOLVE),
    "eigh": (lambda w, b: jnp.linalg.eigh(w + w.T)[0], SOLVE),
    "svd": (lambda w, b: jnp.linalg.svd(w, compute_uv=False), SOLVE),
    "qr": (lambda w, b: jnp.linalg.qr(w)[1], SOLVE),
    "fft": (lambda w, b: jnp.abs(jnp.fft.rfft(w)), "real and imaginary"),
    "complex": (lambda w, b: ((w + 1j * w) ** 2).real, "real and imaginary"),
    "callback": (lambda w, b: jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((4, 4), float), w), "callback"),
    "bits": (lambda w, b: w * ((w > 0).astype(int) & 3), "bits"),
    "integer_division": (lambda w, b: w * ((w > 0).astype(int) // 2), "integers"),
}


def make_step(function):
    """Return a step along the gradient of a function, or where JAX has none, along its value."""

    def step(w, b, keep):
        def total(w):
            y = function(w, b)
            return (keep * jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape))).sum()

        try:
            grads = jax.grad(total)(w)
        except (ValueError, TypeError):
            grads = jnp.tanh(function(w, b)).sum() * w * keep[0]
        return w - 0.1 * grads

    return step


BATCHES = [{"n": np.int64(n)} for n in NUMBERS]


def import_function(function):
    return cs.jax.training(make_step(function), START, BATCHES, [[0], [1], [2]])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_trains_retrains_and_has_the_series_of_jax(name):
    ids = [np.array([i]) for i in range(3)]
    case = Case(make_step(FUNCTIONS[name]), START, BATCHES, ids, lambda w, b: w, lambda state: state)
    for w in (np.zeros(EXAMPLES), WEIGHTS):
        assert distance(case.run.to_jax(case.run.retrain(without=w)), case.retrain(w)) < 1e-12
    check_series(case, DIRECTION, 0.02 * np.eye(EXAMPLES)[0])


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_line_and_a_way_out(name):
    function, advice = REFUSED[name]
    line = inspect.getsourcelines(function)[1]
    with pytest.raises(cs.TraceError, match=advice) as refusal:
        import_function(function)
    assert f"test_jax_functions.py:{line}" in str(refusal.value)
    assert "JAX's primitive '" in str(refusal.value)


def rounds_of_scan(w, rounds):
    cell = jax.jit(lambda c: lax.scan(lambda c, _: (jnp.tanh(c) * 0.5 + 0.1, None), c, None, length=2)[0])
    return lax.scan(lambda c, _: (cell(c), None), w, None, length=rounds)[0]


def rounds_of_while(w, rounds):
    return lax.while_loop(lambda c: c[0] < rounds, lambda c: (c[0] + 1, jnp.tanh(c[1]) * 0.5 + 0.1), (0, w))[1]


@pytest.mark.parametrize(("loop", "fits"), [(rounds_of_scan, 16), (rounds_of_while, 23)])  # of 6 and 4 operations
def test_a_loop_that_is_too_large_to_be_unrolled_is_refused_with_its_size(loop, fits, monkeypatch):
    monkeypatch.setattr(control_flow, "LARGEST", 96)

    def train(rounds):
        cs.jax.training(lambda w, b, keep: w * keep[0] + loop(w, rounds), START, BATCHES[:1], [[0]])

    train(fits)
    line = inspect.getsourcelines(loop)[1]
    words = rf"test_jax_functions.py:({line + 1}|{line + 2}) repeats .* above 96. Use fewer rounds"
    with pytest.raises(cs.TraceError, match=words):
        train(fits + 2)


def test_numbers_of_lower_precision_are_doubles_here():
    half = lambda w, b: (w.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(float)  # noqa: E731
    run, exact = import_function(half), import_function(lambda w, b: w @ w)
    assert distance(run.train(), exact.train()) < 1e-15
    state = START
    for batch in BATCHES:
        state = make_step(half)(state, batch, jnp.ones(1))
    assert 1e-5 < distance(run.train(), state) < 1e-2  # what rounding to bfloat16 does in JAX


def test_a_maximum_that_is_clear_gives_no_warning_of_its_derivative():
    with warnings.catch_warnings():
        warnings.simplefilter("error", cs.KinkWarning)
        for name in ("max", "min_and_clip", "pool_max", "logaddexp", "nan_to_zero", "norm"):
            cs.push(import_function(FUNCTIONS[name]), np.eye(3)[:1], order=2)


def test_positions_that_are_written_twice_are_refused():
    function = cs.jax.function(lambda w, positions: w.at[positions].set(w[:2] ** 2))
    circuit = cs.trace(function, np.ones((4, 4)), np.array([0, 1]))
    compiled = cs.compile(circuit)
    x = np.arange(16.0).reshape(4, 4)
    np.testing.assert_array_equal(compiled(x, np.array([3, 0])), [x[1] ** 2, x[1], x[2], x[0] ** 2])
    with pytest.raises(cs.BoundsError, match="written more than once"):
        compiled(x, np.array([3, 3]))


def test_a_measurement_is_traced_once_for_all_retrained_models():
    calls = []

    @cs.jax.function
    def measure(p, power):
        calls.append(power)
        return jnp.sum(p**power)

    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(2), [1.0, 2.0, 4.0], [[0], [1], [2]])
    query = cs.attribute(run, lambda p: measure(p, 3), budget=20)
    del calls[:]
    truth = query.source.retrain(np.eye(3))
    np.testing.assert_allclose(truth, 2 * np.array([6.0, 5.0, 3.0]) ** 3, rtol=1e-14)
    assert calls == [3]
