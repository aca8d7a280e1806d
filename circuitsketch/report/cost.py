"""Measure the cost of a direction and of plain training: runs of increasing size(A) in, processor seconds out.

Every run is compiled and executed once before it is timed; a time is the minimum over `REPEATS` repetitions, on one
thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import microgpt

REPEATS = 3


@dataclass(frozen=True)
class Shape:
    """The sizes of a microgpt, and the number of names that it is trained on, one per step."""

    steps: int
    width: int = 16
    layers: int = 1

    def __str__(self) -> str:
        return f"{self.steps} steps, width {self.width}, {self.layers} layer{'s' * (self.layers > 1)}"


@dataclass(frozen=True, eq=False)
class Cost:
    """Processor time against the number of scalar gates.

    Attributes
    ----------
    order, directions : int
        Of the sketches that were timed.
    shapes : tuple of Shape
        The K runs.
    sizes : (K,) ndarray of int
        Their size(A).
    train : (K,) ndarray
        Seconds of plain training.
    direction : (K,) ndarray
        Seconds per direction.
    slope : float
        The least-squares slope of log seconds per direction against log size(A); 1 if cost is proportional to size(A).
    """

    order: int
    directions: int
    shapes: tuple[Shape, ...]
    sizes: np.ndarray
    train: np.ndarray
    direction: np.ndarray
    slope: float


def measure_cost(
    shapes: Sequence[Shape],
    directions: int,
    order: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Cost:
    """Time plain training and a small sketch of each shape."""
    sizes, train, direction = [], [], []
    for done, shape in enumerate(shapes):
        progress(done, len(shapes))
        docs = microgpt.names()[: shape.steps]
        run = microgpt.training(docs, seed=seed, alphabet=microgpt.ALPHABET, width=shape.width, layers=shape.layers)
        sizes.append(run.size)
        train.append(time_fastest(run.train))
        direction.append(time_fastest(partial(cs.sketch, run, directions, order, threads=1)) / directions)
    progress(len(shapes), len(shapes))
    slope = np.polyfit(np.log(sizes), np.log(direction), 1)[0] if len(set(sizes)) > 1 else float("nan")
    return Cost(order, directions, tuple(shapes), np.array(sizes), np.array(train), np.array(direction), float(slope))


def time_fastest(work: Callable[[], object]) -> float:
    """Return the processor seconds of the fastest of several calls, after a first one that may compile."""
    work()
    spent = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return min(spent)
