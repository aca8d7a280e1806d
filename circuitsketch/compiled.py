"""A compiled function, which computes values and Taylor series.

In: arguments as in the trace, and a pytree of coefficients; both are checked against the circuit. Out: pytrees of
arrays. Machine code is generated when it is first needed, for each set of inputs that vary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from circuitsketch.arrays import plain_array, real_array
from circuitsketch.backends.contract import Executable, Schedule, Target
from circuitsketch.backends.lane_blocks import copy_series, run_blocks, write_coefficients
from circuitsketch.backends.registry import build, make_target
from circuitsketch.checks.domains import check_point
from circuitsketch.checks.indices import check_indices
from circuitsketch.circuit import Circuit
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.gates import cells
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.tree import Tree, flatten_up_to, open_container, unflatten


@dataclass(eq=False)
class Compiled:
    """A function compiled for plain values and for Taylor series of one order; the result of `compile`.

    Attributes
    ----------
    circuit : Circuit
        The circuit, simplified.
    order : int
        The highest Taylor coefficient.
    dtype : dtype
        The dtype of coefficients.
    width : int or None
        The number of lanes in a vector or block, if prescribed.
    device : str
        "cpu" or "cuda".
    """

    circuit: Circuit
    order: int
    dtype: np.dtype[Any]
    width: int | None = None
    device: str = "cpu"
    executables: dict[Any, Executable] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, *args: Any) -> Any:
        """Compute the function's value.

        Parameters
        ----------
        *args : pytree
            Arguments of the same structure and shapes as in the trace.

        Returns
        -------
        pytree of ndarray
            The result.

        Raises
        ------
        InputError, ShapeError
            If an argument is invalid.

        Examples
        --------
        >>> import numpy as np, circuitsketch as cs
        >>> f = cs.compile(cs.trace(lambda x, y: x @ y, np.zeros(2), np.zeros(2)))
        >>> f(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array(11.)
        """
        leaves = self.check_arguments(args)
        executable = self.link_executable(make_target(Mode(0), self.dtype), ())
        arena = executable.allocate_arena()
        arena.set_state(leaves)
        arena.run(Schedule.single_step(), 0, 1, np.zeros(0))
        outputs = [arena.view_constant(0, layout).copy() for layout in executable.tapes[0].outputs]
        return unflatten(self.circuit.out_tree, outputs)

    def check_arguments(self, args: tuple[Any, ...]) -> list[np.ndarray]:
        """Return the leaves of the arguments as arrays, or raise InputError or ShapeError."""
        names = self.circuit.input_names
        try:
            leaves = flatten_up_to(self.circuit.in_tree, args)
        except InputError as reason:
            raise InputError(f"the circuit was traced for arguments with leaves {list(names)}: {reason}") from None
        arrays = [real_array(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
        for array, wire, name in zip(arrays, self.circuit.inputs, names, strict=True):
            node = self.circuit.nodes[wire]
            if array.shape != node.shape:
                raise ShapeError(f"{name} has shape {array.shape}; the circuit was traced for {node.shape}")
            if node.label != "float" and not np.all(np.isfinite(array) & (array == np.rint(array))):
                raise InputError(f"{name} was traced as integers; pass integers, or trace with floats")
        check_indices(self.circuit, arrays)
        return arrays

    def link_executable(self, target: Target, varying: tuple[int, ...]) -> Executable:
        """Return the executable for a target and the positions of the inputs that vary; cached."""
        if (target, varying) not in self.executables:
            self.executables[target, varying] = build(
                [self.circuit], target, varying, len(self.circuit.inputs), {}, has_keep=False
            )
        return self.executables[target, varying]

    def check_coefficients(self, coefficients: Any) -> list[np.ndarray | None]:
        """Return the leaves of coefficients as arrays, None for absent ones, or raise InputError or ShapeError."""
        given = flatten_with_none(self.circuit.in_tree, coefficients)
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
                shape = ", ".join(map(str, node.shape))
                raise ShapeError(f"coefficients of {name} have shape {array.shape}; expected (directions, k, {shape})")
            if node.label != "float":
                raise InputError(f"{name} was traced as integers, which have no series; pass None")
            if array.dtype.kind not in "fiubc" or not np.all(np.isfinite(array)):
                raise InputError(f"coefficients of {name} are not all finite numbers")
        return arrays

    @within_memory("the series", "fewer directions at a time", "a lower order")
    def series(self, args: tuple[Any, ...], coefficients: Any, threads: int | None = None) -> Any:
        """Compute Taylor coefficients of the result along directions of the arguments.

        Parameters
        ----------
        args : tuple of pytree
            The point of expansion: arguments as in the trace.
        coefficients : pytree
            A pytree like `args`. Each leaf is None, or an array (directions, k, *shape) of coefficients 1..k, real or
            complex; those above the order are ignored.
        threads : int, optional
            The number of threads; by default one per core.

        Returns
        -------
        pytree of ndarray
            The result, with leaves (directions, order + 1, *shape), coefficient 0 first.

        Raises
        ------
        InputError, ShapeError
            If an argument or a coefficient is invalid.
        DomainError
            If a gate has no series at its primal value; names the gate.

        Examples
        --------
        >>> import numpy as np, circuitsketch as cs
        >>> f = cs.compile(cs.trace(np.exp, np.zeros(())), order=3)
        >>> f.series((0.0,), (np.ones((1, 1)),)).real.round(4)
        array([[1.    , 1.    , 0.5   , 0.1667]])
        """
        leaves = self.check_arguments(args)
        arrays = self.check_coefficients(coefficients)
        counts = {len(array) for array in arrays if array is not None}
        if len(counts) != 1 or 0 in counts:
            raise InputError(
                f"all leaves must have coefficients of the same number of directions, at least 1; got {sorted(counts)}"
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
        target = make_target(mode, self.dtype, self.width, self.device, count)
        executable = self.link_executable(target, varying if self.order else ())
        outputs = [
            np.zeros((count, self.order + 1, *layout.shape), dtype=np.complex128 if mode.complex else np.float64)
            for layout in executable.tapes[0].outputs
        ]

        def run(starts: range) -> None:
            arena = executable.allocate_arena(len(starts))
            arena.set_state(leaves)
            for block, start in enumerate(starts):
                lanes = np.zeros((executable.lane_state_cells, mode.components, executable.target.width))
                for i in varying if self.order else ():
                    array, leaf, at = arrays[i], leaves[i], executable.state_lane[i]
                    assert array is not None
                    view = lanes[at : at + leaf.size].reshape(*leaf.shape, *lanes.shape[1:])
                    write_coefficients(view, array[start:], mode)
                arena.set_lane_state(block, lanes)
            arena.run(Schedule.single_step(), 0, 1, np.zeros(0))
            for block, start in enumerate(starts):
                for output, layout in zip(outputs, executable.tapes[0].outputs, strict=True):
                    part = output[start : start + executable.target.width]
                    copy_series(part, arena, layout, block)

        run_blocks(run, count, executable, threads)
        return unflatten(self.circuit.out_tree, outputs)


def flatten_with_none(tree: Tree, value: Any) -> list[Any]:
    """Return the leaves of a pytree in the order of a structure; None stands for all leaves of a subtree."""
    if value is None:
        return [None] * tree.size
    root = open_container(value)
    if tree.kind is None or root is None or set(root[1]) != set(tree.keys):
        return flatten_up_to(tree, value)  # a leaf, or an error
    children = dict(zip(root[1], root[2], strict=True))
    pairs = zip(tree.keys, tree.children, strict=True)
    return [leaf for key, child in pairs for leaf in flatten_with_none(child, children[key])]
