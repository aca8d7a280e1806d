"""What cannot be done is refused at the border: a CircuitSketchError that says what, where, and what to do instead."""

from __future__ import annotations

import re

import numpy as np
import pytest
from small_runs import make, raises

import circuitsketch as cs

HERE = r"test_errors\.py:\d+"  # the user's line


# Tracing.


def write_in_place(x):
    x[0] = 1.0
    return x


def add_in_place(x):
    x += 1.0
    return x


IN_TRACE = {
    "a branch": (lambda x: x if x[0] > 0 else -x, cs.TraceError, "np.where"),
    "a loop with a condition": (lambda x: [x for _ in range(3) if x.sum() < 1][0], cs.TraceError, "np.where"),
    "a comparison chained": (lambda x: np.where(0 < x < 1, x, 0.0), cs.TraceError, "np.where"),
    "a write into an array": (write_in_place, cs.TraceError, "np.where|np.concatenate"),
    "an update in place": (add_in_place, cs.TraceError, r"x = x \+ y"),
    "a number asked for": (lambda x: float(x[0]), cs.TraceError, "np.exp, not math.exp"),
    "an item asked for": (lambda x: x[0].item(), cs.TraceError, "keep computing"),
    "a count asked for": (lambda x: sum(x[0] for _ in range(x[0])), cs.TraceError, "count"),
    "an array of wires": (lambda x: np.array([x[0], x[1]]), cs.TraceError, "np.stack"),
    "a function without a gate": (lambda x: np.sort(x), cs.TraceError, "np.sort"),
    "a ufunc without a gate": (lambda x: np.spacing(x), cs.TraceError, "spacing"),
    "complex data": (lambda x: x * 1j, cs.TraceError, "real numbers"),
    "text": (lambda x: x + "a", cs.TraceError, "float"),
    "shapes that do not go together": (lambda x: x + np.ones(3), cs.ShapeError, r"\(2,\) and \(3,\)"),
    "a product of shapes that do not fit": (lambda x: x @ np.ones((3, 2)), cs.ShapeError, r"\(3, 2\)"),
    "an impossible reshape": (lambda x: x.reshape(3), cs.ShapeError, "reshape"),
    "an axis that is not there": (lambda x: x.sum(axis=1), cs.ShapeError, "axis 1"),
    "a fraction as an index": (lambda x: x[np.array([0.5])], cs.TraceError, "integers"),
    "a mask as an index": (lambda x: x[x > 0], cs.TraceError, "np.where"),
    "an index beyond the end": (lambda x: np.take(x, [2], axis=0), cs.ShapeError, "index 2"),
    "a gradient of an array": (lambda x: cs.grad(lambda p: p * p)(x), cs.TraceError, "sum or mean"),
    "labels of another shape": (lambda x: cs.cross_entropy(x, np.array([0, 1])), cs.ShapeError, "one label"),
}


@pytest.mark.parametrize("name", IN_TRACE)
def test_a_trace_refuses(name):
    function, kind, words = IN_TRACE[name]
    with raises(kind, words) as found:
        cs.trace(function, np.ones(2))
    if name != "labels of another shape":
        assert re.search(HERE, str(found.value)), "the message names the user's line"
    # Nothing is left under way: the next trace, and plain NumPy, work.
    assert cs.trace(np.exp, np.ones(2)).size == 2
    assert cs.grad(lambda p: (p * p).sum())(np.ones(2)).tolist() == [2.0, 2.0]


# Making a run.


def diverge_in_shape(state, x, keep):
    return state if x.ndim == 0 else x


MAKING = {
    "a step that is no function": (lambda: make(step=3), cs.InputError, "step must be a function, not int"),
    "params that are no function": (
        lambda: make(params="w"),
        cs.InputError,
        "params must be a function, not str",
    ),
    "a state with a NaN": (
        lambda: make(state={"a": np.array([1.0, np.nan])}),
        cs.InputError,
        r"state\.a .*NaN",
    ),
    "a state with text": (lambda: make(state={"a": "x"}), cs.InputError, "real numbers"),
    "a complex state": (lambda: make(state=1j), cs.InputError, "complex128.*real numbers"),
    "a ragged batch": (lambda: make(batches=[1.0, object()]), cs.InputError, r"batches\[1\]"),
    "an infinite batch": (
        lambda: make(batches=[1.0, np.inf]),
        cs.InputError,
        r"batches\[1\].*clean the data",
    ),
    "no list of batches": (lambda: make(batches=3), cs.InputError, "batches must be a list"),
    "no list of examples": (lambda: make(examples=3), cs.InputError, "examples must be a list"),
    "fewer examples than batches": (lambda: make(examples=[[0]]), cs.InputError, "2 batches and 1 lists"),
    "no steps": (lambda: make(batches=[], examples=[]), cs.InputError, "at least one step"),
    "steps without examples": (lambda: make(examples=[[], []]), cs.InputError, "pass the ids of each step"),
    "an id of n": (
        lambda: make(n=1),
        cs.InputError,
        "n = 1, but step 1 reads example 1; ids must be below n",
    ),
    "a negative id": (lambda: make(examples=[[0], [-1]]), cs.InputError, r"examples\[1\] contains the id -1"),
    "a fractional id": (lambda: make(examples=[[0], [0.5]]), cs.InputError, r"examples\[1\].*integer ids"),
    "a mask as ids": (lambda: make(examples=[[0], [True]]), cs.InputError, r"examples\[1\].*integer ids"),
    "a number as ids": (lambda: make(examples=[0, 1]), cs.InputError, r"examples\[0\].*integer ids"),
    "ragged ids": (lambda: make(examples=[[0], [[0], [0, 1]]]), cs.InputError, r"examples\[1\].*integer ids"),
    "a truth value as n": (lambda: make(n=True), cs.InputError, "an integer, not True"),
    "a fraction as n": (lambda: make(n=2.5), cs.InputError, "an integer, not 2.5"),
    "a step that returns nothing": (
        lambda: make(lambda s, x, k: None),
        cs.InputError,
        "step 0 returns leaves",
    ),
    "a step that returns another structure": (
        lambda: make(lambda s, x, k: {"a": s["a"], "c": s["b"]}, {"a": 0.0, "b": 1.0}),
        cs.InputError,
        r"out\.c.*state\.b.*same structure",
    ),
    "a step that returns another shape": (
        lambda: make(lambda s, x, k: s + np.ones(2)),
        cs.ShapeError,
        r"step 0 returns state of shape \(2,\); the state has shape \(\)",
    ),
    "a later step that returns another shape": (
        lambda: make(diverge_in_shape, batches=[1.0, np.ones((1, 1))]),
        cs.ShapeError,
        r"step 1 returns state of shape \(1, 1\)",
    ),
    "a step that returns text": (lambda: make(lambda s, x, k: "a"), cs.TraceError, "return numbers"),
    "a step with a branch": (lambda: make(lambda s, x, k: s if k[0] > 0 else x), cs.TraceError, HERE),
    "an index beyond the end": (
        lambda: make(lambda s, i, k: s + np.take(k * np.ones(3), i, axis=0), batches=[2, 3]),
        cs.InputError,
        rf"{HERE}.*index 3 is out of bounds for axis 0 with size 3 \(at step 1 of 2, example 1\)",
    ),
    "an index before the front": (
        lambda: make(lambda s, i, k: s + np.take(k * np.ones(3), i, axis=0), batches=[2, -4]),
        cs.InputError,
        "index -4 is out of bounds for axis 0 with size 3 .at step 1",
    ),
    "a label that is no class": (
        lambda: make(lambda s, y, k: s + k * cs.cross_entropy(s[None], y)[0], np.zeros(3), [np.array([5])], [[0]]),
        cs.InputError,
        "label 5 is out of bounds for 3 classes",
    ),
    "a counter that leaves its table": (
        lambda: make(lambda s, x, k: (s[0] + np.take(s[0] + np.ones(1), s[1]) * k.sum(), s[1] + 1), (0.0, 0)),
        cs.InputError,
        "index 1 is out of bounds for axis 0 with size 1 .at step 1 of 2",
    ),
    "an index that weights change": (
        lambda: make(lambda s, x, k: s + np.take(np.ones(3) * x, (k[0] > 0.5).astype(int))),
        cs.InputError,
        f"{HERE}.*depends on the examples' weights; indices must come from the data",
    ),
}


@pytest.mark.parametrize("name", MAKING)
def test_a_training_refuses(name):
    act, kind, words = MAKING[name]
    with raises(kind, words):
        act()


# Deletion sets.

RUN = make()
QUERY = cs.sketch(RUN, 8, 1).measure(lambda p: p)

SUBSETS = {
    "nothing": ([], "empty"),
    "no mask entry": (np.zeros(2, dtype=bool), "deletes nothing"),
    "an id twice": ([1, 1], "given 2 times"),
    "an id of n": ([0, 2], "id 2 at position 1.*0 to 1"),
    "a negative id": ([-1], "id -1"),
    "a mask of another length": ([True, False, True], "3 elements for n = 2"),
    "weights of another length": ([0.5], "1 floats for n = 2"),
    "a weight that is no number": ([0.5, np.nan], "example 1 is nan"),
    "an infinite weight": ([np.inf, 0.0], "example 0 is inf"),
    "masks and ids mixed": ([True, 1], "mixes"),
    "a number": (1, "wrap a single id in a list"),
    "None": (None, "cannot be None"),
    "text": ("01", "group '01' is unknown, because the run has no labels"),
    "a dict": ({0: 1.0}, "cannot be"),
    "complex weights": (np.array([1j, 0]), "complex"),
    "three axes": (np.zeros((1, 1, 2)), "shape"),
}
MANY_SUBSETS = {
    "an empty one": ([[0], []], "subset 1.*empty"),
    "a repeated id in one": ([[0], [1, 1]], "subset 1.*2 times"),
    "rows of another length": (np.zeros((2, 3)), "subset 0: the deletion set has 3 floats for n = 2"),
    "no rows": (np.zeros((0, 2)), "empty"),
    "lists in lists in lists": ([[[0], [0, 1]]], "subset 0"),
    "arrays of no axes": ([np.array(0), np.array(0)], "2 times"),
}


@pytest.mark.parametrize("name", SUBSETS)
def test_retrain_refuses_a_deletion_set(name):
    subset, words = SUBSETS[name]
    for ask in (RUN.retrain, QUERY.without):
        with raises(cs.InputError, words):
            ask(subset)


@pytest.mark.parametrize("name", MANY_SUBSETS)
def test_retrain_refuses_several_deletion_sets(name):
    subsets, words = MANY_SUBSETS[name]
    with raises(cs.InputError, words):
        RUN.retrain(subsets)


# Pushing and sketching.

PUSHES = {
    "directions of another length": (lambda: cs.push(RUN, np.ones((2, 3)), 1), r"\(2, 3\).*\(any, 2\)"),
    "one direction without its axis": (lambda: cs.push(RUN, np.ones(2), 1), r"shape \(2,\)"),
    "no directions": (lambda: cs.push(RUN, np.ones((0, 2)), 1), "at least 1"),
    "a direction with a NaN": (
        lambda: cs.push(RUN, [[0.0, 1.0], [np.nan, 0.0]], 1),
        "direction 1 holds a NaN",
    ),
    "an infinite direction": (lambda: cs.push(RUN, [[np.inf, 0.0]], 1), "direction 0 holds"),
    "ragged directions": (lambda: cs.push(RUN, [[1.0, 2.0], [1.0]], 1), "array of numbers"),
    "text for directions": (lambda: cs.push(RUN, [["a", "b"]], 1), "array of numbers"),
    "no run": (lambda: cs.push(lambda s: s, np.eye(2), 1), "cs.Training, not function.*cs.local_sketch"),
    "no run to sketch": (lambda: cs.sketch(None, 2, 1), "cs.Training, not NoneType"),
    "no number of directions": (lambda: cs.sketch(RUN, 0, 1), "at least 1, not 0"),
    "a fraction of directions": (lambda: cs.sketch(RUN, 1.5, 1), "at least 1, not 1.5"),
    "a negative seed": (lambda: cs.sketch(RUN, 2, 1, seed=-1), "seed"),
    "an unknown distribution": (lambda: cs.sketch(RUN, 2, 1, distribution="cube"), "'cube': choose one of sphere"),
    "a small dtype": (lambda: cs.sketch(RUN, 2, 1, dtype=np.float16), "complex128 or complex64"),
    "no dtype": (lambda: cs.sketch(RUN, 2, 1, dtype="wide"), "'wide', which is not a dtype"),
    "a step that does not use keep": (
        lambda: cs.push(make(lambda s, x, k: s + x), np.eye(2), 1),
        "no part of the state depends.*`keep`",
    ),
    "no function": (lambda: cs.local_sketch(3.0, np.zeros(2)), "a function, not float"),
    "a complex point": (lambda: cs.local_sketch(np.sum, np.array([1j])), "complex128; pass real numbers"),
    "a point with a NaN": (lambda: cs.local_sketch(np.sum, np.array([np.nan])), "NaN"),
    "a point without numbers": (lambda: cs.local_sketch(np.sum, np.zeros(0)), "at least 1, not 0"),
    "a function of nothing": (lambda: cs.local_sketch(lambda x: (), np.zeros(2)), "returns 0 leaves"),
}


@pytest.mark.parametrize("name", PUSHES)
def test_push_refuses(name):
    act, words = PUSHES[name]
    with raises(cs.InputError, words):
        act()


@pytest.mark.parametrize("order", [-1, 1.0, True, "2", None])
def test_an_order_is_an_integer_from_zero_on(order):
    circuit = cs.trace(np.exp, np.ones(2))
    for act in (
        lambda: cs.push(RUN, np.eye(2), order),
        lambda: cs.sketch(RUN, 2, order),
        lambda: cs.compile(circuit, order),
        lambda: cs.local_sketch(np.sum, np.ones(2), 2, order),
    ):
        with raises(cs.InputError, f"order must be an integer from 0 to .*, not {order!r}"):
            act()


@pytest.mark.parametrize("threads", [0, -2, True, 1.5, "all"])
def test_threads_are_an_integer_from_one_on(threads):
    compiled = cs.compile(cs.trace(np.exp, np.ones(2)), 1)
    for act in (
        lambda: cs.push(RUN, np.eye(2), 1, threads=threads),
        lambda: cs.sketch(RUN, 2, 1, threads=threads),
        lambda: RUN.retrain([0], threads=threads),
        lambda: RUN.retrain([[0], [1]], threads=threads),
        lambda: compiled.series((np.ones(2),), (np.ones((1, 1, 2)),), threads=threads),
    ):
        with raises(cs.InputError, f"threads is {threads!r}; it must be an integer >= 1, or None"):
            act()


SKETCH = cs.push(RUN, np.eye(2), 1)
MEASUREMENTS = {
    "leaves without a number": (lambda p: {"a": p * np.zeros(0)}, cs.InputError, "holds nothing"),
    "nothing": (lambda p: None, cs.InputError, "returns no value"),
    "an empty array": (lambda p: np.zeros(0) * p, cs.InputError, "holds nothing"),
    "text": (lambda p: "p", cs.TraceError, "return numbers"),
    "complex numbers": (lambda p: 1j * p, cs.TraceError, HERE),
    "a branch": (lambda p: p if p > 0 else -p, cs.TraceError, HERE),
    "a logarithm of less than zero": (
        lambda p: np.log(p - 20.0),
        cs.DomainError,
        f"gate log .*{HERE}.*not positive",
    ),
    "what is no number": (
        lambda p: p * np.nan,
        cs.DivergenceError,
        "Taylor coefficient 0 of the measurement .* is not finite",
    ),
    "too large coefficients": (
        lambda p: (1e200 * p) ** 2,
        cs.DivergenceError,
        "of the measurement along .* is not finite",
    ),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_refuses_a_result(name):
    function, kind, words = MEASUREMENTS[name]
    with raises(kind, words):
        SKETCH.measure(function)


def test_a_measurement_is_a_function():
    with raises(cs.InputError, "a function of the trained parameters, not int"):
        SKETCH.measure(3)


# Compiled functions.

COMPILED = cs.compile(cs.trace(lambda x, i: np.take(x["a"], i, axis=0), {"a": np.ones(3)}, np.array([0, 1])), 1)
A = {"a": np.ones(3)}
CALLS = {
    "fewer arguments": (lambda: COMPILED(A), cs.InputError, "leaves"),
    "another structure": (lambda: COMPILED({"b": np.ones(3)}, [0, 1]), cs.InputError, r"args\.0\.a"),
    "another shape": (
        lambda: COMPILED({"a": np.ones(4)}, np.array([0, 1])),
        cs.ShapeError,
        r"\(4,\).*\(3,\)",
    ),
    "text": (lambda: COMPILED({"a": "abc"}, np.array([0, 1])), cs.InputError, "real numbers"),
    "complex numbers": (
        lambda: COMPILED({"a": 1j * np.ones(3)}, np.array([0, 1])),
        cs.InputError,
        "real numbers",
    ),
    "fractions as indices": (lambda: COMPILED(A, np.array([0.5, 1])), cs.InputError, "traced as integers"),
    "an index beyond the end": (lambda: COMPILED(A, np.array([0, 3])), cs.InputError, f"{HERE}.*index 3 is"),
    "an index before the front": (
        lambda: COMPILED(A, np.array([0, -4])),
        cs.InputError,
        "index -4 is out of bounds for axis 0 with size 3",
    ),
    "no coefficients": (
        lambda: COMPILED.series((A, np.array([0, 1])), (None, None)),
        cs.InputError,
        "same number of directions, at least 1; got \\[\\]",
    ),
    "coefficients of another shape": (
        lambda: COMPILED.series((A, np.array([0, 1])), ({"a": np.ones((1, 1, 4))}, None)),
        cs.ShapeError,
        r"args\.0\.a have shape \(1, 1, 4\); expected \(directions, k, 3\)",
    ),
    "coefficients of indices": (
        lambda: COMPILED.series((A, np.array([0, 1])), (None, np.ones((1, 1, 2)))),
        cs.InputError,
        "traced as integers",
    ),
    "coefficients with a NaN": (
        lambda: COMPILED.series((A, np.array([0, 1])), ({"a": np.full((1, 1, 3), np.nan)}, None)),
        cs.InputError,
        "finite",
    ),
    "coefficients of another structure": (
        lambda: COMPILED.series((A, np.array([0, 1])), ({"b": np.ones((1, 1, 3))}, None)),
        cs.InputError,
        "structure",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_compiled_function_refuses(name):
    act, kind, words = CALLS[name]
    with raises(kind, words):
        act()


def test_a_function_is_traced_before_it_is_compiled():
    with raises(cs.InputError, r"circuit must be a Circuit, not function; trace one with cs\.trace\("):
        cs.compile(lambda x: x)


def test_a_series_at_a_bad_point_is_refused():
    compiled = cs.compile(cs.trace(lambda x: np.log(x).sum(), np.ones(2)), 2)
    assert compiled(np.array([1.0, 0.0])) == -np.inf  # a value there is
    with raises(cs.DomainError, f"gate log .*{HERE}.*not positive"):
        compiled.series((np.array([1.0, 0.0]),), (np.ones((1, 1, 2)),))
