"""Convert between arrays of Taylor coefficients, with a row per direction, and lane blocks; run work block by block.

A lane block holds, for every element, its components (coefficients 1..order, real and imaginary parts separate) in all
lanes of the target.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from circuitsketch.backends.contract import Arena, Executable
from circuitsketch.backends.scheduler import Slices, run_cooperatively
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.layout import Layout


def copy_series(part: np.ndarray, arena: Arena, layout: Layout, block: int) -> None:
    """Copy a wire's coefficients from one lane block of program 0 to an array (lanes, order + 1, *shape)."""
    part[:, 0] = arena.view_constant(0, layout)
    if layout.buffer in arena.executable.placements[0].lane:
        lanes = arena.view_lanes(0, layout, block)
        part[:, 1:] = read_coefficients(lanes, arena.executable.target.mode)[: len(part)]


def write_coefficients(view: np.ndarray, series: np.ndarray, mode: Mode) -> None:
    """Write coefficients 1..k (directions, k, *shape) into a lane block (*shape, components, width); zero the rest."""
    width = view.shape[-1]
    lanes = min(len(series), width)
    view[...] = 0.0
    for k in range(min(series.shape[1], mode.order)):
        rows = np.moveaxis(series[:lanes, k], 0, -1)
        if mode.complex:
            view[..., 2 * k, :lanes] = rows.real
            view[..., 2 * k + 1, :lanes] = rows.imag
        else:
            view[..., k, :lanes] = rows


def read_coefficients(view: np.ndarray, mode: Mode) -> np.ndarray:
    """Return coefficients 1..order in a lane block (*shape, components, width), as (width, order, *shape)."""
    lead = np.moveaxis(np.moveaxis(view, -1, 0), -1, 1)
    return lead[:, 0::2] + 1j * lead[:, 1::2] if mode.complex else lead


def run_blocks(
    function: Callable[[range], Slices], count: int, executable: Executable, threads: int | None, examples: int = 0
) -> None:
    """Call a function with the first lanes of the blocks that one call runs, until all `count` lanes are done.

    On a CPU the calls are made from several threads; on a GPU, whose memory bounds the blocks per call, one by one.
    """
    starts = range(0, count, executable.target.width)
    executable.check_memory(len(starts), examples, threads)
    run_cooperatively(
        function, starts, executable.choose_blocks_per_call(len(starts), examples), executable.limit_threads(threads)
    )
