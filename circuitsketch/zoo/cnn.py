"""A small convolutional network on handwritten digits. In: images; out: a `Training`, and measurements.

A convolution is a gather and a contraction: the pixels of every window are gathered by a table of positions, and
contracted with the kernel. The network has two convolutions with GELU, means over 2 x 2 cells, and a dense layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo import datasets, supervised

KERNEL = 3
POOL = 2


def data(count: int = 500, seed: int = 0) -> datasets.Split:
    """Return handwritten digits as images, to train and to measure on.

    Parameters
    ----------
    count : int
        The number of examples to train on, from 1 to 1796.
    seed : int
        The seed of the random split.

    Returns
    -------
    Split
        x (count, 8, 8), ink from 0 to 1, y (count,) with labels 0..9, and test_x and test_y, the rest of the 1,797.

    Raises
    ------
    InputError
        If `count` is out of range.

    Examples
    --------
    >>> data().x.shape, data().test_x.shape
    ((500, 8, 8), (1297, 8, 8))
    """
    return datasets.split(*datasets.digits(), count, seed)


def windows(rows: int, columns: int, size: int) -> np.ndarray:
    """Return the flat positions covered by each size x size window of an image, row by row.

    Parameters
    ----------
    rows, columns : int
        The size of the image.
    size : int
        The size of a window.

    Returns
    -------
    (windows, size * size) ndarray of int
        The positions.

    Examples
    --------
    >>> windows(2, 3, 2)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5]])
    """
    corner = np.arange(rows - size + 1)[:, None] * columns + np.arange(columns - size + 1)
    inside = np.arange(size)[:, None] * columns + np.arange(size)
    return corner.reshape(-1, 1) + inside.reshape(1, -1)


def convolve(x: Any, kernel: Any) -> Any:
    """Convolve images with a kernel, without padding; as usual in machine learning, the kernel is not flipped.

    Parameters
    ----------
    x : (examples, rows, columns, in) array or Wire
        Images with `in` channels.
    kernel : (size, size, in, out) array or Wire
        The kernel.

    Returns
    -------
    (examples, rows - size + 1, columns - size + 1, out) array or Wire
        The feature maps.

    Examples
    --------
    >>> image = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> convolve(image, np.ones((2, 2, 1, 1)))[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    examples, rows, columns, channels = np.shape(x)
    size, _, _, out = np.shape(kernel)
    flat = np.reshape(x, (examples, rows * columns, channels))
    pixels = cs.take(flat, windows(rows, columns, size), axis=1)  # (examples, windows, size * size, channels)
    maps = np.einsum("nwpc,pco->nwo", pixels, np.reshape(kernel, (size * size, channels, out)))
    return np.reshape(maps, (examples, rows - size + 1, columns - size + 1, out))


def pool(x: Any, size: int = POOL) -> Any:
    """Average over size x size cells.

    Parameters
    ----------
    x : (examples, rows, columns, channels) array or Wire
        Feature maps.
    size : int
        The size of a cell, which divides rows and columns.

    Returns
    -------
    (examples, rows / size, columns / size, channels) array or Wire
        The means.
    """
    examples, rows, columns, channels = np.shape(x)
    cells = np.reshape(x, (examples, rows // size, size, columns // size, size, channels))
    return np.mean(cells, axis=(2, 4))


def draw(rows: int, columns: int, channels: tuple[int, int], classes: int, seed: int) -> dict[str, np.ndarray]:
    """Draw initial parameters: weights normal, biases 0.

    Variances are 2 / inputs before GELU, which halves its input (He et al., arXiv 1502.01852), else 1 / inputs.

    Parameters
    ----------
    rows, columns : int
        The size of the images.
    channels : tuple of int
        The number of kernels in the first and in the second convolution.
    classes : int
        The number of outputs.
    seed : int
        The seed.

    Returns
    -------
    dict of str to ndarray
        The parameters: kernel0, kernel1, dense, and a bias of each.

    Raises
    ------
    InputError
        If a size is invalid, or the feature maps, 4 smaller than the images, cannot be divided into cells of 2 x 2.
    """
    shrunk = rows - 2 * (KERNEL - 1), columns - 2 * (KERNEL - 1)
    if min(shrunk) < POOL or any(size % POOL for size in shrunk):
        raise InputError(
            f"cnn: images of {rows} x {columns} have maps of {shrunk[0]} x {shrunk[1]} after two convolutions; "
            f"give images with even sides of 6 or more"
        )
    pair = isinstance(channels, tuple | list) and len(channels) == 2
    if not pair or not all(datasets.is_integer(size) for size in (*channels, classes)):
        raise InputError(
            f"cnn: channels are {datasets.short_repr(channels)} and classes {datasets.short_repr(classes)}; "
            "each must be at least 1"
        )
    cells = (shrunk[0] // POOL) * (shrunk[1] // POOL)
    shapes = {
        "kernel0": (KERNEL, KERNEL, 1, channels[0]),
        "kernel1": (KERNEL, KERNEL, channels[0], channels[1]),
        "dense": (cells * channels[1], classes),
    }
    rng = np.random.default_rng(datasets.check_seed(seed))
    params = {}
    for name, shape in shapes.items():
        gain = 1.0 if name == "dense" else 2.0
        params[name] = rng.normal(0.0, math.sqrt(gain / math.prod(shape[:-1])), shape)
        params[f"{name}_bias"] = np.zeros(shape[-1])
    return params


def training(
    x: Any = None,
    y: Any = None,
    *,
    channels: tuple[int, int] = (4, 8),
    classes: int = 10,
    optimiser: str = "adam",
    learning_rate: float = 0.01,
    seed: int = 0,
    **options: Any,
) -> cs.Training:
    """Return the training of the network, by default on `data()`.

    Parameters
    ----------
    x : (examples, rows, columns) array, optional
        The images.
    y : (examples,) array of int, optional
        Labels 0..classes-1.
    channels : tuple of int
        The number of kernels in the first and in the second convolution.
    classes : int
        The number of outputs.
    optimiser : str
        See `supervised.training`.
    learning_rate : float
        The base learning rate.
    seed : int
        The seed of the initial parameters and the order of the examples.
    **options
        `epochs`, `batch_size`, `weight_decay`, `schedule`, `clip`, `groups`: see `supervised.training`.

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
    >>> run = training(*data(200)[:2], epochs=1, channels=(2, 4))
    >>> run.n, run.steps
    (200, 7)
    """
    x, y = supervised.data_or_default(data, x, y)
    if np.ndim(x) != 3:
        raise InputError(f"cnn: x has the shape {np.shape(x)}; give images, (examples, rows, columns)")
    supervised.check_labels(y, classes)
    rows, columns = np.shape(x)[1:]
    params = draw(rows, columns, channels, classes, seed)
    return supervised.training(
        loss, params, x, y, optimiser=optimiser, learning_rate=learning_rate, seed=seed, **options
    )


def logits(params: Mapping[str, Any], x: Any) -> Any:
    """Compute the class scores.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, rows, columns) array
        Images.

    Returns
    -------
    (examples, classes) array or Wire
        The scores.
    """
    maps = x[:, :, :, None]
    maps = cs.gelu(convolve(maps, params["kernel0"]) + params["kernel0_bias"])
    maps = cs.gelu(convolve(maps, params["kernel1"]) + params["kernel1_bias"])
    cells = pool(maps)
    return np.reshape(cells, (np.shape(x)[0], -1)) @ params["dense"] + params["dense_bias"]


def loss(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """Compute -log p of the correct class.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, rows, columns) array
        Images.
    y : (examples,) array of int
        Correct classes.

    Returns
    -------
    (examples,) array or Wire
        The losses, in nats.
    """
    return cs.cross_entropy(logits(params, x), y)


def margin(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """Compute log(p / (1 - p)) of the correct class; see `supervised.margins`.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, rows, columns) array
        Images.
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
    x : (examples, rows, columns) array
        Images.
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
