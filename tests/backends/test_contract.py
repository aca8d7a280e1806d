"""What a backend is asked for: another under a name of its own is used everywhere, and phases play what they say."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.backends import cpu, cuda, registry
from circuitsketch.backends.contract import Phases, Target
from circuitsketch.backends.cpu import codegen as cpu_codegen
from circuitsketch.backends.cuda.contraction import write_contraction
from circuitsketch.backends.cuda.elementwise import write_chain
from circuitsketch.backends.cuda.executable import CudaExecutable
from circuitsketch.backends.cuda.moves import write_fill, write_move
from circuitsketch.backends.linking import ProgramRow
from circuitsketch.compiler import run_once
from circuitsketch.errors import InputError
from circuitsketch.lower.instructions import Mode, UpdateKernel


@dataclass(frozen=True, slots=True)
class NarrowTarget(Target):
    device: ClassVar[str] = "narrow"


class Narrow:
    """The CPU with two lanes, counting what it is asked."""

    widths_vary = False
    runs_constants = False

    def __init__(self):
        self.checked = 0
        self.linked = []

    def check_available(self):
        self.checked += 1

    def make_target(self, mode, single, width, lanes):
        return NarrowTarget(mode, width or 2, single)

    def link(self, tapes, target, state_count, has_keep, phases=Phases.ALL):
        self.linked.append(target)
        return registry.get_backend("cpu").link(tapes, target, state_count, has_keep, phases)


@pytest.fixture
def narrow(monkeypatch):
    module = ModuleType("narrow_backend")
    module.BACKEND = Narrow()
    monkeypatch.setitem(sys.modules, "narrow_backend", module)
    monkeypatch.setitem(registry.MODULES, "narrow", "narrow_backend")
    yield module.BACKEND
    registry.get_backend.cache_clear()


def step(s, x, keep):
    return s + np.tanh(keep.sum() * x - s)


@pytest.fixture
def run():
    return cs.Training(step, np.zeros(()), [1.0, 2.0, 0.5, 1.0], [[0], [1], [2], [0]])


def test_another_backend_needs_its_line_in_the_registry_and_nothing_else(narrow, run):
    f = cs.compile(cs.trace(np.exp, np.zeros(())), order=3, device="narrow")
    np.testing.assert_allclose(f.series((0.0,), (np.ones((1, 1)),)).real, [[1.0, 1.0, 0.5, 1 / 6]], rtol=1e-15)
    assert narrow.checked == 1
    ours, theirs = (cs.push(run, np.eye(3), 2, device=device) for device in ("narrow", "cpu"))
    assert ours.target == NarrowTarget(ours.target.mode, 2)
    np.testing.assert_array_equal(ours.coefficients(lambda s: s), theirs.coefficients(lambda s: s))
    masks = np.eye(3, dtype=bool)
    np.testing.assert_array_equal(run.retrain(masks, device="narrow"), run.retrain(masks))
    assert {target.device for target in narrow.linked} == {"narrow"}
    with pytest.raises(InputError, match="'cpu' or 'cuda' or 'narrow'"):
        cs.compile(cs.trace(np.exp, np.zeros(())), device="abacus")


def test_phases_run_constants_lanes_and_carried_state_separately(run):
    executable = run.executable(Mode(1, False), np.complex128, 4)
    directions = np.ones((1, run.n, 1, 4))

    def played(*parts):
        arena = executable.allocate_arena()
        arena.set_state(run.state_leaves)
        for phases in parts:
            arena.run(run.schedule, 0, 1, np.zeros(run.n), directions, phases=phases)
        return arena.get_state()[0], arena.get_lane_state().copy()

    after, lanes = played(Phases.ALL)
    assert after == np.tanh(1.0) and np.all(lanes != 0)
    state, still = played(Phases.CONSTANT)
    assert state == 0 and not still.any()
    state, still = played(Phases.CONSTANT, Phases.CARRY)
    assert state == after and not still.any()


def test_a_program_is_its_constants_its_lanes_and_what_it_carries_on_one_after_the_other(run):
    executable = run.executable(Mode(2), np.complex128, 4)
    end = 0
    for numbers in executable.programs.tolist():
        row = ProgramRow(*numbers)
        kinds = lambda first, last: {i.kernel.phase for i in executable.instructions[first:last]}  # noqa: E731
        assert row.constant_first == end
        assert kinds(row.constant_first, row.constant_last) == {"constant"}
        assert kinds(row.lane_first, row.lane_last) == {"lane"}
        assert kinds(row.lane_last, row.carried_constant_last) <= {"constant"}
        assert kinds(row.carried_constant_last, row.carried_lane_last) <= {"lane"}
        end = row.carried_lane_last
    assert end == len(executable.instructions)


def test_a_cpu_reports_fractions_of_blocks_and_a_device_complete_blocks(run):
    executable = run.executable(Mode(1, False), np.complex128, 4)
    assert [executable.round_progress(2.5, 1.0, seconds) for seconds in (0.0, 2.0)] == [None, 2.5]
    device = lambda now, told: CudaExecutable.round_progress(SimpleNamespace(), now, told, 0.0)  # noqa: E731
    assert [device(2.5, 1.0), device(2.5, 2.0), device(3.0, 2.0)] == [2, None, 3]


def test_the_front_door_runs_every_stage():
    function = lambda x, y: {"sum": (np.exp(x) @ y).sum(), "same": y}  # noqa: E731
    x, y = np.arange(6.0).reshape(2, 3) / 6, np.ones((3, 2))
    result = run_once(function, x, y)
    np.testing.assert_allclose(result["sum"], (np.exp(x) @ y).sum(), rtol=1e-15)
    np.testing.assert_array_equal(result["same"], y)


SHARED_FILES = {
    "backend.py",
    "codegen.py",
    "contraction.py",
    "elementwise.py",
    "executable.py",
    "expressions.py",
    "kernel_builder.py",
    "math.py",
    "moves.py",
    "tiling.py",
}


def test_both_backends_keep_the_same_part_under_the_same_file_name():
    files = [{path.name for path in Path(package.__file__).parent.glob("*.py")} for package in (cpu, cuda)]
    assert files[0] & files[1] == SHARED_FILES | {"__init__.py"}


def test_both_backends_generate_an_instruction_in_a_file_of_the_same_name():
    of_tapes = [emit for kind, emit in cpu_codegen.EMITTERS.items() if kind is not UpdateKernel]  # which a CPU makes
    generators = of_tapes, (write_contraction, write_chain, write_move, write_fill)
    names = [{generate.__module__.split(".")[-1] for generate in some} for some in generators]
    assert names[0] == names[1]
