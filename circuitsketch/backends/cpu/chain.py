"""A chain's kernel, by what its lanes hold: constants, values, or series of a low or a high order."""

from __future__ import annotations

from circuitsketch.backends.cpu.elementwise import Access, constant_chain, series_lanes, value_lanes
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.long_series import long_chain
from circuitsketch.lower.instructions import ChainKernel


def emit_chain(frame: Frame, kernel: ChainKernel) -> None:
    """Emit the kernel of a chain into a frame."""
    access = Access(frame, kernel)
    if kernel.phase == "constant":
        constant_chain(frame, kernel, access)
    elif frame.target.mode.values:
        with frame.nest(access.extents) as indices:
            value_lanes(frame, kernel, access, indices)
    elif frame.target.straight:
        with frame.nest(access.extents) as indices:
            series_lanes(frame, kernel, access, indices)
    else:
        long_chain(frame, kernel, access)
    frame.finish()
