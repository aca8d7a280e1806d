"""How far a page can be trusted: what its intervals were calibrated on, in words, and what predictions are worth.

In: the queries of a page and what was retrained. Out: a sentence, and figures per measurement, as JSON values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from circuitsketch.attribution.calibrate import format_sizes
from circuitsketch.attribution.query import Query
from circuitsketch.errors import CircuitSketchError
from circuitsketch.estimators.retrained_subsets import RetrainedSubsets, name_kind
from circuitsketch.page.retrained import Retrained

IDS_SHOWN = 5


def describe_trust(queries: Mapping[str, Query], retrained: Retrained, unit: str) -> dict[str, Any]:
    """Return what the intervals rest on, in a sentence, and per measurement how far predictions can be trusted."""
    drawn = next((describe_subsets(subsets, unit) for subsets in retrained.drawn.values()), "")
    checked = f"{len(retrained.checks)} checked here" if retrained.checks else ""
    on = " and ".join(part for part in (drawn, checked) if part)
    rows = [describe_worth(name, query) for name, query in queries.items()]
    calibrated = [row["name"] for row in rows if row["subsets"]]
    others = [row["name"] for row in rows if not row["subsets"]]
    of = f" of {', '.join(calibrated)}" if others else ""
    if not calibrated:
        sentence = "Not calibrated: intervals rest on what is known of the estimators' own errors."
    else:
        sentence = f"Intervals{of} are calibrated on {on}: each was retrained. They hold for subsets like these."
    if calibrated and others:
        sentence += f" Those of {', '.join(others)} rest on what is known of the estimators' own errors."
    lack = next((text for text in map(lack_of, queries.values()) if text), "")
    if lack:
        sentence += f" What {unit}s do together is fitted without knowing which of them are alike: that takes {lack}."
    if retrained.diverged:
        sentence += f" {describe_diverged(retrained.diverged, unit)}"
    return {"sentence": sentence, "rows": rows}


def lack_of(query: Query) -> str:
    """Return which memory a query's fit of interactions lacks, or nothing."""
    with suppress(CircuitSketchError):
        return query.fit.lack if query.interactions is not None else ""
    return ""


def describe_subsets(subsets: RetrainedSubsets, unit: str) -> str:
    """Return how many subsets were drawn, and of which kind and sizes."""
    kind = "" if subsets.kind == "given" else f"{name_kind(subsets.kind)} "
    kept = " that the sketch has kept" if subsets.is_kept else ""
    return f"{len(subsets.rows)} {kind}subsets of {format_sizes(subsets.sizes)} {unit}s{kept}"


def describe_diverged(diverged: tuple[tuple[int, ...], ...], unit: str) -> str:
    """Return which subsets were left out of the calibration, because training without them diverged.

    >>> describe_diverged(((1, 2),), "example")[:70]
    'Warning: 1 subset is left out, because training without it diverged (e'
    """
    count, first = len(diverged), diverged[0]
    ids = ", ".join(map(str, first[:IDS_SHOWN])) + (", ..." if len(first) > IDS_SHOWN else "")
    one = count == 1
    return (
        f"Warning: {count} subset{'' if one else 's'} {'is' if one else 'are'} left out, because training without "
        f"{'it' if one else 'them'} diverged ({'' if one else 'the first: '}{unit}s {ids}): nothing is known of such "
        "subsets."
    )


def describe_worth(name: str, query: Query) -> dict[str, Any]:
    """Return what predictions of one measurement are worth, and up to how many deletions; None where unknown."""
    row: dict[str, Any] = {"name": name, "subsets": 0, "estimators": None, "lds": None, "relative_error": None}
    if query.worth is not None:
        row |= query.worth.to_dict()
    row["reach"] = None
    with suppress(CircuitSketchError):  # no random directions, so that no decay was measured
        radius = float(np.min(query.stability().radius[0]))
        row["reach"] = int(min(radius**2, query.n)) if math.isfinite(radius) else None
    return row
