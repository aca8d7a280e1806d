"""The pipeline on one page: trace -> simplify -> lower -> link -> play. Start reading here.

A circuit is simplified (passes/), lowered to a tape of few kernels (lower/), linked and compiled (backends/), and run
on lane blocks, one thread per block. `compile` does this for one function of a pytree; training/ does it for a step
that is applied many times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from circuitsketch.arguments import check_choice, check_int, is_int, quoted
from circuitsketch.arrays import plain_array, real_array
from circuitsketch.backends.cpu import lane_width
from circuitsketch.backends.cpu.executable import Arena, Executable, Schedule, link
from circuitsketch.backends.cpu.kernel_builder import Target
from circuitsketch.backends.cuda.target import CudaTarget
from circuitsketch.backends.scheduler import Slices, in_turns, thread_count
from circuitsketch.checks.domains import check_point
from circuitsketch.checks.indices import check_indices
from circuitsketch.circuit import Circuit
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.tape import lower
from circuitsketch.passes import simplify
from circuitsketch.tree import Tree, leaves_like, parts, unflatten

HIGHEST = 10_000  # order: a product of series takes as many multiply-adds as its square
WIDEST = 1024  # lanes, as many threads as a GPU's block has


def target_for(mode: Mode, dtype: Any, width: int | None = None, device: str = "cpu", lanes: int = 1) -> Target:
    """The machine-code target for a mode and the dtype of the coefficients; a GPU's also for the number of lanes."""
    single = coefficient_type(dtype).name in ("complex64", "float32")
    if check_device(device) == "cuda":
        from circuitsketch.backends.cuda.executable import cuda_target

        return cuda_target(mode, single, width, lanes)
    return Target(mode, width or lane_width(single), single)


def check_device(device: Any) -> str:
    """Where to compute: "cpu" or "cuda"."""
    return str(check_choice(device, "device", ("cpu", "cuda")))


def coefficient_type(dtype: Any) -> np.dtype[Any]:
    """The dtype of coefficients, single or double."""
    try:
        kind = np.dtype(dtype)
    except Exception:
        raise InputError(f"{quoted(dtype)} is no dtype; coefficients are complex128 or complex64") from None
    if kind.name not in ("complex128", "complex64", "float64", "float32"):
        raise InputError(f"coefficients are complex128 or complex64, not {kind}; choose one of these as dtype")
    return kind


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
    if isinstance(target, CudaTarget):
        from circuitsketch.backends.cuda.executable import link as link_for_device

        return link_for_device(tapes, target, state_count, has_keep)
    return link(tapes, target, state_count, has_keep)


def check_order(order: Any) -> int:
    """An order is a whole number >= 0."""
    if not is_int(order, 0, HIGHEST):
        raise InputError(f"order is {quoted(order)}; it must be a whole number >= 0, and at most {HIGHEST}")
    return int(order)


@dataclass(eq=False)
class Compiled:
    """A function compiled for plain values and for Taylor series of one order; made by `compile`."""

    circuit: Circuit
    order: int
    dtype: np.dtype[Any]
    width: int | None = None
    device: str = "cpu"
    executables: dict[Any, Executable] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, *args: Any) -> Any:
        """The function's value: arguments as in the trace, the result's pytree of arrays."""
        leaves = self.leaves(args)
        executable = self.executable(target_for(Mode(0), self.dtype), ())
        arena = executable.arena()
        arena.set_state(leaves)
        arena.run(Schedule.single(), 0, 1, np.zeros(0))
        outputs = [arena.constant_view(0, layout).copy() for layout in executable.tapes[0].outputs]
        return unflatten(self.circuit.out_tree, outputs)

    def leaves(self, args: tuple[Any, ...]) -> list[np.ndarray]:
        """The arguments' leaves, checked against the circuit's inputs."""
        names = self.circuit.input_names
        try:
            found = leaves_like(self.circuit.in_tree, args)
        except InputError as reason:
            raise InputError(f"the circuit was traced for arguments of leaves {list(names)}: {reason}") from None
        arrays = [real_array(leaf, name) for leaf, name in zip(found, names, strict=True)]
        for array, wire, name in zip(arrays, self.circuit.inputs, names, strict=True):
            node = self.circuit.nodes[wire]
            if array.shape != node.shape:
                raise ShapeError(f"{name} has shape {array.shape}; the circuit was traced for {node.shape}")
            if node.label != "float" and not np.all(np.isfinite(array) & (array == np.rint(array))):
                raise InputError(f"{name} was traced as whole numbers; give such, or trace with floats")
        check_indices(self.circuit, arrays)
        return arrays

    def executable(self, target: Target, varying: tuple[int, ...]) -> Executable:
        """The machine code for a target; made once."""
        if (target, varying) not in self.executables:
            self.executables[target, varying] = build(
                [self.circuit], target, varying, len(self.circuit.inputs), {}, has_keep=False
            )
        return self.executables[target, varying]

    def coefficient_arrays(self, coefficients: Any) -> list[np.ndarray | None]:
        """The leaves of given coefficients, checked against the circuit's inputs."""
        given = leaves_or_none(self.circuit.in_tree, coefficients)
        names = self.circuit.input_names
        arrays = [
            None if leaf is None else plain_array(leaf, f"the coefficient of {name}")
            for leaf, name in zip(given, names, strict=True)
        ]
        for array, wire, name in zip(arrays, self.circuit.inputs, self.circuit.input_names, strict=True):
            if array is None:
                continue
            node = self.circuit.nodes[wire]
            if array.shape[2:] != node.shape or array.ndim < 2:
                wanted = ", ".join(map(str, node.shape))
                raise ShapeError(f"coefficients of {name} have shape {array.shape}; give (directions, k, {wanted})")
            if node.label != "float":
                raise InputError(f"{name} was traced as whole numbers, which have no series; give None")
            if array.dtype.kind not in "fiubc" or not np.all(np.isfinite(array)):
                raise InputError(f"coefficients of {name} are not all finite numbers")
        return arrays

    @within_memory("the series", "fewer directions at a time", "a lower order")
    def series(self, args: tuple[Any, ...], coefficients: Any, threads: int | None = None) -> Any:
        """Taylor coefficients of the result along directions of the arguments.

        Parameters
        ----------
        args : the point of expansion: arguments as in the trace.
        coefficients : a pytree like `args`, each leaf None or an array (directions, k, *shape) of coefficients 1..k,
            real everywhere, or complex; those above the order are left out.
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
        arrays = self.coefficient_arrays(coefficients)
        counts = {len(array) for array in arrays if array is not None}
        if len(counts) != 1 or 0 in counts:
            raise InputError(
                f"coefficients of {sorted(counts)} directions; give every leaf the same number, at least one leaf"
            )
        (count,) = counts
        varying = tuple(i for i, array in enumerate(arrays) if array is not None)
        values = sum(cells(self.circuit.nodes[wire].shape) for wire in self.circuit.outputs)
        require_memory(
            16 * count * (self.order + 1) * values,
            f"the series of {values:,} values along {count:,} directions",
            ["fewer directions at a time", "a lower order"],
        )
        if self.order:
            check_point(self.circuit, leaves, varying)
        mode = Mode(self.order, any(np.iscomplexobj(array) for array in arrays if array is not None))
        target = target_for(mode, self.dtype, self.width, self.device, count)
        executable = self.executable(target, varying if self.order else ())
        outputs = [
            np.zeros((count, self.order + 1, *layout.shape), dtype=np.complex128 if mode.complex else np.float64)
            for layout in executable.tapes[0].outputs
        ]

        def blocks(begins: range) -> None:
            arena = executable.arena(len(begins))
            arena.set_state(leaves)
            for block, begin in enumerate(begins):
                lanes = np.zeros((executable.lane_state_cells, mode.components, executable.target.width))
                for i in varying if self.order else ():
                    array, leaf, at = arrays[i], leaves[i], executable.state_lane[i]
                    assert array is not None
                    view = lanes[at : at + leaf.size].reshape(*leaf.shape, *lanes.shape[1:])
                    put_coefficients(view, array[begin:], mode)
                arena.put_lane_state(block, lanes)
            arena.run(Schedule.single(), 0, 1, np.zeros(0))
            for block, begin in enumerate(begins):
                for output, layout in zip(outputs, executable.tapes[0].outputs, strict=True):
                    part = output[begin : begin + executable.target.width]
                    put_series(part, arena, layout, block)

        in_blocks(blocks, count, executable, threads)
        return unflatten(self.circuit.out_tree, outputs)


def leaves_or_none(tree: Tree, value: Any) -> list[Any]:
    """The leaves of a pytree in the order of a structure; a None stands for all the leaves below it."""
    if value is None:
        return [None] * tree.size
    found = parts(value)
    if tree.kind is None or found is None or set(found[1]) != set(tree.keys):
        return leaves_like(tree, value)  # a leaf, or an error
    children = dict(zip(found[1], found[2], strict=True))
    pairs = zip(tree.keys, tree.children, strict=True)
    return [leaf for key, child in pairs for leaf in leaves_or_none(child, children[key])]


def put_series(part: np.ndarray, arena: Arena, layout: Layout, block: int) -> None:
    """Copy a wire's coefficients in one lane block of program 0 to rows (lanes, order + 1, *shape)."""
    part[:, 0] = arena.constant_view(0, layout)
    if layout.buffer in arena.executable.placements[0].lane:
        lanes = arena.lane_view(0, layout, block)
        part[:, 1:] = coefficients_of(lanes, arena.executable.target.mode)[: len(part)]


def put_coefficients(view: np.ndarray, series: np.ndarray, mode: Mode) -> None:
    """Write coefficients (directions, k, *shape) into lane blocks (*shape, components, width); others are zero."""
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


def in_blocks(
    function: Callable[[range], Slices], count: int, executable: Executable, threads: int | None, examples: int = 0
) -> None:
    """Call a function with the first lanes of blocks that are played together, on a CPU on several threads; where a
    device's memory bounds how many there can be, one call after the other."""
    begins = range(0, count, executable.target.width)
    together = executable.together(len(begins), examples)
    if not executable.on_device:
        workers = thread_count(threads, len(begins))
        working = workers * (executable.arena_bytes(together) + 8 * together * examples * executable.target.width)
        require_memory(working, f"the working memory of {workers} thread{'s' * (workers > 1)}", ["threads=1"])
    in_turns(function, begins, together, 1 if executable.on_device else threads)


def compile(
    circuit: Circuit,
    order: int = 0,
    dtype: Any = np.complex128,
    width: int | None = None,
    *,
    device: str = "cpu",
) -> Compiled:
    """Compile a circuit for plain values and for Taylor series.

    Parameters
    ----------
    circuit : from `trace`.
    order : the highest Taylor coefficient.
    dtype : complex128, or complex64 for half the memory and twice the lanes; constant terms stay in double precision.
    width : lanes in a vector (default: what this processor's registers hold), or in a GPU's block of threads.
    device : "cpu", or "cuda" for an NVIDIA GPU, which computes series; constant terms are the CPU's everywhere.

    Raises
    ------
    InputError : for an order, dtype or device that cannot be. DeviceError : there is no GPU; says what was looked for.

    Returns
    -------
    Compiled: call it for values, `.series(...)` for coefficients.

    >>> import numpy as np, circuitsketch as cs
    >>> f = cs.compile(cs.trace(lambda x: np.exp(x).sum(), np.zeros(3)))
    >>> f(np.zeros(3))
    array(3.)
    """
    if not isinstance(circuit, Circuit):
        raise InputError(
            f"compile takes a circuit, and this is a {type(circuit).__name__}; make one with "
            "trace(function, *arguments of the shapes it is for)"
        )
    if check_device(device) == "cuda":
        from circuitsketch.backends.cuda.device import find

        find()
    lanes = None if width is None else check_int(width, "width", 1, WIDEST)
    return Compiled(simplify(circuit), check_order(order), coefficient_type(dtype), lanes, device)
