"""Networks: an LSTM, a convolution with batch norm and max-pool, a triplet loss, PPO, and two models of the zoo."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import spelt_alike

import circuitsketch as cs
from circuitsketch.zoo import cnn, microgpt, mlp

from .loop import (
    UserRun,
    apply_perceptron,
    build_training,
    draw_from_groups,
    draw_from_labels,
    draw_layers,
    draw_minibatches,
)


def build_lstm() -> UserRun:
    """An LSTM that tells sequences with a rising end from others, under Adam."""
    rng = np.random.default_rng(6)
    hidden, length = 6, 8
    x = np.cumsum(rng.normal(size=(300, length, 1)), axis=1) / 2
    y = (x[:, -1, 0] > x[:, 2, 0]).astype(int)

    def logits(params: Any, x: Any) -> Any:
        h = c = np.zeros((x.shape[0], hidden))
        for t in range(length):
            gates = x[:, t] @ params["wx"] + h @ params["wh"] + params["b"]
            i, f, o, g = np.split(gates, 4, axis=1)
            c = cs.sigmoid(f) * c + cs.sigmoid(i) * np.tanh(g)
            h = cs.sigmoid(o) * np.tanh(c)
        return h @ params["out"]

    def loss(params: Any, x: Any, y: Any) -> Any:
        return cs.cross_entropy(logits(params, x), y)

    params = {
        "wx": rng.normal(0, 0.5, (1, 4 * hidden)),
        "wh": rng.normal(0, 0.4, (hidden, 4 * hidden)),
        "b": np.zeros(4 * hidden),
        "out": rng.normal(0, 0.5, (hidden, 2)),
    }
    run = build_training(
        loss,
        cs.optim.adam_state(params),
        (x[:200], y[:200]),
        lambda state, grads: cs.optim.adam(state, grads, 0.03, eps=0.0, eps_root=1e-8),
        labels=y[:200].tolist(),
    )
    return UserRun(
        run,
        (lambda params: loss(params, x[200:], y[200:]).mean(), lambda params: loss(params, x[200:201], y[200:201])[0]),
        {"class": draw_from_labels(y[:200].tolist())},
    )


def build_convolution() -> UserRun:
    """A convolution, batch norm, ReLU and max-pool on digits; the trained model normalises by its running moments."""
    data = cnn.data(200)
    channels, momentum = 4, 0.2

    def logits(params: Any, maps: Any, mean: Any, variance: Any) -> Any:
        maps = (maps - mean) / np.sqrt(variance + 1e-5) * params["scale"] + params["shift"]
        maps = cs.relu(maps).reshape(-1, 3, 2, 3, 2, channels).max(axis=(2, 4))
        return maps.reshape(-1, 9 * channels) @ params["dense"] + params["bias"]

    def moments(maps: Any) -> tuple[Any, Any]:
        return maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))

    def step(state: Any, batch: Any, keep: Any) -> Any:
        x, y = batch

        def loss(params: Any) -> Any:
            maps = cnn.convolve(x[:, :, :, None], params["kernel"])
            return (keep * cs.cross_entropy(logits(params, maps, *moments(maps)), y)).mean()

        mean, variance = moments(cnn.convolve(x[:, :, :, None], state["params"]["kernel"]))
        after = cs.optim.momentum(state, cs.grad(loss)(state["params"]), learning_rate=0.03)
        running = {
            "mean": state["mean"] + momentum * (mean - state["mean"]),
            "variance": state["variance"] + momentum * (variance - state["variance"]),
        }
        return {**after, **running}

    rng = np.random.default_rng(7)
    params = {
        "kernel": rng.normal(0, 0.3, (3, 3, 1, channels)),
        "scale": np.ones(channels),
        "shift": np.zeros(channels),
        "dense": rng.normal(0, 0.2, (9 * channels, 10)),
        "bias": np.zeros(10),
    }
    state = {**cs.optim.momentum_state(params), "mean": np.zeros(channels), "variance": np.ones(channels)}
    batches = draw_minibatches(200, 20, epochs=5)
    run = cs.Training(
        step,
        state,
        [(data.x[ids], data.y[ids]) for ids in batches],
        batches,
        params=lambda state: state,
        labels=data.y.tolist(),
    )

    def loss(state: Any, x: Any, y: Any) -> Any:
        maps = cnn.convolve(x[:, :, :, None], state["params"]["kernel"])
        return cs.cross_entropy(logits(state["params"], maps, state["mean"], state["variance"]), y)

    return UserRun(
        run,
        (
            lambda state: loss(state, data.test_x[:100], data.test_y[:100]).mean(),
            lambda state: loss(state, data.test_x[100:101], data.test_y[100:101])[0],
        ),
        {"class": draw_from_labels(data.y.tolist())},
    )


def build_triplet() -> UserRun:
    """An embedding of digits by a triplet loss with a hinge; an example is a triplet, alike by its anchor's class."""
    data, rng = mlp.data(300), np.random.default_rng(8)
    same = np.array([rng.choice(np.flatnonzero(data.y == y)) for y in data.y[:200]])
    other = np.array([rng.choice(np.flatnonzero(data.y != y)) for y in data.y[:200]])

    def embed(params: Any, x: Any) -> Any:
        return np.tanh(x @ params["w"]) @ params["out"]

    def hinge(params: Any, anchor: Any, positive: Any, negative: Any) -> Any:
        a, p, n = (embed(params, x) for x in (anchor, positive, negative))
        return cs.relu(((a - p) ** 2).sum(axis=1) - ((a - n) ** 2).sum(axis=1) + 1.0)

    params = {"w": rng.normal(0, 0.15, (64, 12)), "out": rng.normal(0, 0.4, (12, 4))}
    run = build_training(
        hinge,
        cs.optim.momentum_state(params),
        (data.x[:200], data.x[same], data.x[other]),
        lambda state, grads: cs.optim.momentum(state, grads, 0.01),
        labels=data.y[:200].tolist(),
    )

    def distance(params: Any, i: int, j: int) -> Any:
        a, b = embed(params, data.test_x[[i]]), embed(params, data.test_x[[j]])
        return ((a - b) ** 2).sum()

    return UserRun(
        run,
        (lambda params: distance(params, 0, 1), lambda params: distance(params, 2, 3)),
        {"class": draw_from_labels(data.y[:200].tolist())},
    )


def build_ppo() -> UserRun:
    """A policy of three actions, improved by PPO's clipped ratio on twenty episodes of ten steps."""
    rng = np.random.default_rng(9)
    episodes = np.repeat(np.arange(20), 10)
    seen = np.repeat(rng.normal(size=(20, 4)), 10, axis=0) + 0.3 * rng.normal(size=(200, 4))
    params = draw_layers([4, 12, 3], seed=10)

    def log_policy(params: Any, seen: Any) -> Any:
        return cs.log_softmax(apply_perceptron(params, seen, np.tanh))

    old = log_policy(params, seen)
    action = np.array([rng.choice(3, p=np.exp(row)) for row in old])
    advantage = np.where(action == seen[:, :3].argmax(axis=1), 1.0, -0.5) + 0.5 * rng.normal(size=200)
    before = old[np.arange(200), action]

    def loss(params: Any, seen: Any, action: Any, advantage: Any, before: Any) -> Any:
        now = np.take_along_axis(log_policy(params, seen), action[:, None], axis=1)[:, 0]
        ratio = np.exp(now - before)
        return -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)

    run = build_training(
        loss,
        cs.optim.adam_state(params),
        (seen, action, advantage, before),
        lambda state, grads: cs.optim.adam(state, grads, 0.01, eps=0.0, eps_root=1e-6),
        labels=episodes.tolist(),
    )
    asked = np.random.default_rng(11).normal(size=(50, 4))
    return UserRun(
        run,
        (
            lambda params: np.exp(log_policy(params, asked[:1]))[0, 0],
            lambda params: np.exp(log_policy(params, asked))[:, 1].mean(),
        ),
        {"episode": draw_from_labels(episodes.tolist())},
    )


def build_weight_decay() -> UserRun:
    """Ten epochs of a perceptron on digits, with weight decay and a cosine schedule."""
    data = mlp.data(200)
    run = mlp.training(
        data.x, data.y, epochs=10, learning_rate=0.1, weight_decay=0.01, schedule=cs.optim.cosine, batch_size=20
    )
    return UserRun(
        run,
        (
            lambda params: mlp.loss(params, data.test_x, data.test_y).mean(),
            lambda params: mlp.margin(params, data.test_x[:1], data.test_y[:1])[0],
        ),
        {"class": draw_from_labels(data.y.tolist())},
    )


def build_demo() -> UserRun:
    """The demo's GPT, on 1,000 names; names are alike that share letters, a beginning or an ending."""
    docs = microgpt.names()[:1000]
    run = microgpt.training(docs, seed=0, alphabet=microgpt.ALPHABET)
    return UserRun(
        run,
        (lambda params: microgpt.loss(params, "theodore"), lambda params: microgpt.loss(params, "elizabeth")),
        {"spelling": draw_from_groups([ids for ids in spelt_alike(docs) if 3 <= len(ids) <= 200])},
    )
