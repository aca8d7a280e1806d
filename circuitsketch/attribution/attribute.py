"""The front door for one measurement and a budget: derivatives, retrained subsets, own effects, effects of pairs.

In: a training run, a measurement, how many trainings it may cost. Out: a `Query` whose answers have intervals, with
what was done for it and what that is worth on subsets that were left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_callable, check_choice, check_executor, check_instance, check_int
from circuitsketch.arrays import check_real_dtype, plain_array
from circuitsketch.attribution.alike_subsets import draw_mixed, first_different
from circuitsketch.attribution.beginning import Beginning, differentiate_or_call
from circuitsketch.attribution.budget import (
    ENOUGH,
    FEWEST,
    LANE,
    AttributionPlan,
    Tell,
    choose_projections,
    plan_attribution,
    sweep_cost,
    time_of_training,
)
from circuitsketch.attribution.calibrate import take_given
from circuitsketch.attribution.costs import time_retraining
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.planned_work import PlannedWork, order_own
from circuitsketch.attribution.promises import check_positive
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.subsets import KINDS, MIXED, draw_subsets, refuse_with_subsets
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Sphere
from circuitsketch.errors import InputError
from circuitsketch.estimators.alikeness import Alikeness
from circuitsketch.estimators.calibrated import calibrate_estimators
from circuitsketch.estimators.calibration import MIN_SUBSETS
from circuitsketch.estimators.interface import Estimator
from circuitsketch.estimators.known_effects import FromKnownEffects
from circuitsketch.estimators.retrained_subsets import RetrainedSubsets
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.training.training import Training
from circuitsketch.workers.distribution import worker_count


@within_memory("the attribution", "a smaller budget", "fewer values")
def attribute(
    run: Training,
    function: Callable[..., Any],
    *args: Any,
    budget: float = 200,
    kind: str | None = None,
    size: Any = None,
    subsets: Any = None,
    values: Any = None,
    threads: int | None = None,
    progress: Progress | bool | None = None,
    on_plan: Callable[[AttributionPlan], None] | None = None,
    dtype: Any = np.float64,
    path: Any = None,
    executor: Executor | None = None,
    seed: int = 0,
) -> Query:
    """Predict a measurement after deleting data, as well as a budget allows.

    The budget buys, in this order: the derivatives with respect to every example's weight, by a reverse sweep; a few
    dozen retrained subsets, which say what the estimators are worth and give them intervals; every example's own
    effect, by training without it; the effects of pairs with the examples that matter most; and retraining without each
    of the strongest pairs.

    Without derivatives (of a count such as accuracy, a measurement that sorts or draws a line, a run that has none) it
    buys every example's own effect and retrained subsets, and says so in the plan and in every answer.

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
        Of the subsets that are retrained, which should be such as will be asked about: "mixed", half of them random
        and half of examples that act alike, the default where the budget pays it; "random"; or "label" for examples
        that share a label. Their smallest and largest number. See `Query.calibrate`.
    subsets : optional
        The subsets to retrain, in the forms of `Query.without`, instead of `kind` and `size`.
    values : array_like of int, of shape (subsets,), optional
        The number of the value that each subset was picked for, of a measurement with one axis. Answers about a value
        and a subset that is picked for it, as a user's own data are for a prediction about that user, are then
        calibrated on such pairs, all values together: where every value is calibrated on all subsets, most of these
        hardly matter to it, and intervals are too narrow for one that does.
    threads : int, optional
        The number of threads; by default all cores.
    progress : bool or callable, optional
        True prints the plan and draws a progress bar; or a function of (units done, units).
    on_plan : callable, optional
        Called with the plan, an `AttributionPlan`, before anything is retrained.
    dtype : {float64, float32}
        The precision of the retraining. float32 takes about half the time for the same budget; its rounding is measured
        on a few subsets that are retrained in float64 too, and is part of all errors and intervals. Derivatives are
        float64 in any case.
    path : str or path, optional
        A folder to keep finished work in, and what takes long while it lasts. The same call with the same folder
        resumes after an interruption, to the same bits, and a larger budget builds on what is there.
    executor : concurrent.futures.Executor, optional
        Workers that share the retrainings and the sweeps of pairs, such as those of `circuitsketch.executor`; the bits
        are the same. `threads` are then those of each worker, by default 1.
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
        If an argument is invalid, or the budget too small; it says what is needed.
    DivergenceError
        If the training diverges.
    TraceError, DomainError
        If there are no derivatives, and the function cannot be called on trained parameters in NumPy either.
    StoreError
        If the folder has the work of another run or measurement, or cannot be read or written.
    WorkerError
        If a worker dies.

    Warns
    -----
    RoundingWarning
        If dtype is float32, and its rounding is not small against the effects.

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
    check_executor(executor)
    precision = check_real_dtype(dtype).name
    unit = "example" if run.groups is None else "group"
    given = None
    if subsets is not None:
        refuse_with_subsets(kind=kind, size=size)
        given = take_given(subsets, run.n, run.labels, run.items, unit)
    source = Source(function, args, run)
    begun = time.perf_counter()
    if kind is not None:
        check_choice(kind, "kind", KINDS)
    draws_mixed = given is None and kind in (None, MIXED)
    first = differentiate_or_call(
        source, threads, path, (lambda values: choose_projections(run, values, budget)) if draws_mixed else None
    )
    moves = first.moves
    picked = check_values(values, given, first.shape)
    count = None if given is None else len(given.rows)
    projections = 0 if moves is None else moves.shape[1]
    plan = plan_attribution(run, len(first.baseline), budget, count, first.reason, projections)
    plan = replace(plan, dtype=precision)
    require_memory(plan.nbytes, f"the effects of {plan.pairs:,} examples on {run.n:,} others", ["a smaller budget"])
    chosen, alikeness = given, None
    if chosen is None:
        chosen, alikeness = draw_planned(run, plan, kind, size, seed, first)
        saved = plan.subsets - len(chosen.rows)
        plan = replace(plan, subsets=len(chosen.rows), trainings=plan.trainings - LANE * saved)
    alone = order_own(run, plan, first.gradient)
    workers = threads if executor is None else worker_count(executor) * (threads or 1)
    plan = replace(plan, seconds=time.perf_counter() - begun + time_plan(run, plan, alone, workers))
    if progress is True:
        print(plan, file=sys.stderr)
    if on_plan is not None:
        call(on_plan, "on_plan", plan)
    with show_progress(progress, task="attribute", thing="unit") as report:
        work = PlannedWork(source, run, first, plan, Tell(report, plan), threads, executor)
        changes = work.retrain_subsets(chosen.rows)
        known = work.measure_effects(alone)
    retrained = replace(chosen, changes=changes, values=picked, dtype=precision)
    estimators: list[Estimator] = [FromKnownEffects(known, name) for name in known.names]
    if len(chosen.rows):
        labels = None if unit == "group" else run.labels
        estimators.append(calibrate_estimators(estimators, retrained, known.gradient, first.shape, labels, alikeness))
    query = query_of(source, first, known.gradient, unit).with_estimators(estimators)
    query.plan = replace(plan, spent=time.perf_counter() - begun)
    query.moves = lambda: moves
    return query


def draw_planned(
    run: Training, plan: AttributionPlan, kind: str | None, size: Any, seed: int, first: Beginning
) -> tuple[RetrainedSubsets, Alikeness | None]:
    """Draw the subsets that a plan pays for, fewer where there are not so many, with nothing known of their changes."""
    smallest = 2 if plan.own == run.n else 1
    if first.moves is not None and first.gradient is not None:
        labels = run.labels if run.groups is None else None
        rows, sizes, alikeness, kind = draw_mixed(
            first.moves, first.gradient.T, labels, size, plan.subsets, seed, smallest
        )
    elif kind == MIXED:
        raise InputError(
            f"kind={kind!r} needs derivatives, and {FEWEST} projections of the parameters beside {ENOUGH} subsets; "
            "pass a larger budget, or kind='random'"
        )
    else:
        alikeness, kind = None, "random" if kind is None else kind
        rows, sizes = draw_subsets(run.n, run.labels, kind, size, plan.subsets, seed, smallest)
    rows = first_different(rows, len(rows))  # few groups have few subsets
    if len(rows) < MIN_SUBSETS and plan.own == run.n:
        rows = rows[:0]  # too few to calibrate on, and single groups are exact without
    return RetrainedSubsets.before_retraining(rows, kind, sizes), alikeness


def time_plan(run: Training, plan: AttributionPlan, examples: np.ndarray, workers: int | None) -> float:
    """Return the seconds that a plan takes after its first order; its examples are left out alone in that order."""
    seconds = time_retraining(run, plan.subsets + plan.strongest, examples, workers, plan.dtype)
    if plan.pairs:
        seconds += plan.pairs * time_of_training(run) * sweep_cost(plan.values) / thread_count(workers, plan.pairs)
    return seconds


def check_values(values: Any, given: RetrainedSubsets | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the value that each given subset was picked for, (subsets,), or raise InputError."""
    if values is None:
        return None
    if given is None or len(shape) != 1:
        raise InputError("values are of subsets that you give, and of a measurement with one axis; pass subsets=")
    picked = plain_array(values, "values")
    if picked.dtype.kind not in "iu" or picked.shape != (len(given.rows),):
        raise InputError(f"values has dtype {picked.dtype} and shape {picked.shape}; pass {len(given.rows)} integers")
    if picked.min() < 0 or picked.max() >= shape[0]:
        raise InputError(
            f"values are from 0 to {shape[0] - 1}, the values measured, not {picked.min()} to {picked.max()}"
        )
    return picked.astype(np.int64)


def query_of(source: Source, first: Beginning, gradient: np.ndarray, unit: str) -> Query:
    """Return a query of first-order effects (n, values), about a run's examples."""
    run = source.run
    assert run is not None
    series = np.stack([np.broadcast_to(first.baseline, gradient.shape), gradient], axis=1)
    return Query(
        np.zeros((0, 2, *first.shape)),
        Sphere(run.n),
        per_example=series.reshape(run.n, 2, *first.shape),
        labels=run.labels,
        items=run.items,
        unit=unit,
        structure=first.structure,
        constancy=first.constancy,
        source=source,
    )
