"""Indexing wires is indexing arrays: NumPy says what every index expression gives, and which ones are errors.

Expressions mix slices, integers, None, ellipsis, plain arrays and masks, and arrays known at run time. What is selected
is exact: entries are moved, not computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.errors import BoundsError, InputError, ShapeError, TraceError
from circuitsketch.kernels import reference
from circuitsketch.passes import simplify

X = np.arange(24.0).reshape(2, 3, 4)


@dataclass(frozen=True)
class RunTime:
    """An index array that the traced function gets as an argument."""

    values: np.ndarray


def filled(expression, values):
    """An index expression with its run-time arrays put in, from the front."""
    rest = iter(values)
    return tuple(next(rest) if isinstance(entry, RunTime) else entry for entry in expression)


def values_of(expression):
    return [entry.values for entry in expression if isinstance(entry, RunTime)]


@st.composite
def expressions(draw, shape):
    """An index expression for an array, in two cases of ten out of bounds somewhere."""
    slack = draw(st.integers(0, 9)) < 2
    common = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 1), (1, 3), (2, 3), (0,)]))

    def integers(n):
        low, high = (-n - 1, n) if slack else (-n, n - 1)
        size = draw(st.sampled_from([common, common[1:], (1,) * len(common), ()]))
        if n == 0 and not slack:
            size = (0,)
        entry = st.integers(low, max(low, high))
        count = int(np.prod(size, dtype=int))
        return np.array(draw(st.lists(entry, min_size=count, max_size=count)), dtype=np.int64).reshape(size)

    entries: list[Any] = []
    axis, dots = 0, False
    while axis < len(shape) and draw(st.integers(0, 9)) < 9:
        n = shape[axis]
        kind = draw(st.sampled_from("slice slice int array array run run run none mask dots flag".split()))
        if kind == "slice":
            bound = st.none() | st.integers(-n - 1, n + 1)
            entries.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, -1, -2]))))
        elif kind == "int":
            if not n and not slack:
                continue
            entries.append(draw(st.integers(-n - slack, n - 1 + slack)))
        elif kind in ("array", "run"):
            array = integers(n)
            small = draw(st.sampled_from([np.int64, np.int8]))
            plain = array.astype(small) if draw(st.booleans()) else array.tolist()
            entries.append(RunTime(array) if kind == "run" else plain)
        elif kind == "mask":
            rank = draw(st.integers(1, min(2, len(shape) - axis)))
            size = shape[axis : axis + rank]
            count = int(np.prod(size))
            bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
            entries.append(np.array(bits, dtype=bool).reshape(size))
            axis += rank - 1
        elif kind == "none":
            entries.append(None)
            axis -= 1
        elif kind == "flag":
            if draw(st.integers(0, 3)):
                continue
            entries.append(draw(st.booleans()))
            axis -= 1
        elif dots:
            continue
        else:
            dots = True
            entries.append(...)
            axis += draw(st.integers(0, len(shape) - axis)) - 1
        axis += 1
    return tuple(entries)


shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
indexings = shapes.flatmap(lambda shape: st.tuples(st.just(shape), expressions(shape)))


def numpys(function, *args):
    """What NumPy gives, or None where it raises an IndexError."""
    try:
        return np.asarray(function(*args))
    except IndexError:
        return None


def assert_as_numpy(compute, function, *args):
    """A function of wires gives what it gives of arrays, or is refused by BoundsError where that is an IndexError."""
    expected = numpys(function, *args)
    if expected is None:
        with pytest.raises(BoundsError):
            compute(function, *args)
        return
    ours = compute(function, *args)
    assert ours.shape == expected.shape
    np.testing.assert_array_equal(ours, expected)


def by_reference(function, *args):
    return reference.run(cs.trace(function, *args), args, [None] * len(args), 0)[0][0, 0].real


def simplified(function, *args):
    return reference.run(simplify(cs.trace(function, *args)), args, [None] * len(args), 0)[0][0, 0].real


def compiled(function, *args):
    return cs.compile(cs.trace(function, *args))(*args)


@settings(max_examples=300)
@given(indexing=indexings)
def test_an_index_expression_selects_what_numpy_selects(indexing):
    shape, expression = indexing
    x = np.arange(float(np.prod(shape))).reshape(shape)
    function = lambda x, *values: x[filled(expression, values)]  # noqa: E731
    assert_as_numpy(by_reference, function, x, *values_of(expression))


@given(indexing=indexings)
def test_compiled_code_selects_what_numpy_selects(indexing):
    shape, expression = indexing
    x = np.arange(float(np.prod(shape))).reshape(shape)
    function = lambda x, *values: x[filled(expression, values)]  # noqa: E731
    assert_as_numpy(simplified, function, x, *values_of(expression))
    assert_as_numpy(compiled, function, x, *values_of(expression))
