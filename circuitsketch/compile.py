"""The pipeline on one page: trace -> simplify -> lower -> link -> play. Start reading here.

A circuit is simplified (passes/), lowered to a tape of few kernels (lower/), linked and compiled (kernels/), and played
on lane blocks, one thread a block. `compile` does this for one function of a pytree; training/ does it for a step that
is applied many times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.circuit import Circuit
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.kernels.cpu import lane_width
from circuitsketch.kernels.cpu.executable import Executable, Schedule, link
from circuitsketch.kernels.cpu.frame import Target
from circuitsketch.kernels.domains import check_point
from circuitsketch.lower.tape import Mode, lower
from circuitsketch.passes import simplify
from circuitsketch.trace import flatten, unflatten


def target_for(mode: Mode, dtype: Any, width: int | None = None) -> Target:
    """The machine-code target for a mode and the dtype of the coefficients."""
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.complex128), np.dtype(np.complex64), np.dtype(np.float64), np.dtype(np.float32)):
        raise InputError(f"coefficients are complex128 or complex64, not {kind}; choose one of these as dtype")
    single = kind in (np.dtype(np.complex64), np.dtype(np.float32))
    return Target(mode, width or lane_width(single), single)


def build(
    circuits: Sequence[Circuit],
    target: Target,
    varying: Sequence[int],
    state_count: int,
    carry: Mapping[int, int],
    has_keep: bool,
) -> Executable:
    """Lower circuits that share a state, and link them.

    Parameters
    ----------
    varying : positions of the state leaves that differ from lane to lane (the weights, the last input, always do).
    state_count : how many leading inputs are the state.
    carry : output position -> state position.
    has_keep : whether the last input holds the weights of a step's examples.
    """
    tapes = []
    for circuit in circuits:
        last = [len(circuit.inputs) - 1] if has_keep else []
        tapes.append(lower(circuit, [*varying, *last], target.mode, carry))
    return link(tapes, target, state_count, has_keep)


def check_order(order: Any) -> int:
    """An order is a whole number >= 0."""
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < 0:
        raise InputError(f"order is {order!r}; it must be a whole number >= 0")
    return int(order)


@dataclass(eq=False)
class Compiled:
    """A function compiled for plain values and for Taylor series of one order; made by `compile`."""

    circuit: Circuit
    order: int
    dtype: np.dtype[Any]
    width: int | None = None

    def __call__(self, *args: Any) -> Any:
        """The function's value: arguments as in the trace, the result's pytree of arrays."""
        leaves = self.leaves(args)
        executable = self.executable(Mode(0), ())
        arena = executable.arena()
        arena.set_state(leaves)
        arena.run(Schedule.single(), 0, 1, np.zeros(0))
        outputs = [arena.constant_view(0, layout).copy() for layout in executable.tapes[0].outputs]
        return unflatten(self.circuit.out_tree, outputs)

    def leaves(self, args: tuple[Any, ...]) -> list[np.ndarray]:
        """The arguments' leaves, checked against the circuit's inputs."""
        found, tree = flatten(args)
        if tree != self.circuit.in_tree:
            raise InputError(
                f"arguments of another structure than the circuit's: leaves {tree.names('args')}, not "
                f"{list(self.circuit.input_names)}"
            )
        arrays = [np.asarray(leaf, dtype=np.float64) for leaf in found]
        for array, wire, name in zip(arrays, self.circuit.inputs, self.circuit.input_names, strict=True):
            shape = self.circuit.nodes[wire].shape
            if array.shape != shape:
                raise ShapeError(f"{name} has shape {array.shape}; the circuit was traced for {shape}")
        return arrays

    def executable(self, mode: Mode, varying: tuple[int, ...]) -> Executable:
        """The machine code for a mode (kernels already known are not compiled again)."""
        target = target_for(mode, self.dtype, self.width)
        return build([self.circuit], target, varying, len(self.circuit.inputs), {}, False)

    def series(self, args: tuple[Any, ...], coefficients: Any, threads: int | None = None) -> Any:
        """Taylor coefficients of the result along directions of the arguments.

        Parameters
        ----------
        args : the point of expansion: arguments as in the trace.
        coefficients : a pytree like `args`, each leaf None or an array (directions, k, *shape) of coefficients 1..k,
            k <= order; real everywhere, or complex.
        threads : how many (default: one a core).

        Returns
        -------
        the result's pytree; leaves (directions, order + 1, *shape), coefficient 0 first.

        Raises
        ------
        InputError, ShapeError. DomainError : naming the gate that has no series at its constant term.

        >>> import numpy as np, circuitsketch as cs
        >>> f = cs.compile(cs.trace(np.exp, np.zeros(())), order=3)
        >>> f.series((0.0,), (np.ones((1, 1)),)).real.round(4)
        array([[1.    , 1.    , 0.5   , 0.1667]])
        """
        leaves = self.leaves(args)
        given, tree = flatten_with_none(coefficients, len(leaves))
        arrays = [None if leaf is None else np.asarray(leaf) for leaf in given]
        for array, leaf, name in zip(arrays, leaves, self.circuit.input_names, strict=True):
            if array is not None and (array.shape[2:] != leaf.shape or array.ndim < 2):
                raise ShapeError(
                    f"coefficients of {name} have shape {array.shape}; give (directions, k, {', '.join(map(str, leaf.shape))})"
                )
        counts = {len(array) for array in arrays if array is not None}
        if len(counts) != 1:
            raise InputError(f"coefficients of {sorted(counts)} directions; give every leaf the same number, at least one leaf")
        (count,) = counts
        varying = tuple(i for i, array in enumerate(arrays) if array is not None)
        if self.order:
            check_point(self.circuit, leaves, varying)
        mode = Mode(self.order, any(np.iscomplexobj(array) for array in arrays if array is not None))
        executable = self.executable(mode, varying if self.order else ())
        outputs = [
            np.zeros((count, self.order + 1, *layout.shape), dtype=np.complex128 if mode.complex else np.float64)
            for layout in executable.tapes[0].outputs
        ]

        def block(begin: int) -> None:
            arena = executable.arena()
            arena.set_state(leaves)
            for i in varying if self.order else ():
                array = arrays[i]
                assert array is not None
                put_coefficients(arena.lane_view(0, executable.tapes[0].inputs[i]), array[begin:], mode)
            arena.run(Schedule.single(), 0, 1, np.zeros(0))
            for output, layout in zip(outputs, executable.tapes[0].outputs, strict=True):
                part = output[begin : begin + executable.target.width]
                part[:, 0] = arena.constant_view(0, layout)
                if layout.buffer in executable.placements[0].lane:
                    part[:, 1:] = coefficients_of(arena.lane_view(0, layout), mode)[: len(part)]

        in_blocks(block, count, executable.target.width, threads)
        return unflatten(self.circuit.out_tree, outputs)


def flatten_with_none(value: Any, count: int) -> tuple[list[Any], Any]:
    """Leaves where None is a leaf too."""
    if isinstance(value, dict):
        found = [leaf for child in value.values() for leaf in flatten_with_none(child, count)[0]]
    elif isinstance(value, list | tuple):
        found = [leaf for child in value for leaf in flatten_with_none(child, count)[0]]
    else:
        return [value], None
    return found, None


def put_coefficients(view: np.ndarray, series: np.ndarray, mode: Mode) -> None:
    """Write coefficients (directions, k, *shape) into lane blocks (*shape, components, width); missing ones are zero."""
    width = view.shape[-1]
    lanes = min(len(series), width)
    view[...] = 0.0
    for k in range(min(series.shape[1], mode.order)):
        rows = np.moveaxis(series[:lanes, k], 0, -1)
        if mode.complex:
            view[..., 2 * k, :lanes] = rows.real
            view[..., 2 * k + 1, :lanes] = rows.imag
        else:
            view[..., k, :lanes] = rows


def coefficients_of(view: np.ndarray, mode: Mode) -> np.ndarray:
    """Coefficients 1..order of lane blocks (*shape, components, width), as (width, order, *shape)."""
    lead = np.moveaxis(np.moveaxis(view, -1, 0), -1, 1)
    return lead[:, 0::2] + 1j * lead[:, 1::2] if mode.complex else lead


def in_blocks(function: Any, count: int, width: int, threads: int | None) -> None:
    """Call a function with the first lane of every block, on several threads."""
    begins = range(0, count, width)
    workers = thread_count(threads, len(begins))
    if workers == 1:
        for begin in begins:
            function(begin)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(function, begins):
            pass


def thread_count(threads: int | None, blocks: int) -> int:
    """How many threads to use: those asked for, else one a core; no more than blocks."""
    import os

    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads is {threads!r}; it must be a whole number >= 1, or None for one a core")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(threads or available, blocks), 1)


def compile(  # noqa: A001 - the field's word, and the package's
    circuit: Circuit, order: int = 0, dtype: Any = np.complex128, width: int | None = None
) -> Compiled:
    """Compile a circuit for plain values and for Taylor series.

    Parameters
    ----------
    circuit : from `trace`.
    order : the highest Taylor coefficient.
    dtype : complex128, or complex64 for half the memory and twice the lanes; constant terms stay in double precision.
    width : lanes in a vector (default: what this processor's registers hold).

    Returns
    -------
    Compiled: call it for values, `.series(...)` for coefficients.

    >>> import numpy as np, circuitsketch as cs
    >>> f = cs.compile(cs.trace(lambda x: np.exp(x).sum(), np.zeros(3)))
    >>> f(np.zeros(3))
    array(3.)
    """
    return Compiled(simplify(circuit), check_order(order), np.dtype(dtype), width)
