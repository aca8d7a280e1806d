"""Curves of predictions for one deletion, over its strength from 0 (as trained) to 1 (deleted).

`series_along` propagates the deletion itself, so its curves are exact to their order; `predict_along` uses a sketch,
and its curves have error bands. Both come with retrained points. Drawing is left to `pictures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import circuitsketch as cs
from circuitsketch.report.demo import LEVEL, Question
from circuitsketch.report.truths import truths_of
from circuitsketch.zoo import microgpt

STRENGTHS = 101  # points of a curve
CHECKED = 11  # retrainings beside it, as in the paper

Progress = Callable[[float, int], None]  # parts done, parts in all


def no_progress(done: float, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A predicted measurement (strengths,), and its band where it has one."""

    label: str
    value: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Removal:
    """Predictions along the strength of one deletion, beside retraining.

    Attributes
    ----------
    measured, unit, removed : words for the axes. strengths : (T,), all curves' abscissae; curves : one an order.
    band : what the curves' bands are, "" without bands. checked, retrained : (K,) strengths and the truths there.
    """

    measured: str
    unit: str
    removed: str
    strengths: np.ndarray
    curves: tuple[Curve, ...]
    band: str
    checked: np.ndarray
    retrained: np.ndarray


def series_along(
    run: cs.Training,
    question: Question,
    order: int,
    threads: int | None = None,
    report_sketch: Progress = no_progress,
    report_retraining: Progress = no_progress,
) -> Removal:
    """The Taylor series along the deletion, cut off after each order from 1: the paper's Figure 2."""
    h = direction_of(run, question)
    pushed = cs.push(run, [h], order=order, threads=threads, progress=report_sketch)
    series = pushed.measure(microgpt.loss, question.name).coefficients[0].real
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    sums = np.cumsum(series[:, None] * strengths ** np.arange(order + 1)[:, None], axis=0)
    curves = tuple(Curve(f"order {k}", sums[k]) for k in range(1, order + 1))
    return removal_of(run, question, strengths, curves, "", threads, report_retraining)


def predict_along(
    run: cs.Training,
    query: cs.Query,
    question: Question,
    orders: Sequence[int],
    threads: int | None = None,
    report_retraining: Progress = no_progress,
) -> Removal:
    """A sketch's plain mean over directions, cut off after some orders, with standard errors: the paper's Figure 3."""
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    wanted = np.outer(strengths, direction_of(run, question))
    curves = []
    for order in orders:
        found = query.predict(wanted, order=order, median_groups=1)
        value, error = np.asarray(found.value), np.asarray(found.stderr)
        curves.append(Curve(f"order {order}", value, value - error, value + error))
    return removal_of(run, question, strengths, tuple(curves), "one standard error", threads, report_retraining)


def answer_along(
    run: cs.Training,
    query: cs.Query,
    question: Question,
    threads: int | None = None,
    report_retraining: Progress = no_progress,
) -> Removal:
    """The prediction that `Query.predict` gives by default, with its interval."""
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    found = query.predict(np.outer(strengths, direction_of(run, question)))
    low, high = found.interval(LEVEL)
    value = np.asarray(found.value)
    curve = Curve(f"predicted, order {found.order}", value, np.asarray(low), np.asarray(high))
    return removal_of(run, question, strengths, (curve,), f"{LEVEL:.0%} interval", threads, report_retraining)


def removal_of(
    run: cs.Training,
    question: Question,
    strengths: np.ndarray,
    curves: tuple[Curve, ...],
    band: str,
    threads: int | None,
    report_retraining: Progress,
) -> Removal:
    """Curves with the words for their axes, and with retrained points."""
    checked = np.linspace(0.0, 1.0, CHECKED)
    weights = np.outer(checked, direction_of(run, question))
    retrained = retrained_losses(run, weights, question.name, threads, report_retraining)
    return Removal(
        f"loss on {question.name!r}",
        "nats a token",
        f"the {len(question.ids)} names with {question.letters!r}",
        strengths,
        curves,
        band,
        checked,
        retrained,
    )


def direction_of(run: cs.Training, question: Question) -> np.ndarray:
    """The downweights (n,) that delete a question's names."""
    h = np.zeros(run.n)
    h[list(question.ids)] = 1.0
    return h


def retrained_losses(
    run: cs.Training, downweights: np.ndarray, name: str, threads: int | None, report_retraining: Progress
) -> np.ndarray:
    """The loss on a name after training with each row of downweights (K, n): (K,). The truth of every picture."""
    return truths_of(
        run,
        downweights,
        lambda params: microgpt.loss(params, name),
        shape=(),
        what=f"loss:{name}",
        threads=threads,
        watch=lambda stage, done, total: report_retraining(done, total),
    )
