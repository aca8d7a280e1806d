"""Refusals name what exists, the right reason, and the remedy that the package has; the remedies work."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from scipy import special

import circuitsketch as cs
from circuitsketch.errors import DomainError, TraceError
from circuitsketch.frontends.numpy.array_functions import FUNCTIONS
from circuitsketch.frontends.numpy.hints import HINTS, advice
from circuitsketch.frontends.numpy.ufuncs import UFUNCS
from circuitsketch.training.subsets import in_order

HERE = os.path.basename(__file__)
X = np.array([0.2, 0.5, 0.9])
MATRIX = np.diag([1.0, 2.0, 3.0])

REFUSED = [
    (lambda x: np.linalg.solve(MATRIX, x), "np.linalg.solve", "Cholesky"),
    (lambda x: np.linalg.inv(np.outer(x, x)), "np.linalg.inv", "products has no gate"),
    (lambda x: np.mod(x, 0.25), "np.remainder", "slope 1"),
    (lambda x: x % 0.25, "np.remainder", "slope 1"),
    (np.floor, "np.floor", "locally constant"),
    (np.sort, "np.sort", "order of elements"),
    (special.ndtr, "scipy.special.ndtr", "scipy.special.erfc"),
    (special.log_expit, "scipy.special.log_expit", "cs.softplus"),
    (special.softmax, "softmax", "cs.special.softmax"),
    (special.log_softmax, "log_softmax", "cs.special.log_softmax"),
    (special.logsumexp, "logsumexp", "cs.special.logsumexp"),
    (special.j0, "scipy.special.j0", "build it from"),
    (lambda x: np.fmax(x, 0.0), "np.fmax", "np.maximum"),
]


@pytest.mark.parametrize("position", range(len(REFUSED)))
def test_a_refusal_names_the_function_and_the_remedy(position):
    function, name, remedy = REFUSED[position]
    with pytest.raises(TraceError, match=rf"{HERE}:\d+ calls {re.escape(name)} .*{re.escape(remedy)}") as refusal:
        cs.trace(function, X)
    assert "similar: np.absolute" not in str(refusal.value)


def test_a_method_that_no_wire_has_gets_the_same_remedy_as_the_function():
    with pytest.raises((AttributeError, TraceError), match=r"np\.maximum, which propagates NaN"):
        cs.trace(lambda x: x.fmax(0.0), X)


@pytest.mark.parametrize("hint", sorted(set(HINTS.values())))
def test_a_hint_names_functions_that_have_gates(hint):
    for name in re.findall(r"\bnp\.([a-z_0-9]+)(?=\()", hint):
        function = getattr(np, name)
        assert function in UFUNCS or function in FUNCTIONS or name == "tri", name
    for name in re.findall(r"\bcs\.([a-z_0-9]+)", hint):
        assert hasattr(cs, name)


def test_a_name_spelled_alike_is_offered_within_its_family_alone():
    known = ["np.absolute", "np.cos", "np.logaddexp", "np.linalg.norm", "scipy.special.erf"]
    assert "similar: np.logaddexp)" in advice("np.logaddexpp", known)
    assert "similar: np.linalg.norm)" in advice("np.linalg.normm", known)
    for name in ("np.linalg.absolut", "np.cross", "scipy.special.erfi2", "np.erf"):
        assert "similar" not in advice(name, known)


# The remedies are what they say.
Y = np.array([0.5, -2.0, 3.0])
REMEDIES = {
    "sinc": (lambda x: np.sin(np.pi * x) / (np.pi * x), np.sinc, X),
    "copysign": (lambda x: np.where(Y < 0, -1.0, 1.0) * np.abs(x), lambda x: np.copysign(x, Y), X),
    "ndtr": (lambda x: 0.5 * special.erfc(-x / np.sqrt(2)), special.ndtr, X),
    "log_expit": (lambda x: -cs.softplus(-x), special.log_expit, X),
    "entr": (lambda x: -x * np.log(np.where(x == 0, 1.0, x)), special.entr, X),
    "cosm1": (lambda x: -2.0 * np.sin(0.5 * x) ** 2, special.cosm1, X),
    "logsumexp": (lambda x: np.logaddexp.reduce(x, axis=0), special.logsumexp, X),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_computes_what_it_stands_for(name):
    ours, theirs, x = REMEDIES[name]
    np.testing.assert_allclose(cs.compile(cs.trace(ours, x))(x), theirs(x), rtol=1e-13)


def cancelling(rule):
    """A run in which the gradients of two examples cancel for the second row of parameters."""

    def step(state, batch, keep):
        loss = lambda p: (keep * (batch @ p).sum(-1) ** 2).mean()  # noqa: E731
        return getattr(cs.optim, rule)(state, cs.grad(loss)(state["params"]), 0.1)

    state = getattr(cs.optim, f"{rule}_state")(np.ones((2, 2)))
    return cs.Training(step, state, [np.array([[1.0, 1.0], [3.0, -1.0]])], [[0, 1]])


@pytest.mark.parametrize("rule", ["adam", "adamw"])
def test_a_square_root_of_gradients_that_cancel_hints_at_adding_a_constant(rule):
    with pytest.raises(DomainError, match=rf"gate sqrt of cs.optim.{rule} .*{HERE}:\d+.*eps_root=1e-8 and eps=0"):
        cs.push(cancelling(rule), np.eye(2), 1)
    with pytest.raises(DomainError, match=rf"gate sqrt \(.*{HERE}:\d+.*epsilon"):  # one's own root has another remedy
        cs.compile(cs.trace(np.sqrt, 1.0), order=1).series((0.0,), (np.ones((1, 1)),))


def test_numeric_labels_are_listed_in_order():
    assert in_order([100, 10, 0, 1, 10]) == [0, 1, 10, 100]
    assert in_order(["10", "9", "b2", "b10"]) == ["9", "10", "b2", "b10"]
    assert in_order([True, 2.5, "x", ("a", 1), None])[:2] == [True, 2.5]
    run = cs.Training(
        lambda s, x, keep: s + keep.sum() * x, 0.0, [1.0] * 4, [[i] for i in range(4)], labels=[100, 10, 0, 1]
    )
    with pytest.raises(ValueError, match="the labels are 0, 1, 10, 100"):
        run.retrain(without="none")
