"""Trace a function into a circuit: the leaves of its arguments become inputs, those of its result outputs.

In: a function written in NumPy and example arguments, of which only shapes and dtypes matter. Out: a Circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_callable
from circuitsketch.arrays import explain_lost_meaning, plain_array
from circuitsketch.circuit import Circuit, Label, Node, Place, evaluate
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy.draws import DrawnAt, Draws, OnDraw
from circuitsketch.frontends.numpy.wire import ACTIVE, Builder, Wire, user_place
from circuitsketch.tree import Tree, flatten, unflatten


def label_of(leaf: Any) -> Label:
    """Return the label (float, int or bool) of a leaf of the example arguments."""
    if (reason := explain_lost_meaning(leaf)) is not None:
        raise TraceError(f"an argument leaf is {reason}")
    dtype = plain_array(leaf, "an argument").dtype
    kind = dtype.kind
    if kind not in "fiub":
        raise TraceError(
            f"an argument leaf of type {type(leaf).__name__} and dtype {dtype} cannot be "
            "an input; pass real numbers, or close over other objects"
        )
    return {"f": "float", "b": "bool"}.get(kind, "int")  # type: ignore[return-value]


def trace(function: Callable[..., Any], *examples: Any) -> Circuit:
    """Trace a function of pytrees of arrays into a circuit.

    Wires are float64, int64 or bool regardless of the width of the data: uint8 images and int8 labels become int64, so
    that nothing overflows where NumPy's narrow integers do (255 + 1 is 256). NumPy functions accept their usual
    arguments; an option that a circuit cannot honour raises an error, and none is ignored.

    Parameters
    ----------
    function : callable
        A function written in NumPy; it is called once, with wires.
    *examples : pytree
        Arguments of the shapes and dtypes that the circuit is for. Float leaves are inputs that can carry series;
        integer leaves are run-time indices.

    Returns
    -------
    Circuit
        With one input per leaf of the arguments and one output per leaf of the result.

    Raises
    ------
    TraceError, ShapeError
        If the function cannot be traced; the message names the user's file and line, the reason, and a remedy.

    Warns
    -----
    FrozenDrawWarning
        If the function draws random numbers.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> circuit = cs.trace(lambda x: np.exp(x).sum(), np.zeros(4))
    >>> circuit.size, circuit.depth
    (7, 2)
    """
    return traced(function, examples, "warn")


def traced(
    function: Callable[..., Any],
    examples: tuple[Any, ...],
    on_draw: OnDraw,
    written: Callable[..., Any] | None = None,
) -> Circuit:
    """Trace as `trace` does, and allow, warn about or refuse random draws.

    If `function` wraps the user's function, `written` is the latter.
    """
    check_callable(function, "function")
    leaves, in_tree = flatten(examples)
    build = Builder()
    draws = None if on_draw == "allow" else Draws(written or function, on_draw)
    labels = [label_of(leaf) for leaf in leaves]
    wires = [build.input(np.shape(leaf), label) for leaf, label in zip(leaves, labels, strict=True)]
    result = call_with_wires(function, build, in_tree, wires)
    if draws is not None and (source := draws.changed()) is not None:
        draws.report(source, place_of_draw(function, leaves, in_tree, draws))
    outputs, out_tree = flatten(result)
    names = tuple(out_tree.names("out"))
    for name, output in zip(names, outputs, strict=True):
        if not isinstance(output, Wire) and plain_array(output, name).dtype.kind not in "fiub":
            raise TraceError(
                f"{user_place()}: the traced function returns a {type(output).__name__} at {name}; return numbers"
            )
    output_wires = [build.lift(output) for output in outputs]
    return build.finish(wires, output_wires, in_tree.names("args"), names, in_tree, out_tree)


def call_with_wires(function: Callable[..., Any], build: Builder, in_tree: Tree, wires: list[Wire]) -> Any:
    """Call a function with wires while their trace is active."""
    outer = ACTIVE.set((*ACTIVE.get(), build))
    try:
        return call(function, "the function", *unflatten(in_tree, wires))
    except (TypeError, ValueError) as error:
        # When a wire refuses conversion to a number, NumPy raises a less informative error from the wire's.
        if isinstance(error.__cause__, TraceError):
            raise error.__cause__ from None
        raise
    finally:
        ACTIVE.reset(outer)


def place_of_draw(function: Callable[..., Any], leaves: list[Any], in_tree: Tree, draws: Draws) -> Place | None:
    """Return the line at which the first drawn number meets a wire, by calling the function again."""
    build = Builder()
    build.look = draws.stop
    try:
        call_with_wires(function, build, in_tree, [build.input(np.shape(leaf), label_of(leaf)) for leaf in leaves])
    except DrawnAt as stopped:
        return stopped.place
    except Exception:
        return None
    return None


def replay(build: Builder, circuit: Circuit, inputs: list[Wire]) -> list[Wire]:
    """Append a circuit's nodes to a builder, its inputs replaced by wires; returns the output wires."""

    def append(node: Node, *operands: Wire) -> Wire:
        return build.append(replace(node, operands=tuple(wire.index for wire in operands)))

    wires = evaluate(circuit.nodes, dict(zip(circuit.inputs, inputs, strict=True)), append)
    return [wires[i] for i in circuit.outputs]
