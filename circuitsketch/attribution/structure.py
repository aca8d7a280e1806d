"""A measurement that is a pytree: its leaves lie one after the other in one vector, and come back as the pytree.

In: the circuit of a measurement, or a value of it. Out: vectors for the estimators, pytrees for whoever asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.arrays import real_array
from circuitsketch.circuit import Circuit
from circuitsketch.errors import InputError, printable
from circuitsketch.gates import cells
from circuitsketch.tree import Tree, flatten, flatten_up_to, unflatten


@dataclass(frozen=True)
class Structure:
    """The structure of a measurement whose value is a pytree: its tree, and the shape of every leaf."""

    tree: Tree
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(circuit: Circuit) -> Structure | None:
        """The structure of a measurement's value; None for one number or array."""
        if circuit.out_tree.kind is None:
            return None
        return Structure(circuit.out_tree, tuple(circuit.nodes[wire].shape for wire in circuit.outputs))

    @property
    def size(self) -> int:
        """The number of numbers in all leaves."""
        return sum(cells(shape) for shape in self.shapes)

    @property
    def names(self) -> list[str]:
        """The path of every number, such as `w[0, 1]`."""
        names = []
        for name, shape in zip(self.tree.names(), self.shapes, strict=True):
            names += [printable(name) + (str([*map(int, index)]) if shape else "") for index in np.ndindex(*shape)]
        return names

    def leaves(self, flat: Any) -> list[Any]:
        """Split (..., size) into an array (..., *shape) for each leaf; a single number is a float or a bool."""
        array = np.asarray(flat)
        ends = np.cumsum([cells(shape) for shape in self.shapes])[:-1]
        parts = np.split(array, ends, axis=-1)
        leaves = [part.reshape((*array.shape[:-1], *shape)) for part, shape in zip(parts, self.shapes, strict=True)]
        return [leaf.item() if leaf.ndim == 0 else leaf for leaf in leaves]

    def pack(self, flat: Any) -> Any:
        """Return the pytree of arrays (..., *shape) that a vector (..., size) stands for."""
        return unflatten(self.tree, self.leaves(flat))

    def flat(self, value: Any, lead: int = 0) -> np.ndarray:
        """Flatten a pytree to (..., size), with `lead` axes in front; an array of that form stays as it is.

        InputError: another structure, or leaves of other shapes.
        """
        if isinstance(value, np.ndarray):
            return value
        named = zip(flatten_up_to(self.tree, value), self.tree.names(), strict=True)
        leaves = [real_array(leaf, name) for leaf, name in named]
        for name, leaf, shape in zip(self.tree.names(), leaves, self.shapes, strict=True):
            if leaf.shape[lead:] != shape:
                raise InputError(f"{name} has shape {leaf.shape}; the measurement's has {shape} after {lead} axes")
        return np.concatenate([leaf.reshape(*leaf.shape[:lead], -1) for leaf in leaves], axis=-1)

    def plain(self, flat: Any) -> Any:
        """Return the pytree as JSON can hold it: containers as dicts by name and lists, arrays as lists."""

        def build(tree: Tree, rest: Any) -> Any:
            if tree.kind is None:
                leaf = next(rest)
                return leaf.tolist() if isinstance(leaf, np.ndarray) else leaf
            children = [build(child, rest) for child in tree.children]
            if tree.kind in (list, tuple):
                return children
            return dict(zip(map(str, tree.keys), children, strict=True)) if tree.keys else None

        return build(self.tree, iter(self.leaves(flat)))


def number_of(value: Any) -> np.ndarray:
    """Return a measured value as float64: an array as it is, a pytree as the vector of its leaves."""
    leaves, tree = flatten(value)
    if tree.kind is None:
        return real_array(value, "a measured value")
    return np.concatenate([np.zeros(0), *(real_array(leaf, "a measured value").ravel() for leaf in leaves)])
