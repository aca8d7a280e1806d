"""The training runs to measure: three of different shapes, so that nothing is tuned to one of them.

microgpt: one name per step, in order and without padding, width 16, one layer (Adam). mlp: 64-128-10 on the digits,
minibatches of 64 in a seeded order (gradient descent with momentum). wide: microgpt of width 64 with two layers, whose
state is larger than a core's cache.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import datasets, microgpt
from circuitsketch.zoo import mlp as perceptron

WORKLOADS = ("microgpt", "mlp", "wide")
STEPS = {"microgpt": 1000, "mlp": 500, "wide": 200}  # of the full setting
BATCH = 64
MLP_RATE = 0.03


@cache
def training(workload: str, steps: int) -> cs.Training:
    """Return the run of a workload with a number of steps."""
    if workload == "microgpt":
        return microgpt.training(microgpt.names()[:steps], seed=42, alphabet=microgpt.ALPHABET)
    if workload == "wide":
        return microgpt.training(microgpt.names()[:steps], seed=42, alphabet=microgpt.ALPHABET, width=64, layers=2)
    return mlp(steps)


def mlp(steps: int) -> cs.Training:
    """Return the training of a perceptron with 128 hidden units on the digits, shuffled in every epoch."""
    images, labels = datasets.digits()
    images = np.reshape(images, (len(images), -1))

    def step(state: Any, batch: Any, keep: Any) -> Any:
        grads = cs.grad(lambda p: (keep * perceptron.loss(p, *batch)).mean())(state["params"])
        return cs.optim.momentum(state, grads, learning_rate=MLP_RATE)

    rng = np.random.default_rng(0)
    order: list[int] = []
    while len(order) < steps * BATCH:
        order += rng.permutation(len(images)).tolist()
    ids = [np.array(order[t * BATCH : (t + 1) * BATCH]) for t in range(steps)]
    first = cs.optim.momentum_state(perceptron.draw(64, [128], 10, "gelu", seed=0))
    return cs.Training(step, first, [(images[i], labels[i]) for i in ids], ids, n=len(images))


def directions(count: int, n: int, real: bool = False, seed: int = 0) -> np.ndarray:
    """Draw directions uniformly on the unit sphere of C^n or R^n."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, n))
    if not real:
        rows = rows + 1j * rng.normal(size=(count, n))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


__all__ = ["STEPS", "WORKLOADS", "directions", "training"]
