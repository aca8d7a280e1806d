"""Optimisers as pure functions of a state, learning-rate schedules, gradient clipping and dropout.

An optimiser is a pair of functions: `<rule>_state(params)` returns the initial state, a dict of "params" and the rule's
own arrays, and `<rule>(state, grads, learning_rate)` returns the next state. The rules are those of the papers, in
Optax's form; learning rates may be wires or numbers. A schedule (`cosine`, `warmup`, `step_decay`) is a factor of the
learning rate as a function of the number of completed steps; schedules can be multiplied. On plain numbers they give
the rates of a run's batches, `0.1 * cosine(np.arange(100), 100)`; on wires they can use the "t" of a state.

Everything here is analytic in the gradients, so a training run that uses it has a Taylor series in its examples'
weights.
"""

from circuitsketch.optim.regularisation import clip_by_norm, dropout_mask
from circuitsketch.optim.rules import (
    adam,
    adam_state,
    adamw,
    adamw_state,
    momentum,
    momentum_state,
    sgd,
    sgd_state,
)
from circuitsketch.optim.schedules import cosine, step_decay, warmup

__all__ = [
    "adam",
    "adam_state",
    "adamw",
    "adamw_state",
    "clip_by_norm",
    "cosine",
    "dropout_mask",
    "momentum",
    "momentum_state",
    "sgd",
    "sgd_state",
    "step_decay",
    "warmup",
]
