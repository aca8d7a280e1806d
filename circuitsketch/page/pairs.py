"""The pairs inside a subset that matter: what two examples do together beyond what each does alone.

In: a query, a subset. Out: pairs with their effects and errors, the largest first. The effect of a pair is
f(without both) - f(without one) - f(without the other) + f.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from circuitsketch.attribution.query import Query
from circuitsketch.errors import CircuitSketchError

CONSIDERED = 20  # examples of a subset, those of the largest effect alone: 190 pairs
LISTED = 8
NO_PAIRS = (
    "Nothing is known of pairs: that takes a sketch of random directions of order 2 or more with per-example series, "
    "or cs.attribute with a larger budget."
)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of one subset.

    Attributes
    ----------
    ids : ndarray of int, of shape (P, 2)
    effects, stderr : ndarray, of shape (P, C)
        For C values; `stderr` is of the interaction alone, infinite where it is unknown.
    sums : ndarray, of shape (P, C)
        What the two do alone, added up: a pair with an effect of the same sign is redundant (each makes up for the
        other), one of the other sign complementary.
    note : str
        What a reader must know; why there are none.
    """

    ids: np.ndarray
    effects: np.ndarray
    stderr: np.ndarray
    sums: np.ndarray
    note: str = ""

    def largest(self, value: int) -> list[dict[str, object]]:
        """Return the pairs that matter most for one value, as JSON values."""
        order = np.argsort(-np.abs(self.effects[:, value]), kind="stable")[:LISTED]
        rows = []
        for i in order:
            effect, error = self.effects[i, value], self.stderr[i, value]
            if effect == 0:
                continue
            kind = "redundant" if effect * self.sums[i, value] > 0 else "complementary"
            known = float(error) if np.isfinite(error) else None
            rows.append({"ids": self.ids[i].tolist(), "effect": float(effect), "stderr": known, "kind": kind})
        return rows


def measure_pairs(query: Query, ids: np.ndarray, effects: np.ndarray) -> Pairs:
    """Estimate the effects of the pairs of a subset.

    Parameters
    ----------
    query : Query
    ids : ndarray of int
        The subset.
    effects : ndarray, of shape (n, C)
        The effects of all examples alone, by which the first `CONSIDERED` are chosen.
    """
    count = effects.shape[1]
    nothing = np.zeros((0, count))
    empty = Pairs(np.zeros((0, 2), dtype=np.int64), nothing, nothing, nothing, NO_PAIRS)
    name = next((name for name in ("pairs", "interactions") if name in query.estimators), None)
    if name is None or (name == "interactions" and query.interactions is None):
        return empty
    chosen = np.sort(ids[np.argsort(-np.abs(effects[ids]).max(axis=1), kind="stable")][:CONSIDERED])
    note = f"Only the {CONSIDERED} with the largest effects alone are looked at." if len(ids) > CONSIDERED else ""
    if len(chosen) < 2:
        return Pairs(empty.ids, nothing, nothing, nothing, "A pair takes two examples.")
    among = np.array(list(combinations(range(len(chosen)), 2)))
    rows = np.zeros((len(chosen) + len(among), query.n))
    rows[np.arange(len(chosen)), chosen] = 1.0
    for side in (0, 1):
        rows[len(chosen) + np.arange(len(among)), chosen[among[:, side]]] = 1.0
    try:
        estimate = query.estimators[name].predict(rows)
    except CircuitSketchError as reason:
        return Pairs(empty.ids, nothing, nothing, nothing, str(reason))
    change, variance = estimate.change.reshape(len(rows), -1), estimate.stderr.reshape(len(rows), -1) ** 2
    single, both = change[: len(chosen)], change[len(chosen) :]
    sums = single[among[:, 0]] + single[among[:, 1]]
    if np.isinf(variance).any():
        stderr = np.full_like(both, np.inf)
    else:
        errors = variance[len(chosen) :] - variance[among[:, 0]] - variance[among[:, 1]]
        stderr = np.sqrt(np.maximum(errors, 0.0))
    return Pairs(chosen[among], both - sums, stderr, sums, note)
