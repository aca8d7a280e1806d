"""A small convolutional network on handwritten digits. In: images; out: a `Training`, and measurements.

A convolution is a gather and a contraction: every window's pixels are gathered by a table of positions, and contracted
with the kernel. Two of these, GELU after each, means over 2 x 2 cells, and a dense layer.
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
    """The digits, `count` images to train on and the others of the 1,797 to measure on.

    x (count, 8, 8) with ink from 0 to 1, y (count,) labels 0..9, test_x, test_y. InputError for a count that leaves
    none.

    >>> data().x.shape, data().test_x.shape
    ((500, 8, 8), (1297, 8, 8))
    """
    return datasets.split(*datasets.digits(), count, seed)


def windows(rows: int, columns: int, size: int) -> np.ndarray:
    """The flat positions that each size x size window of a picture covers: (windows, size * size), row by row.

    >>> windows(2, 3, 2)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5]])
    """
    corner = np.arange(rows - size + 1)[:, None] * columns + np.arange(columns - size + 1)
    inside = np.arange(size)[:, None] * columns + np.arange(size)
    return corner.reshape(-1, 1) + inside.reshape(1, -1)


def convolve(x: Any, kernel: Any) -> Any:
    """The kernel at every place where it fits: (examples, rows, columns, in) -> (examples, rows', columns', out).

    kernel : (size, size, in, out); rows' = rows - size + 1. As everywhere in machine learning, nothing is flipped.

    >>> picture = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> convolve(picture, np.ones((2, 2, 1, 1)))[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    examples, rows, columns, channels = np.shape(x)
    size, _, _, out = np.shape(kernel)
    flat = np.reshape(x, (examples, rows * columns, channels))
    seen = cs.take(flat, windows(rows, columns, size), axis=1)  # (examples, windows, size * size, channels)
    found = np.einsum("nwpc,pco->nwo", seen, np.reshape(kernel, (size * size, channels, out)))
    return np.reshape(found, (examples, rows - size + 1, columns - size + 1, out))


def pool(x: Any, size: int = POOL) -> Any:
    """Means over size x size cells: (examples, rows, columns, channels), rows and columns divided by size."""
    examples, rows, columns, channels = np.shape(x)
    cells = np.reshape(x, (examples, rows // size, size, columns // size, size, channels))
    return np.mean(cells, axis=(2, 4))


def draw(rows: int, columns: int, channels: tuple[int, int], classes: int, seed: int) -> dict[str, np.ndarray]:
    """First parameters for pictures of rows x columns: weights normal, biases 0.

    Variances are 2 / inputs before GELU, which halves what it gets (He et al., arXiv 1502.01852), else 1 / inputs.
    InputError for pictures whose maps, 4 smaller after two convolutions, do not divide into cells of 2 x 2.
    """
    shrunk = rows - 2 * (KERNEL - 1), columns - 2 * (KERNEL - 1)
    if min(shrunk) < POOL or any(extent % POOL for extent in shrunk):
        raise InputError(
            f"cnn: pictures of {rows} x {columns} leave maps of {shrunk[0]} x {shrunk[1]} after two convolutions; "
            f"give pictures with even sides of 6 or more"
        )
    pair = isinstance(channels, tuple | list) and len(channels) == 2
    if not pair or not all(datasets.is_whole(size) for size in (*channels, classes)):
        raise InputError(
            f"cnn: channels are {datasets.shown(channels)} and classes {datasets.shown(classes)}; "
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
    """The training of the network, by default on `data()`.

    Parameters
    ----------
    x, y : pictures (examples, rows, columns), and labels 0..classes-1 (examples,).
    channels : kernels in the first and in the second convolution.
    seed : draws the first parameters and the order of the examples.
    optimiser, learning_rate, options : `epochs`, `batch_size`, `weight_decay`, `schedule`, `clip`, `groups`: see
        `supervised.training`.

    Returns a Training whose params are those of `draw`. Raises InputError for sizes and options that cannot be.

    >>> run = training(*data(200)[:2], epochs=1, channels=(2, 4))
    >>> run.n, run.steps
    (200, 7)
    """
    x, y = supervised.given_or(data, x, y)
    if np.ndim(x) != 3:
        raise InputError(f"cnn: x has the shape {np.shape(x)}; give pictures, (examples, rows, columns)")
    supervised.check_labels(y, classes)
    rows, columns = np.shape(x)[1:]
    params = draw(rows, columns, channels, classes, seed)
    return supervised.training(
        loss, params, x, y, optimiser=optimiser, learning_rate=learning_rate, seed=seed, **options
    )


def logits(params: Mapping[str, Any], x: Any) -> Any:
    """The scores of the classes, (examples, classes), of pictures (examples, rows, columns)."""
    maps = x[:, :, :, None]
    maps = cs.gelu(convolve(maps, params["kernel0"]) + params["kernel0_bias"])
    maps = cs.gelu(convolve(maps, params["kernel1"]) + params["kernel1_bias"])
    cells = pool(maps)
    return np.reshape(cells, (np.shape(x)[0], -1)) @ params["dense"] + params["dense_bias"]


def loss(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """-log p of the right class, (examples,), in nats."""
    return cs.cross_entropy(logits(params, x), y)


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
