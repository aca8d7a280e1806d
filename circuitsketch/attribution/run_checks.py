"""What a sketch's run says against predictions: its kinks, and a few examples retrained alone.

In: the run that was sketched, a measurement, an estimator. Out: its estimates with honest errors. Everything is
computed when it is first asked for: what deletions cross once per sketch, what that changes, and a few retrainings,
once per measurement. A run without kinks and without square roots costs nothing, and its estimates stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.structure import Structure
from circuitsketch.checks.kinks import Kink, count_crossings, find_kinks, measure_sides
from circuitsketch.circuit import Circuit
from circuitsketch.directions import Given
from circuitsketch.errors import CircuitSketchError
from circuitsketch.estimators.caveats import KinkErrors, RetrainedAlone
from circuitsketch.estimators.interface import Effects, Estimate, Estimator
from circuitsketch.gates.powers import power, rsqrt, sqrt
from circuitsketch.propagate.blocks import push_blocks
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.training.crossings import Crossings, find_crossings, kinks_of, measure_crossings
from circuitsketch.training.kinks import Kinks, error_at, random_deletions, summarize
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten, unflatten

DRAWS = 8  # random deletions of each size that are tried for kinks
ALONE = 16  # examples that are retrained alone, those of the largest first-order effects


@dataclass(frozen=True, eq=False)
class RunKinks:
    """What random deletions move across the kinks of a run; without crossings, only where the kinks are."""

    summary: Kinks
    crossings: Crossings | None = None

    @staticmethod
    def of(run: Training) -> RunKinks | None:
        """Count what random deletions of all sizes cross; None for a smooth run."""
        names = names_of_kinks(run)
        if not names:
            return None
        sizes, weights = random_deletions(run.n, DRAWS)
        try:
            crossings = find_crossings(run, weights.reshape(-1, run.n))
        except CircuitSketchError:  # first order diverges, or memory does not hold it
            return RunKinks(Kinks(names))
        return RunKinks(summarize(crossings, sizes), crossings)


def names_of_kinks(run: Training) -> tuple[str, ...]:
    """Return the gates with kinks that the weights reach, and the user's lines."""
    return tuple(dict.fromkeys(kink.name for step in kinks_of(run) for kink in step))


def first_order_changes(run: Training, weights: np.ndarray) -> Any:
    """Return what downweights (B, n) change of the trained state to first order: its pytree, leaves (B, *shape)."""
    executable, constants, lanes = push_blocks(
        run, lambda start, stop: weights[start:stop], len(weights), 1, is_complex=False
    )
    offsets = executable.state_lane
    pushed = PropagatedRun(
        Given(weights), len(weights), executable.target, run.state_tree, run.params, constants, offsets, lanes
    )
    leaves, tree = flatten(pushed.state)
    return unflatten(tree, [leaf[:, 1].real for leaf in leaves])


def has_roots(run: Training) -> bool:
    """Return whether the weights reach a square root or another power, as in Adam, whose series may end at w = 1."""
    for circuit in run.circuits:
        weighted = [*(circuit.inputs[i] for i in run.varying()), circuit.inputs[-1]]
        reached = circuit.reached_from(weighted, through=lambda node: not node.gate.flat)
        for node in circuit.nodes:
            if node.gate in (sqrt, rsqrt, power) and not reached.isdisjoint(node.operands):
                return True
    return False


@dataclass(frozen=True, eq=False)
class MeasuredState:
    """How a measurement depends on the trained state: its circuit, the state by leaf, which leaves vary."""

    circuit: Circuit
    state: Sequence[np.ndarray]
    varying: Sequence[int]

    @cached_property
    def kinks(self) -> tuple[str, ...]:
        """The measurement's gates with kinks that the weights reach, and the user's lines."""
        return tuple(f"{name} of the measurement" for name in dict.fromkeys(kink.name for kink in self.find_kinks()))

    def find_kinks(self) -> list[Kink]:
        """Return the kinks that the weights reach."""
        return find_kinks(self.circuit, self.varying)

    def cross(self, change: Any) -> tuple[np.ndarray, np.ndarray]:
        """Follow first-order changes of the state, a pytree of leaves (B, *shape), across the measurement's own kinks.

        Returns
        -------
        counts : (B, kinks), the elements that cross. errors : (B, *S), what that adds to the first-order change.
        """
        leaves = flatten(change)[0]
        changes = [leaf if i in self.varying else None for i, leaf in enumerate(leaves)]
        counts = count_crossings(self.circuit, self.state, changes)
        added = measure_sides(self.circuit, self.state, changes)
        errors = (
            added[0]
            if self.circuit.out_tree.kind is None
            else np.concatenate([part.reshape(len(part), -1) for part in added], axis=1)
        )
        return np.stack(list(counts.values()), axis=1), errors


@dataclass(eq=False)
class RunChecks:
    """The checks of a measurement of a run.

    Attributes
    ----------
    source : Source
        The run, the function and its arguments.
    structure : Structure or None
        Of a measurement that is a pytree.
    kinks : callable
        Returns what random deletions cross, shared by all measurements of a sketch.
    moves : callable
        Returns the first-order effects (n, p) of the examples on the parameters, or None.
    measured : MeasuredState
        How the measurement depends on the trained state.
    """

    source: Source
    structure: Structure | None
    kinks: Callable[[], RunKinks | None]
    moves: Callable[[], np.ndarray | None]
    measured: MeasuredState
    compared: dict[Any, RetrainedAlone | None] = field(default_factory=dict, repr=False)

    def apply(
        self,
        estimate: Estimate,
        h: np.ndarray,
        estimator: Estimator,
        baseline: Any,
        effects: Callable[[], np.ndarray],
        known: np.ndarray | None = None,
    ) -> Estimate:
        """Widen an estimator's estimate for h of shape (n,) or (B, n).

        baseline : the measurement at h = 0. effects : returns first-order effects (n, *S) on the measurement.
        known : h's (K, n) of which the estimator knows the retrained value; these are not widened.
        """
        if estimate.bounds is not None or np.isinf(estimate.stderr).all():
            return estimate  # calibrated, or already unknown
        rows = np.atleast_2d(h)
        if known is not None:
            retrained = (rows[:, None] == known[None]).all(axis=2).any(axis=1)
            rows = np.where(retrained[:, None], 0.0, rows)
        if self.kink_errors is not None:
            squares = effects() ** 2
            squares = np.maximum(squares, squares.mean(axis=0))
            typical = np.sqrt(np.tensordot(rows**2, squares, axes=1))
            estimate = self.kink_errors.apply(estimate, rows, typical)
        alone = self.compare(estimator, baseline, effects)
        return estimate if alone is None else alone.apply(estimate, rows)

    def apply_to_effects(
        self, effects: Effects, estimator: Estimator, baseline: Any, first: Callable[[], np.ndarray]
    ) -> Effects:
        """Widen the effects of all examples alone; baseline and first as baseline and effects of `apply`."""
        error = np.zeros_like(effects.stderr)
        kinks = self.kink_errors
        if kinks is not None and kinks.errors is not None:
            error[:] = error_at(1.0, kinks.summary.sizes, kinks.errors)
        alone = self.compare(estimator, baseline, first)
        if alone is not None:
            error[alone.ids] = np.hypot(error[alone.ids], alone.misses)
        if not error.any():
            return effects
        return replace(effects, stderr=np.where(error > 0, np.hypot(effects.stderr, error), effects.stderr))

    @cached_property
    def kink_errors(self) -> KinkErrors | None:
        """What crossing kinks of the run or of the measurement adds to that; None where both are smooth."""
        kinks, run, own = self.kinks(), self.source.run, self.measured.kinks
        if kinks is None and not own:
            return None
        if run is None or (kinks is not None and kinks.crossings is None):
            return KinkErrors(Kinks((*(() if kinks is None else kinks.summary.kinks), *own)), None)
        sizes, weights = random_deletions(run.n, DRAWS)
        errors = np.zeros(())
        if kinks is None or kinks.crossings is None:
            try:
                change = first_order_changes(run, weights.reshape(-1, run.n))
            except CircuitSketchError:  # first order diverges, or memory does not hold it
                return KinkErrors(Kinks(own), None)
            summary = Kinks((), sizes, ((),) * len(sizes), (0.0,) * len(sizes))
        else:
            summary, change = kinks.summary, kinks.crossings.change
            added = measure_crossings(run, kinks.crossings, self.source.measure, *self.source.args)
            errors = np.asarray(added) if self.structure is None else self.structure.flat(added, 1)
        if own:
            counts, sides = self.measured.cross(change)
            errors = errors + sides
            means = counts.reshape(len(sizes), -1, counts.shape[1]).mean(axis=1).tolist()
            both = tuple((*row, *more) for row, more in zip(summary.counts, means, strict=True))
            summary = replace(summary, kinks=(*summary.kinks, *own), counts=both)
        return KinkErrors.of(summary, errors.reshape(*weights.shape[:2], *errors.shape[1:]), weights, self.moves())

    @cached_property
    def has_roots(self) -> bool:
        """Whether examples are worth retraining alone: the run is at hand, and has square roots."""
        return self.source.run is not None and has_roots(self.source.run)

    def compare(self, estimator: Estimator, baseline: Any, effects: Callable[[], np.ndarray]) -> RetrainedAlone | None:
        """Compare an estimator with the examples that were retrained alone; None if there are none."""
        if not self.has_roots:
            return None
        if estimator not in self.compared:
            self.compared[estimator] = None
            try:
                ids, values = self.retrain_alone(effects)
                estimate = estimator.predict(np.eye(len(effects()))[ids])
                self.compared[estimator] = RetrainedAlone.compare(ids, values - baseline, estimate)
            except CircuitSketchError:  # the estimator does not answer for single examples, or retraining diverges
                pass
        return self.compared[estimator]

    def retrain_alone(self, effects: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the examples of the largest first-order effects, and the measurement without each."""
        if "alone" not in vars(self):
            first = effects()
            first = first.reshape(len(first), -1)
            scale = np.sqrt((first**2).mean(axis=0))
            size = np.linalg.norm(first / np.where(scale > 0, scale, 1.0), axis=1)
            ids = np.sort(np.argsort(-size, kind="stable")[:ALONE])
            self.alone = ids, self.source.retrain(np.eye(len(first))[ids])
        return self.alone
