"""Tracing: NumPy on wires agrees with NumPy on arrays, pytrees come back as they were, and refusals tell the way out.

The oracle is NumPy: the function is called on arrays, and its traced circuit evaluated at them.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import os
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from scipy import special
from strategies import NAMES, many, programs

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import check
from circuitsketch.errors import BoundsError, InputError, ShapeError, TraceError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.frontends.numpy.dispatch import SPECIAL, UFUNCS
from circuitsketch.tree import flatten, transform

HERE = os.path.basename(__file__)
rng = np.random.default_rng(0)
V = rng.normal(size=3)
X = rng.normal(size=(4, 3))
Z = rng.normal(size=(2, 4, 3))
W = rng.normal(size=(3, 5))
SQUARE = rng.normal(size=(3, 3))
POSITIVE = np.abs(X) + 0.3
SMALL = X / 4
ROWS = np.array([1, 3, 3, 0])
COLUMNS = np.array([0, 2, 1, 2])
ONE = np.array(1.5)
LABELS = {"f": "float", "i": "int", "u": "int", "b": "bool"}


def agrees(function, *args):
    """Trace, evaluate, and compare values, shapes and dtypes with NumPy's."""
    circuit = check(cs.trace(function, *args))
    leaves, _ = flatten(args)
    found = evaluate(circuit, leaves)
    with np.errstate(all="ignore"):
        expected, tree = flatten(function(*args))
    assert circuit.out_tree == tree
    for ours, wire, theirs in zip(found, circuit.outputs, expected, strict=True):
        theirs = np.asarray(theirs)
        assert ours.shape == theirs.shape
        assert circuit.nodes[wire].label == LABELS[theirs.dtype.kind]
        # The same few operations in another order: some units in the last place of numbers of order one to ten.
        np.testing.assert_allclose(ours, theirs.astype(float), rtol=1e-13, atol=1e-13)


# Ufuncs, by the operands that they are tried on.
UFUNC_TABLE: list[tuple[tuple[Any, ...], str]] = [
    (
        (X,),
        "negative square absolute fabs exp expm1 exp2 sin cos tan sinh cosh tanh positive reciprocal erf expit "
        "arctan arcsinh erfc log_ndtr "
        "conjugate deg2rad rad2deg degrees radians",
    ),
    ((POSITIVE,), "log log1p log2 log10 sqrt gammaln psi"),
    ((np.tanh(X),), "arcsin arccos arctanh"),
    ((1.0 + POSITIVE,), "arccosh"),
    ((0.5 + 0.4 * np.tanh(X),), "logit"),
    ((X, POSITIVE), "arctan2 hypot"),
    (
        (X, X[::-1]),
        "add subtract multiply divide true_divide maximum minimum logaddexp logaddexp2 "
        "logical_and logical_or logical_xor",
    ),
    ((X, X.round(1)), "greater greater_equal less less_equal equal not_equal"),
    ((POSITIVE, POSITIVE), "power float_power"),
    ((X, W), "matmul"),
    ((X, X), " ".join(name for name in ("vecdot",) if hasattr(np, name))),
    ((X, V), " ".join(name for name in ("matvec",) if hasattr(np, name))),
    ((V, W), " ".join(name for name in ("vecmat",) if hasattr(np, name))),
    (
        (X > 0, X < 1),
        "bitwise_and bitwise_or bitwise_xor logical_and logical_or add multiply maximum minimum equal not_equal",
    ),
    ((X > 0,), "invert logical_not"),
    ((X, 0.5), "add subtract multiply divide maximum minimum"),
    ((2.0, X), "add subtract multiply divide maximum minimum power less equal"),
    ((X, V), "add subtract multiply divide maximum minimum greater equal"),
    ((X, 3), "power add multiply"),
    ((X, -2), "power"),
    ((X, 0), "power maximum not_equal logical_and"),
    ((X, 100), "power"),
    ((POSITIVE, 0.5), "power"),
    ((POSITIVE, -0.5), "power"),
    ((POSITIVE, 1.7), "power float_power"),
    ((0.0, POSITIVE), "power"),
    ((np.array([0.0, 1.0, 2.0]), POSITIVE), "power"),
    ((ROWS,), "negative square absolute exp positive logical_not"),
    ((ROWS, COLUMNS), "add subtract multiply divide maximum minimum greater equal not_equal logical_and"),
    ((ROWS, 2), "add multiply power divide equal"),
    ((X, X.astype(np.float32)), "add multiply divide maximum"),
    ((X, True), "add multiply"),
    ((ONE,), "exp negative square sqrt"),
    ((ONE, X), "add multiply divide less"),
    ((X[:0], V), "add multiply"),
]
UFUNC_CASES = [(name, i) for i, (_, names) in enumerate(UFUNC_TABLE) for name in names.split()]


def ufunc_named(name):
    return getattr(np, name, None) or getattr(special, name)


@pytest.mark.parametrize(("name", "row"), UFUNC_CASES)
def test_a_ufunc_on_wires_agrees_with_numpy(name, row):
    ufunc, operands = ufunc_named(name), UFUNC_TABLE[row][0]
    arrays = [x for x in operands if isinstance(x, np.ndarray)]
    agrees(ufunc, *arrays) if len(arrays) == len(operands) else None
    for at, x in enumerate(operands):  # one wire, the other operands plain data
        if isinstance(x, np.ndarray):
            agrees(lambda wire, at=at: ufunc(*operands[:at], wire, *operands[at + 1 :]), x)


def test_every_ufunc_of_the_table_is_tried():
    assert {ufunc_named(name) for name, _ in UFUNC_CASES} == set(UFUNCS) | {getattr(special, name) for name in SPECIAL}


# Array functions: expressions of x, the first argument (and y, the second).
FUNCTION_TABLE: list[tuple[Any, Any, tuple[Any, ...]]] = [
    *[
        (function, lambda x, f=function, o=options: f(x, **o), (x,))
        for function in (np.sum, np.mean, np.var, np.std, np.max, np.min, np.amax, np.amin, np.prod)
        for x, options in [
            (Z, {}),
            (Z, {"axis": 0}),
            (Z, {"axis": -1}),
            (Z, {"axis": (0, 2)}),
            (Z, {"axis": (-1, 0), "keepdims": True}),
            (Z, {"axis": 1, "keepdims": True}),
            (Z, {"axis": ()}),
            (Z, {"keepdims": True}),
            (ONE, {}),
            (X[:0], {"axis": 1}),
        ]
    ],
    (np.sum, lambda x: np.sum(x), (X[:0],)),
    (np.sum, lambda x: np.sum(x, 0, keepdims=True), (X > 0,)),
    (np.sum, lambda x: np.sum(x), (ROWS,)),
    (np.mean, lambda x: np.mean(x, -1), (X > 0,)),
    (np.max, lambda x: np.max(x), (ROWS,)),
    (np.max, lambda x: np.max(x, axis=0), (np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 2.0]]),)),
    (np.prod, lambda x: np.prod(x, axis=-1), (ROWS,)),
    (np.var, lambda x: np.var(x, axis=1, ddof=1), (X,)),
    (np.std, lambda x: np.std(x, axis=0, ddof=1, keepdims=True), (X,)),
    (np.linalg.norm, lambda x: np.linalg.norm(x), (X,)),
    (np.linalg.norm, lambda x: np.linalg.norm(x, axis=-1, keepdims=True), (X,)),
    (np.linalg.norm, lambda x: np.linalg.norm(x, 2), (V,)),
    (np.linalg.norm, lambda x: np.linalg.norm(x, "fro", axis=(0, 2)), (Z,)),
    (np.trace, lambda x: np.trace(x), (X,)),
    (np.reshape, lambda x: np.reshape(x, (2, -1)), (X,)),
    (np.reshape, lambda x: np.reshape(x, 12), (X,)),
    (np.reshape, lambda x: np.reshape(x, (2, 2, 1)), (ROWS,)),
    (np.reshape, lambda x: np.reshape(x, (2, 6)), (X > 0,)),
    (np.reshape, lambda x: np.reshape(x, ()), (V[:1],)),
    (np.ravel, lambda x: np.ravel(x), (Z,)),
    (np.ravel, lambda x: np.ravel(x), (X[:0],)),
    (np.transpose, lambda x: np.transpose(x), (Z,)),
    (np.transpose, lambda x: np.transpose(x, (1, -1, 0)), (Z,)),
    (np.transpose, lambda x: np.transpose(x), (ROWS,)),
    (np.swapaxes, lambda x: np.swapaxes(x, 0, -1), (Z,)),
    (np.moveaxis, lambda x: np.moveaxis(x, 0, -1), (Z,)),
    (np.moveaxis, lambda x: np.moveaxis(x, (0, 1), (-1, 0)), (Z,)),
    (np.expand_dims, lambda x: np.expand_dims(x, -1), (X,)),
    (np.expand_dims, lambda x: np.expand_dims(x, (0, 2)), (X,)),
    (np.squeeze, lambda x: np.squeeze(x), (X[:1, None],)),
    (np.squeeze, lambda x: np.squeeze(x, axis=-2), (X[:, None],)),
    (np.atleast_1d, np.atleast_1d, (ONE,)),
    (np.atleast_2d, np.atleast_2d, (V,)),
    (np.broadcast_to, lambda x: np.broadcast_to(x, (2, 4, 3)), (X,)),
    (np.broadcast_to, lambda x: np.broadcast_to(x, 3), (ONE,)),
    (np.concatenate, lambda x, y: np.concatenate([x, y, np.ones((1, 3))], axis=0), (X, X)),
    (np.concatenate, lambda x, y: np.concatenate((x, y), axis=-1), (X, X)),
    (np.concatenate, lambda x, y: np.concatenate((x, y), axis=None), (X, V)),
    (np.concatenate, lambda x, y: np.concatenate((x, y)), (ROWS, COLUMNS)),
    (np.concatenate, lambda x, y: np.concatenate((x, y)), (X > 0, X > 1)),
    (np.concatenate, lambda x: np.concatenate(x), (Z,)),
    (np.stack, lambda x, y: np.stack([x, y]), (X, X)),
    (np.stack, lambda x, y: np.stack([x, y, V], axis=-1), (V, V)),
    (np.stack, lambda x: np.stack([x, 1.0, 2]), (ONE,)),
    (np.hstack, lambda x, y: np.hstack([x, y]), (X, X)),
    (np.hstack, lambda x, y: np.hstack([x, y]), (V, ONE)),
    (np.vstack, lambda x, y: np.vstack([x, y]), (X, V)),
    (np.split, lambda x: np.split(x, 2), (X,)),
    (np.split, lambda x: np.split(x, [1, 2], axis=-1), (X,)),
    (np.pad, lambda x: np.pad(x, 1), (X,)),
    (np.pad, lambda x: np.pad(x, ((0, 1), (2, 0)), constant_values=-2.5), (X,)),
    (np.pad, lambda x: np.pad(x, (1, 2), constant_values=-np.inf), (V,)),
    (np.flip, lambda x: np.flip(x), (X,)),
    (np.flip, lambda x: np.flip(x, axis=-1), (X,)),
    (np.roll, lambda x: np.roll(x, 5), (X,)),
    (np.roll, lambda x: np.roll(x, -1, axis=1), (X,)),
    (np.roll, lambda x: np.roll(x, 0, axis=0), (X,)),
    (np.repeat, lambda x: np.repeat(x, 2), (X,)),
    (np.repeat, lambda x: np.repeat(x, 3, axis=-1), (X,)),
    (np.tile, lambda x: np.tile(x, 2), (X,)),
    (np.tile, lambda x: np.tile(x, (2, 1, 3)), (X,)),
    (np.tril, lambda x: np.tril(x), (SQUARE,)),
    (np.tril, lambda x: np.tril(x, -1), (Z,)),
    (np.triu, lambda x: np.triu(x, 1), (X,)),
    (np.diag, lambda x: np.diag(x), (V,)),
    (np.diag, lambda x: np.diag(x, 1), (X,)),
    (np.diagonal, lambda x: np.diagonal(x), (X,)),
    (np.diagonal, lambda x: np.diagonal(x, -2), (X,)),
    (np.diagonal, lambda x: np.diagonal(x, 5), (X,)),
    (np.diff, lambda x: np.diff(x), (X,)),
    (np.diff, lambda x: np.diff(x, n=2, axis=0), (X,)),
    (np.take, lambda x: np.take(x, [0, -1, 2]), (X,)),
    (np.take, lambda x: np.take(x, np.array([[0, -1], [2, 2]]), axis=-1), (X,)),
    (np.take, lambda x: np.take(x, 2, axis=0), (X,)),
    (np.take, lambda x, y: np.take(x, y, axis=0), (X, ROWS)),
    (np.take, lambda x, y: np.take(x, y), (X, ROWS)),
    (np.take, lambda x, y: np.take(x, 2 * y - y, axis=1), (X, COLUMNS)),
    (np.take_along_axis, lambda x, y: np.take_along_axis(x, y[:, None], axis=1), (X, COLUMNS)),
    (np.take_along_axis, lambda x: np.take_along_axis(x, np.array([[0], [-1], [1], [2]]), axis=-1), (X,)),
    (np.take_along_axis, lambda x: np.take_along_axis(x, ROWS, axis=None), (X,)),
    (np.take_along_axis, lambda y: np.take_along_axis(X, y[:, None], axis=1), (COLUMNS,)),
    (np.take_along_axis, lambda x, y: np.take_along_axis(x[:1], y[:, None] - 1, axis=1), (X, COLUMNS)),
    (np.take, lambda x, y: np.take(x, y - 9, axis=1, mode="clip"), (X, COLUMNS)),
    (np.compress, lambda x: np.compress([True, False, True], x, axis=1), (X,)),
    (np.compress, lambda x: np.compress(np.arange(7) % 2, x), (X,)),
    (np.extract, lambda x: np.extract(X > 0, x), (X,)),
    (np.delete, lambda x: np.delete(x, 1, axis=0), (X,)),
    (np.delete, lambda x: np.delete(x, [-1, 0, 0], axis=-1), (X,)),
    (np.delete, lambda x: np.delete(x, slice(None, None, 2)), (X,)),
    (np.delete, lambda x: np.delete(x, np.arange(X.shape[1]) > 0, axis=1), (X,)),
    (np.insert, lambda x: np.insert(x, 1, 9.0, axis=0), (X,)),
    (np.insert, lambda x, y: np.insert(x, -1, y, axis=1), (X, X[:, 0])),
    (np.insert, lambda x, y: np.insert(x, 1, y, axis=0), (X, X[:, :3])),
    (np.insert, lambda x, y: np.insert(x, [0, 2, 2], y, axis=1), (X, V)),
    (np.insert, lambda x: np.insert(X, slice(0, 3), x), (V,)),
    (np.insert, lambda x: np.insert(x, [1], [[7.0], [8.0]], axis=0), (X,)),
    (np.append, lambda x, y: np.append(x, y, axis=0), (X, X[:1])),
    (np.append, lambda x: np.append(x, 1.0), (X,)),
    (np.where, lambda x: np.where(x > 0, x, 0.0), (X,)),
    (np.where, lambda x: np.where(x > 0, 1, 2), (X,)),
    (np.where, lambda x: np.where(x > 0, True, x > -1), (X,)),
    (np.where, lambda x: np.where(x > 0, 1, x), (X,)),
    (np.where, lambda x: np.where(np.tri(4, 3, dtype=bool), x, -np.inf), (X,)),
    (np.where, lambda x, y: np.where(y, x, V), (X, X > 0)),
    (np.where, lambda x, y: np.where(y[:, None], x, V), (X, ROWS)),
    (np.clip, lambda x: np.clip(x, -0.5, 0.5), (X,)),
    (np.clip, lambda x: np.clip(x, None, V), (X,)),
    (np.clip, lambda x: np.clip(x, min=0.1), (X,)),
    (np.dot, lambda x: np.dot(x, W), (X,)),
    (np.dot, lambda x, y: np.dot(x, y), (Z, V)),
    (np.dot, lambda x, y: np.dot(x, y), (V, Z.swapaxes(1, 2))),
    (np.dot, lambda x, y: np.dot(x, y), (ONE, X)),
    (np.vdot, lambda x, y: np.vdot(x, y), (X, X[::-1])),
    (np.inner, lambda x, y: np.inner(x, y), (Z, X)),
    (np.inner, lambda x, y: np.inner(x, y), (ONE, X)),
    (np.outer, lambda x, y: np.outer(x, y), (X, V)),
    (np.tensordot, lambda x, y: np.tensordot(x, y), (Z, X)),
    (np.tensordot, lambda x, y: np.tensordot(x, y, axes=1), (X, W)),
    (np.tensordot, lambda x, y: np.tensordot(x, y, axes=([-1, 1], [1, 0])), (Z, X)),
    (np.tensordot, lambda x, y: np.tensordot(x, y, axes=(0, 1)), (V, X)),
    (np.tensordot, lambda x, y: np.tensordot(x, y, axes=0), (V, X)),
    *[
        (np.einsum, lambda x, y, s=spec: np.einsum(s, x, y), operands)
        for spec, operands in [
            ("ij,jk->ik", (X, W)),
            ("ij,jk->ki", (X, W)),
            ("ij,jk", (X, W)),
            ("ij,j", (X, V)),
            ("i,j", (V, V)),
            ("ij,ij->", (X, X)),
            ("ij,ij->ij", (X, X)),
            ("ij,ij->i", (X, X[:, :1])),
            ("ij,kl->ik", (X, W)),
            ("ij,->j", (X, ONE)),
            ("bij,ji->b", (Z, X.T)),
            ("BiJ, iJ -> BJi", (Z, X)),
            ("...ij,jk->...ik", (Z, W)),
            ("...j,...j", (Z, X)),
            ("i...,i...->...", (X, X)),
            ("ii,ij->ij", (SQUARE, W)),
        ]
    ],
    (np.einsum, lambda x: np.einsum("ijk->kj", x), (Z,)),
    (np.einsum, lambda x: np.einsum("ij->", x), (X,)),
    (np.einsum, lambda x: np.einsum("ba", x), (X,)),
    (np.einsum, lambda x: np.einsum("ii", x), (SQUARE,)),
    (np.einsum, lambda x: np.einsum("ii->i", x), (SQUARE,)),
    (np.einsum, lambda x: np.einsum("...ii->...i", x), (Z[:, :3],)),
    (np.einsum, lambda x, y: np.einsum("ij,jk,lk,l->i", x, y, y.T, V, optimize=True), (X, W[:, :3])),
    (np.einsum, lambda x: np.einsum("ij,kj->ik", np.ones((2, 3)), x), (X,)),
    (np.zeros_like, lambda x: x + np.zeros_like(x), (X,)),
    (np.zeros_like, lambda x: x + np.zeros_like(x), (ROWS,)),
    (np.empty_like, lambda x: 0.0 * np.empty_like(x) + x, (X,)),
    (np.ones_like, lambda x: x + np.ones_like(x, dtype=float), (ROWS,)),
    (np.full_like, lambda x: x + np.full_like(x, 2.5), (X,)),
    (np.full_like, lambda x: np.full_like(x, x[0, 0]), (X,)),
    (np.copy, lambda x: np.copy(x), (X,)),
    (np.shape, lambda x: x * np.shape(x)[1], (X,)),
    (np.ndim, lambda x: x * np.ndim(x), (X,)),
    (np.size, lambda x: x / np.size(x) + np.size(x, 0), (X,)),
    (np.result_type, lambda x: x.astype(np.result_type(x, np.float32)), (ROWS,)),
]


@pytest.mark.parametrize("row", range(len(FUNCTION_TABLE)))
def test_an_array_function_on_wires_agrees_with_numpy(row):
    _, function, args = FUNCTION_TABLE[row]
    agrees(function, *args)


RANKS = [
    *[((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 2))],
    *[((5, 2, 3), (3, 2)), ((2, 3), (5, 3, 2)), ((5, 2, 3), (5, 3, 2)), ((1, 2, 3), (5, 3, 2))],
    *[((4, 5, 2, 3), (5, 3, 2)), ((4, 1, 2, 3), (1, 5, 3, 2)), ((3,), (5, 3, 2)), ((5, 2, 3), (3,))],
    *[((0, 3), (3, 2)), ((2, 0), (0, 3))],
]


@pytest.mark.parametrize(("left", "right"), RANKS)
def test_matmul_of_all_ranks_agrees_with_numpy(left, right):
    a, b = rng.normal(size=left), rng.normal(size=right)
    agrees(lambda x, y: x @ y, a, b)
    agrees(lambda x: x @ b, a)
    agrees(lambda y: a @ y, b)


INDICES = [
    *[np.s_[0], np.s_[-1], np.s_[1, 2], np.s_[1:], np.s_[:, 1:], np.s_[::2], np.s_[::-1], np.s_[::-2, ::-1]],
    *[
        np.s_[3:0:-1],
        np.s_[2:2],
        np.s_[5:],
        np.s_[-3:-1],
        np.s_[..., None],
        np.s_[None],
        np.s_[None, :, None, 1],
    ],
    *[np.s_[...], np.s_[()], np.s_[0, ...], np.s_[..., 0], np.s_[1:3, 0], np.s_[np.int64(1)]],
    *[
        np.s_[[0, -1]],
        np.s_[:, [0, -1]],
        np.s_[np.array(2)],
        np.s_[[]],
        np.s_[1:, [0, -1]],
        np.s_[None, :, [0, -1]],
    ],
    *[
        np.s_[..., [0, -1], None],
        np.s_[ROWS, COLUMNS],
        np.s_[np.arange(4), [-1, 0, -3, 2]],
        np.s_[np.arange(4), 0],
    ],
    *[np.s_[[[0], [1]], [1, 2]], np.s_[0, [1, -1]], np.s_[[1, 2], 1:] if False else np.s_[[1, 2]]],
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_agrees_with_numpy(index):
    agrees(lambda x: x[index], X)


@pytest.mark.parametrize(
    "index",
    [
        np.s_[[0, 1], [-1, 2]],
        np.s_[[0, 1], [-1, 2], 1:],
        np.s_[0, [-1, 2], ..., None],
        np.s_[[[0, 1]], [[1], [2]], -1],
    ],
    ids=str,
)
def test_indexing_by_several_arrays_agrees_with_numpy(index):
    agrees(lambda z: z[index], Z)


def test_indexing_at_run_time_agrees_with_numpy():
    agrees(lambda x, i: x[i], X, ROWS)
    agrees(lambda x, i: x[:, i], X, COLUMNS)
    agrees(lambda x, i: x[np.arange(4), i], X, COLUMNS)
    agrees(lambda x, i, j: x[i, j], X, ROWS, COLUMNS)
    agrees(lambda x, i: x[i], X, np.array(2))
    agrees(lambda i: cs.take(X, i, axis=0) @ W, ROWS)
    agrees(lambda i: cs.take(X, i), ROWS)
    agrees(lambda x, i: cs.take(x, i, axis=-1), X, COLUMNS)


def test_array_methods_and_operators_agree_with_numpy():
    agrees(
        lambda x: [x.T, x.mT, x.ravel(), x.flatten(), x.reshape(2, -1), x.reshape((12,)), x.transpose(1, 0)],
        X,
    )
    agrees(
        lambda x: [
            x.transpose((1, 0)),
            x.swapaxes(0, 1),
            x.squeeze(),
            x.copy(),
            x.repeat(2, 0),
            x.take([0, 1]),
        ],
        X,
    )
    agrees(lambda x: [x.sum(0), x.mean(-1, keepdims=True), x.var(ddof=1), x.std(axis=0), x.max(), x.min(1)], X)
    agrees(
        lambda x: [
            x.prod(axis=1),
            x.dot(W),
            x.clip(0.0),
            x.clip(-0.1, 0.1),
            x.trace(),
            x.size * x,
            x.ndim * x,
        ],
        X,
    )
    agrees(lambda x: [-x, +x, abs(x), x**2, 1 - x, 2 / x, 2.0**x, x / 3, x @ W, V @ x.T, len(x) * x], X)
    agrees(lambda x: [x > 0, 0 > x, x <= V, x == x, x != 1, (x > 0) & (x < 1), (x > 1) | (x < 0), ~(x > 0)], X)
    agrees(lambda x: [*x, *(a * b for a, b in zip(x, x[::-1], strict=True))], X)
    agrees(lambda x: [(x > 0).astype(int) + 1, (x > 0).astype(float), (x > 0).sum(0), (x > 0).mean()], X)
    agrees(
        lambda i: [i.astype(float), i.astype(bool), i.astype(np.int32), i / 2, i**2, -i, i.mean(), i.max()],
        ROWS,
    )
    agrees(lambda x: x.astype(np.float32).astype(bool), X)


def test_what_a_stranger_would_write_agrees_with_numpy():
    agrees(lambda x, w, b: np.tanh(x @ w + b).mean(axis=0), X, W, W[0])
    agrees(lambda x: sum([x, 2 * x, x[::-1]]), X)
    agrees(lambda x: sum(row @ row for row in x), X)
    agrees(lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * V + 1.0, X)
    agrees(lambda x: (x - np.mean(x, 0)) / (np.std(x, 0) + 1e-3), X)
    agrees(lambda x: np.max(x, -1) + np.log(np.sum(np.exp(x - np.max(x, -1, keepdims=True)), -1)), X)
    agrees(lambda x, y: np.sum(x @ W * (y[:, None] == np.arange(5)), axis=-1), X, COLUMNS)
    agrees(lambda x, y: -np.mean(np.log(1 / (1 + np.exp(-x @ V))) * y), X, (ROWS > 1).astype(float))
    agrees(lambda x: np.sum(np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)), X)
    agrees(lambda x: special.expit(x) * special.erf(x), X)
    agrees(lambda x: np.add.reduce(x, axis=1) + np.maximum.reduce(x[0]), X)


@many
@given(program=programs())
def test_a_random_program_on_wires_agrees_with_itself_on_arrays(program):
    circuit = check(cs.trace(program, *program.inputs))
    for ours, theirs in zip(evaluate(circuit, program.inputs), program(*program.inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_random_programs_range_over_the_whole_table_of_gates(name):
    found = find(
        programs(using=name, most=2),
        lambda program: name in {line.name for line in program.lines},
        settings=settings(phases=[Phase.generate]),
    )
    circuit = cs.trace(found, *found.inputs)
    assert name in {node.gate.name for node in circuit.nodes}


# Pytrees.


@dataclasses.dataclass(frozen=True)
class Layer:
    weights: Any
    bias: Any


class Pair(NamedTuple):
    first: Any
    second: Any


def test_pytrees_come_in_and_go_out_as_they_were():
    layer = Layer(W, W[0])
    agrees(lambda p, x: {"y": x @ p.weights + p.bias, "p": Layer(p.weights * 2, p.bias)}, layer, X)
    agrees(lambda p: Pair(p.second, [p.first, (p.second, None)]), Pair(X, V))
    agrees(lambda p: {"b": p["a"], "a": p["b"]}, {"a": X, "b": V})
    agrees(lambda p: [], X)
    agrees(lambda p: (), X)
    agrees(lambda x: (x, 1.0, np.ones(2), 3, True), X)
    agrees(lambda: np.ones(3))


def test_the_leaves_of_a_circuit_have_the_names_of_their_paths():
    circuit = cs.trace(lambda p, x: {"y": x @ p.weights, "z": (x, x)}, Layer(W, W[0]), X)
    assert circuit.input_names == ("args.0.weights", "args.0.bias", "args.1")
    assert circuit.output_names == ("out.y", "out.z.0", "out.z.1")


def test_pytrees_of_one_structure_are_transformed_leaf_by_leaf():
    added = transform(lambda x, y: x + y, {"a": 1, "b": (2, [3])}, {"b": (20, [30]), "a": 10})
    assert added == {"a": 11, "b": (22, [33])}
    assert transform(abs, OrderedDict(a=-1)) == {"a": 1}
    with pytest.raises(InputError, match=r"b is a tuple of \[0\] in one and a list of \[0\] in the other"):
        transform(lambda x, y: x, {"b": (1,)}, {"b": [1]})
    with pytest.raises(InputError, match="a is a leaf in only one"):
        transform(lambda x, y: x, {"a": 1}, {"a": {"c": 1}})


def test_the_example_values_do_not_count_but_their_shapes_and_dtypes_do():
    first, second = (cs.trace(lambda x, i: np.take(x, i), x, i) for x, i in [(X, ROWS), (0 * X, 0 * ROWS)])
    assert str(first) == str(second)
    single = cs.trace(lambda x: x * np.float32(0.1), np.float32(2.0))
    # float32 data become float64 as they are, not as they were written.
    assert evaluate(single, [1.0]) == [float(np.float32(0.1))]


def test_equal_data_is_one_constant_whether_small_or_large():
    def program(x):
        return x * np.ones(5000) + np.ones(5000) * x + x * np.full(5000, 2.0)

    constants = [node for node in cs.trace(program, np.ones(5000)).nodes if node.gate.name == "constant"]
    assert len(constants) == 2
    # True, 1 and 1.0 are equal, but whole numbers are not real ones.
    mixed = cs.trace(lambda x: (x + 1.0, np.where(x > 0, 1, 2), np.where(x > 0, True, False)), X)
    assert {node.label for node in mixed.nodes if node.gate.name == "constant"} == {"float", "int", "bool"}


def test_data_changed_after_it_was_read_leaves_the_circuit_as_it_was():
    data = np.ones(3)

    def program(x):
        y = x * data
        data[:] = 7.0
        return y

    assert evaluate(cs.trace(program, V), [V])[0].tolist() == V.tolist()


def test_a_copied_wire_is_the_wire():
    agrees(lambda p: copy.deepcopy(p)["a"] + copy.copy(p["a"]), {"a": X})


# Refusals. Each line below is refused by a message that begins with this file's name and the line's number.


def refused(function, *args):
    """The error of tracing a function, and the line of this file that its message must name."""
    with pytest.raises((TraceError, ShapeError, InputError, IndexError, AttributeError)) as caught:
        cs.trace(function, *args)
    return caught.value, inspect.getsourcelines(function)[1]


def branch(x):
    return x if x.sum() > 0 else -x


def branch_on_and(x):
    return x.sum() > 0 and x


def as_float(x):
    return float(x.sum())


def as_int(x):
    return np.zeros(int(x[0]))


def by_math(x):
    return math.exp(x[0])


def as_text(x):
    return f"{x.sum():.3f}"


def rounded(x):
    return round(x[0], 2)


def as_item(x):
    return x[0].item()


def as_list(x):
    return x.tolist()


def as_array(x):
    return np.asarray(x) + 1


def array_of_wires(x):
    return np.array([x[0], x[1]])


def written(x):
    x[0] = 1.0


def added_in_place(x):
    x += 1.0


def out(x):
    return np.exp(x, out=np.zeros(3))


def entries_added_in_place(x):
    x[1:] += 1.0


def data_entries_added_in_place(x):
    total = np.zeros((2, 3))
    total[0] += x


def number_written_into_data(x):
    total = np.zeros(2)
    total[0] = x.sum()


def written_into_data(x):
    total = np.zeros((2, 3))
    total[0] = x


def filled_data(x):
    np.zeros(2).fill(x[0])


def copied_into_data(x):
    np.copyto(np.zeros(3), x)


def added_at(x):
    np.add.at(np.zeros(3), [0, 0, 1], x)


def data_written_by_mask(x):
    np.zeros(3)[x > 0] = 1.0


def data_masked(x):
    return np.ones(3)[x > 0]


def data_added_in_place(x):
    total = np.zeros(3)
    total += x


def data_indexed(i):
    return X[i]


def data_indexed_and_more(i):
    return X[i, 0]


def list_indexed(i):
    return [1, 2, 3][i]


def counted(i):
    return range(i)


def sliced(x, i):
    return x[:i]


def unknown(x):
    return np.sort(x)


def near(x):
    return np.nanmax(x)


def unknown_ufunc(x):
    return np.spacing(x)


def unknown_special(x):
    return special.j0(x)


def inside_scipy(x):
    return special.logsumexp(x)


def not_analytic(x):
    return np.floor(x)


def argmax(x):
    return np.argmax(x)


def method(x):
    return x.argmax()


def masked(x):
    return x[x > 0]


def masked_too_long(x):
    return x[np.array([True, False, True, True])]


def positions(x):
    return np.where(x > 0)


def shapes(x):
    return x + np.ones(4)


def matrices(x):
    return x @ np.ones((4, 4))


def einsums(x):
    return np.einsum("ij,jk", x, x)


def einsum_axes(x):
    return np.einsum("i,ij->jk", x, np.ones((3, 2)))


def reshaped(x):
    return x.reshape(2, -1)


def joined(x):
    return np.concatenate([x, np.ones((2, 2))])


def stacked(x):
    return np.stack([x, np.ones(4)])


def axes(x):
    return np.sum(x, axis=1)


def out_of_range(x):
    return x[3]


def gathered_out_of_range(x):
    return np.take(x, [0, 3])


def fractions(x):
    return x[np.array([0.5])]


def casts(x):
    return x.astype(int)


def words(x):
    return x + "a"


def complexes(x):
    return x * 1j


def options(x):
    return np.max(x, where=np.array([True, False, True]))


def masked_ufunc(x):
    return np.add(x, 1.0, where=np.array([True, False, True]))


def other_form(x):
    return np.dot(x, x, out=np.zeros(()))


def spectral(x):
    return np.linalg.norm(np.outer(x, x), 2)


def bits(i):
    return i & 1


def empty_mean(x):
    return np.mean(x[:0])


def length_of_number(x):
    return len(x[0])


def bad_labels(x):
    return cs.cross_entropy(x, np.array(3))


def label_shapes(x):
    return cs.cross_entropy(x, np.array([1, 2]))


def gradient_of_vector(x):
    return cs.grad(lambda y: y * y)(x)


def gradient_of_tree(x):
    return cs.grad(lambda y: {"loss": y.sum()})(x)


def gradient_in_integers(i):
    return cs.grad(lambda y: y.sum() * 1.0)(i)


def tangent_shapes(x):
    return cs.jvp(np.sum, (x,), (np.ones(2),))


REFUSALS: list[tuple[Any, type[Exception], str, str]] = [
    (branch, TraceError, "uses a wire as a condition", "np.where(test, a, b)"),
    (branch_on_and, TraceError, "uses a wire as a condition", "np.where(test, a, b)"),
    (as_float, TraceError, "value as a float", "keep computing"),
    (as_int, TraceError, "value as an int", "keep computing"),
    (by_math, TraceError, "value as a float", "np.exp, not math.exp"),
    (as_text, TraceError, "value as text ('.3f')", "keep computing"),
    (rounded, TraceError, "value rounded", "keep computing"),
    (as_item, TraceError, "the item", "keep computing"),
    (as_list, TraceError, "values as a list", "keep computing"),
    (as_array, TraceError, "converts a wire to a NumPy array", "np.stack"),
    (array_of_wires, TraceError, "converts a wire to a NumPy array", "np.stack"),
    (written, TraceError, "writes into a wire", "np.where"),
    (added_in_place, TraceError, "updates a wire in place", "x = x + y"),
    (entries_added_in_place, TraceError, "updates x[i] in place", "np.where(mask, new, old)"),
    (data_entries_added_in_place, TraceError, "updates x[i] in place", "np.stack or np.concatenate"),
    (number_written_into_data, TraceError, "writes a wire into a plain array", "np.stack or np.concatenate"),
    (written_into_data, TraceError, "writes a wire into a plain array", "np.stack or np.concatenate"),
    (filled_data, TraceError, "value as a float", "np.stack"),
    (copied_into_data, TraceError, "np.copyto, which writes into an array", "np.stack"),
    (added_at, TraceError, "np.add.at, which writes", "(i == np.arange(n)[:, None]) @ x"),
    (data_written_by_mask, TraceError, "writes a wire into a plain array", "np.where(mask, new, old)"),
    (data_masked, TraceError, "a wire of booleans", "np.where(wire, data, other)"),
    (out, TraceError, "writes np.exp in place", "assign the result to a name"),
    (data_added_in_place, TraceError, "writes np.add in place", "x = x + y"),
    (data_indexed, TraceError, "", "cs.take(data, wire, axis=0)"),
    (data_indexed_and_more, TraceError, "", "cs.take(data, wire, axis=0)"),
    (list_indexed, TraceError, "uses a wire as an index", "cs.take(array, wire, axis=0)"),
    (counted, TraceError, "as a count", "counts from the shapes"),
    (sliced, TraceError, "slices by a wire", "np.take"),
    (unknown, TraceError, "np.sort", "the order of elements"),
    (near, TraceError, "np.nanmax", "np.where(present, x, 0.0)"),
    (unknown_ufunc, TraceError, "np.spacing", "build it from"),
    (unknown_special, TraceError, "scipy.special.j0", "build it from"),
    (inside_scipy, TraceError, "calls logsumexp", "cs.special.logsumexp"),
    (not_analytic, TraceError, "np.floor", "plain data, or use np.where"),
    (argmax, TraceError, "np.argmax", "plain data, or use np.where"),
    (method, TraceError, "uses attribute 'argmax' of a wire", "plain data, or use np.where"),
    (masked, TraceError, "by a run-time mask", "np.where(mask, x, other)"),
    (masked_too_long, BoundsError, "size of axis is 3 but size of corresponding boolean axis is 4", ""),
    (positions, TraceError, "calls np.where with one argument", "np.where(test, a, b)"),
    (shapes, ShapeError, "add: operands could not be broadcast together with shapes (3,) and (4,)", ""),
    (matrices, ShapeError, "lengths 3 and 4", ""),
    (einsums, ShapeError, "names 2 axes of an operand of shape (3,)", ""),
    (einsum_axes, ShapeError, "each index of the result", "in an operand"),
    (reshaped, ShapeError, "shape (3,) cannot be reshaped to (2, -1)", ""),
    (joined, ShapeError, "cannot be concatenated", ""),
    (stacked, ShapeError, "np.stack: arrays must have the same shape", ""),
    (axes, ShapeError, "axis 1 is out of bounds for array of dimension 1 (shape (3,))", ""),
    (out_of_range, BoundsError, "index 3 is out of bounds for axis 0 with size 3", ""),
    (gathered_out_of_range, BoundsError, "index 3 is out of bounds for axis 0 with size 3", ""),
    (fractions, TraceError, "float64 numbers", "must be integers"),
    (casts, TraceError, "casts a float wire to int64", "cast plain data instead"),
    (words, TraceError, "str data", "convert it"),
    (complexes, TraceError, "complex128", "convert it"),
    (options, TraceError, "np.max with where=", "pass initial="),
    (masked_ufunc, TraceError, "np.add with ['where']", "np.where"),
    (other_form, TraceError, "np.dot with out=", "assign the result to a name"),
    (spectral, TraceError, "have gates, not ord=2 over 2 axes", "np.abs, np.sum and np.max"),
    (bits, TraceError, "bitwise operations on integers", "compare them first"),
    (empty_mean, ShapeError, "the mean of 0 elements", ""),
    (length_of_number, TraceError, "takes the length of a wire of shape ()", ""),
    (bad_labels, BoundsError, "integers in 0..2", "from 3 to 3"),
    (label_shapes, ShapeError, "one label per row", "not (2,)"),
    (gradient_of_vector, TraceError, "the function returns shape (3,)", "sum or mean"),
    (gradient_of_tree, TraceError, "the function returns a dict", "return a scalar"),
    (gradient_in_integers, TraceError, "a gradient with respect to integers", "pass floats"),
    (tangent_shapes, ShapeError, "got (2,) and (3,)", ""),
]


@pytest.mark.parametrize(("function", "kind", "what", "remedy"), REFUSALS, ids=[f.__name__ for f, *_ in REFUSALS])
def test_a_refusal_names_the_line_the_reason_and_the_way_out(function, kind, what, remedy):
    names = list(inspect.signature(function).parameters)
    error, first = refused(function, *({"x": V, "i": np.array(1)}[name] for name in names))
    assert type(error) is kind or (kind is TraceError and isinstance(error, TraceError))
    message = str(error)
    lines = range(first + 1, first + len(inspect.getsource(function).splitlines()))
    assert any(f"{HERE}:{line}" in message for line in lines), message
    assert what in message and remedy in message, message


def test_a_wire_of_another_trace_is_refused():
    kept: list[Wire] = []
    cs.trace(kept.append, V)
    error, line = refused(lambda x: x + kept[0], V)
    assert str(error) == (
        f"{HERE}:{line} uses a wire of another trace; pass it in as an argument of the traced function"
    )
    error, _ = refused(lambda x: kept[0], V)
    assert "wire of another trace" in str(error)


def test_an_argument_that_is_no_number_is_refused():
    with pytest.raises(TraceError, match=r"leaf of type str .* close over other objects"):
        cs.trace(lambda x: x, {"name": "run"})
    with pytest.raises(TraceError, match="complex128"):
        cs.trace(lambda x: x, V * 1j)
    with pytest.raises(TraceError, match=rf"{HERE}:\d+: the traced function returns a str at out.name; return"):
        cs.trace(lambda x: {"loss": x.sum(), "name": "run"}, V)


# The remedies that the messages name, tried.


def test_the_remedies_work():
    agrees(lambda x: np.where(x.sum() > 0, x, -x), V)
    agrees(lambda x: np.stack([x[0], x[1]]) + np.concatenate([x[1:], x[:1]])[:2], V)
    agrees(lambda x: np.where(np.arange(3) == 0, 1.0, x), V)
    agrees(lambda x: np.where(np.array([True, False, True]), x, 0.0), V)
    agrees(lambda x: np.exp(np.array([1.0, 2.0, 3.0]) * np.log(x)), np.abs(V))
    agrees(lambda x: np.sum(x * np.eye(3), axis=1), SQUARE)
    agrees(lambda x: np.max(np.sum(np.abs(x), axis=0)), X)
    agrees(lambda i: cs.take(X, i, axis=0), np.array(1))
    agrees(lambda x, i: (i == np.arange(4)[:, None]) @ x, V, np.array([2, 0, 2]))
    agrees(lambda x: x + np.broadcast_to(1.0, 4)[:3], V)
    assert cs.grad(lambda y: np.mean(y * y))(np.arange(3).astype(float)).tolist() == [0.0, 2 / 3, 4 / 3]
    assert cs.grad(lambda y: y**3)(3.0) == 27.0
