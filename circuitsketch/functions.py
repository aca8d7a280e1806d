"""Functions that model code needs and NumPy lacks: softmax, cross-entropy and common activations.

Each accepts wires and plain arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.arguments import check_int
from circuitsketch.arrays import plain_array, real_array
from circuitsketch.errors import BoundsError, InputError, ShapeError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.frontends.numpy.indexing import gather, normal_axis, pick_label, take_index
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.gates import GATES
from circuitsketch.gates.selection import max_constant

relu = GATES["relu"]
gelu = GATES["gelu"]
silu = GATES["silu"]
sigmoid = GATES["sigmoid"]
softplus = GATES["softplus"]
erf = GATES["erf"]
rsqrt = GATES["rsqrt"]
stop_gradient = GATES["stop_gradient"]


def subtract_max(x: Any, axis: int) -> Any:
    """Subtract the maximum along an axis, held constant in derivatives (the caller's result does not depend on it)."""
    x = x if isinstance(x, Wire) else real_array(x, "the operand")
    axis = check_int(axis, "axis")
    if 0 in np.shape(x):
        raise ShapeError(f"{user_place()}: softmax of an empty array of shape {np.shape(x)}; pass a non-empty one")
    return x - max_constant(x, axes=(normal_axis(axis, np.ndim(x), np.shape(x)),))


def softmax(x: Any, axis: int = -1) -> Any:
    """Compute exp(x) divided by its sum along an axis; the largest primal is subtracted first to avoid overflow.

    Parameters
    ----------
    x : array_like or Wire
        Real numbers.
    axis : int
        The axis along which the result sums to 1.

    Returns
    -------
    array or Wire
        The shape of x.

    Raises
    ------
    ShapeError
        If the axis is out of bounds or x is empty.

    Examples
    --------
    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    e = np.exp(subtract_max(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Compute log(softmax(x)) without overflow.

    Parameters
    ----------
    x : array_like or Wire
        Real numbers.
    axis : int
        The axis along which softmax sums to 1.

    Returns
    -------
    array or Wire
        The shape of x.

    Raises
    ------
    ShapeError
        If the axis is out of bounds or x is empty.

    Examples
    --------
    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    shifted = subtract_max(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Take elements as np.take does, also from plain data at run-time indices, which np.take itself does not support.

    Parameters
    ----------
    x : array_like or Wire
        The array to take from.
    indices : array_like or Wire
        Integers; run-time ones are checked when the circuit is called or the training run is created.
    axis : int or None
        The axis to index; None flattens x first.

    Returns
    -------
    array or Wire
        The shape of x with the indexed axis replaced by the shape of `indices`.

    Raises
    ------
    BoundsError
        If an index is out of bounds.
    TraceError
        If the indices are not integers.

    Examples
    --------
    >>> take(np.array([2.0, 3.0, 5.0]), np.array([2, 0]))
    array([5., 2.])
    """
    if isinstance(x, Wire) or isinstance(indices, Wire):
        return gather(x, indices, axis)
    axis = None if axis is None else check_int(axis, "axis")
    plain, index = plain_array(x, "x"), take_index(plain_array(indices, "indices"), "take")
    try:
        return np.take(plain, index, axis=axis)
    except IndexError as reason:
        raise BoundsError(str(reason), place=user_place()) from None
    except (TypeError, ValueError, OverflowError) as reason:
        raise ShapeError(f"{user_place()}: take from an array of shape {plain.shape}: {reason}") from None


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Compute -log softmax(logits)[label], one value per example.

    Parameters
    ----------
    logits : (..., classes) array_like or Wire
        Unnormalised log-probabilities.
    labels : (...) array_like or Wire of int
        Integers in 0..classes-1, plain or run-time; negative labels do not count from the end.

    Returns
    -------
    (...) array or Wire
        In nats.

    Raises
    ------
    ShapeError
        If there is not one label per row of logits.
    InputError
        If a label is not an integer in 0..classes-1; run-time labels are checked when the circuit is called or the
        training run is created.

    Examples
    --------
    >>> cross_entropy(np.zeros((2, 4)), np.array([0, 3])).round(4)
    array([1.3863, 1.3863])
    """
    logits = logits if isinstance(logits, Wire) else real_array(logits, "logits")
    shape = tuple(np.shape(logits))
    if not shape:
        raise ShapeError(f"{user_place()}: cross_entropy requires logits of shape (..., classes), not a scalar")
    labels = labels if isinstance(labels, Wire) else plain_array(labels, "labels")
    if labels.shape != shape[:-1]:
        one_hot = "; for one-hot labels write -(labels * cs.log_softmax(logits)).sum(-1)"
        raise ShapeError(
            f"{user_place()}: cross_entropy requires one label per row of logits: labels of shape "
            f"{shape[:-1]}, not {labels.shape}" + (one_hot if labels.shape == shape else "")
        )
    requirement = (
        f"{user_place()}: cross_entropy requires labels that are integers in 0..{shape[-1] - 1}, the "
        f"classes of logits of shape {shape}; got {labels.dtype}"
    )
    if labels.dtype.kind not in "iu":
        before = " before tracing" if isinstance(labels, Wire) else ""
        raise InputError(f"{requirement}; use labels.astype(int){before}")
    shifted = subtract_max(logits, -1)
    if isinstance(labels, np.ndarray):
        if np.any((labels < 0) | (labels >= shape[-1])):
            raise BoundsError(f"{requirement} from {labels.min()} to {labels.max()}")
        label_logits = np.take_along_axis(shifted, labels.astype(np.int64)[..., None], axis=-1)[..., 0]
    else:
        label_logits = pick_label(shifted, labels)
    return np.log(np.sum(np.exp(shifted), axis=-1)) - label_logits
