"""A circuit: the program as data, a DAG of array gates that can be printed, measured, drawn and expanded.

In: nodes in topological order. Out: a frozen record. `node` defines nodes, `graph` the queries of the graph, `text` the
listing, and `expansion` the expansion to scalar gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from circuitsketch.circuit.expansion import expand
from circuitsketch.circuit.graph import Graph
from circuitsketch.circuit.text import html, text


@dataclass(frozen=True, eq=False, repr=False)
class Circuit(Graph):
    """A DAG of array gates, with named inputs and outputs.

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
        """Return the same program in scalar gates, for a small circuit.

        Parameters
        ----------
        *indices : array_like of int
            The values of the circuit's integer inputs, in order. Indices determine the wiring of a scalar circuit, so
            these inputs become constants.

        Returns
        -------
        Circuit
            A circuit of scalar gates.

        Raises
        ------
        InputError
            If the number of values differs from the number of integer inputs.
        """
        scalar = expand(self, *indices)
        return Circuit(scalar.nodes, scalar.inputs, scalar.outputs, scalar.input_names)

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return html(self)

    def __repr__(self) -> str:
        return f"<Circuit of {len(self.nodes)} nodes, size {self.size:,}, depth {self.depth}>"
