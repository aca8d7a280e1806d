"""Predict a measurement over the strength of one deletion, from 0 (as trained) to 1 (deleted), with retrained points.

`expand_along_deletion` propagates the deletion itself, so its curves are exact to their order; `predict_by_order` and
`predict_along_deletion` use a sketch, and their curves have error bands; `predict_along_subsets` compares deletions.
`plots` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.errors import InputError
from circuitsketch.report.demo import LEVEL, Question
from circuitsketch.report.retraining import retrain_subsets
from circuitsketch.zoo import microgpt

STRENGTHS = 101  # points of a curve
CHECKED = 11  # retrained points, as in the paper
CHECKED_QUARTERS = np.array([0.25, 0.5, 0.75, 1.0])  # those of the page
MOST_CURVES = 6  # as many as differ in dashes and colour

Progress = Callable[[float, int], None]  # parts done, number of parts


def no_progress(done: float, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A predicted measurement as a function of the strength (strengths,), and its error band if it has one."""

    label: str
    value: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Removal:
    """Predictions over the strength of one deletion, and retrained values.

    Attributes
    ----------
    measured, unit, removed : str
        The measurement, its unit, and the deleted examples, for labels.
    strengths : (T,) ndarray
        The strengths, the abscissae of all curves.
    curves : tuple of Curve
        One curve per order.
    band : str
        What the error bands are; "" without bands.
    checked, retrained : (K,) ndarray
        Strengths, and the retrained values there.
    """

    measured: str
    unit: str
    removed: str
    strengths: np.ndarray
    curves: tuple[Curve, ...]
    band: str
    checked: np.ndarray
    retrained: np.ndarray


def expand_along_deletion(
    run: cs.Training,
    question: Question,
    order: int,
    threads: int | None = None,
    report_sketch: Progress = no_progress,
    report_retraining: Progress = no_progress,
) -> Removal:
    """Compute the Taylor series along the deletion, truncated after each order from 1: the paper's Figure 2."""
    h = deletion_weights(run, question)
    pushed = cs.push(run, [h], order=order, threads=threads, progress=report_sketch)
    series = pushed.measure(microgpt.loss, question.name).coefficients[0].real
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    sums = np.cumsum(series[:, None] * strengths ** np.arange(order + 1)[:, None], axis=0)
    curves = tuple(Curve(f"order {k}", sums[k]) for k in range(1, order + 1))
    return add_retrained_points(run, question, strengths, curves, "", threads, report_retraining)


def predict_by_order(
    run: cs.Training,
    query: cs.Query,
    question: Question,
    orders: Sequence[int],
    threads: int | None = None,
    report_retraining: Progress = no_progress,
) -> Removal:
    """Predict by the mean over a sketch's directions, truncated after several orders: the paper's Figure 3."""
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    deletions = np.outer(strengths, deletion_weights(run, question))
    curves = []
    for order in orders:
        estimate = query.random.predict(deletions, order, median_groups=1)  # `query.predict` adds what checks find
        value, error = query.baseline + estimate.change, estimate.stderr
        curves.append(Curve(f"order {order}", value, value - error, value + error))
    band = "one standard error over directions"
    return add_retrained_points(run, question, strengths, tuple(curves), band, threads, report_retraining)


def predict_along_weights(query: cs.Query, h: np.ndarray, measured: str, removed: str, truth: Any = None) -> Removal:
    """Predict one number over the strength of any deletion h (n,), with the value as trained and perhaps retrained.

    Raises
    ------
    InputError
        If the measurement is not one number.
    """
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    curve = predict_curve(query, h, strengths, measured)
    retrained = [float(np.ravel(number)[0]) for number in (query.baseline, truth) if number is not None]
    checked = np.array([0.0, 1.0][: len(retrained)])
    return Removal(measured, "", removed, strengths, (curve,), f"{LEVEL:.0%} interval", checked, np.array(retrained))


def predict_along_subsets(
    query: cs.Query, subsets: Mapping[str, Sequence[int]], measured: str, source: Source | None = None
) -> Removal:
    """Predict one number over the strengths of one or several deletions, as the page draws and compares them.

    Parameters
    ----------
    query : Query
        Of one number.
    subsets : mapping of str to sequence of int
        Names and ids.
    measured : str
        The measurement, for labels.
    source : Source, optional
        What to measure after retraining at a quarter, a half, three quarters and all of each deletion.

    Raises
    ------
    InputError
        If the measurement is not one number, or there are more subsets than curves can be told apart.
    """
    if len(subsets) > MOST_CURVES:
        raise InputError(f"one picture shows up to {MOST_CURVES} subsets, not {len(subsets)}; draw fewer of them")
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    h = np.zeros((len(subsets), query.n))
    for row, ids in zip(h, subsets.values(), strict=True):
        row[list(ids)] = 1.0
    curves = [predict_curve(query, row, strengths, measured) for row in h]
    if len(subsets) > 1:
        curves = [replace(curve, label=name) for name, curve in zip(subsets, curves, strict=True)]
    checked, retrained = np.zeros(1), np.ravel(query.first_value)
    if source is not None:
        at = np.repeat(CHECKED_QUARTERS, len(h))
        rows = at[:, None] * np.tile(h, (len(CHECKED_QUARTERS), 1))
        checked = np.concatenate([checked, at])
        retrained = np.concatenate([retrained, source.retrain(rows).reshape(len(rows))])
    removed = next(iter(subsets)) if len(subsets) == 1 else "each subset"
    return Removal(measured, "", removed, strengths, tuple(curves), f"{LEVEL:.0%} interval", checked, retrained)


def predict_curve(query: cs.Query, h: np.ndarray, strengths: np.ndarray, measured: str) -> Curve:
    """Predict one number at strengths of a deletion h (n,). InputError: the measurement is not one number."""
    if query.shape not in ((), (1,)) or query.structure is not None:
        raise InputError(f"a picture is of one number, and {measured} has the shape {query.shape}; measure one of them")
    prediction = query.predict(np.outer(strengths, h))
    value, low, high = (np.reshape(part, len(strengths)) for part in (prediction.value, *prediction.interval(LEVEL)))
    return Curve(f"predicted, {prediction.estimator}", value, low, high)


def predict_along_deletion(
    run: cs.Training,
    query: cs.Query,
    question: Question,
    threads: int | None = None,
    report_retraining: Progress = no_progress,
) -> Removal:
    """Predict with the default estimator of `Query.predict`, with its interval."""
    strengths = np.linspace(0.0, 1.0, STRENGTHS)
    prediction = query.predict(np.outer(strengths, deletion_weights(run, question)))
    low, high = prediction.interval(LEVEL)
    value = np.asarray(prediction.value)
    curve = Curve(f"predicted, order {prediction.order}", value, np.asarray(low), np.asarray(high))
    return add_retrained_points(run, question, strengths, (curve,), f"{LEVEL:.0%} interval", threads, report_retraining)


def add_retrained_points(
    run: cs.Training,
    question: Question,
    strengths: np.ndarray,
    curves: tuple[Curve, ...],
    band: str,
    threads: int | None,
    report_retraining: Progress,
) -> Removal:
    """Return the curves with the labels of their axes and retrained points."""
    checked = np.linspace(0.0, 1.0, CHECKED)
    weights = np.outer(checked, deletion_weights(run, question))
    retrained = retrain_losses(run, weights, question.name, threads, report_retraining)
    return Removal(
        f"loss on {question.name!r}",
        "nats per token",
        f"the {len(question.ids)} names with {question.letters!r}",
        strengths,
        curves,
        band,
        checked,
        retrained,
    )


def deletion_weights(run: cs.Training, question: Question) -> np.ndarray:
    """Return the downweights (n,) that delete a question's names."""
    h = np.zeros(run.n)
    h[list(question.ids)] = 1.0
    return h


def retrain_losses(
    run: cs.Training, downweights: np.ndarray, name: str, threads: int | None, report_retraining: Progress
) -> np.ndarray:
    """Return the loss on a name after retraining with each row of downweights (K, n), (K,)."""
    return retrain_subsets(
        run,
        downweights,
        lambda params: microgpt.loss(params, name),
        shape=(),
        what=f"loss:{name}",
        threads=threads,
        progress=lambda stage, done, total: report_retraining(done, total),
    )
