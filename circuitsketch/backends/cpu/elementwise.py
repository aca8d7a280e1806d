"""Emit the kernel of a chain of elementwise gates: for constants, values, or series of a low or a high order."""

from __future__ import annotations

from circuitsketch.backends.cpu.chain_loops import Access, emit_constant_chain, emit_series_lanes, emit_value_lanes
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.long_series import emit_long_chain
from circuitsketch.lower.instructions import ChainKernel


def emit_chain(frame: Frame, kernel: ChainKernel) -> None:
    """Emit the kernel of a chain."""
    access = Access(frame, kernel)
    if kernel.phase == "constant":
        emit_constant_chain(frame, kernel, access)
    elif frame.target.mode.values:
        with frame.nest(access.extents) as indices:
            emit_value_lanes(frame, kernel, access, indices)
    elif frame.target.is_unrolled:
        with frame.nest(access.extents) as indices:
            emit_series_lanes(frame, kernel, access, indices)
    else:
        emit_long_chain(frame, kernel, access)
    frame.finish()
