"""What each example changes, and what it changes in what every other one does: metagradients of the models without it.

In: a run, a measurement, examples. Out: for each of them the measurement of the model that never saw it, and the
derivatives of that measurement with respect to all downweights there. Less the plain run's they are the effects of
pairs: to all orders in the example that is left out, and to first order in the other. Nothing in them is a series, so
that they hold on runs whose series diverge or have kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from circuitsketch.autodiff import evaluate
from circuitsketch.backends.scheduler import run_cooperatively, thread_count
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.progress import Progress
from circuitsketch.reverse.cotangents import FinalCotangents
from circuitsketch.reverse.forward import Forward
from circuitsketch.reverse.measuring import Measured
from circuitsketch.reverse.sweeps import plan_job, sweep_blocks
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten


def leave_one_out(
    run: Training,
    function: Callable[..., Any],
    args: tuple[Any, ...] = (),
    examples: Sequence[int] | None = None,
    *,
    weight: float = 1.0,
    threads: int | None = None,
    progress: Progress | None = None,
    measured: Measured | None = None,
    take: Callable[[int, np.ndarray, np.ndarray], None],
) -> Measured:
    """Differentiate a measurement of the models that were trained without one example each.

    Parameters
    ----------
    run : Training
    function, args :
        The measurement, `function(params, *args)`.
    examples : sequence of int, optional
        The examples to leave out, one at a time; by default all.
    weight : float
        The downweight of the example that is left out: 1 deletes it.
    threads : int, optional
        The number of threads, which share the examples; by default all cores.
    progress : callable, optional
        Called with (examples done, examples).
    measured : Measured, optional
        The measurement of the plain run, if it was traced before.
    take : callable
        Called with an example, the measurement of its model (values,), and the derivatives there (values, n). Several
        threads may call at once.

    Returns
    -------
    Measured
        The measurement of the plain run.

    Raises
    ------
    InputError, DomainError, DivergenceError
        As for `metagradient`.
    """
    wanted = list(range(run.n)) if examples is None else [int(example) for example in examples]
    zeros = np.zeros(run.n)
    if measured is None:
        measured = Measured(run, zeros, flatten(run.train_with(zeros))[0], function, args)
    final = FinalCotangents(measured.circuit, run.varying(), measured.state)
    workers = thread_count(threads, max(len(wanted), 1))
    plan = plan_job(run, zeros, None, workers, None, None, 0, np.complex128, workers)
    done, lock = [0], Lock()

    def differentiate(some: Sequence[int]) -> Iterator[None]:
        for example in some:
            w = np.zeros(run.n)
            w[example] = weight
            job = replace(plan, w=w, threads=1)
            forward = Forward(run, run.executable(Mode(0)), w, plan.segments)
            yield from (None for _ in forward.advance())
            state = forward.arena.get_state()
            result = np.zeros((measured.values, run.n))
            for _ in sweep_blocks(job, forward, final.at(state), measured.values, result):
                yield
            values = np.concatenate([np.ravel(leaf) for leaf in evaluate(measured.circuit, state)])
            take(example, values, result)
            with lock:
                done[0] += 1
                if progress is not None:
                    progress(done[0], len(wanted))

    if wanted:
        run_cooperatively(differentiate, wanted, 1, threads)
    return measured
