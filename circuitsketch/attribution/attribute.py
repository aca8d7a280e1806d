"""The front door for one measurement and a budget: derivatives, retrained subsets, own effects, effects of pairs.

In: a training run, a measurement, how many trainings it may cost. Out: a `Query` whose answers have intervals, with
what was done for it and what that is worth on subsets that were left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from circuitsketch.arguments import check_callable, check_instance, check_int
from circuitsketch.attribution.budget import (
    LANE,
    MORE_VALUES,
    SWEEP,
    AttributionPlan,
    Tell,
    plan_attribution,
    time_of_training,
)
from circuitsketch.attribution.costs import time_retraining
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.promises import check_positive
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.structure import Structure
from circuitsketch.attribution.subsets import draw_subsets
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Sphere
from circuitsketch.estimators.calibrated import calibrate_estimators
from circuitsketch.estimators.calibration import MIN_SUBSETS
from circuitsketch.estimators.known_effects import FromKnownEffects, KnownEffects, select_for_pairs
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.propagate.blocks import by_first_step
from circuitsketch.propagate.coefficients import value_shape
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.propagate.retrained import Rows, measure_retrained
from circuitsketch.reverse.leave_one_out import leave_one_out
from circuitsketch.reverse.measuring import Measured
from circuitsketch.reverse.metagradient import differentiate_run
from circuitsketch.store.fingerprint import describe_circuit, digest, fingerprint_of
from circuitsketch.store.kept_arrays import KeptArrays
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten


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
    on_plan: Callable[[AttributionPlan], None] | None = None,
    path: Any = None,
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
    on_plan : callable, optional
        Called with the plan, an `AttributionPlan`, before anything is retrained.
    path : str or path, optional
        A folder to keep finished work in. The same call with the same folder resumes after an interruption, to the
        same bits, and a larger budget builds on what is there.
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
    StoreError
        If the folder has the work of another run or measurement, or cannot be read or written.

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
    if on_plan is not None:
        check_callable(on_plan, "on_plan")
    budget = check_positive("budget", budget)
    check_int(seed, "seed", 0, 2**64 - 1)
    thread_count(threads, 1)
    source = Source(function, args, run)
    begun = time.perf_counter()
    measured, gradient, kept = differentiate_or_read(run, function, args, threads, path)
    unit = "example" if run.groups is None else "group"
    structure = Structure.of(measured.circuit)
    shape, values = value_shape(measured.circuit), measured.values
    query = query_of(measured, gradient.T, unit, structure, source)
    given = None if subsets is None else np.atleast_2d(query.downweights(subsets))
    plan = plan_attribution(run, values, budget, None if given is None else len(given))
    require_memory(plan.nbytes, f"the effects of {plan.pairs:,} examples on {run.n:,} others", ["a smaller budget"])
    rows, sizes = given, None
    if rows is None:
        smallest = 2 if plan.own == run.n else 1
        rows, sizes = draw_subsets(run.n, run.labels, kind, size, plan.subsets, seed, smallest)
        rows = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]  # few groups have few subsets
        if len(rows) < MIN_SUBSETS and plan.own == run.n:
            rows = rows[:0]  # too few to calibrate on, and single groups are exact without
        plan = replace(plan, subsets=len(rows), trainings=plan.trainings - LANE * (plan.subsets - len(rows)))
    order = by_first_step(run)
    if plan.own < run.n:
        largest = np.argsort(-np.linalg.norm(gradient, axis=0), kind="stable")[: plan.own]
        order = order[np.isin(order, largest)]
    seconds = time.perf_counter() - begun + time_retraining(run, len(rows), order, threads)
    if plan.pairs:
        each = time_of_training(run) * (1 + SWEEP + MORE_VALUES * (values - 1))
        seconds += plan.pairs * each / thread_count(threads, plan.pairs)
    plan = replace(plan, seconds=seconds)
    if progress is True:
        print(plan, file=sys.stderr)
    if on_plan is not None:
        on_plan(plan)
    with show_progress(progress, task="attribute", thing="unit") as report:
        tell = Tell(report, plan)
        baseline = measured.baseline

        def retrain(weights: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
            values, distances = measure_retrained(
                run,
                measured.circuit,
                measured.state,
                weights,
                count,
                threads=threads,
                progress=tell.part(LANE * count),
                kept=kept,
            )
            return values - baseline, distances

        truths = retrain(lambda start, stop: rows[start:stop], len(rows))[0] if len(rows) else np.zeros((0, values))
        own, distances = np.full((run.n, values), np.nan), np.zeros(run.n)
        if plan.own:
            own[order], distances[order] = retrain(lambda start, stop: unit_rows(order[start:stop], run.n), plan.own)
        chosen, pairs = np.zeros(0, dtype=np.int64), np.zeros((0, values, run.n))
        if plan.pairs:
            chosen = np.sort(select_for_pairs(own, distances)[: plan.pairs])
            pairs = np.zeros((len(chosen), values, run.n))
            position = {int(example): i for i, example in enumerate(chosen)}

            def keep(example: int, _: np.ndarray, there: np.ndarray) -> None:
                pairs[position[example]] = there - gradient
                if kept is not None:
                    kept.write(f"pairs-{example}", pairs[position[example]])

            remaining = []
            for i, example in enumerate(chosen.tolist()):
                row = None if kept is None else kept.read(f"pairs-{example}", gradient.shape)
                if row is None:
                    remaining.append(example)
                else:
                    pairs[i] = row
            cost = (1 + SWEEP + MORE_VALUES * (values - 1)) * len(chosen)
            leave_one_out(run, function, args, remaining, threads=threads, progress=tell.part(cost), take=keep)
    known = KnownEffects(gradient.T, own, chosen, pairs, shape)
    kind = "given" if given is not None else kind
    estimators = [FromKnownEffects(known, name) for name in known.names]
    calibrated = []
    if len(rows):
        known_labels = None if unit == "group" else run.labels
        parts = rows, truths, kind, gradient.T, shape, sizes, known_labels
        calibrated = [calibrate_estimators(estimators, *parts)]
    query = query.with_estimators([*estimators, *calibrated])
    query.plan = replace(plan, spent=time.perf_counter() - begun)
    return query


def unit_rows(examples: np.ndarray, n: int) -> np.ndarray:
    """Return the downweights that leave out one of some examples each, (examples, n)."""
    rows = np.zeros((len(examples), n))
    rows[np.arange(len(examples)), examples] = 1.0
    return rows


def differentiate_or_read(
    run: Training, function: Callable[..., Any], args: tuple[Any, ...], threads: int | None, path: Any
) -> tuple[Measured, np.ndarray, KeptArrays | None]:
    """Return a measurement, its derivatives (values, n), which a folder may have, and the folder, if there is one."""
    if path is None:
        return *differentiate_run(run, function, args, threads), None
    measured = Measured(run, np.zeros(run.n), flatten(run.train())[0], function, args)
    about = {"run": fingerprint_of(run), "measurement": digest(describe_circuit(measured.circuit)), "format": 1}
    kept = KeptArrays(path, about)
    gradient = kept.read("derivatives", (measured.values, run.n))
    if gradient is None:
        measured, gradient = differentiate_run(run, function, args, threads)
        kept.write("derivatives", gradient)
    else:
        measured.refuse_constant(gradient)
    return measured, gradient, kept


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
