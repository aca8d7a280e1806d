"""Training runs that look like users': what bench/trust.py asks about.

Each function returns a `UserRun`: a run, what is measured of it, and how to draw deletions of examples that are alike.
It is what a user would write, with the public API alone; data are drawn from a seed, or come with the package. One
training takes a millisecond, that of the demo thirty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import neighbours, part, spelt_alike

import circuitsketch as cs
from circuitsketch.zoo import cnn, microgpt, mlp

Draw = Callable[[np.random.Generator], Any]  # the ids of examples to delete
SHARES = (0.25, 0.5, 1.0)  # of a group of alike examples, deleted together


@dataclass(frozen=True)
class UserRun:
    """A run, scalar measurements of it, and deletions of alike examples by what makes them alike."""

    run: cs.Training
    measurements: tuple[Callable[[Any], Any], ...]
    alike: dict[str, Draw]


def share_of_one(groups: Sequence[Any]) -> Draw:
    """Draw a share of one group's examples, given the ids of each group."""
    return lambda rng: part(np.asarray(groups[rng.integers(len(groups))]), float(rng.choice(SHARES)), rng)


def share_of_label(labels: Sequence[Any]) -> Draw:
    """Draw a share of the examples of one label."""
    return share_of_one([np.flatnonzero([other == label for other in labels]) for label in dict.fromkeys(labels)])


def minibatches(n: int, size: int, epochs: int, seed: int = 0) -> list[np.ndarray]:
    """The ids of each step: every epoch in a new order."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(epochs)]
    return [order[begin : begin + size] for order in orders for begin in range(0, n, size)]


def fit(
    loss: Callable[..., Any],
    state: Any,
    data: Sequence[np.ndarray],
    update: Callable[[Any, Any], Any],
    *,
    size: int = 20,
    epochs: int = 5,
    **options: Any,
) -> cs.Training:
    """A training loop as everybody writes it: the weighted mean of a minibatch's losses, an optimiser's step."""

    def step(state: Any, batch: Any, keep: Any) -> Any:
        grads = cs.grad(lambda params: (keep * loss(params, *batch)).mean())(state["params"])
        return update(state, grads)

    batches = minibatches(len(data[0]), size, epochs)
    return cs.Training(step, state, [tuple(array[ids] for array in data) for ids in batches], batches, **options)


def layers(sizes: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """Weights of a perceptron, normal with variance 2 / inputs, and biases 0."""
    rng = np.random.default_rng(seed)
    params = {}
    for k, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        params[f"w{k}"] = rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs))
        params[f"b{k}"] = np.zeros(outputs)
    return params


def perceptron(params: Any, x: Any, activation: Callable[[Any], Any]) -> Any:
    """(examples, features) to (examples, outputs)."""
    depth = len(params) // 2
    for k in range(depth - 1):
        x = activation(x @ params[f"w{k}"] + params[f"b{k}"])
    return x @ params[f"w{depth - 1}"] + params[f"b{depth - 1}"]


# ------------------------------------------------------------------------------------------------ a table of numbers


def table_of(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight features of each row, and a noisy function of four of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8))
    y = np.sin(x[:, 0] * x[:, 1]) + np.abs(x[:, 2]) - 0.5 * x[:, 3] + 0.1 * rng.normal(size=n)
    return x, y


def regression(
    activation: Callable[[Any], Any], state: Callable[..., Any], update: Callable[[Any, Any], Any]
) -> UserRun:
    """A perceptron fitted to a table: the held-out error, and one row's prediction."""
    (x, y), (test_x, test_y) = table_of(200, seed=1), table_of(100, seed=2)

    def predict(params: Any, x: Any) -> Any:
        return perceptron(params, x, activation)[:, 0]

    run = fit(lambda params, x, y: (predict(params, x) - y) ** 2, state(layers([8, 16, 16, 1], seed=3)), (x, y), update)

    def near(rng: np.random.Generator) -> Any:
        return neighbours(x, np.zeros(200), int(rng.integers(200)), int(rng.integers(3, 31)))

    return UserRun(
        run,
        (
            lambda params: ((predict(params, test_x) - test_y) ** 2).mean(),
            lambda params: predict(params, test_x[:1])[0],
        ),
        {"neighbours": near},
    )


def relu(learning_rate: float) -> UserRun:
    """ReLU and momentum, at a learning rate that is careful, usual, or too high."""
    return regression(
        cs.relu, cs.optim.momentum_state, lambda state, grads: cs.optim.momentum(state, grads, learning_rate)
    )


def adam(eps_root: float) -> UserRun:
    """Tanh and Adam, with an epsilon that is usual, or large enough for a series to converge."""

    def update(state: Any, grads: Any) -> Any:
        return cs.optim.adam(state, grads, 0.01, eps=0.0, eps_root=eps_root)

    return regression(np.tanh, cs.optim.adam_state, update)


def rare_category() -> UserRun:
    """Embeddings of twelve categories under Adam: the last has one example, the one before three, the others 18 each."""
    rng = np.random.default_rng(5)
    counts = [18] * 10 + [3, 1]
    category = np.repeat(np.arange(12), counts)
    x = rng.normal(size=(len(category), 3))
    y = x[:, 0] + rng.normal(size=12)[category] + 0.1 * rng.normal(size=len(category))

    def predict(params: Any, category: Any, x: Any) -> Any:
        hidden = np.concatenate([cs.take(params["embedding"], category, axis=0), x], axis=1)
        return (np.tanh(hidden @ params["w"]) @ params["out"])[:, 0]

    def loss(params: Any, category: Any, x: Any, y: Any) -> Any:
        return (predict(params, category, x) - y) ** 2

    params = {
        "embedding": 0.1 * rng.normal(size=(12, 4)),
        "w": rng.normal(0, 0.4, (7, 8)),
        "out": rng.normal(0, 0.4, (8, 1)),
    }
    run = fit(
        loss,
        cs.optim.adam_state(params),
        (category, x, y),
        lambda state, grads: cs.optim.adam(state, grads, 0.02, eps=0.0, eps_root=1e-8),
        labels=category.tolist(),
    )

    def rare(rng: np.random.Generator) -> Any:
        some = rng.permutation(np.flatnonzero(category >= 10))[: rng.integers(1, 5)]
        return [*some, *rng.permutation(np.flatnonzero(category < 10))[: rng.integers(10)]]

    return UserRun(
        run,
        (
            lambda params: predict(params, np.array([11]), np.zeros((1, 3)))[0],
            lambda params: predict(params, np.array([10]), np.zeros((1, 3)))[0],
            lambda params: params["embedding"][11, 0],
        ),
        {"category": share_of_label(category.tolist()), "rare": rare},
    )


# ------------------------------------------------------------------------------------------------ other networks


def lstm() -> UserRun:
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
    run = fit(
        loss,
        cs.optim.adam_state(params),
        (x[:200], y[:200]),
        lambda state, grads: cs.optim.adam(state, grads, 0.03, eps=0.0, eps_root=1e-8),
        labels=y[:200].tolist(),
    )
    return UserRun(
        run,
        (lambda params: loss(params, x[200:], y[200:]).mean(), lambda params: loss(params, x[200:201], y[200:201])[0]),
        {"class": share_of_label(y[:200].tolist())},
    )


def convolution() -> UserRun:
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
    batches = minibatches(200, 20, epochs=5)
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
        {"class": share_of_label(data.y.tolist())},
    )


def triplet() -> UserRun:
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
    run = fit(
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
        {"class": share_of_label(data.y[:200].tolist())},
    )


def ppo() -> UserRun:
    """A policy of three actions, improved by PPO's clipped ratio on twenty episodes of ten steps."""
    rng = np.random.default_rng(9)
    episodes = np.repeat(np.arange(20), 10)
    seen = np.repeat(rng.normal(size=(20, 4)), 10, axis=0) + 0.3 * rng.normal(size=(200, 4))
    params = layers([4, 12, 3], seed=10)

    def log_policy(params: Any, seen: Any) -> Any:
        return cs.log_softmax(perceptron(params, seen, np.tanh))

    old = log_policy(params, seen)
    action = np.array([rng.choice(3, p=np.exp(row)) for row in old])
    advantage = np.where(action == seen[:, :3].argmax(axis=1), 1.0, -0.5) + 0.5 * rng.normal(size=200)
    before = old[np.arange(200), action]

    def loss(params: Any, seen: Any, action: Any, advantage: Any, before: Any) -> Any:
        now = np.take_along_axis(log_policy(params, seen), action[:, None], axis=1)[:, 0]
        ratio = np.exp(now - before)
        return -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)

    run = fit(
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
        {"episode": share_of_label(episodes.tolist())},
    )


# ------------------------------------------------------------------------------------------------ statistics


def solve(matrix: Any, right: Any) -> Any:
    """The solution of a small positive definite system, by elimination."""
    size = right.shape[0]
    rows = [np.concatenate([matrix[i], right[i : i + 1]]) for i in range(size)]
    for i in range(size):
        rows[i] = rows[i] / rows[i][i]
        rows = [row if j == i else row - row[i] * rows[i] for j, row in enumerate(rows)]
    return np.stack([row[-1] for row in rows])


def poisson() -> UserRun:
    """A Poisson regression on powers of one feature, which are nearly collinear, by eight Newton steps."""
    rng = np.random.default_rng(12)
    feature = rng.uniform(0.5, 2.0, size=150)
    x = np.stack([feature**k for k in range(5)], axis=1)
    y = rng.poisson(np.exp(1.0 + np.sin(2 * feature))).astype(float)

    def step(beta: Any, batch: Any, keep: Any) -> Any:
        x, y = batch
        mean = np.exp(x @ beta)
        gradient = x.T @ (keep * (mean - y)) + 1e-4 * beta
        curvature = (x * (keep * mean)[:, None]).T @ x + 1e-4 * np.eye(5)
        return beta - solve(curvature, gradient)

    start = np.array([np.log(y.mean()), 0.0, 0.0, 0.0, 0.0])
    site = np.minimum((feature - 0.5) / 0.15, 9).astype(int)
    run = cs.Training(step, start, [(x, y)] * 8, [np.arange(150)] * 8, labels=site.tolist())
    asked = np.array([1.9**k for k in range(5)])
    return UserRun(
        run, (lambda beta: np.exp(asked @ beta), lambda beta: beta[3]), {"range": share_of_label(site.tolist())}
    )


def users() -> UserRun:
    """Ten rows of each of twenty users, nearly the same; a classifier of their clicks, with GELU and momentum."""
    rng = np.random.default_rng(13)
    user = np.repeat(np.arange(20), 10)
    centre, taste = rng.normal(size=(20, 6)), rng.integers(2, size=20)
    x = centre[user] + 0.05 * rng.normal(size=(200, 6))
    y = np.where(rng.random(200) < 0.1, 1 - taste[user], taste[user])

    def loss(params: Any, x: Any, y: Any) -> Any:
        return cs.cross_entropy(perceptron(params, x, cs.gelu), y)

    run = fit(
        loss,
        cs.optim.momentum_state(layers([6, 16, 2], seed=14)),
        (x, y),
        lambda state, grads: cs.optim.momentum(state, grads, 0.1),
        labels=user.tolist(),
    )
    return UserRun(
        run,
        (
            lambda params: loss(params, centre, taste).mean(),
            lambda params: loss(params, centre[:1], taste[:1])[0],
        ),
        {"user": share_of_label(user.tolist())},
    )


def fairness() -> UserRun:
    """A classifier of applicants of two groups; the gap between the groups' mean scores is measured."""
    rng = np.random.default_rng(15)
    group = (rng.random(600) < 0.3).astype(int)
    x = np.concatenate([rng.normal(size=(600, 4)) + 0.7 * group[:, None], group[:, None]], axis=1)
    y = (x[:, 0] - 0.5 * group + 0.5 * rng.normal(size=600) > 0).astype(int)

    def score(params: Any, x: Any) -> Any:
        return cs.softmax(perceptron(params, x, cs.relu))[:, 1]

    def loss(params: Any, x: Any, y: Any) -> Any:
        return cs.cross_entropy(perceptron(params, x, cs.relu), y)

    cells = [f"group {a}, {'accepted' if b else 'rejected'}" for a, b in zip(group[:300], y[:300], strict=True)]
    run = fit(
        loss,
        cs.optim.adam_state(layers([5, 12, 2], seed=16)),
        (x[:300], y[:300]),
        lambda state, grads: cs.optim.adam(state, grads, 0.01, eps=0.0, eps_root=1e-4),
        labels=cells,
    )

    def gap(params: Any) -> Any:
        scores = score(params, x[300:])
        return scores[group[300:] == 0].mean() - scores[group[300:] == 1].mean()

    return UserRun(run, (gap,), {"group and outcome": share_of_label(cells)})


# ------------------------------------------------------------------------------------------------ models of the package


def weight_decay() -> UserRun:
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
        {"class": share_of_label(data.y.tolist())},
    )


def demo() -> UserRun:
    """The demo's GPT, on 1,000 names; names are alike that share letters, a beginning or an ending."""
    docs = microgpt.names()[:1000]
    run = microgpt.training(docs, seed=0, alphabet=microgpt.ALPHABET)
    return UserRun(
        run,
        (lambda params: microgpt.loss(params, "theodore"), lambda params: microgpt.loss(params, "elizabeth")),
        {"spelling": share_of_one([ids for ids in spelt_alike(docs) if 3 <= len(ids) <= 200])},
    )


RUNS: dict[str, Callable[[], UserRun]] = {
    "relu .005": lambda: relu(0.005),
    "relu .02": lambda: relu(0.02),
    "relu .05": lambda: relu(0.05),
    "adam 1e-12": lambda: adam(1e-12),
    "adam 1e-8": lambda: adam(1e-8),
    "adam 1e-2": lambda: adam(1e-2),
    "rare category": rare_category,
    "lstm": lstm,
    "cnn": convolution,
    "triplet": triplet,
    "ppo": ppo,
    "poisson": poisson,
    "users": users,
    "fairness gap": fairness,
    "weight decay": weight_decay,
    "demo": demo,
}
