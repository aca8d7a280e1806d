"""What a plan pays for, done: retrained subsets, own effects, effects of pairs.

In: a run, a measurement with its derivatives, a plan. Out: what the subsets change, and the `KnownEffects`.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.attribution.beginning import Beginning
from circuitsketch.attribution.budget import LANE, AttributionPlan, Tell, sweep_cost
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.rounding import CHECKED, choose_checked, measure_rounding, warn_of_rounding
from circuitsketch.estimators.known_effects import KnownEffects, select_for_pairs, select_strongest_pairs
from circuitsketch.propagate.blocks import by_first_step
from circuitsketch.propagate.retrained import Rows, measure_retrained
from circuitsketch.reverse.leave_one_out import leave_one_out
from circuitsketch.training.training import Training


@dataclass(frozen=True, eq=False)
class PlannedWork:
    """The work of a plan, whose parts are done in the order of its methods.

    Attributes
    ----------
    source : Source
        The run, the function and its arguments.
    run : Training
        The same run.
    first : Beginning
        What is known before.
    plan : AttributionPlan
        What is paid for.
    tell : Tell
        The progress, over all parts.
    threads : int or None
        The number of threads, of each worker where there are workers.
    executor : concurrent.futures.Executor or None
        The workers.
    """

    source: Source
    run: Training
    first: Beginning
    plan: AttributionPlan
    tell: Tell
    threads: int | None = None
    executor: Executor | None = None

    @property
    def width(self) -> int:
        """The number of values measured."""
        return len(self.first.baseline)

    def retrain_subsets(self, rows: np.ndarray) -> np.ndarray:
        """Return what the values change by when subsets (m, n) are left out, (m, values)."""
        if not len(rows):
            return np.zeros((0, self.width))
        changes = self.retrain(lambda start, stop: rows[start:stop], len(rows))[0]
        if self.plan.dtype == "float32":
            warn_of_rounding(self.check_rounding(rows, changes), changes)
        return changes

    def check_rounding(self, rows: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """Return the standard error of changes (m, values) by rounding, (values,); computes a few in float64 too."""
        checked = choose_checked(len(rows))
        part = rows[checked]
        double = self.retrain(lambda start, stop: part[start:stop], len(part), np.float64)[0]
        return measure_rounding(changes[checked], double)

    def measure_effects(self, examples: np.ndarray) -> KnownEffects:
        """Retrain without each of some examples, in the order in which lanes take them; then compute pairs."""
        own, distances = np.full((self.run.n, self.width), np.nan), np.zeros(self.run.n)
        rounding: np.ndarray | float = 0.0
        if len(examples):
            own[examples], distances[examples] = self.retrain(
                lambda start, stop: unit_rows(examples[start:stop], self.run.n), len(examples)
            )
            if self.plan.dtype == "float32":
                # Of those that differ from the plain run in the most steps: the longer a model is trained, the more.
                first = examples[: min(CHECKED, len(examples))]
                rounding = self.check_rounding(unit_rows(first, self.run.n), own[first])
        gradient = self.first.gradient
        if gradient is None:
            return replace(KnownEffects.of_own(None, own, self.first.shape), rounding=rounding)
        chosen = np.zeros(0, dtype=np.int64)
        if self.plan.pairs:
            chosen = np.sort(select_for_pairs(own, distances)[: self.plan.pairs])
        pairs = self.compute_pairs(gradient, chosen)
        if self.plan.strongest:
            self.retrain_strongest(own, pairs, chosen)
        return KnownEffects(gradient.T, own, chosen, pairs, self.first.shape, rounding=rounding)

    def compute_pairs(self, gradient: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return what leaving out each chosen example changes in all derivatives, (chosen, values, n).

        A folder may have some; those computed now are kept in it.
        """
        pairs = np.zeros((len(chosen), *gradient.shape))
        if not len(chosen):
            return pairs
        position = {int(example): i for i, example in enumerate(chosen)}
        kept = self.first.kept

        def keep(example: int, _: np.ndarray, there: np.ndarray) -> None:
            pairs[position[example]] = there - gradient
            if kept is not None:
                kept.write(f"pairs-{example}", pairs[position[example]])

        absent = []
        for example, i in position.items():
            row = None if kept is None else kept.read(f"pairs-{example}", gradient.shape)
            if row is None:
                absent.append(example)
            else:
                pairs[i] = row
        leave_one_out(
            self.run,
            self.source.measure,
            self.source.args,
            absent,
            threads=self.threads,
            progress=self.tell.part(sweep_cost(self.width) * len(chosen)),
            measured=self.first.measured,
            take=keep,
            executor=self.executor,
        )
        return pairs

    def retrain_strongest(self, own: np.ndarray, pairs: np.ndarray, chosen: np.ndarray) -> None:
        """Replace the strongest effects of pairs by what leaving out both changes beyond their own, in place."""
        both = select_strongest_pairs(own, pairs, chosen, self.plan.strongest)
        weights = np.zeros((len(both), self.run.n))
        np.put_along_axis(weights, both, 1.0, axis=1)
        beyond = self.retrain(lambda start, stop: weights[start:stop], len(both))[0] - own[both].sum(axis=1)
        position = {int(example): i for i, example in enumerate(chosen)}
        for pair, change in zip(both.tolist(), beyond, strict=True):
            for example, other in (pair, pair[::-1]):
                if example in position:
                    pairs[position[example], :, other] = change

    def retrain(self, rows: Rows, count: int, dtype: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the values change by without so many subsets, (count, values), and how far that moves the state,
        (count,).

        dtype : of the retraining; by default the plan's, whose progress it then is.
        """
        measured, distances = measure_retrained(
            self.run,
            self.first.measurement,
            self.first.state,
            rows,
            count,
            threads=self.threads,
            progress=self.tell.part(LANE * count) if dtype is None else None,
            kept=self.first.kept,
            executor=self.executor,
            dtype=dtype or self.plan.dtype,
        )
        return measured - self.first.baseline, distances


def order_own(run: Training, plan: AttributionPlan, gradient: np.ndarray | None) -> np.ndarray:
    """Return the examples that are left out alone, in the order in which lanes take them.

    Where the plan does not pay all, those of the largest derivatives (values, n).
    """
    order = by_first_step(run)
    if plan.own == run.n or gradient is None:
        return order
    largest = np.argsort(-np.linalg.norm(gradient, axis=0), kind="stable")[: plan.own]
    return order[np.isin(order, largest)]


def unit_rows(examples: np.ndarray, n: int) -> np.ndarray:
    """Return the downweights that leave out one of some examples each, (examples, n)."""
    rows = np.zeros((len(examples), n))
    rows[np.arange(len(examples)), examples] = 1.0
    return rows
