"""Comparisons with retraining for a query that does not know what it was measured from.

In: a query, the run and the function. Out: what `Query.evaluate` and `Query.retrain_worst` return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuitsketch.arguments import check_callable, check_instance, check_tuple
from circuitsketch.attribution.evaluation import Evaluation
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.query import Query
from circuitsketch.errors import InputError
from circuitsketch.training.training import Training


def evaluate(
    query: Query,
    subsets: Any,
    *,
    run: Training | None = None,
    measure: Callable[..., Any] | None = None,
    args: tuple[Any, ...] = (),
    **options: Any,
) -> Evaluation:
    """Compare a query's predictions with retraining; `query.evaluate(subsets)` if it was measured from a sketch.

    Parameters
    ----------
    query : Query
        The measurement.
    subsets : list of ids, masks or downweights, or 2-D array
        At least two subsets.
    run, measure, args : optional
        The training run and the measured function, `measure(params, *args)`; by default those that the query knows.
    **options
        Of `Query.evaluate`: truth, threads, dtype, device, seed, estimator, order, median_groups.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> step = lambda s, x, keep: s + keep.sum() * x
    >>> run = cs.Training(step, np.zeros(()), [1.0, 10.0, 2.0], [[0], [1], [2]])
    >>> sketch = cs.sketch(run, directions=3, order=1)
    >>> query = cs.Query(sketch.coefficients(lambda s: s), sketch.distribution)
    >>> round(cs.evaluate(query, [[0], [1], [0, 2]], run=run, measure=lambda s: s).rmse, 6)
    0.0
    """
    return with_source(query, run, measure, args).evaluate(subsets, run=run, **options)


def retrain_worst(
    query: Query,
    *,
    run: Training | None = None,
    measure: Callable[..., Any] | None = None,
    args: tuple[Any, ...] = (),
    **options: Any,
) -> Query:
    """Retrain without the few examples whose own series leaves out most; `query.retrain_worst()` if it was measured.

    Parameters
    ----------
    query : Query
        With random directions of order 2 and per-example series.
    run, measure, args : optional
        The training run and the measured function, `measure(params, *args)`; by default those that the query knows.
    **options
        Of `Query.retrain_worst`: count, threads, device.

    Returns
    -------
    Query
    """
    known = with_source(query, run, measure, args)
    updated = known.retrain_worst(run=run, **options)
    return query if updated is known else updated


def with_source(query: Query, run: Training | None, measure: Callable[..., Any] | None, args: tuple[Any, ...]) -> Query:
    """Return the query, measured from a function of a run, if one is given."""
    check_instance(query, "query", Query, "a measurement of a sketch, as `sketch.measure` gives")
    if run is not None:
        check_instance(run, "run", Training, "the cs.Training that was sketched")
    args = check_tuple(args, "args")
    if measure is None:
        if args:
            raise InputError("args are passed to measure; give measure= too")
        return query
    if run is None and query.source is not None:
        run = query.source.run
    return query.with_source(Source(check_callable(measure, "measure"), args, run))
