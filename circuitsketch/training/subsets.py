"""What people call the examples that go: ids, masks, weights, group labels, or a question asked of each example.

In: any of these, and what is known of the examples. Out: downweights. Ids, masks and weights are left to `weights`;
here what is known of the examples is checked, and labels and predicates become masks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import as_list, call, check_hashable, quoted
from circuitsketch.arrays import lost_meaning
from circuitsketch.errors import InputError
from circuitsketch.training.weights import downweights, is_many, many_downweights

NOTHING: Any = object()  # that no group was named: None may be a label


def downweights_of(
    what: Any, n: int, labels: Sequence[Any] | None, items: Sequence[Any] | None, group: Any = NOTHING
) -> np.ndarray:
    """Downweights (n,) of one subset, or (B, n) of many.

    what : as `weights`; a list of such, a 2-D array; a label that is a string, or a list of strings; a
        function of an example. group : a label of any kind.

    >>> downweights_of("b", 3, ["a", "b", "b"], None), downweights_of(lambda x: x > 1, 3, None, [1, 2, 0])
    (array([0., 1., 1.]), array([0., 1., 0.]))
    """
    if group is not NOTHING:
        if what is not None:
            raise InputError("name the examples or a group=, not both")
        return of_groups([group], n, labels)
    if isinstance(what, str):
        return of_groups([what], n, labels)
    if isinstance(what, list | tuple | set | frozenset) and what and all(isinstance(x, str) for x in what):
        return of_groups(list(what), n, labels)
    if callable(what):
        return of_question(what, n, items)
    if is_many(what):
        return many_downweights(what, n)
    return downweights(what, n)


def of_groups(wanted: list[Any], n: int, labels: Sequence[Any] | None) -> np.ndarray:
    """1 for the examples of any of these groups."""
    for name in wanted:
        check_hashable(name, "group")
    if labels is None:
        raise InputError(
            f"group {quoted(wanted[0])} was named, and nothing is known of groups: give the run labels=, one an example"
        )
    for name in wanted:
        if name not in set(labels):
            known = [quoted(label) for label in in_order(labels)]
            shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
            raise InputError(f"there is no group {quoted(name)}; the labels are {shown}")
    chosen = set(wanted)
    return np.array([label in chosen for label in labels], dtype=np.float64)


def in_order(labels: Iterable[Any]) -> list[Any]:
    """Each label once, numbers by size, text with the numbers in it by size.

    >>> in_order([100, 2, 10, 2]), in_order(["b10", "b9", "a"])
    ([2, 10, 100], ['a', 'b9', 'b10'])
    """

    def key(label: Any) -> Any:
        if isinstance(label, int | float | np.number):
            return 0, float(label), []
        text = re.split(r"(\d+)", str(label))
        return 1, 0.0, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text if part]

    return sorted(dict.fromkeys(labels), key=key)


def of_question(question: Callable[[Any], Any], n: int, items: Sequence[Any] | None) -> np.ndarray:
    """1 for the examples of which `question(example)` is true."""
    if items is None:
        raise InputError(
            "a function was given, and nothing is known of the examples: give the run items=, one an example"
        )
    answers = [call(question, "the function", item) for item in items]
    for item, answer in zip(items, answers, strict=True):
        if not isinstance(answer, bool | np.bool_):
            raise InputError(
                f"the function says {quoted(answer)} of the example {quoted(item)}; let it return True or False"
            )
    return downweights(np.array(answers, dtype=bool), n)


def one_an_example(values: Any, n: int, name: str) -> tuple[Any, ...] | None:
    """Something for every example, as a tuple; None stays None."""
    if values is None:
        return None
    if (reason := lost_meaning(values)) is not None:
        raise InputError(f"{name} is {reason}")
    plain = values.tolist() if isinstance(values, np.ndarray) and values.ndim == 1 else values
    found = tuple(as_list(plain, name, "one entry an example"))
    if len(found) != n:
        raise InputError(f"{name} has {len(found)} entries and the run {n} examples; give one an example, by id")
    return found


def check_labels(values: Any, n: int, name: str = "labels") -> tuple[Any, ...] | None:
    """Labels of the examples, which the user gave as `name`: hashable, and equal to themselves."""
    found = one_an_example(values, n, name)
    for i, label in enumerate(found or ()):
        check_hashable(label, f"{name}[{i}]")
    return found
