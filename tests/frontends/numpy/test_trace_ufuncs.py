"""Tracing: a ufunc on wires agrees with NumPy on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import COLUMNS, ONE, POSITIVE, ROWS, V, W, X, agrees
from scipy import special

from circuitsketch.frontends.numpy.ufuncs import SPECIAL, UFUNCS

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


def test_every_ufunc_of_the_table_is_tested():
    assert {ufunc_named(name) for name, _ in UFUNC_CASES} == set(UFUNCS) | {getattr(special, name) for name in SPECIAL}
