"""Parse deletion sets: ids, masks, weights, group labels, or predicates.

In: any of these, and the examples' labels and items. Out: downweights. Module `weights` parses ids, masks and weights;
this module converts labels and predicates, and checks the labels and items themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import as_list, call, check_hashable, quoted
from circuitsketch.arrays import explain_lost_meaning
from circuitsketch.errors import InputError
from circuitsketch.training.weights import is_list_of_subsets, parse_subset, parse_subsets

NOTHING: Any = object()  # the default of `label`, because None may be a label


def downweights_of(
    what: Any, n: int, labels: Sequence[Any] | None, items: Sequence[Any] | None, label: Any = NOTHING
) -> np.ndarray:
    """Return the downweights (n,) of one subset, or (subsets, n) of several.

    Parameters
    ----------
    what : ids, mask, downweights, str, callable, or a list of these
        Anything `weights.downweights` accepts; a list of such or a 2-D array; a label that is a string, or a list of
        strings; a predicate on an example's item.
    n : int
        The number of examples.
    labels, items : sequence or None
        What is known of the examples.
    label : hashable
        A label of any type, instead of `what`.

    Examples
    --------
    >>> downweights_of("b", 3, ["a", "b", "b"], None), downweights_of(lambda x: x > 1, 3, None, [1, 2, 0])
    (array([0., 1., 1.]), array([0., 1., 0.]))
    """
    if label is not NOTHING:
        if what is not None:
            raise InputError("pass examples or label=, not both")
        return select_groups([label], n, labels)
    if isinstance(what, str):
        return select_groups([what], n, labels)
    if isinstance(what, list | tuple | set | frozenset) and what and all(isinstance(x, str) for x in what):
        return select_groups(list(what), n, labels)
    if callable(what):
        return select_matching(what, n, items)
    if is_list_of_subsets(what):
        return parse_subsets(what, n)
    return parse_subset(what, n)


def select_groups(names: list[Any], n: int, labels: Sequence[Any] | None) -> np.ndarray:
    """Return 1 for the examples that belong to any of the named groups, else 0."""
    for name in names:
        check_hashable(name, "group")
    if labels is None:
        raise InputError(
            f"group {quoted(names[0])} is unknown, because the run has no labels; pass labels=, one per example"
        )
    for name in names:
        if name not in set(labels):
            known = [quoted(label) for label in in_order(labels)]
            shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
            raise InputError(f"there is no group {quoted(name)}; the labels are {shown}")
    chosen = set(names)
    return np.array([label in chosen for label in labels], dtype=np.float64)


def in_order(labels: Iterable[Any]) -> list[Any]:
    """Return the distinct labels in natural order: numbers by size, text with embedded numbers by size.

    >>> in_order([100, 2, 10, 2]), in_order(["b10", "b9", "a"])
    ([2, 10, 100], ['a', 'b9', 'b10'])
    """

    def key(label: Any) -> Any:
        if isinstance(label, int | float | np.number):
            return 0, float(label), []
        text = re.split(r"(\d+)", str(label))
        return 1, 0.0, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text if part]

    return sorted(dict.fromkeys(labels), key=key)


def select_matching(predicate: Callable[[Any], Any], n: int, items: Sequence[Any] | None) -> np.ndarray:
    """Return 1 for the examples whose item satisfies a predicate, else 0."""
    if items is None:
        raise InputError(
            "a function selects examples by their items, but the run has no items; pass items=, one per example"
        )
    answers = [call(predicate, "the function", item) for item in items]
    for item, answer in zip(items, answers, strict=True):
        if not isinstance(answer, bool | np.bool_):
            raise InputError(
                f"the function returned {quoted(answer)} for the item {quoted(item)}; it must return True or False"
            )
    return parse_subset(np.array(answers, dtype=bool), n)


def entry_per_example(values: Any, n: int, name: str) -> tuple[Any, ...] | None:
    """Return a sequence with one entry per example as a tuple; None stays None."""
    if values is None:
        return None
    if (reason := explain_lost_meaning(values)) is not None:
        raise InputError(f"{name} is {reason}")
    plain = values.tolist() if isinstance(values, np.ndarray) and values.ndim == 1 else values
    entries = tuple(as_list(plain, name, "one entry per example"))
    if len(entries) != n:
        raise InputError(
            f"{name} has {len(entries)} entries for n = {n} examples; pass one per example, in the order of their ids"
        )
    return entries


def check_labels(values: Any, n: int, name: str = "labels") -> tuple[Any, ...] | None:
    """Return labels, one per example, as a tuple; raise InputError if one is not hashable and equal to itself."""
    labels = entry_per_example(values, n, name)
    for i, label in enumerate(labels or ()):
        check_hashable(label, f"{name}[{i}]")
    return labels
