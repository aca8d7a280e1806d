"""The graphics card: is there one, how many lane blocks its memory holds, and the words for what went wrong with it.

In: nothing but the machine. Out: `Device` and `MemoryPlan`, or a DeviceError that says what was looked for and what to do.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from circuitsketch.errors import DeviceError

RESERVE = 256 << 20  # bytes that stay free for the driver and the code
SHARE = 0.9  # of the rest that lanes may take: memory comes in pages, and others use the card too
NARROWEST, WIDEST = 4, 32  # lanes a block: from 32 bytes of double precision, what memory moves at once, to a warp
# Where the errors of the driver and of what sits on it are defined; not all have a public name.
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
        """Bytes that a run may take."""
        return int(max(self.free - RESERVE, 0) * SHARE)

    def choose_width(self, count: int) -> int:
        """How many lanes a block of threads should carry so that `count` of them fill the card in one go."""
        width = NARROWEST
        while width < WIDEST and width * self.multiprocessors < count:
            width *= 2
        return width


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How lane blocks share a card's memory.

    Attributes
    ----------
    blocks : how many there are. blocks_per_wave : how many run at once; the others follow in waves.
    bytes_a_block : of lanes and directions. fixed : bytes of constant terms on their way, whatever is played.
    """

    device: Device
    blocks: int
    blocks_per_wave: int
    bytes_per_block: int
    fixed: int

    @property
    def waves(self) -> int:
        """How many runs one after the other."""
        return -(-self.blocks // self.blocks_per_wave)

    def __str__(self) -> str:
        taken, room = ((x / 1e9) for x in (self.fixed + self.blocks_per_wave * self.bytes_per_block, self.device.room))
        blocks, waves = (f"{n} {name}{'s' * (n > 1)}" for n, name in ((self.blocks, "block"), (self.waves, "wave")))
        return (
            f"{blocks} in {waves} of {self.blocks_per_wave}, {taken:.2f} GB at a time of {room:.2f} GB to be had on "
            f"{self.device.name}"
        )


def plan_memory(device: Device, blocks: int, bytes_per_block: int, fixed: int, what: str) -> MemoryPlan:
    """As many blocks at once as memory holds, in waves of one size.

    Raises
    ------
    DeviceError : not even one fits.
    """
    if bytes_per_block + fixed > device.room:
        raise DeviceError(
            f"{what} need {(bytes_per_block + fixed) / 1e9:.2f} GB on the device, and {device.room / 1e9:.2f} GB of "
            f"{device.name} can be had; use dtype=complex64, a lower order, or device='cpu'"
        )
    fit = min((device.room - fixed) // max(bytes_per_block, 1), max(blocks, 1))
    waves = -(-max(blocks, 1) // fit)
    return MemoryPlan(device, blocks, -(-max(blocks, 1) // waves), bytes_per_block, fixed)


def find_device() -> Device:
    """The current device.

    Raises
    ------
    DeviceError : there is none that can be used; it says what was looked for.
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
    context.deallocations.clear()  # what earlier runs have let go of counts as free
    name = card.name.decode() if isinstance(card.name, bytes) else card.name
    free = int(context.get_memory_info().free)
    return Device(name, tuple(card.compute_capability), card.MULTIPROCESSOR_COUNT, free)


def explain_missing(cuda: Any) -> str:
    """What was looked for, and which of it was not found."""
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
    """Turn the driver's errors into ours."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(DRIVER):
            raise
        raise DeviceError(f"the device failed at {what}: {error}; see nvidia-smi, or use device='cpu'") from error
