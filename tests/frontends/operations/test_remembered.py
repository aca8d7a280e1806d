"""Circuits are remembered for the same arguments only, and only where a caller says so."""

from __future__ import annotations

import numpy as np
import pytest

from circuitsketch.frontends.remembered import MOST, trace_or_remember, traces_remembered


def function():
    """Stands for a function that was imported."""


def key(*leaves, structure="tree", of=function):
    """Trace, and say how often that was done so far."""
    counted.append(leaves)
    return trace_or_remember(of, structure, leaves, [0], lambda: (len(counted), None))[0]


counted: list = []

ARGUMENTS = [
    (np.ones(2), 1),
    (np.ones(3), 1),
    (np.ones(2), 2),
    (np.ones(2), True),
    (np.ones(2), 1.0),
    (np.ones(2), -0.0),
    (np.ones(2), 0.0),
    (np.ones(2), "1"),
    (np.ones(2), None),
    (np.ones(2), np.array([1])),
    (np.ones(2), np.array([[1]])),
    (np.ones(2), np.array([1], np.int32)),
    (np.ones(2), np.array([2])),
    (np.ones(2), 1, 1),
]


def test_arguments_that_differ_have_circuits_of_their_own():
    with traces_remembered():
        first = [key(*leaves) for leaves in ARGUMENTS]
        assert len(set(first)) == len(ARGUMENTS)
        assert [key(*leaves) for leaves in ARGUMENTS] == first
        assert key(2 * np.ones(2), 1) == first[0]  # of the inputs, the shape alone counts
        assert key(*ARGUMENTS[0], structure="other") not in first
        assert key(*ARGUMENTS[0], of=key) not in first


def test_nothing_is_remembered_elsewhere_or_afterwards():
    assert key(np.ones(2)) != key(np.ones(2))
    with traces_remembered():
        first = key(np.ones(2))
        with traces_remembered():
            assert key(np.ones(2)) != first
        assert key(np.ones(2)) == first
    assert key(np.ones(2)) != first


@pytest.mark.parametrize("leaf", [object(), np.array([object()]), np.zeros(1 << 18), np.array(["text"])])
def test_what_cannot_be_told_apart_is_traced_each_time(leaf):
    with traces_remembered():
        assert key(np.ones(2), leaf) != key(np.ones(2), leaf)


def test_few_circuits_are_kept():
    with traces_remembered():
        first = key(np.ones(2), -1)
        for i in range(MOST):
            key(np.ones(2), i)
        assert key(np.ones(2), -1) != first


def test_an_error_leaves_nothing_behind():
    def fail():
        raise ValueError

    with pytest.raises(ValueError), traces_remembered():
        trace_or_remember(function, "tree", [np.ones(2)], [0], fail)
    assert key(np.ones(2)) != key(np.ones(2))
