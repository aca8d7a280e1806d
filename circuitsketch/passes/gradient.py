"""Reverse mode: a gradient is a circuit, made by calling each gate's vjp on wires.

In: a function, or outputs and inputs of a circuit under construction. Out: wires that compute the cotangents, in the
same builder, so that a gradient can be traced, measured, and differentiated again. `grad`, `value_and_grad` and `jvp`
work inside a traced function (on wires) and outside (on arrays, evaluated by the reference evaluator's NumPy values).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.circuit import Circuit, value_of
from circuitsketch.errors import TraceError
from circuitsketch.trace import Builder, Wire, flatten, trace, unflatten
from circuitsketch.trace.wire import user_place


def pull_back(outputs: Sequence[Wire], cotangents: Sequence[Any], sources: Sequence[Wire]) -> list[Wire]:
    """The cotangents of `sources` for given cotangents of `outputs`: one reverse sweep over the builder's nodes.

    Only nodes that depend on a source are visited; everything else is constant here.
    """
    build = outputs[0].builder
    first = min(wire.index for wire in sources)
    last = max(wire.index for wire in outputs)
    depends = {wire.index for wire in sources}
    for index in range(first, last + 1):
        if any(operand in depends for operand in build.nodes[index].operands):
            depends.add(index)
    found: dict[int, Any] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if output.index in depends:
            found[output.index] = found[output.index] + cotangent if output.index in found else cotangent
    wanted = {wire.index for wire in sources}
    for index in range(last, first - 1, -1):
        if index not in found or index in wanted:
            continue
        node = build.nodes[index]
        operands = [Wire(build, i) for i in node.operands]
        if not any(i in depends for i in node.operands):
            continue
        shares = node.gate.vjp(found.pop(index), Wire(build, index), *operands, **node.params)
        for operand, share in zip(node.operands, shares, strict=True):
            if share is not None and operand in depends and build.nodes[operand].label == "float":
                found[operand] = found[operand] + share if operand in found else share
    return [build.lift(found.get(wire.index, np.zeros(wire.shape))) for wire in sources]


def builder_of(leaves: Sequence[Any]) -> Builder | None:
    """The builder of the wires among some leaves."""
    return next((leaf.builder for leaf in leaves if isinstance(leaf, Wire)), None)


def captured(function: Callable[..., Any]) -> Builder | None:
    """The builder of a wire that a function closes over: then it runs inside a trace, whatever its arguments."""
    for cell in getattr(function, "__closure__", None) or ():
        try:
            leaves, _ = flatten(cell.cell_contents)
        except ValueError:  # an empty cell
            continue
        if (found := builder_of(leaves)) is not None:
            return found
    return None


def value_and_grad(function: Callable[..., Any], argument: int = 0) -> Callable[..., tuple[Any, Any]]:
    """A function that returns a scalar function's value and its gradient in one argument (a pytree).

    Raises
    ------
    TraceError : when the function's value is not one real number.

    >>> import numpy as np
    >>> value, slope = value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    >>> value, slope
    (array(5.), array([2., 4.]))
    """

    def differentiated(*args: Any) -> tuple[Any, Any]:
        leaves, _ = flatten(args)
        if builder_of(leaves) is None and captured(function) is None:
            return call_outside(differentiated, args)
        build = builder_of(leaves) or captured(function)
        assert build is not None
        inner, tree = flatten(args[argument])
        # Copies of the argument's wires: the derivative is in them alone, not in what they were made from.
        copies = [build.append_copy(leaf) for leaf in inner]
        value = function(*args[:argument], unflatten(tree, copies), *args[argument + 1 :])
        if np.shape(value) != ():
            raise TraceError(
                f"{user_place()}: a gradient is of one number, and the function returns shape {np.shape(value)}; "
                "take its sum or mean"
            )
        value = build.lift(value)
        return value, unflatten(tree, pull_back([value], [np.float64(1.0)], copies))

    return differentiated


def grad(function: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """A function that returns the gradient of a scalar function in one argument (a pytree).

    >>> import numpy as np
    >>> grad(lambda x: np.exp(x).sum())(np.zeros(2))
    array([1., 1.])
    """
    both = value_and_grad(function, argument)
    return lambda *args: both(*args)[1]


def jvp(function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of a function and its derivative along tangents, as a circuit.

    The vjp is linear in its cotangent, so its own vjp is the jvp: no gate needs a second derivative rule.

    >>> import numpy as np
    >>> jvp(lambda x: x**3, (np.array(2.0),), (np.array(1.0),))
    (array(8.), array(12.))
    """
    leaves, tree = flatten(primals)
    moves, same = flatten(tangents)
    if same != tree:
        raise TraceError(f"{user_place()}: jvp needs tangents of the primals' structure, {tree.names()}")
    build = builder_of(leaves + moves) or captured(function)
    if build is None:
        return call_outside(lambda p, t: jvp(function, p, t), (primals, tangents))
    copies = [build.append_copy(leaf) for leaf in leaves]
    outputs, out_tree = flatten(function(*unflatten(tree, copies)))
    outputs = [build.lift(output) for output in outputs]
    cotangents = [build.append_copy(np.zeros(output.shape)) for output in outputs]
    pulled = pull_back(outputs, cotangents, copies)
    pushed = pull_back(pulled, [build.lift(move) for move in moves], cotangents)
    return unflatten(out_tree, outputs), unflatten(out_tree, pushed)


def call_outside(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Trace a function on arrays and compute its outputs at them."""
    circuit = trace(function, *args)
    leaves, _ = flatten(args)
    assert circuit.out_tree is not None
    return unflatten(circuit.out_tree, evaluate(circuit, leaves))


def evaluate(circuit: Circuit, inputs: Sequence[Any]) -> list[np.ndarray]:
    """The outputs of a circuit at arrays, by the gates' NumPy values; the plainest evaluator there is."""
    values: dict[int, np.ndarray] = {
        wire: np.asarray(leaf, dtype=np.float64) for wire, leaf in zip(circuit.inputs, inputs, strict=True)
    }
    with np.errstate(all="ignore"):
        for wire, node in enumerate(circuit.nodes):
            if wire in values:
                continue
            if node.is_source:
                values[wire] = value_of(node)
                continue
            values[wire] = np.asarray(node.gate.value(*(values[i] for i in node.operands), **node.params))
    return [values[i] for i in circuit.outputs]


__all__ = ["evaluate", "grad", "jvp", "pull_back", "value_and_grad"]
