"""Functions of scipy.special under their names there, for wires and plain arrays.

SciPy's ufuncs, such as `scipy.special.erf`, can be called on wires directly. SciPy's `logsumexp`, `softmax`,
`log_softmax` and `polygamma` read the numbers of an array, which a wire does not have; use the functions here instead.
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
    """Compute the n-th derivative of digamma.

    Parameters
    ----------
    n : int
        The order of the derivative, non-negative.
    x : array_like or Wire
        Positive numbers.

    Returns
    -------
    array or Wire
        The shape of x.

    Raises
    ------
    InputError
        If n is negative or not an integer.

    Examples
    --------
    >>> polygamma(1, np.array([1.0])).round(6)
    array([1.644934])
    """
    order = check_int(n, "n")
    if order < 0:
        raise InputError(f"n must be non-negative, not {order}")
    return gamma.polygamma(x, order=order)


def digamma(x: Any) -> Any:
    """Compute the derivative of gammaln.

    Parameters
    ----------
    x : array_like or Wire
        Positive numbers; plain arrays may have others.

    Returns
    -------
    array or Wire
        The shape of x.

    Examples
    --------
    >>> digamma(np.array([1.0])).round(6)
    array([-0.577216])
    """
    return gamma.polygamma(x, order=0)


psi = digamma


def flatten_without_axis(x: Any, axis: Any) -> tuple[Any, int]:
    """Return an array and an axis; without an axis, the flattened array and axis 0."""
    x = x if isinstance(x, Wire) else real_array(x, "x")
    if axis is None:
        return np.reshape(x, (-1,)), 0
    return x, axis


def softmax(x: Any, axis: Any = None) -> Any:
    """Compute exp(x) divided by its sum along an axis, without overflow.

    Parameters
    ----------
    x : array_like or Wire
        Real numbers.
    axis : int or None
        The axis along which the result sums to 1; None for all elements.

    Returns
    -------
    array or Wire
        The shape of x.

    Raises
    ------
    ShapeError
        If the axis is out of bounds.

    Examples
    --------
    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    row, axis = flatten_without_axis(x, axis)
    return np.reshape(functions.softmax(row, axis), np.shape(x))


def log_softmax(x: Any, axis: Any = None) -> Any:
    """Compute log(softmax(x)) without overflow.

    Parameters
    ----------
    x : array_like or Wire
        Real numbers.
    axis : int or None
        The axis along which the exponentials of the result sum to 1; None for all elements.

    Returns
    -------
    array or Wire
        The shape of x.

    Raises
    ------
    ShapeError
        If the axis is out of bounds.

    Examples
    --------
    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    row, axis = flatten_without_axis(x, axis)
    return np.reshape(functions.log_softmax(row, axis), np.shape(x))


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False) -> Any:
    """Compute log(sum(b exp(a))) over one or more axes, without overflow.

    Parameters
    ----------
    a : array_like or Wire
        Real numbers.
    axis : int, tuple of int or None
        The axes to sum over; None for all.
    b : array_like or Wire, optional
        Factors that broadcast with `a`; by default ones.
    keepdims : bool
        Whether to keep the axes, with size 1.

    Returns
    -------
    array or Wire
        The shape of `a` broadcast with `b`, without the axes.

    Raises
    ------
    ShapeError
        If an axis is out of bounds or the array is empty.

    Examples
    --------
    >>> logsumexp(np.array([1000.0, 1000.0])).round(4)
    np.float64(1000.6931)
    """
    a = a if isinstance(a, Wire) else real_array(a, "a")
    if b is not None:
        a, b = np.broadcast_arrays(a, b)
    axes = axes_of(a, axis)
    if 0 in np.shape(a):
        raise ShapeError(f"{user_place()}: logsumexp of an empty array of shape {np.shape(a)} is undefined")
    top = max_constant(a, axes=axes)
    with np.errstate(invalid="ignore"):  # the difference of equal infinities, which `gap` replaces by 0
        below = gap(a, np.broadcast_to(top, np.shape(a)))
    terms = np.exp(below) if b is None else b * np.exp(below)
    total = np.log(np.sum(terms, axis=axes, keepdims=True)) + top
    return total if keepdims else np.reshape(total, tuple(n for i, n in enumerate(np.shape(a)) if i not in axes))
