"""How far first order can be trusted: steps along the metagradient, predicted at orders 1, 2, ... and retrained.

In: a run and a name. Out: a `StepTest`. The weights are changed in the direction in which the loss on the name rises
fastest, by steps of growing size, to both sides. `plots` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import circuitsketch as cs
from circuitsketch.report.removal import Curve, Progress, no_progress, retrain_losses
from circuitsketch.zoo import microgpt

ORDERS = 3
LARGEST = 2.0  # the step at the ends, where the example of the largest derivative has weight -1 or 3
POINTS, CHECKED = 81, 17  # of a curve, and retrained


@dataclass(frozen=True, eq=False)
class StepTest:
    """Predictions of steps along the metagradient, and retrained values.

    Attributes
    ----------
    measured, unit : str
        The measurement and its unit, for labels.
    baseline : float
        The measurement as trained.
    direction : (n,) ndarray
        The metagradient over its largest entry.
    steps : (T,) ndarray
        The sizes s of the steps, the abscissae of all curves; the downweights are s times the direction.
    curves : tuple of Curve
        One per order: the first by the metagradient, the others by a push along the direction.
    checked, retrained : (K,) ndarray
        Sizes of steps, and the retrained values there.
    """

    measured: str
    unit: str
    baseline: float
    direction: np.ndarray
    steps: np.ndarray
    curves: tuple[Curve, ...]
    checked: np.ndarray
    retrained: np.ndarray


def step_along_metagradient(
    run: cs.Training,
    name: str,
    threads: int | None = None,
    report_retraining: Progress = no_progress,
) -> StepTest:
    """Change the weights along the metagradient of the loss on a name; predict the loss, and retrain."""
    gradient = cs.metagradient(run, microgpt.loss, name, threads=threads)
    direction = gradient / np.abs(gradient).max()
    series = cs.push(run, [direction], order=ORDERS, threads=threads).measure(microgpt.loss, name).coefficients[0].real
    terms = [series[0], gradient @ direction, *series[2:]]
    steps = np.linspace(-LARGEST, LARGEST, POINTS)
    sums = np.cumsum([term * steps**k for k, term in enumerate(terms)], axis=0)
    curves = tuple(Curve(f"order {k}", sums[k]) for k in range(1, ORDERS + 1))
    checked = np.linspace(-LARGEST, LARGEST, CHECKED)
    retrained = retrain_losses(run, np.outer(checked, direction), name, threads, report_retraining)
    return StepTest(
        f"loss on {name!r}", "nats per token", float(series[0]), direction, steps, curves, checked, retrained
    )
