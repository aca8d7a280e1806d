"""Measure how fast the norms of a measurement's Taylor tensors decay with the order.

In: a sketch or a query. Out: `Decay`, an estimate per direction, as in the paper's Figure 1, and `TermBounds`, bounds
on the terms of deletions of several sizes, which show how many examples can be deleted before the terms stop decaying.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import microgpt


@dataclass(frozen=True, eq=False)
class Decay:
    """Estimates of the norms, one per direction, each direction with a measurement of its own.

    Attributes
    ----------
    n : int
        The number of examples.
    names : tuple of str
        Direction i measured the loss on name i, of D.
    orders : (R,) ndarray of int
        The orders r, from 1.
    each : (D, R) ndarray
        log2 of sqrt(C(n + r - 1, r)) |c_r(psi)|, whose mean square is ||F_r||^2.
    together : (R,) ndarray
        log2 of the root mean square over directions (and their measurements).
    """

    n: int
    names: tuple[str, ...]
    orders: np.ndarray
    each: np.ndarray
    together: np.ndarray


def measure_decay(sketch: cs.Sketch, names: Sequence[str]) -> Decay:
    """Measure the decay along each direction of a sketch of microgpt, direction i with the loss on names[i]."""
    orders = np.arange(1, sketch.order + 1)
    factors = np.array([sketch.distribution.log_factor(int(r)) for r in orders]) / 2
    each = np.empty((len(names), len(orders)))
    for i, name in enumerate(names):
        coefficients = sketch.coefficients(microgpt.loss, name)[i, 1:]
        with np.errstate(divide="ignore"):
            each[i] = (factors + np.log(np.abs(coefficients))) / math.log(2)
    together = (np.logaddexp2.reduce(2 * each, axis=0) - math.log2(len(names))) / 2
    return Decay(sketch.n, tuple(names), orders, each, together)


@dataclass(frozen=True, eq=False)
class TermBounds:
    """The measured norms, and the bounds that they put on the terms of a deletion.

    Attributes
    ----------
    measured : str
        The measurement, for labels.
    orders : (R,) ndarray of int
        The orders r, from 1.
    norms, stderr : (R,) ndarray
        ||F_r||, and its standard error.
    deleted : tuple of int
        Numbers d of deleted examples, of length K.
    terms : (K, R) ndarray
        ||F_r|| d^(r/2), an upper bound on term r without d examples.
    unit : str
        The unit of the measurement.
    of : str
        What is deleted, "example" or "group".
    """

    measured: str
    orders: np.ndarray
    norms: np.ndarray
    stderr: np.ndarray
    deleted: tuple[int, ...]
    terms: np.ndarray
    unit: str = "nats per token"
    of: str = "example"


def bound_terms(query: cs.Query, measured: str, deleted: Sequence[int], unit: str = "nats per token") -> TermBounds:
    """Bound each Taylor term for deletions of several sizes; norms of an array are over all its values.

    Parameters
    ----------
    query : Query
        The measurement.
    measured : str
        Its name, for labels.
    deleted : sequence of int
        Numbers of deleted examples.
    unit : str
        Its unit, for labels.

    Returns
    -------
    TermBounds
        The norms and the bounds.
    """
    stability = query.stability()
    flat, errors = (part.reshape(stability.order, -1) for part in (stability.norms, stability.stderr))
    norms = np.sqrt((flat**2).sum(axis=1))
    spread = np.sqrt(((flat * errors) ** 2).sum(axis=1))
    stderr = np.divide(spread, norms, out=np.zeros_like(norms), where=norms > 0)
    orders = np.arange(1, stability.order + 1)
    terms = np.array([norms * math.sqrt(d) ** orders for d in deleted])
    return TermBounds(measured, orders, norms, stderr, tuple(deleted), terms, unit, query.unit)
