"""The fit of one order: what `fitting` makes, and `posterior` and `sparse_batches` predict from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class OneOrder:
    """The fit of one order r; C is the number of values measured, E that of eigenvectors kept.

    weights (2m, C): of (h S psi)^r, real parts, then imaginary ones, in the mean; what belongs to the diagonal terms
    of k is gathered by example in `through` and `own` (n, C). vectors (2m, E), `through_vectors`, `own_vectors` (n, E):
    the same for k(h, psi) in the eigenbasis. precision (E, C): 1 / (lambda + tau). scale, tau (C,); size: what k is
    divided by. shapes (2, C): the coefficients of the two fitted shapes. explained (C,): 1 - (squared error of the
    direction left out) / (square of what it observed).
    """

    r: int
    size: float
    scale: np.ndarray
    tau: np.ndarray
    shapes: np.ndarray
    weights: np.ndarray
    through: np.ndarray
    own: np.ndarray
    vectors: np.ndarray
    through_vectors: np.ndarray
    own_vectors: np.ndarray
    precision: np.ndarray
    explained: np.ndarray
