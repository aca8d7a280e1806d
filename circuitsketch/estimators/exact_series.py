"""The exact series along given directions: coefficients, and h's that are multiples of a direction, in; terms out."""

from __future__ import annotations

import numpy as np

from circuitsketch.errors import InputError
from circuitsketch.estimators import monte_carlo

PARALLEL = 1e-12  # |h - t psi| / |h| below which h counts as a multiple of psi: some thousand roundings


def series_terms(coefficients: np.ndarray, own: np.ndarray, wanted: np.ndarray, order: int) -> np.ndarray:
    """The terms (order, B, *measurement) of the exact series, for h's (B, n) along given directions (m, n).

    InputError: an h that is a multiple of none.
    """
    squares = (own.real**2 + own.imag**2).sum(axis=1)
    squares[squares == 0] = np.inf
    peak = np.abs(wanted).max(axis=1, keepdims=True)  # so that no square leaves the floats
    peak[peak == 0] = 1
    wanted = wanted / peak
    inner = (wanted @ own.T).conj()
    nearest = np.argmax(np.abs(inner) / np.sqrt(squares), axis=1)
    chosen = own[nearest]
    factors = np.take_along_axis(inner, nearest[:, None], axis=1)[:, 0] / squares[nearest]
    off = np.linalg.norm(wanted - factors[:, None] * chosen, axis=1)
    stray = np.flatnonzero(off > PARALLEL * np.linalg.norm(wanted, axis=1))
    if stray.size:
        which = f"h number {stray[0]}" if len(wanted) > 1 else "h"
        raise InputError(
            f"{which} is no multiple of a given direction, and only along those is the series known: "
            "make a sketch with a random distribution (sphere, gaussian, orthonormal) to ask about any h"
        )
    return monte_carlo.series(coefficients[nearest, : order + 1], factors * peak[:, 0])


def influence(coefficients: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The change for every h = e_i, (n, *measurement), along given directions that are multiples of unit vectors."""
    n, order = own.shape[1], coefficients.shape[1] - 1
    found = []
    for part in monte_carlo.blocks_of(n, n + coefficients.size):
        rows = np.arange(part.start, part.stop)
        basis = np.zeros((len(rows), n))
        basis[np.arange(len(rows)), rows] = 1
        found.append(series_terms(coefficients, own, basis, order).sum(axis=0))
    return np.concatenate(found)
