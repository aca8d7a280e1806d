"""The ground truth: what a measurement is after retraining without subsets of the data.

In: a training run, subsets, a measured function. Out: measured values, from many retrainings at once (subsets as
lanes).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_callable, check_instance, check_picklable, check_tuple
from circuitsketch.attribution.influence import Influence
from circuitsketch.attribution.structure import number_of
from circuitsketch.backends.registry import lane_width
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.errors import InputError
from circuitsketch.frontends.remembered import traces_remembered
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten, unflatten
from circuitsketch.workers.distribution import worker_count

AT_ONCE = 256 << 20  # bytes of trained states


@dataclass(frozen=True, eq=False)
class Source:
    """What was measured: `measure(params, *args)`, of the parameters that a run trained; None if it is not at hand."""

    measure: Callable[..., Any]
    args: tuple[Any, ...] = ()
    run: Training | None = None

    def __getstate__(self) -> dict[str, Any]:
        check_picklable(self.measure, "the measurement")
        return self.__dict__

    def of_run(self, run: Training | None, n: int, name: str) -> Source:
        """Return the source with a run, or with its own if that is None; InputError unless it has n examples.

        name : the question that needs it, for the message.
        """
        if run is None:
            run = self.run
        if run is None:
            raise InputError(
                f"{name} retrains, and the sketch was opened without its run: give run=, or open it with "
                "cs.open_sketch(path, run)" + (", or give the truth= of each subset" if name == "evaluate" else "")
            )
        check_instance(run, "run", Training, "the cs.Training that was sketched")
        if run.n != n:
            raise InputError(f"the query is of {n} examples and the run of {run.n}; give the run that was sketched")
        return replace(self, run=run)

    def retrain(
        self,
        weights: np.ndarray,
        threads: int | None = None,
        device: str = "cpu",
        executor: Executor | None = None,
    ) -> np.ndarray:
        """Measure after retraining with each row of downweights: see `retrain_and_measure`."""
        assert self.run is not None
        return retrain_and_measure(self.run, weights, self.measure, self.args, threads, device, executor)


def retrain_and_measure(
    run: Training,
    weights: np.ndarray,
    measure: Callable[..., Any],
    args: tuple[Any, ...],
    threads: int | None,
    device: str = "cpu",
    executor: Executor | None = None,
) -> np.ndarray:
    """Measure after retraining with each row of downweights: (B, *measurement), of a pytree (B, numbers).

    Trained states are held for some subsets at a time, AT_ONCE bytes of them if that is enough for all threads.
    """
    check_instance(run, "run", Training, "the cs.Training that was sketched")
    check_callable(measure, "measure")
    args = check_tuple(args, "args")
    state_bytes = 8 * sum(leaf.size for leaf in run.state_leaves)
    together = max(AT_ONCE // max(state_bytes, 1), lane_width(False) * thread_count(threads, len(weights)))
    if executor is not None:
        together = max(together, 2 * lane_width(False) * (threads or 1) * worker_count(executor))
    rows: list[np.ndarray] = []
    for begin in range(0, len(weights), together):
        part = weights[begin : begin + together]
        leaves = flatten(run.retrain(part, threads, device=device, executor=executor))[0]
        with traces_remembered():
            for i in range(len(part)):
                trained = run.params(unflatten(run.state_tree, [leaf[i] for leaf in leaves]))
                rows.append(number_of(call(measure, "measure", trained, *args)))
    if len({row.shape for row in rows}) != 1:
        raise InputError("measure returns values of several shapes; let it return one number, or arrays of one shape")
    return np.stack(rows)


def ids_of_largest_errors(influence: Influence, count: int) -> np.ndarray:
    """Return the ids of the examples with the largest errors, by the norm over the values measured; without those that
    have no error."""
    flat = influence.flattened().stderr
    errors = np.linalg.norm(flat.reshape(len(flat), -1), axis=1)
    worst = np.argsort(-errors, kind="stable")[:count]
    return worst[errors[worst] > 0]
