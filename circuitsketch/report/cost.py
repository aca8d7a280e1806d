"""What a direction costs beside plain training: runs of growing size(A) in, processor seconds out.

Every run is compiled, and played once, before it is timed; times are the least of some repetitions, on one thread.
Drawing is left to `pictures`.
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
    """A microgpt of some sizes, trained on so many names."""

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
    order, directions : of the sketches that were timed. shapes : (K,) the runs; sizes : (K,) their size(A).
    train : (K,) seconds of plain training. direction : (K,) seconds a direction.
    slope : of log seconds a direction against log size(A), by least squares; 1 where cost is in proportion.
    """

    order: int
    directions: int
    shapes: tuple[Shape, ...]
    sizes: np.ndarray
    train: np.ndarray
    direction: np.ndarray
    slope: float


def cost_of(
    shapes: Sequence[Shape],
    directions: int,
    order: int,
    seed: int = 0,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Cost:
    """Time plain training and a small sketch of each shape."""
    sizes, train, direction = [], [], []
    for done, shape in enumerate(shapes):
        watch(done, len(shapes))
        docs = microgpt.names()[: shape.steps]
        run = microgpt.training(docs, seed=seed, alphabet=microgpt.ALPHABET, width=shape.width, layers=shape.layers)
        sizes.append(run.size)
        train.append(least(run.train))
        direction.append(least(partial(cs.sketch, run, directions, order, threads=1)) / directions)
    watch(len(shapes), len(shapes))
    slope = np.polyfit(np.log(sizes), np.log(direction), 1)[0] if len(set(sizes)) > 1 else float("nan")
    return Cost(order, directions, tuple(shapes), np.array(sizes), np.array(train), np.array(direction), float(slope))


def least(work: Callable[[], object]) -> float:
    """The least processor seconds that some work takes, after a first time that may compile."""
    work()
    spent = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return min(spent)
