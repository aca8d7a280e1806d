"""Array functions beside those of test_trace.py: each on wires against NumPy on arrays, and none left untried.

Integers too: narrow ones do not wrap around, and those that float64 does not hold are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import ROWS, SQUARE, V, W, X, Z, agrees
from test_trace_array_functions import FUNCTION_TABLE

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.errors import InputError, TraceError
from circuitsketch.frontends.numpy.array_functions import FUNCTIONS
from circuitsketch.tree import flatten

TABLE: list[tuple[Any, Any, tuple[Any, ...]]] = [
    (np.average, lambda x: [np.average(x), np.average(x, 1, V), np.average(x, 0, X**2, True)], (X,)),
    (np.average, lambda x: np.average(X, axis=0, weights=x, keepdims=True), (X[:, 0] ** 2,)),
    (np.average, lambda x: np.average(x, axis=(2, 0), weights=np.ones((3, 2))), (Z,)),
    (np.ptp, lambda x: [np.ptp(x), np.ptp(x, 0), np.ptp(x, axis=1, keepdims=True)], (X,)),
    (np.any, lambda x: [np.any(x > 1), np.any(x, axis=1), np.any(x[:0], axis=0)], (X,)),
    (np.all, lambda x: [np.all(x > -1), np.all(x, axis=1, keepdims=True), np.all(x[:0])], (X,)),
    (np.cumsum, lambda x: [np.cumsum(x), np.cumsum(x > 0, 1), np.cumsum(x, -1), x.cumsum(axis=0)], (X,)),
    (np.cumprod, lambda x: [np.cumprod(x), np.cumprod(x > 0, 1), np.cumprod(x, -1), x.cumprod(axis=0)], (X,)),
    *(
        (function, lambda x, f=function: [f(x, axis=1), f(x, axis=0, include_initial=True), f(x[0])], (X,))
        for name in ("cumulative_sum", "cumulative_prod")
        if (function := getattr(np, name, None)) is not None
    ),
    (np.count_nonzero, lambda x: [np.count_nonzero(x), np.count_nonzero(x > 0, axis=0)], (X,)),
    (
        np.linalg.vector_norm,
        lambda x: [np.linalg.vector_norm(x, ord=1), np.linalg.vector_norm(x, axis=0)],
        (X,),
    ),
    (np.linalg.matrix_norm, lambda x: [np.linalg.matrix_norm(x), np.linalg.matrix_norm(x, ord=-1)], (Z,)),
    (np.linalg.norm, lambda x: [np.linalg.norm(x, o, (2, 0)) for o in (1, -1, np.inf, -np.inf)], (Z,)),
    (np.linalg.trace, lambda x: [np.linalg.trace(x), np.linalg.trace(x, offset=-1)], (Z,)),
    (np.trace, lambda x: [np.trace(x, 1, -1, 0), np.trace(x > 0)], (Z,)),
    (np.matrix_transpose, np.matrix_transpose, (Z,)),
    (np.linalg.matrix_transpose, np.linalg.matrix_transpose, (Z,)),
    (np.rollaxis, lambda x: [np.rollaxis(x, 2), np.rollaxis(x, 0, 3), np.rollaxis(x, -1, 1)], (Z,)),
    (np.atleast_3d, lambda x, v: [*np.atleast_3d(x, v, v[0]), *np.atleast_1d(x, 1.0)], (X, V)),
    (np.broadcast_arrays, lambda x, v: list(np.broadcast_arrays(x, v, 1.0)), (X, V)),
    (
        np.meshgrid,
        lambda v: [*np.meshgrid(v, V[:2]), *np.meshgrid(v, v, V, indexing="ij", sparse=True)],
        (V,),
    ),
    (np.dstack, lambda x: [np.dstack([x, X]), np.dstack([x[0], V])], (X,)),
    (np.column_stack, lambda x: np.column_stack([x[:, 0], X, x]), (X,)),
    (np.append, lambda x: [np.append(x, X[:1], axis=0), np.append(x, 2.0), np.append(V, x)], (X,)),
    (np.array_split, lambda x: [*np.array_split(x, 3), *np.array_split(x, [1, 1, 9], axis=1)], (X,)),
    (np.hsplit, lambda x: [*np.hsplit(x, 3), *np.hsplit(x[0], [1])], (X,)),
    (np.vsplit, lambda x: np.vsplit(x, 2), (X,)),
    (np.dsplit, lambda x: np.dsplit(x, [2]), (Z,)),
    (np.flipud, np.flipud, (X,)),
    (np.fliplr, np.fliplr, (Z,)),
    (np.rot90, lambda x: [np.rot90(x, k, axes) for k in range(-1, 5) for axes in ((0, 1), (2, 0))], (Z,)),
    (np.diagflat, lambda x: [np.diagflat(x), np.diagflat(x, -2)], (SQUARE,)),
    (np.diag, lambda x: [np.diag(x, 2), np.diag(x, -1), np.diag(x[:0], 1)], (V,)),
    (np.diagonal, lambda x: [np.diagonal(x, 1, 2, 0), np.diagonal(x, -1), np.diagonal(x, 7)], (Z,)),
    (np.linalg.diagonal, lambda x: np.linalg.diagonal(x, offset=1), (Z,)),
    (np.select, lambda x: [np.select([x > 1, x > 0], [x, 2], -1.0), np.select([x > 0], [True])], (X,)),
    (np.linalg.outer, lambda x, v: np.linalg.outer(x[0], v), (X, V)),
    (np.linalg.matmul, lambda x: np.linalg.matmul(x, W), (X,)),
    (np.linalg.vecdot, lambda x: [np.linalg.vecdot(x, V), np.linalg.vecdot(x, X, axis=0)], (X,)),
    (np.linalg.tensordot, lambda x: np.linalg.tensordot(x, W, axes=([1], [0])), (X,)),
    (np.linalg.multi_dot, lambda x: np.linalg.multi_dot([V, x.T, x, W, W[0]]), (X,)),
    (np.kron, lambda x: [np.kron(x, V), np.kron(V, x), np.kron(x > 0, X[:2] > 0), np.kron(x[0, 0], X)], (X,)),
    (
        np.cross,
        lambda x, v: [np.cross(x, v), np.cross(x[:3], X[:3], axis=0), np.cross(v, X, axisc=0)],
        (X, V),
    ),
    (np.linalg.cross, lambda x, v: np.linalg.cross(x, v), (X, V)),
    (np.einsum, lambda x: [np.einsum(x, [0, 1], W, [1, 2], [2, 0]), np.einsum(x, [..., 1])], (X,)),
    (np.pad, lambda x: [np.pad(x, w, m) for w in (1, (3, 2)) for m in ("edge", "reflect", "wrap")], (X,)),
    (
        np.pad,
        lambda x: [np.pad(x, ((1, 0), (0, 2)), constant_values=((1, 2), (3, 4))), np.pad(x[0, 0], 2)],
        (X,),
    ),
    (np.repeat, lambda x: [np.repeat(x, [2, 0, 1], axis=1), np.repeat(x > 0, [1], axis=0)], (X,)),
    (np.roll, lambda x: [np.roll(x, (1, -2), (0, 1)), np.roll(x, 1, (0, 1)), np.roll(x, (3, 4))], (X,)),
    (np.diff, lambda x: [np.diff(x, prepend=1.0), np.diff(x > 0, axis=0), np.diff(x, 2, 0, x[:1], X)], (X,)),
    (np.tril, lambda x: [np.tril(x), np.triu(x > 0), np.tril(x[0])], (ROWS.reshape(2, 2),)),
    (np.reshape, lambda x: [np.reshape(x, (3, -1), order="F"), np.ravel(x, "F")], (Z,)),
    (np.prod, lambda x: [np.prod(x > 0, axis=1), np.prod(x[:0]), np.prod(x > 0, axis=())], (X,)),
    (np.max, lambda x: [np.max(x > 0, axis=0), np.min(x > 0), np.max(x, initial=2)], (X,)),
    (np.real, lambda x: np.real(x) + np.imag(x) + x.real + x.imag, (X,)),
    (np.imag, np.imag, (ROWS,)),
    (np.isrealobj, lambda x: x * np.isrealobj(x), (X,)),
    (np.iscomplexobj, lambda x: x * (1 - np.iscomplexobj(x)), (X,)),
    (np.can_cast, lambda x: x * np.can_cast(x, float), (X,)),
    *[(np.astype, lambda x: np.astype(x > 0, np.float32), (X,)) for _ in range(hasattr(np, "astype"))],
    *[(np.unstack, lambda x: np.unstack(x, axis=1), (X,)) for _ in range(hasattr(np, "unstack"))],
]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_an_array_function_on_wires_agrees_with_numpy(row):
    _, function, args = TABLE[row]
    agrees(function, *args)


def test_every_array_function_of_the_table_is_tested():
    assert {function for function, _, _ in [*FUNCTION_TABLE, *TABLE]} == set(FUNCTIONS)


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum, np.minimum, np.logaddexp], ids=lambda u: u.__name__)
def test_running_totals_of_ufuncs_agree_with_numpy(ufunc):
    agrees(lambda x, z: [ufunc.accumulate(x), ufunc.accumulate(x, axis=1), ufunc.accumulate(z, -2)], X, Z)


def test_the_gradient_of_a_running_product_is_numpys_differences_also_through_a_zero():
    x, weights = np.array([2.0, 0.0, -1.5, 3.0, 0.5]), np.array([1.0, -2.0, 0.5, 3.0, 1.5])
    ours = cs.grad(lambda x: np.cumprod(x) @ weights)(x)
    theirs = [(np.cumprod(x + d) @ weights - np.cumprod(x - d) @ weights) / 2e-6 for d in 1e-6 * np.eye(5)]
    np.testing.assert_allclose(ours, theirs, atol=1e-7)  # rounding over the step


def test_outer_methods_of_ufuncs_agree_with_numpy():
    agrees(lambda x, v: [np.add.outer(x, v), np.multiply.outer(v, X), np.subtract.outer(V, x)], X, V)
    agrees(lambda x: [np.logical_or.reduce(x > 0), np.logical_and.reduce(x, axis=None), np.add.reduce(x > 0)], X)


@pytest.mark.parametrize("large", [2**53 + 1, -(2**53) - 1, 2**63 - 1, np.uint64(2**64 - 1), np.array([1, 2**60 + 1])])
def test_integers_that_float64_does_not_hold_are_refused(large):
    with pytest.raises(
        TraceError, match=r"test_array_functions\.py:\d+ mixes a wire with .* beyond 2\*\*53 .* such as -?\d+;"
    ):
        cs.trace(lambda i: i - large, ROWS[0])
    circuit = cs.compile(cs.trace(lambda i: i - 1, large))
    with pytest.raises(InputError, match=r"args\.0 contains integers beyond 2\*\*53 .* such as -?\d+;"):
        circuit(large)
    kept = np.int64(-(2**63))
    assert evaluate(cs.trace(lambda i: np.maximum(i, kept), ROWS), [ROWS])[0].tolist() == ROWS.tolist()
    assert cs.compile(cs.trace(lambda i: 1 * i, kept))(kept) == -(2.0**63)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, bool])
def test_narrow_integers_are_int64_that_neither_wrap_around_nor_change_shape(dtype):
    x, y = np.array([0, 1, 100]).astype(dtype), np.array([1, 100, 100]).astype(dtype)
    wide, other = (array if dtype is bool else array.astype(np.int64) for array in (x, y))
    for function in (
        lambda x, y: x * y,
        lambda x, y: x + y,
        lambda x, y: x @ y,
        lambda x, y: [np.sum(x), np.prod(x), np.max(x), np.mean(x), np.min(y)],
        lambda x, y: [np.dot(x, y), np.outer(x, y), np.kron(x, y), np.einsum("i,i", x, y), np.vdot(x, y)],
        lambda x, y: [x / 2, x > y, np.exp(x / 100), x.astype(float), x.T, np.where(x > 0, x, y)],
    ):
        traced = evaluate(cs.trace(function, x, y), [x, y])
        for ours, theirs in zip(traced, flatten(function(wide, other))[0], strict=True):
            np.testing.assert_allclose(ours, np.asarray(theirs, dtype=float), rtol=1e-14)
    if dtype is not bool:
        assert evaluate(cs.trace(lambda x, y: x - y, x, y), [x, y])[0].tolist() == [-1, -99, 0]
