"""Reverse-mode differentiation: a gradient is a circuit, built by calling each gate's vjp on wires.

In: a function, or outputs and inputs of a circuit under construction. Out: wires that compute the cotangents, in the
same builder, so that a gradient can be traced, measured, and differentiated again. `grad`, `value_and_grad` and `jvp`
work inside a traced function (on wires) and outside (on arrays, evaluated by the reference evaluator's NumPy values).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import call, check_callable, check_int, check_tuple
from circuitsketch.circuit import Circuit, Node, compute, reached_from
from circuitsketch.circuit import evaluate as evaluate_nodes
from circuitsketch.errors import ShapeError, TraceError
from circuitsketch.frontends.numpy import Builder, Wire
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.frontends.numpy.wire import ACTIVE, OtherTraceError, located, user_place
from circuitsketch.tree import flatten, flatten_up_to, unflatten

Vjp = Callable[..., Sequence[Any]]  # (node, cotangent, result, *operands) -> a cotangent per operand, or None


def vjp_of_gate(node: Node, cotangent: Any, result: Wire, *operands: Wire) -> Sequence[Any]:
    """Return the cotangents of a node's operands, by its gate's own rule."""
    return node.gate.vjp(cotangent, result, *operands, **node.params)


def pull_back(
    outputs: Sequence[Wire], cotangents: Sequence[Any], sources: Sequence[Wire], vjp: Vjp = vjp_of_gate
) -> list[Wire]:
    """Return the cotangents of `sources` given those of `outputs`, by one reverse sweep over the builder's nodes.

    Only nodes that depend on a source are visited; all others are treated as constants. `vjp` is the rule of a node, by
    default its gate's.
    """
    if not sources or not outputs:
        return [build.lift(np.zeros(wire.shape)) for wire in sources for build in (wire.builder,)]
    build = outputs[0].builder
    first = min(wire.index for wire in sources)
    last = max(wire.index for wire in outputs)
    depends = reached_from(build.nodes, [wire.index for wire in sources], stop=last + 1)
    pending: dict[int, Any] = {}  # by wire, the sum of the cotangents from its users so far
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if output.index in depends:
            cotangent = build.lift(cotangent)
            pending[output.index] = pending[output.index] + cotangent if output.index in pending else cotangent
    source_indices = {wire.index for wire in sources}
    for index in range(last, first - 1, -1):
        if index not in pending or index in source_indices:
            continue
        node = build.nodes[index]
        operands = [Wire(build, i) for i in node.operands]
        if depends.isdisjoint(node.operands):
            continue
        with located(node.place):  # errors in a derivative name the line of its gate
            shares = vjp(node, pending.pop(index), Wire(build, index), *operands)
            for operand, share in zip(node.operands, shares, strict=True):
                if share is not None and operand in depends and build.nodes[operand].label == "float":
                    pending[operand] = pending[operand] + share if operand in pending else share
    return [pending[wire.index] if wire.index in pending else build.lift(np.zeros(wire.shape)) for wire in sources]


def builder_of(leaves: Sequence[Any]) -> Builder | None:
    """Return the builder of the first wire among the leaves, or None."""
    return next((leaf.builder for leaf in leaves if isinstance(leaf, Wire)), None)


def record_or_evaluate(compute: Callable[[Builder, Any], Any], value: Any, *others: Any) -> Any:
    """Return `compute(builder, value)` for a pytree of arrays.

    If `value` or one of the other pytrees contains wires, the computation is recorded in their trace. Plain data is
    traced separately and the circuit evaluated, unless the function closes over wires of an active trace: then the
    computation is recorded there.
    """
    if (build := builder_of(flatten((value, others))[0])) is not None:
        return compute(build, value)
    try:
        circuit = traced(lambda wires: compute(ACTIVE.get()[-1], wires), (value,), "allow")
    except OtherTraceError as error:
        if error.enclosing is None:
            raise
        return compute(error.enclosing, value)
    assert circuit.out_tree is not None
    return unflatten(circuit.out_tree, evaluate(circuit, flatten(value)[0]))


def differentiable(build: Builder, leaf: Any, name: str, what: str) -> Wire:
    """Copy a leaf, so that the derivative is taken with respect to the copy and not to what the leaf depends on."""
    wire = build.lift(leaf)
    if wire.label != "float":
        raise TraceError(
            f"{user_place()}: {what} with respect to integers or booleans ({name}) does not exist; pass "
            "floats, such as 3.0 or x.astype(float), and indices as separate arguments"
        )
    return build.append_copy(wire)


def number(build: Builder, value: Any) -> Wire:
    """Return the scalar output of a function to differentiate as a wire, or raise TraceError."""
    leaves, tree = flatten(value)
    if tree.kind is not None or np.shape(value) != ():
        description = f"a {tree.kind.__name__}" if tree.kind is not None else f"shape {np.shape(value)}"
        raise TraceError(
            f"{user_place()}: a gradient requires a scalar output, but the function returns {description}; "
            "return a scalar, such as a sum or mean"
        )
    return build.lift(leaves[0])


def value_and_grad(function: Callable[..., Any], argument: int = 0) -> Callable[..., tuple[Any, Any]]:
    """Return a function that computes a scalar function's value and its gradient with respect to one argument.

    Parameters
    ----------
    function : callable
        A function that returns a scalar, written in NumPy.
    argument : int
        The position of the argument to differentiate with respect to, a pytree of floats.

    Returns
    -------
    callable
        A function of the same arguments that returns (value, gradient); the gradient has the argument's structure.

    Raises
    ------
    TraceError
        If the function's value is not a scalar, or the argument has integer or boolean leaves.

    Examples
    --------
    >>> import numpy as np
    >>> value, slope = value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    >>> value, slope
    (array(5.), array([2., 4.]))
    """

    check_callable(function, "function")
    argument = check_int(argument, "argument")

    def differentiate(*args: Any, **options: Any) -> tuple[Any, Any]:
        if not -len(args) <= argument < len(args):
            raise TraceError(
                f"{user_place()}: gradient with respect to argument {argument} of a call with {len(args)} arguments"
            )
        position = argument % len(args)
        before, after = args[:position], args[position + 1 :]

        def compute(build: Builder, chosen: Any) -> tuple[Any, Any]:
            leaves, tree = flatten(chosen)
            names = tree.names(f"args.{position}")
            copies = [differentiable(build, leaf, name, "a gradient") for leaf, name in zip(leaves, names, strict=True)]
            arguments = (*before, unflatten(tree, copies), *after)
            value = number(build, call(function, "the function", *arguments, **options))
            return value, unflatten(tree, pull_back([value], [1.0], copies))

        return record_or_evaluate(compute, args[position], before, after, options)  # type: ignore[no-any-return]

    return differentiate


def grad(function: Callable[..., Any], argument: int = 0) -> Callable[..., Any]:
    """Return a function that computes the gradient of a scalar function with respect to one argument.

    Parameters
    ----------
    function : callable
        A function that returns a scalar, written in NumPy.
    argument : int
        The position of the argument to differentiate with respect to, a pytree of floats.

    Returns
    -------
    callable
        A function of the same arguments that returns the gradient, a pytree of the argument's structure.

    Raises
    ------
    TraceError
        If the function's value is not a scalar, or the argument has integer or boolean leaves.

    Examples
    --------
    >>> import numpy as np
    >>> grad(lambda x: np.exp(x).sum())(np.zeros(2))
    array([1., 1.])
    """
    both = value_and_grad(function, argument)
    return lambda *args, **options: both(*args, **options)[1]


def jvp(function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the value of a function and its derivative along tangents (forward mode), as a circuit.

    The vjp is linear in its cotangent, so its own vjp is the jvp: no gate needs a second derivative rule.

    Parameters
    ----------
    function : callable
        A function of pytrees of arrays, written in NumPy.
    primals : tuple
        The function's arguments.
    tangents : tuple
        The direction of the derivative, with the structure and the shapes of `primals`.

    Returns
    -------
    tuple
        The function's value and its derivative, two pytrees of the same structure.

    Raises
    ------
    ShapeError
        If a tangent has another shape than its primal.
    TraceError
        If a primal has integer or boolean leaves.

    Examples
    --------
    >>> import numpy as np
    >>> jvp(lambda x: x**3, (np.array(2.0),), (np.array(1.0),))
    (array(8.), array(12.))
    """

    def compute(build: Builder, arguments: tuple[Any, Any]) -> tuple[Any, Any]:
        leaves, tree = flatten(arguments[0])
        moves = flatten_up_to(tree, arguments[1])
        for leaf, move, name in zip(leaves, moves, tree.names("primals"), strict=True):
            if np.shape(leaf) != np.shape(move):
                raise ShapeError(
                    f"{user_place()}: jvp requires tangents of the same shapes as the primals; at {name} got "
                    f"{np.shape(move)} and {np.shape(leaf)}"
                )
        copies = [
            differentiable(build, leaf, name, "a derivative")
            for leaf, name in zip(leaves, tree.names("primals"), strict=True)
        ]
        outputs, out_tree = flatten(call(function, "the function", *unflatten(tree, copies)))
        outputs = [build.lift(output) for output in outputs]
        cotangents = [build.append_copy(np.zeros(output.shape)) for output in outputs]
        pulled = pull_back(outputs, cotangents, copies)
        pushed = pull_back(pulled, [1.0 * build.lift(move) for move in moves], cotangents)
        return unflatten(out_tree, outputs), unflatten(out_tree, pushed)

    check_callable(function, "function")
    arguments = check_tuple(primals, "primals"), check_tuple(tangents, "tangents")
    return record_or_evaluate(compute, arguments)  # type: ignore[no-any-return]


def evaluate(circuit: Circuit, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Evaluate a circuit at arrays with the gates' NumPy values, node by node; return its outputs."""
    given = {wire: np.asarray(leaf, dtype=np.float64) for wire, leaf in zip(circuit.inputs, inputs, strict=True)}
    with np.errstate(all="ignore"):
        values = evaluate_nodes(circuit.nodes, given, compute)
    return [values[i] for i in circuit.outputs]


__all__ = ["evaluate", "grad", "jvp", "pull_back", "value_and_grad"]
