"""From a function to a circuit: the arguments' leaves become inputs, and what it returns becomes outputs.

In: a NumPy-style function and example arguments, whose shapes and dtypes count and whose values do not. Out: a Circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuitsketch.arguments import as_array, call, check_callable
from circuitsketch.circuit import Circuit, Label
from circuitsketch.errors import TraceError
from circuitsketch.trace.tree import flatten, unflatten
from circuitsketch.trace.wire import ACTIVE, Builder, Wire, user_place


def label_of(leaf: Any) -> Label:
    """float, int or bool of an example leaf."""
    dtype = as_array(leaf, "an argument").dtype
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

    >>> import numpy as np, circuitsketch as cs
    >>> circuit = cs.trace(lambda x: np.exp(x).sum(), np.zeros(4))
    >>> circuit.size, circuit.depth
    (7, 2)
    """
    check_callable(function, "function")
    leaves, in_tree = flatten(examples)
    build = Builder()
    wires = [build.input(as_array(leaf, "an argument").shape, label_of(leaf)) for leaf in leaves]
    outer = ACTIVE.set((*ACTIVE.get(), build))
    try:
        result = call(function, "the function", *unflatten(in_tree, wires))
    except (TypeError, ValueError) as error:
        # Where a wire refuses to be a number, NumPy raises an error of its own, which says less, from the wire's.
        if isinstance(error.__cause__, TraceError):
            raise error.__cause__ from None
        raise
    finally:
        ACTIVE.reset(outer)
    outputs, out_tree = flatten(result)
    names = tuple(out_tree.names("out"))
    for name, output in zip(names, outputs, strict=True):
        if not isinstance(output, Wire) and as_array(output, name).dtype.kind not in "fiub":
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


def replay(build: Builder, circuit: Circuit, inputs: list[Wire]) -> list[Wire]:
    """Append a circuit's nodes to a builder, its inputs replaced by wires; returns the output wires."""
    found: dict[int, Wire] = dict(zip(circuit.inputs, inputs, strict=True))
    for index, node in enumerate(circuit.nodes):
        if index not in found:
            operands = tuple(found[i].index for i in node.operands)
            found[index] = build.append(
                type(node)(node.gate, operands, node.params, node.shape, node.label, node.place)
            )
    return [found[i] for i in circuit.outputs]
