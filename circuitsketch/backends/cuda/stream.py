"""Run steps on the device: in launches of some steps each, while the constant terms of the next steps are being sent.

During a launch, the CPU runs the constant phase of the next steps, and sends the constant terms through one of two
buffers. The number of steps in a launch follows from the time of the last one; the first launches have one step.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from circuitsketch.backends.contract import Report, Schedule
from circuitsketch.backends.cuda.codegen import DeviceCode
from circuitsketch.backends.cuda.kernel_builder import CudaTarget

LAUNCH_SECONDS = 0.25  # short enough to show progress, and for the watchdog of a display
GROWTH = 8  # a launch has at most this many times the steps of the one before
STAGE_BYTES = 64 << 20  # of constant terms in one buffer


class StreamedExecutable(Protocol):
    """The part of a `CudaExecutable` that is used here."""

    target: CudaTarget
    program: DeviceCode
    plain: list[tuple[int, np.ndarray]]
    keep_slot: np.ndarray
    device_tape: np.ndarray
    device_args: np.ndarray
    device_programs: np.ndarray
    step_constants: int

    @property
    def real(self) -> np.dtype[Any]:
        """The dtype of lanes."""

    @property
    def constant_bytes_per_step(self) -> int:
        """The bytes of a step's constant terms."""


class StreamedArena(Protocol):
    """The part of a `DeviceArena` that is used here."""

    executable: Any  # a DeviceProgram

    @property
    def blocks(self) -> int:
        """The number of lane blocks."""

    @property
    def device_lanes(self) -> Any:
        """The lanes' memory on the device."""

    def record_constants(self, schedule: Schedule, first: int, last: int, at: np.ndarray, rows: np.ndarray) -> None:
        """Run the constant phase of some steps, and copy the constant terms of each to a row."""


class Stage:
    """The constant terms of a launch: a buffer on the host, one on the device behind the literals, and their events."""

    def __init__(self, executable: StreamedExecutable, steps: int) -> None:
        from numba import cuda

        plain = np.concatenate([np.zeros(0), *(value.ravel() for _, value in executable.plain)]).astype(executable.real)
        self.plain = len(plain)
        self.here = cuda.pinned_array((steps, max(executable.step_constants, 1)), executable.real)
        self.there = cuda.device_array(self.plain + self.here.size, executable.real)
        if self.plain:
            self.there[: self.plain].copy_to_device(plain)
        self.sent, self.begun, self.ended = cuda.event(), cuda.event(), cuda.event()
        self.steps = 0  # of the launch that reads it, 0 before there is one

    def send(self, steps: int, stream: Any) -> None:
        """Send the constant terms of some steps to the device."""
        self.steps = steps
        rows = self.here[:steps].reshape(-1)
        self.there[self.plain : self.plain + rows.size].copy_to_device(rows, stream=stream)
        self.sent.record(stream)

    def wait(self) -> float | None:
        """Wait for the launch that reads this buffer, and return its seconds per step; None if there is none."""
        if not self.steps:
            return None
        self.ended.synchronize()
        return float(self.begun.elapsed_time(self.ended)) / 1e3 / self.steps


def run_on_device(
    arena: StreamedArena,
    schedule: Schedule,
    first: int,
    last: int,
    at: np.ndarray,
    directions: np.ndarray | None,
    first_steps: np.ndarray | None,
    report: Report | None,
) -> None:
    """Run the steps from `first` to `last` (excluded) for all lane blocks of an arena."""
    from numba import cuda

    e: StreamedExecutable = arena.executable
    blocks = arena.blocks
    tables = [cuda.to_device(table) for table in list_tables(e, blocks, schedule, directions, first_steps)]
    room = max(STAGE_BYTES // e.constant_bytes_per_step, 1)
    stages = [Stage(e, min(room, last - first)) for _ in range(2)]
    sending, playing = cuda.stream(), cuda.stream()
    launched = e.program.configure_launch("play", blocks, playing)

    def launch(t: int, stop: int, stage: Stage) -> None:
        launched(*tables, t, stop, stage.there, stage.plain, stage.here.shape[1], arena.device_lanes)

    launch(first, first, stages[0])  # of no step: it compiles the code, so that later times do not include that
    ends: list[int] = []
    steps = 1
    t = first
    try:
        while t < last:
            stage = stages[len(ends) % 2]
            seconds = stage.wait()
            if seconds is not None:
                steps = max(min(int(LAUNCH_SECONDS / max(seconds, 1e-9)), GROWTH * steps), 1)
            if report is not None and len(ends) >= 2:
                report(ends[-2] - first, last - first)
            count = min(steps, room, last - t)
            arena.record_constants(schedule, t, t + count, at, stage.here)
            stage.send(count, sending)
            stage.sent.wait(playing)
            stage.begun.record(playing)
            launch(t, t + count, stage)
            stage.ended.record(playing)
            t += count
            ends.append(t)
    finally:  # after Ctrl-C too: wait for the running launch before its memory is released
        sending.synchronize()
        playing.synchronize()
    if report is not None:
        report(last - first, last - first)


def list_tables(
    e: StreamedExecutable,
    blocks: int,
    schedule: Schedule,
    directions: np.ndarray | None,
    first_steps: np.ndarray | None,
) -> list[np.ndarray]:
    """Return the tables that the generated `play` reads, none of them empty."""
    if directions is None or not directions.size:
        directions = np.zeros((blocks, 1, 1, e.target.width))
    tables = [
        e.device_tape,
        e.device_args,
        e.device_programs,
        schedule.program,
        schedule.ids,
        schedule.ids_start,
        e.keep_slot[:, 1],
        directions,
        np.zeros(blocks, dtype=np.int64) if first_steps is None else first_steps,
    ]
    return [np.ascontiguousarray(x) if x.size else np.zeros((1, *x.shape[1:]), x.dtype) for x in tables]
