"""Logistic regression: malignant tumours told from benign ones. In: examples; out: a `Training`, and measurements.

The smallest model of the zoo, and a convex one: with weight decay its training ends where Newton's method ends, and the
influence of an example has a closed form (Koh and Liang, arXiv 1703.04730), which the tests compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo import datasets, supervised


def data(count: int = 400, seed: int = 0) -> datasets.Split:
    """The breast cancer data, `count` tumours to train on and the others of the 569 to measure on, standardised.

    x (count, 30), y (count,) with 1 for malignant, test_x, test_y. InputError for a count that leaves none.

    >>> data().x.shape, data().test_x.shape
    ((400, 30), (169, 30))
    """
    return datasets.standardised(datasets.split(*datasets.breast_cancer(), count, seed))


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
    """The training of a logistic regression from zero, by default on `data()`, all examples in every step.

    Parameters
    ----------
    x, y : features (examples, features), and labels 0 or 1 (examples,).
    epochs, batch_size, learning_rate, optimiser, weight_decay, options : see `supervised.training`; `schedule`,
        `clip`, `groups` and `seed` among the options.

    Returns a Training whose params are {"w": (features,), "b": ()}. Raises InputError as `supervised.training`.

    >>> run = training(epochs=50)
    >>> accuracy(run.params(run.train()), *data()[2:]) > 0.95
    True
    """
    x, y = supervised.given_or(data, x, y)
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
    """The log-odds of label 1, (examples,)."""
    return x @ params["w"] + params["b"]


def margin(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """log(p / (1 - p)) of the right label, (examples,): the log-odds, with their sign turned for label 0."""
    return (2.0 * y - 1.0) * logits(params, x)


def loss(params: Mapping[str, Any], x: Any, y: Any) -> Any:
    """-log p of the right label, (examples,), in nats."""
    return cs.softplus(-margin(params, x, y))


def accuracy(params: Mapping[str, Any], x: Any, y: Any) -> float:
    """The share of labels that the model gets right. A step function: measure `margin`, and count afterwards."""
    return float(np.mean(np.asarray(margin(params, x, y)) > 0))


def held_out_loss(params: Mapping[str, Any]) -> Any:
    """The mean loss on what `data()` holds out: one number."""
    return loss(params, *data()[2:]).mean()


def held_out_margin(params: Mapping[str, Any]) -> Any:
    """The mean margin on what `data()` holds out: one number."""
    return margin(params, *data()[2:]).mean()
