"""A multi-layer perceptron on handwritten digits. In: examples and sizes; out: a `Training`, and measurements.

By default the activation (GELU) and the cross-entropy are smooth, so that training is an analytic function of the
example weights. With "relu" it is only piecewise analytic: a prediction follows the piece that the run is on and does
not account for units that switch; a run that hits a kink exactly, as blank images do while biases are zero, issues a
warning. The names of a hidden layer's parameters, gelu0_w and gelu0_b, contain the activation for measurements.
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
    """Return the digits: `count` images to train on and the rest of the 1,797 to measure on.

    x (count, 64) has ink from 0 to 1, y (count,) labels 0..9; test_x and test_y are the rest. Raises InputError unless
    both parts are nonempty.

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
    for name, fan_in, fan_out in zip(names, sizes[:-1], sizes[1:], strict=True):
        params[f"{name}_w"] = rng.normal(0.0, 1.0 / math.sqrt(fan_in), (fan_in, fan_out))
        params[f"{name}_b"] = np.zeros(fan_out)
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
    """Return the training of a perceptron, by default on `data()`.

    Parameters
    ----------
    x : (examples, features) array, optional
        The features.
    y : (examples,) array of int, optional
        Labels 0..classes-1.
    width : int
        The number of units per hidden layer.
    layers : int
        The number of hidden layers.
    classes : int
        The number of outputs.
    activation : str
        A key of ACTIVATIONS.
    dropout : float
        The fraction of hidden units dropped per step, by masks that are a fixed part of the run.
    learning_rate : float
        The base learning rate.
    seed : int
        The seed of the initial parameters, the order of the examples and the masks.
    **options
        `epochs`, `batch_size`, `optimiser`, `weight_decay`, `schedule`, `clip`, `groups`: see `supervised.training`.

    Returns
    -------
    Training
        With the parameters of `draw`.

    Raises
    ------
    InputError
        For invalid arguments.

    Examples
    --------
    >>> run = training(epochs=2)
    >>> accuracy(run.params(run.train()), *data()[2:]) > 0.75
    True
    """
    x, y = supervised.data_or_default(data, x, y)
    x = supervised.array_of(x, "x")
    if x.ndim != 2:
        raise InputError(f"mlp: x has the shape {np.shape(x)}; give one row of features per example")
    for name, value in (("width", width), ("layers", layers), ("classes", classes)):
        if not datasets.is_integer(value):
            raise InputError(f"mlp: {name} is {datasets.shown(value)}; every size must be at least 1")
    if not supervised.is_real(dropout) or not 0 <= dropout < 1:
        raise InputError(f"mlp: dropout must be a rate in [0, 1), not {datasets.shown(dropout)}")
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
    """Compute the class scores, (examples, classes); `mask` (layers, examples, width) multiplies hidden units."""
    hidden = [name[:-2] for name in params if name.endswith("_w") and name != "out_w"]
    for layer, name in enumerate(hidden):
        activation = ACTIVATIONS[name.rstrip("0123456789")]
        x = activation(x @ params[f"{name}_w"] + params[f"{name}_b"])
        if mask is not None:
            x = x * mask[layer]
    return x @ params["out_w"] + params["out_b"]


def loss(params: Mapping[str, Any], x: Any, y: Any, mask: Any = None) -> Any:
    """Compute -log p of the correct class, (examples,), in nats; `mask` as for `logits`."""
    return cs.cross_entropy(logits(params, x, mask), y)


def margin(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """Compute log(p / (1 - p)) of the correct class, (examples,): see `supervised.margins`."""
    return supervised.margins(logits(params, x), y)


def accuracy(params: Mapping[str, Any], x: Any, y: Any) -> float:
    """Compute the fraction of correct labels; a step function, so measure `logits` and count afterwards."""
    return float(np.mean(np.argmax(logits(params, x), axis=-1) == y))


def held_out_loss(params: Mapping[str, Any]) -> Any:
    """Compute the mean loss on the held-out part of `data()`, a scalar."""
    return loss(params, *data()[2:]).mean()


def held_out_margin(params: Mapping[str, Any]) -> Any:
    """Compute the mean margin on the held-out part of `data()`, a scalar."""
    return margin(params, *data()[2:]).mean()
