"""Logistic regression of malignant and benign tumours. In: examples; out: a `Training`, and measurements.

The smallest model of the zoo, and a convex one: with weight decay its training converges to the solution of Newton's
method, and the influence of an example has a closed form (Koh and Liang, arXiv 1703.04730), used in tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo import datasets, supervised


def data(count: int = 400, seed: int = 0) -> datasets.Split:
    """Return standardised features of breast tumours, to train and to measure on.

    Parameters
    ----------
    count : int
        The number of examples to train on, from 1 to 568.
    seed : int
        The seed of the random split.

    Returns
    -------
    Split
        x (count, 30), y (count,) with 1 for malignant, else 0, and test_x and test_y, the rest of the 569.

    Raises
    ------
    InputError
        If `count` is out of range.

    Examples
    --------
    >>> data().x.shape, data().test_x.shape
    ((400, 30), (169, 30))
    """
    return datasets.standardise(datasets.split(*datasets.breast_cancer(), count, seed))


def training(
    x: Any = None,
    y: Any = None,
    *,
    epochs: int = 100,
    batch_size: int | None = None,
    learning_rate: float = 0.5,
    optimiser: str = "momentum",
    weight_decay: float = 0.01,
    **options: Any,
) -> cs.Training:
    """Return the training of a logistic regression from zero, by default on `data()` with full batches.

    Parameters
    ----------
    x : (examples, features) array, optional
        The features.
    y : (examples,) array of int, optional
        Labels 0 or 1.
    epochs, batch_size, learning_rate, optimiser, weight_decay
        See `supervised.training`.
    **options
        `schedule`, `clip`, `groups` and `seed`: see `supervised.training`.

    Returns
    -------
    Training
        With parameters {"w": (features,), "b": ()}.

    Raises
    ------
    InputError
        For invalid arguments.

    Examples
    --------
    >>> run = training(epochs=50)
    >>> accuracy(run.params(run.train()), *data()[2:]) > 0.95
    True
    """
    x, y = supervised.data_or_default(data, x, y)
    supervised.check_labels(y, 2)
    x = supervised.array_of(x, "x")
    if x.ndim != 2:
        raise InputError(f"x has the shape {x.shape}; give (examples, features)")
    params = {"w": np.zeros(x.shape[1]), "b": np.zeros(())}
    return supervised.training(
        loss,
        params,
        x,
        y,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimiser=optimiser,
        weight_decay=weight_decay,
        **options,
    )


def logits(params: Mapping[str, Any], x: Any) -> Any:
    """Compute the log-odds of label 1.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.

    Returns
    -------
    (examples,) array or Wire
        The log-odds.
    """
    return x @ params["w"] + params["b"]


def margin(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """Compute log(p / (1 - p)) of the correct label: the log-odds, negated for label 0.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.
    y : (examples,) array of int
        Correct labels, 0 or 1.

    Returns
    -------
    (examples,) array or Wire
        The margins, positive where p > 1/2.
    """
    return (2.0 * y - 1.0) * logits(params, x)


def loss(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """Compute -log p of the correct label.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.
    y : (examples,) array of int
        Correct labels, 0 or 1.

    Returns
    -------
    (examples,) array or Wire
        The losses, in nats.
    """
    return cs.softplus(-margin(params, x, y))


def accuracy(params: Mapping[str, Any], x: Any, y: Any) -> float:
    """Compute the fraction of correct labels.

    Accuracy is a step function without a Taylor series: measure `margin` and count afterwards.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The parameters.
    x : (examples, features) array
        Features.
    y : (examples,) array of int
        Correct labels, 0 or 1.

    Returns
    -------
    float
        The fraction.
    """
    return float(np.mean(np.asarray(margin(params, x, y)) > 0))


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
