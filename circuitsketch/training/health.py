"""The health of a run: where it leaves the finite numbers, and where a gate has no Taylor series.

All directions share their constant terms, so whether the series exist is decided once, on the run without lanes: every
gate with a domain is looked at in every step, before directions are pushed.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from circuitsketch.circuit import Node
from circuitsketch.errors import DivergenceError, KinkWarning
from circuitsketch.kernels import reference
from circuitsketch.kernels.cpu.executable import Executable
from circuitsketch.kernels.domains import domain_error, is_kink, kink_text, where
from circuitsketch.lower.instructions import Mode

if TYPE_CHECKING:
    from circuitsketch.training.training import Training

MAX_WARNINGS = 5


def explain_divergence(run: Training, step: int, w: np.ndarray) -> DivergenceError:
    """The error for a run whose state is not finite after a step: which gate of the step yielded it first."""
    arena = run.executable(Mode(0)).arena()
    arena.set_state(run.state_leaves)
    arena.run(run.schedule, 0, step, w)
    circuit = run.circuits[run.schedule.program[step]]
    values = [*arena.state(), *run.data_of(step), 1.0 - w[run.examples[step]]]
    found: list[str] = []

    def watch(wire: int, node: Node, series: reference.Series) -> None:
        if not found and not np.all(np.isfinite(series[0])) and not node.is_source:
            found.append(where(node))

    reference.run(circuit, values, [None] * len(values), 0, watch)
    gate = found[0] if found else "the state itself"
    return DivergenceError(
        f"the run leaves the finite numbers in step {step} of {run.steps}, first at {gate}; lower the learning rate, "
        "or keep that gate's operand in range"
    )


def check_series(run: Training, executable: Executable, w: np.ndarray) -> None:
    """Play the constant phase of a run, looking at every gate with a domain in every step.

    Raises
    ------
    DivergenceError : a value is not finite. DomainError : a gate has no series at its constant term.

    Warns
    -----
    KinkWarning : a gate that is only locally analytic is within rounding of its kink.
    """
    arena = executable.arena()
    arena.set_state(run.state_leaves)
    looks = []
    for number, tape in enumerate(executable.tapes):
        found = []
        for operation in tape.program.operations:
            gate = operation.node.gate
            if gate.domain and any(i in tape.program.varying for i in operation.node.operands):
                views = [arena.constant_view(number, layout) for layout in operation.operands]
                varies = [i in tape.program.varying for i in operation.node.operands]
                found.append((operation.node, varies, views))
        looks.append(found)
    kinks: dict[Node, tuple[int, int]] = {}  # first step, number of steps
    with np.errstate(all="ignore"):
        for t in range(run.steps):
            arena.run(run.schedule, t, t + 1, w, stages=1)
            for node, varies, views in looks[run.schedule.program[t]]:
                if not np.any(node.gate.lacks_series(views, varies)):
                    continue
                if not is_kink(node):
                    raise domain_error(node, f" in step {t} of {run.steps}")
                first, count = kinks.get(node, (t, 0))
                kinks[node] = (first, count + 1)
            if arena.run(run.schedule, t, t + 1, w, watch=True, stages=4) >= 0:
                raise explain_divergence(run, t, w)
    for node, (first, count) in list(kinks.items())[:MAX_WARNINGS]:
        warnings.warn(kink_text(node, f" in {count} step(s), first in step {first}"), KinkWarning, stacklevel=2)
