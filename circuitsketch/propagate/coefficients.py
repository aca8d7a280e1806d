"""The trained state as a polynomial along every direction, and measurements of it.

In: a run, the directions, their lane blocks. Out: `PropagatedRun`: coefficients by leaf of the state, and of any
function of the trained parameters, which is chosen only now.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from circuitsketch.arguments import call
from circuitsketch.backends.contract import Arena, Schedule, Target
from circuitsketch.backends.lane_blocks import copy_series, read_coefficients, run_blocks
from circuitsketch.backends.registry import build, make_target
from circuitsketch.checks.dependence import RESOLUTION, Constancy, check_not_flat, find_constancy
from circuitsketch.checks.domains import check_point
from circuitsketch.checks.indices import check_indices
from circuitsketch.circuit import Circuit
from circuitsketch.directions import Basis, Distribution, Given
from circuitsketch.display import list_some
from circuitsketch.errors import CircuitSketchError, DivergenceError, InputError
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.lower.layout import Layout
from circuitsketch.passes import simplify
from circuitsketch.store.fingerprint import same_program
from circuitsketch.store.part_store import PartStore
from circuitsketch.training.training import Training
from circuitsketch.tree import Tree, flatten, unflatten


@dataclass(eq=False)
class PropagatedRun:
    """A run, propagated along directions.

    Attributes
    ----------
    distribution
        The distribution of the directions, of which there are `count`.
    target
        Defines the layout of lane blocks.
    tree
        The state's structure.
    params
        Maps a state to the trained parameters.
    constants
        The final state's values, by leaf.
    state_lane
        The offset of each leaf in a lane block, -1 if it does not vary.
    lanes
        Lane blocks (elements, components, width) by number, in memory or in a store.
    device
        The device that computed them, "cpu" or "cuda".
    run
        The run, if it is at hand.
    dropped
        The positions of leaves that vary, but whose coefficients are not kept.
    """

    distribution: Distribution
    count: int
    target: Target
    tree: Tree
    params: Callable[[Any], Any]
    constants: list[np.ndarray]
    state_lane: list[int]
    lanes: np.ndarray | PartStore
    threads: int | None = None
    device: str = "cpu"
    run: Training | None = None
    dropped: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """The number of examples."""
        return self.distribution.n

    @property
    def order(self) -> int:
        """The highest coefficient."""
        return self.target.mode.order

    @cached_property
    def directions(self) -> np.ndarray:
        """The directions, (count, n)."""
        return self.distribution.block(0, self.count)

    @property
    def nbytes(self) -> int:
        """The size of the stored coefficients in bytes."""
        return self.lanes.nbytes + sum(leaf.nbytes for leaf in self.constants)

    @property
    def state(self) -> Any:
        """The final state's Taylor coefficients: the state's pytree, leaves (directions, order + 1, *shape), complex,
        coefficient 0 first, None in place of a leaf that is not kept. Unpacked from the lane blocks on each access.
        InputError: there is no memory for it."""
        numbers = sum(leaf.size for i, leaf in enumerate(self.constants) if i not in self.dropped)
        require_memory(
            16 * self.count * (self.order + 1) * numbers,
            f"the state of {numbers:,} numbers along {self.count:,} directions",
            ["measure(function), which processes one block at a time"],
        )
        leaves: list[Any] = [None] * len(self.constants)
        for i, leaf in enumerate(self.constants):
            if i not in self.dropped:
                leaves[i] = np.zeros((self.count, self.order + 1, *leaf.shape), dtype=np.complex128)
                leaves[i][:, 0] = leaf
        width = self.target.width
        for block in range(-(-self.count // width) if self.order else 0):
            lanes = self.lanes[block]
            for coefficients, leaf, at in zip(leaves, self.constants, self.state_lane, strict=True):
                if at >= 0:
                    view = lanes[at : at + leaf.size].reshape(*leaf.shape, *lanes.shape[1:])
                    part = coefficients[block * width : (block + 1) * width, 1:]
                    part[...] = read_coefficients(view, self.target.mode)[: len(part)]
        return unflatten(self.tree, leaves)

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def coefficients(self, function: Callable[..., Any], *args: Any, device: str = "cpu") -> Any:
        """Compute the Taylor coefficients of `function(params, *args)` along every direction, one lane block at a time.

        Parameters
        ----------
        function : callable
            A NumPy function of the trained parameters; returns a number, an array, or a pytree of them.
        *args
            Passed to the function unchanged; they are not traced.
        device : {"cpu", "cuda"}
            It need not be the device that computed the directions.

        Returns
        -------
        (directions, order + 1, *shape of the function's value), coefficient 0 first; real along real directions, else
        complex. For a pytree, one such array per leaf.

        Raises
        ------
        InputError, TraceError, DivergenceError
            If the measurement cannot be traced, or is not finite.
        DomainError
            A gate of the measurement has no series there.
        DeviceError
            There is no GPU, or a single block does not fit into its memory.
        """
        circuit = self.measurement(function, args)
        refuse_measurement(self.measured_bytes(circuit), circuit, self.count)
        return unpack_series(circuit, self.measured(circuit, device))

    def measured_bytes(self, circuit: Circuit) -> int:
        """Return the bytes that `measured` takes: the coefficients, and a boolean per coefficient."""
        return self.count * (self.order + 1) * values_of(circuit) * (17 if self.target.mode.complex else 9)

    def measured(self, circuit: Circuit, device: str = "cpu") -> np.ndarray:
        """Compute the Taylor coefficients of a measurement's circuit (see `measurement`).

        They are ordered by direction; of a basis, by example. The leaves of a pytree are concatenated, (directions,
        order + 1, numbers).
        """
        number = np.complex128 if self.target.mode.complex else np.float64
        shape = value_shape(circuit)
        coefficients = np.zeros((self.count, self.order + 1, *shape), dtype=number)

        def take(begin: int, part: np.ndarray) -> None:
            coefficients[self.rows(begin, len(part))] = part

        self.measure_blocks(circuit, self.order, take, device)
        bad = np.argwhere(~np.isfinite(coefficients))
        if len(bad):
            raise DivergenceError(
                f"Taylor coefficient {bad[0][1]} of the measurement along direction {bad[0][0]} is not finite; use a "
                "measurement that is smooth at the trained parameters, a lower order, or dtype=complex128"
            )
        return coefficients

    @property
    def varying(self) -> list[int]:
        """The positions of the state's leaves that have a series."""
        return [i for i, at in enumerate(self.state_lane) if at >= 0]

    @property
    def varying_by_value(self) -> list[int]:
        """The positions of the state's leaves that the weights change, through comparisons too; without the run, those
        with a series."""
        return self.varying if self.run is None else list(self.run.varying(values=True))

    def moved(self) -> list[np.ndarray | None]:
        """Return for each leaf of the state a mask of the elements that some direction changes, or None if none.

        In a leaf without a series these are all elements, if the weights change it by value. One block of random
        directions changes every element that any direction changes.
        """
        given = isinstance(self.distribution, Given | Basis)
        blocks = range(-(-self.count // self.target.width) if given else min(self.count, 1))
        masks: list[np.ndarray | None] = [
            np.ones(leaf.shape, dtype=bool) if i in self.varying_by_value else None
            for i, leaf in enumerate(self.constants)
        ]
        for i in self.varying:
            masks[i] = np.zeros(self.constants[i].shape, dtype=bool)
        for block in blocks:
            lanes = self.lanes[block]
            for i in self.varying:
                leaf, at = self.constants[i], self.state_lane[i]
                masks[i] |= np.any(lanes[at : at + leaf.size] != 0, axis=(1, 2)).reshape(leaf.shape)
        return masks

    def constancy(self, circuit: Circuit, *series: np.ndarray) -> Constancy | None:
        """Return which elements of a measurement are locally constant, by its coefficients: see `dependence`."""
        rounding = RESOLUTION[self.target.single]
        if isinstance(self.distribution, Given):  # which may have any length
            lengths = np.linalg.norm(self.directions, axis=1)
            rounding *= min(1.0, *lengths[lengths > 0], 1.0) ** self.order
        return find_constancy(circuit, self.constants, self.moved, series, rounding)

    def rows(self, begin: int, count: int) -> slice | np.ndarray:
        """Return the rows of the results of directions begin, ..., begin + count - 1; a basis is ordered by example."""
        if isinstance(self.distribution, Basis):
            assert self.distribution.examples is not None
            return self.distribution.examples[begin : begin + count]
        return slice(begin, begin + count)

    def measure_blocks(
        self, circuit: Circuit, order: int, take: Callable[[int, np.ndarray], None], device: str = "cpu"
    ) -> None:
        """Measure lane block by lane block (on a GPU, as many at once as fit into its memory) and discard each.

        order : the highest coefficient to compute. take : called with the first direction of a block and its
            coefficients (directions, order + 1, *shape), which it must copy; several threads may call at once.
        """
        if not self.count:
            return
        mode = replace(self.target.mode, order=order)
        varying = self.varying if order else []
        check_indices(circuit, self.constants)
        if order:
            check_point(circuit, self.constants, varying, self.moved)
        dtype = np.complex64 if self.target.single else np.complex128
        target = make_target(mode, dtype, self.target.width, device)
        executable = build([circuit], target, varying, len(circuit.inputs), {}, has_keep=False)
        layouts, shape = executable.tapes[0].outputs, value_shape(circuit)
        number = np.complex128 if mode.complex else np.float64

        def blocks(begins: range) -> None:
            arena = executable.allocate_arena(len(begins))
            arena.set_state(self.constants)
            for block, begin in enumerate(begins if order else ()):
                arena.set_lane_state(block, self.lanes[begin // target.width][:, : mode.components])
            arena.run(Schedule.single_step(), 0, 1, np.zeros(0))
            for block, begin in enumerate(begins):
                part = np.zeros((min(target.width, self.count - begin), order + 1, *shape), dtype=number)
                if circuit.out_tree.kind is None:
                    copy_series(part, arena, layouts[0], block)
                else:
                    put_leaves(part, arena, layouts, block)
                take(begin, part)

        run_blocks(blocks, self.count, executable, self.threads)

    def measurement(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Circuit:
        """Trace a measurement: a circuit from the state to one array, or to a pytree of arrays."""
        circuit = trace_measurement(function, args, unflatten(self.tree, self.constants), self.params)
        self.refuse_dropped(circuit)
        if self.order:
            check_not_flat(circuit, self.varying, self.varying_by_value)
        return circuit

    @property
    def kept_names(self) -> list[str]:
        """The paths of the leaves whose coefficients are kept, or that have none."""
        return [name for i, name in enumerate(self.tree.names("state")) if i not in self.dropped]

    def refuse_dropped(self, circuit: Circuit) -> None:
        """Raise InputError if a measurement reads a leaf whose coefficients are not kept."""
        needed = circuit.needed_for(circuit.outputs)
        names = self.tree.names("state")
        missing = [names[i] for i in self.dropped if circuit.inputs[i] in needed]
        if missing:
            raise InputError(
                f"the measurement reads {list_some(missing)}, which the sketch does not store; the sketch stores "
                f"{list_some(self.kept_names)}: measure these, or compute the sketch again with keep=[...], or with "
                "keep='state' for the whole state"
            )


def advise_import(reason: BaseException) -> str:
    """Return what to do about an error of a library whose function was measured without being imported, or nothing."""
    frames = (frame for frame, _ in traceback.walk_tb(reason.__traceback__))
    names = [str(frame.f_globals.get("__name__")) for frame in frames] + [type(reason).__module__]
    for library, word in (("jax", "JAX"), ("torch", "Tensor")):
        is_imported = any(name.startswith(f"circuitsketch.frontends.{library}") for name in names)
        refuses_wire = "Wire" in str(reason) and word in str(reason)
        if not is_imported and (refuses_wire or any(name.partition(".")[0] == library for name in names)):
            return f"; convert a function of {library} before measuring it: cs.{library}.function(f)"
    return ""


def trace_measurement(
    function: Callable[..., Any], args: tuple[Any, ...], state: Any, params: Callable[[Any], Any]
) -> Circuit:
    """Trace a measurement of `params(state)`: a circuit from the state to one array, or to a pytree of arrays."""
    if not callable(function):
        raise InputError(f"a measurement must be a function of the trained parameters, not {type(function).__name__}")

    def trace_once() -> Circuit:
        try:
            circuit = traced(lambda s: call(function, "the measurement", params(s), *args), (state,), "allow")
        except (LookupError, AttributeError, TypeError) as reason:
            if isinstance(reason, CircuitSketchError):
                raise
            leaves = list_some(flatten(state)[1].names("state"))
            text = " ".join(str(reason).split())[:300]
            raise InputError(
                f"the measurement raises {type(reason).__name__}: {text}; it is called with the trained parameters, "
                f"followed by the {len(args)} arguments that were passed after the function; the leaves of the state "
                f"are {leaves}{advise_import(reason)}"
            ) from reason
        if not circuit.outputs:
            raise InputError(
                "a measurement must return a number, an array, or a pytree of them, but this one returns no value; "
                "return the measured value"
            )
        return circuit

    first, second = trace_once(), trace_once()
    if not same_program(first, second):
        raise InputError(
            "the measurement computes something different each time it is called: it draws random numbers, or reads "
            "data that changes between calls; a measurement must depend only on the trained parameters and its "
            "arguments, so draw random numbers beforehand and pass them as arguments"
        )
    return simplify(first)


def value_shape(circuit: Circuit) -> tuple[int, ...]:
    """Return the shape of a measurement's value; of a pytree, that of the vector of its leaves."""
    return circuit.nodes[circuit.outputs[0]].shape if circuit.out_tree.kind is None else (values_of(circuit),)


def unpack_series(circuit: Circuit, series: np.ndarray) -> Any:
    """Return the coefficients (directions, order + 1, numbers) of a pytree as that pytree; an array's as they are."""
    if circuit.out_tree.kind is None:
        return series
    shapes = [circuit.nodes[wire].shape for wire in circuit.outputs]
    parts = np.split(series, np.cumsum([cells(shape) for shape in shapes])[:-1], axis=2)
    leaves = [part.reshape(*series.shape[:2], *shape) for part, shape in zip(parts, shapes, strict=True)]
    return unflatten(circuit.out_tree, leaves)


def put_leaves(part: np.ndarray, arena: Arena, layouts: Sequence[Layout], block: int) -> None:
    """Copy the coefficients of several wires in one lane block to rows (lanes, order + 1, numbers)."""
    at = 0
    for layout in layouts:
        leaf = np.zeros((*part.shape[:2], *layout.shape), dtype=part.dtype)
        copy_series(leaf, arena, layout, block)
        part[:, :, at : at + cells(layout.shape)] = leaf.reshape(*part.shape[:2], -1)
        at += cells(layout.shape)


def values_of(circuit: Circuit) -> int:
    """Return how many numbers a measurement has."""
    return sum(cells(circuit.nodes[wire].shape) for wire in circuit.outputs)


def refuse_measurement(nbytes: int, circuit: Circuit, directions: int) -> None:
    """Raise InputError if the coefficients of a measurement along `directions` directions do not fit into memory."""
    require_memory(
        nbytes,
        f"a measurement of {values_of(circuit):,} values along {directions:,} directions",
        ["a measurement of fewer values", "several measurements, one after the other"],
    )
