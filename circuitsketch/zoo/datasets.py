"""The data sets that come with the zoo: nothing is downloaded. Out: plain arrays, split in two the same way every time.

`data/PROVENANCE.txt` tells each set's source, authors, licence, derivation and checksums.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from circuitsketch.errors import InputError


class Split(NamedTuple):
    """Examples to train on and others to measure on: x, y, test_x, test_y, the examples along axis 0.

    >>> x, y, test_x, test_y = split(np.arange(10.0), np.arange(10), 7)
    >>> len(x), len(test_y)
    (7, 3)
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits: images (1797, 8, 8) with ink from 0 to 1 in sixteenths, and what they show, 0..9.

    The test part of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits (1998), by 13 writers; CC BY 4.0.

    >>> images, labels = digits()
    >>> images.shape, labels[:5].tolist()
    ((1797, 8, 8), [0, 1, 2, 3, 4])
    """
    arrays = load("digits")
    return arrays["images"] / 16.0, arrays["labels"].astype(np.int64)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """569 breast tumours: 30 measures of their cell nuclei (569, 30), and 1 where the tumour was malignant, else 0.

    Wolberg, Street and Mangasarian's Breast Cancer Wisconsin (Diagnostic), 1995; CC BY 4.0. The measures are in their
    own units, which differ by factors of up to 1e5: see `standardised`.

    >>> features, malignant = breast_cancer()
    >>> features.shape, int(malignant.sum())
    ((569, 30), 212)
    """
    arrays = load("breast_cancer")
    return arrays["features"].copy(), arrays["malignant"].astype(np.int64)


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    """The arrays of a shipped file, read once."""
    path = resources.files("circuitsketch.zoo") / "data" / f"{name}.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


MOST = 10**7  # of anything: more is a slip


def is_whole(value: Any, low: int = 1, high: int = MOST) -> bool:
    """Whether a value is a whole number from `low` to `high`."""
    fine = isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)
    return fine and low <= int(value) <= high


def check_seed(seed: Any) -> int:
    """A seed as NumPy's generators take it, or an InputError."""
    if not is_whole(seed, 0, 2**64 - 1):
        raise InputError(f"seed is {shown(seed)}; give a whole number from 0")
    return int(seed)


def shown(value: Any) -> str:
    """A value in a message, in short."""
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def split(x: np.ndarray, y: np.ndarray, count: int, seed: int = 0) -> Split:
    """`count` examples in random order to train on, and the rest. InputError where one side would be empty."""
    if not is_whole(count, 1, len(x) - 1):
        raise InputError(f"of {len(x)} examples {shown(count)} cannot be trained on with some left to measure on")
    order = np.random.default_rng(check_seed(seed)).permutation(len(x))
    here, there = order[:count], order[count:]
    return Split(x[here], y[here], x[there], y[there])


def standardised(data: Split) -> Split:
    """Features of mean 0 and deviation 1 over the examples to train on; those to measure on are moved along.

    The means and deviations belong to the data as given: a counterfactual without some examples does not redo them.
    """
    mean, deviation = data.x.mean(axis=0), data.x.std(axis=0)
    return data._replace(x=(data.x - mean) / deviation, test_x=(data.test_x - mean) / deviation)
