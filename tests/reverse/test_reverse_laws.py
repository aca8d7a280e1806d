"""The laws of reverse sweeps, on random steps and on models: against directions, retraining, and themselves.

Directions are pushed by other circuits than those of the sweeps; retraining knows nothing of derivatives.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from steps import by_hand as iterated
from steps import codes, on_a_circle, random_step
from strategies import programs

import circuitsketch as cs
from circuitsketch.zoo import cnn, logistic, microgpt, mlp


def on_basis(run, measure):
    """The first coefficient along every basis direction, (*measurement, n)."""
    return np.moveaxis(cs.push(run, np.eye(run.n), 1).coefficients(measure)[:, 1], 0, -1)


def check_close(actual, expected, tolerance=1e-10):
    """Agreement relative to the largest entry."""
    assert actual.shape == expected.shape
    scale = np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=tolerance * max(scale, 1e-12))


def draw_directions(n, is_complex=False, count=3):
    """Some directions."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(count, n))
    return rows + 1j * rng.normal(size=rows.shape) if is_complex else rows


# Random steps on (2, 2) arrays, of two shapes of batch, in which examples are read several times and one is never read.

EXAMPLES = [[0, 1, 2, 3], [2, 4, 0, 0], [1, 3, 3, 4]]
BATCHES = [np.linspace(0.2, 1.0, 4), np.linspace(-1.0, 0.5, 4).reshape(1, 4), np.linspace(0.6, -0.4, 4)]
STATE = (np.array([[0.5, -0.3], [0.2, 0.8]]), np.array([[-0.6, 0.1], [0.9, 0.4]]))
steps = st.tuples(st.tuples(codes, codes), st.tuples(*[st.tuples(*[st.integers(0, 8)] * 2)] * 2))


def measure(state):
    return {"sum": np.sin(state[0]).sum(), "product": (state[0] * state[1])[0]}


@given(steps)
def test_random_steps_have_the_derivatives_of_the_same_steps_iterated_by_hand(code):
    step = random_step(*code)
    n = 6  # the last is never read
    run = cs.Training(step, STATE, BATCHES, EXAMPLES, n=n)
    assume(run.varying())

    def by_hand(w):
        return measure(iterated(step, STATE, BATCHES, [np.array(ids) for ids in EXAMPLES], w))

    psi = draw_directions(n)[0] / 20
    slopes = [on_a_circle(lambda z, i=i: join_values(by_hand(z * np.eye(n)[i] / 20)), 1)[1] * 20 for i in range(n)]
    expected = np.stack(slopes, axis=-1)
    assume(np.any(np.abs(expected) > 1e-9))
    gradient = cs.metagradient(run, measure)
    check_close(np.concatenate([gradient["sum"][None], gradient["product"]]), expected.real, 1e-9)
    assert not np.any(gradient["sum"][5:]) and not np.any(gradient["product"][:, 5:])
    along = cs.metagradient(run, measure, directions=[psi], order=2)
    series = on_a_circle(lambda z: join_values(by_hand(z * psi)), 3)
    euler = np.concatenate([along["sum"][0, :, None], along["product"][0]], axis=1) @ psi
    for k in range(3):
        np.testing.assert_allclose(euler[k], (k + 1) * series[k + 1].real, rtol=1e-8, atol=1e-11)


def join_values(measured):
    return np.concatenate([np.atleast_1d(measured["sum"]), measured["product"]])


# Random programs over the table of gates.


def run_of(program, of_gradient):
    """Two steps that read the program's arrays, each times a keep; `of_gradient`: as training does, its gradient."""

    def value(floats, batch):
        rest = iter(floats)
        return program.number(*(next(rest) if i in program.floats else x for i, x in enumerate(batch)))

    def step(state, batch, keep):
        floats = [batch[i] * keep[j] for j, i in enumerate(program.floats)]
        if of_gradient:
            change = sum(np.sum(slope) for slope in cs.grad(value)(floats, batch))
        else:
            change = cs.stop_gradient(value(floats, batch))
        return 0.5 * state + change * np.cos(0.1 * state)

    ids = list(range(len(program.floats)))
    return cs.Training(step, np.zeros(()), [tuple(program.inputs)] * 2, [ids, ids])


@pytest.mark.parametrize("of_gradient", [False, True])
@settings(max_examples=max(settings.default.max_examples // 2, 6))
@given(program=programs(most=6))
def test_random_programs_have_the_first_coefficients_of_basis_directions(of_gradient, program):
    run = run_of(program, of_gradient)
    assume(run.varying())
    measure = lambda s: s + 0.1 * s * s  # noqa: E731
    expected = on_basis(run, measure)
    assume(np.any(expected))
    check_close(cs.metagradient(run, measure), expected)
    psi = draw_directions(run.n)[:1]
    along = cs.metagradient(run, measure, directions=psi, order=2)[0]
    series = cs.push(run, psi, 3).coefficients(measure)[0]
    np.testing.assert_allclose(along @ psi[0], series[1:] * [1, 2, 3], rtol=1e-8, atol=1e-8 * np.abs(series[1:]).max())


# Models.


def names():
    docs = microgpt.names()[:6]
    run = microgpt.training(docs, seed=1, steps=9, width=4, heads=2, alphabet=microgpt.ALPHABET)
    return run, lambda p: np.stack([microgpt.loss(p, name, heads=2) for name in ("max", "anna")])


def images(model, **options):
    data = model.data(10)
    x, y = data.test_x[:3], data.test_y[:3]
    return model.training(data.x, data.y, **options), lambda p: model.margin(p, x, y)


MODELS = {
    "names, adam": names,
    "relu, minibatches, epochs": lambda: images(mlp, width=4, activation="relu", epochs=3, batch_size=4),
    "logistic, momentum": lambda: images(logistic, epochs=4),
    "convolution, adam": lambda: images(cnn, channels=(2, 2), epochs=2, batch_size=4),
    "groups": lambda: (names()[0].grouped(["a", "b", "a", "c", "b", "b"]), names()[1]),
}


@cache
def model(name):
    """A run, a measurement of it, and the value of the measurement after retraining."""
    run, function = MODELS[name]()
    return run, function


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_first_coefficients_of_basis_directions(name):
    run, function = model(name)
    expected = on_basis(run, function)
    check_close(cs.metagradient(run, function), expected)
    check_close(cs.metagradient(run, lambda p: function(p)[1]), expected[1])  # without lanes


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_finite_differences_of_retraining_at_any_weights(name):
    run, function = model(name)
    at = np.random.default_rng(2).uniform(-0.3, 0.5, run.n)
    gradient = cs.metagradient(run, function, at=at)
    ends = [[function(run.params(run.retrain(at + size * row))) for row in np.eye(run.n)] for size in (-1e-4, 1e-4)]
    # The third derivative times 1e-8 / 6, and rounding over 2e-4.
    check_close(gradient, (np.transpose(ends[1]) - np.transpose(ends[0])) / 2e-4, 1e-5)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", ["names, adam", "relu, minibatches, epochs"])
def test_along_a_direction_the_derivatives_are_those_of_its_series(name, is_complex):
    run, function = model(name)
    rows = draw_directions(run.n, is_complex)
    along = cs.metagradient(run, function, directions=rows, order=2)
    assert along.dtype == (np.complex128 if is_complex else np.float64)
    series = cs.push(run, rows, 3).coefficients(function)
    euler = np.einsum("dkvn,dn->dkv", along, rows)  # psi . (5)_k = (k + 1) c_{k+1}(psi)
    for k in range(3):
        check_close(euler[:, k], (k + 1) * series[:, k + 1])
    check_close(along[0, 0], cs.metagradient(run, function) + 0.0j * rows[0, 0], 1e-12)


@pytest.mark.parametrize("name", ["names, adam", "convolution, adam"])
def test_hessian_rows_are_symmetric_and_are_differences_of_metagradients(name):
    run, function = model(name)
    rows = draw_directions(run.n, count=2)
    hessian = cs.metagradient(run, function, directions=rows)[:, 1]
    form = np.einsum("dvn,en->vde", hessian, rows)
    check_close(form, form.swapaxes(1, 2), 1e-12)
    ends = [cs.metagradient(run, function, at=size * rows[0]) for size in (-1e-4, 1e-4)]
    check_close(hessian[0], (ends[1] - ends[0]) / 2e-4, 1e-5)


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_bits_depend_on_neither_threads_nor_checkpoints(is_complex):
    run, function = model("names, adam")
    nine_times = lambda p: np.concatenate([function(p) * factor for factor in range(1, 10)])  # more than a block  # noqa: E731
    rows = draw_directions(run.n, is_complex, count=9)
    plain = cs.metagradient(run, nine_times)
    along = cs.metagradient(run, function, directions=rows)
    one = cs.metagradient(run, lambda p: function(p)[0])
    for threads, checkpoints in ((1, 1), (2, 3), (3, run.steps), (None, 2)):
        options = {"threads": threads, "checkpoints": checkpoints}
        assert np.array_equal(cs.metagradient(run, nine_times, **options), plain)
        assert np.array_equal(cs.metagradient(run, function, directions=rows, **options), along)
        assert np.array_equal(cs.metagradient(run, lambda p: function(p)[0], **options), one)


def test_single_precision_has_the_coefficients_to_its_rounding():
    run, function = model("names, adam")
    rows = draw_directions(run.n, True)
    double = cs.metagradient(run, function, directions=rows, order=2)
    single = cs.metagradient(run, function, directions=rows, order=2, dtype=np.complex64)
    assert single.dtype == np.complex128  # sums are taken in double precision
    assert np.array_equal(single[:, 0], double[:, 0])
    for k in (1, 2):
        check_close(single[:, k], double[:, k], 1e-5)
    assert np.any(single[:, 1] != double[:, 1])


def test_along_directions_the_point_of_expansion_may_be_any_weights():
    run, function = model("names, adam")
    rows, at = draw_directions(run.n, count=2), np.full(run.n, 0.25)
    along = cs.metagradient(run, function, directions=rows, at=at)
    check_close(along[1, 0], cs.metagradient(run, function, at=at), 1e-12)
    ends = [cs.metagradient(run, function, at=at + size * rows[1]) for size in (-1e-4, 1e-4)]
    check_close(along[1, 1], (ends[1] - ends[0]) / 2e-4, 1e-5)
