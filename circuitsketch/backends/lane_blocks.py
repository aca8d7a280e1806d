"""Taylor coefficients in lane blocks: put in, taken out, and work on so many directions divided into blocks.

A lane block holds, for every element, a row of components (coefficients 1..order, real and imaginary parts apart) of
as many lanes as the target is wide; outside, coefficients are arrays with a row per direction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from circuitsketch.backends.contract import Arena, Executable
from circuitsketch.backends.scheduler import Slices, run_cooperatively
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.layout import Layout


def copy_series(part: np.ndarray, arena: Arena, layout: Layout, block: int) -> None:
    """Copy a wire's coefficients in one lane block of program 0 to rows (lanes, order + 1, *shape)."""
    part[:, 0] = arena.view_constant(0, layout)
    if layout.buffer in arena.executable.placements[0].lane:
        lanes = arena.view_lanes(0, layout, block)
        part[:, 1:] = read_coefficients(lanes, arena.executable.target.mode)[: len(part)]


def write_coefficients(view: np.ndarray, series: np.ndarray, mode: Mode) -> None:
    """Write coefficients (directions, k, *shape) into lane blocks (*shape, components, width); others are zero."""
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
    """Coefficients 1..order of lane blocks (*shape, components, width), as (width, order, *shape)."""
    lead = np.moveaxis(np.moveaxis(view, -1, 0), -1, 1)
    return lead[:, 0::2] + 1j * lead[:, 1::2] if mode.complex else lead


def run_blocks(
    function: Callable[[range], Slices], count: int, executable: Executable, threads: int | None, examples: int = 0
) -> None:
    """Call a function with the first lanes of blocks that are played together, on a CPU on several threads; where a
    device's memory bounds how many there can be, one call after the other."""
    begins = range(0, count, executable.target.width)
    executable.check_memory(len(begins), examples, threads)
    run_cooperatively(
        function, begins, executable.choose_blocks_per_call(len(begins), examples), executable.limit_threads(threads)
    )
