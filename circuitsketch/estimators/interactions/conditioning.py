"""What somebody already knows beside the sketch: models retrained without some subsets, series along other directions.

In: real h's with the truth, or with Taylor coefficients along them. Out: the interactions at any h, updated: a
Gaussian posterior again, with the covariances that the directions left. Each piece is a sum of orders seen at its h:
a coefficient of order r sees O_r, a retraining sees all orders and whatever else the predictions leave out, so that
a subset which was retrained is afterwards predicted as it came out. What an example's own series leaves out is its own
and no other's: an example retrained alone tells it for every subset that it is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.arrays import plain_array
from circuitsketch.errors import InputError
from circuitsketch.estimators.interactions.posterior import Interactions, Points
from circuitsketch.estimators.own_effects import TAIL, Parts, parts_of
from circuitsketch.estimators.own_series import cut_series

JITTER = 1e-8  # of the variance of each piece: keeps equal pieces apart
NOTHING, SMALLEST = 1e-20, 1e-250  # variances below this share of the largest one, or below this, count as this


@dataclass(frozen=True, eq=False)
class Evidence:
    """K pieces: h (K, n), orders (K,) the order that a piece sees, or 0 for the whole change; values (K, C).

    values: the whole change f(h) - f(0), or F_r(h, ..., h).
    """

    h: np.ndarray
    orders: np.ndarray
    values: np.ndarray

    def also(self, other: Evidence) -> Evidence:
        """Both."""
        pairs = ((self.h, other.h), (self.orders, other.orders), (self.values, other.values))
        return Evidence(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, eq=False)
class Updated:
    """Evidence, weighed once a query: parts at its h's, the inverse of its covariance (C, K, K), what it says
    (C, K)."""

    evidence: Evidence
    model: Interactions
    parts: Parts
    points: Points
    inverse: np.ndarray
    solved: np.ndarray

    def update(self, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
        """Means (R - 1, B, C) and the whole variance (B, C) at the h's of `parts`, given the evidence."""
        at = self.model.points(parts.h)
        each, rest = covariances(self.model, self.evidence, (self.parts, self.points), (parts, at))
        means = parts.means + np.einsum("rbkc,ck->rbc", each, self.solved)
        means[0] += np.einsum("bkc,ck->bc", rest, self.solved)
        total = each.sum(axis=0) + rest
        known = np.einsum("bkc,ckl,blc->bc", total, self.inverse, total, optimize=True)
        prior = (parts.deviations**2).sum(axis=0) + parts.rest**2
        return means, np.maximum(prior - known, 0)


def evidence_of(h: np.ndarray, baseline: np.ndarray, values: Any, coefficients: Any, last: int) -> Evidence:
    """Pieces at h's (K, n), from values (K, *measurement) or coefficients (K, order + 1, *measurement): see
    `Query.with_evidence`. last: the highest order of interactions that was fitted."""
    if (values is None) == (coefficients is None):
        raise InputError("give either values= of retrained models, or coefficients= along the directions")
    given = plain_array(values if coefficients is None else coefficients, "the evidence")
    shape = baseline.shape
    if coefficients is not None and given.ndim < 2:
        raise InputError(f"coefficients along {len(h)} directions have shape {given.shape}; give ({len(h)}, order + 1)")
    wanted = (len(h), *shape) if coefficients is None else (len(h), *given.shape[1:2], *shape)
    if given.shape != wanted or given.dtype.kind not in "iuf" or not np.isfinite(given).all():
        raise InputError(
            f"evidence of shape {given.shape} and dtype {given.dtype}; give finite real numbers of shape {wanted}"
        )
    if coefficients is None:
        return Evidence(h, np.zeros(len(h), dtype=np.int64), given.reshape(len(h), -1) - np.ravel(baseline))
    orders = np.arange(2, min(last, given.shape[1] - 1) + 1)
    if not orders.size:
        raise InputError("coefficients to order 1 tell nothing of interactions; push these directions to order 2")
    flat = np.moveaxis(given[:, orders].reshape(len(h), len(orders), -1), 1, 0)
    return Evidence(np.tile(h, (len(orders), 1)), np.repeat(orders, len(h)), flat.reshape(-1, flat.shape[2]))


def weigh(evidence: Evidence, model: Interactions, per_example: np.ndarray, order: int) -> Updated:
    """Compare the evidence with what is predicted without it."""
    parts = parts_of(per_example, model, evidence.h, "interactions", order)
    points = model.points(evidence.h)
    each, rest = covariances(model, evidence, (parts, points), (parts, points))
    whole = evidence.orders == 0
    rows = np.where(whole, parts.own.sum(axis=0).T + parts.means.sum(axis=0).T, 0.0).T
    for r in range(1, order + 1):
        own = parts.own[r - 1] if r <= len(parts.own) else 0.0
        mean = parts.means[r - 2] if 2 <= r <= len(parts.means) + 1 else 0.0
        rows = np.where((evidence.orders == r)[:, None], own + mean, rows)
    seen = np.stack([whole | (evidence.orders == r + 2) for r in range(len(each))])
    matrix = np.einsum("rb,rbkc->ckb", seen, each).transpose(0, 2, 1)
    matrix = matrix + np.moveaxis(rest * whole[:, None, None], 2, 0)
    matrix = (matrix + matrix.transpose(0, 2, 1)) / 2
    own = np.einsum("ckk->ck", matrix)
    own = np.maximum(own, np.maximum(NOTHING * own.max(axis=1, keepdims=True), SMALLEST))
    matrix = matrix + JITTER * own[:, :, None] * np.eye(len(whole))
    inverse = np.linalg.inv(matrix)
    solved = np.einsum("ckl,lc->ck", inverse, evidence.values - rows)
    return Updated(evidence, model, parts, points, inverse, solved)


def covariances(
    model: Interactions, evidence: Evidence, known: tuple[Parts, Points], asked: tuple[Parts, Points]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each order (R - 1, B, K, C), and of all the rest (B, K, C), between h's and pieces of evidence.

    Of the rest, of deviation `Parts.rest`, the tails of the examples' own series are the same where the same examples
    go; what is left is taken to be as alike at two h's as the square of their cosine in the similarity.
    """
    (pieces, there), (parts, here) = known, asked
    whole = evidence.orders == 0
    found = np.zeros((len(parts.means), len(here.h), len(whole), parts.rest.shape[1]))
    for i, fit in enumerate(model.orders[: len(found)]):
        seen = (whole | (evidence.orders == fit.r)).astype(np.float64)
        weights = parts.factors[i][:, None] * (pieces.factors[i] * seen)
        found[i] = weights[:, :, None] * model.covariance(fit, here, there)
    sizes = [np.sqrt(np.maximum(at.square, np.finfo(float).tiny)) for at in (here, there)]
    alike = np.clip(here.through @ there.h.T / np.outer(*sizes), -1, 1) ** 2
    tails = (TAIL * cut_series(model.per_example).tail) ** 2
    others = [np.sqrt(np.maximum(at.rest**2 - at.h**2 @ tails, 0)) for at in (parts, pieces)]
    same = np.einsum("bi,ki,ic->bkc", here.h, there.h, tails, optimize=True)
    return found, (same + alike[:, :, None] * others[0][:, None] * others[1][None]) * whole[:, None]
