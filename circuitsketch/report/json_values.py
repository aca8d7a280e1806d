"""Convert sketches, influences and stabilities to values for JSON; `tables` formats the same records as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.attribution.description import facts_of_run
from circuitsketch.attribution.influence import Influence
from circuitsketch.attribution.sketch import Sketch
from circuitsketch.attribution.stability import Stability


def describe_sketch(sketch: Sketch) -> dict[str, Any]:
    """Describe a sketch: its directions, its run, its path; None for what it does not have. As text: `Sketch.info`.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> facts = describe_sketch(cs.sketch(run, directions=2, order=1))
    >>> facts["directions"], facts["examples"], facts["per_example_order"]
    (2, 2, None)
    """
    steps, size, prints = facts_of_run(sketch)
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
        "kept": sketch.first_part.kept_names,
        "bytes": sketch.nbytes,
        "fingerprint": dict(prints),
    }


def describe_influence(
    influence: Influence, items: Sequence[Any] | None, labels: Sequence[Any] | None
) -> dict[str, Any]:
    """Describe the largest influences, with the items and labels of their examples."""
    influence, known = influence.flattened(), {"item": items, "label": labels}
    return {
        f"{influence.unit}s": len(influence.change),
        "baseline": to_json(influence.baseline),
        "order": influence.order,
        "directions": influence.directions,
        "estimator": influence.estimator,
        "top": [
            {"id": int(i)}
            | {name: to_json_label(values[i]) for name, values in known.items() if values is not None}
            | {"change": to_json(influence.change[i]), "stderr": to_json(influence.stderr[i])}
            for i in influence.top()
        ],
        "warnings": list(influence.warnings),
    }


def describe_stability(stability: Stability) -> dict[str, Any]:
    """Describe the norms of the orders and their decay, each with its standard error."""
    pairs = {"rate": stability.rate, "radius": stability.radius}
    return {
        "order": stability.order,
        "directions": stability.directions,
        "norms": to_json(stability.norms),
        "stderr": to_json(stability.stderr),
        **{name: {"value": to_json(value), "stderr": to_json(error)} for name, (value, error) in pairs.items()},
        "warnings": list(stability.warnings),
    }


def to_json_label(value: Any) -> Any:
    """Return a label or an item as a JSON value."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def to_json(value: Any) -> Any:
    """Convert a value to JSON values: arrays to lists, numbers that are not finite to None.

    Examples
    --------
    >>> to_json({"norms": np.array([1.0, np.nan]), "rate": np.float64(2.0)})
    {'norms': [1.0, None], 'rate': 2.0}
    """
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
