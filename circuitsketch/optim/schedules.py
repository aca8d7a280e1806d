"""Learning-rate schedules: factors of the learning rate as functions of the number of completed steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import LARGEST, as_list, is_real, quoted
from circuitsketch.errors import InputError
from circuitsketch.optim.checks import check_number, check_steps


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
    t, floor = check_steps(t, "t"), check_number(floor, "floor")
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
    t = check_steps(t, "t")
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
    t, factor = check_steps(t, "t"), check_number(factor, "factor")
    rate: Any = np.ones(np.shape(t))
    for boundary in as_list(boundaries, "boundaries", "step numbers"):
        check_number(boundary, "a boundary")
        rate = rate * np.where(t >= boundary, factor, 1.0)
    return rate
