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
from circuitsketch.backends import reference
from circuitsketch.errors import BoundsError, InputError, ShapeError, TraceError
from circuitsketch.passes import simplify

HERE = r"test_indexing\.py:\d+"


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


shapes = st.lists(st.sampled_from([3, 2, 1, 3, 2, 0]), max_size=4).map(tuple)
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


@given(indexing=indexings)
def test_a_gradient_puts_back_what_an_index_expression_took(indexing):
    shape, expression = indexing
    x = np.arange(float(np.prod(shape))).reshape(shape)
    values = values_of(expression)
    if numpys(lambda x, *values: x[filled(expression, values)], x, *values) is None:
        return
    weights = np.cos(1.0 + x[filled(expression, values)])
    theirs = np.zeros(shape)
    np.add.at(theirs, filled(expression, values), weights)
    slope = lambda x, *values: cs.grad(lambda x: np.sum(weights * x[filled(expression, values)]))(x)  # noqa: E731
    np.testing.assert_allclose(by_reference(slope, x, *values), theirs, rtol=0, atol=1e-14)
    moved = lambda x, *values: cs.jvp(lambda x: x[filled(expression, values)], (x,), (np.sin(x),))[1]  # noqa: E731
    np.testing.assert_array_equal(by_reference(moved, x, *values), np.sin(x)[filled(expression, values)])


@given(indexing=indexings)
def test_a_step_of_a_run_selects_what_numpy_selects(indexing):
    shape, expression = indexing
    start = np.sin(np.arange(float(np.prod(shape)))).reshape(shape)

    def step(state, values, keep):
        picked = state[filled(expression, values)]
        weights = np.cos(np.arange(np.prod(np.shape(picked)))).reshape(np.shape(picked))
        return state + 0.1 * keep.sum() * np.sum(weights * picked)

    values = values_of(expression)
    batches = [values, values]
    expected = numpys(lambda: step(step(start, values, np.ones(1)), values, np.ones(1)))
    if expected is None:
        with pytest.raises(BoundsError):
            cs.Training(step, start, batches, [[0], [0]])
        return
    run = cs.Training(step, start, batches, [[0], [0]])
    np.testing.assert_allclose(run.train(), expected, rtol=1e-13, atol=1e-13)
    halved = step(step(start, values, np.array([0.5])), values, np.array([0.5]))
    many = run.retrain(without=np.array([[0.0], [0.5]]))
    np.testing.assert_allclose(many, [expected, halved], rtol=1e-13, atol=1e-13)


# np.take and its relatives, at indices known at run time.

FORMS = {
    "x[i]": (lambda x, i: x[i], 0),
    "x[:, i]": (lambda x, i: x[:, i], 1),
    "x[rows, i]": (lambda x, i: x[np.arange(len(i)), i], 1),
    "x[i, i]": (lambda x, i: x[i, i], 0),
    "x[0, :, i]": (lambda x, i: x[None, :, :][0, :, i], 2),
    "x[i - 1 + 1]": (lambda x, i: x[i - 1 + 1], 0),
    "np.take": (lambda x, i: np.take(x, i, axis=1), 1),
    "np.take, flat": (lambda x, i: np.take(x[0], i), 0),
    "np.take_along_axis": (lambda x, i: np.take_along_axis(x, i[:, None], axis=1), 1),
    "x.take": (lambda x, i: x.take(i, axis=0), 0),
}
TABLE = np.arange(9.0).reshape(3, 3) ** 2


@pytest.mark.parametrize("compute", [by_reference, simplified, compiled], ids=["reference", "simplified", "compiled"])
@pytest.mark.parametrize("name", FORMS)
def test_a_run_time_index_is_held_to_its_own_axis(name, compute):
    form, axis = FORMS[name]
    for index in ([0, 2, 1], [0, -1, -3]):
        np.testing.assert_array_equal(compute(form, TABLE, np.array(index)), form(TABLE, np.array(index)))
    for index in ([0, 3, 1], [-4, 0, 0], [0, 1, 99]):
        worst = next(i for i in index if not -3 <= i < 3)
        with pytest.raises(BoundsError, match=rf"{HERE}: index {worst} is out of bounds for axis {axis} with size 3"):
            compute(form, TABLE, np.array(index))


def gather_by_steps(form):
    """A step that trains a table by what a form gathers of it."""

    def step(state, index, keep):
        loss = lambda p: (keep * np.sin(form(p, index).reshape(len(keep), -1).sum(-1))).sum()  # noqa: E731
        return cs.optim.sgd(state, cs.grad(loss)(state["params"]), 0.1)

    return step


def trained_by_differences(form, batches, keeps):
    """The same training with slopes by central differences, in NumPy."""
    p = TABLE / 10
    for index, keep in zip(batches, keeps, strict=True):
        loss = lambda p, index=index, keep=keep: (  # noqa: E731
            keep * np.sin(form(p, index).reshape(len(keep), -1).sum(-1))
        ).sum()
        slope = np.zeros_like(p)
        for at in np.ndindex(p.shape):
            h = np.zeros_like(p)
            h[at] = 1e-5
            slope[at] = (loss(p + h) - loss(p - h)) / 2e-5
        p = p - 0.1 * slope
    return p


ROWWISE = ["x[i]", "x[rows, i]", "x[i, i]", "np.take_along_axis", "x.take", "x[i - 1 + 1]"]


@pytest.mark.parametrize("name", ROWWISE)
def test_a_run_trains_at_negative_indices_and_retrains_and_predicts_there(name):
    form, _ = FORMS[name]
    batches = [np.array(i) for i in ([0, -1, 2], [-3, 1, -2], [-1, -1, 0])]
    state = cs.optim.sgd_state(TABLE / 10)
    run = cs.Training(gather_by_steps(form), state, batches, [np.arange(3)] * 3)
    keeps = np.ones((3, 3))
    # Central differences of sines at 1e-5: 1e-10.
    np.testing.assert_allclose(run.train()["params"], trained_by_differences(form, batches, keeps), atol=1e-9)
    without = run.retrain(without=[[1], [0, 2]])["params"]
    for row, ids in zip(without, ([1], [0, 2]), strict=True):
        kept = keeps.copy()
        kept[:, ids] = 0.0
        np.testing.assert_allclose(row, trained_by_differences(form, batches, kept), atol=1e-9)
    # In one direction a series of high order is the retraining itself; weights of 1/10 converge quickly.
    w = np.array([0.1, 0.0, -0.1])
    series = cs.push(run, w[None], 8).coefficients(lambda p: p)[0]
    np.testing.assert_allclose(series.sum(axis=0).real, run.retrain(without=w)["params"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ROWWISE)
def test_a_run_refuses_an_index_out_of_bounds_before_it_trains(name):
    form, axis = FORMS[name]
    for bad, entry in (([0, 3, 1], 1), ([0, 1, -4], 2), ([5, 3, 1], 0)):
        batches = [np.array([0, 1, 2]), np.array([0, 0, 0]), np.array(bad)]
        examples = [np.arange(3), np.arange(3), np.arange(7, 10)]
        words = rf"{HERE}: index {bad[entry]} is out of bounds for axis {axis} with size 3 \(at step 2 of 3"
        with pytest.raises(InputError, match=rf"{words}, at \[{entry}.* of the array, example {7 + entry}\)"):
            cs.Training(gather_by_steps(form), cs.optim.sgd_state(TABLE), batches, examples)


def classifier(state, batch, keep):
    loss = lambda p: (keep * cs.cross_entropy(batch[0] @ p, batch[1])).mean()  # noqa: E731
    return cs.optim.sgd(state, cs.grad(loss)(state["params"]), 0.5)


@pytest.mark.parametrize("labels", [[0, 2, 1, 0], [0, 1, 2, 0], [0, -1, 1, 0], [1, 0, 1, 2], [-1, 0, 0, 0]])
@pytest.mark.parametrize("dtype", [np.int64, np.int8])
def test_a_run_time_label_without_a_class_is_refused(labels, dtype):
    x, y = np.random.default_rng(0).normal(size=(4, 3)), np.array(labels, dtype=dtype)
    entry = next(i for i, label in enumerate(labels) if label not in (0, 1))
    words = f"label {labels[entry]} is out of bounds for 2 classes; labels are 0..1"
    with pytest.raises(BoundsError, match=rf"{HERE}: {words} \(at step 1 of 2.*example {entry}\)"):
        cs.Training(classifier, cs.optim.sgd_state(np.zeros((3, 2))), [(x, y % 2), (x, y)], [np.arange(4)] * 2)
    for compute in (by_reference, simplified, compiled):
        with pytest.raises(BoundsError, match=words):
            compute(lambda x, y: cs.cross_entropy(x, y), x[:, :2], y)
    with pytest.raises(BoundsError, match=r"labels that are integers in 0\.\.1"):
        cs.cross_entropy(x[:, :2], y)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_labels_and_indices_of_every_integer_dtype_name_the_same_entries(dtype):
    x = np.random.default_rng(1).normal(size=(3, 200))
    y = np.array([0, 100, 127], dtype=dtype)
    expected = np.log(np.exp(x).sum(-1)) - x[np.arange(3), y]
    for ours in (
        cs.cross_entropy(x, y),
        by_reference(lambda x: cs.cross_entropy(x, y), x),
        by_reference(lambda x, y: cs.cross_entropy(x, y), x, y),
        compiled(lambda x, y: cs.cross_entropy(x, y), x, y),
    ):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)
    for function in (lambda x: x[:, y], lambda x: np.take(x, y, axis=1), lambda x: x[[[0], [1]], y]):
        np.testing.assert_array_equal(by_reference(function, x), function(x))


def test_one_hot_and_boolean_labels_are_refused_with_a_remedy():
    logits = np.zeros((2, 3))
    with pytest.raises(ShapeError, match=r"one-hot.*cs\.log_softmax"):
        cs.cross_entropy(logits, np.eye(3)[:2])
    with pytest.raises(InputError, match="got bool"):
        cs.trace(lambda x, y: cs.cross_entropy(x, y), logits, np.array([True, False]))


# Where checks could be lost.


def test_a_check_outlives_the_arithmetic_around_it():
    unused = lambda x, i: (x[i], x.sum())[1]  # noqa: E731
    times_zero = lambda x, i: x.sum() + 0.0 * x[i].sum()  # noqa: E731
    constant = lambda x, i: x[i * 0 + 7]  # noqa: E731
    compared = lambda x, i: np.where(x[i] > 0, 1.0, 1.0)  # noqa: E731
    for function in (unused, times_zero, compared):
        for compute in (simplified, compiled):
            np.testing.assert_array_equal(compute(function, TABLE, 2), function(TABLE, 2))
            with pytest.raises(BoundsError, match="index 3 is out of bounds for axis 0 with size 3"):
                compute(function, TABLE, 3)
        step = lambda s, i, keep, f=function: s + keep.sum() * f(s, i).sum() / 100  # noqa: E731
        run = cs.Training(step, TABLE, [0, 1], [[0], [0]])
        by_hand = step(step(TABLE, 0, np.ones(1)), 1, np.ones(1))
        np.testing.assert_allclose(run.train(), by_hand, rtol=1e-14)
        np.testing.assert_allclose(run.retrain(np.zeros((2, 1)))[0], by_hand, rtol=1e-14)
        with pytest.raises(BoundsError, match="at step 1 of 2"):
            cs.Training(step, TABLE, [0, 3], [[0], [0]])
    for compute in (simplified, compiled, by_reference):
        with pytest.raises(BoundsError, match="index 7 is out of bounds for axis 0 with size 3"):
            compute(constant, TABLE, 0)


def test_single_integers_are_looked_at_even_where_nothing_is_selected_and_arrays_are_not():
    nothing = np.zeros(0, dtype=np.int64)
    assert_as_numpy(compiled, lambda x, i: x[nothing, i], TABLE, -3)
    assert_as_numpy(compiled, lambda x, i: x[nothing, i], TABLE, 3)
    assert_as_numpy(compiled, lambda x, i: x[nothing, i], TABLE, np.array([3]))
    assert_as_numpy(compiled, lambda x, i: x[i, nothing], TABLE, np.array([-4]))


def test_equal_indices_of_axes_of_different_extents_are_looked_at_for_each():
    function = lambda x, i: x[i] + x.T[i][0]  # noqa: E731
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(compiled(lambda x, i: x[i, 0] + x.T[i, 0], x, 1), x[1, 0] + x.T[1, 0])
    for compute in (by_reference, simplified, compiled):
        with pytest.raises(BoundsError, match="index 2 is out of bounds for axis 0 with size 2"):
            compute(lambda x, i: x.T[i].sum() + x[i].sum(), x, 2)
        with pytest.raises((BoundsError, ShapeError)):
            compute(function, x, 2)


def test_a_counter_gathers_what_its_step_says_from_either_end():
    data = np.arange(5.0) ** 2

    def step(state, batch, keep):
        p, t = state
        return p + keep.sum() * (cs.take(data, t, axis=0) + 10.0 * cs.take(data, -1 - t, axis=0)), t + 1

    run = cs.Training(step, (np.zeros(()), 0), [0.0] * 5, [[0]] * 5)
    assert run.train()[0] == sum(data[t] + 10.0 * data[-1 - t] for t in range(5))
    with pytest.raises(BoundsError, match="index 5 is out of bounds for axis 0 with size 5 .at step 5 of 6, example 0"):
        cs.Training(step, (np.zeros(()), 0), [0.0] * 6, [[0]] * 6)


def test_measurements_and_local_series_hold_indices_to_their_axes():
    positive = lambda x: np.where(x > 0, 1, 0)  # noqa: E731
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(3), [np.array([1.0, -1.0, 2.0])], [[0]])
    pushed = cs.push(run, np.ones((1, 1)), 1)
    assert pushed.coefficients(lambda p: p[positive(p) - 1])[0].tolist() == [
        [1.0, 2.0, 1.0],
        [-1.0, -2.0, -1.0],
    ]
    with pytest.raises(BoundsError, match=rf"{HERE}: index 3 is out of bounds for axis 0 with size 3"):
        pushed.coefficients(lambda p: p[positive(p) + 2])
    with pytest.raises(BoundsError, match=rf"{HERE}: index 3 is out of bounds"):
        pushed.coefficients(lambda p: p[[3]])
    point = np.array([1.0, -1.0, 2.0])
    query = cs.local_sketch(lambda x: x[positive(x) - 1].sum(), point, directions=3, order=1)
    assert query.predict(np.array([0.0, 0.0, 1.0])).value == pytest.approx(point[[0, -1, 0]].sum() + 1.0)
    with pytest.raises(BoundsError, match="index 3 is out of bounds"):
        cs.local_sketch(lambda x: x[positive(x) + 2].sum(), point, directions=3, order=1)
    with pytest.raises(BoundsError, match="index 3 is out of bounds"):
        cs.grad(lambda x: x[positive(x) + 2].sum())(point)


def test_expanding_a_circuit_looks_at_its_indices():
    circuit = cs.trace(lambda x, i: x[i] + 1.0, TABLE[0], np.array([0, 1]))
    assert circuit.expand([2, -1]).size == 2
    with pytest.raises(BoundsError, match="index 3 is out of bounds for axis 0 with size 3"):
        circuit.expand([0, 3])


def test_integers_that_float64_does_not_hold_are_refused():
    function = cs.compile(cs.trace(lambda x, i: x[i - 2**53], TABLE[0], 0))
    assert function(TABLE[0], 2**53) == TABLE[0, 0]
    for index in (2**53 + 1, -(2**53) - 1, np.uint64(2**64 - 1)):
        with pytest.raises(InputError, match=r"args\.1 contains integers beyond 2\*\*53"):
            function(TABLE[0], index)


def test_booleans_are_masks_for_brackets_and_refused_by_take():
    assert cs.compile(cs.trace(lambda x: x[[True, False, True]], TABLE))(TABLE).tolist() == TABLE[::2].tolist()
    with pytest.raises(TraceError, match=r"would read as 0 and 1; write x\[mask\]"):
        cs.trace(lambda x: np.take(x, [True, False, True], axis=0), TABLE)
    with pytest.raises(TraceError, match=r"by a run-time mask"):
        cs.trace(lambda x, m: x[m], TABLE, np.array([True, False, True]))
    with pytest.raises(TraceError, match=r"np\.compress with a run-time mask.*np\.where"):
        cs.trace(lambda x, m: np.compress(m, x, axis=0), TABLE, np.array([True, False, True]))
    with pytest.raises(TraceError, match=r"np\.delete at run-time positions.*np\.where"):
        cs.trace(lambda x, i: np.delete(x, i, axis=0), TABLE, 0)
