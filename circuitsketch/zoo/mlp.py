"""A multi-layer perceptron on handwritten digits. In: examples and sizes; out: a `Training`, and measurements.

Its activation is smooth by default (GELU), and so is a cross-entropy, so that training is an analytic function of its
example weights. With "relu" it is so between kinks: a prediction follows the piece that the run is on and cannot see a
unit switch; a run that meets a kink exactly, as blank pictures do while biases are zero, is warned of. A hidden layer's
parameters carry the activation in their names, gelu0_w and gelu0_b, so that measurements need not be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo import datasets, supervised

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": cs.gelu,
    "silu": cs.silu,
    "tanh": np.tanh,
    "softplus": cs.softplus,
    "relu": cs.relu,
}


def data(count: int = 1000, seed: int = 0) -> datasets.Split:
    """The digits, `count` images to train on and the others of the 1,797 to measure on.

    x (count, 64) with ink from 0 to 1, y (count,) labels 0..9, test_x, test_y. InputError for a count that leaves none.

    >>> data().x.shape, data().test_x.shape
    ((1000, 64), (797, 64))
    """
    images, labels = datasets.digits()
    return datasets.split(images.reshape(len(images), -1), labels, count, seed)


def draw(inputs: int, hidden: list[int], classes: int, activation: str, seed: int) -> dict[str, np.ndarray]:
    """First parameters: weights normal with variance 1 / inputs of their layer, biases 0.

    >>> {name: p.shape for name, p in draw(64, [16], 10, "tanh", seed=0).items()}
    {'tanh0_w': (64, 16), 'tanh0_b': (16,), 'out_w': (16, 10), 'out_b': (10,)}
    """
    rng = np.random.default_rng(datasets.check_seed(seed))
    names = [f"{activation}{layer}" for layer in range(len(hidden))] + ["out"]
    sizes = [inputs, *hidden, classes]
    params = {}
    for name, above, below in zip(names, sizes[:-1], sizes[1:], strict=True):
        params[f"{name}_w"] = rng.normal(0.0, 1.0 / math.sqrt(above), (above, below))
        params[f"{name}_b"] = np.zeros(below)
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
    learning_rate: float = 0.03,
    seed: int = 0,
    **options: Any,
) -> cs.Training:
    """The training of a perceptron, by default on `data()`.

    Parameters
    ----------
    x, y : features (examples, features), and labels 0..classes-1 (examples,).
    width, layers : units of a hidden layer, and how many of these there are. classes : outputs.
    activation : a key of ACTIVATIONS.
    dropout : the share of hidden units that a step leaves out, by masks that are a fixed part of the run.
    seed : draws the first parameters, the order of the examples and the masks.
    learning_rate, options : `epochs`, `batch_size`, `optimiser`, `weight_decay`, `schedule`, `clip`, `groups`: see
        `supervised.training`.

    Returns a Training whose params are those of `draw`. Raises InputError for options that cannot be.

    >>> run = training(epochs=2)
    >>> accuracy(run.params(run.train()), *data()[2:]) > 0.75
    True
    """
    x, y = supervised.given_or(data, x, y)
    x = supervised.array_of(x, "x")
    if x.ndim != 2:
        raise InputError(f"mlp: x has the shape {np.shape(x)}; give one row of features an example")
    for name, value in (("width", width), ("layers", layers), ("classes", classes)):
        if not datasets.is_whole(value):
            raise InputError(f"mlp: {name} is {datasets.shown(value)}; every size must be at least 1")
    if not supervised.is_real(dropout) or not 0 <= dropout < 1:
        raise InputError(f"mlp: dropout is a rate from 0 to below 1, not {datasets.shown(dropout)}")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InputError(f"mlp: activation is {datasets.shown(activation)}; choose one of {', '.join(ACTIVATIONS)}")
    supervised.check_labels(y, classes)

    def masks(t: int, count: int) -> np.ndarray:
        return cs.optim.dropout_mask((layers, count, width), dropout, seed, t)

    params = draw(np.shape(x)[1], [width] * layers, classes, activation, seed)
    return supervised.training(
        loss,
        params,
        x,
        y,
        learning_rate=learning_rate,
        masks=masks if dropout else None,
        seed=seed,
        **options,
    )


def logits(params: Mapping[str, Any], x: Any, mask: Any = None) -> Any:
    """The scores of the classes, (examples, classes). mask : (layers, examples, width), to multiply hidden units by."""
    hidden = [name[:-2] for name in params if name.endswith("_w") and name != "out_w"]
    for layer, name in enumerate(hidden):
        activation = ACTIVATIONS[name.rstrip("0123456789")]
        x = activation(x @ params[f"{name}_w"] + params[f"{name}_b"])
        if mask is not None:
            x = x * mask[layer]
    return x @ params["out_w"] + params["out_b"]


def loss(params: Mapping[str, Any], x: Any, y: Any, mask: Any = None) -> Any:
    """-log p of the right class, (examples,), in nats. mask : as for `logits`."""
    return cs.cross_entropy(logits(params, x, mask), y)


def margin(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """log(p / (1 - p)) of the right class, (examples,): see `supervised.margins`."""
    return supervised.margins(logits(params, x), y)


def accuracy(params: Mapping[str, Any], x: Any, y: Any) -> float:
    """The share of labels that the model gets right. A step function: measure `logits`, and count afterwards."""
    return float(np.mean(np.argmax(logits(params, x), axis=-1) == y))


def held_out_loss(params: Mapping[str, Any]) -> Any:
    """The mean loss on what `data()` holds out: one number."""
    return loss(params, *data()[2:]).mean()


def held_out_margin(params: Mapping[str, Any]) -> Any:
    """The mean margin on what `data()` holds out: one number."""
    return margin(params, *data()[2:]).mean()
