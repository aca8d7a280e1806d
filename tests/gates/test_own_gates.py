"""Gates of one's own: edited between processes, defined again in one, and what is stored of them.

The oracle is the closed form of exp(c x) and its relatives; nothing here is compared with another run of the package.
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitsketch as cs
from circuitsketch.backends.cuda.codegen import DeviceCode
from circuitsketch.backends.cuda.kernel_builder import CudaTarget
from circuitsketch.circuit.check import check
from circuitsketch.errors import InputError
from circuitsketch.gates import GATES
from circuitsketch.gates.digest import digest_gate
from circuitsketch.gates.exponential import integrate
from circuitsketch.gates.gate import BUILT_IN, elementwise
from circuitsketch.lower.instructions import ChainGate, ChainKernel, ChainOperand, Instruction, Mode
from circuitsketch.lower.packing import ChainArguments
from circuitsketch.store.fingerprint import describe_circuit, digest


@pytest.fixture(autouse=True)
def own_gates_leave_the_table():
    yield
    for name in set(GATES) - set(BUILT_IN):
        GATES.pop(name)


def swell(c, slope=None, name="swell", **options):
    """exp(c x); `slope` is the constant in its derivative, c unless it is given."""

    def step(k, ops, u, v):
        v[k] = c * integrate(k, ops, u, v)

    slope = c if slope is None else slope
    return elementwise(name, 1, lambda m, x: (m.exp(c * x),), step, lambda ct, out, x: (ct * slope * out,), **options)


def series(function, order=2, at=0.0):
    """Coefficients of function(at + z)."""
    circuit = function if isinstance(function, cs.Circuit) else cs.trace(function, 0.0)
    line = np.eye(1, order)
    return cs.compile(circuit, order).series((at,), (line,))[0].real


def exponential(c, order=2):
    """Coefficients of exp(c z)."""
    return np.array([c**k / math.factorial(k) for k in range(order + 1)])


# ----------------------------------------------------------------------------------------- from process to process

# Every way in which a rule may come by a number; c is what was edited between two processes.
CHILD = """
import functools, sys
import numpy as np
import circuitsketch as cs
from circuitsketch.gates.exponential import integrate
from circuitsketch.gates.gate import elementwise
C = float(sys.argv[1])

class Settings:
    c = C

def scaled(x):
    return C * x

def through_global(k, ops, u, v):
    v[k] = C * integrate(k, ops, u, v)

def through_helper(k, ops, u, v):
    v[k] = scaled(integrate(k, ops, u, v))

def through_default(k, ops, u, v, c=C):
    v[k] = c * integrate(k, ops, u, v)

def through_attribute(k, ops, u, v):
    v[k] = Settings.c * integrate(k, ops, u, v)

def with_argument(c, k, ops, u, v):
    v[k] = c * integrate(k, ops, u, v)

RULES = [through_global, through_helper, through_default, through_attribute, functools.partial(with_argument, C)]
gates = [
    elementwise(f"swell{i}", 1, lambda m, x: (m.exp(scaled(x)),), rule, lambda ct, out, x: (ct * C * out,))
    for i, rule in enumerate(RULES)
]

def bent_step(k, ops, u, v, slope):
    v[k] = slope[0] * u[k]
    slope[k] = ops.zero

# x above -3, and C x + 3 C - 3 below
bent = elementwise(
    "bent", 1, lambda m, x: (x * (s := m.choose(m.greater(x, -3.0), 1.0, C)) + 3.0 * (s - 1.0), s), bent_step,
    lambda ct, out, x: (ct * np.where(x > -3.0, 1.0, C),), companions=1,
)

def series(gate, order, at):
    return cs.compile(cs.trace(gate, 0.0), order).series((at,), (np.eye(1, order),))[0].real

wrong = []
for order in (2, 9):
    right = np.cumprod([1.0] + [C / k for k in range(1, order + 1)])
    wrong += [np.abs(series(gate, order, 0.0) - right).max() for gate in gates]
wrong.append(np.abs(series(bent, 2, -4.0) - [-C - 3.0, C, 0.0]).max())
wrong.append(abs(cs.compile(cs.trace(cs.grad(bent), 0.0))(-4.0) - C))
print(max(wrong))
"""


def test_edited_rules_do_not_run_the_machine_code_of_an_earlier_process(tmp_path):
    surroundings = os.environ | {"CIRCUITSKETCH_CACHE": str(tmp_path)}
    for c in ("1", "3", "1"):
        command = [sys.executable, "-c", CHILD, c]
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) < 1e-11


STORED = """
import sys
import numpy as np
import circuitsketch as cs
from circuitsketch.gates.exponential import integrate
from circuitsketch.gates.gate import elementwise
path, c, slope, uses_gradient = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "gradient"

def rule(k, ops, u, v):
    v[k] = c * integrate(k, ops, u, v)

swell = elementwise("swell", 1, lambda m, x: (m.exp(c * x),), rule, lambda ct, out, x: (ct * slope * out,))
change = cs.grad(swell) if uses_gradient else swell
run = cs.Training(lambda s, x, keep: s + change(keep[0] * x), np.zeros(()), [0.5, 1.0], [[0], [1]])
try:
    query = cs.sketch(run, 2, 2, path=path).measure(lambda p: p)
except cs.errors.StoreError as reason:
    print("refused", "circuits" in str(reason))
else:
    right = (slope if uses_gradient else 1.0) * (np.exp(c * 0.5) + np.exp(c))
    print("right", abs(query.baseline - right) < 1e-12)
"""


def test_a_stored_sketch_of_another_gate_of_the_same_name_is_refused(tmp_path):
    def outcome(path, c, slope, what):
        command = [sys.executable, "-c", STORED, str(tmp_path / path), str(c), str(slope), what]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.strip()

    assert outcome("one", 1, 1, "value") == "right True"
    assert outcome("one", 1, 1, "value") == "right True"  # from the disk, in another process
    assert outcome("one", 2, 2, "value") == "refused True"
    assert outcome("one", 1, 5, "value") == "right True"  # no derivative is in the run, so it trains alike
    assert outcome("two", 1, 1, "gradient") == "right True"
    assert outcome("two", 1, 5, "gradient") == "refused True"


def test_gates_of_the_package_go_by_their_names_in_fingerprints():
    """So stores from before gates had digests are still known; and a rule may be rewritten."""
    circuit = cs.trace(lambda x: np.exp(x).sum() * 2.0, np.zeros(3))
    nodes = [(node.gate.name, node.operands, node.params, node.shape, node.label) for node in circuit.nodes]
    assert digest(describe_circuit(circuit)) == digest([nodes, circuit.inputs, circuit.outputs])


# --------------------------------------------------------------------------------------------- twice in one process


def test_a_gate_defined_again_holds_for_what_is_traced_from_then_on():
    old = swell(1.0)
    before, slope_before = cs.trace(old, 0.0), cs.trace(cs.grad(old), 0.0)
    compiled = cs.compile(before, 2)
    new = swell(3.0)
    after, slope_after = cs.trace(new, 0.0), cs.trace(cs.grad(new), 0.0)
    for c, circuit, slope in ((1.0, before, slope_before), (3.0, after, slope_after), (1.0, before, slope_before)):
        check(circuit)
        assert series(circuit) == pytest.approx(exponential(c), abs=1e-13)
        assert series(circuit, 9) == pytest.approx(exponential(c, 9), abs=1e-13)
        assert series(slope, 1) == pytest.approx([c, c * c], abs=1e-13)
        assert cs.compile(circuit)(0.5) == pytest.approx(np.exp(c * 0.5))
    assert compiled.series((0.0,), (np.eye(1, 2),))[0].real == pytest.approx(exponential(1.0))
    assert compiled(0.5) == pytest.approx(np.exp(0.5))


def test_two_gates_of_one_name_in_one_circuit_are_two():
    old, new = swell(1.0), swell(3.0)
    both = cs.trace(lambda x: old(x) + 10.0 * new(x), 0.0)
    assert series(both) == pytest.approx(exponential(1.0) + 10.0 * exponential(3.0))
    assert cs.compile(both)(0.5) == pytest.approx(np.exp(0.5) + 10.0 * np.exp(1.5))


def test_another_vjp_is_another_gradient():
    first = cs.compile(cs.trace(cs.grad(swell(2.0)), 0.0))
    second = cs.compile(cs.trace(cs.grad(swell(2.0, slope=7.0)), 0.0))
    assert (first(0.0), second(0.0)) == (2.0, 7.0)


def test_runs_keep_the_gate_that_they_were_made_with():
    def training(gate):
        return cs.Training(lambda s, x, keep: s + gate(keep[0] * x), np.zeros(()), [0.5, 1.0], [[0], [1]])

    runs = {c: training(swell(c)) for c in (0.5, 1.0, 1.5)}
    for c, run in runs.items():
        query = cs.sketch(run, 4, 2, per_example="series").measure(lambda p: p)
        assert query.baseline == pytest.approx(np.exp(c * 0.5) + np.exp(c))
        assert run.params(run.retrain(without=[1])) == pytest.approx(np.exp(c * 0.5) + 1.0)
        # exp(c (1 - h)) to second order in h, at h = 1.
        assert query.without([1]).value == pytest.approx(np.exp(c * 0.5) + np.exp(c) * (1 - c + c * c / 2))


FACTOR = 1.0


def factor_step(k, ops, u, v):
    v[k] = FACTOR * integrate(k, ops, u, v)


def test_a_global_that_a_rule_reads_counts_when_a_circuit_is_traced(monkeypatch):
    gate = elementwise(
        "by_global", 1, lambda m, x: (m.exp(FACTOR * x),), factor_step, lambda ct, out, x: (ct * FACTOR * out,)
    )
    before = cs.trace(gate, 0.0)
    compiled = cs.compile(before)
    assert compiled(0.5) == pytest.approx(np.exp(0.5))
    for c in (3.0, 1.0, 3.0):
        monkeypatch.setitem(globals(), "FACTOR", c)
        assert series(gate) == pytest.approx(exponential(c))
    assert compiled(0.5) == pytest.approx(np.exp(0.5))  # its machine code is there
    with pytest.raises(InputError, match=r"by_global \(.*test_own_gates.py:\d+\) have changed since.*trace"):
        series(before)
    with pytest.raises(InputError, match="by_global"):
        DeviceCode([in_lanes(before.nodes[1].gate)], CudaTarget(Mode(2), 4))
    monkeypatch.setitem(globals(), "FACTOR", 1.0)
    assert series(before) == pytest.approx(exponential(1.0))


def test_a_name_of_the_package_cannot_be_given_to_another_gate():
    known = dict(GATES)
    for name in ("exp", "add", "constant"):
        with pytest.raises(InputError, match=f"'{name}' is a gate of circuitsketch and cannot"):
            swell(1.0, name=name)
    assert known == GATES


# ------------------------------------------------------------------------------------------------------- what counts


def test_what_rules_compute_makes_the_digest():
    def of(gate, **params):
        return digest_gate(gate, 1, params)

    def written_otherwise(k, ops, u, v):
        """Another text and other names for the same arithmetic."""
        derivative = integrate(k, ops, u, v)
        v[k] = 2.0 * derivative

    same = elementwise("swell", 1, lambda math, y: (math.exp(2.0 * y),), written_otherwise, None)
    two = of(swell(2.0))
    assert of(swell(2.0)) == of(swell(2)) == of(swell(np.float64(2.0))) == of(swell(np.array(2.0))) == of(same) == two
    assert of(replace(same, constants=functools.partial(lambda c, m, x: (m.exp(c * x),), 2.0))) == two
    others = [
        swell(np.nextafter(2.0, 3.0)),
        swell(2.0, domain="positive"),
        swell(2.0, flat=True),
        replace(same, constants=lambda m, x: (m.expm1(2.0 * x),)),
        replace(same, constants=lambda m, x: (m.exp(x * 2.0),)),
        replace(same, step=lambda k, ops, u, v: v.__setitem__(k, 2.0 * ops.convolve(k, u, v, low=1))),
    ]
    assert len({two, *map(of, others)}) == 1 + len(others)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_two_constants_have_one_digest_if_and_only_if_their_bits_agree(one, two):
    alike = np.float64(one).tobytes() == np.float64(two).tobytes()
    assert (digest_gate(swell(one), 1, {}) == digest_gate(swell(two), 1, {})) == alike


def test_rules_that_do_not_run_on_symbols_have_a_digest_of_their_own():
    def gate():
        return elementwise("picky", 1, lambda m, x: (m.exp(x) if float(x) > 0 else x,), None, None)

    one, two = gate(), gate()
    assert digest_gate(one, 1, {}) == digest_gate(one, 1, {}) != digest_gate(two, 1, {})


def test_parameters_that_compare_equal_and_differ_are_told_apart():
    signed = elementwise(
        "signed", 1, lambda m, x, *, c: (x * math.copysign(1.0, c),),
        lambda k, ops, u, v, *, c: v.__setitem__(k, u[k] * math.copysign(1.0, c)),
        lambda ct, out, x, *, c: (signed(ct, c=c),), reads="nothing", static=("c",),
    )  # fmt: skip
    circuit = cs.trace(lambda x: signed(x, c=0.0) - signed(x, c=-0.0), 0.0)
    assert series(circuit, at=1.5) == pytest.approx([3.0, 2.0, 0.0])
    assert cs.compile(circuit)(1.5) == 3.0
    kernels = {in_lanes(signed, (("c", c),)).kernel for c in (0.0, -0.0)}
    assert len(kernels) == 2


def test_a_rule_may_read_a_coefficient_by_its_number_at_any_order():
    """Not the series of a function; order 9 is a loop in the kernel."""

    def step(k, ops, u, v):
        v[k] = u[k] * u[1]

    gate = elementwise("by_first", 1, lambda m, x: (x,), step, None, reads="nothing")
    for order in (2, 9):
        compiled = cs.compile(cs.trace(gate, 0.0), order)
        found = compiled.series((7.0,), (3.0 * np.eye(1, order),))[0].real
        assert found == pytest.approx([7.0, 9.0, *[0.0] * (order - 1)])


# ---------------------------------------------------------------------------------------------------- for the device


def in_lanes(gate, params=()):
    """One gate on a series."""
    operand = ChainOperand(True, True, "?")
    chain = (ChainGate(gate, params, (0,), 1),)
    kernel = ChainKernel("lane", (operand, ChainOperand(True, False)), chain, ((0, 0),), ("?",))
    return Instruction(kernel, ChainArguments.unpack((1,) * 22, 3), None, ())


def test_device_code_is_another_for_another_gate_of_the_same_name():
    old, new, again = swell(1.0), swell(3.0), swell(1.0)
    target = CudaTarget(Mode(2), 4)
    one, two, three = (DeviceCode([in_lanes(gate)], target) for gate in (old, new, again))
    assert one.source == three.source != two.source
    both = DeviceCode([in_lanes(old), in_lanes(new)], target)
    assert both.opcodes == [0, 1]
    assert [name for name in ("swell_s", "swell_s2") if f"= {name}(" not in both.source] == []
