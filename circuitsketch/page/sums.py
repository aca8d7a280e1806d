"""Single examples' effects, summed: the estimator of a page without a server, whose script computes the same numbers.

In: a query. Out: the effects of its examples by order, and a query that answers by their sums alone, calibrated where
retrained subsets are at hand.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from circuitsketch.attribution.query import Query
from circuitsketch.errors import InputError
from circuitsketch.estimators.calibrated import Calibrated
from circuitsketch.estimators.fitted_weights import POWERS, Fits
from circuitsketch.estimators.interface import Effects, Estimate
from circuitsketch.estimators.known_effects import FromKnownEffects
from circuitsketch.estimators.own_series import cut_series
from circuitsketch.estimators.unlike_subsets import CHANGE_MARGIN
from circuitsketch.page.retrained import Retrained
from circuitsketch.page.values import Value, columns_of

PARTS = ("first-order", "per-example")  # the estimators that a page's script knows, in this order
UNKNOWN_ERROR = "nothing is known of the error of a sum: no subsets were retrained to compare it with"


@dataclass(frozen=True, eq=False)
class SummedEffects:
    """The estimator that sums single examples' effects; of its errors nothing is known.

    Attributes
    ----------
    terms : ndarray, of shape (R, n, C)
        What each example does alone at each order: term r counts with the r-th power of its downweight.
    exact : ndarray of bool, of shape (n,)
        Which examples were retrained alone.
    shape : tuple of int
        Of the measurement, of C values.
    """

    terms: np.ndarray
    exact: np.ndarray
    shape: tuple[int, ...]
    name: str = "per-example"
    working_bytes: int = field(default=0, repr=False)

    def predict(self, h: np.ndarray, order: int | None = None, median_groups: int | None = None) -> Estimate:
        """Estimate the change for h of shape (n,) or (B, n)."""
        rows = np.atleast_2d(h)
        terms = np.stack([rows ** (r + 1) @ term for r, term in enumerate(self.terms[:order])])
        change = terms.sum(axis=0)
        one = (np.count_nonzero(rows, axis=1) == 1) & ((rows == 0) | ((rows == 1) & self.exact)).all(axis=1)
        stderr = np.where((one | ~rows.any(axis=1))[:, None], 0.0, np.full_like(change, np.inf))

        def shaped(values: np.ndarray) -> np.ndarray:
            values = values.reshape(*values.shape[:-1], *self.shape)
            return values.take(0, axis=values.ndim - len(self.shape) - 1) if np.ndim(h) == 1 else values

        return Estimate(
            change=shaped(change),
            stderr=shaped(stderr),
            terms=shaped(terms),
            term_stderr=shaped(np.zeros_like(terms)),
            truncation=shaped(np.full_like(change, np.nan)),
            outside=shaped(np.zeros(change.shape, dtype=bool)),
            estimator=self.name,
            warnings=() if np.all(stderr == 0) else (UNKNOWN_ERROR,),
            words="single examples' effects, summed",
        )

    def influence(self) -> Effects:
        """Return the sums of all orders; exact where an example was retrained alone."""
        change = self.terms.sum(axis=0)
        stderr = np.where(self.exact[:, None], 0.0, np.full_like(change, np.inf))
        shape = len(change), *self.shape
        return Effects(change.reshape(shape), stderr.reshape(shape), len(self.terms), self.name)


def sum_effects(query: Query) -> SummedEffects:
    """Return the effects of single examples that a query knows.

    Raises
    ------
    InputError
        If it knows none, and its run is not at hand.
    """
    for name in ("pairs", "per-example", "first-order"):
        part = query.estimators.get(name)
        if isinstance(part, SummedEffects):
            return part
        if isinstance(part, FromKnownEffects):
            known = part.known
            exact = np.isfinite(known.own).all(axis=1) & (name != "first-order")
            orders = [known.gradient] if name == "first-order" else [known.gradient, known.curvature]
            return SummedEffects(np.stack(orders), exact, query.shape)
    none = np.zeros(query.n, dtype=bool)
    if query.per_example is not None:
        series = cut_series(query.measurement.flat_per_example).terms[:, 1:]
        return SummedEffects(np.moveaxis(series, 1, 0), none, query.shape)
    if query.knows_run:
        return SummedEffects(columns_of(query.first_order.influence().change, 1)[None], none, query.shape)
    raise InputError(
        "a page without a server sums single examples' effects, and this sketch has none: make it with --per-example, "
        "or give the run with --run"
    )


def sum_query(query: Query, name: str, values: list[Value], retrained: Retrained) -> Query:
    """Return a query that answers by sums alone, weighed by what was retrained."""
    effects = sum_effects(query)
    first = SummedEffects(effects.terms[:1], effects.exact & (len(effects.terms) == 1), effects.shape, "first-order")
    summed = copy(query.with_estimators([first, effects] if len(effects.terms) > 1 else [first]))
    summed.checks = None  # a calibration takes their place
    summed.moves = lambda: None  # and is one for all subsets
    return retrained.calibrate({name: summed}, values)[name]


def describe_sums(query: Query, name: str) -> dict[str, Any]:
    """Return what the script of a page needs to answer as a query of `sum_query` does."""
    effects = sum_effects(query)
    gradient = effects.terms[0]
    scales = np.sqrt((gradient**2).mean(axis=0))
    calibrated = query.estimators.get("calibrated")
    return {
        "name": name,
        "baselines": np.ravel(query.first_value).tolist(),
        "terms": [[short(column) for column in term.T] for term in effects.terms],
        "exact": effects.exact.astype(int).tolist(),
        "scales": np.where(scales > 0, scales, 1.0).tolist(),
        "calibration": describe_calibration(calibrated) if isinstance(calibrated, Calibrated) else None,
    }


def describe_calibration(calibrated: Calibrated) -> dict[str, Any]:
    """Return the weights, scores and bounds of a calibration as JSON values."""
    calibration = calibrated.calibration
    fits = [describe_fit(calibration.fits[0].pick(slice(f, f + 1))) for f in range(len(calibration.fits[0]))]
    overlap = calibrated.overlap if calibration.learns else None
    return {
        "level": 0.95,
        "powers": list(POWERS),
        "fit": fits[0],
        "leftOut": fits[1:],
        "subsets": None if overlap is None else [np.flatnonzero(row).tolist() for row in overlap.rows],
        "scores": calibration.scores.tolist(),
        "sizes": list(calibrated.retrained.sizes),
        "coherence": calibrated.coherence if np.isfinite(calibrated.coherence) else None,
        "largest": np.abs(calibration.truths).max(axis=0).tolist(),
        "margin": CHANGE_MARGIN,
    }


def describe_fit(fit: Fits) -> dict[str, Any]:
    """Return one fit as JSON values; nothing per size or subset where nothing was learned."""
    described: dict[str, Any] = {name: getattr(fit, name)[0].tolist() for name in ("weights", "best", "scale")}
    if fit.per_size is not None:
        described["perSize"] = fit.per_size[0].tolist()
    if fit.shares is not None and fit.shares.any():
        described["shares"] = [short(column) for column in fit.shares[0].T]
    return described


def short(values: np.ndarray) -> list[float]:
    """Return numbers with nine digits, 0 without a point, to keep a file small.

    >>> short(np.array([1 / 3, 0.0]))
    [0.333333333, 0]
    """
    return [float(f"{x:.9g}") if x else 0 for x in values.tolist()]
