"""All leave-one-out effects, ranked; they print themselves as text and, in a notebook, as a listing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

import numpy as np

from circuitsketch.arguments import is_int, quoted
from circuitsketch.attribution.formatting import cut, figure, line
from circuitsketch.attribution.structure import Structure
from circuitsketch.checks.dependence import Constancy
from circuitsketch.display import listing
from circuitsketch.errors import InputError
from circuitsketch.estimators.interface import Effects


@dataclass(frozen=True, eq=False, repr=False)
class Influence:
    """The leave-one-out effect of each of n examples (or groups), h = e_i.

    Attributes
    ----------
    change, stderr : ndarray, of shape (n, *measurement)
        The change of the measurement when the example is left out, and its standard error.
    baseline : float or ndarray
        The measurement at h = 0.
    order : int
        The highest order.
    directions : int
        The number of directions.
    warnings : tuple of str
        Sentences that a reader must know.
    estimator : str
        The estimator, as for `Prediction`.
    shown : int
        How many examples `top` and the printed table list.
    unit : str
        What a coordinate of h is called.
    labels, items : sequence, or None
        Of the examples.
    """

    change: np.ndarray
    stderr: np.ndarray
    baseline: float | np.ndarray
    order: int
    directions: int
    warnings: tuple[str, ...] = ()
    estimator: str = "theorem"
    shown: int = 10
    unit: str = "example"
    labels: Sequence[Any] | None = None
    items: Sequence[Any] | None = None

    @staticmethod
    def of(effects: Effects, constancy: Constancy | None, **about: Any) -> Influence:
        """Describe the effects of all examples; where the measurement is locally constant, the error is unknown."""
        stderr, notes = effects.stderr, tuple[str, ...]()
        if constancy is not None:
            stderr, notes = np.where(constancy.flat, np.inf, stderr), constancy.notes
        return Influence(
            change=effects.change,
            stderr=stderr,
            order=effects.order,
            warnings=notes + effects.warnings,
            estimator=effects.estimator,
            **about,
        )

    def flattened(self) -> Influence:
        """The influence whose numbers are arrays: itself, but for a pytree, whose leaves lie one after the other."""
        return self

    def facts(self) -> list[tuple[str, Sequence[Any]]]:
        """Return the columns that describe the examples, by name: items and labels; of groups, whose items are labels,
        one."""
        one = self.unit == "group" and self.items is not None
        named = (self.unit, self.items), ("label", None if one else self.labels)
        return [(name, values) for name, values in named if values is not None]

    def top(self, k: int | None = None) -> np.ndarray:
        """Return the ids of the k examples with the surest large change, largest first.

        They are ranked by the change less its error (2-norms over the measurement) where the change is the larger one,
        the others by the change behind them, and those whose error is unknown last.
        """
        k = self.shown if k is None else k
        if not is_int(k, 1):
            raise InputError(f"the number of examples to show is an int of at least 1, not {quoted(k)}")
        change, stderr = (part.reshape(len(self.change), -1) for part in (self.change, self.stderr))
        size = np.linalg.norm(change, axis=1)
        error = np.linalg.norm(np.where(np.isinf(stderr), 0.0, stderr), axis=1)
        return np.lexsort((-size, -np.maximum(size - error, 0.0), np.isinf(stderr).all(axis=1)))[:k]

    def size(self, i: int) -> tuple[float, float]:
        """Return the 2-norms of an example's change and of its error, over the values whose error is known."""
        error = np.where(np.isinf(self.stderr[i]), 0.0, self.stderr[i])
        return float(np.linalg.norm(self.change[i])), float(np.linalg.norm(error))

    def _repr_html_(self) -> str:
        return listing(str(self))

    def __repr__(self) -> str:
        return f"<{str(self).splitlines()[0]}>"

    def __str__(self) -> str:
        facts, top = self.facts(), self.top()
        rows = [["id" if facts else self.unit, *(name for name, _ in facts)]]
        rows += [[str(i), *(cut(values[i]) for _, values in facts)] for i in top]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        texts = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)) for row in rows]
        lines = [
            f"influence of {len(self.change)} {self.unit}s, order {self.order}, "
            + {"per-example": "exact series", "first-order": "exact"}.get(
                self.estimator, f"{self.directions} directions"
            ),
            line(texts[0], ["change", "+-"] if self.change.ndim == 1 else ["|change|", "|+-|"]),
        ]
        for i, text in zip(top, texts[1:], strict=True):
            if self.change.ndim == 1:
                pair = self.change[i], self.stderr[i]
            else:
                pair = self.size(int(i))
            lines.append(line(text, [figure(x) if np.isfinite(x) else "unknown" for x in pair]))
        left = len(self.change) - self.shown
        if left > 0:
            lines.append(f"  ... and {left} smaller ones")
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])


@dataclass(frozen=True, eq=False, repr=False)
class TreeInfluence(Influence):
    """The influences on a measurement that is a pytree.

    change, stderr and baseline are such pytrees, the first two with leaves (n, *shape).

    Attributes
    ----------
    flat : Influence
        The same for the vector of all leaves, by whose norm `top` ranks.
    """

    _: KW_ONLY
    flat: Influence = field(repr=False)

    @staticmethod
    def packed(flat: Influence, structure: Structure) -> TreeInfluence:
        """The pytree that a vector's influences stand for."""
        values = {one.name: getattr(flat, one.name) for one in fields(Influence)}
        packed = {name: structure.pack(values[name]) for name in ("change", "stderr", "baseline")}
        return TreeInfluence(**values | packed, flat=flat)

    def flattened(self) -> Influence:
        """The influences on the vector of all leaves."""
        return self.flat

    def top(self, k: int | None = None) -> np.ndarray:
        """The ids of the k examples with the surest large change (2-norms over all leaves), largest first."""
        return self.flat.top(k)

    def __str__(self) -> str:
        return str(self.flat)
