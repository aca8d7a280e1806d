"""Pytrees: dicts, lists, tuples, named tuples and dataclasses of arrays, flattened to leaves and put together again.

Dict leaves come in the order of insertion, so that a flat parameter vector reads like the program that made it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from circuitsketch.errors import InputError


@dataclass(frozen=True, slots=True)
class Tree:
    """The structure of a pytree without its leaves. `kind` is None for a leaf, else the container's type."""

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Tree, ...] = ()

    @property
    def size(self) -> int:
        """The number of leaves."""
        return 1 if self.kind is None else sum(child.size for child in self.children)

    def names(self, prefix: str = "") -> list[str]:
        """A dotted path for each leaf."""
        if self.kind is None:
            return [prefix or "value"]
        found: list[str] = []
        for key, child in zip(self.keys, self.children, strict=True):
            found += child.names(joined(prefix, key))
        return found


LEAF = Tree(None)
DEEPEST = 100  # levels of a pytree


def parts(value: Any) -> tuple[type, tuple[Any, ...], tuple[Any, ...]] | None:
    """The container type, keys and children of a pytree's root; None for a leaf."""
    if value is None:
        return type(None), (), ()
    if isinstance(value, dict):
        return dict, tuple(value.keys()), tuple(value.values())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value), tuple(value._fields), tuple(value)
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        return kind, tuple(range(len(value))), tuple(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = tuple(field.name for field in dataclasses.fields(value))
        return type(value), fields, tuple(getattr(value, name) for name in fields)
    return None


def flatten(value: Any, depth: int = 0) -> tuple[list[Any], Tree]:
    """The leaves of a pytree and its structure. InputError: it is nested deeper than DEEPEST, perhaps in itself."""
    found = parts(value)
    if found is None:
        return [value], LEAF
    if depth > DEEPEST:
        raise InputError(f"a pytree is nested more than {DEEPEST} levels deep; does a list hold itself?")
    kind, keys, children = found
    leaves: list[Any] = []
    trees = []
    for child in children:
        below, tree = flatten(child, depth + 1)
        leaves += below
        trees.append(tree)
    return leaves, Tree(kind, keys, tuple(trees))


def unflatten(tree: Tree, leaves: list[Any] | tuple[Any, ...]) -> Any:
    """The pytree of this structure with these leaves."""
    rest = iter(leaves)

    def build(tree: Tree) -> Any:
        if tree.kind is None:
            return next(rest)
        children = [build(child) for child in tree.children]
        if tree.kind is type(None):
            return None
        if tree.kind is dict:
            return dict(zip(tree.keys, children, strict=True))
        if tree.kind in (list, tuple):
            return tree.kind(children)
        return tree.kind(**dict(zip(tree.keys, children, strict=True)))

    if len(leaves) != tree.size:
        raise InputError(f"a tree of {tree.size} leaves cannot be made of {len(leaves)}")
    return build(tree)


def leaves_like(tree: Tree, value: Any, path: str = "") -> list[Any]:
    """The leaves of a pytree in the order of a structure that it must have; dicts may order their keys otherwise.

    >>> leaves_like(flatten({"a": 0, "b": 0})[1], {"b": 2, "a": 1})
    [1, 2]
    """
    if tree.kind is None:
        if parts(value) is not None:
            raise InputError(f"pytrees of different structure: {path or 'the root'} is a leaf in one, not in the other")
        return [value]
    found = parts(value)
    if found is None or found[0] is not tree.kind or set(found[1]) != set(tree.keys):
        got = "a leaf" if found is None else f"a {found[0].__name__} of {list(found[1])}"
        raise InputError(
            f"pytrees of different structure: {path or 'the root'} is a {tree.kind.__name__} of "
            f"{list(tree.keys)} in one, {got} in the other"
        )
    children = dict(zip(found[1], found[2], strict=True))
    leaves = []
    for key, child in zip(tree.keys, tree.children, strict=True):
        leaves += leaves_like(child, children[key], f"{path}.{key}" if path else str(key))
    return leaves


def transform(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """Apply a function to the leaves of pytrees of one structure.

    >>> transform(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    leaves, tree = flatten(value)
    columns = [leaves, *(leaves_like(tree, other) for other in others)]
    return unflatten(tree, [function(*row) for row in zip(*columns, strict=True)])


def joined(prefix: str, key: Any) -> str:
    """The path of a child: `prefix.key`, or `prefix['a.b']` for a key that has dots or brackets of its own."""
    name = str(key)
    if prefix and set(name) & set(".[]'"):
        return f"{prefix}[{name!r}]"
    return f"{prefix}.{name}" if prefix else name


def tree_of(names: Sequence[str]) -> Tree:
    """A structure of dicts and lists with leaves of these paths, the first part of which is the root's name.

    >>> unflatten(tree_of(["state.w", "state['b.c'].0", "state['b.c'].1"]), [1, 2, 3])
    {'w': 1, 'b.c': [2, 3]}
    """
    part = re.compile(r"\.([^.\[]+)|\[('[^']*'|\"[^\"]*\")\]")
    rest = [[plain or quoted[1:-1] for plain, quoted in part.findall(name)] for name in names]

    def build(paths: list[list[str]]) -> Tree:
        if paths == [[]]:
            return LEAF
        keys = list(dict.fromkeys(path[0] for path in paths))
        children = tuple(build([path[1:] for path in paths if path[0] == key]) for key in keys)
        if keys == [str(i) for i in range(len(keys))]:
            return Tree(list, tuple(range(len(keys))), children)
        return Tree(dict, tuple(keys), children)

    return build(rest)
