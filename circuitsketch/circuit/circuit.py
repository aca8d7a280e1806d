"""A circuit: the program as data, a DAG of array gates that can be printed, measured, drawn and expanded.

In: nodes in topological order. Out: a frozen record. Its nodes are told in `node`, what can be asked of it as a graph
in `graph`, its text in `text`, its scalar gates in `expansion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from circuitsketch.circuit.expansion import expand
from circuitsketch.circuit.graph import Graph
from circuitsketch.circuit.text import html, text


@dataclass(frozen=True, eq=False, repr=False)
class Circuit(Graph):
    """A DAG of array gates, with names for what comes in and goes out.

    Attributes
    ----------
    nodes : tuple of Node
        In topological order; node i's wire is i.
    inputs : tuple of int
        The input wires, in the order of the leaves of the traced function's arguments.
    outputs : tuple of int
        The output wires, in the order of the leaves of its result.
    input_names : tuple of str
        A path for each input leaf, such as `params.w1`.
    in_tree : Tree
        The structure of the arguments (see `circuitsketch.tree`).
    out_tree : Tree
        The structure of the result.
    output_names : tuple of str
        A path for each output leaf, such as `out.loss`.
    """

    def expand(self, *indices: Any) -> Circuit:
        """Return the same program in scalar gates; for small circuits.

        Parameters
        ----------
        indices : the values of the circuit's integer inputs, in their order: where a gather reads is part of a scalar
            circuit's wiring, and these inputs are constants of it.

        Raises
        ------
        InputError : when integer inputs are missing, or when there are too many.
        """
        scalar = expand(self, *indices)
        return Circuit(scalar.nodes, scalar.inputs, scalar.outputs, scalar.input_names)

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return html(self)

    def __repr__(self) -> str:
        return f"<Circuit of {len(self.nodes)} nodes, size {self.size:,}, depth {self.depth}>"
