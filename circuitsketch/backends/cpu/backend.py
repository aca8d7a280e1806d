"""The CPU as a `contract.Backend`."""

from __future__ import annotations

from collections.abc import Sequence

from circuitsketch.backends.contract import Arena, Backend, InstructionTime, Phases, Target
from circuitsketch.backends.cpu import lane_width
from circuitsketch.backends.cpu.executable import CpuArena, CpuExecutable, link
from circuitsketch.backends.cpu.profile import profile
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.tape import Tape


class Cpu:
    """The CPU, with vectors of lanes."""

    widths_vary = False
    runs_constants = True

    def check_available(self) -> None:
        """Do nothing: there always is a CPU."""

    def make_target(self, mode: Mode, single: bool, width: int | None, lanes: int) -> Target:
        """Return a target with as many lanes as a vector register holds, unless a width is given."""
        return Target(mode, width or lane_width(single), single)

    def link(
        self,
        tapes: Sequence[Tape],
        target: Target,
        state_count: int,
        has_keep: bool,
        phases: Phases = Phases.ALL,
    ) -> CpuExecutable:
        """Link tapes to one executable; see `executable.link`."""
        return link(tapes, target, state_count, has_keep, phases)

    def profile(self, arena: Arena, program: int, seconds: float) -> list[InstructionTime]:
        """Time every instruction; see `profile`."""
        assert isinstance(arena, CpuArena)
        return profile(arena, program, seconds)


BACKEND: Backend = Cpu()
