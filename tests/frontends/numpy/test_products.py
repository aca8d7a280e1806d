"""Products on wires against NumPy's: values, shapes, dtypes and refusals over random shapes and dtypes.

The oracle is NumPy. Where NumPy's own integers would wrap around (int8, uint8) the data are small enough not to.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import check
from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.tree import flatten

many = settings(max_examples=12 * settings.default.max_examples)
DTYPES = (np.float64, np.float32, np.int64, np.int8, np.uint8, np.bool_)
KINDS = {"f": "float", "i": "int", "u": "int", "b": "bool"}
EXTENTS = (0, 1, 1, 2, 2, 3)
shapes = st.lists(st.sampled_from(EXTENTS), max_size=4).map(tuple)


def numbers(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a drawn dtype, so small that no product of them leaves int8 or is rounded in float32."""
    dtype = draw(st.sampled_from(DTYPES))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 3, shape)
    return values.astype(dtype)


@st.composite
def operand(draw, shape=shapes):
    return numbers(draw, draw(shape))


@st.composite
def pairs(draw):
    """Two arrays that often fit: shapes drawn alone, one the other's reversed, or stacks of matrices."""
    left = draw(shapes)
    stack = left[: draw(st.integers(0, len(left)))]
    right = draw(
        st.sampled_from([left, left[::-1], (*stack, *left[-1:], 2), left[-1:], (*left[-1:], 2), left[-2:][::-1]])
        | shapes
    )
    return numbers(draw, left), numbers(draw, right)


def outcome(function, arrays):
    """NumPy's result, or its refusal."""
    try:
        with np.errstate(all="ignore"):
            return flatten(function(*arrays))[0]
    except (ValueError, TypeError, IndexError) as refusal:
        return refusal


def same_as_numpy(function, *arrays):
    """The traced function gives what NumPy gives, with each operand or all of them wires, or refuses where it does."""
    expected = outcome(function, arrays)
    for wired in [tuple(range(len(arrays))), *((i,) for i in range(len(arrays)))]:

        def traced(*wires, wired=wired):
            operands = list(arrays)
            for i, wire in zip(wired, wires, strict=True):
                operands[i] = wire
            return function(*operands)

        inputs = [arrays[i] for i in wired]
        if isinstance(expected, Exception):
            with pytest.raises((ShapeError, TraceError), match=r"test_products\.py:\d+"):
                cs.trace(traced, *inputs)
            continue
        circuit = check(cs.trace(traced, *inputs))
        for ours, index, theirs in zip(evaluate(circuit, inputs), circuit.outputs, expected, strict=True):
            theirs = np.asarray(theirs)
            assert ours.shape == theirs.shape
            assert circuit.nodes[index].label == KINDS[theirs.dtype.kind]
            # Sums of at most 81 small integers: exact in every dtype but float32, which is exact as well.
            np.testing.assert_array_equal(ours, theirs.astype(np.float64))


PAIRED = [
    np.matmul,
    np.dot,
    np.inner,
    np.vdot,
    np.outer,
    np.kron,
    np.linalg.matmul,
    np.linalg.outer,
    np.linalg.vecdot,
    *(getattr(np, name) for name in ("vecdot", "matvec", "vecmat") if hasattr(np, name)),
]


@pytest.mark.parametrize("function", PAIRED, ids=lambda f: f"{f.__module__}.{f.__name__}")
@many
@given(operands=pairs())
def test_a_product_of_two_arrays_is_numpys_or_is_refused_where_numpy_refuses(function, operands):
    same_as_numpy(function, *operands)


@many
@given(operands=pairs(), data=st.data())
def test_tensordot_is_numpys(operands, data):
    a, b = operands
    axes = data.draw(
        st.integers(-1, 3)
        | st.tuples(*(st.lists(st.integers(-x.ndim - 1, x.ndim), max_size=2) for x in operands))
        | st.tuples(st.integers(-2, 2), st.integers(-2, 2))
    )
    same_as_numpy(lambda x, y: np.tensordot(x, y, axes), a, b)
    same_as_numpy(lambda x, y: np.linalg.tensordot(x, y, axes=axes), a, b)


@many
@given(data=st.data())
def test_chains_of_matrices_are_numpys(data):
    extents = data.draw(st.lists(st.sampled_from(EXTENTS), min_size=3, max_size=5))
    shapes = list(zip(extents[:-1], extents[1:], strict=True))
    if data.draw(st.booleans()):
        shapes[0] = shapes[0][1:]
    if data.draw(st.booleans()):
        shapes[-1] = shapes[-1][:1]
    arrays = [numbers(data.draw, shape) for shape in shapes]
    same_as_numpy(lambda *xs: np.linalg.multi_dot(xs), *arrays)


@many
@given(data=st.data(), stack=shapes, other=shapes)
def test_cross_products_are_numpys(data, stack, other):
    place = data.draw(st.integers(-3, 2))
    at = data.draw(st.integers(-1, len(stack)))
    a = numbers(data.draw, (*stack[:at], 3, *stack[at:]) if at >= 0 else (*stack, 3)).astype(float)
    b = numbers(data.draw, (*other, data.draw(st.sampled_from([3, 3, 3, 4])))).astype(int)
    same_as_numpy(lambda x, y: np.cross(x, y, at, -1, place), a, b)
    same_as_numpy(lambda x, y: np.linalg.cross(x, y), a, b)


# einsum, the only product that broadcasts an extent of 1 within an index.

LETTERS = "ijkA"


@st.composite
def subscripts(draw):
    """A spec of one to three operands with arrays of mostly fitting shapes, some of their axes thin."""
    extents = {letter: draw(st.sampled_from((0, 1, 2, 3))) for letter in LETTERS}
    terms, arrays = [], []
    for _ in range(draw(st.integers(1, 3))):
        named = draw(st.lists(st.sampled_from(LETTERS), max_size=3))
        shape = [draw(st.sampled_from((extents[c], extents[c], extents[c], 1))) for c in named]
        term = "".join(named)
        if draw(st.integers(0, 4)) == 0:
            at = draw(st.integers(0, len(named)))
            extra = draw(st.sampled_from(((), (2,), (1,), (3, 2), (1, 2))))
            term, shape = term[:at] + "..." + term[at:], [*shape[:at], *extra, *shape[at:]]
        terms.append(term)
        arrays.append(numbers(draw, tuple(shape)))
    spec = ",".join(terms)
    if draw(st.booleans()):
        present = sorted(set("".join(terms)) - {"."})
        result = draw(st.lists(st.sampled_from(present), unique=True)) if present else []
        dots = draw(st.sampled_from(("...", "...", ""))) if "..." in spec else ""
        spec += "->" + dots + "".join(result)
    return spec, arrays


@settings(max_examples=40 * settings.default.max_examples)
@given(drawn=subscripts())
def test_einsum_of_a_subscript_string_is_numpys(drawn):
    spec, arrays = drawn
    if uneven_diagonal(spec, arrays):
        with pytest.raises(ShapeError, match=r"test_products\.py:\d+"):
            cs.trace(lambda *xs: np.einsum(spec, *xs), *arrays)
        return
    same_as_numpy(lambda *xs: np.einsum(spec, *xs), *arrays)


def uneven_diagonal(spec, arrays):
    """Whether an index stands for axes of extents 0 and 1 of one array: NumPy reads past the end of it, or refuses."""
    for term, x in zip(spec.partition("->")[0].split(","), arrays, strict=True):
        extents = dict.fromkeys(term, ())
        named = term.replace("...", "." * (x.ndim - len(term.replace("...", ""))))
        for letter, extent in zip(named, x.shape, strict=True):
            if letter != ".":
                extents[letter] = (*extents[letter], extent)
        if any(set(along) == {0, 1} for along in extents.values()):
            return True
    return False


@many
@given(drawn=subscripts(), data=st.data())
def test_einsum_of_lists_of_axes_is_numpys(drawn, data):
    spec, arrays = drawn
    assume(not uneven_diagonal(spec, arrays))
    number = dict(
        zip(LETTERS, data.draw(st.lists(st.integers(0, 51), min_size=4, max_size=4, unique=True)), strict=True)
    )

    def listed(term):
        return [Ellipsis if part == "..." else number[part] for part in re.findall(r"\.\.\.|\w", term)]

    inputs, arrow, result = spec.partition("->")

    def function(*xs):
        lists = [listed(term) for term in inputs.split(",")]
        form = [part for x, named in zip(xs, lists, strict=True) for part in (x, named)]
        return np.einsum(*form, *([listed(result)] if arrow else []))

    same_as_numpy(function, *arrays)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: np.einsum("i.j->ij", x),
        lambda x: np.einsum("ij->ijk", x),
        lambda x: np.einsum("ij->ii", x),
        lambda x: np.einsum("i1->i", x),
        lambda x: np.einsum("......", x),
        lambda x: np.einsum("ij,jk->ik", x),
        lambda x: np.einsum(x, [0, 52]),
        lambda x: np.einsum(x, [0, -1]),
        lambda x: np.einsum(x, ["i", "j"]),
        lambda x: np.einsum(x, [0, 1.5]),
        lambda x: np.einsum(x, [0, 1], [0, 0]),
        lambda x: np.einsum(x, [0, 1, 2]),
        lambda x: np.einsum(x),
        lambda x: np.einsum("ij->j", x, out=np.zeros(3)),
        lambda x: np.einsum("ij->j", x, dtype=int),
        lambda x: np.einsum("ij->j", x, dtype=complex),
        lambda x: np.einsum("ij->j", x, casting="no"),
        lambda x: np.einsum("ij->j", x, order="fast"),
        lambda x: np.dot(x, x, np.zeros((2, 2))),
        lambda x: np.tensordot(x, x, axes=([0, 0], [0, 0])),
        lambda x: np.tensordot(x, x, axes=([0.5], [0])),
        lambda x: np.tensordot(x, x, axes="ij"),
        lambda x: np.matmul(x, x, axes=[(0, 1), (0, 1), (0, 1)]),
        lambda x: np.linalg.multi_dot([x]),
        lambda x: np.linalg.multi_dot([x, x[0], x.T]),
        lambda x: np.cross(x[:, :2], x[:, :2]),
        lambda x: x @ 2.0,
        lambda x: np.vecdot(x, x, axis=2),
    ],
)
def test_forms_that_cannot_be_honoured_are_refused_with_the_place(form):
    with pytest.raises((ShapeError, TraceError), match=r"test_products\.py:\d+"):
        cs.trace(form, np.ones((2, 3)))


def test_options_that_change_nothing_are_accepted():
    x = np.arange(6.0).reshape(2, 3)
    same_as_numpy(lambda a: np.einsum("ij,kj", a, a, optimize="greedy", dtype=float, order="F", casting="unsafe"), x)
    same_as_numpy(lambda a: np.matmul(a, a.T, dtype=np.float64, order="F", subok=False), x)
    same_as_numpy(lambda a: np.vecdot(a, a, axis=0), x)
    same_as_numpy(lambda a: np.einsum("ij->j", a, dtype=float), x > 1)


def test_refusals_name_both_extents():
    with pytest.raises(ShapeError, match=r"shapes \(2, 1\) and \(3, 2\) contracts axes of lengths 1 and 3"):
        cs.trace(lambda a, b: a @ b, np.ones((2, 1)), np.ones((3, 2)))
    with pytest.raises(ShapeError, match=r"the stacks \(2,\) and \(3,\) do not broadcast"):
        cs.trace(lambda a, b: a @ b, np.ones((2, 1, 1)), np.ones((3, 1, 1)))


def test_the_gradient_of_a_product_of_thin_axes_is_that_of_the_broadcast_product():
    a, b = np.arange(3.0).reshape(3, 1), np.arange(1.0, 13.0).reshape(3, 4)
    slope = cs.grad(lambda x: np.einsum("ij,ij->", x, b))(a)
    np.testing.assert_array_equal(slope, b.sum(axis=1, keepdims=True))
