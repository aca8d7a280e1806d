"""Optimisers: gradient descent, momentum, Adam and AdamW, each as a function of a state that returns the next one."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.arguments import check_bool
from circuitsketch.frontends.numpy import Wire
from circuitsketch.optim.checks import State, check_number, check_numbers, check_state
from circuitsketch.tree import tree_map


def zeros_like(params: Any) -> Any:
    """Return zeros in the shapes of a pytree of arrays."""
    return tree_map(lambda p: np.zeros(np.shape(p)), params)


def sgd_state(params: Any) -> State:
    """Return the initial state of gradient descent.

    Parameters
    ----------
    params : pytree
        The initial parameters, arrays of numbers.

    Returns
    -------
    dict
        {"params"}.
    """
    return {"params": check_numbers(params, "params")}


def add_weight_decay(grads: Any, params: Any, weight_decay: float) -> Any:
    """Return grads + weight_decay * params, the gradient of the loss plus weight_decay / 2 * |params|^2."""
    check_number(weight_decay, "weight_decay")
    plain = not isinstance(weight_decay, Wire)
    return grads if plain and weight_decay == 0 else tree_map(lambda g, p: g + weight_decay * p, grads, params)


def sgd(state: State, grads: Any, learning_rate: Any, weight_decay: float = 0.0) -> State:
    """Take a step of gradient descent: params - learning_rate * (grads + weight_decay * params).

    Parameters
    ----------
    state : dict
        {"params"}, from `sgd_state`.
    grads : pytree
        Gradients in the structure of the parameters.
    learning_rate : float or Wire
        The step size.
    weight_decay : float
        The factor of the parameters that is added to the gradients.

    Returns
    -------
    dict
        The new state.

    Raises
    ------
    InputError, ShapeError
        If the state or the gradients do not fit the parameters.

    Examples
    --------
    >>> sgd(sgd_state(np.array([1.0])), np.array([2.0]), 0.25)["params"]
    array([0.5])
    """
    check_state(state, grads, "sgd")
    check_number(learning_rate, "learning_rate")
    grads = add_weight_decay(grads, state["params"], weight_decay)
    return {**state, "params": tree_map(lambda p, g: p - learning_rate * g, state["params"], grads)}


def momentum_state(params: Any) -> State:
    """Return the initial state of gradient descent with momentum.

    Parameters
    ----------
    params : pytree
        The initial parameters, arrays of numbers.

    Returns
    -------
    dict
        {"params", "velocity"}, with velocity zero.
    """
    return {"params": check_numbers(params, "params"), "velocity": zeros_like(params)}


def momentum(
    state: State,
    grads: Any,
    learning_rate: Any,
    decay: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> State:
    """Take a step with momentum: velocity = decay * velocity + grads; params - learning_rate * velocity.

    Parameters
    ----------
    state : dict
        {"params", "velocity"}, from `momentum_state`.
    grads : pytree
        Gradients in the structure of the parameters.
    learning_rate : float or Wire
        The step size.
    decay : float
        The factor by which the velocity decays per step.
    nesterov : bool
        Whether to use Nesterov's look-ahead instead of Polyak's momentum.
    weight_decay : float
        The factor of the parameters that is added to the gradients, before they enter the velocity.

    Returns
    -------
    dict
        The new state.

    Raises
    ------
    InputError, ShapeError
        If the state or the gradients do not fit the parameters.

    Examples
    --------
    >>> momentum(momentum_state(np.array([1.0])), np.array([2.0]), 0.25)["params"]
    array([0.5])
    """
    check_state(state, grads, "momentum", "velocity")
    check_number(learning_rate, "learning_rate"), check_number(decay, "decay")
    nesterov = check_bool(nesterov, "nesterov")
    grads = add_weight_decay(grads, state["params"], weight_decay)
    velocity = tree_map(lambda v, g: decay * v + g, state["velocity"], grads)
    step = tree_map(lambda v, g: decay * v + g, velocity, grads) if nesterov else velocity
    params = tree_map(lambda p, v: p - learning_rate * v, state["params"], step)
    return {**state, "params": params, "velocity": velocity}


def adam_state(params: Any) -> State:
    """Return the initial state of Adam.

    Parameters
    ----------
    params : pytree
        The initial parameters, arrays of numbers.

    Returns
    -------
    dict
        {"params", "m", "v", "t"}, with zero moments and t = 0.
    """
    check_numbers(params, "params")
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
    """Take a step of Adam (Kingma and Ba, arXiv 1412.6980) with bias correction.

    params - learning_rate * mhat / (sqrt(vhat + eps_root) + eps). With only `eps`, outside the root, a parameter whose
    gradients cancel to zero has no Taylor series (sqrt at 0), and a deletion may change the step abruptly: use a
    positive `eps_root`, inside it, and `eps=0`.

    Parameters
    ----------
    state : dict
        {"params", "m", "v", "t"}, from `adam_state`.
    grads : pytree
        Gradients in the structure of the parameters.
    learning_rate : float or Wire
        The step size.
    b1 : float
        The decay rate of the first moment.
    b2 : float
        The decay rate of the second moment.
    eps : float
        Added to the root of the second moment.
    eps_root : float
        Added to the second moment inside the root.

    Returns
    -------
    dict
        The new state.

    Raises
    ------
    InputError, ShapeError
        If the state or the gradients do not fit the parameters.

    Examples
    --------
    >>> after = adam(adam_state(np.array([1.0])), np.array([2.0]), 0.25, eps=0.0, eps_root=0.0)
    >>> after["params"].round(12)
    array([0.75])
    """
    check_state(state, grads, "adam", "m", "v", "t")
    for value, name in ((learning_rate, "learning_rate"), (b1, "b1"), (b2, "b2"), (eps, "eps"), (eps_root, "eps_root")):
        check_number(value, name)
    t = state["t"] + 1.0
    m = tree_map(lambda m, g: b1 * m + (1.0 - b1) * g, state["m"], grads)
    v = tree_map(lambda v, g: b2 * v + (1.0 - b2) * np.square(g), state["v"], grads)
    unbias_m = 1.0 / (1.0 - b1**t)
    unbias_v = 1.0 / (1.0 - b2**t)

    def update(p: Any, m: Any, v: Any) -> Any:
        inside = v * unbias_v + eps_root if eps_root else v * unbias_v
        if eps:
            return p - (learning_rate * unbias_m) * m / (np.sqrt(inside) + eps)
        return p - (learning_rate * unbias_m) * m * (1.0 / np.sqrt(inside))

    params = tree_map(update, state["params"], m, v)
    return {**state, "params": params, "m": m, "v": v, "t": t}


def adamw_state(params: Any) -> State:
    """Return the initial state of AdamW, which is that of Adam.

    Parameters
    ----------
    params : pytree
        The initial parameters, arrays of numbers.

    Returns
    -------
    dict
        {"params", "m", "v", "t"}, with zero moments and t = 0.
    """
    return adam_state(params)


def adamw(
    state: State,
    grads: Any,
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 0.01,
) -> State:
    """Take a step of AdamW: Adam's step minus learning_rate * weight_decay * params.

    The decay is decoupled (Loshchilov and Hutter, arXiv 1711.05101): it does not enter the moments, as weight decay
    added to the gradient would. It is multiplied by the learning rate, as in Optax and PyTorch.

    Parameters
    ----------
    state : dict
        {"params", "m", "v", "t"}, from `adamw_state`.
    grads : pytree
        Gradients in the structure of the parameters.
    learning_rate : float or Wire
        The step size.
    b1 : float
        The decay rate of the first moment.
    b2 : float
        The decay rate of the second moment.
    eps : float
        Added to the root of the second moment; see `adam`.
    eps_root : float
        Added to the second moment inside the root; see `adam`.
    weight_decay : float
        The decay of the parameters per step, as a multiple of the learning rate.

    Returns
    -------
    dict
        The new state.

    Raises
    ------
    InputError, ShapeError
        If the state or the gradients do not fit the parameters.

    Examples
    --------
    >>> after = adamw(adamw_state(np.array([1.0])), np.array([2.0]), 0.25, eps=0.0, weight_decay=0.4)
    >>> after["params"].round(12)
    array([0.65])
    """
    check_state(state, grads, "adamw", "m", "v", "t")
    check_number(weight_decay, "weight_decay")
    after = adam(state, grads, learning_rate, b1, b2, eps, eps_root)
    params = tree_map(lambda new, old: new - (learning_rate * weight_decay) * old, after["params"], state["params"])
    return {**after, "params": params}
