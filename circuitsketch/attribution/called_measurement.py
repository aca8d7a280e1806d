"""A measurement without derivatives: called in NumPy on the parameters of every model, as the user wrote it.

In: what was measured, and why it has no derivatives: it counts or sorts, a gate of it or of the run has no series, a
derivative overflows. Out: its values, for own effects by retraining and for calibration, which need no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.structure import Structure, number_of
from circuitsketch.errors import CircuitSketchError, InputError, TraceError
from circuitsketch.propagate.coefficients import trace_measurement
from circuitsketch.store.fingerprint import describe_circuit, digest
from circuitsketch.training.training import Training
from circuitsketch.tree import flatten, unflatten


@dataclass(frozen=True, eq=False)
class CalledMeasurement:
    """A measurement of a run's trained state that has no derivatives.

    Attributes
    ----------
    source : Source
        The run, the function and its arguments.
    run : Training
        The same run.
    state : sequence of ndarray
        The trained state, by leaf.
    baseline : ndarray, of shape (values,)
        The measured values.
    shape : tuple of int
        Their shape.
    structure : Structure or None
        Of a measurement that is a pytree.
    reason : str
        Why there are no derivatives.
    """

    source: Source
    run: Training
    state: Sequence[np.ndarray]
    baseline: np.ndarray
    shape: tuple[int, ...]
    structure: Structure | None
    reason: str

    @staticmethod
    def of(source: Source, reason: CircuitSketchError) -> CalledMeasurement:
        """Call the function on the trained parameters; raise `reason` where it is no function of them in NumPy."""
        run = source.run
        assert run is not None
        state = flatten(run.train())[0]
        params = run.params(unflatten(run.state_tree, state))
        try:
            value, again = (source.measure(params, *source.args) for _ in range(2))
            baseline = number_of(value)
            same = np.array_equal(baseline, number_of(again)) and np.isfinite(baseline).all()
        except Exception as failure:  # of a user's function: anything
            raise reason from failure
        if not same:
            raise reason
        leaves, tree = flatten(value)
        structure = None if tree.kind is None else Structure(tree, tuple(np.shape(leaf) for leaf in leaves))
        return CalledMeasurement(source, run, state, baseline.ravel(), baseline.shape, structure, str(reason))

    def __call__(self, state: Sequence[np.ndarray]) -> np.ndarray:
        """Measure another trained state, by leaf: (values,)."""
        params = self.run.params(unflatten(self.run.state_tree, list(state)))
        return number_of(self.source.measure(params, *self.source.args)).ravel()

    @property
    def values(self) -> int:
        """The number of values."""
        return len(self.baseline)

    def digest(self) -> str:
        """Return the digest of the measurement's circuit, by which finished work is recognised.

        InputError: there is none, since it cannot be traced.
        """
        try:
            circuit = trace_measurement(
                self.source.measure, self.source.args, unflatten(self.run.state_tree, list(self.state)), self.run.params
            )
        except TraceError as reason:
            raise InputError(
                f"path= keeps work by the circuit of a measurement, and this one has none ({reason}); leave out path="
            ) from None
        return digest(describe_circuit(circuit))
