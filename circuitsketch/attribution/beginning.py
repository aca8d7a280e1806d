"""What is known of a measurement before anything is retrained: its values, and its derivatives where it has any.

In: a run, a measurement, perhaps a folder that has the derivatives. Out: a `Beginning`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.attribution.called_measurement import CalledMeasurement
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.structure import Structure
from circuitsketch.checks.dependence import Constancy
from circuitsketch.circuit import Circuit
from circuitsketch.errors import ConstantError, DivergenceError, DomainError, TraceError
from circuitsketch.propagate.coefficients import value_shape
from circuitsketch.reverse.measuring import Measured
from circuitsketch.reverse.metagradient import differentiate_run
from circuitsketch.store.fingerprint import describe_circuit, digest, fingerprint_of
from circuitsketch.store.kept_arrays import KeptArrays
from circuitsketch.tree import flatten


@dataclass(frozen=True, eq=False)
class Beginning:
    """What is known of a measurement before anything is retrained.

    Attributes
    ----------
    measurement : Circuit or CalledMeasurement
        How models are measured.
    state : list of ndarray
        The trained state, by leaf.
    baseline : ndarray, of shape (values,)
        What is measured of it.
    gradient : ndarray, of shape (values, n), or None
        The derivatives, where there are any.
    moves : ndarray, of shape (n, projections), or None
        The derivatives of random projections of the trained parameters: how the examples move these.
    kept : KeptArrays or None
        Where finished work is kept.
    shape, structure, constancy :
        Of the measurement, as for `Query`.
    reason : str
        Why there are no derivatives.
    measured : Measured or None
        What was differentiated.
    """

    measurement: Circuit | CalledMeasurement
    state: Sequence[np.ndarray]
    baseline: np.ndarray
    gradient: np.ndarray | None
    kept: KeptArrays | None
    shape: tuple[int, ...]
    structure: Structure | None
    constancy: Constancy | None = None
    reason: str = ""
    measured: Measured | None = None
    moves: np.ndarray | None = None


def differentiate_or_call(
    source: Source, threads: int | None, path: Any, projections: Callable[[int], int] | None = None
) -> Beginning:
    """Measure and differentiate; without derivatives, measure in NumPy. A folder may have the derivatives.

    projections : returns how many projections of the parameters are differentiated beside so many values.
    """
    run = source.run
    assert run is not None

    def keep(measurement: str) -> KeptArrays:
        return KeptArrays(path, {"run": fingerprint_of(run), "measurement": measurement, "format": 2})

    try:
        if path is None:
            measured, gradient, moves = differentiate_run(
                run, source.measure, source.args, threads, projections=projections
            )
            kept = None
        else:
            measured = Measured(run, np.zeros(run.n), flatten(run.train())[0], source.measure, source.args)
            kept = keep(digest(describe_circuit(measured.circuit)))
            known = kept.read("derivatives", (measured.values, run.n))
            count = 0 if projections is None else projections(measured.values)
            name = f"projections-{count}"
            also = kept.read(name, (count, run.n)) if count else np.zeros((0, run.n))
            if known is None or also is None:
                measured, gradient, moves = differentiate_run(
                    run, source.measure, source.args, threads, projections=projections
                )
                known, also = gradient if known is None else known, moves if also is None else also
                kept.write("derivatives", known)
                if count:
                    kept.write(name, also)
            measured.refuse_constant(known)
            gradient, moves = known, also
    except (ConstantError, TraceError, DomainError, DivergenceError) as reason:
        called = CalledMeasurement.of(source, reason)
        kept = None if path is None else keep(called.digest())
        return Beginning(
            called, called.state, called.baseline, None, kept, called.shape, called.structure, None, called.reason
        )
    circuit = measured.circuit
    return Beginning(
        circuit,
        measured.state,
        measured.baseline,
        gradient,
        kept,
        value_shape(circuit),
        Structure.of(circuit),
        measured.constancy,
        measured=measured,
        moves=moves.T if len(moves) else None,
    )
