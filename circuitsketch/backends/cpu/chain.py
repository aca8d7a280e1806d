"""The kernel of a chain: which of the ways to write it is taken, by phase, by what lanes hold, and by order."""

from __future__ import annotations

from circuitsketch.backends.cpu.elementwise import Access, constant_chain, series_lanes, value_lanes
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.long_series import long_chain
from circuitsketch.lower.instructions import ChainKernel


def emit_chain(frame: Frame, kernel: ChainKernel) -> None:
    """The chain's kernel."""
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
