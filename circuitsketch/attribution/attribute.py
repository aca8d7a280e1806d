"""The front door for one measurement and a budget: derivatives, retrained subsets, own effects, effects of pairs.

In: a training run, a measurement, how many trainings it may cost. Out: a `Query` whose answers have intervals, with
what was done for it and what that is worth on subsets that were left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.arguments import check_instance, check_int
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.promises import check_positive
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.structure import Structure
from circuitsketch.attribution.subsets import draw_subsets
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Sphere
from circuitsketch.errors import InputError
from circuitsketch.estimators.calibrated import calibrate_estimators
from circuitsketch.estimators.known_effects import FromKnownEffects, KnownEffects, select_for_pairs
from circuitsketch.limits import format_bytes, memory_available, require_memory, within_memory
from circuitsketch.propagate.blocks import by_first_step
from circuitsketch.propagate.coefficients import value_shape
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.propagate.retrained import measure_retrained
from circuitsketch.reverse.leave_one_out import leave_one_out
from circuitsketch.reverse.metagradient import differentiate_run
from circuitsketch.training.training import Training

LANE = 0.5  # trainings that retraining one more subset among many costs, as measured on the runs of the bench
SWEEP, MORE_VALUES = 4.0, 0.6  # trainings of a reverse sweep with the run before it: of one value, of each more
LEAST = 8  # retrained subsets at least, and the smallest budget
ENOUGH = 48  # retrained subsets, beyond which a budget buys own effects first
PAIR_SHARE = 0.25  # of the memory, for effects of pairs


@dataclass(frozen=True)
class AttributionPlan:
    """What a budget is spent on.

    Attributes
    ----------
    budget : float
        In trainings.
    subsets, own, pairs : int
        How many subsets are retrained, how many examples are left out alone, and of how many of these the effects of
        pairs are computed.
    trainings : float
        What that costs, in trainings, with the sweep for first order.
    n, values : int
        The number of examples, and of values measured.
    seconds : float or None
        What that takes on this machine; None before a training was timed.
    spent : float or None
        The seconds that it took; None before it was done.
    """

    budget: float
    subsets: int
    own: int
    pairs: int
    trainings: float
    n: int
    values: int
    seconds: float | None = None
    spent: float | None = None

    @property
    def nbytes(self) -> int:
        """The memory that the effects take, in bytes."""
        return 8 * self.values * self.n * (2 + self.pairs)

    def __str__(self) -> str:
        parts = ["first order", f"{self.subsets:,} retrained subsets"]
        if self.own:
            parts.append(f"own effects of {self.own:,} of {self.n:,} examples")
        if self.pairs:
            parts.append(f"effects of pairs with {self.pairs:,} of them")
        seconds = "" if self.seconds is None else f", {self.seconds:,.3g} s"
        return f"{', '.join(parts)}: about {self.trainings:,.0f} trainings{seconds}, {format_bytes(self.nbytes)}"


def plan_attribution(run: Training, values: int, budget: float, subsets: int | None = None) -> AttributionPlan:
    """Divide a budget: first order, retrained subsets, own effects, effects of pairs.

    Parameters
    ----------
    run : Training
    values : int
        The number of values measured.
    budget : float
        In trainings.
    subsets : int, optional
        The number of subsets to retrain, where they are given.

    Returns
    -------
    AttributionPlan

    Raises
    ------
    InputError
        If the budget does not pay first order and a few retrained subsets.
    """
    sweep = SWEEP + MORE_VALUES * (values - 1)
    count = subsets
    if count is None:
        count = int(min(max((budget - sweep) * 0.5 / LANE, LEAST), ENOUGH))
    least = sweep + LANE * count
    if budget < sweep + LANE * LEAST or (subsets is not None and budget < least):
        raise InputError(
            f"budget is {budget:g} trainings; first order of {values} value{'s' * (values != 1)} and "
            f"{LEAST if subsets is None else subsets} retrained subsets take about {np.ceil(least):g}"
        )
    left = budget - least
    first = np.searchsorted(run.schedule.ids_start, first_reads(run), side="right") - 1
    each = LANE * np.sort(1.0 - np.minimum(first, run.steps) / run.steps)
    own = run.n if left >= each.sum() else int(np.searchsorted(np.cumsum(each[::-1]), left))
    left -= each.sum() if own == run.n else left
    pairs = min(int(left // (1 + sweep)), run.n) if own == run.n else 0
    available = memory_available()
    if available is not None:
        pairs = min(pairs, int(PAIR_SHARE * available / (8 * run.n * values)))
    cost = least + (each.sum() if own == run.n else each[::-1][:own].sum()) + pairs * (1 + sweep)
    return AttributionPlan(budget, count, own, pairs, float(cost), run.n, values)


def first_reads(run: Training) -> np.ndarray:
    """Return where each example is first read among the ids of all steps; beyond the last for those never read."""
    first = np.full(run.n, len(run.schedule.ids))
    np.minimum.at(first, run.schedule.ids, np.arange(len(run.schedule.ids)))
    return first


@within_memory("the attribution", "a smaller budget", "fewer values")
def attribute(
    run: Training,
    function: Callable[..., Any],
    *args: Any,
    budget: float = 200,
    kind: str = "random",
    size: Any = None,
    subsets: Any = None,
    threads: int | None = None,
    progress: Progress | bool | None = None,
    seed: int = 0,
) -> Query:
    """Predict a measurement after deleting data, as well as a budget allows.

    The budget buys, in this order: the derivatives with respect to every example's weight, by a reverse sweep; a few
    dozen retrained subsets, which say what the estimators are worth and give them intervals; every example's own
    effect, by training without it; and the effects of pairs with the examples that matter most.

    Parameters
    ----------
    run : Training
        The training run.
    function : callable
        `function(params, *args)`, a measurement: a NumPy function of the trained parameters that returns a number, an
        array, or a pytree of them.
    *args : object
        Passed to the function unchanged.
    budget : float
        What it may cost, in trainings: 10 buy first order and a check, 60 a calibration, a half of the number of
        examples their own effects.
    kind, size : optional
        Of the subsets that are retrained, which should be such as will be asked about: "random", or "label" for
        examples that share a label; their smallest and largest number. See `Query.calibrate`.
    subsets : optional
        The subsets to retrain, in the forms of `Query.without`, instead of `kind` and `size`.
    threads : int, optional
        The number of threads; by default all cores.
    progress : bool or callable, optional
        True prints the plan and draws a progress bar; or a function of (units done, units).
    seed : int
        Of the subsets drawn.

    Returns
    -------
    Query
        Its default estimator is "calibrated"; "first-order", "per-example" and "pairs" can be named. `query.plan` says
        what was done, `query.worth` what that is worth on subsets left out.

    Raises
    ------
    InputError
        If an argument is invalid, or the budget too small.
    DomainError, DivergenceError
        If the run or the measurement has no derivative, or diverges.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> step = lambda s, x, keep: s + keep.sum() * x
    >>> run = cs.Training(step, np.zeros(()), np.arange(40.0), [[i] for i in range(40)])
    >>> query = cs.attribute(run, lambda s: s, budget=40)
    >>> round(query.without([3, 5]).value, 6), float(run.retrain(without=[3, 5]))
    (772.0, 772.0)
    """
    check_instance(run, "run", Training, "a cs.Training")
    budget = check_positive("budget", budget)
    check_int(seed, "seed", 0, 2**64 - 1)
    thread_count(threads, 1)
    source = Source(function, args, run)
    begun = time.perf_counter()
    measured, gradient = differentiate_run(run, function, args, threads)
    unit = "example" if run.groups is None else "group"
    structure = Structure.of(measured.circuit)
    shape, values = value_shape(measured.circuit), measured.values
    query = query_of(measured, gradient.T, unit, structure, source)
    given = None if subsets is None else np.atleast_2d(query.downweights(subsets))
    plan = plan_attribution(run, values, budget, None if given is None else len(given))
    plan = replace(plan, seconds=plan.trainings * time_of_training(run))
    require_memory(plan.nbytes, f"the effects of {plan.pairs:,} examples on {run.n:,} others", ["a smaller budget"])
    rows, sizes = given, None
    if rows is None:
        smallest = 2 if plan.own == run.n else 1
        rows, sizes = draw_subsets(run.n, run.labels, kind, size, plan.subsets, seed, smallest)
    with show_progress(progress, task="attribute", thing="unit") as report:
        tell = Tell(report, plan)
        baseline = measured.baseline

        def retrain(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = measure_retrained(
                run,
                measured.circuit,
                measured.state,
                lambda start, stop: weights[start:stop],
                len(weights),
                threads=threads,
                progress=tell.part(LANE * len(weights)),
            )
            return found[0] - baseline, found[1]

        truths, _ = retrain(rows)
        own, distances = np.full((run.n, values), np.nan), np.zeros(run.n)
        if plan.own:
            order = by_first_step(run)
            if plan.own < run.n:
                largest = np.argsort(-np.linalg.norm(gradient, axis=0), kind="stable")[: plan.own]
                order = order[np.isin(order, largest)]
            own[order], distances[order] = retrain(np.eye(run.n)[order])
        chosen, pairs = np.zeros(0, dtype=np.int64), np.zeros((0, values, run.n))
        if plan.pairs:
            chosen = np.sort(select_for_pairs(own, distances)[: plan.pairs])
            pairs = np.zeros((len(chosen), values, run.n))
            position = {int(example): i for i, example in enumerate(chosen)}

            def keep(example: int, _: np.ndarray, there: np.ndarray) -> None:
                pairs[position[example]] = there - gradient

            cost = (1 + SWEEP + MORE_VALUES * (values - 1)) * len(chosen)
            leave_one_out(run, function, args, chosen.tolist(), threads=threads, progress=tell.part(cost), take=keep)
    known = KnownEffects(gradient.T, own, chosen, pairs, shape)
    kind = "given" if given is not None else kind
    estimators = [FromKnownEffects(known, name) for name in known.names]
    calibrated = calibrate_estimators(estimators, rows, truths, kind, gradient.T, shape, sizes)
    query = query.with_estimators([*estimators, calibrated])
    query.plan = replace(plan, spent=time.perf_counter() - begun)
    return query


class Tell:
    """Progress over parts of a plan, in trainings."""

    def __init__(self, report: Progress | None, plan: AttributionPlan) -> None:
        self.report, self.total, self.before = report, plan.trainings, 0.0

    def part(self, cost: float) -> Progress | None:
        """Return the progress of the next part, which costs so many trainings."""
        if self.report is None:
            return None
        before, report = self.before, self.report
        self.before += cost

        def tell(done: float, of: float) -> None:
            report(round(min(before + cost * done / max(of, 1), self.total)), round(self.total))

        return tell


def time_of_training(run: Training) -> float:
    """Time one plain training, the least of three, in seconds."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        run.train()
        times.append(time.perf_counter() - begun)
    return min(times)


def query_of(measured: Any, gradient: np.ndarray, unit: str, structure: Structure | None, source: Source) -> Query:
    """Return a query of first-order effects (n, values), about a run's examples."""
    run, shape = source.run, value_shape(measured.circuit)
    assert run is not None
    series = np.stack([np.broadcast_to(measured.baseline, gradient.shape), gradient], axis=1)
    return Query(
        np.zeros((0, 2, *shape)),
        Sphere(run.n),
        per_example=series.reshape(run.n, 2, *shape),
        labels=run.labels,
        items=run.items,
        unit=unit,
        structure=structure,
        constancy=measured.constancy,
        source=source,
    )
