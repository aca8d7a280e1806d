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

from circuitsketch.attribution.alike_subsets import SHARES, draw_alike_and_random
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.structure import Structure
from circuitsketch.checks.kinks import Kink, count_crossings, find_kinks, measure_sides
from circuitsketch.circuit import Circuit
from circuitsketch.directions import Given
from circuitsketch.errors import CircuitSketchError
from circuitsketch.estimators.alikeness import Alikeness, share_a_label
from circuitsketch.estimators.caveats import KinkErrors, RetrainedAlone, typical_change
from circuitsketch.estimators.interface import Effects, Estimate, Estimator
from circuitsketch.estimators.retrained_together import RetrainedTogether
from circuitsketch.propagate.blocks import push_blocks
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.propagate.roots import ORDER, TOLERANCE, constant_needed, has_roots, largest_ratio
from circuitsketch.training.crossings import Crossings, find_crossings, kinks_of, measure_crossings
from circuitsketch.training.kinks import Kinks, error_at, random_deletions, summarize
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten, unflatten

COMPARED = ("interactions", "per-example")  # estimators whose errors are compared with retrained subsets
DRAWS = 8  # random deletions of each size that are tried for kinks
EXPLAINED = 4  # of these, by which the constant under a root is computed that would let their series converge
MANY = 6  # times the squared miss of random examples, beyond which a deletion's examples are worse than others
ALONE = 16  # examples that are retrained alone, of the largest first-order effects, and as many at random


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
    labels : sequence, or None
        The label of each example, where some are shared.
    shares : callable
        Returns how much of an average under a root each example alone carries, (n,), or None.
    """

    source: Source
    structure: Structure | None
    kinks: Callable[[], RunKinks | None]
    moves: Callable[[], np.ndarray | None]
    measured: MeasuredState
    labels: Sequence[Any] | None
    shares: Callable[[], np.ndarray | None]
    compared: dict[Any, RetrainedAlone | None] = field(default_factory=dict, repr=False)
    together: dict[Any, RetrainedTogether | None] = field(default_factory=dict, repr=False)

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
        retrained = np.zeros(len(rows), dtype=bool)
        if known is not None:
            retrained = (rows[:, None] == known[None]).all(axis=2).any(axis=1)
        estimate = self.apply_local(estimate, np.where(retrained[:, None], 0.0, rows), estimator, baseline, effects)
        if self.source.run is None or estimator.name not in COMPARED or self.moves() is None:
            return estimate
        several = np.count_nonzero(rows, axis=1) > 1
        if not several.any():
            return estimate
        is_alike = self.alikeness.find_alike(rows)
        if self.labels is not None:
            is_alike = is_alike | share_a_label(rows, self.labels)
        outside = np.reshape(np.asarray(estimate.outside), (len(rows), -1)).any(axis=1)
        is_large = (rows**2).sum(axis=1) >= SHARES[0] * rows.shape[1]
        if not (several & (outside | is_large | is_alike)).any():
            return estimate
        together = self.compare_together(estimator, baseline, effects)
        if together is None:
            return estimate
        is_alike = is_alike & ~retrained
        rows = np.where(retrained[:, None], 0.0, rows)
        alone = self.compare(estimator, baseline, effects)
        # What single examples are off by counts in the retrained subsets, unless few of these have such an example.
        none = np.zeros(len(rows), dtype=bool)
        is_special = none if alone is None else alone.find_special(rows, MANY)
        return together.apply(estimate, rows, is_alike, typical_change(rows, effects()), is_special)

    def apply_local(
        self,
        estimate: Estimate,
        rows: np.ndarray,
        estimator: Estimator,
        baseline: Any,
        effects: Callable[[], np.ndarray],
    ) -> Estimate:
        """Widen an estimate for h's (B, n) by what kinks and examples retrained alone say."""
        if self.kink_errors is not None:
            estimate = self.kink_errors.apply(estimate, rows, typical_change(rows, effects()))
        alone = self.compare(estimator, baseline, effects)
        return estimate if alone is None else alone.apply(estimate, rows)

    def compare_together(
        self, estimator: Estimator, baseline: Any, effects: Callable[[], np.ndarray]
    ) -> RetrainedTogether | None:
        """Compare an estimator with subsets that were retrained; None if that fails."""
        if estimator not in self.together:
            self.together[estimator] = None
            try:
                sizes, kinds, rows, values = self.retrain_together
                estimate = self.apply_local(estimator.predict(rows), rows, estimator, baseline, effects)
                self.together[estimator] = RetrainedTogether.compare(
                    sizes, kinds, rows, values - baseline, estimate, typical_change(rows, effects())
                )
            except CircuitSketchError:  # retraining diverges
                pass
        return self.together[estimator]

    @cached_property
    def alikeness(self) -> Alikeness:
        """Which examples move the parameters alike."""
        moves = self.moves()
        assert moves is not None
        return Alikeness.of(moves)

    @cached_property
    def retrain_together(self) -> tuple[tuple[int, ...], np.ndarray, np.ndarray, np.ndarray]:
        """Subsets at random, of several sizes, and alike ones: see `draw_alike_and_random`; and the values."""
        drawn = draw_alike_and_random(self.alikeness.directions, self.labels)
        return *drawn, self.source.retrain(drawn[-1])

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
            error = np.hypot(error, alone.errors)
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
                ids, at_random, values = self.retrain_alone(effects)
                estimate = estimator.predict(np.eye(len(effects()))[ids])
                alone = RetrainedAlone.compare(ids, values - baseline, estimate, at_random, len(effects()))
                self.compared[estimator] = replace(alone, remedy=self.describe_constant(alone))
            except CircuitSketchError:  # the estimator does not answer for single examples, or retraining diverges
                pass
        return self.compared[estimator]

    def describe_constant(self, alone: RetrainedAlone) -> str:
        """Return how large a constant under the run's roots would let the series of the worst misses converge."""
        assert self.source.run is not None
        constant = constant_needed(self.source.run, alone.worst(EXPLAINED))
        if constant is None:
            return ""
        return (
            f" (trained with eps_root larger by about {constant:.1g}, series to order {ORDER} would follow the step "
            f"within {TOLERANCE:.0%})"
        )

    def retrain_alone(self, effects: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the examples of the largest first-order effects, those that carry an average under a root alone, and
        some at random; which the last are; the measurement without each."""
        if "alone" not in vars(self):
            first = effects()
            first = first.reshape(len(first), -1)
            scale = np.sqrt((first**2).mean(axis=0))
            size = np.linalg.norm(first / np.where(scale > 0, scale, 1.0), axis=1)
            largest = np.argsort(-size, kind="stable")[:ALONE]
            shares = self.shares()
            if shares is not None:  # what leaving them out zeroes, no series knows
                dominant = np.argsort(-shares, kind="stable")[:ALONE]
                largest = np.union1d(largest, dominant[shares[dominant] > largest_ratio()])
            at_random = np.random.default_rng(0).permutation(len(first))[:ALONE]
            ids = np.union1d(largest, at_random)
            self.alone = ids, np.isin(ids, at_random), self.source.retrain(np.eye(len(first))[ids])
        return self.alone
