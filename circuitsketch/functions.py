"""The functions that model code needs and NumPy lacks: softmax, cross-entropy and the usual activations.

Each runs on wires and on plain arrays alike.
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


def centred(x: Any, axis: int) -> Any:
    """x less its largest entry along an axis, which may be taken as a constant where no value depends on it."""
    x = x if isinstance(x, Wire) else real_array(x, "the operand")
    axis = check_int(axis, "axis")
    if 0 in np.shape(x):
        raise ShapeError(f"{user_place()}: an array of shape {np.shape(x)} has no largest entry; give at least one")
    return x - max_constant(x, axes=(normal_axis(axis, np.ndim(x), np.shape(x)),))


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) over its sum along an axis; the largest constant term is subtracted first, which changes no value.

    Raises ShapeError where there is no such axis.

    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    e = np.exp(centred(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)), computed without overflow. Raises ShapeError where there is no such axis.

    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    below = centred(x, axis)
    return below - np.log(np.sum(np.exp(below), axis=axis, keepdims=True))


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """np.take, also from plain data at run-time indices, where NumPy asks the data alone.

    Raises BoundsError for indices out of bounds (of run-time ones, when the function is called or the run is made), and
    TraceError for indices that are not integers.

    >>> take(np.array([2.0, 3.0, 5.0]), np.array([2, 0]))
    array([5., 2.])
    """
    if isinstance(x, Wire) or isinstance(indices, Wire):
        return gather(x, indices, axis)
    axis = None if axis is None else check_int(axis, "axis")
    plain, at = plain_array(x, "x"), take_index(plain_array(indices, "indices"), "take")
    try:
        return np.take(plain, at, axis=axis)
    except IndexError as reason:
        raise BoundsError(str(reason), place=user_place()) from None
    except (TypeError, ValueError, OverflowError) as reason:
        raise ShapeError(f"{user_place()}: take from an array of shape {plain.shape}: {reason}") from None


def cross_entropy(logits: Any, labels: Any) -> Any:
    """-log softmax(logits)[label], one value an example.

    Parameters
    ----------
    logits : (..., classes)
    labels : (...) whole numbers in 0..classes-1, plain or run-time. Negative ones do not count from the end.

    Returns
    -------
    array of shape (...), in nats.

    Raises
    ------
    ShapeError : where there is not one label for each row of logits.
    InputError : for labels that are not whole numbers in 0..classes-1; of run-time ones, when the function is called
        or the run is made.

    >>> cross_entropy(np.zeros((2, 4)), np.array([0, 3])).round(4)
    array([1.3863, 1.3863])
    """
    logits = logits if isinstance(logits, Wire) else real_array(logits, "logits")
    shape = tuple(np.shape(logits))
    if not shape:
        raise ShapeError(f"{user_place()}: cross_entropy wants logits of shape (..., classes), not one number")
    labels = labels if isinstance(labels, Wire) else plain_array(labels, "labels")
    if labels.shape != shape[:-1]:
        one_hot = "; for one-hot labels write -(labels * cs.log_softmax(logits)).sum(-1)"
        raise ShapeError(
            f"{user_place()}: cross_entropy wants one label for each row of logits: labels of shape "
            f"{shape[:-1]}, not {labels.shape}" + (one_hot if labels.shape == shape else "")
        )
    wanted = (
        f"{user_place()}: cross_entropy wants labels that are whole numbers in 0..{shape[-1] - 1}, the "
        f"classes of logits of shape {shape}; these are {labels.dtype}"
    )
    if labels.dtype.kind not in "iu":
        before = " before tracing" if isinstance(labels, Wire) else ""
        raise InputError(f"{wanted}; use labels.astype(int){before}")
    below = centred(logits, -1)
    if isinstance(labels, np.ndarray):
        if np.any((labels < 0) | (labels >= shape[-1])):
            raise BoundsError(f"{wanted} from {labels.min()} to {labels.max()}")
        picked = np.take_along_axis(below, labels.astype(np.int64)[..., None], axis=-1)[..., 0]
    else:
        picked = pick_label(below, labels)
    return np.log(np.sum(np.exp(below), axis=-1)) - picked
