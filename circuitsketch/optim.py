"""Optimisers as pure functions of a state: `new = rule(state, grads, learning_rate)`.

A state is a dict of "params" and the rule's own arrays; `<rule>_state(params)` creates the initial one. The rules
are those of the papers, in Optax's form; learning rates may be wires or numbers. The module also has learning-rate
schedules (`cosine`, `warmup`, `step_decay`), `clip_by_norm` for gradients, and `dropout_mask`. All are analytic in the
gradients, so a training run that uses them has a Taylor series in its examples' weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import (
    LARGEST,
    as_list,
    check_bool,
    check_instance,
    check_int,
    is_int,
    is_real,
    kind_of,
    quoted,
)
from circuitsketch.arrays import finite_array, plain_array, real_array
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.tree import flatten, flatten_up_to, tree_map

State = dict[str, Any]
SMALLEST_LIMIT = 1e-150  # smallest limit of `clip_by_norm`, which squares it


def zeros_like(params: Any) -> Any:
    """Return zeros in the shapes of a pytree of arrays."""
    return tree_map(lambda p: np.zeros(np.shape(p)), params)


def check_state(state: State, grads: Any, rule: str, *keys: str) -> None:
    """Raise InputError or ShapeError if a part of a state is missing or does not fit the gradients."""
    if not isinstance(state, dict):
        raise InputError(f"{rule} requires a state dict, not {kind_of(state)}; start from optim.{rule}_state(params)")
    missing = [key for key in ("params", *keys) if key not in state]
    if missing:
        raise InputError(f"{rule} requires state[{missing[0]!r}]; start from optim.{rule}_state(params)")
    params, tree = flatten(numbers(state["params"], "params"))
    for name in (*keys, "grads"):
        if name == "t":
            number(state["t"], "t")
            continue
        leaves = flatten_up_to(tree, numbers(grads if name == "grads" else state[name], name))
        for param, leaf, where in zip(params, leaves, tree.names(name), strict=True):
            if not broadcasts(np.shape(leaf), np.shape(param)):
                raise ShapeError(f"{where} has shape {np.shape(leaf)}, but its parameters {np.shape(param)}")


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Return whether an array of one shape broadcasts to another shape."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(size in (1, other) for size, other in pairs)


def numbers(value: Any, name: str) -> Any:
    """Return a pytree unchanged if its leaves are wires or arrays of numbers; else raise InputError."""
    leaves, tree = flatten(value)
    for leaf, where in zip(leaves, tree.names(name), strict=True):
        if not isinstance(leaf, Wire):
            if plain_array(leaf, where).dtype.kind not in "fiubc":
                raise InputError(f"{where} has dtype {plain_array(leaf, where).dtype}; pass numbers")
            check_instance(leaf, where, np.ndarray | np.generic | int | float, "an array of numbers")
    return value


def number(value: Any, name: str) -> Any:
    """Return a wire or a finite real number unchanged; else raise InputError."""
    if isinstance(value, Wire):
        return value
    array = finite_array(value, name)
    if array.ndim or isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be a number, not {quoted(value)}")
    return value


def times(t: Any, name: str) -> Any:
    """Return step numbers, a wire or real numbers that are not NaN; else raise InputError."""
    if isinstance(t, Wire):
        return t
    array = real_array(t, name)
    if np.isnan(array).any():
        raise InputError(f"{name} must be a step number, not NaN")
    return t if isinstance(t, np.ndarray | np.generic | int | float) else array


def sgd_state(params: Any) -> State:
    """Return the initial state of gradient descent: {"params"}."""
    return {"params": numbers(params, "params")}


def add_weight_decay(grads: Any, params: Any, weight_decay: float) -> Any:
    """Return grads + weight_decay * params, the gradient of the loss plus weight_decay / 2 * |params|^2."""
    number(weight_decay, "weight_decay")
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
    number(learning_rate, "learning_rate")
    grads = add_weight_decay(grads, state["params"], weight_decay)
    return {**state, "params": tree_map(lambda p, g: p - learning_rate * g, state["params"], grads)}


def momentum_state(params: Any) -> State:
    """Return the initial state of gradient descent with momentum: {"params", "velocity"}, the velocity zero."""
    return {"params": numbers(params, "params"), "velocity": zeros_like(params)}


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
    number(learning_rate, "learning_rate"), number(decay, "decay")
    nesterov = check_bool(nesterov, "nesterov")
    grads = add_weight_decay(grads, state["params"], weight_decay)
    velocity = tree_map(lambda v, g: decay * v + g, state["velocity"], grads)
    step = tree_map(lambda v, g: decay * v + g, velocity, grads) if nesterov else velocity
    params = tree_map(lambda p, v: p - learning_rate * v, state["params"], step)
    return {**state, "params": params, "velocity": velocity}


def adam_state(params: Any) -> State:
    """Return the initial state of Adam: {"params", "m", "v", "t"}, zero moments at step 0."""
    numbers(params, "params")
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
    gradients are all zero has no Taylor series (sqrt at 0): use a positive `eps_root`, inside it, and `eps=0`.

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
        number(value, name)
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
    """Return the initial state of AdamW, which is that of Adam."""
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
    number(weight_decay, "weight_decay")
    after = adam(state, grads, learning_rate, b1, b2, eps, eps_root)
    params = tree_map(lambda new, old: new - (learning_rate * weight_decay) * old, after["params"], state["params"])
    return {**after, "params": params}


# ---------------------------------------------------------------------------------- learning-rate schedules
# Each is a factor of the learning rate as a function of the number t of completed steps; multiply them to combine them.
# On plain numbers they give the rates of a run's batches, 0.1 * cosine(np.arange(100), 100); on wires they can use the
# "t" of a state.


def cosine(t: Any, steps: int, floor: float = 0.0) -> Any:
    """Decay from 1 at t = 0 to `floor` at t = steps along half a cosine, constant afterwards.

    floor + (1 - floor) (1 + cos(pi t / steps)) / 2 (Loshchilov and Hutter, arXiv 1608.03983, equation 5, one period).

    Parameters
    ----------
    t : array_like or Wire
        The number of completed steps.
    steps : int
        The number of steps of the decay, at least 1.
    floor : float
        The final factor.

    Returns
    -------
    array or Wire
        The factor of the learning rate, in the shape of t.

    Raises
    ------
    InputError
        If `steps` is below 1.

    Examples
    --------
    >>> cosine(np.array([0, 5, 10]), 10).round(12)
    array([1. , 0.5, 0. ])
    """
    t, floor = times(t, "t"), number(floor, "floor")
    if not is_real(steps) or not 1 <= steps < LARGEST:
        raise InputError(f"optim.cosine requires steps >= 1, not {quoted(steps)}")
    progress = np.minimum(t * (1.0 / steps), 1.0)
    return floor + (0.5 * (1.0 - floor)) * (1.0 + np.cos(math.pi * progress))


def warmup(t: Any, steps: int) -> Any:
    """Increase linearly to 1 over the first `steps` steps: min((t + 1) / steps, 1).

    Parameters
    ----------
    t : array_like or Wire
        The number of completed steps.
    steps : int
        The number of steps of the increase, at least 1.

    Returns
    -------
    array or Wire
        The factor of the learning rate, in the shape of t.

    Raises
    ------
    InputError
        If `steps` is below 1.

    Examples
    --------
    >>> warmup(np.array([0, 1, 2]), 2)
    array([0.5, 1. , 1. ])
    """
    t = times(t, "t")
    if not is_real(steps) or not 1 <= steps < LARGEST:
        raise InputError(f"optim.warmup requires steps >= 1, not {quoted(steps)}")
    return np.minimum((t + 1.0) * (1.0 / steps), 1.0)


def step_decay(t: Any, boundaries: Sequence[int], factor: float = 0.1) -> Any:
    """Multiply by `factor` at every boundary: factor^(number of boundaries <= t), piecewise constant.

    Parameters
    ----------
    t : array_like or Wire
        The number of completed steps.
    boundaries : sequence of int
        The step numbers from which another factor applies.
    factor : float
        The factor per boundary.

    Returns
    -------
    array or Wire
        The factor of the learning rate, in the shape of t.

    Examples
    --------
    >>> step_decay(np.array([0, 9, 10, 20]), [10, 20], factor=0.5)
    array([1.  , 1.  , 0.5 , 0.25])
    """
    t, factor = times(t, "t"), number(factor, "factor")
    rate: Any = np.ones(np.shape(t))
    for boundary in as_list(boundaries, "boundaries", "step numbers"):
        number(boundary, "a boundary")
        rate = rate * np.where(t >= boundary, factor, 1.0)
    return rate


# ---------------------------------------------------------------------------------- gradients and masks


def clip_by_norm(grads: Any, limit: float) -> Any:
    """Scale gradients by 1 / sqrt(1 + |g|^2 / limit^2), where |g| is the norm over all leaves.

    This is a smooth form of clipping: gradients far below the limit hardly change (|g| = limit / 10 loses 0.5 %),
    a gradient whose norm is the limit shrinks by a factor of sqrt(2), and no result has a norm above the limit. The
    usual min(1, limit / |g|) has a kink at |g| = limit and no Taylor series there; this has one everywhere.

    Parameters
    ----------
    grads : pytree
        Arrays or wires.
    limit : float
        The upper bound on the norm of the result, positive.

    Returns
    -------
    pytree
        The scaled gradients.

    Raises
    ------
    InputError
        If the limit is not positive.

    Examples
    --------
    >>> clip_by_norm({"w": np.array([3.0]), "b": np.array([4.0])}, 5.0)["w"].round(4)
    array([2.1213])
    """
    numbers(grads, "grads")
    if not is_real(limit) or not SMALLEST_LIMIT < limit < 1 / SMALLEST_LIMIT:
        raise InputError(f"optim.clip_by_norm requires a positive limit, not {quoted(limit)}")
    squares = sum(np.sum(np.square(g)) for g in flatten(grads)[0])
    scale = 1.0 / np.sqrt(1.0 + squares * (1.0 / limit**2))
    return tree_map(lambda g: scale * g, grads)


def dropout_mask(shape: int | Sequence[int], rate: float, seed: int, step: int) -> np.ndarray:
    """Draw a dropout mask: 0 with probability `rate`, else 1 / (1 - rate), to multiply hidden units by.

    The mask depends on seed and step only, and is passed to the step as data in its batch: dropout is then a fixed part
    of the run, the same in every counterfactual. Masks are scaled during training, so that a trained model is measured
    without one (Srivastava et al., JMLR 15, 2014).

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the mask.
    rate : float
        The probability of 0, in [0, 1).
    seed : int
        The seed of the run.
    step : int
        The step number.

    Returns
    -------
    ndarray
        The mask, of the given shape.

    Raises
    ------
    InputError
        If the rate is outside [0, 1), or shape, seed or step are not non-negative integers.

    Examples
    --------
    >>> np.unique(dropout_mask((8, 16), 0.5, seed=0, step=3))
    array([0., 2.])
    """
    if not is_real(rate) or not 0 <= rate < 1:
        raise InputError(f"optim.dropout_mask requires a rate in [0, 1), not {quoted(rate)}")
    sizes = [shape] if is_int(shape) else as_list(shape, "shape", "one size per axis")
    shape = tuple(check_int(size, "a size in shape", 0) for size in sizes)
    if math.prod(shape) > LARGEST:
        raise InputError(f"a mask of shape {shape} is larger than an array can be")
    seed, step = check_int(seed, "seed", 0, 2**64 - 1), check_int(step, "step", 0)
    kept = np.random.default_rng([seed, step]).random(shape) >= rate
    return kept / (1.0 - rate)
