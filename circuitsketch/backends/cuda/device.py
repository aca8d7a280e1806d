"""Find the GPU, plan how lane blocks share its memory, and convert the driver's errors.

Out: a `Device` and a `MemoryPlan`, or a DeviceError that says what was looked for and what to do.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from circuitsketch.errors import DeviceError

RESERVE = 256 << 20  # bytes to leave free for the driver and the code
SHARE = 0.9  # of the rest for lanes: memory comes in pages, and others use the card too
# Lanes per block: from 32 bytes in double precision, the unit of memory transfers, to a warp.
MIN_WIDTH, MAX_WIDTH = 4, 32
# The packages that define the errors of the driver and of its wrappers; some errors have no public name.
DRIVER = ("numba.cuda.cudadrv", "cuda.core", "cuda.bindings")


@dataclass(frozen=True, slots=True)
class Device:
    """A card: its name, compute capability, multiprocessors, and free memory in bytes; or Numba's simulator of one."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    free: int
    simulated: bool = False

    @property
    def room(self) -> int:
        """The bytes that a run may take."""
        return int(max(self.free - RESERVE, 0) * SHARE)

    def choose_width(self, count: int) -> int:
        """Return the number of lanes per block with which `count` lanes give every multiprocessor a block."""
        width = MIN_WIDTH
        while width < MAX_WIDTH and width * self.multiprocessors < count:
            width *= 2
        return width


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How lane blocks share a card's memory.

    Attributes
    ----------
    blocks : how many there are.
    blocks_per_wave : how many run at a time; the others follow in further waves.
    bytes_per_block : of lanes and directions.
    fixed : bytes of the buffers for constant terms.
    """

    device: Device
    blocks: int
    blocks_per_wave: int
    bytes_per_block: int
    fixed: int

    @property
    def waves(self) -> int:
        """The number of waves."""
        return -(-self.blocks // self.blocks_per_wave)

    def __str__(self) -> str:
        taken, room = ((x / 1e9) for x in (self.fixed + self.blocks_per_wave * self.bytes_per_block, self.device.room))
        blocks, waves = (f"{n} {name}{'s' * (n > 1)}" for n, name in ((self.blocks, "block"), (self.waves, "wave")))
        return (
            f"{blocks} in {waves} of {self.blocks_per_wave}, {taken:.2f} GB at a time of {room:.2f} GB available on "
            f"{self.device.name}"
        )


def plan_memory(device: Device, blocks: int, bytes_per_block: int, fixed: int, what: str) -> MemoryPlan:
    """Plan waves of equal size, as few as memory allows; what : a description of one block.

    Raises
    ------
    DeviceError
        If not even one block fits.
    """
    if bytes_per_block + fixed > device.room:
        raise DeviceError(
            f"{what} need {(bytes_per_block + fixed) / 1e9:.2f} GB on the device, and {device.room / 1e9:.2f} GB of "
            f"{device.name} are available; use dtype=complex64, a lower order, or device='cpu'"
        )
    fit = min((device.room - fixed) // max(bytes_per_block, 1), max(blocks, 1))
    waves = -(-max(blocks, 1) // fit)
    return MemoryPlan(device, blocks, -(-max(blocks, 1) // waves), bytes_per_block, fixed)


def find_device() -> Device:
    """Return the current device.

    Raises
    ------
    DeviceError
        If there is no usable one; says what was looked for.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise DeviceError(
            "device='cuda' needs the package numba-cuda, which is not installed; pip install 'circuitsketch[cuda12]' "
            "(or [cuda13], by the driver), or use device='cpu'"
        )
    from numba import config, cuda

    if config.ENABLE_CUDASIM:
        return Device("Numba's simulator", (0, 0), 1, 1 << 40, simulated=True)
    if not cuda.is_available():
        raise DeviceError(explain_missing(cuda))
    card = cuda.get_current_device()
    context = cuda.current_context()
    context.deallocations.clear()  # memory that earlier runs released counts as free
    name = card.name.decode() if isinstance(card.name, bytes) else card.name
    free = int(context.get_memory_info().free)
    return Device(name, tuple(card.compute_capability), card.MULTIPROCESSOR_COUNT, free)


def explain_missing(cuda: Any) -> str:
    """Return the message that says what was looked for, and what of it is missing."""
    from numba.cuda.cudadrv import nvvm

    version = importlib.metadata.version("numba-cuda")
    driver = " ".join(str(cuda.cuda_error() or "found").split())
    compiler = "found" if nvvm.is_available() else "not found: pip install 'circuitsketch[cuda12]' or [cuda13]"
    return (
        "device='cuda' needs an NVIDIA GPU, its driver and a compiler, and they cannot all be used here. Looked for: "
        f"numba-cuda ({version}, found); the driver library libcuda and a device ({driver}); the compiler library NVVM "
        f"({compiler}). Run nvidia-smi to see what the machine has, install what is missing, or use device='cpu'"
    )


@contextmanager
def convert_errors(what: str) -> Iterator[None]:
    """Convert the driver's errors to DeviceError; what : what the device was asked to do."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(DRIVER):
            raise
        raise DeviceError(f"the device failed at {what}: {error}; see nvidia-smi, or use device='cpu'") from error
