"""How fast a measurement's Taylor tensors decay: a sketch in, norms by order out.

`decay_of` looks at every direction alone, as the paper's Figure 1 does; `trust_of` holds the norms against the sizes of
deletions, which says how many examples may be deleted before the terms stop to decay. Drawing is left to `pictures`.
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
    """What each direction says of the norms, for a measurement of its own.

    Attributes
    ----------
    n : examples of the run. names : (D,), whose loss direction i was measured with. orders : (R,).
    each : (D, R), log2 of sqrt(C(n + r - 1, r)) |c_r(psi)|, whose mean square is ||F_r||^2.
    together : (R,), log2 of the root of the mean square over directions (and their measurements).
    """

    n: int
    names: tuple[str, ...]
    orders: np.ndarray
    each: np.ndarray
    together: np.ndarray


def decay_of(sketch: cs.Sketch, names: Sequence[str]) -> Decay:
    """The decay along each direction of a sketch of microgpt, direction i measured by the loss on names[i]."""
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
class Trust:
    """The measured norms, and what they mean for deletions.

    Attributes
    ----------
    measured : words for the measurement. orders : (R,). norms, stderr : (R,), ||F_r|| with errors.
    deleted : (K,) numbers of examples; terms : (K, R), ||F_r|| d^(r/2), the most that term r can be without d examples.
    unit : of the measurement. of : what goes, an example or a group.
    """

    measured: str
    orders: np.ndarray
    norms: np.ndarray
    stderr: np.ndarray
    deleted: tuple[int, ...]
    terms: np.ndarray
    unit: str = "nats a token"
    of: str = "example"


def trust_of(query: cs.Query, measured: str, deleted: Sequence[int], unit: str = "nats a token") -> Trust:
    """The norms of a query's Taylor tensors beside the lengths of deletions; of several values those of all together.

    unit : of the measurement, in words.
    """
    found = query.stability()
    flat, errors = (part.reshape(found.order, -1) for part in (found.norms, found.stderr))
    norms = np.sqrt((flat**2).sum(axis=1))
    spread = np.sqrt(((flat * errors) ** 2).sum(axis=1))
    stderr = np.divide(spread, norms, out=np.zeros_like(norms), where=norms > 0)
    orders = np.arange(1, found.order + 1)
    terms = np.array([norms * math.sqrt(d) ** orders for d in deleted])
    return Trust(measured, orders, norms, stderr, tuple(deleted), terms, unit, query.unit)
