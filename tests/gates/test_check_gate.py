"""`circuitsketch.testing.check_gate` passes every gate of the table, and names what is wrong with a broken one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strategies import EXEMPT, NAMES, application

import circuitsketch as cs
from circuitsketch.errors import GateError, InputError
from circuitsketch.extend import DOMAINS, elementwise, integrate, movement, register
from circuitsketch.gates import GATES
from circuitsketch.gates.gate import BUILT_IN
from circuitsketch.testing import check_gate


@pytest.fixture(autouse=True)
def own_gates_leave_the_table():
    yield
    for name in set(GATES) - set(BUILT_IN):
        GATES.pop(name)


def applied(name, seed):
    """Operands that suit a gate, those that no derivative is in as integers."""
    one = application(name, np.random.default_rng(seed))
    operands = [x if moves else x.astype(int) for x, moves in zip(one.operands, one.moves, strict=True)]
    return {"gate": one.gate, "operands": operands, "params": one.params}


@pytest.mark.parametrize("name", NAMES)
def test_every_gate_of_the_table_keeps_the_laws(name):
    for seed in range(2):
        check_gate(**applied(name, seed), vjp=name not in EXEMPT, kernels=seed == 0 and name != "in_bounds")


def swell(step_factor=2.0, slope=2.0, **options):
    """exp(2 x), or a wrong one."""
    return elementwise(
        "swell",
        1,
        lambda m, x: (m.exp(2.0 * x),),
        lambda k, ops, u, v: v.__setitem__(k, step_factor * integrate(k, ops, u, v)),
        lambda ct, out, x: (ct * (slope * out),),
        **options,
    )


def test_check_gate_passes_a_correct_gate():
    check_gate(swell())


def second_is_wrong(k, ops, u, v):
    v[k] = (2.0 if k in (1, 3) else 2.1) * integrate(k, ops, u, v)


@pytest.mark.parametrize(
    ("gate", "law"),
    [
        (lambda: swell(step_factor=2.1), "coefficient 1 of its series"),
        (lambda: replace(swell(), step=second_is_wrong), "coefficient 2 of its series"),
        (lambda: swell(slope=2.1), "its vjp is the adjoint"),
        (lambda: replace(swell(), shape=lambda x: x[::-1]), "its shape rule gives"),
        (lambda: swell(flat=True), "is flat, but its vjp"),
        (lambda: replace(swell(), size=lambda out, x: 7), "its size is 7, but it expands to 42"),
        (lambda: replace(swell(), vjp=lambda ct, out, x: ct * out), "must return a tuple of 1"),
        (lambda: replace(swell(), vjp=lambda ct, out, x: (np.sum(ct),)), "a cotangent of shape"),
        (lambda: replace(swell(), step=lambda k, ops, u, v: v.missing), "does not have a series: AttributeError"),
    ],
)
def test_check_gate_names_the_law_that_a_broken_gate_violates(gate, law):
    broken = gate()
    register(broken)
    with pytest.raises(GateError, match=f"gate swell.*{law}"):
        check_gate(broken)


def test_a_gate_that_moves_numbers_is_one_record_and_runs_in_kernels():
    """Every second entry from the front, doubled: a movement that the package does not have."""

    def doubled_moves(m, target, x):
        first = x.slice((0,), (2,), (x.shape[0] // 2,))
        return m.move(target, first), m.move(target, first, "add")

    doubled = movement(
        "doubled",
        1,
        lambda x: (x[0] // 2,),
        lambda x: 2.0 * x[: len(x) // 2 * 2 : 2],
        lambda ct, out, x: (np.stack([2.0 * ct, 0.0 * ct], axis=1).reshape(-1),),
        static=(),
        size=lambda out, x: out[0],
        moves=doubled_moves,
        expand=lambda b, shape, x: np.array([b.add(int(i), int(i)) for i in x[::2]]),
    )
    x = np.arange(6.0)
    check_gate(doubled, operands=[x])
    assert cs.compile(cs.trace(doubled, x))(x).tolist() == [0.0, 4.0, 8.0]


def test_an_unknown_domain_and_missing_operands_are_refused():
    with pytest.raises(InputError, match="domain 'somewhere', which does not exist; use one of"):
        swell(domain="somewhere")
    with pytest.raises(InputError, match="pass operands= for cumsum"):
        check_gate(GATES["cumsum"])
    assert "positive" in DOMAINS
