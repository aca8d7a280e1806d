"""The reference evaluator: a circuit on truncated Taylor series in plain NumPy, which defines the correct result.

In: a circuit, the real value of every input, and coefficients 1..order of the inputs that vary, one row per direction.
Out: coefficients 0..order of every output. No lowering, no fusion, no lanes: gate by gate, by each gate's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.circuit import Circuit, Node, compute, evaluate, value_of
from circuitsketch.gates.math import NumpyMath


class NumpySeries:
    """The arithmetic that Taylor rules may use, on NumPy arrays."""

    zero = 0.0
    choose = staticmethod(np.where)

    @staticmethod
    def convolve(
        k: int, u: Any, v: Any, weight: Callable[[int], float] | None = None, low: int = 0, high: int = 0
    ) -> Any:
        """Return sum_{j=low..k-high} weight(j) u_j v_{k-j}."""
        total: Any = 0.0
        for j in range(low, k - high + 1):
            term = u[j] * v[k - j]
            total = total + (term if weight is None else weight(j) * term)
        return total


class Series:
    """The coefficients of a wire: coefficient 0 has the wire's shape; coefficients k >= 1 have a row per direction."""

    def __init__(self, constant: Any, order: int) -> None:
        self.coefficients: list[Any] = [constant] + [0.0] * order

    def __getitem__(self, k: int) -> Any:
        return self.coefficients[k]

    def __setitem__(self, k: int, value: Any) -> None:
        self.coefficients[k] = value


def run(
    circuit: Circuit,
    values: Sequence[Any],
    series: Sequence[np.ndarray | None],
    order: int,
    watch: Callable[[int, Node, Series], None] | None = None,
) -> list[np.ndarray]:
    """Compute the coefficients of every output.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    values : sequence of ndarray
        One real array per input.
    series : sequence of ndarray or None
        For each input None, or its coefficients 1..order (directions, order, *shape), real or complex.
    order : int
        The highest coefficient.
    watch : callable, optional
        Called with every wire, node and Series, to find out where a run went wrong.

    Returns
    -------
    list of ndarray
        Complex arrays (directions, order + 1, *shape), with one direction if no input varies.
    """
    directions = max((len(s) for s in series if s is not None), default=1)
    inputs = {
        wire: make_input_series(circuit.nodes[wire], value, coefficients, order)
        for wire, value, coefficients in zip(circuit.inputs, values, series, strict=True)
    }
    with np.errstate(all="ignore"):
        wires = evaluate(circuit.nodes, inputs, lambda node, *operands: apply(node, operands, order), watch=watch)
    results = []
    for wire in circuit.outputs:
        shape = circuit.nodes[wire].shape
        out = np.zeros((directions, order + 1, *shape), dtype=np.complex128)
        for k in range(order + 1):
            out[:, k] = wires[wire][k]
        results.append(out)
    return results


def make_input_series(node: Node, value: Any, coefficients: np.ndarray | None, order: int) -> Series:
    """Return an input's series: its value, and coefficients 1..order if it varies."""
    series = Series(np.asarray(value, dtype=np.float64).reshape(node.shape), order)
    if coefficients is not None:
        for k in range(1, order + 1):
            series[k] = np.asarray(coefficients[:, k - 1], dtype=np.complex128)
    return series


def apply(node: Node, operands: Sequence[Series], order: int) -> Series:
    """Return a gate's result on series."""
    if node.is_source:
        return Series(value_of(node), order)
    gate, params = node.gate, node.params
    if gate.kind == "elementwise":
        assert gate.constants is not None
        if gate.flat:
            return Series(compute(node, *(u[0] for u in operands)), order)
        constant, *companions = gate.constants(NumpyMath, *(u[0] for u in operands), **params)
        out = Series(np.asarray(constant), order)
        if not any(has_series(u) for u in operands):
            return out
        extra = [Series(c, order) for c in companions]
        assert gate.step is not None
        for k in range(1, order + 1):
            gate.step(k, NumpySeries, *operands, out, *extra, **params)
        if gate.domain is not None:
            zero_unmoved(out, operands)
        return out
    out = Series(np.asarray(gate.value(*(u[0] for u in operands), **params)), order)
    if gate.flat or not any(has_series(u) for u in operands):
        return out
    for k in range(1, order + 1):
        if gate.step is not None:
            gate.step(k, NumpySeries, *operands, out, **params)
        else:
            out[k] = apply_linear(node, operands, k)
    return out


def zero_unmoved(out: Series, operands: Sequence[Series]) -> None:
    """Zero the series of elements whose operands do not change: on the edge of a domain, the rule divides 0 by 0."""
    coefficients = [c for u in operands for c in u.coefficients[1:] if is_present(c)]
    unmoved = ~np.logical_or.reduce(np.broadcast_arrays(*(row != 0 for row in coefficients)))
    for k, row in enumerate(out.coefficients):
        if k and is_present(row):
            out[k] = np.where(unmoved, 0.0, row)


def has_series(u: Series) -> bool:
    """Return whether a wire has a series (a plain 0.0 stands for an absent coefficient)."""
    return any(isinstance(c, np.ndarray) for c in u.coefficients[1:])


def apply_linear(node: Node, operands: Sequence[Series], k: int) -> Any:
    """Return coefficient k of a gate that is linear in each operand: per direction, from the gate's value."""
    gate, params = node.gate, node.params
    if gate.kind == "contraction":
        a, b = operands
        pairs = [(a[j], b[k - j]) for j in range(k + 1)]
        return sum(
            contract_rows(gate.value, p, a[0].ndim, q, b[0].ndim, params)
            for p, q in pairs
            if is_present(p) and is_present(q)
        )
    if gate.index is not None:
        x, index = operands[0], operands[gate.index]
        return np.stack([gate.value(row, index[0], **params) for row in x[k]]) if is_present(x[k]) else 0.0
    count = max(len(u[k]) for u in operands if is_present(u[k])) if any(is_present(u[k]) for u in operands) else 0
    if not count:
        return 0.0
    spread = [u[k] if is_present(u[k]) else np.zeros((count, *np.shape(u[0]))) for u in operands]
    return np.stack([gate.value(*(u[d] for u in spread), **params) for d in range(count)])


def is_present(x: Any) -> bool:
    """Return whether a coefficient is an array, not the 0.0 of an absent one."""
    return isinstance(x, np.ndarray)


def contract_rows(value: Any, a: np.ndarray, rank_a: int, b: np.ndarray, rank_b: int, params: Any) -> np.ndarray:
    """Contract per direction; an operand of its own rank is the constant term, which all directions share."""
    count = max(len(x) for x, rank in ((a, rank_a), (b, rank_b)) if x.ndim > rank)
    pick = lambda x, rank, d: x[d] if x.ndim > rank else x  # noqa: E731
    return np.stack([value(pick(a, rank_a, d), pick(b, rank_b, d), **params) for d in range(count)])
