"""The runs that are measured: three of different shape, so that nothing is tuned to one.

microgpt : a name a step, in order and without padding, width 16, one layer (Adam).
mlp : 64-128-10 on the digits, minibatches of 64 in a seeded order (gradient descent with momentum).
wide : microgpt of width 64 with two layers, whose state is larger than a core's cache.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import microgpt

WORKLOADS = ("microgpt", "mlp", "wide")
STEPS = {"microgpt": 1000, "mlp": 500, "wide": 200}  # of the full setting
BATCH = 64


@cache
def training(workload: str, steps: int) -> cs.Training:
    """A run of so many steps."""
    if workload == "microgpt":
        return microgpt.training(microgpt.names()[:steps], seed=42)
    if workload == "wide":
        return microgpt.training(microgpt.names()[:steps], seed=42, width=64, layers=2)
    return mlp(steps)


def mlp(steps: int) -> cs.Training:
    """The digits by a perceptron with 128 hidden units."""
    images, labels, _ = digits()
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.normal(size=(64, 128)) / 8.0,
        "b1": np.zeros(128),
        "w2": rng.normal(size=(128, 10)) / np.sqrt(128.0),
        "b2": np.zeros(10),
    }

    def step(state: Any, batch: Any, keep: Any) -> Any:
        x, y = batch

        def loss(p: Any) -> Any:
            hidden = np.tanh(x @ p["w1"] + p["b1"])
            return (keep * cs.cross_entropy(hidden @ p["w2"] + p["b2"], y)).mean()

        return cs.optim.momentum(state, cs.grad(loss)(state["params"]), learning_rate=0.1)

    order: list[int] = []
    while len(order) < steps * BATCH:
        order += rng.permutation(len(images)).tolist()
    ids = [np.array(order[t * BATCH : (t + 1) * BATCH]) for t in range(steps)]
    batches = [(images[i], labels[i]) for i in ids]
    return cs.Training(step, cs.optim.momentum_state(params), batches, ids, n=len(images))


@cache
def digits() -> tuple[np.ndarray, np.ndarray, str]:
    """Images (n, 64) between 0 and 1, labels (n,), and where they are from."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 10, 1797)
        images = np.clip(rng.uniform(size=(10, 64))[labels] + 0.3 * rng.normal(size=(1797, 64)), 0.0, 1.0)
        return images, labels, "ten noisy random images (scikit-learn, which has the digits, is not installed)"
    found = load_digits()
    return found.data / 16.0, found.target, "the digits of scikit-learn"


def directions(count: int, n: int, real: bool = False, seed: int = 0) -> np.ndarray:
    """Uniform on the unit sphere of C^n, or of R^n."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(count, n))
    if not real:
        found = found + 1j * rng.normal(size=(count, n))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


__all__ = ["STEPS", "WORKLOADS", "digits", "directions", "training"]
