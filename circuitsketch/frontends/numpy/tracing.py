"""From a function to a circuit: the arguments' leaves become inputs, and what it returns becomes outputs.

In: a NumPy-style function and example arguments, whose shapes and dtypes count and whose values do not. Out: a Circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_callable
from circuitsketch.arrays import lost_meaning, plain_array
from circuitsketch.circuit import Circuit, Label, Node, Place, evaluate
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy.draws import DrawnAt, Draws, OnDraw
from circuitsketch.frontends.numpy.wire import ACTIVE, Builder, Wire, user_place
from circuitsketch.tree import Tree, flatten, unflatten


def label_of(leaf: Any) -> Label:
    """float, int or bool of an example leaf."""
    if (reason := lost_meaning(leaf)) is not None:
        raise TraceError(f"an argument leaf is {reason}")
    dtype = plain_array(leaf, "an argument").dtype
    kind = dtype.kind
    if kind not in "fiub":
        raise TraceError(
            f"an argument leaf of type {type(leaf).__name__} and dtype {dtype} cannot be "
            "an input; give real numbers, or close over what is not numbers"
        )
    return {"f": "float", "b": "bool"}.get(kind, "int")  # type: ignore[return-value]


def trace(function: Callable[..., Any], *examples: Any) -> Circuit:
    """The circuit of a function of pytrees of arrays.

    Parameters
    ----------
    function : written in NumPy; called once, with wires.
    examples : arguments of the shapes and dtypes the circuit is for. Float leaves are inputs that can carry series;
        integer leaves are run-time indices.

    Wires are float64, int64 or bool, whatever width the data have: uint8 images and int8 labels are int64, so that
    nothing wraps around where NumPy's narrow integers do (255 + 1 is 256). NumPy's functions take their arguments by
    its order and names; an option that a circuit cannot honour is refused, none is ignored.

    Returns
    -------
    Circuit, with one input a leaf of the arguments and one output a leaf of the result.

    Raises
    ------
    TraceError, ShapeError : naming the user's file and line, the reason, and the way out.

    Warns
    -----
    FrozenDrawWarning : the function draws random numbers.

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
    """As `trace`, with a choice of what happens where the function draws random numbers; `written` is what the user
    wrote, where the function is a wrapper of it."""
    check_callable(function, "function")
    leaves, in_tree = flatten(examples)
    build = Builder()
    draws = None if on_draw == "allow" else Draws(written or function, on_draw)
    labels = [label_of(leaf) for leaf in leaves]
    wires = [build.input(np.shape(leaf), label) for leaf, label in zip(leaves, labels, strict=True)]
    result = called(function, build, in_tree, wires)
    if draws is not None and (source := draws.changed()) is not None:
        draws.report(source, place_of_draw(function, leaves, in_tree, draws))
    outputs, out_tree = flatten(result)
    names = tuple(out_tree.names("out"))
    for name, output in zip(names, outputs, strict=True):
        if not isinstance(output, Wire) and plain_array(output, name).dtype.kind not in "fiub":
            raise TraceError(
                f"{user_place()}: the traced function returns a {type(output).__name__} at {name}; return numbers"
            )
    found = tuple(build.lift(output).index for output in outputs)
    return Circuit(
        nodes=tuple(build.nodes),
        inputs=tuple(range(len(wires))),
        outputs=found,
        input_names=tuple(in_tree.names("args")),
        in_tree=in_tree,
        out_tree=out_tree,
        output_names=names,
    )


def called(function: Callable[..., Any], build: Builder, in_tree: Tree, wires: list[Wire]) -> Any:
    """What a function returns for wires; their trace is under way meanwhile."""
    outer = ACTIVE.set((*ACTIVE.get(), build))
    try:
        return call(function, "the function", *unflatten(in_tree, wires))
    except (TypeError, ValueError) as error:
        # Where a wire refuses to be a number, NumPy raises an error of its own, which says less, from the wire's.
        if isinstance(error.__cause__, TraceError):
            raise error.__cause__ from None
        raise
    finally:
        ACTIVE.reset(outer)


def place_of_draw(function: Callable[..., Any], leaves: list[Any], in_tree: Tree, draws: Draws) -> Place | None:
    """Where the first drawn number meets a wire, seen by calling the function again."""
    build = Builder()
    build.look = draws.stop
    try:
        called(function, build, in_tree, [build.input(np.shape(leaf), label_of(leaf)) for leaf in leaves])
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
