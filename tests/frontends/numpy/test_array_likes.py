"""Arrays that mean more than their numbers: refused with the way out wherever a user's array comes in."""

from __future__ import annotations

import decimal
import fractions
import os

import numpy as np
import pytest
from scipy import sparse

import circuitsketch as cs
from circuitsketch.arrays import explain_lost_meaning
from circuitsketch.directions import Given
from circuitsketch.errors import InputError, TraceError

HERE = os.path.basename(__file__)


class Metres(np.ndarray):
    """A unit-carrying array."""


MASKED = np.ma.array([1.0, 999.0, 3.0], mask=[False, True, False])
UNITS = np.array([1.0, 2.0, 3.0]).view(Metres)
X = np.ones(3)
INDEX = {"masked": np.ma.array([0, 1, 2], mask=[0, 1, 0]), "units": np.arange(3).view(Metres)}
kinds = pytest.mark.parametrize("kind", ["masked", "units"])
FLOATS = {"masked": MASKED, "units": UNITS}
WAY_OUT = {"masked": "x.filled", "units": r"np\.asarray\(x\)"}

BESIDE_WIRES = [
    lambda x, a: x - a,
    lambda x, a: x**a,
    lambda x, a: np.maximum(a, x),
    lambda x, a: np.where(a > 1, x, 0.0),
    lambda x, a: np.where(x > 0, x, a),
    lambda x, a: (x > a) * 1.0,
    lambda x, a: x @ a,
    lambda x, a: a @ x,
    lambda x, a: np.dot(a, x),
    lambda x, a: np.einsum("i,i", a, x),
    lambda x, a: np.stack([x, a]),
    lambda x, a: np.concatenate((a, x)),
    lambda x, a: np.clip(x, a, None),
    lambda x, a: x + [a, a],
    lambda x, a: np.take(x, a.astype(int) % 2),
    lambda x, a: x[a.astype(int) % 2],
    lambda x, a: x[None][0, a.astype(int) % 2],
    lambda x, a: cs.relu(a) + x,
    lambda x, a: cs.cross_entropy(np.stack([x, x, x]), a.astype(int) % 2),
    lambda x, a: (x, a),
]


@kinds
@pytest.mark.parametrize("position", range(len(BESIDE_WIRES)))
def test_array_likes_beside_a_wire_are_refused_at_the_users_line(kind, position):
    with pytest.raises((TraceError, InputError), match=WAY_OUT[kind]) as refusal:
        cs.trace(lambda x: BESIDE_WIRES[position](x, FLOATS[kind]), X)
    if refusal.type is TraceError:
        assert HERE in str(refusal.value)


@pytest.mark.parametrize("operation", [lambda a, x: a - x, lambda a, x: a * x, lambda a, x: a**x, lambda a, x: a > x])
def test_a_masked_array_on_the_left_of_an_operator_says_that_it_is_the_mask(operation):
    with pytest.raises(TraceError, match=rf"{HERE}:\d+ .*masked array.*x\.filled"):
        cs.trace(lambda x: operation(MASKED, x), X)


def test_a_single_masked_number_in_a_list_is_refused():
    with pytest.raises(TraceError, match="masked array"):
        cs.trace(lambda x: x + [1.0, np.ma.masked, 2.0], X)


@pytest.fixture(scope="module")
def run():
    return cs.Training(
        lambda s, b, keep: s + np.tanh(keep.sum() * b - s), np.zeros(()), [1.0, 2.0, 0.5], [[0], [1], [2]]
    )


@pytest.fixture(scope="module")
def query(run):
    return cs.sketch(run, 3, 2, per_example="series").measure(lambda s: s)


def one_step(state=0.0, batch=1.0, ids=(0, 1, 2), **options):
    return cs.Training(lambda s, b, keep: s + keep.sum() * b, state, [batch], [ids], **options)


def doubled():
    return cs.compile(cs.trace(lambda x: 2.0 * x, X), order=1)


ENTRANCES = {
    "an argument of trace": lambda a, i, run, query: cs.trace(lambda x: x, {"x": a}),
    "a compiled call": lambda a, i, run, query: doubled()(a),
    "the point of a series": lambda a, i, run, query: doubled().series((a,), (np.ones((1, 1, 3)),)),
    "coefficients": lambda a, i, run, query: doubled().series((X,), (a[None, None],)),
    "grad": lambda a, i, run, query: cs.grad(lambda x: (x * x).sum())(a),
    "tangents": lambda a, i, run, query: cs.jvp(lambda x: (x * x).sum(), (X,), (a,)),
    "relu of plain data": lambda a, i, run, query: cs.relu(a),
    "softmax of plain data": lambda a, i, run, query: cs.softmax(a),
    "labels of plain data": lambda a, i, run, query: cs.cross_entropy(np.ones((3, 3)), i),
    "a state": lambda a, i, run, query: one_step(state=a),
    "a state of Adam": lambda a, i, run, query: cs.Training(lambda s, b, keep: s, cs.optim.adam_state(a), [1.0], [[0]]),
    "a batch": lambda a, i, run, query: one_step(batch=a),
    "the list of batches": lambda a, i, run, query: cs.Training(
        lambda s, b, keep: s + keep.sum() * b, 0.0, a, [[0], [1], [2]]
    ),
    "a step's ids": lambda a, i, run, query: one_step(ids=i),
    "the list of ids": lambda a, i, run, query: cs.Training(
        lambda s, b, keep: s + keep.sum() * b, 0.0, [1.0] * 3, i[:, None]
    ),
    "labels": lambda a, i, run, query: one_step(labels=a),
    "items": lambda a, i, run, query: one_step(items=a),
    "groups": lambda a, i, run, query: run.grouped(i),
    "a mask to retrain": lambda a, i, run, query: run.retrain(without=a > 0),
    "many masks to retrain": lambda a, i, run, query: run.retrain(without=a[None] > 0),
    "a deletion set": lambda a, i, run, query: query.without(i),
    "a list of deletion sets": lambda a, i, run, query: query.without([i, i]),
    "h": lambda a, i, run, query: query.predict(a),
    "downweights": lambda a, i, run, query: query.reweight(a),
    "directions": lambda a, i, run, query: cs.push(run, a[None], 1),
    "given directions": lambda a, i, run, query: Given(a[None]),
    "the point of a local sketch": lambda a, i, run, query: cs.local_sketch(lambda x: x.sum(), a, 3, 1),
    "truths": lambda a, i, run, query: cs.evaluate(query, [[0], [1], [2]], truth=a),
    "evidence": lambda a, i, run, query: query.with_evidence([[0], [1], [2]], values=a),
    "coefficients of a query": lambda a, i, run, query: cs.Query(a[None], Given(np.ones((1, 3)))),
    "a measurement's argument": lambda a, i, run, query: cs.push(run, np.eye(3), 1).measure(
        lambda s, y: (s - y).sum(), a
    ),
}


@kinds
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_array_likes_are_refused_wherever_an_array_is_expected(entrance, kind, run, query):
    named = {"masked": "masked array", "units": "Metres"}[kind]
    with pytest.raises((InputError, TraceError), match=f"{named}.*{WAY_OUT[kind]}"):
        ENTRANCES[entrance](FLOATS[kind], INDEX[kind], run, query)


def test_matrices_and_sparse_arrays_are_refused_with_the_array_to_give():
    matrix = np.asmatrix(np.eye(2))
    for function in (lambda x: x * matrix, lambda x: matrix * x, lambda x: x @ matrix):
        with pytest.raises(TraceError, match=r"np\.matrix.*np\.asarray\(x\).*@"):
            cs.trace(function, np.ones((2, 2)))
    with pytest.raises(TraceError, match="np.matrix"):
        cs.trace(lambda x: x, matrix)
    with pytest.raises(TraceError, match=r"csr_array.*x\.toarray\(\)"):
        cs.trace(lambda x: x * sparse.csr_array(np.eye(3)), X)
    assert explain_lost_meaning(sparse.eye(3)) is not None


@pytest.mark.parametrize(
    "value",
    [np.array(["2020-01-01"], dtype="M8[D]"), np.array([1 + 0j]), np.array([1], dtype=object), "1", None]
    + [np.rec.array([(1.0, 2.0)]), np.zeros(1, dtype=[("a", float)]), decimal.Decimal("1.5"), fractions.Fraction(1, 2)]
    + [2**70, 2**53 + 1, -(2**60) - 1, np.array([2**63 + 1], dtype=np.uint64), np.longdouble("1e400")],
    ids=repr,
)
def test_values_that_float64_cannot_hold_are_refused(value):
    with pytest.raises(TraceError, match=rf"{HERE}:\d+"):
        cs.trace(lambda x: np.multiply(x, value), np.ones(1))
    with pytest.raises(InputError, match="args.0"):
        doubled().check_arguments((np.broadcast_to(np.asarray(value), (3,)),))


def test_values_that_float64_holds_are_used_as_given(tmp_path):
    kept = np.memmap(tmp_path / "data", dtype=float, mode="w+", shape=(3,))
    kept[:] = [1.0, 2.0, 4.0]
    compiled = doubled()
    for value in (kept, np.array([1, 2, 4], dtype=np.float16), np.array([2**53, -(2**53), 0])):
        assert compiled(value).tolist() == (2.0 * np.asarray(value, dtype=float)).tolist()
    assert one_step(batch=kept, state=np.zeros(3)).train().tolist() == [3.0, 6.0, 12.0]
    assert cs.compile(cs.trace(lambda x: x * kept, X))(X).tolist() == [1.0, 2.0, 4.0]
