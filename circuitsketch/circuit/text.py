"""Print a circuit like a jaxpr: one gate per line, with the user's file and line at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from circuitsketch.circuit.graph import Graph
from circuitsketch.circuit.node import CONSTANT, INPUT, Node
from circuitsketch.display import summarize, table

LISTED = 200  # most nodes of a circuit that a notebook lists


def name_of(wire: int) -> str:
    """Return the short name of a wire: a..z, then ba, bb, ..."""
    letters = ""
    number = wire
    while True:
        letters = chr(ord("a") + number % 26) + letters
        number //= 26
        if number == 0:
            return letters


def type_of(node: Node) -> str:
    """Return a node's type as jaxprs write it, such as `f64[3,4]`."""
    kind = {"float": "f64", "int": "i64", "bool": "bool"}[node.label]
    return f"{kind}[{','.join(str(size) for size in node.shape)}]"


def brief(value: Any) -> str:
    """Return a short text of a parameter."""
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return f"{value.item():g}"
        return f"<{','.join(str(n) for n in value.shape)}>"
    if isinstance(value, tuple):
        return "(" + ",".join(str(entry) for entry in value) + ")"
    return str(value)


def html(circuit: Graph) -> str:
    """Return an HTML summary of inputs, outputs and gate counts, with the listing of a short circuit."""

    def typed(names: tuple[str, ...], wires: tuple[int, ...]) -> str:
        return summarize(f"{name} {type_of(circuit.nodes[i])}" for name, i in zip(names, wires, strict=True))

    gates = Counter(node.gate.name for node in circuit.nodes if not node.is_source)
    rows = [
        ("size", f"{circuit.size:,} scalar gates, depth {circuit.depth:,}"),
        ("takes", typed(circuit.input_names, circuit.inputs)),
        ("returns", typed(circuit.output_names, circuit.outputs)),
        ("gates", ", ".join(f"{name} {count}" for name, count in gates.most_common())),
    ]
    short = len(circuit.nodes) <= LISTED
    return table(f"circuit of {len(circuit.nodes):,} nodes", rows, more=text(circuit) if short else "")


def text(circuit: Graph) -> str:
    """Return the circuit's listing: a header, one line per gate, and the outputs.

    >>> import numpy as np, circuitsketch as cs
    >>> print(cs.trace(lambda x: x * x + 1.0, np.ones(3)))  # doctest: +ELLIPSIS
    circuit: 5 nodes, size 6, depth 2
      a:f64[3] = input args.0
      b:f64[3] = multiply a a ...
    """
    names = dict(zip(circuit.inputs, circuit.input_names, strict=False))
    rows: list[tuple[str, str]] = []
    for wire, node in enumerate(circuit.nodes):
        head = f"  {name_of(wire)}:{type_of(node)} = {node.gate.name}"
        if node.gate is INPUT:
            rows.append((f"{head} {names.get(wire, '')}".rstrip(), ""))
            continue
        if node.gate is CONSTANT:
            rows.append((f"{head} {brief(node.params['value'])}", ""))
            continue
        params = " ".join(f"{key}={brief(value)}" for key, value in node.params.items())
        operands = " ".join(name_of(i) for i in node.operands)
        line = f"{head}[{params}] {operands}" if params else f"{head} {operands}"
        rows.append((line, str(node.place)))
    width = min(max((len(left) for left, place in rows if place), default=0), 72)
    body = "\n".join(f"{left:<{width}}  # {place}" if place else left for left, place in rows)
    outputs = " ".join(name_of(i) for i in circuit.outputs)
    header = f"circuit: {len(circuit.nodes)} nodes, size {circuit.size:,}, depth {circuit.depth}"
    return f"{header}\n{body}\n  return {outputs}"
