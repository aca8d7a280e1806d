"""Plan a sketch: how large it must be for an error and a probability, and what it costs.

In: how small an error, how surely, and perhaps a pilot's measurement; or the arguments of `sketch`; perhaps a run. Out:
a `Plan`. The constants are proved, for any function and any deletion, so they are large: a sketch's own error bars
usually say better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from circuitsketch.attribution.costs import price
from circuitsketch.attribution.plan_record import Plan
from circuitsketch.attribution.promises import check_positive, promise_of
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.validation import check_spec
from circuitsketch.errors import InputError
from circuitsketch.limits import within_memory
from circuitsketch.store.atomic_files import absolute_path
from circuitsketch.training.training import Training


@within_memory("the trial push", "seconds_per_gate=...")
def plan(
    epsilon: float | None = None,
    delta: float | None = None,
    alpha: float | None = None,
    *,
    query: Query | None = None,
    deleted: float | None = None,
    run: Training | None = None,
    directions: int | None = None,
    order: int | None = None,
    distribution: str | None = None,
    per_example: str | None = None,
    per_example_order: int | None = None,
    groups: Sequence[Any] | None = None,
    seconds_per_gate: float | None = None,
    keep: Any = None,
    dtype: Any = np.complex128,
    threads: int | None = None,
    path: Any = None,
) -> Plan:
    """Plan the cheapest sketch whose predictions err by at most epsilon alpha with probability 1 - delta, or estimate
    the cost of any sketch.

    Write a = alpha(4 |h|) = sup_r (4 |h|)^r ||F_r||, so that |h|^r ||F_r|| <= 4^-r a. For Gaussian directions Wick's
    formula gives E |Z_r|^2 <= C(2r, r) |h|^(2r) ||F_r||^2; directions of the sphere vary no more, since for rising
    factorials (n)_r^2 <= (n)_2r, and a real part no more than the number. Hence::

        truncation   sum_(r>s) |h|^r ||F_r|| <= a 4^-s / 3,
        one sample   sd <= a v(s),  v(s) = sum_(r=1..s) sqrt(C(2r, r)) 4^-r,
        one mean     is off by more than t a with probability p <= v(s)^2 / (m t^2), by Chebyshev,
        the median   of k means, k odd, is off by more only if (k + 1) / 2 of them are:
                     P(Bin(k, p) >= (k + 1) / 2) = I_p((k + 1) / 2, (k + 1) / 2), which is delta for one p(k).

    With t = epsilon - 4^-s / 3 that gives m = v(s)^2 / (p(k) t^2), rounded up. Of all s and k the plan takes those with
    the least k m s (s + 1): a product of series of order s takes 2 s (s + 1) real multiply-adds. The directions must be
    independent of each other, as those of the distributions "sphere" and "gaussian" are, and the prediction the
    theorem's: `query.without(..., estimator="theorem", median_groups=plan.median_groups)`.

    A pilot's norms are taken two standard errors larger than they were measured. Where (4 |h|)^r ||F_r|| still grows at
    its highest order, alpha is the largest of those that were measured, s is at most the pilot's order, and what is
    truncated is what |h|^r ||F_r|| adds up to above s, if it goes on as it was measured.

    Parameters
    ----------
    epsilon, delta : float, optional
        Above 0, delta below 1. Leave both out to estimate the cost of the sketch that the arguments describe.
    alpha : float, optional
        The stability function at 4 |h|, which is 4 sqrt(d) for d deletions; it scales the error alone. By default it is
        measured if `query` is given, else taken as 1, which the plan says.
    query : Query, optional
        The pilot: a measurement of a small sketch of the same run, of order 3 or 4 along a few dozen directions. Of
        several values the largest alpha counts.
    deleted : float, optional
        How many examples may be deleted at once (|h|^2 for other downweights); by default 1, and the errors of larger
        deletions are listed.
    run : Training, optional
        The run whose time and bytes are predicted: directions times size(A) times the rate, over the threads; single
        examples are real directions, which skip the steps before their example.
    directions, order, distribution : optional
        As for `sketch`; if epsilon is given, they follow from it.
    per_example, per_example_order, groups, keep, dtype, threads : optional
        As for `sketch`.
    path : path-like, optional
        A sketch on disk, finished or not, whose bytes and blocks are shown beside the plan.
    seconds_per_gate : float, optional
        The rate, of one core at this order, along a complex direction (single examples are then taken to cost what
        their multiply-adds do). By default it is measured: a few directions are pushed through the run's first steps
        for a third of a second, once its kernels are compiled.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        For an argument of the wrong type or range; for a pilot that tells no alpha: of order 1, of one direction, or
        whose norms do not fall for deletions of this size.

    Examples
    --------
    >>> import circuitsketch as cs
    >>> plan = cs.plan(0.1, 0.05)
    >>> plan.order, plan.median_groups, plan.per_group
    (2, 1, 820)
    """
    if run is not None and not isinstance(run, Training):
        raise InputError(f"run is a cs.Training, not a {type(run).__name__}")
    path = None if path is None else absolute_path(path)
    if (epsilon is None) != (delta is None):
        raise InputError("a promise takes both epsilon and delta; to price a sketch, leave out both")
    if epsilon is None or delta is None:
        refuse({"alpha": alpha, "query": query, "deleted": deleted}, "belongs to a promise; give epsilon and delta too")
        if run is None:
            raise InputError("give epsilon and delta, to plan a sketch, or run=, to price one")
        count, order = 512 if directions is None else directions, 3 if order is None else order
        chosen = "orthonormal" if distribution is None else distribution
        spec = check_spec(
            run, count, order, 0, chosen, per_example, per_example_order, groups, dtype, threads, "cpu", keep
        )
        promised = Plan(None, None, None, spec.order, spec.count, 1, None, None, distribution=chosen)
        return price(promised, spec, seconds_per_gate, path)
    refuse(
        {"directions": directions, "order": order, "distribution": distribution},
        "follows from epsilon and delta; leave it out, or leave out those to price a sketch",
    )
    epsilon, delta = check_positive("epsilon", epsilon), check_positive("delta", delta)
    alpha = None if alpha is None else check_positive("alpha", alpha)
    if delta >= 1:
        raise InputError(f"delta is {delta!r}; it is the probability of failure, below 1")
    if deleted is not None and query is None:
        raise InputError("deleted says where a pilot's alpha is taken; give query too")
    if query is not None and alpha is not None:
        raise InputError("alpha is given, or measured by query=; leave one of them out")
    if groups is not None and run is not None:
        run = run.grouped(groups)
    promised = promise_of(epsilon, delta, alpha, query, deleted, run)
    if run is None:
        refuse(
            {
                "seconds_per_gate": seconds_per_gate,
                "per_example": per_example,
                "groups": groups,
                "keep": keep,
                "path": path,
            },
            "is for the cost of a run; give run too",
        )
        return promised
    spec = check_spec(
        run,
        promised.directions,
        promised.order,
        0,
        "sphere",
        per_example,
        per_example_order,
        None,
        dtype,
        threads,
        "cpu",
        keep,
    )
    return price(promised, spec, seconds_per_gate, path)


def refuse(arguments: Mapping[str, Any], why: str) -> None:
    """Raise InputError for the first argument that is not None."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{name} {why}")
