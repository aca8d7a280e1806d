"""Tracing: products, indexing, methods and whole expressions on wires agree with NumPy on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import COLUMNS, ROWS, V, W, X, Z, agrees, rng
from hypothesis import Phase, find, given, settings
from scipy import special
from strategies import NAMES, many, programs

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import check

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


def test_typical_user_code_agrees_with_numpy():
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
