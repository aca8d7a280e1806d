"""First-order effects of all examples by one reverse sweep, without a sketch: `influence`.

In: what is measured, of which run. Out: an `Influence`, or the estimator "first-order" of a query that has no
per-example series.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuitsketch.arguments import check_instance, is_int, quoted
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.influence import Influence, TreeInfluence
from circuitsketch.attribution.structure import Structure
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.errors import InputError
from circuitsketch.estimators.known_effects import FromKnownEffects, KnownEffects
from circuitsketch.limits import within_memory
from circuitsketch.propagate.coefficients import value_shape
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.reverse.measuring import Measured
from circuitsketch.reverse.metagradient import differentiate_run
from circuitsketch.training.training import Training


@within_memory("the influences", "fewer values at a time", "threads=1")
def influence(
    run: Training,
    function: Callable[..., Any],
    *args: Any,
    top: int = 10,
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> Influence:
    """Rank all examples by their first-order effect on a measurement, by one metagradient and without a sketch.

    Parameters
    ----------
    run : Training
        The training run.
    function : callable
        `function(params, *args)`, a measurement, as for `metagradient`.
    *args : object
        Passed to the function unchanged.
    top : int
        How many of the largest are listed when the result is printed.
    threads : int, optional
        The number of threads; by default all cores.
    progress : bool or callable, optional
        True for a progress bar, or a function of (steps done, steps), counted over all sweeps.

    Returns
    -------
    Influence
        The exact derivatives as changes, for every example. What orders above the first add is unknown, and so are the
        errors: they are infinite.

    Raises
    ------
    InputError, DivergenceError, DomainError
        As for `metagradient`.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> step = lambda s, x, keep: s * s + keep.sum() * x
    >>> run = cs.Training(step, np.zeros(()), [1.0, 2.0, 3.0], [[0], [1], [0]])
    >>> cs.influence(run, lambda s: s).change
    array([-15., -12.])
    """
    check_instance(run, "run", Training, "a cs.Training")
    if not is_int(top, 1):
        raise InputError(f"the number of examples to show is an int of at least 1, not {quoted(top)}")
    with show_progress(progress, task="influence", thing="step") as report:
        measured, estimator = differentiate_source(Source(function, args, run), threads, report)
    shape, structure = value_shape(measured.circuit), Structure.of(measured.circuit)
    result = Influence.of(
        estimator.influence(),
        measured.constancy,
        baseline=measured.baseline.reshape(shape) if shape else float(measured.baseline[0]),
        directions=0,
        shown=int(top),
        unit="example" if run.groups is None else "group",
        labels=run.labels,
        items=run.items,
    )
    return result if structure is None else TreeInfluence.packed(result, structure)


def differentiate_source(
    source: Source, threads: int | None = None, progress: Progress | None = None
) -> tuple[Measured, FromKnownEffects]:
    """Return a measurement and the estimator of its exact first order; raise what `metagradient` raises."""
    assert source.run is not None
    thread_count(threads, 1)
    measured, gradient, _ = differentiate_run(source.run, source.measure, source.args, threads, progress)
    known = KnownEffects.of_gradient(gradient.T, value_shape(measured.circuit))
    return measured, FromKnownEffects(known, "first-order")
