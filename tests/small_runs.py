"""Runs of a step or two for the tests of errors, of which a test spoils one part."""

from __future__ import annotations

import pytest

import circuitsketch as cs


def raises(kind, words):
    """An error of the package whose message has these words (a pattern)."""
    assert issubclass(kind, cs.CircuitSketchError)
    return pytest.raises(kind, match=words)


def plain_step(state, x, keep):
    return state + keep.sum() * x


def make(step=plain_step, state=0.0, batches=(1.0, 10.0), examples=((0,), (1,)), **options):
    """A run of two steps and two examples, of which a test spoils one part."""
    return cs.Training(step, state, batches, examples, **options)


def one_step(function, x=1.0, state=0.0):
    """A run of one step that puts function(keep * x) into its state."""
    return make(lambda s, x, keep: s + function(keep[0] * x), state, [x], [[0]])
