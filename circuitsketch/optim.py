"""Optimisers as pure functions of a state: `new = rule(state, grads, learning_rate)`.

A state is a dict with "params" and whatever the rule remembers; `<rule>_state(params)` makes the first one. The rules
are those of the papers, in the form that Optax gives them; learning rates may be wires or numbers. Beside the rules
stand what a training puts around them: factors of the learning rate by step (`cosine`, `warmup`, `step_decay`),
`clip_by_norm` for gradients, and `dropout_mask`. All are analytic in the gradients, so a training that uses them has a
Taylor series in its examples' weights.
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
from circuitsketch.tree import flatten, leaves_like, transform

State = dict[str, Any]
SMALLEST_LIMIT = 1e-150  # of `clip_by_norm`, which squares it


def zeros_like(params: Any) -> Any:
    """Zeros in the shapes of a pytree of arrays."""
    return transform(lambda p: np.zeros(np.shape(p)), params)


def need(state: State, grads: Any, rule: str, *keys: str) -> None:
    """Say which part of a state is missing, or does not go with the gradients."""
    if not isinstance(state, dict):
        raise InputError(f"{rule} needs a state, a dict, not {kind_of(state)}; start from optim.{rule}_state(params)")
    missing = [key for key in ("params", *keys) if key not in state]
    if missing:
        raise InputError(f"{rule} needs state[{missing[0]!r}]; start from optim.{rule}_state(params)")
    params, tree = flatten(numbers(state["params"], "params"))
    for name in (*keys, "grads"):
        if name == "t":
            number(state["t"], "t")
            continue
        leaves = leaves_like(tree, numbers(grads if name == "grads" else state[name], name))
        for param, leaf, where in zip(params, leaves, tree.names(name), strict=True):
            if not broadcasts(np.shape(leaf), np.shape(param)):
                raise ShapeError(f"{where} has shape {np.shape(leaf)}, and the parameters there {np.shape(param)}")


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of a shape goes with one of another shape, which stays."""
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(extent in (1, other) for extent, other in pairs)


def numbers(value: Any, name: str) -> Any:
    """A pytree whose leaves are wires or numbers, as it is."""
    leaves, tree = flatten(value)
    for leaf, where in zip(leaves, tree.names(name), strict=True):
        if not isinstance(leaf, Wire):
            if plain_array(leaf, where).dtype.kind not in "fiubc":
                raise InputError(f"{where} has dtype {plain_array(leaf, where).dtype}; give numbers")
            check_instance(leaf, where, np.ndarray | np.generic | int | float, "an array of numbers")
    return value


def number(value: Any, name: str) -> Any:
    """A wire or a real number, as it is; a number is finite."""
    if isinstance(value, Wire):
        return value
    array = finite_array(value, name)
    if array.ndim or isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be a number, not {quoted(value)}")
    return value


def times(t: Any, name: str) -> Any:
    """Numbers of steps, a wire or real numbers that are not NaN."""
    if isinstance(t, Wire):
        return t
    array = real_array(t, name)
    if np.isnan(array).any():
        raise InputError(f"{name} must be a number of steps, not NaN")
    return t if isinstance(t, np.ndarray | np.generic | int | float) else array


def sgd_state(params: Any) -> State:
    """The first state of gradient descent."""
    return {"params": numbers(params, "params")}


def decayed(grads: Any, params: Any, weight_decay: float) -> Any:
    """grads + weight_decay * params: the gradient of the loss plus weight_decay / 2 * |params|^2."""
    number(weight_decay, "weight_decay")
    plain = not isinstance(weight_decay, Wire)
    return grads if plain and weight_decay == 0 else transform(lambda g, p: g + weight_decay * p, grads, params)


def sgd(state: State, grads: Any, learning_rate: Any, weight_decay: float = 0.0) -> State:
    """params - learning_rate * (grads + weight_decay * params).

    >>> sgd(sgd_state(np.array([1.0])), np.array([2.0]), 0.25)["params"]
    array([0.5])
    """
    need(state, grads, "sgd")
    number(learning_rate, "learning_rate")
    grads = decayed(grads, state["params"], weight_decay)
    return {**state, "params": transform(lambda p, g: p - learning_rate * g, state["params"], grads)}


def momentum_state(params: Any) -> State:
    """The first state of gradient descent with momentum."""
    return {"params": numbers(params, "params"), "velocity": zeros_like(params)}


def momentum(
    state: State,
    grads: Any,
    learning_rate: Any,
    decay: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> State:
    """velocity = decay * velocity + grads; params - learning_rate * velocity (Polyak; Nesterov's look-ahead by choice).

    `weight_decay` adds weight_decay * params to grads first, so that the velocity remembers it.

    >>> momentum(momentum_state(np.array([1.0])), np.array([2.0]), 0.25)["params"]
    array([0.5])
    """
    need(state, grads, "momentum", "velocity")
    number(learning_rate, "learning_rate"), number(decay, "decay")
    nesterov = check_bool(nesterov, "nesterov")
    grads = decayed(grads, state["params"], weight_decay)
    velocity = transform(lambda v, g: decay * v + g, state["velocity"], grads)
    ahead = transform(lambda v, g: decay * v + g, velocity, grads) if nesterov else velocity
    params = transform(lambda p, v: p - learning_rate * v, state["params"], ahead)
    return {**state, "params": params, "velocity": velocity}


def adam_state(params: Any) -> State:
    """The first state of Adam: zero moments, step 0."""
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
    """Adam (Kingma and Ba, arXiv 1412.6980) with bias correction.

    params - learning_rate * mhat / (sqrt(vhat + eps_root) + eps). With eps outside the root alone, a parameter whose
    gradients are all zero has no Taylor series (sqrt at 0): put a positive `eps_root` inside, and `eps=0`.

    >>> after = adam(adam_state(np.array([1.0])), np.array([2.0]), 0.25, eps=0.0, eps_root=0.0)
    >>> after["params"].round(12)
    array([0.75])
    """
    need(state, grads, "adam", "m", "v", "t")
    for value, name in ((learning_rate, "learning_rate"), (b1, "b1"), (b2, "b2"), (eps, "eps"), (eps_root, "eps_root")):
        number(value, name)
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


def adamw_state(params: Any) -> State:
    """The first state of AdamW, which is that of Adam."""
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
    """AdamW: Adam's step, less learning_rate * weight_decay * params (Loshchilov and Hutter, arXiv 1711.05101).

    The decay is decoupled: it does not pass through the moments, as weight decay added to the gradient would. It is
    multiplied by the learning rate, as in Optax and PyTorch. For `eps` and `eps_root` see `adam`.

    >>> after = adamw(adamw_state(np.array([1.0])), np.array([2.0]), 0.25, eps=0.0, weight_decay=0.4)
    >>> after["params"].round(12)
    array([0.65])
    """
    need(state, grads, "adamw", "m", "v", "t")
    number(weight_decay, "weight_decay")
    after = adam(state, grads, learning_rate, b1, b2, eps, eps_root)
    params = transform(lambda new, old: new - (learning_rate * weight_decay) * old, after["params"], state["params"])
    return {**after, "params": params}


# ---------------------------------------------------------------------------------- learning rates by step
# Factors of a learning rate, of the number t of steps done before: they are multiplied. On plain numbers they make
# rates to put into a run's batches, 0.1 * cosine(np.arange(100), 100); on wires they follow a state's "t".


def cosine(t: Any, steps: int, floor: float = 0.0) -> Any:
    """From 1 at t = 0 down half a cosine to `floor` at t = steps, and `floor` from there.

    floor + (1 - floor) (1 + cos(pi t / steps)) / 2 (Loshchilov and Hutter, arXiv 1608.03983, equation 5, one period).
    InputError for fewer steps than one.

    >>> cosine(np.array([0, 5, 10]), 10).round(12)
    array([1. , 0.5, 0. ])
    """
    t, floor = times(t, "t"), number(floor, "floor")
    if not is_real(steps) or not 1 <= steps < LARGEST:
        raise InputError(f"optim.cosine falls over at least 1 step, not {quoted(steps)}")
    done = np.minimum(t * (1.0 / steps), 1.0)
    return floor + (0.5 * (1.0 - floor)) * (1.0 + np.cos(math.pi * done))


def warmup(t: Any, steps: int) -> Any:
    """(t + 1) / steps up to 1: a linear rise over the first `steps` steps. InputError for fewer than one.

    >>> warmup(np.array([0, 1, 2]), 2)
    array([0.5, 1. , 1. ])
    """
    t = times(t, "t")
    if not is_real(steps) or not 1 <= steps < LARGEST:
        raise InputError(f"optim.warmup rises over at least 1 step, not {quoted(steps)}")
    return np.minimum((t + 1.0) * (1.0 / steps), 1.0)


def step_decay(t: Any, boundaries: Sequence[int], factor: float = 0.1) -> Any:
    """factor^(how many boundaries t has reached): piecewise constant.

    >>> step_decay(np.array([0, 9, 10, 20]), [10, 20], factor=0.5)
    array([1.  , 1.  , 0.5 , 0.25])
    """
    t, factor = times(t, "t"), number(factor, "factor")
    found: Any = np.ones(np.shape(t))
    for boundary in as_list(boundaries, "boundaries", "numbers of steps"):
        number(boundary, "a boundary")
        found = found * np.where(t >= boundary, factor, 1.0)
    return found


# ---------------------------------------------------------------------------------- gradients and masks


def clip_by_norm(grads: Any, limit: float) -> Any:
    """Gradients scaled by 1 / sqrt(1 + |g|^2 / limit^2), |g| the norm over all leaves together.

    A smooth form of clipping: gradients far below the limit pass nearly as they are (|g| = limit / 10 loses 0.5 %), one
    of the limit's norm is shortened by a factor of sqrt(2), and none comes out with a norm above the limit. The usual
    min(1, limit / |g|) has a kink at |g| = limit, and no Taylor series there; this has one everywhere.
    InputError for a limit that is not positive.

    >>> clip_by_norm({"w": np.array([3.0]), "b": np.array([4.0])}, 5.0)["w"].round(4)
    array([2.1213])
    """
    numbers(grads, "grads")
    if not is_real(limit) or not SMALLEST_LIMIT < limit < 1 / SMALLEST_LIMIT:
        raise InputError(f"optim.clip_by_norm needs a positive limit, not {quoted(limit)}")
    squares = sum(np.sum(np.square(g)) for g in flatten(grads)[0])
    scale = 1.0 / np.sqrt(1.0 + squares * (1.0 / limit**2))
    return transform(lambda g: scale * g, grads)


def dropout_mask(shape: int | Sequence[int], rate: float, seed: int, step: int) -> np.ndarray:
    """A mask that is 0 with probability `rate`, else 1 / (1 - rate), to multiply hidden units by.

    It is drawn once, by seed and step, and goes into the step's batch as data: dropout is then a fixed part of the run,
    the same in every counterfactual (Srivastava et al., JMLR 15, 2014; scaled when training, so that a trained model is
    measured without a mask). InputError for a rate outside [0, 1).

    >>> np.unique(dropout_mask((8, 16), 0.5, seed=0, step=3))
    array([0., 2.])
    """
    if not is_real(rate) or not 0 <= rate < 1:
        raise InputError(f"optim.dropout_mask needs a rate from 0 to below 1, not {quoted(rate)}")
    extents = [shape] if is_int(shape) else as_list(shape, "shape", "one extent an axis")
    shape = tuple(check_int(extent, "an extent of shape", 0) for extent in extents)
    if math.prod(shape) > LARGEST:
        raise InputError(f"a mask of shape {shape} is larger than an array can be")
    seed, step = check_int(seed, "seed", 0, 2**64 - 1), check_int(step, "step", 0)
    kept = np.random.default_rng([seed, step]).random(shape) >= rate
    return kept / (1.0 - rate)
