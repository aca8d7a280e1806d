"""The scalars of a product are multiplied with each other first: fewer gates, and the same values up to rounding."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.gates.arithmetic import multiply
from circuitsketch.passes import gather_scalars, simplify

X, Y = np.random.default_rng(0).normal(size=(2, 3, 4))
PRODUCTS = {
    "in one chain": (lambda x, y, s, t: s * ((x * t) * y), 2),
    "on both sides": (lambda x, y, s, t: (x * s) * (y * t), 2),
    "with constants": (lambda x, y, s, t: 0.3 * (s * (x * 0.7) * t), 1),
    "with a sum outside": (lambda x, y, s, t: y - s * (t * np.exp(x)), 1),
    "of a scalar and a row": (lambda x, y, s, t: s * (t * x[0]) * y, 2),
}
LEFT_ALONE = {
    "a product that is read twice": lambda x, y, s, t: s * (z := t * x) + np.exp(z),
    "a product that is returned": lambda x, y, s, t: [s * (z := t * x), z],
    "one scalar": lambda x, y, s, t: (s * x) * y,
    "constants whose product overflows": lambda x, y, s, t: 1e200 * (x * 1e-200 * y) * 1e200,
}


def trace(function):
    return simplify(cs.trace(function, X, Y, 2.0, 3.0))


def products(circuit):
    return sum(node.gate is multiply and node.shape != () for node in circuit.nodes)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_of_arrays_keeps_one_scalar(name):
    function, expected = PRODUCTS[name]
    circuit = trace(function)
    gathered = gather_scalars(circuit)
    assert products(gathered) == expected < products(circuit) and gathered.size < circuit.size
    values = (X, Y, 0.37, -1.9)
    np.testing.assert_allclose(cs.compile(gathered)(*values), function(*values), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_others_read_or_may_overflow_is_left_alone(name):
    circuit = trace(LEFT_ALONE[name])
    assert str(gather_scalars(circuit)).split("\n")[1:] == str(circuit).split("\n")[1:]
