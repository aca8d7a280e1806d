"""What a sketch is, as plain values for JSON: its parts, its run, where it lies. In words it is `Sketch.info`."""

from __future__ import annotations

from typing import Any

from circuitsketch.deletion.description import trained
from circuitsketch.deletion.sketch import Sketch


def facts_of(sketch: Sketch) -> dict[str, Any]:
    """Numbers and names; None for what a sketch has not.

    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> facts = facts_of(cs.sketch(run, directions=2, order=1))
    >>> facts["directions"], facts["examples"], facts["singles_order"]
    (2, 2, None)
    """
    steps, size, prints = trained(sketch)
    labels = sketch.labels if sketch.groups is None else None
    return {
        "path": sketch.path,
        "target": sketch.origin,
        "directions": sketch.count,
        "law": sketch.law.name,
        "seed": sketch.law.seed,
        "order": sketch.order,
        "singles_order": None if sketch.singles is None else sketch.singles.order,
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
