"""Small models of tables: regressions by a perceptron, rare categories, users, fairness, counts.

Data are drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import neighbours

import circuitsketch as cs

from .loop import UserRun, apply_perceptron, build_training, draw_from_labels, draw_layers


def draw_table(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight features of each row, and a noisy function of four of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8))
    y = np.sin(x[:, 0] * x[:, 1]) + np.abs(x[:, 2]) - 0.5 * x[:, 3] + 0.1 * rng.normal(size=n)
    return x, y


def build_regression(
    activation: Callable[[Any], Any], state: Callable[..., Any], update: Callable[[Any, Any], Any]
) -> UserRun:
    """A perceptron fitted to a table: the held-out error, and one row's prediction."""
    (x, y), (test_x, test_y) = draw_table(200, seed=1), draw_table(100, seed=2)

    def predict(params: Any, x: Any) -> Any:
        return apply_perceptron(params, x, activation)[:, 0]

    run = build_training(
        lambda params, x, y: (predict(params, x) - y) ** 2, state(draw_layers([8, 16, 16, 1], seed=3)), (x, y), update
    )

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


def build_relu(learning_rate: float) -> UserRun:
    """ReLU and momentum, at a learning rate that is careful, usual, or too high."""
    return build_regression(
        cs.relu, cs.optim.momentum_state, lambda state, grads: cs.optim.momentum(state, grads, learning_rate)
    )


def build_adam(eps_root: float) -> UserRun:
    """Tanh and Adam, with an epsilon that is usual, or large enough for a series to converge."""

    def update(state: Any, grads: Any) -> Any:
        return cs.optim.adam(state, grads, 0.01, eps=0.0, eps_root=eps_root)

    return build_regression(np.tanh, cs.optim.adam_state, update)


def build_rare_category() -> UserRun:
    """Embeddings of twelve categories under Adam: the last has one example, the one before three, the others 18."""
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
    run = build_training(
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
        {"category": draw_from_labels(category.tolist()), "rare": rare},
    )


def solve(matrix: Any, right: Any) -> Any:
    """The solution of a small positive definite system, by elimination."""
    size = right.shape[0]
    rows = [np.concatenate([matrix[i], right[i : i + 1]]) for i in range(size)]
    for i in range(size):
        rows[i] = rows[i] / rows[i][i]
        rows = [row if j == i else row - row[i] * rows[i] for j, row in enumerate(rows)]
    return np.stack([row[-1] for row in rows])


def build_poisson() -> UserRun:
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
        run, (lambda beta: np.exp(asked @ beta), lambda beta: beta[3]), {"range": draw_from_labels(site.tolist())}
    )


def build_users() -> UserRun:
    """Ten rows of each of twenty users, nearly the same; a classifier of their clicks, with GELU and momentum."""
    rng = np.random.default_rng(13)
    user = np.repeat(np.arange(20), 10)
    centre, taste = rng.normal(size=(20, 6)), rng.integers(2, size=20)
    x = centre[user] + 0.05 * rng.normal(size=(200, 6))
    y = np.where(rng.random(200) < 0.1, 1 - taste[user], taste[user])

    def loss(params: Any, x: Any, y: Any) -> Any:
        return cs.cross_entropy(apply_perceptron(params, x, cs.gelu), y)

    run = build_training(
        loss,
        cs.optim.momentum_state(draw_layers([6, 16, 2], seed=14)),
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
        {"user": draw_from_labels(user.tolist())},
    )


def build_fairness() -> UserRun:
    """A classifier of applicants of two groups; the gap between the groups' mean scores is measured."""
    rng = np.random.default_rng(15)
    group = (rng.random(600) < 0.3).astype(int)
    x = np.concatenate([rng.normal(size=(600, 4)) + 0.7 * group[:, None], group[:, None]], axis=1)
    y = (x[:, 0] - 0.5 * group + 0.5 * rng.normal(size=600) > 0).astype(int)

    def score(params: Any, x: Any) -> Any:
        return cs.softmax(apply_perceptron(params, x, cs.relu))[:, 1]

    def loss(params: Any, x: Any, y: Any) -> Any:
        return cs.cross_entropy(apply_perceptron(params, x, cs.relu), y)

    cells = [f"group {a}, {'accepted' if b else 'rejected'}" for a, b in zip(group[:300], y[:300], strict=True)]
    run = build_training(
        loss,
        cs.optim.adam_state(draw_layers([5, 12, 2], seed=16)),
        (x[:300], y[:300]),
        lambda state, grads: cs.optim.adam(state, grads, 0.01, eps=0.0, eps_root=1e-4),
        labels=cells,
    )

    def gap(params: Any) -> Any:
        scores = score(params, x[300:])
        return scores[group[300:] == 0].mean() - scores[group[300:] == 1].mean()

    return UserRun(run, (gap,), {"group and outcome": draw_from_labels(cells)})
