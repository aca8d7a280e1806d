"""The front door: trace -> simplify -> lower -> link -> run. Start reading here; `run_once` is the pipeline.

    trace     frontends/  a function of NumPy and example arguments in,  a Circuit out: gates on wires
    simplify  passes/     a Circuit in,                                  a smaller Circuit of the same values out
    lower     lower/      a Circuit and what lanes hold in,              a Tape out: few kernels on buffers
    link      backends/   Tapes of one state in,                         an Executable out: addresses and machine code
    run       backends/   an Executable's Arena and a Schedule in,       the outputs' values or series out

`compile` does this for one function of a pytree, and gives a `Compiled` (compiled.py) to be called many times;
training/ does it for a step that is applied many times to a state.
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

WIDEST = 1024  # lanes, as many threads as a GPU's block has


def run_once(function: Callable[..., Any], *args: Any) -> Any:
    """A function's value by way of a circuit: every stage once, with nothing kept between them.

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
    get_backend(check_device(device)).check_available()
    lanes = None if width is None else check_int(width, "width", 1, WIDEST)
    return Compiled(simplify(circuit), check_order(order), check_dtype(dtype), lanes, device)
