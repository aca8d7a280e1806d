"""What each example changes, and what it changes in what every other one does: metagradients of the models without it.

In: a run, a measurement, examples. Out: for each of them the measurement of the model that never saw it, and the
derivatives of that measurement with respect to all downweights there. Less the plain run's they are the effects of
pairs: to all orders in the example that is left out, and to first order in the other. Nothing in them is a series, so
that they hold on runs whose series diverge or have kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from circuitsketch.autodiff import evaluate
from circuitsketch.backends.scheduler import run_cooperatively, thread_count
from circuitsketch.circuit import Circuit
from circuitsketch.gates import cells
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.progress import Progress
from circuitsketch.reverse.cotangents import FinalCotangents
from circuitsketch.reverse.forward import Forward
from circuitsketch.reverse.measuring import Measured
from circuitsketch.reverse.sweep import NotFiniteError
from circuitsketch.reverse.sweeps import plan_job, sweep_blocks
from circuitsketch.training.training import Training
from circuitsketch.tree import LEAF, flatten
from circuitsketch.workers.distribution import distribute, group_for_workers


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
    executor: Executor | None = None,
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
    executor : Executor, optional
        Workers that share the examples.

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
    count, done = len(wanted), [0]

    def take_and_count(example: int, values: np.ndarray, derivatives: np.ndarray) -> None:
        take(example, values, derivatives)
        with lock:
            done[0] += 1
            if progress is not None:
                progress(done[0], count)

    lock = Lock()
    if executor is None:
        differentiate_each(run, final, measured.circuit, wanted, weight, threads, take_and_count)
        return measured
    flat = replace(measured.circuit, in_tree=LEAF, out_tree=LEAF)
    tasks = ((list(group), weight, threads or 1) for group in group_for_workers(wanted, threads or 1, executor))
    nbytes = 8 * (threads or 1) * measured.values * run.n
    for results in distribute(executor, differentiate_task, [run.for_workers(), final, flat], tasks, nbytes):
        for result in results:
            take_and_count(*result)
    return measured


def differentiate_each(
    run: Training,
    final: FinalCotangents,
    circuit: Circuit,
    examples: Sequence[int],
    weight: float,
    threads: int | None,
    take: Callable[[int, np.ndarray, np.ndarray], None],
) -> None:
    """Differentiate a measurement of the models without one example each; `take` gets the results."""
    count = sum(cells(circuit.nodes[wire].shape) for wire in circuit.outputs)
    workers = thread_count(threads, max(len(examples), 1))
    plan = plan_job(run, np.zeros(run.n), None, workers, None, None, 0, np.complex128, workers)

    def differentiate_one(example: int, at_edges: bool) -> Iterator[None]:
        w = np.zeros(run.n)
        w[example] = weight
        job = replace(plan, w=w, threads=1, at_edges=at_edges)
        forward = Forward(run, run.executable(Mode(0)), w, plan.segments)
        yield from (None for _ in forward.advance())
        state = forward.arena.get_state()
        result = np.zeros((count, run.n))
        for _ in sweep_blocks(job, forward, final.at(state), count, result):
            yield
        values = np.concatenate([np.ravel(leaf) for leaf in evaluate(circuit, state)])
        take(example, values, result)

    def differentiate(some: Sequence[int]) -> Iterator[None]:
        for example in some:
            try:
                yield from differentiate_one(example, at_edges=False)
            except NotFiniteError:  # without the example, a mean square under a root is zero, and has no slope
                try:
                    yield from differentiate_one(example, at_edges=True)
                except NotFiniteError as reason:
                    raise reason.explain(run.steps) from None

    if examples:
        run_cooperatively(differentiate, examples, 1, threads)


def differentiate_task(
    run: Training, final: FinalCotangents, circuit: Circuit, examples: list[int], weight: float, threads: int
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Differentiate for some examples, as a task of a worker."""
    results: list[tuple[int, np.ndarray, np.ndarray]] = []
    differentiate_each(run, final, circuit, examples, weight, threads, lambda *result: results.append(result))
    return results
