"""Tracing: what a circuit cannot hold is refused; the message names the line, the reason and the remedy."""

from __future__ import annotations

import inspect
import math
import os
from typing import Any

import numpy as np
import pytest
from agreement import SQUARE, V, X, agrees
from scipy import special

import circuitsketch as cs
from circuitsketch.errors import BoundsError, InputError, ShapeError, TraceError
from circuitsketch.frontends.numpy import Wire

HERE = os.path.basename(__file__)


# Refusals. Each line below is refused by a message that begins with this file's name and the line's number.


def refused(function, *args):
    """The error of tracing a function, and the line of this file that its message must name."""
    with pytest.raises((TraceError, ShapeError, InputError, IndexError, AttributeError)) as caught:
        cs.trace(function, *args)
    return caught.value, inspect.getsourcelines(function)[1]


def branch(x):
    return x if x.sum() > 0 else -x


def branch_on_and(x):
    return x.sum() > 0 and x


def as_float(x):
    return float(x.sum())


def as_int(x):
    return np.zeros(int(x[0]))


def by_math(x):
    return math.exp(x[0])


def as_text(x):
    return f"{x.sum():.3f}"


def rounded(x):
    return round(x[0], 2)


def as_item(x):
    return x[0].item()


def as_list(x):
    return x.tolist()


def as_array(x):
    return np.asarray(x) + 1


def array_of_wires(x):
    return np.array([x[0], x[1]])


def written(x):
    x[0] = 1.0


def added_in_place(x):
    x += 1.0


def out(x):
    return np.exp(x, out=np.zeros(3))


def entries_added_in_place(x):
    x[1:] += 1.0


def data_entries_added_in_place(x):
    total = np.zeros((2, 3))
    total[0] += x


def number_written_into_data(x):
    total = np.zeros(2)
    total[0] = x.sum()


def written_into_data(x):
    total = np.zeros((2, 3))
    total[0] = x


def filled_data(x):
    np.zeros(2).fill(x[0])


def copied_into_data(x):
    np.copyto(np.zeros(3), x)


def added_at(x):
    np.add.at(np.zeros(3), [0, 0, 1], x)


def data_written_by_mask(x):
    np.zeros(3)[x > 0] = 1.0


def data_masked(x):
    return np.ones(3)[x > 0]


def data_added_in_place(x):
    total = np.zeros(3)
    total += x


def data_indexed(i):
    return X[i]


def data_indexed_and_more(i):
    return X[i, 0]


def list_indexed(i):
    return [1, 2, 3][i]


def counted(i):
    return range(i)


def sliced(x, i):
    return x[:i]


def unknown(x):
    return np.sort(x)


def near(x):
    return np.nanmax(x)


def unknown_ufunc(x):
    return np.spacing(x)


def unknown_special(x):
    return special.j0(x)


def inside_scipy(x):
    return special.logsumexp(x)


def not_analytic(x):
    return np.floor(x)


def argmax(x):
    return np.argmax(x)


def method(x):
    return x.argmax()


def masked(x):
    return x[x > 0]


def masked_too_long(x):
    return x[np.array([True, False, True, True])]


def positions(x):
    return np.where(x > 0)


def shapes(x):
    return x + np.ones(4)


def matrices(x):
    return x @ np.ones((4, 4))


def einsums(x):
    return np.einsum("ij,jk", x, x)


def einsum_axes(x):
    return np.einsum("i,ij->jk", x, np.ones((3, 2)))


def reshaped(x):
    return x.reshape(2, -1)


def joined(x):
    return np.concatenate([x, np.ones((2, 2))])


def stacked(x):
    return np.stack([x, np.ones(4)])


def axes(x):
    return np.sum(x, axis=1)


def out_of_range(x):
    return x[3]


def gathered_out_of_range(x):
    return np.take(x, [0, 3])


def fractions(x):
    return x[np.array([0.5])]


def casts(x):
    return x.astype(int)


def words(x):
    return x + "a"


def complexes(x):
    return x * 1j


def options(x):
    return np.max(x, where=np.array([True, False, True]))


def masked_ufunc(x):
    return np.add(x, 1.0, where=np.array([True, False, True]))


def other_form(x):
    return np.dot(x, x, out=np.zeros(()))


def spectral(x):
    return np.linalg.norm(np.outer(x, x), 2)


def bits(i):
    return i & 1


def empty_mean(x):
    return np.mean(x[:0])


def length_of_number(x):
    return len(x[0])


def bad_labels(x):
    return cs.cross_entropy(x, np.array(3))


def label_shapes(x):
    return cs.cross_entropy(x, np.array([1, 2]))


def gradient_of_vector(x):
    return cs.grad(lambda y: y * y)(x)


def gradient_of_tree(x):
    return cs.grad(lambda y: {"loss": y.sum()})(x)


def gradient_in_integers(i):
    return cs.grad(lambda y: y.sum() * 1.0)(i)


def tangent_shapes(x):
    return cs.jvp(np.sum, (x,), (np.ones(2),))


REFUSALS: list[tuple[Any, type[Exception], str, str]] = [
    (branch, TraceError, "uses a wire as a condition", "np.where(test, a, b)"),
    (branch_on_and, TraceError, "uses a wire as a condition", "np.where(test, a, b)"),
    (as_float, TraceError, "value as a float", "keep computing"),
    (as_int, TraceError, "value as an int", "keep computing"),
    (by_math, TraceError, "value as a float", "np.exp, not math.exp"),
    (as_text, TraceError, "value as text ('.3f')", "keep computing"),
    (rounded, TraceError, "value rounded", "keep computing"),
    (as_item, TraceError, "the item", "keep computing"),
    (as_list, TraceError, "values as a list", "keep computing"),
    (as_array, TraceError, "converts a wire to a NumPy array", "np.stack"),
    (array_of_wires, TraceError, "converts a wire to a NumPy array", "np.stack"),
    (written, TraceError, "writes into a wire", "np.where"),
    (added_in_place, TraceError, "updates a wire in place", "x = x + y"),
    (entries_added_in_place, TraceError, "updates x[i] in place", "np.where(mask, new, old)"),
    (data_entries_added_in_place, TraceError, "updates x[i] in place", "np.stack or np.concatenate"),
    (number_written_into_data, TraceError, "writes a wire into a plain array", "np.stack or np.concatenate"),
    (written_into_data, TraceError, "writes a wire into a plain array", "np.stack or np.concatenate"),
    (filled_data, TraceError, "value as a float", "np.stack"),
    (copied_into_data, TraceError, "np.copyto, which writes into an array", "np.stack"),
    (added_at, TraceError, "np.add.at, which writes", "(i == np.arange(n)[:, None]) @ x"),
    (data_written_by_mask, TraceError, "writes a wire into a plain array", "np.where(mask, new, old)"),
    (data_masked, TraceError, "a wire of booleans", "np.where(wire, data, other)"),
    (out, TraceError, "writes np.exp in place", "assign the result to a name"),
    (data_added_in_place, TraceError, "writes np.add in place", "x = x + y"),
    (data_indexed, TraceError, "", "cs.take(data, wire, axis=0)"),
    (data_indexed_and_more, TraceError, "", "cs.take(data, wire, axis=0)"),
    (list_indexed, TraceError, "uses a wire as an index", "cs.take(array, wire, axis=0)"),
    (counted, TraceError, "as a count", "counts from the shapes"),
    (sliced, TraceError, "slices by a wire", "np.take"),
    (unknown, TraceError, "np.sort", "the order of elements"),
    (near, TraceError, "np.nanmax", "np.where(present, x, 0.0)"),
    (unknown_ufunc, TraceError, "np.spacing", "build it from"),
    (unknown_special, TraceError, "scipy.special.j0", "build it from"),
    (inside_scipy, TraceError, "calls logsumexp", "cs.special.logsumexp"),
    (not_analytic, TraceError, "np.floor", "plain data, or use np.where"),
    (argmax, TraceError, "np.argmax", "plain data, or use np.where"),
    (method, TraceError, "uses attribute 'argmax' of a wire", "plain data, or use np.where"),
    (masked, TraceError, "by a run-time mask", "np.where(mask, x, other)"),
    (masked_too_long, BoundsError, "size of axis is 3 but size of corresponding boolean axis is 4", ""),
    (positions, TraceError, "calls np.where with one argument", "np.where(test, a, b)"),
    (shapes, ShapeError, "add: operands could not be broadcast together with shapes (3,) and (4,)", ""),
    (matrices, ShapeError, "lengths 3 and 4", ""),
    (einsums, ShapeError, "names 2 axes of an operand of shape (3,)", ""),
    (einsum_axes, ShapeError, "each index of the result", "in an operand"),
    (reshaped, ShapeError, "shape (3,) cannot be reshaped to (2, -1)", ""),
    (joined, ShapeError, "cannot be concatenated", ""),
    (stacked, ShapeError, "np.stack: arrays must have the same shape", ""),
    (axes, ShapeError, "axis 1 is out of bounds for array of dimension 1 (shape (3,))", ""),
    (out_of_range, BoundsError, "index 3 is out of bounds for axis 0 with size 3", ""),
    (gathered_out_of_range, BoundsError, "index 3 is out of bounds for axis 0 with size 3", ""),
    (fractions, TraceError, "float64 numbers", "must be integers"),
    (casts, TraceError, "casts a float wire to int64", "cast plain data instead"),
    (words, TraceError, "str data", "convert it"),
    (complexes, TraceError, "complex128", "convert it"),
    (options, TraceError, "np.max with where=", "pass initial="),
    (masked_ufunc, TraceError, "np.add with ['where']", "np.where"),
    (other_form, TraceError, "np.dot with out=", "assign the result to a name"),
    (spectral, TraceError, "have gates, not ord=2 over 2 axes", "np.abs, np.sum and np.max"),
    (bits, TraceError, "bitwise operations on integers", "compare them first"),
    (empty_mean, ShapeError, "the mean of 0 elements", ""),
    (length_of_number, TraceError, "takes the length of a wire of shape ()", ""),
    (bad_labels, BoundsError, "integers in 0..2", "from 3 to 3"),
    (label_shapes, ShapeError, "one label per row", "not (2,)"),
    (gradient_of_vector, TraceError, "the function returns shape (3,)", "sum or mean"),
    (gradient_of_tree, TraceError, "the function returns a dict", "return a scalar"),
    (gradient_in_integers, TraceError, "a gradient with respect to integers", "pass floats"),
    (tangent_shapes, ShapeError, "got (2,) and (3,)", ""),
]


@pytest.mark.parametrize(("function", "kind", "what", "remedy"), REFUSALS, ids=[f.__name__ for f, *_ in REFUSALS])
def test_a_refusal_names_the_line_the_reason_and_the_way_out(function, kind, what, remedy):
    names = list(inspect.signature(function).parameters)
    error, first = refused(function, *({"x": V, "i": np.array(1)}[name] for name in names))
    assert type(error) is kind or (kind is TraceError and isinstance(error, TraceError))
    message = str(error)
    lines = range(first + 1, first + len(inspect.getsource(function).splitlines()))
    assert any(f"{HERE}:{line}" in message for line in lines), message
    assert what in message and remedy in message, message


def test_a_wire_of_another_trace_is_refused():
    kept: list[Wire] = []
    cs.trace(kept.append, V)
    error, line = refused(lambda x: x + kept[0], V)
    assert str(error) == (
        f"{HERE}:{line} uses a wire of another trace; pass it in as an argument of the traced function"
    )
    error, _ = refused(lambda x: kept[0], V)
    assert "wire of another trace" in str(error)


def test_an_argument_that_is_not_numeric_is_refused():
    with pytest.raises(TraceError, match=r"leaf of type str .* close over other objects"):
        cs.trace(lambda x: x, {"name": "run"})
    with pytest.raises(TraceError, match="complex128"):
        cs.trace(lambda x: x, V * 1j)
    with pytest.raises(TraceError, match=rf"{HERE}:\d+: the traced function returns a str at out.name; return"):
        cs.trace(lambda x: {"loss": x.sum(), "name": "run"}, V)


# The remedies that the messages name, tried.


def test_the_remedies_of_refusals_work():
    agrees(lambda x: np.where(x.sum() > 0, x, -x), V)
    agrees(lambda x: np.stack([x[0], x[1]]) + np.concatenate([x[1:], x[:1]])[:2], V)
    agrees(lambda x: np.where(np.arange(3) == 0, 1.0, x), V)
    agrees(lambda x: np.where(np.array([True, False, True]), x, 0.0), V)
    agrees(lambda x: np.exp(np.array([1.0, 2.0, 3.0]) * np.log(x)), np.abs(V))
    agrees(lambda x: np.sum(x * np.eye(3), axis=1), SQUARE)
    agrees(lambda x: np.max(np.sum(np.abs(x), axis=0)), X)
    agrees(lambda i: cs.take(X, i, axis=0), np.array(1))
    agrees(lambda x, i: (i == np.arange(4)[:, None]) @ x, V, np.array([2, 0, 2]))
    agrees(lambda x: x + np.broadcast_to(1.0, 4)[:3], V)
    assert cs.grad(lambda y: np.mean(y * y))(np.arange(3).astype(float)).tolist() == [0.0, 2 / 3, 4 / 3]
    assert cs.grad(lambda y: y**3)(3.0) == 27.0
