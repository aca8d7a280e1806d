"""What retraining says: the measurement without subsets of the data, and a query that knows a few such truths.

In: a training run, subsets, a measured function. Out: truths, from many retrainings at once (subsets as lanes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_callable, check_instance, check_tuple, is_int, quoted
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.structure import number_of
from circuitsketch.backends.registry import check_device, lane_width
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.errors import InputError
from circuitsketch.limits import within_memory
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten, unflatten

AT_ONCE = 256 << 20  # bytes of trained states


@within_memory("retraining", "a smaller count", "threads=1")
def retrain_worst(
    query: Query,
    *,
    run: Training,
    measure: Callable[..., Any],
    args: tuple[Any, ...] = (),
    count: int = 16,
    threads: int | None = None,
    device: str = "cpu",
) -> Query:
    """Retrain without each of the few examples whose own series leaves out most, and take in what comes out.

    Each is one training, and all are done at once. On a small GPT with 1,000 names, sixteen of them make predictions
    of random subsets as good as the summed effects of 1,000 examples that were each retrained without
    (bench/README.md): the series of the first few names, which the optimiser saw before it had averaged much, converge
    slowly.

    Parameters
    ----------
    query : with random directions of order 2 and per_example="series". run, measure, args : what it is of: the training run
        and the measured function, `measure(params, *args)`.
    count : how many examples, at most. threads, device : of the retraining, as for `Training.retrain`.

    Returns
    -------
    The query `with_evidence` of these examples; itself where every example's series has ended.

    Raises
    ------
    InputError : a count below 1, a run of another length, a measurement of another shape; as `Query.with_evidence`.
    DeviceError : there is no such device.

    >>> import numpy as np, circuitsketch as cs
    >>> step = lambda s, x, keep: s + np.tanh(keep.sum() * x - s)
    >>> run = cs.Training(step, np.zeros(()), [1.0, 2.0, 0.5], [[0], [1], [2]])
    >>> query = cs.sketch(run, directions=3, order=2, per_example="series").measure(lambda s: s)
    >>> known = cs.retrain_worst(query, run=run, measure=lambda s: s, count=1)
    >>> truth = float(run.retrain(without=[1]))
    >>> [round(abs(q.without([1]).value - truth), 3) for q in (query, known)]
    [0.577, 0.0]
    """
    check_device(device)
    check_instance(query, "query", Query, "a measurement of a sketch, as `sketch.measure` gives")
    check_instance(run, "run", Training, "the cs.Training that was sketched")
    if not is_int(count, 1):
        raise InputError(f"the number of examples to retrain without is an int of at least 1, not {quoted(count)}")
    if run.n != query.n:
        raise InputError(f"the query is of {query.n} examples and the run of {run.n}; give the run that was sketched")
    if query.interactions is None:
        raise InputError("a sketch with random directions of order 2 and per_example='series' can take in retrainings")
    worst = worst_of(query, count)
    if not worst.size:
        return query
    alone = np.eye(query.n)[worst]
    truth = retrained(run, alone, measure, args, threads, device)
    if truth.shape[1:] != query.shape:
        raise InputError(
            f"the measurement has the shape {truth.shape[1:]} and the query's {query.shape}: measure the same function"
        )
    return query.with_evidence(alone, truth)


def worst_of(query: Query, count: int) -> np.ndarray:
    """The ids of the examples whose own series leaves out most, by the norm over the values measured; those whose
    series has ended are not among them."""
    errors = np.linalg.norm(query.influence().flattened().stderr.reshape(query.n, -1), axis=1)
    worst = np.argsort(-errors, kind="stable")[:count]
    return worst[errors[worst] > 0]


def retrained(
    run: Training,
    weights: np.ndarray,
    measure: Callable[..., Any],
    args: tuple[Any, ...],
    threads: int | None,
    device: str = "cpu",
) -> np.ndarray:
    """The measurement after retraining with each row of downweights: (B, *measurement), of a pytree (B, numbers).

    Trained states are held for some subsets at a time, AT_ONCE bytes of them where that is enough for all threads.
    """
    check_instance(run, "run", Training, "the cs.Training that was sketched")
    check_callable(measure, "measure")
    args = check_tuple(args, "args")
    one = 8 * sum(leaf.size for leaf in run.state_leaves)
    together = max(AT_ONCE // max(one, 1), lane_width(False) * thread_count(threads, len(weights)))
    rows: list[np.ndarray] = []
    for begin in range(0, len(weights), together):
        part = weights[begin : begin + together]
        leaves, tree = flatten(run.params(run.retrain(part, threads, device=device)))
        for i in range(len(part)):
            trained = unflatten(tree, [np.asarray(leaf)[i] for leaf in leaves])
            rows.append(number_of(call(measure, "measure", trained, *args)))
    if len({row.shape for row in rows}) != 1:
        raise InputError("measure returns values of several shapes; let it return one number, or arrays of one shape")
    return np.stack(rows)


__all__ = ["retrain_worst", "retrained", "worst_of"]
