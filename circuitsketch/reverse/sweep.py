"""A reverse sweep: cotangents carried from the trained state back to the first step, and their share for each weight.

In: a run that was played forward, and the cotangents of its trained state. Out: totals by example, the derivatives of
the measurement with respect to the downweights. Lanes hold several values of a measurement, which share the work on the
states; or Taylor coefficients along directions, of one value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Executable, Schedule, Totals
from circuitsketch.backends.registry import build, make_target
from circuitsketch.errors import CircuitSketchError, DivergenceError
from circuitsketch.lower.instructions import Mode
from circuitsketch.reverse.forward import Forward, play
from circuitsketch.reverse.pullback import pullback_circuit
from circuitsketch.training.training import Training, linking

DERIVATIVE = -1  # the position of the derivative with respect to a step's downweights among its outputs


class NotFiniteError(CircuitSketchError):
    """A cotangent is not finite before the step `step`; caught where the reason can be looked for."""

    def __init__(self, step: int) -> None:
        super().__init__(f"a cotangent is not finite before step {step}")
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:
        return NotFiniteError, (self.step,)

    def explain(self, steps: int) -> DivergenceError:
        """Return the error for a user, after a sweep that took gates at the edges of their domains to have no slope."""
        return DivergenceError(
            f"the derivative with respect to the state before step {self.step} of {steps} is not finite: it "
            "overflows in the backward pass through the run; lower the learning rate or, if directions= is passed, use "
            "smaller directions, a lower order, or dtype=complex128"
        )


def sweep_executable(
    run: Training, mode: Mode, dtype: Any = np.complex128, at_edges: bool = False, width: int | None = None
) -> Executable:
    """Return the vjps of a run's steps, compiled for a mode, and a number of lanes unless a vector's suits; cached.

    Their state is the cotangents of the varying leaves and the number of suspects. The leaves themselves are data:
    along directions, data with lanes.
    """
    target = make_target(mode, dtype, width)
    key = ("reverse", target, at_edges)
    with linking:
        if key not in run.executables:
            varying = run.varying()
            circuits = [pullback_circuit(circuit, varying, at_edges, holds_series(mode)) for circuit in run.circuits]
            count = len(varying) + 1
            lanes: list[int] = []
            if mode.components:
                lanes = [*range(len(varying))]
            if holds_series(mode):
                lanes += [count + i for i in varying]
            carry = {i: i for i in range(count)}
            run.executables[key] = build(circuits, target, lanes, count, carry, has_keep=holds_series(mode))
        return run.executables[key]


def holds_series(mode: Mode) -> bool:
    """Return whether lanes hold Taylor coefficients."""
    return mode.order > 0


@dataclass(eq=False)
class Cotangents:
    """The derivatives of one value, or of the values of some lane blocks, while they are carried back.

    Attributes
    ----------
    constants : by varying leaf of the state. lanes : (blocks, elements, components, width).
    totals, lane_totals : derivatives with respect to the downweights, (n,) and (blocks, n, components, width).
    """

    constants: list[np.ndarray]
    lanes: np.ndarray
    totals: np.ndarray
    lane_totals: np.ndarray

    @staticmethod
    def at_end(constants: list[np.ndarray], lanes: np.ndarray, n: int) -> Cotangents:
        """Begin at the trained state."""
        blocks, _, *unit = lanes.shape
        return Cotangents(constants, lanes, np.zeros(n), np.zeros((blocks, n, *unit)))

    @property
    def is_finite(self) -> bool:
        """Whether all of them are finite."""
        parts = [*self.constants, self.lanes, self.totals, self.lane_totals]
        return all(bool(np.isfinite(part).all()) for part in parts)


class Sweep:
    """Memory in which cotangents are carried back through a run.

    Parameters
    ----------
    run : the run. executable : of `sweep_executable`. w : downweights (n,).
    blocks : lane blocks that are played together.
    directions : (1, n, parts, width), of the one lane block of directions.
    """

    def __init__(
        self, run: Training, executable: Executable, w: np.ndarray, blocks: int, directions: np.ndarray | None = None
    ) -> None:
        self.run, self.executable, self.w, self.directions = run, executable, w, directions
        self.arena = executable.allocate_arena(blocks)
        self.mode = executable.target.mode
        self.suspects = 0.0  # entries, of all steps that were played, on a kink

    def play(self, forward: Forward, cotangents: Cotangents, watch: bool = False) -> Iterator[int]:
        """Carry cotangents back through the segment that the run has recorded; yield how many steps were played.

        watch : whether to look at the constants after every step, which takes as long as a small gate.

        Raises
        ------
        NotFiniteError : a cotangent is not finite.
        """
        first, last = forward.segments[forward.recorded]
        record = forward.record
        assert record is not None
        self.arena.set_state([*cotangents.constants, np.zeros(())])
        for block, lanes in enumerate(cotangents.lanes):
            self.arena.set_lane_state(block, lanes)
        schedule = self.run.schedule
        steps = np.arange(first, last)[::-1]
        counts = np.diff(schedule.ids_start)[steps]
        starts = np.concatenate([[0], np.cumsum(counts)])
        ids = schedule.ids[np.repeat(schedule.ids_start[steps] - starts[:-1], counts) + np.arange(starts[-1])]
        read = (ids, starts) if holds_series(self.mode) else (ids[:0], np.zeros_like(starts))
        bad = yield from play(
            self.arena,
            Schedule(schedule.program[steps], record.constants, record.starts, *read),
            0,
            len(steps),
            self.w,
            directions=self.directions,
            check_finite=watch,
            source=record if holds_series(self.mode) else None,
            totals=Totals(DERIVATIVE, ids, starts, cotangents.totals, cotangents.lane_totals),
        )
        *cotangents.constants, suspects = self.arena.get_state()
        self.suspects += float(suspects)
        for block, lanes in enumerate(cotangents.lanes):
            lanes[...] = self.arena.get_lane_state(block)
        if bad >= 0 or not cotangents.is_finite:
            raise NotFiniteError(first if bad < 0 else last - 1 - bad)
