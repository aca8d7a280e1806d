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
