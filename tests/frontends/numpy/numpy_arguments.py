"""What each parameter of a NumPy function is tried with, by its name: values that are right, and others."""

from __future__ import annotations

from typing import Any

import numpy as np

X = np.array([[0.5, -1.25, 2.0, 3.0], [1.0, 0.25, -0.5, 1.5], [2.0, 1.75, 0.75, -3.0]])

MASKS = [np.array([True, False, True, True]), X > 0, np.array([[True], [False], [True]])]
AXES = [None, 0, 1, -1, (0, 1), (1, -1), (), 2, 0.0, "0"]
TRIES: dict[str, list[Any]] = {
    "axis": AXES,
    "dtype": [None, float, np.float32, int, np.int32, np.int8, np.uint8, bool, complex, "O", "nonsense"],
    "out": [None, np.zeros(()), np.zeros(4), np.zeros((3, 4)), "out"],
    "keepdims": [False, True, 1, None, "yes"],
    "initial": [None, 0, 2, 2.5, True, -np.inf, np.ones(4), "1"],
    "where": [True, *MASKS, np.zeros((3, 4), bool), np.ones(3, bool), np.array([1, 0, 1, 1]), False],
    "mean": [np.full((1, 4), 0.5), np.full((3, 1), 0.5), 0.5, np.full((1, 1), 0.25)],
    "correction": [0, 1, 0.5],
    "include_initial": [False, True],
    "ddof": [0, 1, 0.5, 2, None, np.ones(4)],
    "order": ["C", "F", "A", "K", None, "X", 1],
    "casting": ["no", "equiv", "safe", "same_kind", "unsafe", "loose", None],
    "subok": [True, False],
    "copy": [True, False, None],
    "device": [None, "cpu", "gpu"],
    "signature": [None, "dd->d", "d->d", (None, None, float), float],
    "axes": [None, (1, 0), (0, 1), (0, -1), (0, 0), [(0,), (0,), ()], 1],
    "shape": [12, (4, 3), (2, -1), (-1,), (2, 3, 2), (5, -1), (-1, -1), (2.0, 6), None],
    "axis1": [0, 1, -1, 2],
    "axis2": [0, 1, -1, 2],
    "offset": [0, 1, -1, -3, 4, 0.5],
    "k": [0, 1, -2, 5, 1.5],
    "n": [0, 1, 2, 4, -1, 1.0],
    "prepend": [0, 1.5, np.ones((3, 1)), np.ones(4), np.ones((1, 4))],
    "append": [0, 1.5, np.ones((3, 1)), np.ones(4)],
    "source": [0, -1, (0, 1), 2],
    "destination": [0, 1, -1, (1, 0), (1, 1)],
    "start": [0, 1, 2, -1, 3],
    "mode": ["constant", "edge", "reflect", "symmetric", "wrap", "empty", "mean", "raise", "clip", None, max],
    "pad_width": [0, 1, (1, 2), ((1, 0), (0, 2)), ((1, 1),), {0: 1}, -1, 0.5, "1", (1, 2, 3)],
    "indices_or_sections": [1, 2, 3, [1], [1, 3], (0, 2), [-1], 5, 0, 1.5, [0.5]],
    "shift": [0, 1, -2, (1, 2), (1, 1), 0.5],
    "repeats": [0, 1, 2, [1, 2, 0], [1, 0, 2, 1], [2], -1, 1.5, np.array(2)],
    "reps": [0, 2, (2, 1), (2, 1, 3), (), -1, 1.5],
    "ord": [None, 1, 2, np.inf, -np.inf, -1, -2, 0, 3, "fro", "nuc", "f", "no", 2.5],
    "weights": [
        None,
        X,
        np.array([1.0, 2.0, 3.0, 1.0]),
        np.array([1, 2, 3]),
        np.ones((4, 3)),
        np.zeros((3, 4)),
    ],
    "returned": [False, True],
    "a_min": [None, 0, 0.5, X * 0.5, "0"],
    "a_max": [None, 1, 1.5, np.ones(4), np.ones(3)],
    "min": [None, 0, 0.5],
    "max": [None, 1, 2.5],
    "fill_value": [2, 2.5, True, np.ones(4), np.ones(3)],
    "indices": [0, [0, -1], np.array([[1, 2]]), 12, [0.5], [True, False, True]],
    "values": [X, np.ones((1, 4)), 1.0],
    "indexing": ["xy", "ij", "no"],
    "sparse": [True, False],
    "optimize": [True, False, "greedy"],
    "axisa": [0, 1, -1],
    "axisb": [0, 1, -1],
    "axisc": [0, 1, -1, 2],
    "default": [0, 1.5, True],
    "decimals": [0, 1],
    "obj": [0, -1, [0, 2], slice(0, 2), [True, False, True], 3, 0.5, []],
    "condition": [[True, False, True], [1, 0], X > 0, 1],
    "to": [float, int, "f4"],
}
# The arguments of functions that take more than an array, before what is tried.
CONDITIONS = [X > 1, X < 0]
FIRST: dict[Any, Any] = {
    np.where: lambda x: (x > 1, x, 2),
    np.compress: lambda x: ([True, False, True], x),
    np.extract: lambda x: (X > 1, x),
    np.select: lambda x: (CONDITIONS, [x, 1]),
    np.concatenate: lambda x: ([x, X],),
    np.stack: lambda x: ([x, X],),
    np.hstack: lambda x: ([x, X],),
    np.vstack: lambda x: ([x, X],),
    np.dstack: lambda x: ([x, X],),
    np.column_stack: lambda x: ([x, X],),
    np.linalg.multi_dot: lambda x: ([x, X.T],),
    np.dot: lambda x: (x, X.T),
    np.linalg.matmul: lambda x: (x, X.T),
    np.linalg.outer: lambda x: (x[0], x[1]),
    np.cross: lambda x: (x[:, :3], X[:, 1:]),
    np.linalg.cross: lambda x: (x[:, :3], X[:, 1:]),
    np.einsum: lambda x: ("ij,ij->j", x, x),
    np.meshgrid: lambda x: (x[0], x[:, 0]),
    np.take_along_axis: lambda x: (x, np.array([[0, 1, 2, 0]])),
    np.linalg.diagonal: lambda x: (x,),
    np.matmul: lambda x: (x, X.T),
    np.power: lambda x: (x, 2),
    np.float_power: lambda x: (x, 2),
    **{
        np_function: lambda x: (x, X)
        for np_function in (np.vdot, np.inner, np.outer, np.linalg.vecdot, np.kron, np.broadcast_arrays)
    },
    np.tensordot: lambda x: (x, X),
    np.linalg.tensordot: lambda x: (x, X),
}
if hasattr(np, "vecdot"):
    FIRST[np.vecdot] = lambda x: (x, X)
if hasattr(np, "matvec"):
    FIRST |= {np.matvec: lambda x: (x, X[0]), np.vecmat: lambda x: (X[:, 0], x)}
EXTRA = {  # what NumPy takes by **kwargs
    np.pad: {
        "constant_values": [0, 2, 2.5, (1, 2), ((1, 2), (3, 4)), "0", np.ones(5)],
        "reflect_type": ["even", "odd"],
    },
    np.clip: {name: TRIES[name] for name in ("dtype", "where", "order", "casting", "subok", "signature")},
    np.einsum: {name: TRIES[name] for name in ("dtype", "order", "casting")},
}
