"""`metagradient`: the derivative of a measurement with respect to every example's weight, by reverse sweeps.

In: a run, a measurement, perhaps directions. Out: an array with an entry per example. The run is played forward once,
the measurement is differentiated at its end, and the derivatives are carried back to the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np

from circuitsketch.arguments import HIGHEST, check_executor, check_instance, check_int
from circuitsketch.arrays import check_dtype, finite_array, plain_array
from circuitsketch.backends.registry import check_device
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Given
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.limits import within_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import refuse_constant_run
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.reverse.cotangents import FinalCotangents
from circuitsketch.reverse.forward import Forward
from circuitsketch.reverse.measuring import Measured
from circuitsketch.reverse.projections import WithProjections
from circuitsketch.reverse.sweep import NotFiniteError
from circuitsketch.reverse.sweeps import Job, plan_job, sweep_directions, sweep_on_workers, sweep_values
from circuitsketch.training.health import check_series
from circuitsketch.training.kept_leaves import leaves_of_params
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten


@within_memory("the metagradient", "fewer values at a time", "fewer directions at a time", "threads=1")
def metagradient(
    run: Training,
    function: Callable[..., Any],
    *args: Any,
    directions: Any = None,
    order: int | None = None,
    at: Any = None,
    checkpoints: int | None = None,
    threads: int | None = None,
    dtype: Any = np.complex128,
    device: str = "cpu",
    progress: Progress | bool | None = None,
    executor: Executor | None = None,
) -> Any:
    """Compute the derivative of a measurement with respect to the downweight of every example.

    One reverse sweep through the training run gives the derivatives with respect to all n downweights, exactly, for the
    cost of a few trainings. Along directions it gives their Taylor coefficients.

    Parameters
    ----------
    run : Training
        The training run.
    function : callable
        `function(params, *args)`, a measurement: a NumPy function of the trained parameters that returns a number, an
        array, or a pytree of them. Several values share the work on the run: 16 cost much less than 16 sweeps.
    *args : object
        Passed to the function unchanged; they are not traced.
    directions : array_like, of shape (m, n), optional
        Directions in the space of downweights, real or complex, along which the derivatives are expanded.
    order : int, optional
        The highest Taylor coefficient along directions, at least 1; by default 1.
    at : (n,) array_like, optional
        The downweights at which the derivatives are taken; by default 0, the run as it was.
    checkpoints : int, optional
        The number of states that are kept on the way forward; the steps between two are played again, and all states
        between two are kept meanwhile. By default all states of the run are kept if they take up to 128 MB, else as
        many as make that suffice between two, at most the root of the number of steps. The result does not depend on
        the number.
    threads : int, optional
        The number of threads, which share values and directions; by default all cores.
    dtype : dtype
        complex128, or complex64 for coefficients 1, ..., order along directions in single precision.
    device : str
        "cpu"; there are no reverse sweeps on a GPU.
    progress : bool or callable, optional
        True for a progress bar, or a function of (steps done, steps), counted over all sweeps.
    executor : concurrent.futures.Executor, optional
        Workers that share the directions, such as those of `circuitsketch.executor`; the bits are the same. `threads`
        are then those of each worker, by default 1. Without directions there is one sweep, and nothing to share.

    Returns
    -------
    ndarray or pytree
        df/dw, of shape (*measurement, n); of a `grouped` run, n is the number of groups. With directions, the
        coefficients 0, ..., order of df/dw(at + z direction), of shape (directions, order + 1, *measurement, n), real
        along real directions, else complex: coefficient 1 along a real direction is the Hessian times that direction.
        For a measurement that returns a pytree, a pytree of such arrays.

    Raises
    ------
    InputError
        If an argument is invalid, the measurement does not depend on what the training changes, or memory is too small.
    DivergenceError
        If the training diverges, or a derivative overflows.
    DomainError
        If a gate of the run or of the measurement has no derivative there.
    WorkerError
        If a worker dies.

    Warns
    -----
    KinkWarning
        If a gate is on its kink; the derivative is then that of one side.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> step = lambda s, x, keep: s * s + keep.sum() * x
    >>> run = cs.Training(step, np.zeros(()), [1.0, 2.0, 3.0], [[0], [1], [0]])
    >>> cs.metagradient(run, lambda s: s)
    array([-15., -12.])
    >>> cs.metagradient(run, lambda s: s, directions=[[1.0, 0.0]])
    array([[[-15., -12.],
            [ 20.,   8.]]])
    """
    check_instance(run, "run", Training, "a cs.Training")
    if check_device(device) != "cpu":
        raise InputError(f"reverse-mode differentiation is not available on device {device!r}; use device='cpu'")
    thread_count(threads, 1)
    check_executor(executor)
    number = check_dtype(dtype)
    w = np.zeros(run.n) if at is None else check_weights(at, run.n)
    states = None if checkpoints is None else check_int(checkpoints, "checkpoints", 1)
    refuse_constant_run(run)
    if directions is None and executor is not None:
        raise InputError(
            "an executor's workers compute different directions, but there are no directions; pass directions=, or "
            "omit executor="
        )
    if directions is None and order is not None:
        raise InputError(
            "order, the highest order of the derivatives along directions, requires directions=; pass directions=, "
            "or omit order="
        )
    rows = None if directions is None else check_directions(directions, run.n)
    highest = 0 if rows is None else check_int(1 if order is None else order, "order", 1, HIGHEST)
    with show_progress(progress, task="metagradient", thing="step") as report:
        job = plan_job(run, w, states, threads, report, rows, highest, number)
        if rows is None:
            measured, result = differentiate(job, function, args)
            measured.refuse_constant(result)
            return measured.by_leaf(result, axis=0)
        measured, result = differentiate_along(job, function, args, rows, highest, number, executor)
        measured.refuse_constant(result[0, 0].real)
        return measured.by_leaf(result, axis=2)


def differentiate_run(
    run: Training,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    threads: int | None = None,
    progress: Progress | None = None,
    projections: Callable[[int], int] | None = None,
) -> tuple[Measured, np.ndarray, np.ndarray]:
    """Return a measurement of the plain run, its derivatives, (values, n), and those of random projections of the
    trained parameters, (projections, n); raise what `metagradient` raises.

    projections : returns how many for so many values; by default none.
    """
    refuse_constant_run(run)
    job = plan_job(run, np.zeros(run.n), None, threads, progress, None, 0, np.complex128)
    measured, result = differentiate(job, function, args, projections)
    gradient, moves = result[: measured.values], result[measured.values :]
    measured.refuse_constant(gradient)
    return measured, gradient, moves


def differentiate_run_along(
    run: Training,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    directions: np.ndarray,
    order: int,
    threads: int | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> np.ndarray:
    """Return the Taylor coefficients of the derivatives, (directions, order + 1, values, n), as `metagradient` does."""
    refuse_constant_run(run)
    job = plan_job(run, np.zeros(run.n), None, threads, progress, directions, order, np.complex128)
    measured, result = differentiate_along(job, function, args, directions, order, np.complex128, executor)
    measured.refuse_constant(result[0, 0].real)
    return result


def differentiate(
    job: Job, function: Callable[..., Any], args: tuple[Any, ...], projections: Callable[[int], int] | None = None
) -> tuple[Measured, np.ndarray]:
    """Return the measurement, and its derivatives followed by those of projections, (values + projections, n)."""
    run = job.run
    forward = Forward(run, run.executable(Mode(0)), job.w, job.segments)
    for _ in forward.advance():
        pass
    measured = Measured(run, job.w, forward.arena.get_state(), function, args)
    final = FinalCotangents(measured.circuit, run.varying(), measured.state)
    more = 0 if projections is None else projections(measured.values)
    ends = WithProjections(final, measured.values, leaves_of_params(run)) if more else final
    count = measured.values + more
    result = sweep_with_checks(job, Mode(1, complex=False), lambda: sweep_values(job, forward, ends, count))
    return measured, result


def differentiate_along(
    job: Job,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    rows: np.ndarray,
    order: int,
    dtype: Any,
    executor: Executor | None = None,
) -> tuple[Measured, np.ndarray]:
    """Return the measurement and the coefficients of its derivatives, (directions, order + 1, values, n)."""
    run, mode = job.run, Mode(order, np.iscomplexobj(rows))
    measured = Measured(run, job.w, flatten(run.train_with(job.w))[0], function, args)
    final = FinalCotangents(measured.circuit, run.varying(), measured.state)
    sweep = sweep_directions if executor is None else partial(sweep_on_workers, executor)
    result = sweep_with_checks(job, mode, lambda: sweep(job, final, measured.values, rows, order, dtype))
    return measured, result


def sweep_with_checks(job: Job, mode: Mode, sweep: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the result of sweeps; look at every gate of every step, as before a push, only if there is reason to.

    Raises
    ------
    DomainError : a gate has no derivative. DivergenceError : a coefficient or a cotangent overflows.
    """

    def check() -> None:
        check_series(job.run, job.run.executable(mode), job.w)

    try:
        result = sweep()
    except DivergenceError:
        check()
        raise
    except NotFiniteError:
        check()
        return repeat_at_edges(job, sweep)
    if job.suspects:
        check()
    return result


def repeat_at_edges(job: Job, sweep: Callable[[], np.ndarray]) -> np.ndarray:
    """Repeat sweeps whose cotangents were not finite, with the slope 0 at the edges of gates' domains.

    Raises
    ------
    DivergenceError : they still are not.
    """
    job.at_edges = True
    try:
        return sweep()
    except NotFiniteError as reason:
        raise reason.explain(job.run.steps) from None


def check_weights(at: Any, n: int) -> np.ndarray:
    """Return downweights as float64 (n,), or raise InputError."""
    w = finite_array(at, "at")
    if w.shape != (n,):
        raise InputError(f"at must have shape ({n},), one downweight per example, not {w.shape}")
    return w


def check_directions(directions: Any, n: int) -> np.ndarray:
    """Return directions as float64 or complex128 (directions, n), or raise InputError."""
    rows = plain_array(directions, "the array of directions")
    if rows.ndim != 2 or rows.shape[1] != n:
        raise InputError(f"directions must have shape (directions, {n}), not {rows.shape}")
    return Given(rows).vectors


__all__ = ["metagradient"]
