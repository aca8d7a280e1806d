"""The state of a JAX training: which of its leaves a circuit carries, and how they are put back.

In: a pytree of any kind that JAX knows (dicts, named tuples of optax, flax's and equinox's modules). Out: nested dicts
and lists of the leaves that weights reach, by the paths that JAX gives them, and the pytree again. What is not numbers
(functions, texts, booleans) stays as it is.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from circuitsketch.arguments import quoted, text_of
from circuitsketch.arrays import explain_lost_meaning
from circuitsketch.errors import InputError
from circuitsketch.frontends.imported import fingerprint, flatten_pytree
from circuitsketch.frontends.numpy import Wire
from circuitsketch.tree import Tree, flatten_up_to, join_path, parse_paths, unflatten


def is_array(leaf: Any) -> bool:
    """Return whether a leaf is numbers, or keys, that JAX can trace."""
    if isinstance(leaf, jax.Array | Wire):
        return True
    if isinstance(leaf, bool | str | bytes) or not isinstance(leaf, np.ndarray | np.generic | int | float | complex):
        return False
    return np.asarray(leaf).dtype.kind in "fiubcV"


def spec_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return the shape of a leaf and JAX's dtype for it."""
    dtype = (
        leaf.dtype
        if isinstance(leaf, jax.Array)
        else np.asarray(leaf).dtype
        if not isinstance(leaf, Wire)
        else leaf.dtype
    )
    if not isinstance(leaf, jax.Array):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype)


def explain_refusal(leaf: Any) -> str | None:
    """Return why JAX does not take a leaf as numbers, or None."""
    if isinstance(leaf, np.ndarray | np.generic):
        if (reason := explain_lost_meaning(leaf)) is not None:
            return f"is {reason}"
        is_number = leaf.dtype.kind in "fiubc" or jax.numpy.issubdtype(leaf.dtype, np.number)  # bfloat16 and its like
        return None if is_number else f"is an array of dtype {leaf.dtype}; pass arrays of numbers"
    if isinstance(leaf, int):
        bounds = np.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
        if not bounds.min <= leaf <= bounds.max:
            return f"is {quoted(leaf)}, which does not fit into JAX's {bounds.dtype}; pass a float"
    return None


def narrowed(leaf: Any) -> Any:
    """Return numbers with at most double precision, as JAX has them."""
    wide: dict[Any, Any] = {np.dtype(np.longdouble): np.float64, np.dtype(np.clongdouble): np.complex128}
    dtype = wide.get(leaf.dtype, leaf.dtype) if isinstance(leaf, np.ndarray | np.generic) else None
    return leaf if dtype is None or dtype == leaf.dtype else leaf.astype(dtype)


def name_of(key: Any) -> str:
    """Return an entry of a path of JAX's as a name."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return text_of(getattr(key, attribute))
    return text_of(key)


def leaf_names(state: Any, root: str) -> list[str]:
    """Return the path of every leaf of a pytree."""
    names = []
    for path, _ in flatten_pytree(jax.tree_util.tree_flatten_with_path, state, root)[0]:
        name = root
        for key in path:
            name = join_path(name, name_of(key))
        names.append(name)
    return names


@dataclass(frozen=True)
class Arrays:
    """A pytree whose arrays can be replaced: its structure, and the leaves that are not arrays.

    Attributes
    ----------
    structure : JAX's.
    positions : of the arrays among the leaves.
    others : the other leaves, by position.
    """

    structure: Any
    positions: tuple[int, ...]
    others: Mapping[int, Any]

    @staticmethod
    def of(value: Any, root: str, numbers: Container[int] | None = None) -> tuple[list[Any], Arrays]:
        """Return the arrays of a pytree, and what remains of it.

        root : how messages call it. numbers : which of Python's numbers are arrays, by position; by default all but
        booleans.
        """
        leaves, structure = flatten_pytree(jax.tree_util.tree_flatten, value, root)
        positions = tuple(
            i
            for i, leaf in enumerate(leaves)
            if (i in numbers if numbers is not None and isinstance(leaf, int | float) else is_array(leaf))
        )
        others = {i: leaf for i, leaf in enumerate(leaves) if i not in set(positions)}
        for i in positions:
            if (problem := explain_refusal(leaves[i])) is not None:
                raise InputError(f"{leaf_names(value, root)[i]} {problem}")
        return [narrowed(leaves[i]) for i in positions], Arrays(structure, positions, others)

    def changed_numbers(self, value: Any) -> list[int]:
        """Return the positions of those of Python's numbers that are others in a pytree of this structure."""
        leaves = jax.tree_util.tree_leaves(value)
        numbers = (i for i, leaf in self.others.items() if isinstance(leaf, int | float))
        return [i for i in numbers if not isinstance(leaves[i], int | float) or leaves[i] != self.others[i]]

    def rebuild(self, arrays: Sequence[Any]) -> Any:
        """Return the pytree with other arrays."""
        leaves = dict(zip(self.positions, arrays, strict=True)) | dict(self.others)
        return jax.tree_util.tree_unflatten(self.structure, [leaves[i] for i in range(len(leaves))])

    @property
    def key(self) -> Any:
        """What tells two pytrees of arrays of equal shapes apart."""
        return self.structure, self.positions, tuple((i, fingerprint(leaf)) for i, leaf in self.others.items())


def array_leaves(value: Any) -> list[Any]:
    """Return the arrays of a pytree."""
    return Arrays.of(value, "the parameters", ())[0]


@dataclass(frozen=True)
class StateLayout:
    """Where the leaves of a training's state are.

    Attributes
    ----------
    arrays : the structure of JAX's state.
    names : the paths of its arrays.
    reached : the positions of those that weights reach.
    final : the values of the others after the last step, by position.
    """

    arrays: Arrays
    names: tuple[str, ...]
    reached: tuple[int, ...]
    final: Mapping[int, Any]

    @property
    def tree(self) -> Tree:
        """The structure of nested dicts and lists of the leaves that weights reach."""
        return parse_paths([self.names[i] for i in self.reached])

    def nest(self, leaves: Sequence[Any]) -> Any:
        """Return the leaves that weights reach as nested dicts and lists."""
        return unflatten(self.tree, list(leaves))

    def to_jax(self, state: Any) -> Any:
        """Return JAX's state; the leaves that no weight reaches are those after the last step."""
        leaves = dict(self.final) | dict(zip(self.reached, flatten_up_to(self.tree, state), strict=True))
        return self.arrays.rebuild([leaves[i] for i in range(len(leaves))])


def check_names(names: Sequence[str]) -> None:
    """Raise InputError if two leaves of a state have one path."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two leaves of the state have the path {twice[0]}; give the keys of its dicts distinct names")
