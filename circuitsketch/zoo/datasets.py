"""The data sets included with the zoo; nothing is downloaded. Out: plain arrays, split reproducibly in two.

`data/PROVENANCE.txt` gives each set's source, authors, licence, derivation and checksums.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from circuitsketch.errors import InputError


class Split(NamedTuple):
    """Training examples and held-out examples: x, y, test_x, test_y, with examples along axis 0.

    >>> x, y, test_x, test_y = split(np.arange(10.0), np.arange(10), 7)
    >>> len(x), len(test_y)
    (7, 3)
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 1,797 handwritten digits.

    The test part of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits (1998), by 13 writers; CC BY 4.0.

    Returns
    -------
    images : (1797, 8, 8) ndarray
        Ink from 0 to 1 in sixteenths.
    labels : (1797,) ndarray of int
        The digits, 0..9.

    Examples
    --------
    >>> images, labels = digits()
    >>> images.shape, labels[:5].tolist()
    ((1797, 8, 8), [0, 1, 2, 3, 4])
    """
    arrays = load("digits")
    return arrays["images"] / 16.0, arrays["labels"].astype(np.int64)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Return 569 breast tumours.

    Wolberg, Street and Mangasarian's Breast Cancer Wisconsin (Diagnostic), 1995; CC BY 4.0. The features are in
    their original units, which differ by factors of up to 1e5: see `standardise`.

    Returns
    -------
    features : (569, 30) ndarray
        Features of the cell nuclei.
    labels : (569,) ndarray of int
        1 for malignant, else 0.

    Examples
    --------
    >>> features, malignant = breast_cancer()
    >>> features.shape, int(malignant.sum())
    ((569, 30), 212)
    """
    arrays = load("breast_cancer")
    return arrays["features"].copy(), arrays["malignant"].astype(np.int64)


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of an included file; cached."""
    path = resources.files("circuitsketch.zoo") / "data" / f"{name}.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


MAX_SIZE = 10**7  # upper bound on any size; larger values are assumed to be mistakes


def is_integer(value: Any, low: int = 1, high: int = MAX_SIZE) -> bool:
    """Return whether a value is an integer from `low` to `high`."""
    integral = isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)
    return integral and low <= int(value) <= high


def check_seed(seed: Any) -> int:
    """Return a seed valid for NumPy's generators, or raise InputError."""
    if not is_integer(seed, 0, 2**64 - 1):
        raise InputError(f"seed is {short_repr(seed)}; give a non-negative integer")
    return int(seed)


def short_repr(value: Any) -> str:
    """Return a short text of a value for a message."""
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def split(x: np.ndarray, y: np.ndarray, count: int, seed: int = 0) -> Split:
    """Split examples at random.

    Parameters
    ----------
    x, y : (examples, ...) ndarray
        The inputs and the labels.
    count : int
        The number of training examples, from 1 to one less than all.
    seed : int
        The seed of the split.

    Returns
    -------
    Split
        `count` examples for training, and the rest.

    Raises
    ------
    InputError
        If `count` is out of range.
    """
    if not is_integer(count, 1, len(x) - 1):
        raise InputError(f"count is {short_repr(count)}; give 1 to {len(x) - 1}, with some left to measure on")
    order = np.random.default_rng(check_seed(seed)).permutation(len(x))
    train, test = order[:count], order[count:]
    return Split(x[train], y[train], x[test], y[test])


def standardise(data: Split) -> Split:
    """Standardise features to mean 0 and standard deviation 1 over the training examples.

    Held-out examples are transformed in the same way. The means and deviations are fixed: a counterfactual without some
    examples does not recompute them.

    Parameters
    ----------
    data : Split
        Training and held-out examples.

    Returns
    -------
    Split
        With standardised features.
    """
    mean, deviation = data.x.mean(axis=0), data.x.std(axis=0)
    return data._replace(x=(data.x - mean) / deviation, test_x=(data.test_x - mean) / deviation)
