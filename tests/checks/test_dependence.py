"""Which elements of a result depend on marked ones: by value, against trying it; and by a series, against slopes."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.checks.dependence import find_dependent_elements, propagate_mask

X = np.array([-1.0, 0.0, 2.0, 0.0])
Y = np.array([0.0, 3.0, 0.0, 0.0])
FUNCTIONS = {
    "product": lambda x, y: x * y,
    "quotient": lambda x, y: y / (x * x + 1.0) + 0.0 * y,
    "contraction": lambda x, y: x[:, None] @ y[None, :],
    "relu": lambda x, y: cs.relu(x) + 0.0 * y,
    "maximum": lambda x, y: np.maximum(x, y),
    "where": lambda x, y: np.where(x > 0.5, x, y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("varies", ["x", "y", "both", "some"])
def test_dependence_by_value_is_what_other_values_show(name, varies):
    marks = np.array([True, True, False, False])
    masks = {
        "x": (marks | True, marks & False),
        "y": (marks & False, marks | True),
        "both": (marks | True, marks | True),
        "some": (marks, ~marks),
    }[varies]
    circuit = cs.trace(FUNCTIONS[name], X, Y)
    found, _ = find_dependent_elements(circuit, [X, Y], masks)
    run, rng = cs.compile(circuit), np.random.default_rng(0)
    tried = np.zeros(found.shape, dtype=bool)
    for _ in range(50):
        moved = [value + mask * rng.normal(size=4) * 3 for value, mask in zip((X, Y), masks, strict=True)]
        tried |= run(*moved) != run(X, Y)
    assert not (tried & ~found).any()
    if name != "where":  # both sides of a where count
        assert np.array_equal(found, tried)


@pytest.mark.parametrize("name", ["product", "contraction", "relu", "maximum", "where"])
@pytest.mark.parametrize("side", [0, 1])
def test_dependence_by_a_series_includes_every_slope(name, side):
    circuit = cs.trace(FUNCTIONS[name], X, Y)
    touched, constants = {}, {}
    values = dict(zip(circuit.inputs, (X, Y), strict=True))
    for wire, node in enumerate(circuit.nodes):
        if node.is_source:
            constants[wire] = values.get(wire, node.params.get("value"))
            touched[wire] = np.full(node.shape, wire == circuit.inputs[side])
            continue
        operands = [constants[i] for i in node.operands]
        constants[wire] = np.asarray(node.gate.value(*operands, **node.params))
        masks = [touched[i] for i in node.operands]
        touched[wire] = (
            np.zeros(node.shape, bool) if node.gate.flat else propagate_mask(node, masks, operands, by_series=True)
        )
    found = touched[circuit.outputs[0]]
    run, slopes = cs.compile(circuit), np.zeros(found.shape, dtype=bool)
    for i in range(4):
        for step in (1e-3, -1e-3):
            moved = [X.copy(), Y.copy()]
            moved[side][i] += step
            slopes |= run(*moved) != run(X, Y)
    assert np.array_equal(found, slopes)
