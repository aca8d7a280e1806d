"""Training steps in JAX to be imported, and what JAX itself makes of them: the oracle of these tests.

In double precision, which is switched on here for the process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import circuitsketch as cs
from circuitsketch.tree import flatten, unflatten

jax.config.update("jax_enable_x64", True)

EXAMPLES, BATCH, STEPS = 12, 6, 4
HALF_WIDTH = 4  # of the central differences: nine points
ADAM = {"eps": 0.0, "eps_root": 1e-4}
ORDER = 3
# Of finite differences at the best of their step sizes; rounding is amplified by the division by its powers.
TOLERANCES = (1e-12, 1e-9, 1e-6, 1e-4)
SMALLEST = 1e-3  # of parameters of about 1: smaller coefficients are compared as if they were this large
WIDTHS = (0.05, 0.01, 2e-3, 4e-4, 8e-5)


@dataclass
class Case:
    """A training in JAX: its step, what it begins with, and a loss of its parameters, one per example."""

    step: Callable[[Any, Any, Any], Any]
    state: Any
    batches: list[Any]
    examples: list[np.ndarray]
    loss: Callable[[Any, Any], Any]
    params: Callable[[Any], Any] = field(default=lambda state: state["params"])
    jit: Callable[..., Any] = jax.jit

    @cached_property
    def run(self) -> cs.Training:
        """The imported run."""
        return cs.jax.training(self.step, self.state, self.batches, self.examples, n=EXAMPLES, params=self.params)

    @cached_property
    def compiled_step(self) -> Any:
        """The step, compiled by JAX."""
        return self.jit(self.step)

    def retrain(self, w: np.ndarray) -> Any:
        """Return the state that JAX trains with downweights w."""
        state = self.state
        for batch, ids in zip(self.batches, self.examples, strict=True):
            state = self.compiled_step(state, batch, jnp.asarray(1.0 - w[ids]))
        return state

    def flat_params(self, state: Any) -> np.ndarray:
        """Return the parameters in one of JAX's states as a vector."""
        leaves = jax.tree_util.tree_leaves(self.params(state))
        return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])

    def coefficients(self, directions: np.ndarray, order: int) -> np.ndarray:
        """Return the Taylor coefficients of the parameters: (directions, order + 1, parameters)."""
        leaves, tree = flatten(cs.push(self.run, directions, order=order, keep="state", threads=1).state)
        return np.stack(
            [
                [
                    self.flat_params(self.run.to_jax(unflatten(tree, [np.real(leaf[row, k]) for leaf in leaves])))
                    for k in range(order + 1)
                ]
                for row in range(len(directions))
            ]
        )

    def differences(self, direction: np.ndarray, step: float, order: int) -> np.ndarray:
        """Return the same coefficients from nine retrainings in JAX, along a direction."""
        points = np.arange(-HALF_WIDTH, HALF_WIDTH + 1)
        values = np.stack([self.flat_params(self.retrain(step * point * direction)) for point in points])
        terms = np.linalg.solve(np.vander(points, increasing=True).astype(float), values)
        return terms[: order + 1] / (step ** np.arange(order + 1))[:, None]


def distance(one: Any, other: Any) -> float:
    """Return the largest difference between two pytrees, relative to each leaf's largest entry."""
    largest = 0.0
    for x, y in zip(jax.tree_util.tree_leaves(one), jax.tree_util.tree_leaves(other), strict=True):
        if callable(y):
            assert x is y
            continue
        if jnp.issubdtype(getattr(x, "dtype", np.float64), jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        largest = max(largest, float(np.max(np.abs(x - y), initial=0.0) / (1e-3 + np.max(np.abs(y), initial=0.0))))
    return largest


def check_series(case: Case, direction: np.ndarray, deleted: np.ndarray, *, differences: bool = True) -> None:
    """Assert that the series along a direction are finite differences of JAX's retraining, and predict a deletion."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.KinkWarning)
        series, deletion = case.coefficients(np.stack([direction, deleted]), ORDER)
    if differences:
        every = [case.differences(direction, width, ORDER) for width in WIDTHS]
        for k, tolerance in enumerate(TOLERANCES):
            errors = [float(np.max(np.abs(series[k] - one[k]))) for one in every]
            assert min(errors) <= tolerance * max(float(np.max(np.abs(series[k]))), SMALLEST), (k, errors)
    truth = case.flat_params(case.retrain(deleted))
    change = np.linalg.norm(truth - deletion[0])
    assert change > 1e-8, "the deletion changes nothing, and so its prediction cannot be wrong"
    assert np.linalg.norm(truth - deletion.sum(axis=0)) <= 0.05 * change


class Data:
    """Random data of one seed, in the order in which they are asked for."""

    def __init__(self, seed: int = 0) -> None:
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin again, so that a case does not depend on those before it."""
        self.rng = np.random.default_rng(seed)

    def examples(self) -> list[np.ndarray]:
        """Return the ids of each step."""
        return [self.rng.permutation(EXAMPLES)[:BATCH] for _ in range(STEPS)]

    def batches(self, **arrays: np.ndarray) -> tuple[list[Any], list[np.ndarray]]:
        """Return the batches of arrays with one row per example, and their ids."""
        ids = self.examples()
        return [{name: array[rows] for name, array in arrays.items()} for rows in ids], ids

    def vectors(self, features: int = 5, classes: int = 3) -> tuple[list[Any], list[np.ndarray]]:
        """Return vectors x with a class y."""
        x, y = self.rng.normal(size=(EXAMPLES, features)), self.rng.integers(0, classes, EXAMPLES)
        return self.batches(x=x, y=y)

    def tokens(self, length: int = 4, vocabulary: int = 7) -> tuple[list[Any], list[np.ndarray]]:
        """Return texts t."""
        return self.batches(t=self.rng.integers(0, vocabulary, (EXAMPLES, length + 1)))

    def images(self, size: int = 6, classes: int = 3) -> tuple[list[Any], list[np.ndarray]]:
        """Return images x of one channel with a class y."""
        x, y = self.rng.normal(size=(EXAMPLES, size, size, 1)), self.rng.integers(0, classes, EXAMPLES)
        return self.batches(x=x, y=y)

    def dense(self, inputs: int, outputs: int) -> dict[str, Any]:
        """Return a layer's weights and biases."""
        return {"w": jnp.asarray(self.rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)), "b": jnp.zeros(outputs)}

    def layers(self) -> list[dict[str, Any]]:
        """Return the layers of a perceptron from 5 features to 3 classes."""
        return [self.dense(5, 6), self.dense(6, 6), self.dense(6, 3)]


def double(tree: Any) -> Any:
    """Return a pytree of floats in double precision."""
    return jax.tree_util.tree_map(lambda x: jnp.asarray(x, np.float64), tree)


def optax_case(
    loss: Callable[[Any, Any], Any], params: Any, rule: Any, data: tuple[list[Any], list[np.ndarray]]
) -> Case:
    """Return the usual training of a loss by one of optax's rules."""
    import optax

    def step(state, batch, keep):
        grads = jax.grad(lambda p: (keep * loss(p, batch)).mean())(state["params"])
        updates, opt = rule.update(grads, state["opt"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}

    params = double(params)
    return Case(step, {"params": params, "opt": rule.init(params)}, *data, loss)


def perceptron(activate: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the logits of a perceptron, a function (layers, x)."""

    def logits(layers, x):
        for layer in layers[:-1]:
            x = activate(x @ layer["w"] + layer["b"])
        return x @ layers[-1]["w"] + layers[-1]["b"]

    return logits


def cross_entropy(logits: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the loss (params, batch) of a classifier, one per example."""
    import optax

    return lambda params, batch: optax.softmax_cross_entropy_with_integer_labels(logits(params, batch["x"]), batch["y"])


def next_token_loss(logits: Any, t: Any) -> Any:
    """Return the loss of logits for the texts' following tokens, one per text."""
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(logits, t[:, 1:]).mean(-1)
