"""Arrays of many shapes, and the comparison of a traced function with NumPy on them.

The oracle is NumPy: the function is called on arrays, and its traced circuit evaluated at them.
"""

from __future__ import annotations

import numpy as np

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import check
from circuitsketch.tree import flatten

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
