"""Estimates with a change, an error, and something to say, and deletions, for tests of what widens the error."""

from __future__ import annotations

import numpy as np

from circuitsketch.estimators.interface import Estimate

N = 100


def rows_of(*sizes):
    rows = np.zeros((len(sizes), N))
    for row, size in zip(rows, sizes, strict=True):
        row[:size] = 1.0
    return rows


def estimate(change, stderr, outside=False, doubts=("outside",), warnings=("noisy",), notes=("kinks",)):
    shape = np.shape(change)
    return Estimate(
        change=np.asarray(change, dtype=float),
        stderr=np.broadcast_to(stderr, shape).copy(),
        terms=np.asarray(change)[None],
        term_stderr=np.zeros((1, *shape)),
        truncation=np.zeros(shape),
        degrees_of_freedom=np.full(shape, 1e6),
        outside=np.broadcast_to(outside, shape).copy(),
        doubts=doubts,
        warnings=warnings,
        notes=notes,
    )
