"""What a sketch holds, and that in words: its parts, the run that was sketched, where it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.display import some
from circuitsketch.errors import printable
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.store.fingerprint import fingerprint_of
from circuitsketch.store.header import format_versions
from circuitsketch.store.part_store import Store
from circuitsketch.training.training import Training


@dataclass(eq=False)
class Sketched(PropagatedRun):
    """The data of a sketch, whose attributes `Sketch` tells: what was pushed, and what is known of the run."""

    per_example: PropagatedRun | None = None
    run: Training | None = None
    labels: tuple[Any, ...] | None = None
    items: tuple[Any, ...] | None = None
    groups: tuple[Any, ...] | None = None
    chosen_similarity: np.ndarray | None = None
    path: str | None = None
    origin: str | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the coefficients of all parts."""
        return super().nbytes + (0 if self.per_example is None else self.per_example.nbytes)


def describe(sketch: Sketched) -> str:
    """A sketch in some lines of text."""
    return "\n".join([heading(sketch), *(f"  {name:<10} {printable(text)}" for name, text in facts(sketch))])


def heading(sketch: Sketched) -> str:
    """Its directions and their order."""
    seed = "" if sketch.distribution.seed is None else f", seed {sketch.distribution.seed}"
    kind = "complex" if sketch.target.mode.complex else "real"
    return f"sketch of {sketch.count:,} {kind} directions ({sketch.distribution.name}{seed}) to order {sketch.order}"


def facts(sketch: Sketched) -> Iterator[tuple[str, str]]:
    """Everything else that is known of a sketch, by name."""
    what = "examples" if sketch.groups is None else "groups"
    if sketch.per_example is not None:
        yield f"per {what[:-1]}", f"each of the {sketch.n:,} {what} alone, exactly, to order {sketch.per_example.order}"
    if sketch.groups is not None:
        yield "groups", f"{sketch.n:,} of {len(sketch.groups):,} examples, with one weight each: {some(sketch.groups)}"
    elif sketch.labels is not None:
        yield "labels", f"{len(dict.fromkeys(sketch.labels)):,}: {some(sketch.labels)}"
    if sketch.items is not None and sketch.groups is None:
        yield "items", some(sketch.items)
    if sketch.chosen_similarity is not None:
        yield "similarity", f"given, as {sketch.chosen_similarity.shape[1]:,} columns"
    elif sketch.per_example is not None and sketch.per_example.order:
        yield "similarity", "learned: what each one does to the trained parameters at first order"
    steps, size, prints = trained(sketch)
    yield "run", f"{steps:,} steps on {sketch.n:,} {what}, size(A) = {size:,} scalar gates"
    yield "prints", ", ".join(f"{part} {found[:12]}" for part, found in prints.items())
    yield "state", f"{sum(leaf.size for leaf in sketch.constants):,} numbers in {len(sketch.constants)} leaves"
    number = "float32" if sketch.target.single else "float64"
    yield "kept", f"{sketch.nbytes / 1e6:,.1f} MB of {number}, {sketch.target.width} directions a block"
    for store in stores_of(sketch)[:1]:
        yield "path", str(sketch.path)
        yield "begun", store.created
        yield "by", format_versions(store.versions)


def trained(sketch: Sketched) -> tuple[int, int, Mapping[str, str]]:
    """The run's steps, size(A) and fingerprint, from the run or from the disk."""
    if sketch.run is not None:
        return sketch.run.steps, sketch.run.size, fingerprint_of(sketch.run, sketch.device)
    header = stores_of(sketch)[0].header
    return header.steps, header.size, header.fingerprint


def stores_of(sketch: Sketched) -> list[Store]:
    """The stores of the parts that are on disk."""
    parts = (sketch, sketch.per_example)
    return [part.lanes for part in parts if part is not None and isinstance(part.lanes, Store)]
