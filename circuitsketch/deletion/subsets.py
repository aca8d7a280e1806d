"""What people call the examples that go: ids, masks, weights, group labels, or a question asked of each example.

In: any of these, and what is known of the examples. Out: downweights. Ids, masks and weights are left to
`training.weights`; here labels and predicates become masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from circuitsketch.errors import InputError
from circuitsketch.training.training import is_many
from circuitsketch.training.weights import downweights, many_downweights

NOTHING: Any = object()  # that no group was named: None may be a label


def downweights_of(
    what: Any, n: int, labels: Sequence[Any] | None, items: Sequence[Any] | None, group: Any = NOTHING
) -> np.ndarray:
    """Downweights (n,) of one subset, or (B, n) of many.

    what : as `training.weights`; a list of such, a 2-D array; a label that is a string, or a list of strings;
    a function of
        an example. group : a label of any kind.

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
    if labels is None:
        raise InputError(
            f"group {wanted[0]!r} was named, and nothing is known of groups: give the run labels=, one an example"
        )
    for name in wanted:
        if name not in set(labels):
            known = sorted({repr(label) for label in labels})
            shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
            raise InputError(f"there is no group {name!r}; the labels are {shown}")
    chosen = set(wanted)
    return np.array([label in chosen for label in labels], dtype=np.float64)


def of_question(question: Callable[[Any], Any], n: int, items: Sequence[Any] | None) -> np.ndarray:
    """1 for the examples of which `question(example)` is true."""
    if items is None:
        raise InputError(
            "a function was given, and nothing is known of the examples: give the run items=, one an example"
        )
    answers = [question(item) for item in items]
    for item, answer in zip(items, answers, strict=True):
        if not isinstance(answer, bool | np.bool_):
            raise InputError(
                f"the function says {answer!r} of the example {item!r}; let it return True or False"
            )
    return downweights(np.array(answers, dtype=bool), n)


def checked(known: Sequence[Any] | None, n: int, name: str) -> tuple[Any, ...] | None:
    """Labels or items as a tuple of length n, or None."""
    if known is None:
        return None
    if isinstance(known, str | bytes) or not hasattr(known, "__len__") or len(known) != n:
        size = len(known) if hasattr(known, "__len__") else 1
        raise InputError(f"{name} has {size} entries for {n} examples; give a list with one an example")
    made = tuple(x.item() if isinstance(x, np.generic) else x for x in known)
    if name == "labels":
        try:
            set(made)
        except TypeError as reason:
            raise InputError(
                f"labels are compared, so each must be hashable (a string, a number): {reason}"
            ) from None
    return made
