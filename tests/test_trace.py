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
from hypothesis import given
from scipy import special
from strategies import NAMES, programs

import circuitsketch as cs
from circuitsketch.circuit import check
from circuitsketch.errors import InputError, ShapeError, TraceError
from circuitsketch.passes import evaluate
from circuitsketch.trace import Wire, flatten, transform
from circuitsketch.trace.numpy_functions import FUNCTIONS, UFUNCS

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


# Every ufunc of the table, by what its operands are.
BY_OPERANDS = {
    (X,): "negative square absolute fabs exp expm1 exp2 sin cos tan sinh cosh tanh positive reciprocal erf expit",
    (POSITIVE,): "log log1p log2 log10 sqrt",
    (X, X[::-1]): "add subtract multiply divide true_divide maximum minimum greater greater_equal less less_equal "
    "equal not_equal logaddexp logical_and logical_or",
    (POSITIVE, SMALL): "power float_power",
    (X, W): "matmul",
    (X > 0, X < 1): "bitwise_and bitwise_or logical_and logical_or add multiply maximum minimum equal not_equal",
    (X > 0,): "invert logical_not",
    (X, 0.5): "add subtract multiply divide maximum minimum power",
    (2.0, X): "add subtract multiply divide maximum minimum power less equal",
    (X, V): "add subtract multiply divide maximum minimum greater equal",
    (X, 3): "power add multiply",
    (X, -2): "power",
    (X, 0): "power maximum not_equal logical_and",
    (X, 100): "power",
    (POSITIVE, 0.5): "power",
    (POSITIVE, -0.5): "power",
    (POSITIVE, 1.7): "power float_power",
    (0.0, POSITIVE): "power",
    (np.array([0.0, 1.0, 2.0]), POSITIVE): "power",
    (ROWS,): "negative square absolute exp positive logical_not",
    (ROWS, COLUMNS): "add subtract multiply divide maximum minimum greater equal not_equal logical_and",
    (ROWS, 2): "add multiply power divide equal",
    (X, X.astype(np.float32)): "add multiply divide maximum",
    (X, True): "add multiply",
}
UFUNC_CASES = [
    pytest.param(getattr(np, name, None) or getattr(special, name), operands, id=f"{name}-{i}")
    for i, (operands, names) in enumerate((list(key), names) for key, names in [(k, v) for k, v in ()])
    for name in names.split()
]
