"""What a sketch is, and what it says of its examples, as plain values for JSON; `tables` shows the same to people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.attribution.description import trained
from circuitsketch.attribution.prediction import Influence, Stability
from circuitsketch.attribution.sketch import Sketch


def facts_of(sketch: Sketch) -> dict[str, Any]:
    """Its parts, its run, where it lies; None for what a sketch has not. In words it is `Sketch.info`.

    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> facts = facts_of(cs.sketch(run, directions=2, order=1))
    >>> facts["directions"], facts["examples"], facts["per_example_order"]
    (2, 2, None)
    """
    steps, size, prints = trained(sketch)
    labels = sketch.labels if sketch.groups is None else None
    return {
        "path": sketch.path,
        "target": sketch.origin,
        "directions": sketch.count,
        "distribution": sketch.distribution.name,
        "seed": sketch.distribution.seed,
        "order": sketch.order,
        "per_example_order": None if sketch.per_example is None else sketch.per_example.order,
        "dtype": "complex64" if sketch.target.single else "complex128",
        "examples": sketch.n if sketch.groups is None else len(sketch.groups),
        "groups": None if sketch.groups is None else sketch.n,
        "labels": None if labels is None else len(set(labels)),
        "items": sketch.items is not None and sketch.groups is None,
        "steps": steps,
        "size": size,
        "bytes": sketch.nbytes,
        "fingerprint": dict(prints),
    }


def facts_of_influence(found: Influence, items: Sequence[Any] | None, labels: Sequence[Any] | None) -> dict[str, Any]:
    """The largest influences with what is known of their examples."""
    found, known = found.flattened(), {"item": items, "label": labels}
    return {
        f"{found.unit}s": len(found.change),
        "baseline": plain(found.baseline),
        "order": found.order,
        "directions": found.directions,
        "estimator": found.estimator,
        "top": [
            {"id": int(i)}
            | {name: spelled(values[i]) for name, values in known.items() if values is not None}
            | {"change": plain(found.change[i]), "stderr": plain(found.stderr[i])}
            for i in found.top()
        ],
        "warnings": list(found.warnings),
    }


def facts_of_stability(found: Stability) -> dict[str, Any]:
    """The norms of the orders and how they fall, each with its error."""
    pairs = {"rate": found.rate, "radius": found.radius}
    return {
        "order": found.order,
        "directions": found.directions,
        "norms": plain(found.norms),
        "stderr": plain(found.stderr),
        **{name: {"value": plain(value), "stderr": plain(error)} for name, (value, error) in pairs.items()},
        "warnings": list(found.warnings),
    }


def spelled(value: Any) -> Any:
    """A label or an item as JSON can hold it."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def plain(value: Any) -> Any:
    """What JSON can say of a value: arrays as lists, None for what is not finite.

    >>> plain({"norms": np.array([1.0, np.nan]), "rate": np.float64(2.0)})
    {'norms': [1.0, None], 'rate': 2.0}
    """
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
