"""Optimisers as pure functions of a state: `new = rule(state, grads, learning_rate)`.

A state is a dict with "params" and whatever the rule remembers; `<rule>_state(params)` makes the first one. The rules
are those of the papers, in the form that Optax gives them; learning rates may be wires or numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.errors import InputError
from circuitsketch.trace.tree import transform

State = dict[str, Any]


def zeros_like(params: Any) -> Any:
    """Zeros in the shapes of a pytree of arrays."""
    return transform(lambda p: np.zeros(np.shape(p)), params)


def need(state: State, rule: str, *keys: str) -> None:
    """Say which part of a state is missing."""
    missing = [key for key in ("params", *keys) if key not in state]
    if missing:
        raise InputError(f"{rule} needs state[{missing[0]!r}]; start from optim.{rule}_state(params)")


def sgd_state(params: Any) -> State:
    """The first state of gradient descent."""
    return {"params": params}


def sgd(state: State, grads: Any, learning_rate: Any) -> State:
    """params - learning_rate * grads.

    >>> sgd(sgd_state(np.array([1.0])), np.array([2.0]), 0.25)["params"]
    array([0.5])
    """
    need(state, "sgd")
    return {**state, "params": transform(lambda p, g: p - learning_rate * g, state["params"], grads)}


def momentum_state(params: Any) -> State:
    """The first state of gradient descent with momentum."""
    return {"params": params, "velocity": zeros_like(params)}


def momentum(
    state: State, grads: Any, learning_rate: Any, decay: float = 0.9, nesterov: bool = False
) -> State:
    """velocity = decay * velocity + grads; params - learning_rate * velocity (Polyak; Nesterov's look-ahead by choice).

    >>> momentum(momentum_state(np.array([1.0])), np.array([2.0]), 0.25)["params"]
    array([0.5])
    """
    need(state, "momentum", "velocity")
    velocity = transform(lambda v, g: decay * v + g, state["velocity"], grads)
    ahead = transform(lambda v, g: decay * v + g, velocity, grads) if nesterov else velocity
    params = transform(lambda p, v: p - learning_rate * v, state["params"], ahead)
    return {**state, "params": params, "velocity": velocity}


def adam_state(params: Any) -> State:
    """The first state of Adam: zero moments, step 0."""
    return {"params": params, "m": zeros_like(params), "v": zeros_like(params), "t": np.zeros(())}


def adam(
    state: State,
    grads: Any,
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
) -> State:
    """Adam (Kingma and Ba, arXiv 1412.6980) with bias correction.

    params - learning_rate * mhat / (sqrt(vhat + eps_root) + eps). With eps outside the root alone, a parameter whose
    gradients are all zero has no Taylor series (sqrt at 0): put a positive `eps_root` inside, and `eps=0`.

    >>> after = adam(adam_state(np.array([1.0])), np.array([2.0]), 0.25, eps=0.0, eps_root=0.0)
    >>> after["params"].round(12)
    array([0.75])
    """
    need(state, "adam", "m", "v", "t")
    t = state["t"] + 1.0
    m = transform(lambda m, g: b1 * m + (1.0 - b1) * g, state["m"], grads)
    v = transform(lambda v, g: b2 * v + (1.0 - b2) * np.square(g), state["v"], grads)
    unbias_m = 1.0 / (1.0 - b1**t)
    unbias_v = 1.0 / (1.0 - b2**t)

    def update(p: Any, m: Any, v: Any) -> Any:
        inside = v * unbias_v + eps_root if eps_root else v * unbias_v
        if eps:
            return p - (learning_rate * unbias_m) * m / (np.sqrt(inside) + eps)
        return p - (learning_rate * unbias_m) * m * (1.0 / np.sqrt(inside))

    params = transform(update, state["params"], m, v)
    return {**state, "params": params, "m": m, "v": v, "t": t}
