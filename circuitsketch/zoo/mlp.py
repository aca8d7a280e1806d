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
    """Return handwritten digits as vectors of pixels, to train and to measure on.

    Parameters
    ----------
    count : int
        The number of examples to train on, from 1 to 1796.
    seed : int
        The seed of the random split.

    Returns
    -------
    Split
        x (count, 64), ink from 0 to 1, y (count,) with labels 0..9, and test_x and test_y, the rest of the 1,797.

    Raises
    ------
    InputError
        If `count` is out of range.

    Examples
    --------
    >>> data().x.shape, data().test_x.shape
    ((1000, 64), (797, 64))
    """
    images, labels = datasets.digits()
    return datasets.split(images.reshape(len(images), -1), labels, count, seed)


def draw(inputs: int, hidden: list[int], classes: int, activation: str, seed: int) -> dict[str, np.ndarray]:
    """Draw initial parameters: weights normal with variance 1 / inputs of their layer, biases 0.

    Parameters
    ----------
    inputs : int
        The number of features.
    hidden : list of int
        The number of units of each hidden layer.
    classes : int
        The number of outputs.
    activation : str
        A key of ACTIVATIONS, part of the parameters' names.
    seed : int
        The seed.

    Returns
    -------
    dict of str to ndarray
        The parameters.

    Examples
    --------
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
            raise InputError(f"mlp: {name} is {datasets.short_repr(value)}; every size must be at least 1")
    if not supervised.is_real(dropout) or not 0 <= dropout < 1:
        raise InputError(f"mlp: dropout must be a rate in [0, 1), not {datasets.short_repr(dropout)}")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InputError(
            f"mlp: activation is {datasets.short_repr(activation)}; choose one of {', '.join(ACTIVATIONS)}"
        )
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
    """Compute the class scores.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.
    mask : (layers, examples, width) array, optional
        Factors of the hidden units.

    Returns
    -------
    (examples, classes) array or Wire
        The scores.
    """
    hidden = [name[:-2] for name in params if name.endswith("_w") and name != "out_w"]
    for layer, name in enumerate(hidden):
        activation = ACTIVATIONS[name.rstrip("0123456789")]
        x = activation(x @ params[f"{name}_w"] + params[f"{name}_b"])
        if mask is not None:
            x = x * mask[layer]
    return x @ params["out_w"] + params["out_b"]


def loss(params: Mapping[str, Any], x: Any, y: Any, mask: Any = None) -> Any:
    """Compute -log p of the correct class.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.
    y : (examples,) array of int
        Correct classes.
    mask : (layers, examples, width) array, optional
        Factors of the hidden units.

    Returns
    -------
    (examples,) array or Wire
        The losses, in nats.
    """
    return cs.cross_entropy(logits(params, x, mask), y)


def margin(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """Compute log(p / (1 - p)) of the correct class; see `supervised.margins`.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.
    y : (examples,) array of int
        Correct classes.

    Returns
    -------
    (examples,) array or Wire
        The margins, positive where p > 1/2.
    """
    return supervised.margins(logits(params, x), y)


def accuracy(params: Mapping[str, Any], x: Any, y: Any) -> float:
    """Compute the fraction of correct labels.

    Accuracy is a step function without a Taylor series: measure `logits` and count afterwards.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.
    y : (examples,) array of int
        Correct classes.

    Returns
    -------
    float
        The fraction.
    """
    return float(np.mean(np.argmax(logits(params, x), axis=-1) == y))


def held_out_loss(params: Mapping[str, Any]) -> Any:
    """Compute the mean loss on the held-out part of `data()`.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.

    Returns
    -------
    scalar or Wire
        The mean loss.
    """
    return loss(params, *data()[2:]).mean()


def held_out_margin(params: Mapping[str, Any]) -> Any:
    """Compute the mean margin on the held-out part of `data()`.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.

    Returns
    -------
    scalar or Wire
        The mean margin.
    """
    return margin(params, *data()[2:]).mean()
