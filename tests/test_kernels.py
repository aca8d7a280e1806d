"""Compiled kernels against the reference evaluator, which knows nothing of lowering, fusion, lanes or machine code.

Tolerances are in units of the largest coefficient on any wire up to the order compared (at least 1): what is small by
cancellation carries the rounding of what it is the difference of. 1e-12 is some thousand roundings of a double,
and 1e-4 of a float.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import NAMES, application, programs

import circuitsketch as cs
from circuitsketch.compile import build, target_for
from circuitsketch.gates import GATES
from circuitsketch.kernels import reference
from circuitsketch.lower.tape import Mode
from circuitsketch.trace import flatten

TOLERANCE = {np.complex128: 1e-12, np.complex64: 1e-4}
SIZES = {"linear": 0.5, "steep": 1.5}
seeds = st.integers(0, 2**32 - 1)


def series_of(rng, args, directions, order, is_complex, size=0.5):
    """Random coefficients 1..order for the float leaves of arguments, None for whole numbers."""
    found = []
    for leaf in args:
        x = np.asarray(leaf)
        if x.dtype.kind != "f":
            found.append(None)
            continue
        shape = (directions, order, *x.shape)
        numbers = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if is_complex else 0.0)
        found.append(numbers * size ** np.arange(1, order + 1).reshape(-1, *(1,) * x.ndim))
    return tuple(found)


def slowly(circuit, args, series, order):
    """The reference's coefficients by output, and for each order the largest coefficient on any wire up to it."""
    scale = np.ones(order + 1)

    def watch(wire, node, found):
        for k in range(order + 1):
            entries = np.abs(np.asarray(found[k], dtype=complex))
            scale[k] = max(scale[k], np.max(entries, initial=0.0, where=np.isfinite(entries)))

    outputs = reference.run(circuit, [np.asarray(x, dtype=float) for x in args], series, order, watch)
    return outputs, np.maximum.accumulate(scale)


def assert_series(ours, theirs, scale, tolerance):
    """Compare coefficients (directions, order + 1, *shape)."""
    theirs = np.broadcast_to(theirs, (len(ours), *theirs.shape[1:]))
    assert ours.shape == theirs.shape
    for k in range(ours.shape[1]):
        np.testing.assert_allclose(ours[:, k], theirs[:, k], rtol=0, atol=tolerance * scale[k], err_msg=f"order {k}")


def assert_compiled(
    function, args, order, *, is_complex=True, dtype=np.complex128, width=None, directions=5, seed=0, threads=1
):
    """Values and coefficients of a compiled function are the reference's."""
    circuit = cs.trace(function, *args)
    compiled = cs.compile(circuit, order, dtype, width)
    tolerance = TOLERANCE[dtype]
    values, scale = slowly(circuit, args, [None] * len(args), 0)
    for ours, theirs in zip(flatten(compiled(*args))[0], values, strict=True):
        np.testing.assert_allclose(ours, theirs[0, 0].real, rtol=0, atol=TOLERANCE[np.complex128] * scale[0])
    series = series_of(np.random.default_rng(seed), args, directions, order, is_complex)
    if not order or all(s is None for s in series):
        return
    theirs, scale = slowly(circuit, args, series, order)
    ours = flatten(compiled.series(args, series, threads))[0]
    for one, two in zip(ours, theirs, strict=True):
        assert_series(one, two, scale, tolerance)


# Every gate.


@pytest.mark.parametrize("order", [0, 1, 2, 3, 7, 10])
@pytest.mark.parametrize("name", NAMES)
def test_every_gate_has_the_reference_values_and_series(name, order):
    for seed, is_complex in ((1, True), (2, False)):
        one = application(name, np.random.default_rng(seed))
        # An operand that cannot move is data inside the function, like any other plain array.
        assert_compiled(one.with_moving, [np.asarray(one.moving[0])], order) if False else None
        assert_compiled(
            lambda *moving, one=one: one.with_moving(moving), one.moving, order, is_complex=is_complex
        )


# A state that is carried from step to step: random steps in plain NumPy, so that running them is the oracle.

SQUARE = {
    # All keep entries below 1.3 in size, on the circle of complex weights too.
    "mean": lambda x, y: 0.5 * x + 0.5 * y,
    "difference": lambda x, y: 0.5 * (x - y),
    "product": lambda x, y: 0.7 * x * y,
    "sine": lambda x, y: 0.6 * np.sin(x),
    "matmul": lambda x, y: 0.3 * (x @ y),
    "rows": lambda x, y: 0.3 * x * y.sum(axis=0),
    "transpose": lambda x, y: x.T,
    "reverse": lambda x, y: x[::-1, ::-1],
    "reshape": lambda x, y: x.T.reshape(4)[::-1].reshape(2, 2),
    "repeat": lambda x, y: np.broadcast_to(x[0], (2, 2)),
    "concatenate": lambda x, y: np.concatenate([x[:1], y[1:]]),
    "stack": lambda x, y: np.stack([x[1], y[:, 0]]),
    "data": lambda x, y: np.array([[1.0, -0.5], [0.25, 0.75]]),
    "masked": lambda x, y: x * np.eye(2),
    "chosen": lambda x, y: np.where(np.array([[True, False], [False, True]]), x, y),
    "itself": lambda x, y: x,
}
instructions = st.tuples(st.sampled_from(sorted(SQUARE)), st.integers(0, 8), st.integers(0, 8))
codes = st.lists(instructions, max_size=8)


def random_step(code, results):
    """A step on a tuple of (2, 2) arrays: `code` by kind of batch, the new state any of the values it made."""

    def step(state, batch, keep):
        values = [*state, 0.9 * keep.reshape(2, 2), batch.reshape(2, 2)]
        for name, i, j in code[np.ndim(batch) - 2]:
            values.append(SQUARE[name](values[-1 - i % len(values)], values[-1 - j % len(values)]))
        return tuple(values[-1 - i % len(values)] for i in results[np.ndim(batch) - 2])

    return step


def by_hand(step, state, batches, examples, w):
    """The step iterated in NumPy, with weights 1 - w that may be complex."""
    for batch, ids in zip(batches, examples, strict=True):
        state = step(state, batch, 1.0 - w[ids])
    return state


def on_a_circle(function, order, points=16):
    """Taylor coefficients 0..order of a function of z: its values on the unit circle, Fourier transformed (Cauchy)."""
    values = np.stack([function(z) for z in np.exp(2j * np.pi * np.arange(points) / points)])
    return np.fft.fft(values, axis=0)[: order + 1] / points


@given(
    code=st.tuples(codes, codes),
    results=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=3),
    kinds=st.lists(st.integers(0, 1), min_size=1, max_size=4),
    seed=seeds,
)
def test_a_state_is_carried_from_step_to_step_as_in_numpy(code, results, kinds, seed):
    rng = np.random.default_rng(seed)
    step = random_step(code, tuple(zip(*results, strict=True)))
    state = tuple(rng.uniform(-1, 1, (2, 2)) for _ in results)
    batches = [rng.uniform(-1, 1, (1,) * kind + (2, 2)) for kind in kinds]
    examples = [rng.permutation(6)[:4] for _ in kinds]
    run = cs.Training(step, state, batches, examples, n=6)
    np.testing.assert_allclose(run.train(), by_hand(step, state, batches, examples, np.zeros(6)), atol=1e-13)
    weights = rng.uniform(-0.3, 0.3, (3, 6))
    many = run.retrain(weights)
    for row, w in enumerate(weights):
        alone = by_hand(step, state, batches, examples, w)
        np.testing.assert_allclose([leaf[row] for leaf in many], alone, atol=1e-13)
        np.testing.assert_allclose(run.retrain(w), alone, atol=1e-13)
    if not run.varying():
        return
    # Directions of size 0.2: coefficient 16, which the circle's 16 points mistake for coefficient 0, is below 1e-12.
    directions = 0.2 * (rng.uniform(-1, 1, (2, 6)) + 1j * rng.uniform(-1, 1, (2, 6)))
    pushed = cs.push(run, directions, 2).state
    for row, psi in enumerate(directions):
        found = on_a_circle(lambda z: np.stack(by_hand(step, state, batches, examples, z * psi)), 2)
        np.testing.assert_allclose(np.stack([leaf[row] for leaf in pushed], axis=1), found, atol=1e-12)
