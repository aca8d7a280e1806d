"""Kinks that first-order changes cross, in one circuit, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.checks.kinks import count_crossings, find_kinks, measure_sides
from circuitsketch.passes import simplify

AT = np.array([1.0, -0.2, 0.05, 3.0])
CHANGES = np.array([[-0.5, 0.1, 0.0, 0.0], [-1.5, 0.1, 0.0, -2.0], [0.0, 0.3, -0.06, 9.0], [9.0, -9.0, 9.0, 9.0]])


def crossings(function, at=AT, changes=CHANGES):
    """The names of the kinks, and the crossings per change."""
    circuit = simplify(cs.trace(function, at))
    totals = count_crossings(circuit, [at], [changes])
    return list(totals), sum(totals.values(), np.zeros(len(changes), int)).tolist()


@pytest.mark.parametrize(
    "function, gate",
    [
        (np.abs, "absolute"),
        (cs.relu, "relu"),
        (lambda x: np.maximum(x, 0.0), "maximum"),
        (lambda x: np.minimum(0.0, x), "minimum"),
        (lambda x: np.where(x > 0.0, x, 0.1 * x), "greater"),
        (lambda x: np.where(x >= 0.0, 1.0, 2.0), "greater_equal"),
    ],
)
def test_elements_that_change_sign_are_counted_per_change(function, gate):
    names, counts = crossings(lambda x: function(x).sum())
    assert len(names) == 1 and f"gate {gate} (" in names[0] and "test_crossings.py:" in names[0]
    assert counts == [0, 1, 2, 0]  # -0.5 of 1 stays; -1.5 of 1 crosses; 0.3 of -0.2 and -0.06 of 0.05 cross; away stays


def test_only_the_distance_matters_so_a_shift_and_a_scale_change_nothing():
    assert crossings(lambda x: np.maximum(3.0 * x + 7.0, 7.0).sum())[1] == [0, 1, 2, 0]


def test_a_clip_has_two_kinks():
    names, counts = crossings(lambda x: np.clip(x, 0.0, 2.0).sum())
    assert len(names) == 2
    # At 2: 3 - 2 in the second change, and in the last one 1 + 9 and 0.05 + 9.
    assert counts == [0, 2, 2, 2]


def test_a_maximum_over_an_axis_changes_hands():
    names, counts = crossings(
        lambda x: np.max(x), np.array([1.0, 2.0]), np.array([[0.5, 0.0], [0.9, -0.2], [0.0, 5.0]])
    )
    assert "gate max (" in names[0]
    assert counts == [0, 1, 0]


def test_a_gradient_counts_each_kink_once():
    names, counts = crossings(lambda x: cs.grad(lambda y: (cs.relu(y) ** 2).sum())(x).sum())
    assert len(names) == 1 and counts == [0, 1, 2, 0]


def test_an_element_at_its_kink_leaves_it_only_if_it_changes():
    at, changes = np.array([0.0, 0.0]), np.array([[1e-3, 0.0], [-1e-3, 1.0], [0.0, 0.0]])
    assert crossings(lambda x: cs.relu(x).sum(), at, changes)[1] == [1, 2, 0]


def test_an_equality_is_left_but_not_crossed():
    at, changes = np.array([0.0, 1.0]), np.array([[0.0, -2.0], [0.5, 0.0]])
    assert crossings(lambda x: np.where(x == 0.0, 1.0, x).sum(), at, changes)[1] == [0, 1]


def test_changes_that_do_not_fit_one_block_are_all_counted():
    changes = np.random.default_rng(0).normal(size=(50, 4))
    expected = np.sum(AT * (AT + changes) < 0, axis=1)
    assert crossings(lambda x: np.abs(x).sum(), AT, changes)[1] == expected.tolist()


def test_a_smooth_circuit_has_no_kink_and_evaluates_nothing(monkeypatch):
    monkeypatch.setattr("circuitsketch.backends.reference.run", None)
    circuit = cs.trace(lambda x: cs.softmax(np.tanh(x)), AT)
    assert find_kinks(circuit, [0]) == [] and count_crossings(circuit, [AT], [CHANGES]) == {}


def test_kinks_of_what_does_not_vary_are_not_counted():
    circuit = cs.trace(lambda x, y: x + cs.relu(y), AT, AT)
    assert find_kinks(circuit, [0]) == [] and len(find_kinks(circuit, [1])) == 1


def test_sides_are_what_a_piecewise_linear_function_really_changes_by():
    """Of a piecewise linear function the change that takes sides is exact, and so is the first-order one without."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 6))
    function = lambda x: np.maximum(x @ weights, 0.1).sum() + np.abs(x)[:2].sum()  # noqa: E731
    at = rng.normal(size=4)
    changes = rng.normal(size=(20, 4)) * rng.choice([0.01, 1.0], size=(20, 1))
    circuit = simplify(cs.trace(function, at))
    (sides,) = measure_sides(circuit, [at], [changes])
    small = 1e-9
    first = np.array([(function(at + small * d) - function(at)) / small for d in changes])
    real = np.array([function(at + d) - function(at) for d in changes])
    np.testing.assert_allclose(sides, real - first, rtol=1e-5, atol=1e-5)
    assert (np.abs(sides) > 0.1).any() and (np.abs(sides) < 1e-12).any()
