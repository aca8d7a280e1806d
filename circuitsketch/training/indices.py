"""Check a run's indices before it starts: they must depend on data and counters only, and be in bounds.

In: a run's circuits, initial state and data. Out: nothing, or an error with the step, the example and the user's line.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np

from circuitsketch.backends.contract import Schedule
from circuitsketch.checks.indices import IndexChecks, find_index_checks
from circuitsketch.circuit import Circuit
from circuitsketch.errors import InputError


class Run(Protocol):
    """The part of `Training` that is used here."""

    circuits: list[Circuit]
    schedule: Schedule
    state_leaves: list[np.ndarray]
    examples: list[np.ndarray]

    @property
    def steps(self) -> int:
        """The number of steps."""

    def data_of(self, t: int) -> list[np.ndarray]:
        """Return the leaves of step t's batch."""

    def varying(self, values: bool = False) -> tuple[int, ...]:
        """Return the positions of the state leaves that depend on the weights."""


def check_run_indices(run: Run) -> None:
    """Follow the indices of every step, and the part of the state that they read, through the run.

    Raises
    ------
    BoundsError
        If an index is out of bounds.
    InputError
        If an index depends on the examples' weights.
    """
    parts = index_circuits(run)
    if not any(part.checks for part in parts):
        return
    check_independence(run, parts)
    state = dict(enumerate(run.state_leaves))
    for t in range(run.steps):
        part = parts[run.schedule.program[t]]
        values = state | {len(state) + i: value for i, value in enumerate(run.data_of(t))}
        results = part.check(values, partial(describe_position, run, t))
        state = {i: results.get(wire, state[i]) for i, wire in enumerate(part.circuit.outputs)}


def describe_position(run: Run, t: int, index: np.ndarray, entry: tuple[int, ...]) -> str:
    """Where in a run an index is that was refused: the step, the place in its array, the example if that is known.

    An array with one row per example of the step is assumed to hold the examples' rows in their order.
    """
    ids = run.examples[t]
    row = 0 if len(ids) == 1 else entry[0] if entry and len(index) == len(ids) else None
    place = f", at {list(entry)} of the array" if entry else ""
    return f" (at step {t} of {run.steps}{place}{'' if row is None else f', example {ids[row]}'})"


def check_independence(run: Run, parts: list[IndexChecks]) -> None:
    """Raise InputError if an index depends on the weights, since it cannot be evaluated in advance."""
    moving = run.varying(values=True)
    for part in parts:
        inputs = part.circuit.inputs
        reached = part.circuit.reached_from([*(inputs[i] for i in moving), inputs[-1]])
        for node, index, _ in part.checks:
            if index in reached:
                raise InputError(
                    f"{node.place}: an index depends on the examples' weights; indices must come from the data, or "
                    "from a part of the state that does not depend on the weights"
                )


def index_circuits(run: Run) -> list[IndexChecks]:
    """Return the part of each circuit that determines indices, at its own or, through the state, at a later step."""
    count = len(run.state_leaves)
    followed: set[int] = set()  # positions of the state
    while True:
        parts = [find_index_checks(circuit, [circuit.outputs[i] for i in followed]) for circuit in run.circuits]
        more = {i for part in parts for i in part.inputs if i < count} - followed
        if not more:
            return parts
        followed |= more
