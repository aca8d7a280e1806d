"""The answer of one measurement about one subset: its values with intervals, curves, terms and pairs, as JSON values.

In: a query, the ids of a subset. Out: `Answer`. What an answer rests on is left to the query's estimators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.attribution.formatting import to_json
from circuitsketch.attribution.query import Query
from circuitsketch.page.pairs import measure_pairs
from circuitsketch.page.values import columns_of

LEVEL = 0.95  # of the intervals
STRENGTHS = np.linspace(0.0, 1.0, 13)  # the abscissae of a curve
EXPLAINING = ("interactions", "pairs", "per-example", "first-order", "theorem", "series")  # best first


@dataclass(frozen=True, eq=False)
class Answer:
    """What one query says of a subset.

    Attributes
    ----------
    values : list of dict
        One per value: "value", "change", "low", "high", "outside", "curve", "terms" and "pairs".
    warnings : sequence of str
        Sentences that a reader of the values must know.
    words : str
        What the prediction rests on.
    pair_note : str
        What a reader of the pairs must know.
    """

    values: list[dict[str, Any]]
    warnings: Sequence[str]
    words: str
    pair_note: str


def predict_query(query: Query, ids: list[int], effects: np.ndarray) -> Answer:
    """Predict the C values of a query without a subset.

    Parameters
    ----------
    query : Query
    ids : list of int
        The subset, at least one example.
    effects : ndarray, of shape (n, C)
        The effects of all examples alone, by which the pairs to look at are chosen.
    """
    h = np.zeros(query.n)
    h[ids] = 1.0
    prediction = query.predict(h).flattened()
    value, change, low, high = (
        columns_of(part, 0) for part in (prediction.value, prediction.change, *prediction.interval(LEVEL))
    )
    along = query.predict(np.outer(STRENGTHS[1:], h)).flattened()
    curve = [columns_of(part, 1) for part in (along.value, *along.interval(LEVEL))]
    best = prediction
    if explaining(query) != query.estimator:
        best = query.predict(h, estimator=explaining(query)).flattened()
    terms, errors = columns_of(best.terms, 1), columns_of(best.term_stderr, 1)
    outside, pairs = columns_of(prediction.outside, 0), measure_pairs(query, np.array(ids), effects)
    values = []
    for column, baseline in enumerate(np.ravel(query.first_value).tolist()):
        values.append(
            {
                "value": to_json(value[column]),
                "change": to_json(change[column]),
                "low": to_json(low[column]),
                "high": to_json(high[column]),
                "outside": int(outside[column]),
                "curve": {
                    key: [baseline, *to_json(part[:, column])]
                    for key, part in zip(("value", "low", "high"), curve, strict=True)
                },
                "terms": [
                    {"order": r + 1, "term": to_json(term), "stderr": to_json(error)}
                    for r, (term, error) in enumerate(zip(terms[:, column], errors[:, column], strict=True))
                ],
                "pairs": pairs.largest(column),
            }
        )
    words = "; ".join([str(prediction).splitlines()[0].removeprefix("prediction, "), *prediction.notes])
    return Answer(values, prediction.warnings, words, pairs.note)


def explaining(query: Query) -> str | None:
    """Return the estimator whose terms explain a prediction: the best one that is not itself a weighed sum."""
    return next((name for name in EXPLAINING if name in query.estimators), None)
