"""Pytrees: nested dicts, lists, tuples, named tuples and dataclasses of arrays, flattened to leaves and rebuilt.

The leaves of a dict are in insertion order, so that a flat parameter vector follows the program that created it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        """Return a dotted path for each leaf."""
        if self.kind is None:
            return [prefix or "value"]
        names: list[str] = []
        for key, child in zip(self.keys, self.children, strict=True):
            names += child.names(join_path(prefix, key))
        return names


LEAF = Tree(None)
DEEPEST = 100  # most levels of a pytree
TOO_DEEP = f"a pytree is nested more than {DEEPEST} levels deep; does a list contain itself?"


@contextmanager
def refuse_too_deep() -> Iterator[None]:
    """Turn what another library raises for a pytree that is nested too deep for it into an InputError."""
    try:
        yield
    except (RecursionError, SystemError):  # JAX's C++ raises the latter
        raise InputError(TOO_DEEP) from None


def open_container(value: Any) -> tuple[type, tuple[Any, ...], tuple[Any, ...]] | None:
    """Return the container type, keys and children of a pytree's root, or None for a leaf."""
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
    """Return the leaves of a pytree and its structure; raise InputError if it is nested deeper than DEEPEST."""
    root = open_container(value)
    if root is None:
        return [value], LEAF
    if depth > DEEPEST:
        raise InputError(TOO_DEEP)
    kind, keys, children = root
    leaves: list[Any] = []
    trees = []
    for child in children:
        below, tree = flatten(child, depth + 1)
        leaves += below
        trees.append(tree)
    return leaves, Tree(kind, keys, tuple(trees))


def unflatten(tree: Tree, leaves: list[Any] | tuple[Any, ...]) -> Any:
    """Return the pytree with this structure and these leaves."""
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
        raise InputError(f"a pytree of {tree.size} leaves cannot be built from {len(leaves)}")
    return build(tree)


def flatten_up_to(tree: Tree, value: Any, path: str = "") -> list[Any]:
    """Return the leaves of a pytree in the order of a given structure; the key order of dicts may differ.

    >>> flatten_up_to(flatten({"a": 0, "b": 0})[1], {"b": 2, "a": 1})
    [1, 2]
    """
    if tree.kind is None:
        if open_container(value) is not None:
            raise InputError(f"pytrees have different structures: {path or 'the root'} is a leaf in only one of them")
        return [value]
    root = open_container(value)
    if root is None or root[0] is not tree.kind or set(root[1]) != set(tree.keys):
        got = "a leaf" if root is None else f"a {root[0].__name__} of {list(root[1])}"
        raise InputError(
            f"pytrees have different structures: {path or 'the root'} is a {tree.kind.__name__} of "
            f"{list(tree.keys)} in one and {got} in the other"
        )
    children = dict(zip(root[1], root[2], strict=True))
    leaves = []
    for key, child in zip(tree.keys, tree.children, strict=True):
        leaves += flatten_up_to(child, children[key], f"{path}.{key}" if path else str(key))
    return leaves


def tree_map(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """Apply a function to corresponding leaves of pytrees with the same structure.

    >>> tree_map(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    leaves, tree = flatten(value)
    columns = [leaves, *(flatten_up_to(tree, other) for other in others)]
    return unflatten(tree, [function(*row) for row in zip(*columns, strict=True)])


def join_path(prefix: str, key: Any) -> str:
    """Return the path of a child: `prefix.key`, or `prefix['a.b']` if the key itself contains dots or brackets."""
    name = str(key)
    if prefix and set(name) & set(".[]'"):
        return f"{prefix}[{name!r}]"
    return f"{prefix}.{name}" if prefix else name


def parse_paths(names: Sequence[str]) -> Tree:
    """Return the structure of dicts and lists whose leaves have these paths; each path starts with the root's name.

    >>> unflatten(parse_paths(["state.w", "state['b.c'].0", "state['b.c'].1"]), [1, 2, 3])
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
