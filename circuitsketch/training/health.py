"""The health of a run: where it leaves the finite numbers, and where a gate has no Taylor series.

All directions share their constant terms, so whether the series exist is decided once, on the run without lanes: every
gate with a domain is looked at in every step, before directions are pushed. Where a gate is outside of its domain, or
on its kink, only entries count that some weight has moved by then: the others are the same in every counterfactual, and
so is what the gate makes of them. `Moving` knows which those are; it is asked only where it matters.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from circuitsketch.backends import reference
from circuitsketch.backends.contract import Executable, Phases
from circuitsketch.checks.dependence import spread
from circuitsketch.checks.domains import ORDERS, domain_error, is_kink, kink_text, moves, where
from circuitsketch.circuit import Node
from circuitsketch.errors import DivergenceError, KinkWarning
from circuitsketch.lower.instructions import Mode

if TYPE_CHECKING:
    from circuitsketch.training.training import Training

MAX_WARNINGS = 5
FOLLOWED = 1000  # steps that `Moving` follows a run for, in NumPy; what it has not seen counts as moved


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


class Moving:
    """Which entries of a run's wires the weights move: the run along one random direction, step by step, in NumPy.

    For a kink that is asked of the numbers: where both sides agree in every coefficient, the kink changes nothing. An
    operand without a series is an error where any path of gates leads to it from a weight, whatever the numbers are.
    """

    def __init__(self, run: Training, w: np.ndarray) -> None:
        self.run, self.w = run, w
        self.direction = np.random.default_rng(0).normal(size=run.n)
        self.values: list[np.ndarray] = list(run.state_leaves)
        self.series: list[np.ndarray | None] = [None] * len(self.values)
        self.touched = [np.zeros(leaf.shape, dtype=bool) for leaf in self.values]
        self.step = 0
        self.marks: dict[int, np.ndarray] = {}  # by wire, of the last step: where operands of gates with a domain move

    def at(self, step: int, wire: int) -> np.ndarray | bool:
        """Which entries of a gate's operands, of its result's shape, are moved in a step, not before the last asked."""
        while self.step <= min(step, FOLLOWED):
            self.play()
        return self.marks[wire] if self.step == step + 1 else True

    def play(self) -> None:
        """One step."""
        run, t = self.run, self.step
        circuit, ids = run.circuits[run.schedule.program[t]], run.examples[t]
        keep = np.zeros((1, ORDERS, len(ids)))
        keep[0, 0] = -self.direction[ids]
        data = run.data_of(t)
        wires: list[reference.Series] = []
        given = iter([*self.touched, *(np.zeros(part.shape, dtype=bool) for part in data), np.ones(len(ids), bool)])
        touched = dict(zip(circuit.inputs, given, strict=True))
        self.marks = {}

        def watch(wire: int, node: Node, series: reference.Series) -> None:
            wires.append(series)
            operands = [touched[i] for i in node.operands]
            if node.is_source or node.gate.flat:
                touched.setdefault(wire, np.zeros(node.shape, dtype=bool))
            else:
                touched[wire] = spread(node, operands, [wires[i][0] for i in node.operands])
            if is_kink(node):
                self.marks[wire] = moves(node, [wires[i] for i in node.operands])
            elif node.gate.domain:
                self.marks[wire] = np.logical_or.reduce(operands)

        values = [*self.values, *data, 1.0 - self.w[ids]]
        out = reference.run(circuit, values, [*self.series, *[None] * len(data), keep], ORDERS, watch)
        self.values = [part[0, 0].real for part in out]
        self.series = [part[:, 1:] if np.any(part[:, 1:]) else None for part in out]
        self.touched = [touched[wire] for wire in circuit.outputs]
        self.step += 1


def check_series(run: Training, executable: Executable, w: np.ndarray) -> None:
    """Play the constant phase of a run, looking at every gate with a domain in every step.

    Raises
    ------
    DivergenceError : a value is not finite. DomainError : a gate has no series at its constant term, where the weights
        move it.

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
                found.append((operation.wire, operation.node, varies, views))
        looks.append(found)
    kinks: dict[Node, tuple[int, int]] = {}  # first step, number of steps
    moving = Moving(run, w)
    with np.errstate(all="ignore"):
        for t in range(run.steps):
            arena.run(run.schedule, t, t + 1, w, phases=Phases.CONSTANT)
            for wire, node, varies, views in looks[run.schedule.program[t]]:
                outside = node.gate.lacks_series(views, varies)
                if not np.any(outside):
                    continue
                by_rule = not executable.target.straight and not is_kink(node)  # orders that divide by what is 0 there
                if not by_rule and not np.any(outside & moving.at(t, wire)):
                    continue
                if not is_kink(node):
                    raise domain_error(node, f" in step {t} of {run.steps}")
                first, count = kinks.get(node, (t, 0))
                kinks[node] = (first, count + 1)
            if arena.run(run.schedule, t, t + 1, w, watch=True, phases=Phases.CARRY) >= 0:
                raise explain_divergence(run, t, w)
    for node, (first, count) in list(kinks.items())[:MAX_WARNINGS]:
        warnings.warn(kink_text(node, f" in {count} step(s), first in step {first}"), KinkWarning, stacklevel=2)
