"""The front door for one measurement and a budget: derivatives, retrained subsets, own effects, effects of pairs.

In: a training run, a measurement, how many trainings it may cost. Out: a `Query` whose answers have intervals, with
what was done for it and what that is worth on subsets that were left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_callable, check_executor, check_instance, check_int
from circuitsketch.arrays import plain_array
from circuitsketch.attribution.budget import (
    LANE,
    AttributionPlan,
    Tell,
    plan_attribution,
    sweep_cost,
    time_of_training,
)
from circuitsketch.attribution.calibrate import GIVEN
from circuitsketch.attribution.called_measurement import CalledMeasurement
from circuitsketch.attribution.costs import time_retraining
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.promises import check_positive
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.structure import Structure
from circuitsketch.attribution.subsets import draw_subsets, refuse_with_subsets
from circuitsketch.attribution.validation import parse_downweights
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.checks.dependence import Constancy
from circuitsketch.circuit import Circuit
from circuitsketch.directions import Sphere
from circuitsketch.errors import ConstantError, DivergenceError, DomainError, InputError, TraceError
from circuitsketch.estimators.calibrated import RetrainedSubsets, calibrate_estimators
from circuitsketch.estimators.calibration import MIN_SUBSETS
from circuitsketch.estimators.known_effects import (
    FromKnownEffects,
    KnownEffects,
    select_for_pairs,
    select_strongest_pairs,
)
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
        Of the subsets that are retrained, which should be such as will be asked about: "random", the default, or
        "label" for examples that share a label; their smallest and largest number. See `Query.calibrate`.
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
    unit = "example" if run.groups is None else "group"
    given = None
    if subsets is None:
        kind = "random" if kind is None else kind
    else:
        refuse_with_subsets(kind=kind, size=size)
        kind = GIVEN
        given = np.atleast_2d(parse_downweights(subsets, run.n, run.labels, run.items, unit=unit))
    source = Source(function, args, run)
    begun = time.perf_counter()
    first = differentiate_or_call(source, threads, path)
    gradient, kept, width = first.gradient, first.kept, len(first.baseline)
    picked = check_values(values, given, first.shape)
    plan = plan_attribution(run, width, budget, None if given is None else len(given), first.reason)
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
    if plan.own < run.n and gradient is not None:
        largest = np.argsort(-np.linalg.norm(gradient, axis=0), kind="stable")[: plan.own]
        order = order[np.isin(order, largest)]
    workers = threads if executor is None else worker_count(executor) * (threads or 1)
    seconds = time.perf_counter() - begun + time_retraining(run, len(rows) + plan.strongest, order, workers)
    if plan.pairs:
        seconds += plan.pairs * time_of_training(run) * sweep_cost(width) / thread_count(workers, plan.pairs)
    plan = replace(plan, seconds=seconds)
    if progress is True:
        print(plan, file=sys.stderr)
    if on_plan is not None:
        call(on_plan, "on_plan", plan)
    with show_progress(progress, task="attribute", thing="unit") as report:
        tell = Tell(report, plan)

        def retrain(weights: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
            measured, distances = measure_retrained(
                run,
                first.measurement,
                first.state,
                weights,
                count,
                threads=threads,
                progress=tell.part(LANE * count),
                kept=kept,
                executor=executor,
            )
            return measured - first.baseline, distances

        truths = retrain(lambda start, stop: rows[start:stop], len(rows))[0] if len(rows) else np.zeros((0, width))
        own, distances = np.full((run.n, width), np.nan), np.zeros(run.n)
        if plan.own:
            own[order], distances[order] = retrain(lambda start, stop: unit_rows(order[start:stop], run.n), plan.own)
        chosen, pairs = np.zeros(0, dtype=np.int64), np.zeros((0, width, run.n))
        if plan.pairs and gradient is not None:
            chosen = np.sort(select_for_pairs(own, distances)[: plan.pairs])
            pairs = np.zeros((len(chosen), width, run.n))
            position = {int(example): i for i, example in enumerate(chosen)}

            def keep(example: int, _: np.ndarray, there: np.ndarray) -> None:
                pairs[position[example]] = there - gradient
                if kept is not None:
                    kept.write(f"pairs-{example}", pairs[position[example]])

            absent = []
            for i, example in enumerate(chosen.tolist()):
                row = None if kept is None else kept.read(f"pairs-{example}", gradient.shape)
                if row is None:
                    absent.append(example)
                else:
                    pairs[i] = row
            leave_one_out(
                run,
                function,
                args,
                absent,
                threads=threads,
                progress=tell.part(sweep_cost(width) * len(chosen)),
                measured=first.measured,
                take=keep,
                executor=executor,
            )
        if plan.strongest:
            retrain_strongest(
                own,
                pairs,
                chosen,
                plan.strongest,
                lambda both: retrain(lambda start, stop: both[start:stop], len(both))[0],
            )
    if gradient is None:
        known = KnownEffects.of_own(None, own, first.shape)
    else:
        known = KnownEffects(gradient.T, own, chosen, pairs, first.shape)
    estimators = [FromKnownEffects(known, name) for name in known.names]
    calibrated = []
    if len(rows):
        known_labels = None if unit == "group" else run.labels
        lengths = (rows**2).sum(axis=1)
        sizes = sizes or (float(lengths.min()), float(lengths.max()))
        retrained = RetrainedSubsets(rows, truths, kind, sizes, values=picked)
        calibrated = [calibrate_estimators(estimators, retrained, known.gradient, first.shape, known_labels)]
    query = query_of(source, first, known.gradient, unit).with_estimators([*estimators, *calibrated])
    query.plan = replace(plan, spent=time.perf_counter() - begun)
    return query


def unit_rows(examples: np.ndarray, n: int) -> np.ndarray:
    """Return the downweights that leave out one of some examples each, (examples, n)."""
    rows = np.zeros((len(examples), n))
    rows[np.arange(len(examples)), examples] = 1.0
    return rows


def check_values(values: Any, given: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the value that each given subset was picked for, (subsets,), or raise InputError."""
    if values is None:
        return None
    if given is None or len(shape) != 1:
        raise InputError("values are of subsets that you give, and of a measurement with one axis; pass subsets=")
    picked = plain_array(values, "values")
    if picked.dtype.kind not in "iu" or picked.shape != (len(given),):
        raise InputError(f"values has dtype {picked.dtype} and shape {picked.shape}; pass {len(given)} integers")
    if picked.min() < 0 or picked.max() >= shape[0]:
        raise InputError(
            f"values are from 0 to {shape[0] - 1}, the values measured, not {picked.min()} to {picked.max()}"
        )
    return picked.astype(np.int64)


def retrain_strongest(
    own: np.ndarray,
    pairs: np.ndarray,
    chosen: np.ndarray,
    count: int,
    retrain: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Replace the strongest effects of pairs by what leaving out both changes beyond their own effects, in place."""
    both = select_strongest_pairs(own, pairs, chosen, count)
    weights = np.zeros((len(both), len(own)))
    np.put_along_axis(weights, both, 1.0, axis=1)
    beyond = retrain(weights) - own[both].sum(axis=1)
    position = {int(example): i for i, example in enumerate(chosen)}
    for pair, change in zip(both.tolist(), beyond, strict=True):
        for example, other in (pair, pair[::-1]):
            if example in position:
                pairs[position[example], :, other] = change


@dataclass(frozen=True, eq=False)
class Beginning:
    """What is known of a measurement before anything is retrained.

    Attributes
    ----------
    measurement : Circuit or CalledMeasurement
        How models are measured.
    state : list of ndarray
        The trained state, by leaf.
    baseline : ndarray, of shape (values,)
        What is measured of it.
    gradient : ndarray, of shape (values, n), or None
        The derivatives, where there are any.
    kept : KeptArrays or None
        Where finished work is kept.
    shape, structure, constancy :
        Of the measurement, as for `Query`.
    reason : str
        Why there are no derivatives.
    measured : Measured or None
        What was differentiated.
    """

    measurement: Circuit | CalledMeasurement
    state: Sequence[np.ndarray]
    baseline: np.ndarray
    gradient: np.ndarray | None
    kept: KeptArrays | None
    shape: tuple[int, ...]
    structure: Structure | None
    constancy: Constancy | None = None
    reason: str = ""
    measured: Measured | None = None


def differentiate_or_call(source: Source, threads: int | None, path: Any) -> Beginning:
    """Measure and differentiate; without derivatives, measure in NumPy. A folder may have the derivatives."""
    run = source.run
    assert run is not None

    def keep(measurement: str) -> KeptArrays:
        return KeptArrays(path, {"run": fingerprint_of(run), "measurement": measurement, "format": 2})

    try:
        if path is None:
            measured, gradient = differentiate_run(run, source.measure, source.args, threads)
            kept = None
        else:
            measured = Measured(run, np.zeros(run.n), flatten(run.train())[0], source.measure, source.args)
            kept = keep(digest(describe_circuit(measured.circuit)))
            known = kept.read("derivatives", (measured.values, run.n))
            if known is None:
                measured, known = differentiate_run(run, source.measure, source.args, threads)
                kept.write("derivatives", known)
            else:
                measured.refuse_constant(known)
            gradient = known
    except (ConstantError, TraceError, DomainError, DivergenceError) as reason:
        called = CalledMeasurement.of(source, reason)
        kept = None if path is None else keep(called.digest())
        return Beginning(
            called, called.state, called.baseline, None, kept, called.shape, called.structure, None, called.reason
        )
    circuit = measured.circuit
    return Beginning(
        circuit,
        measured.state,
        measured.baseline,
        gradient,
        kept,
        value_shape(circuit),
        Structure.of(circuit),
        measured.constancy,
        measured=measured,
    )


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
