"""An NVIDIA GPU as a `contract.Backend`."""

from __future__ import annotations

from collections.abc import Sequence

from circuitsketch.backends.contract import Arena, Backend, InstructionTime, Phases, Target
from circuitsketch.backends.cuda.device import find_device
from circuitsketch.backends.cuda.executable import CudaExecutable, link, make_cuda_target
from circuitsketch.backends.cuda.kernel_builder import CudaTarget
from circuitsketch.errors import InputError
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.tape import Tape


class Cuda:
    """An NVIDIA GPU, with blocks of threads."""

    widths_vary = True
    runs_constants = False

    def check_available(self) -> None:
        """Raise DeviceError, which says what was looked for, if there is no device."""
        find_device()

    def make_target(self, mode: Mode, single: bool, width: int | None, lanes: int) -> CudaTarget:
        """Return a target with as many lanes per block of threads as fill the device, unless a width is given."""
        return make_cuda_target(mode, single, width, lanes)

    def link(
        self,
        tapes: Sequence[Tape],
        target: Target,
        state_count: int,
        has_keep: bool,
        phases: Phases = Phases.ALL,
    ) -> CudaExecutable:
        """Link tapes to one executable; see `executable.link`."""
        assert isinstance(target, CudaTarget) and phases == Phases.ALL
        return link(tapes, target, state_count, has_keep)

    def profile(self, arena: Arena, program: int, seconds: float) -> list[InstructionTime]:
        """Raise InputError: the instructions of a block of threads run concurrently."""
        raise InputError("only device='cpu' has a profile by instruction; profile a GPU's kernels with ncu")


BACKEND: Backend = Cuda()
