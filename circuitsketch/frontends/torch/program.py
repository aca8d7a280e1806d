"""Tell the values of a graph apart: static, known or reached by weights; compute what is known in advance.

In: the graph of a step or a function, and which of its inputs are reached, known or static. Out: the values of the
static nodes, for each step those of the known nodes that wires meet, and the wires of the outputs.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.fx import Node
from torch.fx.node import map_arg

from circuitsketch.circuit import Label
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import Wire, located
from circuitsketch.frontends.numpy.dtypes import RANK, relabel
from circuitsketch.frontends.torch.capture import place_of, shape_of
from circuitsketch.frontends.torch.refusals import refuse
from circuitsketch.frontends.torch.rules import BY_STRIDES, RULES, SHAPE_ONLY, VIEWS

OPTIONS = ("dtype", "layout", "device", "pin_memory", "memory_format", "generator")  # of no meaning for wires


def name_of(node: Node) -> str:
    """Return the name of a node's operation, such as `add`."""
    packet = getattr(node.target, "overloadpacket", None)
    return str(node.target) if packet is None else str(packet.__name__)


def is_random(node: Node) -> bool:
    """Return whether a node draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def is_in_place(node: Node) -> bool:
    """Return whether a node writes to its first operand, as those inside of PyTorch's decompositions may."""
    name = name_of(node)
    return name.endswith("_") and not name.endswith("__")


def reads_shapes(node: Node) -> bool:
    """Return whether the operands of a node matter by their shapes alone."""
    return name_of(node) in SHAPE_ONLY or str(node.target) == "aten.bernoulli.p"


def plain(value: Any) -> np.ndarray:
    """Return a tensor as wires meet it: float64, int64 or bool."""
    tensor = torch.as_tensor(value).detach()
    if tensor.is_complex():
        raise TraceError(
            "a complex tensor meets a value that weights reach; carry real and imaginary parts as two arrays"
        )
    kind = torch.float64 if tensor.is_floating_point() else torch.bool if tensor.dtype == torch.bool else torch.int64
    return np.array(tensor.to(device="cpu", dtype=kind).resolve_conj().resolve_neg().numpy())


@dataclass(eq=False)
class Program:
    """A graph, and what its values are.

    Attributes
    ----------
    graph : of the function. inputs, outputs : its placeholders, and the nodes (or numbers) that it returns.
    live : the nodes that outputs read, and those that draw random numbers.
    reached : the nodes that weights reach. varying : those that differ from step to step otherwise.
    """

    graph: torch.fx.GraphModule
    inputs: list[Node] = field(init=False)
    outputs: list[Any] = field(init=False)
    live: set[Node] = field(init=False)
    reached: set[Node] = field(default_factory=set)
    varying: set[Node] = field(default_factory=set)
    static: dict[Node, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes = list(self.graph.graph.nodes)
        self.inputs = [node for node in nodes if node.op == "placeholder"]
        self.outputs = list(nodes[-1].args[0])
        self.live = {node for node in nodes if is_random(node)}
        self.live.update(x for x in self.outputs if isinstance(x, Node))
        for node in reversed(nodes):
            if node in self.live:
                self.live.update(node.all_input_nodes)

    def operations(self) -> Iterator[Node]:
        """Return the live nodes in order."""
        return (
            node for node in self.graph.graph.nodes if node in self.live and node.op not in ("placeholder", "output")
        )

    def find_reached(self, inputs: Sequence[int]) -> set[Node]:
        """Return the nodes that inputs at these positions reach, other than by their shapes."""
        reached = {self.inputs[i] for i in inputs}
        for node in self.operations():
            if not reads_shapes(node) and not reached.isdisjoint(node.all_input_nodes):
                reached.add(node)
        return reached

    def divide(self, reached: Sequence[int], static: Mapping[int, torch.Tensor]) -> None:
        """Divide the nodes, given the positions of inputs that weights reach, and of those that never change."""
        self.reached = self.find_reached(reached)
        fixed = {self.inputs[i]: value for i, value in static.items()}
        self.varying = {node for node in self.inputs if node not in self.reached and node not in fixed}
        self.static = dict(fixed)
        for node in self.operations():
            if node in self.reached:
                continue
            if is_random(node) or not self.varying.isdisjoint(node.all_input_nodes):
                self.varying.add(node)
            else:
                self.compute(node, self.static)

    @property
    def frontier(self) -> list[Node]:
        """The known nodes that wires meet, in order; of views, what they are views of."""
        met: dict[Node, None] = {}
        for node in self.graph.graph.nodes:
            if node in self.live and node in self.reached and node.op == "call_function" and not reads_shapes(node):
                met.update((self.viewed(other), None) for other in node.all_input_nodes if other in self.varying)
        return list(met)

    def viewed(self, node: Node) -> Node:
        """Return what a known node is a view of, following views of views."""
        while node.op == "call_function" and name_of(node) in VIEWS and node.all_input_nodes[0] in self.varying:
            node = node.all_input_nodes[0]
        return node

    def compute(self, node: Node, values: dict[Node, Any]) -> None:
        """Let PyTorch compute a node that no weight reaches."""

        def value_of(other: Node) -> Any:
            if other in values:
                return values[other]
            if other in self.static:
                return self.static[other]
            example = other.meta["val"]  # reached, but only its shape matters
            return torch.zeros(shape_of(other), dtype=example.dtype)

        with torch.no_grad():
            if node.op == "get_attr":
                values[node] = getattr(self.graph, str(node.target))
            elif node.target is operator.getitem:
                values[node] = value_of(node.args[0])[node.args[1]]  # type: ignore[arg-type, index]
            else:
                args, kwargs = map_arg((node.args, dict(node.kwargs)), value_of)
                try:
                    values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
                except (RuntimeError, ValueError, TypeError, IndexError) as reason:
                    raise TraceError(f"{place_of(node)}: PyTorch cannot compute {name_of(node)}: {reason}") from reason

    def foresee(self, inputs: Mapping[int, torch.Tensor]) -> dict[Node, Any]:
        """Return the known nodes of a step, given the known inputs by position."""
        values: dict[Node, Any] = {self.inputs[i]: value for i, value in inputs.items()}
        for node in self.operations():
            if node in self.varying:
                self.compute(node, values)
        return values

    def record(self, inputs: Mapping[int, Any], met: Mapping[Node, Any], wanted: Sequence[int]) -> list[Any]:
        """Return outputs at these positions, given the wires of inputs, and of the known nodes of the frontier."""
        wires: dict[Node, Any] = {self.inputs[i]: wire for i, wire in inputs.items()}

        def value_of(node: Node) -> Any:
            if node in wires:
                return wires[node]
            if node in met:
                return met[node]
            if node in self.static:
                value = self.static[node]
                return plain(value) if isinstance(value, torch.Tensor) else value
            return apply(node)  # a view of a known node

        def apply(node: Node) -> Any:
            if node.target is operator.getitem:
                return value_of(node.args[0])[node.args[1]]  # type: ignore[arg-type, index]
            name = name_of(node).removesuffix("_") if is_in_place(node) else name_of(node)
            rule = RULES.get(str(node.target)) or RULES.get(name) or RULES.get(name.removesuffix("_copy"))
            if rule is None or (name in BY_STRIDES and not node.args[0].meta["val"].is_contiguous()):  # type: ignore[union-attr]
                raise refuse(node.target, name, place_of(node))
            args, kwargs = map_arg((node.args, dict(node.kwargs)), value_of)
            if name_of(node) != "_to_copy":
                kwargs = {key: value for key, value in kwargs.items() if key not in OPTIONS}
            return conform(rule(*args, **kwargs), node)

        needed = self.needed_for(wanted)
        for node in self.operations():
            if node in self.reached and node in needed:
                with located(place_of(node)):
                    wires[node] = apply(node)
                if is_in_place(node):
                    wires[node.args[0]] = wires[node]  # type: ignore[index]
        return [value_of(x) if isinstance(x, Node) else x for x in (self.outputs[i] for i in wanted)]

    def needed_for(self, wanted: Sequence[int]) -> set[Node]:
        """Return the nodes that outputs at these positions read."""
        needed = {x for x in (self.outputs[i] for i in wanted) if isinstance(x, Node)}
        for node in reversed(self.graph.graph.nodes):
            if node in needed and not reads_shapes(node):
                needed.update(node.all_input_nodes)
        return needed


def conform(value: Any, node: Node) -> Any:
    """Return a result with the label of PyTorch's dtype; check its shape."""
    example = node.meta.get("val")
    if not isinstance(value, Wire) or not isinstance(example, torch.Tensor):
        return value
    assert value.shape == tuple(example.shape), f"{node.target}: {value.shape} instead of {tuple(example.shape)}"
    label: Label = "float" if example.is_floating_point() else "bool" if example.dtype == torch.bool else "int"
    return relabel(value, label) if RANK[label] > RANK[value.label] else value
