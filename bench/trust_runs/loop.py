"""What the runs share: the record of a run with what is asked about it, a training loop, a perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import part

import circuitsketch as cs

Draw = Callable[[np.random.Generator], Any]  # the ids of examples to delete
SHARES = (0.25, 0.5, 1.0)  # of a group of alike examples, deleted together


@dataclass(frozen=True)
class UserRun:
    """A run, scalar measurements of it, and deletions of alike examples by what makes them alike."""

    run: cs.Training
    measurements: tuple[Callable[[Any], Any], ...]
    alike: dict[str, Draw]


def draw_from_groups(groups: Sequence[Any]) -> Draw:
    """Draw a share of one group's examples, given the ids of each group."""
    return lambda rng: part(np.asarray(groups[rng.integers(len(groups))]), float(rng.choice(SHARES)), rng)


def draw_from_labels(labels: Sequence[Any]) -> Draw:
    """Draw a share of the examples of one label."""
    return draw_from_groups([np.flatnonzero([other == label for other in labels]) for label in dict.fromkeys(labels)])


def draw_minibatches(n: int, size: int, epochs: int, seed: int = 0) -> list[np.ndarray]:
    """The ids of each step: every epoch in a new order."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(epochs)]
    return [order[begin : begin + size] for order in orders for begin in range(0, n, size)]


def build_training(
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

    batches = draw_minibatches(len(data[0]), size, epochs)
    return cs.Training(step, state, [tuple(array[ids] for array in data) for ids in batches], batches, **options)


def draw_layers(sizes: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """Weights of a perceptron, normal with variance 2 / inputs, and biases 0."""
    rng = np.random.default_rng(seed)
    params = {}
    for k, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        params[f"w{k}"] = rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs))
        params[f"b{k}"] = np.zeros(outputs)
    return params


def apply_perceptron(params: Any, x: Any, activation: Callable[[Any], Any]) -> Any:
    """(examples, features) to (examples, outputs)."""
    depth = len(params) // 2
    for k in range(depth - 1):
        x = activation(x @ params[f"w{k}"] + params[f"b{k}"])
    return x @ params[f"w{depth - 1}"] + params[f"b{depth - 1}"]
