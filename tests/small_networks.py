"""A small perceptron on 150 examples, trained in three ways, and what is measured of it."""

from __future__ import annotations

import functools

import numpy as np

import circuitsketch as cs

N = 150
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 4))
Y = (np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] > 0).astype(int)
TEST = rng.normal(size=(2, 4))


@functools.cache
def network(kind):
    """A run whose own effects add up ("tanh"), and two whose do not: ReLU at a high learning rate, and with Adam."""
    draw = np.random.default_rng(1)
    activation = np.tanh if kind == "tanh" else cs.relu
    ids = [draw.permutation(N)[:32] for _ in range(60)]

    def step(state, batch, keep):
        x, y = batch
        loss = lambda p: (keep * cs.cross_entropy(activation(x @ p["w"] + p["b"]) @ p["v"], y)).mean()  # noqa: E731
        slopes = cs.grad(loss)(state["params"])
        if kind == "adam":
            return cs.optim.adam(state, slopes, 0.02, eps=0.0, eps_root=1e-8)
        return cs.optim.momentum(state, slopes, 0.2)

    params = {"w": draw.normal(size=(4, 12)) / 2, "b": np.zeros(12), "v": draw.normal(size=(12, 2)) / 3}
    start = cs.optim.adam_state(params) if kind == "adam" else cs.optim.momentum_state(params)
    return cs.Training(step, start, [(X[i], Y[i]) for i in ids], ids, n=N, labels=Y.tolist(), items=range(N))


def measure(p):
    out = np.tanh(TEST @ p["w"] + p["b"]) @ p["v"]
    return out[:, 1] - out[:, 0]
