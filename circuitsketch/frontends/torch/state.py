"""The state of a PyTorch training: which of its leaves a circuit carries, and how they are put back.

In: a pytree of tensors, arrays and numbers. Out: nested dicts and lists of the leaves that weights reach, by their
paths, and the pytree again. What is not numbers (texts, booleans, None) stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from circuitsketch.arguments import text_of
from circuitsketch.arrays import plain_array, real_array
from circuitsketch.errors import InputError
from circuitsketch.frontends.imported import fingerprint, flatten_pytree
from circuitsketch.frontends.numpy import Wire
from circuitsketch.tree import Tree, flatten_up_to, join_path, parse_paths, unflatten


def is_number(leaf: Any) -> bool:
    """Return whether a leaf is numbers."""
    if isinstance(leaf, torch.Tensor | Wire):
        return True
    if isinstance(leaf, bool) or not isinstance(leaf, np.ndarray | np.generic | int | float):
        return False
    return np.asarray(leaf).dtype.kind in "fiub"


def tensor_of(leaf: Any) -> torch.Tensor:
    """Return a leaf as a tensor of its own; numbers have PyTorch's default dtype."""
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().clone()
    if isinstance(leaf, np.ndarray):
        return torch.tensor(narrowed(plain_array(leaf, "an array of the state or of a batch")))
    try:
        return torch.tensor(narrowed(leaf).item() if isinstance(leaf, np.generic) else leaf)
    except (OverflowError, RuntimeError, ValueError) as reason:
        raise InputError(f"a number of the state or of a batch does not fit into a tensor: {reason}") from None


def narrowed(array: Any) -> Any:
    """Return an array of NumPy's with floats of at most double precision, as PyTorch has them."""
    return array.astype(np.float64) if array.dtype == np.longdouble and array.dtype != np.float64 else array


def name_of(key: Any) -> str:
    """Return an entry of a path as a name."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return text_of(getattr(key, attribute))
    return text_of(key)


@dataclass(frozen=True)
class Leaves:
    """A pytree whose numbers can be replaced.

    Attributes
    ----------
    structure : PyTorch's. names : the paths of its numbers. positions : of these among all leaves.
    others : the other leaves, by position.
    """

    structure: Any
    names: tuple[str, ...]
    positions: tuple[int, ...]
    others: Mapping[int, Any]

    @staticmethod
    def of(value: Any, root: str) -> tuple[list[Any], Leaves]:
        """Return the numbers of a pytree, and what remains of it."""
        pairs, structure = flatten_pytree(pytree.tree_flatten_with_path, value, root)
        names, positions = [], []
        for position, (path, leaf) in enumerate(pairs):
            if not is_number(leaf):
                continue
            name = root
            for key in path:
                name = join_path(name, name_of(key))
            names.append(name)
            positions.append(position)
        others = {i: leaf for i, (_, leaf) in enumerate(pairs) if i not in set(positions)}
        return [pairs[i][1] for i in positions], Leaves(structure, tuple(names), tuple(positions), others)

    def rebuild(self, numbers: Sequence[Any]) -> Any:
        """Return the pytree with other numbers."""
        leaves = dict(zip(self.positions, numbers, strict=True)) | dict(self.others)
        return pytree.tree_unflatten([leaves[i] for i in range(len(leaves))], self.structure)

    @property
    def key(self) -> Any:
        """What tells two pytrees of equal shapes apart."""
        return self.names, tuple((i, fingerprint(leaf)) for i, leaf in self.others.items())


@dataclass(frozen=True)
class StateLayout:
    """Where the leaves of a training's state are.

    Attributes
    ----------
    leaves : the structure of the user's state. dtypes : of its leaves.
    reached : the positions of those that weights reach.
    final : the values of the others after the last step, by position.
    """

    leaves: Leaves
    dtypes: tuple[torch.dtype, ...]
    reached: tuple[int, ...]
    final: Mapping[int, torch.Tensor]

    @property
    def tree(self) -> Tree:
        """The structure of nested dicts and lists of the leaves that weights reach."""
        return parse_paths([self.leaves.names[i] for i in self.reached])

    def nest(self, leaves: Sequence[Any]) -> Any:
        """Return the leaves that weights reach as nested dicts and lists."""
        return unflatten(self.tree, list(leaves))

    def merge(self, state: Any) -> Any:
        """Return the user's pytree, with the leaves of a state of the run as they are."""
        leaves: dict[int, Any] = {i: value.detach().numpy() for i, value in self.final.items()}
        leaves |= dict(zip(self.reached, flatten_up_to(self.tree, state), strict=True))
        return self.leaves.rebuild([leaves[i] for i in range(len(leaves))])

    def to_torch(self, state: Any) -> Any:
        """Return the user's pytree of tensors, in the dtypes of the initial state."""
        leaves = dict(self.final) | {
            i: torch.tensor(real_array(leaf, self.leaves.names[i])).to(self.dtypes[i])
            for i, leaf in zip(self.reached, flatten_up_to(self.tree, state), strict=True)
        }
        return self.leaves.rebuild([leaves[i] for i in range(len(leaves))])


def check_names(names: Sequence[str]) -> None:
    """Raise InputError if two leaves of a state have one path."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two leaves of the state have the path {twice[0]}; give the keys of its dicts distinct names")
