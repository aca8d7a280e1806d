"""A measurement that is to be differentiated: its circuit, and the refusal of one whose derivative says nothing.

In: a run, a function of its trained parameters, the trained state. Out: a circuit, or the errors that measuring a
sketch raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.autodiff import evaluate
from circuitsketch.checks.dependence import RESOLUTION, Constancy, check_not_flat, find_constancy, find_reached
from circuitsketch.checks.domains import check_point
from circuitsketch.checks.indices import check_indices
from circuitsketch.circuit import Circuit
from circuitsketch.directions import Given
from circuitsketch.errors import DivergenceError, InputError
from circuitsketch.gates import cells
from circuitsketch.propagate.blocks import push_blocks
from circuitsketch.propagate.coefficients import PropagatedRun, trace_measurement, value_shape, values_of
from circuitsketch.training.training import Training
from circuitsketch.tree import unflatten


class Measured:
    """A measurement of a run's trained state.

    Parameters
    ----------
    run : the run. w : downweights (n,). state : the trained state, by leaf.
    function, args : the measurement, a function of the trained parameters.

    Raises
    ------
    InputError, TraceError : it is not a function of what the training changes, or constant near it.
    DomainError : one of its gates has no series there. DivergenceError : a value is not finite.
    """

    def __init__(
        self,
        run: Training,
        w: np.ndarray,
        state: Sequence[np.ndarray],
        function: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        self.run, self.w, self.state = run, w, list(state)
        self.constancy: Constancy | None = None
        self.circuit: Circuit = trace_measurement(function, args, unflatten(run.state_tree, self.state), run.params)
        by_value = run.varying(values=True)
        check_not_flat(self.circuit, run.varying(), by_value)
        if not find_reached(self.circuit, by_value, by_value=True).intersection(self.circuit.outputs):
            raise InputError(
                "the measurement depends on no part of the trained state that the examples' weights change; compute "
                "its value from the trained parameters, which are passed as the first argument"
            )
        check_indices(self.circuit, self.state)
        check_point(self.circuit, self.state, run.varying(), lambda: self.moved)
        infinite = np.flatnonzero(~np.isfinite(self.baseline))
        if infinite.size:
            raise DivergenceError(
                f"value {infinite[0]} of the measurement is {self.baseline[infinite[0]]} at the trained parameters; "
                "use a measurement that is finite there"
            )

    @property
    def values(self) -> int:
        """The number of values."""
        return values_of(self.circuit)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each leaf of the value."""
        return [self.circuit.nodes[wire].shape for wire in self.circuit.outputs]

    @cached_property
    def moved(self) -> list[np.ndarray | None]:
        """For each leaf of the state a mask of the elements that the weights change: a random direction shows them."""
        given = Given(np.random.default_rng(0).normal(size=(1, self.run.n)))
        executable, constants, lanes = push_blocks(
            self.run, lambda start, stop: given.vectors[start:stop], 1, 1, is_complex=False, at=self.w, check=False
        )
        tree, params = self.run.state_tree, self.run.params
        pushed = PropagatedRun(given, 1, executable.target, tree, params, constants, executable.state_lane, lanes)
        return pushed.moved()

    @cached_property
    def baseline(self) -> np.ndarray:
        """The measured values, (values,)."""
        return np.concatenate([np.ravel(leaf) for leaf in evaluate(self.circuit, self.state)])

    def refuse_constant(self, gradient: np.ndarray) -> None:
        """Raise InputError if the measurement is locally constant, by its derivatives (values, n); keep `constancy`."""
        shape = value_shape(self.circuit)
        series = np.stack([np.broadcast_to(self.baseline[:, None], gradient.shape), gradient]).reshape(2, *shape, -1)
        self.constancy = find_constancy(
            self.circuit, self.state, lambda: self.moved, [np.moveaxis(series, -1, 0)], RESOLUTION[False]
        )

    def by_leaf(self, result: np.ndarray, axis: int) -> Any:
        """Return a result whose values lie along an axis in the structure of the measurement's value."""
        sizes = [cells(shape) for shape in self.shapes]
        parts = np.split(result, np.cumsum(sizes)[:-1], axis=axis)
        leaves = [
            part.reshape(*part.shape[:axis], *shape, *part.shape[axis + 1 :])
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return unflatten(self.circuit.out_tree, leaves)
