"""The graphics card: is there one, how much of its memory is free, and the words for what went wrong with it.

In: nothing but the machine. Out: `Device`, or a DeviceError that says what was looked for and what to do.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from circuitsketch.errors import DeviceError

# What stays free for the driver, the code and the constant terms in flight.
RESERVE = 512 << 20
SHARE = 0.9
NARROWEST, WIDEST = 4, 32  # lanes a block: from 32 bytes of double precision, what memory moves at once, to a warp


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
        """Bytes that lanes may take."""
        return int(max(self.free - RESERVE, 0) * SHARE)

    def lanes_a_block(self, count: int) -> int:
        """How many lanes a block of threads should carry so that `count` of them fill the card in one go."""
        width = NARROWEST
        while width < WIDEST and width * self.multiprocessors < count:
            width *= 2
        return width


def find() -> Device:
    """The current device.

    Raises
    ------
    DeviceError : there is none that can be used; it says what was looked for.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise DeviceError(
            "device='cuda' needs the package numba-cuda, which is not installed; pip install 'circuitsketch[cuda12]' (or "
            "[cuda13], by the driver), or use device='cpu'"
        )
    from numba import config, cuda

    if not cuda.is_available():
        reason = " ".join(str(cuda.cuda_error() or "the driver reports no device").split())
        raise DeviceError(
            "device='cuda' needs an NVIDIA GPU and its driver, and none can be used here. Looked for: numba-cuda "
            f"{importlib.metadata.version('numba-cuda')} (found), the driver library libcuda and a device ({reason}). Run "
            "nvidia-smi to see what the machine has, install a driver, or use device='cpu'"
        )
    if config.ENABLE_CUDASIM:
        return Device("Numba's simulator", (0, 0), 1, 1 << 40, simulated=True)
    card = cuda.get_current_device()
    name = card.name.decode() if isinstance(card.name, bytes) else card.name
    free = cuda.current_context().get_memory_info().free
    return Device(name, tuple(card.compute_capability), card.MULTIPROCESSOR_COUNT, int(free))


def blocks_in_flight(device: Device, blocks: int, bytes_a_block: int, what: str) -> int:
    """How many blocks' memory fits at once; the others follow in later waves.

    Raises
    ------
    DeviceError : not even one fits.
    """
    if bytes_a_block > device.room:
        raise DeviceError(
            f"{what} need {bytes_a_block / 1e9:.2f} GB on the device, and {device.room / 1e9:.2f} GB of {device.name} can be "
            "had; use dtype=complex64, a lower order, fewer lanes a block (width=4), or device='cpu'"
        )
    fit = min(device.room // max(bytes_a_block, 1), blocks)
    waves = -(-blocks // fit)
    return -(-blocks // waves)  # waves of one size


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    from numba import config

    if config.ENABLE_CUDASIM:
        yield
        return
    from numba.cuda.cudadrv.driver import CudaAPIError, CudaSupportError

    try:
        yield
    except (CudaAPIError, CudaSupportError) as error:
        raise DeviceError(f"the device failed at {what}: {error}; see nvidia-smi, or use device='cpu'") from error
