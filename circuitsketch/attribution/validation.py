"""What a query is made of and asked, and what a sketch is asked for, checked at the border.

In: what a caller gives. Out: the same in the types that the estimators take, or an InputError that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import check_int, check_order, is_int, quoted
from circuitsketch.arrays import check_dtype, plain_array
from circuitsketch.attribution.prediction import in_units
from circuitsketch.backends.registry import check_device
from circuitsketch.directions import find_distribution
from circuitsketch.errors import InputError
from circuitsketch.propagate.parts import SketchSpec
from circuitsketch.store.objects import check_address, open_objects
from circuitsketch.training.kept_leaves import choose_leaves
from circuitsketch.training.subsets import NOTHING, downweights_of
from circuitsketch.training.training import Training


def coefficients(values: Any, fewest: int) -> np.ndarray:
    """Return complex coefficients (m, order + 1, *measurement) along at least so many directions."""
    array = plain_array(values, "the array of coefficients")
    if array.dtype.kind not in "iufc":
        raise InputError(f"coefficients are numbers, not an array of dtype {array.dtype}")
    if array.ndim < 2 or array.shape[0] < fewest or array.shape[1] < 1:
        raise InputError(
            "coefficients have the shape (directions, order + 1, *measurement), with at least one direction "
            f"and order 0, not {array.shape}"
        )
    if np.prod(array.shape[2:]) == 0:
        raise InputError(f"a measurement of shape {array.shape[2:]} holds nothing to predict")
    if array.dtype.kind != "c" or array.dtype.itemsize > 16:
        array = array.astype(np.complex128)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise InputError(
            f"direction {bad[0][0]} has a NaN or an infinity at order {bad[0][1]}: the run left the "
            "floating-point numbers there; take a lower order or a wider dtype"
        )
    return array


def constant(coefficients: np.ndarray, per_example: np.ndarray | None) -> None:
    """Refuse coefficients 0 that are not real, or not the same for every direction and every example."""
    first = coefficients[0, 0]
    slack = np.sqrt(np.finfo(coefficients.dtype).eps) * max(np.abs(first).max(), np.finfo(np.float32).tiny)
    off = max(np.abs(coefficients[:, 0] - first).max(), np.abs(first.imag).max())
    if per_example is not None:
        off = max(off, np.abs(per_example[0, 0] - first).max())
    if off > slack:
        raise InputError(
            "coefficient 0 is the measurement as it was, real and the same for every direction; this one is "
            f"off by {off:.3g}: the axes of coefficients are (directions, order + 1, *measurement)"
        )


def per_example(values: Any, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return every example's own series, float64 (n, order + 1, *measurement)."""
    array = plain_array(values, "the array of per-example series")
    if array.dtype.kind not in "iufc" or array.ndim < 2 or array.shape[1] < 2:
        raise InputError(
            f"per_example must be numbers (n, order + 1, *measurement) to order 1 at least, not {array.shape}"
        )
    if array.dtype.kind == "c":
        if np.abs(array.imag).max() > 1e-9 * np.abs(array.real).max():
            raise InputError("per-example series are along real unit vectors, so they must be real; these are complex")
        array = array.real
    if array.shape != (n, array.shape[1], *shape):
        raise InputError(
            f"per_example of shape {array.shape} do not go with {n} examples and a measurement of shape {shape}"
        )
    if not np.isfinite(array).all():
        raise InputError("per_example contains a NaN or an infinity: take a lower order or a wider dtype")
    return array.astype(np.float64, copy=False)


def similarity(values: Any, n: int) -> np.ndarray:
    """Return a factor J, float64 (n, p)."""
    array = plain_array(values, "the factor of the similarity")
    if array.ndim != 2 or len(array) != n or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise InputError(
            f"a similarity is given by a finite real factor J of shape ({n}, p), not {array.shape} {array.dtype}"
        )
    return array.astype(np.float64, copy=False)


def parse_downweights(
    what: Any,
    n: int,
    labels: Sequence[Any] | None,
    items: Sequence[Any] | None,
    label: Any = NOTHING,
    unit: str = "example",
) -> np.ndarray:
    """Convert what `Query.without` takes to downweights (n,), or (B, n)."""
    try:
        return downweights_of(what, n, labels, items, label)
    except InputError as reason:
        if unit == "example":
            raise
        raise InputError(in_units(str(reason), unit)) from None


def real_vectors(values: Any, n: int) -> np.ndarray:
    """Return h's as float64 (n,), or (B, n)."""
    array = plain_array(values, "h (real numbers)")
    if array.dtype.kind not in "biuf":
        raise InputError(f"h is an array of {n} real numbers, not of dtype {array.dtype}")
    if n == 1 and array.ndim == 0:
        array = array.reshape(1)
    if array.ndim not in (1, 2) or array.shape[-1] != n or not array.size:
        raise InputError(
            f"h has the shape ({n},), or (B, {n}) for many at once, not {array.shape}; for example ids use without"
        )
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.argwhere(~finite)
        raise InputError(f"h holds a NaN or an infinity at coordinate {bad[0][-1]}: give finite numbers")
    return array.astype(np.float64, copy=False)


def check_spec(
    run: Training,
    directions: int,
    order: int,
    seed: int,
    distribution: str,
    per_example: str | None,
    per_example_order: int | None,
    groups: Sequence[Any] | None,
    dtype: Any,
    threads: int | None,
    device: str,
    keep: Any = None,
) -> SketchSpec:
    """Return the specification of a sketch, from the arguments of `sketch`, checked."""
    if groups is not None:
        run = run.grouped(groups)
    series_order = check_per_example_order(order, per_example, per_example_order)
    count = check_int(directions, "directions", 0 if is_int(directions, 0, 0) and per_example is not None else 1)
    number = check_dtype(dtype)
    return SketchSpec(
        run,
        find_distribution(distribution, run.n, seed),
        count,
        check_order(order),
        series_order,
        number,
        threads,
        check_device(device),
        per_example == "retrained",
        names_to_keep(run, keep),
    )


def check_staging(staging: Any, path: Any, executor: Any) -> str | None:
    """Return the address of a staging area, or None, or raise InputError."""
    if staging is None:
        return None
    address = check_address(staging)
    if path is None or executor is None:
        missing = " and ".join(name for name, value in (("path", path), ("executor", executor)) if value is None)
        raise InputError(
            f"staging is where the workers of executor= put blocks of a sketch at path=; give {missing} too, or leave "
            "staging out"
        )
    open_objects(address)  # refuses what needs a package that is not installed
    return address


def names_to_keep(run: Training, keep: Any) -> tuple[str, ...] | None:
    """Return the names of the leaves of the state to keep; None if that was not said."""
    return None if keep is None else tuple(run.state_names[i] for i in sorted(choose_leaves(run, keep)))


def check_per_example_order(order: int, per_example: str | None, per_example_order: int | None) -> int | None:
    """Return the order of the per-example series; None without them."""
    if per_example is not None and not (isinstance(per_example, str) and per_example in ("series", "retrained")):
        raise InputError(
            f"per_example is {quoted(per_example)}; choose 'series' (every example's own series), 'retrained' (a model "
            "without each example), or None"
        )
    if per_example != "series" and per_example_order is not None:
        raise InputError(
            f"per_example_order is {quoted(per_example_order)} and per_example is {per_example}; give "
            "per_example='series'"
        )
    if per_example != "series":
        return None
    chosen = check_order(order if per_example_order is None else per_example_order)
    if not chosen:
        raise InputError("per_example_order is 0, and their effects begin at order 1; give per_example_order=1 or more")
    return chosen
