"""How a sketch measures: a function of the trained parameters, along every direction.

In: the parts of a sketch (`SketchRecord`), a function. Out: a `Query`, to which the sketch gives what all its
measurements share: the similarity of examples, how they move the parameters, the run's kinks, calibrations on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from circuitsketch.attribution.calibrate import take_in_kept
from circuitsketch.attribution.description import SketchRecord
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.planned_work import unit_rows
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.rounding import CHECKED, measure_rounding
from circuitsketch.attribution.run_checks import MeasuredState, RunChecks, RunKinks
from circuitsketch.attribution.structure import Structure
from circuitsketch.autodiff import evaluate
from circuitsketch.circuit import Circuit
from circuitsketch.errors import CircuitSketchError
from circuitsketch.estimators.alikeness import shares_labels
from circuitsketch.estimators.interactions.priors import Priors
from circuitsketch.estimators.known_effects import FromKnownEffects, KnownEffects
from circuitsketch.estimators.similarity import effects_similarity
from circuitsketch.limits import within_memory
from circuitsketch.propagate.blocks import by_first_step
from circuitsketch.propagate.coefficients import refuse_measurement, unpack_series, value_shape, values_of
from circuitsketch.propagate.roots import shares_of_averages
from circuitsketch.reverse.metagradient import differentiate_run
from circuitsketch.store.fingerprint import describe_circuit, digest
from circuitsketch.store.kept_calibrations import CalibrationFolder
from circuitsketch.store.part_store import PartStore
from circuitsketch.training.kinks import Kinks
from circuitsketch.tree import unflatten


class MeasuringSketch(SketchRecord):
    """A sketch that measures; `Sketch`, which users hold, documents its attributes."""

    @cached_property
    def directions(self) -> np.ndarray:
        """The random (or given) directions, (count, n)."""
        return self.distribution.block(0, self.count)

    @cached_property
    def similarity(self) -> np.ndarray | None:
        """A factor J (n, p) of the similarity over examples, J J^T: the user's, else that of the first-order effects of
        single examples on the trained parameters, else None. Computed on first access."""
        if self.chosen_similarity is not None or self.per_example is None or not self.per_example.order:
            return self.chosen_similarity
        return effects_similarity(self.per_example)

    @cached_property
    def priors(self) -> Priors:
        """What all measurements share of the fit of interactions."""
        return Priors(partial(getattr, self, "similarity"), partial(self.distribution.block, 0, self.count))

    @cached_property
    def moves(self) -> np.ndarray | None:
        """First-order effects (n, p) of single examples on the trained parameters, or what retraining without each
        changes of these; None if they are not known."""
        if self.retrained is not None:
            circuit = self.first_part.measurement(lambda params: params, ())
            refuse_measurement(self.retrained.measured_bytes(circuit), circuit, self.n)
            trained = np.concatenate([np.ravel(leaf) for leaf in evaluate(circuit, self.constants)])
            return self.retrained.measured(circuit).reshape(self.n, -1) - trained
        return self.similarity if self.chosen_similarity is None else None

    @cached_property
    def shares(self) -> np.ndarray | None:
        """How much of an average under a root each example alone carries, see `shares_of_averages`; None if unknown.
        Computed on first access."""
        if self.run is None or self.per_example is None or not self.per_example.order:
            return None
        try:
            return shares_of_averages(self.run, self.per_example)
        except CircuitSketchError:  # first order diverges, or memory does not hold it
            return None

    @cached_property
    def kinks(self) -> RunKinks | None:
        """What random deletions move across the run's kinks; None for a smooth run. Computed on first access."""
        if self.run is None:
            return RunKinks(Kinks(self.kink_names)) if self.kink_names else None
        return RunKinks.of(self.run)

    @property
    def params(self) -> Callable[[Any], Any]:
        """The function from a state to the trained parameters."""
        return self.first_part.params

    @property
    def state(self) -> Any:
        """The final state's Taylor coefficients along the directions: see `PropagatedRun.state`."""
        if self.random is not None:
            return self.random.state
        shape = 0, self.order + 1
        empty = [np.zeros((*shape, *leaf.shape), dtype=np.complex128) for leaf in self.constants]
        return unflatten(self.first_part.tree, empty)

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def coefficients(self, function: Callable[..., Any], *args: Any, device: str = "cpu") -> Any:
        """Compute Taylor coefficients along the random (or given) directions: see `PropagatedRun.coefficients`."""
        if self.random is not None:
            return self.random.coefficients(function, *args, device=device)
        circuit = self.first_part.measurement(function, args)
        return unpack_series(circuit, self._measure_random(circuit, device))

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def measure(self, function: Callable[..., Any], *args: Any, device: str = "cpu") -> Query:
        """Measure the trained model, `function(params, *args)`, along every direction.

        Parameters
        ----------
        function : callable
            A NumPy function of the trained parameters. It returns a number, an array, or a pytree of them (the
            parameters themselves, too), and then predictions are such pytrees.
        *args
            Passed to the function unchanged (a name, test data); they are not traced.
        device : {"cpu", "cuda"}
            "cuda" is for measurements that take long.

        Returns
        -------
        Query

        Raises
        ------
        TraceError, InputError
            If the measurement is locally constant (a count, a rate, an accuracy), so that a series cannot predict it.
            If only some of its values are, predictions say which.
        """
        circuit = self.first_part.measurement(function, args)
        nbytes = sum(part.measured_bytes(circuit) for part in self.parts.values())
        refuse_measurement(nbytes, circuit, sum(part.count for part in self.parts.values()))
        coefficients, source = self._measure_random(circuit, device), Source(function, args, self.run)
        if self.retrained is None:
            query = self._measure_series(coefficients, circuit, source, device)
        else:
            query = self._measure_retrained(coefficients, circuit, source, device)
        query.calibrations = self.calibrations_of(circuit)
        return query

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def query(
        self, function: Callable[..., Any], *args: Any, kind: str | None = None, size: int | None = None
    ) -> Query:
        """Measure the trained model, and take in a calibration that the sketch has kept: nothing is retrained.

        Parameters
        ----------
        function, *args
            As for `measure`, the measurement that was calibrated.
        kind : {"mixed", "random", "label", "given"}, optional
            Of the subsets that it was calibrated on; needed where calibrations of several kinds are kept.
        size : int, optional
            A size |h|^2 that they reach.

        Returns
        -------
        Query
            With the default estimator "calibrated"; of several calibrations, on that of the most subsets.

        Raises
        ------
        InputError
            If there is no such calibration; see `Query.keep_calibration`.
        StoreError
            If it is damaged, or of another run.
        TraceError
            As for `measure`.

        Examples
        --------
        >>> import tempfile, circuitsketch as cs
        >>> step = lambda s, x, keep: s + np.tanh(keep.sum() * x - s)
        >>> run = cs.Training(step, np.zeros(()), np.linspace(0, 1, 50), [[i] for i in range(50)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sketch = cs.sketch(run, directions=0, order=1, per_example="series", path=folder + "/a.sketch")
        ...     kept = sketch.measure(lambda s: s).calibrate(size=(1, 5), count=24).keep_calibration()
        ...     print(sketch.query(lambda s: s, size=2).worth.subsets)
        24
        """
        return take_in_kept(self.measure(function, *args), kind, size)

    def calibrations_of(self, circuit: Circuit) -> CalibrationFolder | None:
        """Return where a measurement's calibrations are kept; None for a sketch in memory."""
        if self.path is None or not isinstance(self.first_part.lanes, PartStore):
            return None
        prints = self.first_part.lanes.header.fingerprint
        return CalibrationFolder(self.path, prints, digest(describe_circuit(circuit)), self.n, values_of(circuit))

    def _measure_random(self, circuit: Circuit, device: str) -> np.ndarray:
        if self.random is not None:
            return self.random.measured(circuit, device)
        return np.zeros((0, self.order + 1, *value_shape(circuit)), dtype=np.complex128)

    def _measure_series(self, coefficients: np.ndarray, circuit: Circuit, source: Source, device: str) -> Query:
        series = [coefficients]
        if self.per_example is not None:
            series.append(self.per_example.measured(circuit, device))
        constancy = self.first_part.constancy(circuit, *series)
        if constancy is not None and not constancy.flat.any():  # the same for all weights: what there is is rounding
            for part in series:
                part[:, 1:] = 0
        structure = Structure.of(circuit)
        return Query(
            coefficients,
            self.distribution,
            per_example=series[1] if self.per_example is not None else None,
            constancy=constancy,
            labels=self.labels,
            items=self.items,
            priors=self.priors,
            unit="example" if self.groups is None else "group",
            structure=structure,
            source=source,
            checks=RunChecks(
                source,
                structure,
                partial(getattr, self, "kinks"),
                partial(getattr, self, "moves"),
                MeasuredState(circuit, self.constants, self.first_part.varying),
                self.labels if self.groups is None and shares_labels(self.labels) else None,
                partial(getattr, self, "shares"),
            ),
        )

    def _rounding(self, values: np.ndarray, source: Source) -> np.ndarray | float:
        """Return the standard error by rounding of values (n, C) after retraining without each example in complex64.

        Where the run is at hand, it is measured on a few that are retrained in double precision; else 0.
        """
        assert self.retrained is not None
        if self.run is None or not self.retrained.target.single:
            return 0.0
        checked = by_first_step(self.run)[:CHECKED]
        double = replace(source, run=self.run).retrain(unit_rows(checked, self.n), self.first_part.threads)
        return measure_rounding(values[checked], double.reshape(len(checked), -1))

    def _measure_retrained(self, coefficients: np.ndarray, circuit: Circuit, source: Source, device: str) -> Query:
        assert self.retrained is not None
        baseline = np.concatenate([np.ravel(leaf) for leaf in evaluate(circuit, self.constants)])
        own = self.retrained.measured(circuit, device).reshape(self.n, -1) - baseline
        gradient = None
        if self.run is not None:
            with suppress(CircuitSketchError):  # where there are no derivatives
                gradient = differentiate_run(self.run, source.measure, source.args, self.first_part.threads)[1].T
        shape, constancy = value_shape(circuit), None
        if len(coefficients):
            constancy = self.first_part.constancy(circuit, coefficients)
        known = replace(KnownEffects.of_own(gradient, own, shape), rounding=self._rounding(own + baseline, source))
        series = np.stack([np.broadcast_to(baseline, own.shape), known.gradient], axis=1).reshape(self.n, 2, *shape)
        query = Query(
            coefficients,
            self.distribution,
            per_example=series,
            constancy=constancy,
            labels=self.labels,
            items=self.items,
            unit="example" if self.groups is None else "group",
            structure=Structure.of(circuit),
            source=source,
        )
        query.moves = partial(getattr, self, "moves")
        random = [query.random] if len(coefficients) else []
        return query.with_estimators([*random, *(FromKnownEffects(known, name) for name in known.names)])
