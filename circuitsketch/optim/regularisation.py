"""Gradient clipping and dropout, in forms that have a Taylor series everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import LARGEST, as_list, check_int, is_int, is_real, quoted
from circuitsketch.errors import InputError
from circuitsketch.optim.checks import check_numbers
from circuitsketch.tree import flatten, tree_map

SMALLEST_LIMIT = 1e-150  # smallest limit of `clip_by_norm`, which squares it


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
    check_numbers(grads, "grads")
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
