"""A multi-layer perceptron on handwritten digits. In: examples and sizes; out: a `Training`, and measurements.

Its activation is smooth by default (GELU), so that training is an analytic function of its example weights. With "relu"
it is so between kinks: a prediction follows the piece that the run is on, and cannot see a unit switch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo import datasets, supervised

ACTIVATIONS = {"gelu": cs.gelu, "silu": cs.silu, "tanh": np.tanh, "softplus": cs.softplus, "relu": cs.relu}


def data(count: int = 1000, seed: int = 0) -> datasets.Split:
    """The digits, `count` images to train on and the others of the 1,797 to measure on.

    x (count, 64) with ink from 0 to 1, y (count,) labels 0..9, test_x, test_y. InputError for a count that leaves none.

    >>> data().x.shape, data().test_x.shape
    ((1000, 64), (797, 64))
    """
    images, labels = datasets.digits()
    return datasets.split(images.reshape(len(images), -1), labels, count, seed)


def draw(sizes: list[int], seed: int) -> dict[str, np.ndarray]:
    """First parameters of layers between these sizes: weights normal with variance 1 / inputs, biases 0.

    >>> {name: p.shape for name, p in draw([64, 16, 10], seed=0).items()}
    {'w0': (64, 16), 'b0': (16,), 'w1': (16, 10), 'b1': (10,)}
    """
    rng = np.random.default_rng(seed)
    params = {}
    for layer, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        params[f"w{layer}"] = rng.normal(0.0, 1.0 / math.sqrt(inputs), (inputs, outputs))
        params[f"b{layer}"] = np.zeros(outputs)
    return params


def training(
    x: Any = None,
    y: Any = None,
    *,
    width: int = 16,
    layers: int = 1,
    classes: int = 10,
    activation: str = "gelu",
    dropout: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> cs.Training:
    """The training of a perceptron, by default on `data()`.

    Parameters
    ----------
    x, y : features (examples, features), and labels 0..classes-1 (examples,).
    width, layers : units of a hidden layer, and how many of these there are. classes : outputs.
    activation : a key of ACTIVATIONS. With another than gelu, give `loss` and its kin the same.
    dropout : the share of hidden units that a step leaves out, by masks that are a fixed part of the run.
    seed : draws the first parameters, the order of the examples and the masks.
    options : `epochs`, `batch_size`, `learning_rate`, `optimiser`, `weight_decay`, `schedule`, `clip`: see
        `supervised.training`.

    Returns a Training whose params are those of `draw`. Raises InputError for options that cannot be.

    >>> run = training(epochs=2)
    >>> accuracy(run.params(run.train()), *data()[2:]) > 0.85
    True
    """
    if x is None or y is None:
        x, y = data()[:2]
    check(width=width, layers=layers, classes=classes)
    active(activation)
    masks = None
    if dropout:

        def masks(t: int, count: int) -> np.ndarray:
            return cs.optim.dropout_mask((layers, count, width), dropout, seed, t)

    def batch_loss(params: Any, x: Any, y: Any, mask: Any = None) -> Any:
        return cs.cross_entropy(logits(params, x, activation, mask), y)

    params = draw([np.shape(x)[1], *[width] * layers, classes], seed)
    return supervised.training(batch_loss, params, x, y, masks=masks, seed=seed, **options)


def check(**sizes: int) -> None:
    """InputError for a size below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"mlp: {name} is {value}; every size must be at least 1")


def active(activation: str) -> Any:
    """The activation of a name; InputError for an unknown one."""
    if activation not in ACTIVATIONS:
        raise InputError(f"activation is {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[activation]


def logits(params: Mapping[str, Any], x: Any, activation: str = "gelu", mask: Any = None) -> Any:
    """The scores of the classes, (examples, classes). mask : (layers, examples, width), to multiply hidden units by."""
    last = len(params) // 2 - 1
    for layer in range(last):
        x = active(activation)(x @ params[f"w{layer}"] + params[f"b{layer}"])
        if mask is not None:
            x = x * mask[layer]
    return x @ params[f"w{last}"] + params[f"b{last}"]


def loss(params: Mapping[str, Any], x: Any, y: Any, activation: str = "gelu") -> Any:
    """-log p of the right class, (examples,), in nats."""
    return cs.cross_entropy(logits(params, x, activation), y)


def margin(params: Mapping[str, Any], x: Any, y: Any, activation: str = "gelu") -> Any:
    """log(p / (1 - p)) of the right class, (examples,): see `supervised.margins`."""
    return supervised.margins(logits(params, x, activation), y)


def accuracy(params: Mapping[str, Any], x: Any, y: Any, activation: str = "gelu") -> float:
    """The share of labels that the model gets right. A step function: measure `logits`, and count afterwards."""
    return float(np.mean(np.argmax(logits(params, x, activation), axis=-1) == y))


def held_out_loss(params: Mapping[str, Any], activation: str = "gelu") -> Any:
    """The mean loss on the examples of `data()` that are not trained on: one number."""
    return loss(params, *data()[2:], activation).mean()


def held_out_margin(params: Mapping[str, Any], activation: str = "gelu") -> Any:
    """The mean margin on the examples of `data()` that are not trained on: one number."""
    return margin(params, *data()[2:], activation).mean()
