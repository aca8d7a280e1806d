"""The health of a run: where a gate of it has no Taylor series.

All directions share their primals, so the existence of the series is decided once, on the run without lanes: every gate
with a domain is checked at every step. Where a gate is outside its domain or on its kink, only elements that depend on
the weights at that step count: the others are the same in every counterfactual, and so is the gate's result. `Moving`
determines which elements these are. Elements that the state after the step does not read, since a `where` or a maximum
does not choose them, do not count either. Both are evaluated only when a gate fails the check.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np

from circuitsketch.backends import reference
from circuitsketch.backends.contract import Executable, Phases
from circuitsketch.checks.chosen import find_chosen
from circuitsketch.checks.dependence import propagate_mask
from circuitsketch.checks.domains import PROBE_ORDERS, find_moving, format_kink_warning, is_kink, make_domain_error
from circuitsketch.circuit import Node
from circuitsketch.errors import KinkWarning
from circuitsketch.training.training import Training

MAX_WARNINGS = 5
FOLLOWED = 1000  # steps that are simulated in NumPy; after that, every element at a kink counts as moving and chosen


class Moving:
    """Determine which elements of a run's wires depend on the weights, by one random direction, step by step in NumPy.

    A kink is decided by the coefficients: if both sides agree in all of them, the kink has no effect. A missing
    series is decided by reachability: any path of gates from a weight counts, whatever the coefficients are, but for
    products with a zero that no weight reaches, and for sides that are not chosen, as of an inactive ReLU unit.
    """

    def __init__(self, run: Training, w: np.ndarray) -> None:
        self.run, self.w = run, w
        self.direction = np.random.default_rng(0).normal(size=run.n)
        self.values: list[np.ndarray] = list(run.state_leaves)
        self.series: list[np.ndarray | None] = [None] * len(self.values)
        self.touched = [np.zeros(leaf.shape, dtype=bool) for leaf in self.values]
        self.step = 0
        self.marks: dict[int, np.ndarray] = {}  # by wire, at the last step: moving operands of gates with a domain

    def at(self, step: int, wire: int) -> np.ndarray | bool:
        """Return which elements of a gate's operands move at a step, in its result's shape; steps must not decrease."""
        while self.step <= min(step, FOLLOWED):
            self.advance()
        return self.marks[wire] if self.step == step + 1 else True

    def advance(self) -> None:
        """Simulate one step."""
        run, t = self.run, self.step
        circuit, ids = run.circuits[run.schedule.program[t]], run.examples[t]
        keep = np.zeros((1, PROBE_ORDERS, len(ids)))
        keep[0, 0] = -self.direction[ids]
        data = run.data_of(t)
        wires: list[reference.Series] = []
        initial = iter([*self.touched, *(np.zeros(part.shape, dtype=bool) for part in data), np.ones(len(ids), bool)])
        touched = dict(zip(circuit.inputs, initial, strict=True))
        self.marks = {}

        def watch(wire: int, node: Node, series: reference.Series) -> None:
            wires.append(series)
            operands = [touched[i] for i in node.operands]
            if node.is_source or node.gate.flat:
                touched.setdefault(wire, np.zeros(node.shape, dtype=bool))
            else:
                touched[wire] = propagate_mask(node, operands, [wires[i][0] for i in node.operands], by_series=True)
            if is_kink(node):
                self.marks[wire] = find_moving(node, [wires[i] for i in node.operands], series)
            elif node.gate.domain:
                self.marks[wire] = np.logical_or.reduce(operands)

        values = [*self.values, *data, 1.0 - self.w[ids]]
        out = reference.run(circuit, values, [*self.series, *[None] * len(data), keep], PROBE_ORDERS, watch)
        self.values = [part[0, 0].real for part in out]
        self.series = [part[:, 1:] if np.any(part[:, 1:]) else None for part in out]
        self.touched = [touched[wire] for wire in circuit.outputs]
        self.step += 1


def check_series(run: Training, executable: Executable, w: np.ndarray) -> None:
    """Execute the primal phase of a run and check every gate with a domain at every step.

    Raises
    ------
    DivergenceError
        If a value is not finite.
    DomainError
        If a gate has no series at its primal value, in an element that depends on the weights and that is read.

    Warns
    -----
    KinkWarning
        If a gate that is only piecewise analytic is within rounding error of its kink.
    """
    arena = executable.allocate_arena()
    arena.set_state(run.state_leaves)
    probes = []  # by tape, the gates with a domain and views of their operands
    for number, tape in enumerate(executable.tapes):
        tape_probes = []
        for operation in tape.program.operations:
            gate = operation.node.gate
            if gate.domain and any(i in tape.program.varying for i in operation.node.operands):
                views = [arena.view_constant(number, layout) for layout in operation.operands]
                varies = [i in tape.program.varying for i in operation.node.operands]
                tape_probes.append((operation.wire, operation.node, varies, views))
        probes.append(tape_probes)

    @lru_cache(maxsize=1)
    def chosen(step: int) -> list[np.ndarray]:
        """Return which elements of every wire the state after the current step reads."""
        values = [*arena.get_state(), *run.data_of(step), 1.0 - w[run.examples[step]]]
        return find_chosen(run.circuits[run.schedule.program[step]], values)

    kinks: dict[Node, tuple[int, int]] = {}  # first step, number of steps
    moving = Moving(run, w)
    with np.errstate(all="ignore"):
        for t in range(run.steps):
            arena.run(run.schedule, t, t + 1, w, phases=Phases.CONSTANT)
            for wire, node, varies, views in probes[run.schedule.program[t]]:
                outside = node.gate.lacks_series(views, varies)
                if not np.any(outside):
                    continue
                by_rule = not executable.target.is_unrolled and not is_kink(node)  # divides by 0 there
                if not by_rule:
                    outside = outside & moving.at(t, wire)
                if np.any(outside) and not node.gate.flat and (t <= FOLLOWED or not is_kink(node)):
                    outside = outside & chosen(t)[wire]
                if not np.any(outside):
                    continue
                if not is_kink(node):
                    raise make_domain_error(node, f" at step {t} of {run.steps}")
                first, count = kinks.get(node, (t, 0))
                kinks[node] = (first, count + 1)
            if arena.run(run.schedule, t, t + 1, w, check_finite=True, phases=Phases.CARRY) >= 0:
                raise run.explain_divergence(t, w)
    for node, (first, count) in list(kinks.items())[:MAX_WARNINGS]:
        warnings.warn(
            format_kink_warning(node, f" in {count} step(s), first at step {first}"), KinkWarning, stacklevel=2
        )
