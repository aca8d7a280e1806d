"""Functions of scipy.special by their names there, on wires and on plain arrays alike.

SciPy's own ufuncs (`scipy.special.erf` and its like) may be called on wires directly. `logsumexp`, `softmax`,
`log_softmax` and `polygamma` of SciPy ask for the numbers in an array, which a wire does not have: use these instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch import functions
from circuitsketch.arguments import check_int
from circuitsketch.arrays import real_array
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.frontends.numpy.reductions import axes_of
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.gates import exponential, gamma, inverse
from circuitsketch.gates.arithmetic import gap
from circuitsketch.gates.selection import max_constant

erf = exponential.erf
erfc = exponential.erfc
expit = exponential.sigmoid
log_ndtr = exponential.log_ndtr
logit = inverse.logit
gammaln = gamma.gammaln

__all__ = [
    "digamma",
    "erf",
    "erfc",
    "expit",
    "gammaln",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "polygamma",
    "psi",
    "softmax",
]


def polygamma(n: int, x: Any) -> Any:
    """The n-th derivative of digamma, of positive x. Raises InputError where n is negative or not an integer.

    >>> polygamma(1, np.array([1.0])).round(6)
    array([1.644934])
    """
    order = check_int(n, "n")
    if order < 0:
        raise InputError(f"n is {order}: there is no such derivative of digamma; give 0 or more")
    return gamma.polygamma(x, order=order)


def digamma(x: Any) -> Any:
    """The derivative of gammaln.

    >>> digamma(np.array([1.0])).round(6)
    array([-0.577216])
    """
    return gamma.polygamma(x, order=0)


psi = digamma


def one_axis(x: Any, axis: Any) -> tuple[Any, int]:
    """An array and one axis; of no axis, all entries in a row."""
    x = x if isinstance(x, Wire) else real_array(x, "x")
    if axis is None:
        return np.reshape(x, (-1,)), 0
    return x, axis


def softmax(x: Any, axis: Any = None) -> Any:
    """exp(x) over its sum along an axis, of all entries by default. Raises ShapeError where there is no such axis.

    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    row, axis = one_axis(x, axis)
    return np.reshape(functions.softmax(row, axis), np.shape(x))


def log_softmax(x: Any, axis: Any = None) -> Any:
    """log(softmax(x)) without overflow, of all entries by default. Raises ShapeError where there is no such axis.

    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    row, axis = one_axis(x, axis)
    return np.reshape(functions.log_softmax(row, axis), np.shape(x))


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False) -> Any:
    """log(sum(b exp(a))) over one or more axes, without overflow.

    Parameters
    ----------
    a : array. b : factors that broadcast with it, or None for ones.
    axis : an axis, several, or None for all.

    Raises
    ------
    ShapeError : where there is no such axis, or no entry along it.

    >>> logsumexp(np.array([1000.0, 1000.0])).round(4)
    np.float64(1000.6931)
    """
    a = a if isinstance(a, Wire) else real_array(a, "a")
    if b is not None:
        a, b = np.broadcast_arrays(a, b)
    axes = axes_of(a, axis)
    if 0 in np.shape(a):
        raise ShapeError(f"{user_place()}: logsumexp of an array of shape {np.shape(a)} has no largest entry")
    top = max_constant(a, axes=axes)
    with np.errstate(invalid="ignore"):  # the difference of equal infinities, in the place of which stands 0
        below = gap(a, np.broadcast_to(top, np.shape(a)))
    terms = np.exp(below) if b is None else b * np.exp(below)
    total = np.log(np.sum(terms, axis=axes, keepdims=True)) + top
    return total if keepdims else np.reshape(total, tuple(n for i, n in enumerate(np.shape(a)) if i not in axes))
