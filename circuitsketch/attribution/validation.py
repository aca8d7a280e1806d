"""What a query is made of and asked, checked at the border: arrays come in, the same arrays in the types that the
estimators take go out, or an InputError that says what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.arguments import is_int, quoted
from circuitsketch.arrays import plain_array
from circuitsketch.errors import InputError

PER_EXAMPLE = ("interactions", "per-example", "first-order")  # the estimators that need every example's own series


def coefficients(given: Any, fewest: int) -> np.ndarray:
    """Complex coefficients (m, order + 1, *measurement) along at least so many directions."""
    found = plain_array(given, "the array of coefficients")
    if found.dtype.kind not in "iufc":
        raise InputError(f"coefficients are numbers, not an array of dtype {found.dtype}")
    if found.ndim < 2 or found.shape[0] < fewest or found.shape[1] < 1:
        raise InputError(
            "coefficients have the shape (directions, order + 1, *measurement), with at least one direction "
            f"and order 0, not {found.shape}"
        )
    if np.prod(found.shape[2:]) == 0:
        raise InputError(f"a measurement of shape {found.shape[2:]} holds nothing to predict")
    if found.dtype.kind != "c" or found.dtype.itemsize > 16:
        found = found.astype(np.complex128)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        raise InputError(
            f"direction {bad[0][0]} has a NaN or an infinity at order {bad[0][1]}: the run left the "
            "floating-point numbers there; take a lower order or a wider dtype"
        )
    return found


def constant(along: np.ndarray, per_example: np.ndarray | None) -> None:
    """Whether coefficient 0 is real and the same for every direction, and every single example."""
    first = along[0, 0]
    slack = np.sqrt(np.finfo(along.dtype).eps) * max(np.abs(first).max(), np.finfo(np.float32).tiny)
    off = max(np.abs(along[:, 0] - first).max(), np.abs(first.imag).max())
    if per_example is not None:
        off = max(off, np.abs(per_example[0, 0] - first).max())
    if off > slack:
        raise InputError(
            "coefficient 0 is the measurement as it was, real and the same for every direction; this one is "
            f"off by {off:.3g}: the axes of coefficients are (directions, order + 1, *measurement)"
        )


def per_example(given: Any, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Every example's own series, float64 (n, order + 1, *measurement)."""
    found = plain_array(given, "the array of per-example series")
    if found.dtype.kind not in "iufc" or found.ndim < 2 or found.shape[1] < 2:
        raise InputError(
            f"per_example must be numbers (n, order + 1, *measurement) to order 1 at least, not {found.shape}"
        )
    if found.dtype.kind == "c":
        if np.abs(found.imag).max() > 1e-9 * np.abs(found.real).max():
            raise InputError("per-example series are along real unit vectors, so they must be real; these are complex")
        found = found.real
    if found.shape != (n, found.shape[1], *shape):
        raise InputError(
            f"per_example of shape {found.shape} do not go with {n} examples and a measurement of shape {shape}"
        )
    if not np.isfinite(found).all():
        raise InputError("per_example contains a NaN or an infinity: take a lower order or a wider dtype")
    return found.astype(np.float64, copy=False)


def similarity(given: Any, n: int) -> np.ndarray:
    """A factor J, float64 (n, p)."""
    found = plain_array(given, "the factor of the similarity")
    if found.ndim != 2 or len(found) != n or found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise InputError(
            f"a similarity is given by a finite real factor J of shape ({n}, p), not {found.shape} {found.dtype}"
        )
    return found.astype(np.float64, copy=False)


def real_vectors(given: Any, n: int) -> tuple[np.ndarray, bool]:
    """h's as float64 (B, n), and whether it was a single one."""
    found = plain_array(given, "h (real numbers)")
    if found.dtype.kind not in "biuf":
        raise InputError(f"h is an array of {n} real numbers, not of dtype {found.dtype}")
    if n == 1 and found.ndim == 0:
        found = found.reshape(1)
    if found.ndim not in (1, 2) or found.shape[-1] != n or not found.size:
        raise InputError(
            f"h has the shape ({n},), or (B, {n}) for many at once, not {found.shape}; for example ids use without"
        )
    finite = np.isfinite(found)
    if not finite.all():
        bad = np.argwhere(~finite)
        raise InputError(f"h holds a NaN or an infinity at coordinate {bad[0][-1]}: give finite numbers")
    return np.atleast_2d(found).astype(np.float64, copy=False), found.ndim == 1


def order(given: int | None, highest: int) -> int:
    """The order of a prediction, by default the highest."""
    if not highest:
        raise InputError(
            "coefficients of order 0 tell the measurement as it was, and nothing of changes: push to order 1"
        )
    if given is None:
        return highest
    if not is_int(given, 1, highest):
        raise InputError(f"the order of a prediction is an int from 1 to {highest}, not {quoted(given)}")
    return int(given)


def estimator(given: str | None, default: str, with_singles: bool) -> str:
    """An estimator by name, one that the data suffice for."""
    if given is None:
        return default
    if not isinstance(given, str) or given not in ("theorem", *PER_EXAMPLE):
        raise InputError(f"there is no estimator {quoted(given)}; choose one of {', '.join(('theorem', *PER_EXAMPLE))}")
    if given in PER_EXAMPLE and not with_singles:
        raise InputError(
            f"estimator {given!r} needs every example's own series: make the sketch with per_example='series', or use "
            "estimator='theorem'"
        )
    return given
