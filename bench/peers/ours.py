"""First order, attribute, datamodels and a sketch, at every budget."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from budgets import fit_datamodel
from report import Report
from timing import timed

import circuitsketch as cs
from circuitsketch.attribution.ground_truth import retrain_and_measure

from .apart import run_apart
from .scores import DATAMODELS, FIRST, OURS, SKETCH, Cell, Truths, make_cell, score, score_effects, score_intervals
from .settings import KNOWN, Setting

LEAST_BUDGET = 5  # of first order alone
DIRECTIONS = 256  # of the sketch


def time_each(ask: Callable[[int], Any], values: int) -> tuple[list[Any], float]:
    """Ask about each value, and about the last again; return the answers, and the CPU seconds of one, compiled."""
    answers = [ask(k) for k in range(values)]
    return answers, timed(lambda: ask(values - 1)).cpu


def differentiate(setting: Setting) -> tuple[np.ndarray, float]:
    """First order: the metagradient of each value, (n, values)."""
    gradients, seconds = time_each(
        lambda k: cs.metagradient(setting.run, setting.functions[k], threads=1), setting.values
    )
    return np.stack([np.reshape(gradient, setting.run.n) for gradient in gradients], axis=1), seconds


def attribute(setting: Setting, budget: float, truths: Truths) -> tuple[dict[str, np.ndarray], float]:
    """Values, and the ends of their intervals, (3, B, values), by kind; calibrated on subsets of the kind, as many as
    the budget pays."""
    queries, seconds = time_each(
        lambda k: cs.attribute(setting.run, setting.functions[k], budget=budget, threads=1), setting.values
    )
    answers = {}
    for kind, (masks, truth) in truths.items():
        rows = []
        for k, query in enumerate(queries):
            count = min(query.plan.subsets, KNOWN)  # never one that is asked about
            own = query.calibrate(masks[:count], truth=truth[:count, k]) if count else query
            predicted = own.without(masks[KNOWN:])
            rows.append(np.stack([predicted.value, *predicted.interval(0.95)]))
        answers[kind] = np.stack(rows, axis=-1)
    return answers, seconds


def fit_datamodels(setting: Setting, count: int, truths: Truths) -> tuple[dict[str, np.ndarray], float]:
    """Values (B, K) of ridge regressions on retrainings of the sizes that are asked about; seconds of a kind."""
    rng, answers = np.random.default_rng(5), {}

    def fit(asked: np.ndarray) -> np.ndarray:
        masks = np.zeros((count, setting.run.n), dtype=bool)
        for mask, size in zip(masks, rng.choice(asked.sum(axis=1), count), strict=True):
            mask[rng.permutation(setting.run.n)[:size]] = True
        values = retrain_and_measure(setting.run, masks.astype(float), setting.measure, (), 1)
        return fit_datamodel(masks, values)(asked[KNOWN:])

    seconds = []
    for kind, (asked, _) in truths.items():
        seconds.append(timed(lambda asked=asked, kind=kind: answers.update({kind: fit(asked)})).cpu)
    return answers, median(seconds)


def sketch(setting: Setting, truths: Truths) -> tuple[dict[str, np.ndarray], float]:
    """Values, and the ends of their intervals, (3, B, values), by kind; the seconds are of a sketch and all values."""
    queries: list[cs.Query] = []

    def ask() -> None:
        queries.append(cs.sketch(setting.run, DIRECTIONS, 3, per_example="series", threads=1).measure(setting.measure))

    seconds = timed(ask).cpu
    answers = {}
    for kind, (masks, _) in truths.items():
        predicted = queries[0].without(masks[KNOWN:])
        answers[kind] = np.stack([predicted.value, *predicted.interval(0.95)])
    return answers, seconds


def measure_ours(setting: Setting, truths: Truths, budgets: list[float], report: Report) -> list[Cell]:
    """Score first order, attribute and datamodels at every budget."""
    run, baseline = setting.run, np.asarray(setting.measure(setting.run.params(setting.run.train())))
    unit = median(timed(run.train).cpu for _ in range(7))
    masks = np.random.default_rng(0).random((64, run.n)) < 0.1
    subset = min(timed(lambda: run.retrain(masks, 1)).cpu for _ in range(2)) / 64 / unit
    report.numbers[f"{setting.name}_training_ms"] = 1e3 * unit
    report.say(
        f"{setting.name}: a training takes {1e3 * unit:.3g} ms, one of several retrained subsets {subset:.2g} of it"
    )
    found = run_apart(differentiate, setting)
    effects, seconds = found.result
    costs = seconds, seconds / unit, found.megabytes
    cells = [make_cell(FIRST, costs, score_effects(effects, baseline, truths, True), LEAST_BUDGET)]
    for budget in budgets:
        found = run_apart(attribute, setting, budget, truths)
        answers, seconds = found.result
        costs = seconds, seconds / unit, found.megabytes
        cells.append(make_cell(OURS, costs, score_intervals(answers, truths), budget))
        if (count := int(budget / subset)) >= 8:
            found = run_apart(fit_datamodels, setting, count, truths)
            answers, seconds = found.result
            kinds = {kind: score(answers[kind], truth[KNOWN:], True) for kind, (_, truth) in truths.items()}
            cells.append(make_cell(DATAMODELS, (seconds, seconds / unit, found.megabytes), kinds, budget))
    found = run_apart(sketch, setting, truths)
    answers, seconds = found.result
    cells.append(make_cell(SKETCH, (seconds, seconds / unit, found.megabytes), score_intervals(answers, truths)))
    return cells
