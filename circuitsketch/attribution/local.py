"""The theorem for any function: its Taylor series along random directions at a point, without a training run.

In: a function in NumPy and a point. Out: a `Query`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_order
from circuitsketch.arrays import real_array
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.structure import Structure
from circuitsketch.checks.dependence import RESOLUTION, check_not_flat, find_constancy
from circuitsketch.compiler import compile as compile_circuit
from circuitsketch.directions import check_count, find_distribution
from circuitsketch.errors import InputError
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.tree import flatten, unflatten


@within_memory("the sketch", "fewer directions", "a lower order")
def local_sketch(
    function: Callable[..., Any],
    at: Any,
    directions: int = 512,
    order: int = 3,
    seed: int = 0,
    *,
    distribution: str = "orthonormal",
    dtype: Any = np.complex128,
    threads: int | None = None,
    device: str = "cpu",
) -> Query:
    """Predict f(x + h) for any function and every h, from its Taylor series along random directions at x (Theorem 1).

    Parameters
    ----------
    function : callable
        A NumPy function of one pytree of arrays; it returns a number, an array, or a pytree of them.
    at : array_like or pytree
        The point x; h is a vector as long as all its leaves together, in their order.
    directions, order, seed, distribution, dtype, threads, device : optional
        As for `sketch`.

    Returns
    -------
    Query
        To ask `predict(h)`, `influence()`, `stability()`.

    Raises
    ------
    TraceError, InputError
        If the function is locally constant at the point, so that a series cannot predict it.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> query = cs.local_sketch(lambda x: (x * x).sum(), at=np.array([3.0]), directions=4, order=2)
    >>> round(query.predict([1.0]).value, 9)
    16.0
    """
    if not callable(function):
        raise InputError(f"cs.local_sketch takes a function, not {type(function).__name__}")
    count = check_count(directions)
    leaves, tree = flatten(at)
    arrays = [real_array(leaf, name) for leaf, name in zip(leaves, tree.names("at"), strict=True)]
    if not all(np.all(np.isfinite(array)) for array in arrays):
        raise InputError("the point holds a NaN or an infinity; give finite numbers")
    point = unflatten(tree, arrays)
    chosen = find_distribution(distribution, sum(array.size for array in arrays), seed)
    circuit = traced(lambda x: call(function, "the function", x), (point,), "refuse", function)
    structure = Structure.of(circuit)
    if not circuit.outputs:
        raise InputError("the function returns 0 leaves; return a number, an array, or a pytree of them")
    values = sum(cells(circuit.nodes[wire].shape) for wire in circuit.outputs)
    copies = 2 if distribution == "orthonormal" else 1  # the directions are kept to generate the next ones
    require_memory(
        16 * count * copies * chosen.n + 17 * count * (check_order(order) + 1) * values,
        f"a sketch of {count:,} directions in {chosen.n:,} coordinates, to order {order}, of {values:,} values",
        ["fewer directions", "a lower order", "a function of fewer values"],
    )
    rows = chosen.block(0, count)
    ends = np.cumsum([array.size for array in arrays])
    parts = [
        rows[:, end - array.size : end].reshape(count, 1, *array.shape) for end, array in zip(ends, arrays, strict=True)
    ]
    compiled = compile_circuit(circuit, order, dtype, device=device)
    check_not_flat(circuit, range(len(arrays)), range(len(arrays)))
    coefficients = compiled.series((point,), (unflatten(tree, parts),), threads)
    leaves = flatten(coefficients)[0]
    if structure is not None:
        leaves = [np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=2)]
    series = leaves[0]
    all_moved = [np.ones(array.shape, dtype=bool) for array in arrays]
    resolution = RESOLUTION[np.dtype(dtype) == np.complex64]
    constancy = find_constancy(circuit, arrays, lambda: all_moved, [series], resolution)
    return Query(series, chosen, constancy=constancy, unit="coordinate", structure=structure)
