"""The CPU as a backend."""

from __future__ import annotations

from collections.abc import Sequence

from circuitsketch.backends.contract import Arena, Backend, InstructionTime, Phases, Target
from circuitsketch.backends.cpu import lane_width
from circuitsketch.backends.cpu.executable import CpuArena, CpuExecutable, link
from circuitsketch.backends.cpu.profile import profile
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.tape import Tape


class Cpu:
    """Vectors of lanes; see `contract.Backend`."""

    widths_vary = False
    runs_constants = True

    def check_available(self) -> None:
        """There always is one."""

    def make_target(self, mode: Mode, single: bool, width: int | None, lanes: int) -> Target:
        """As many lanes as a vector register holds, unless a width is given."""
        return Target(mode, width or lane_width(single), single)

    def link(
        self,
        tapes: Sequence[Tape],
        target: Target,
        state_count: int,
        has_keep: bool,
        phases: Phases = Phases.ALL,
    ) -> CpuExecutable:
        """See `executable.link`."""
        return link(tapes, target, state_count, has_keep, phases)

    def profile(self, arena: Arena, program: int, seconds: float) -> list[InstructionTime]:
        """See `profile`."""
        assert isinstance(arena, CpuArena)
        return profile(arena, program, seconds)


BACKEND: Backend = Cpu()
