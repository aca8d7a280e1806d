"""Export a circuit: as JSON values, as a graph in Graphviz's language DOT, and as an SVG picture.

In: a `Circuit`. Out: text. Inputs are ellipses, constants plain text, gates boxes with their size, outputs boxes with a
double border; an edge is labelled with its operand's position if a gate has several operands.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from circuitsketch.circuit import Circuit
from circuitsketch.circuit.node import CONSTANT, INPUT
from circuitsketch.circuit.text import brief, name_of, type_of
from circuitsketch.errors import InputError

# Number of nodes above which Graphviz lays out faster and less well: 2 s instead of 40 s for a step of microgpt (700).
LARGE = 200


def describe_circuit_nodes(circuit: Circuit) -> dict[str, Any]:
    """Return the size, depth, inputs, outputs and nodes of a circuit as JSON values."""
    return {
        "size": circuit.size,
        "depth": circuit.depth,
        "inputs": list(circuit.inputs),
        "outputs": list(circuit.outputs),
        "nodes": [
            {
                "gate": node.gate.name,
                "operands": list(node.operands),
                "shape": list(node.shape),
                "kind": node.label,
                "size": circuit.size_of(wire),
                "place": None if node.is_source else str(node.place),
            }
            for wire, node in enumerate(circuit.nodes)
        ],
    }


def format_dot(circuit: Circuit) -> str:
    """Return the graph in the language DOT.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> print(format_dot(cs.trace(lambda x: x * x, np.ones(3))))  # doctest: +ELLIPSIS
    digraph circuit {
      ...
      0 [label="args.0\\nf64[3]", shape=ellipse];
      1 [label="multiply\\nf64[3]\\n3 gates", tooltip="...", peripheries=2];
      0 -> 1 [label="0"];
      0 -> 1 [label="1"];
    }
    """
    names = dict(zip(circuit.inputs, circuit.input_names, strict=False))
    outputs = set(circuit.outputs)
    lines = ["digraph circuit {", "  rankdir=TB;", '  node [shape=box, fontname="sans-serif", fontsize=10];']
    lines.append('  edge [fontname="sans-serif", fontsize=8, arrowsize=0.6];')
    if len(circuit.nodes) > LARGE:
        lines.append("  nslimit=1; nslimit1=1; splines=line;")
    for wire, node in enumerate(circuit.nodes):
        if node.gate is INPUT:
            style, label = ["shape=ellipse"], [names.get(wire, name_of(wire)), type_of(node)]
        elif node.gate is CONSTANT:
            style, label = ["shape=plaintext"], [brief(node.params["value"])]
        else:
            size = circuit.size_of(wire)
            label = [node.gate.name, type_of(node)] + ([f"{size:,} gates"] if size else [])
            style = [f'tooltip="{escape_dot(str(node.place))}"']
        if wire in outputs:
            style.append("peripheries=2")
        text = "\\n".join(escape_dot(line) for line in label)
        lines.append(f'  {wire} [label="{text}", {", ".join(style)}];' if style else f'  {wire} [label="{text}"];')
    for wire, node in enumerate(circuit.nodes):
        for position, operand in enumerate(node.operands):
            which = f' [label="{position}"]' if len(node.operands) > 1 else ""
            lines.append(f"  {operand} -> {wire}{which};")
    return "\n".join([*lines, "}"])


def escape_dot(text: str) -> str:
    """Escape text for a double-escape_dot string of DOT."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def render_svg(dot: str) -> str:
    """Return the SVG that Graphviz's `dot` draws of a graph, or raise InputError if it is not installed or fails."""
    program = shutil.which("dot")
    if program is None:
        raise InputError(
            "drawing SVG requires Graphviz's program dot, which is not installed; install Graphviz, or write the graph "
            "with --dot FILE"
        )
    process = subprocess.run([program, "-Tsvg"], input=dot, capture_output=True, text=True, check=False)
    if process.returncode:
        raise InputError(f"Graphviz's dot could not draw the graph: {process.stderr.strip()}")
    return process.stdout


def write_text(path: Path, text: str) -> None:
    """Write a file, or raise InputError if it cannot be written."""
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as reason:
        raise InputError(f"cannot write {path}: {reason.strerror}") from None
