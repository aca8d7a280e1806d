"""The front door: trace -> simplify -> lower -> link -> run. Start reading here; `run_once` is the pipeline.

    trace     frontends/  a function of NumPy and example arguments in,  a Circuit out: gates on wires
    simplify  passes/     a Circuit in,                                  a smaller Circuit of the same values out
    lower     lower/      a Circuit and what lanes hold in,              a Tape out: a few kernels on buffers
    link      backends/   Tapes with the same state in,                  an Executable out: addresses and machine code
    run       backends/   an Executable's Arena and a Schedule in,       the outputs' values or series out

`compile` does this for a function of pytrees, and returns a `Compiled` (compiled.py), which can be called repeatedly;
training/ does it for a step that is applied repeatedly to a state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.arguments import check_int, check_order
from circuitsketch.arrays import check_dtype, real_array
from circuitsketch.backends.contract import Schedule
from circuitsketch.backends.registry import check_device, get_backend, make_target
from circuitsketch.circuit import Circuit
from circuitsketch.compiled import Compiled
from circuitsketch.errors import InputError
from circuitsketch.frontends.numpy.tracing import trace
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.tape import lower
from circuitsketch.passes import simplify
from circuitsketch.tree import flatten_up_to, unflatten

MAX_WIDTH = 1024  # lanes: the most threads of a GPU's block


def run_once(function: Callable[..., Any], *args: Any) -> Any:
    """Compute a function's value through a circuit: run every stage once, and store nothing.

    Parameters
    ----------
    function : callable
        A function of NumPy that can be traced.
    *args : pytree
        Its arguments.

    Returns
    -------
    pytree
        The function's result.

    Examples
    --------
    >>> import numpy as np
    >>> run_once(lambda x: np.exp(x).sum(), np.zeros(3))
    array(3.)
    """
    circuit = trace(function, *args)
    simplified = simplify(circuit)
    tape = lower(simplified, (), Mode(0))
    executable = get_backend("cpu").link(
        [tape], make_target(Mode(0), np.float64), len(simplified.inputs), has_keep=False
    )
    arena = executable.allocate_arena()
    arena.set_state([real_array(leaf, "an argument") for leaf in flatten_up_to(circuit.in_tree, args)])
    arena.run(Schedule.single_step(), 0, 1, np.zeros(0))
    return unflatten(circuit.out_tree, [arena.view_constant(0, layout).copy() for layout in tape.outputs])


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
    circuit : Circuit
        The result of `trace`.
    order : int
        The highest Taylor coefficient.
    dtype : dtype
        The dtype of coefficients: complex128, or complex64 for half the memory and twice the lanes. Constant terms are
        in double precision with either.
    width : int, optional
        The number of lanes in a vector, or in a GPU's block of threads. By default as many as a vector register of this
        CPU holds, or as fill the GPU.
    device : str
        "cpu", or "cuda" for an NVIDIA GPU, which computes the series; the CPU computes constant terms in any case.

    Returns
    -------
    Compiled
        A function: call it for values, and `.series(...)` for coefficients.

    Raises
    ------
    InputError
        If the circuit, order, dtype, width or device is invalid.
    DeviceError
        If there is no GPU; says what was looked for.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> f = cs.compile(cs.trace(lambda x: np.exp(x).sum(), np.zeros(3)))
    >>> f(np.zeros(3))
    array(3.)
    """
    if not isinstance(circuit, Circuit):
        raise InputError(
            f"circuit must be a Circuit, not {type(circuit).__name__}; trace one with "
            "cs.trace(function, *example_arguments)"
        )
    get_backend(check_device(device)).check_available()
    lanes = None if width is None else check_int(width, "width", 1, MAX_WIDTH)
    return Compiled(simplify(circuit), check_order(order), check_dtype(dtype), lanes, device)
