"""The functions that model code needs and NumPy lacks: softmax, cross-entropy and the usual activations.

Each runs on wires and on plain arrays alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.errors import ShapeError
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


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) over its sum along an axis; the largest constant term is subtracted first, which changes no value.

    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    e = np.exp(x - max_constant(x, axes=(axis % np.ndim(x),)))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)), computed without overflow.

    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    centred = x - max_constant(x, axes=(axis % np.ndim(x),))
    return centred - np.log(np.sum(np.exp(centred), axis=axis, keepdims=True))


def cross_entropy(logits: Any, labels: Any) -> Any:
    """-log softmax(logits)[label], one value an example.

    Parameters
    ----------
    logits : (..., classes)
    labels : (...) whole numbers in 0..classes-1, run-time or plain.

    Returns
    -------
    array of shape (...), in nats.

    >>> cross_entropy(np.zeros((2, 4)), np.array([0, 3])).round(4)
    array([1.3863, 1.3863])
    """
    shape = tuple(np.shape(logits))
    if tuple(np.shape(labels)) != shape[:-1]:
        raise ShapeError(
            f"cross_entropy wants one label for each row of logits: labels of shape {shape[:-1]}, not {np.shape(labels)}"
        )
    centred = logits - max_constant(logits, axes=(len(shape) - 1,))
    rows = np.reshape(np.arange(int(np.prod(shape[:-1]))) * shape[-1], shape[:-1])
    picked = np.take(np.reshape(centred, -1), labels + rows, axis=0)
    return np.log(np.sum(np.exp(centred), axis=-1)) - picked
