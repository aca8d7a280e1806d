"""The record of a sketch: its parts, the run that was sketched, where it lies on disk; and its description in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Target
from circuitsketch.directions import Distribution
from circuitsketch.display import list_completions, list_some, summarize
from circuitsketch.errors import printable
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.propagate.parts import PER_EXAMPLE, RANDOM, RETRAINED
from circuitsketch.store.fingerprint import fingerprint_of
from circuitsketch.store.header import format_versions
from circuitsketch.store.part_store import PartStore
from circuitsketch.training.training import Training

# What tab completion shows.
PUBLIC = (
    "measure query extend info path n count order distribution directions coefficients per_example similarity labels "
    "items groups run params state nbytes"
).split()


@dataclass(eq=False)
class SketchRecord:
    """The data of a sketch; `Sketch`, which users hold, documents its attributes."""

    parts: Mapping[str, PropagatedRun]
    distribution: Distribution
    order: int
    run: Training | None = None
    labels: tuple[Any, ...] | None = None
    items: tuple[Any, ...] | None = None
    groups: tuple[Any, ...] | None = None
    chosen_similarity: np.ndarray | None = None
    path: str | None = None
    origin: str | None = None
    kink_names: tuple[str, ...] = ()

    @property
    def random(self) -> PropagatedRun | None:
        """The part of the random (or given) directions; None if there are none yet."""
        return self.parts.get(RANDOM)

    @property
    def per_example(self) -> PropagatedRun | None:
        """The part of the per-example series; None if they were not asked for."""
        return self.parts.get(PER_EXAMPLE)

    @property
    def retrained(self) -> PropagatedRun | None:
        """The part of the models that were trained without one example each; None if they were not asked for."""
        return self.parts.get(RETRAINED)

    @property
    def first_part(self) -> PropagatedRun:
        """The part that answers for what all parts share: the state's structure, its final values, the device."""
        return next(self.parts[name] for name in (RANDOM, PER_EXAMPLE, RETRAINED) if name in self.parts)

    @property
    def n(self) -> int:
        """The number of examples, or of groups."""
        return self.distribution.n

    @property
    def count(self) -> int:
        """The number of random (or given) directions."""
        return 0 if self.random is None else self.random.count

    @property
    def lanes(self) -> np.ndarray | PartStore:
        """The lane blocks of the random (or given) directions, in memory or in a store."""
        return np.zeros((0, 0, 0, 0)) if self.random is None else self.random.lanes

    @property
    def target(self) -> Target:
        """The layout of lane blocks: directions per block, precision."""
        return self.first_part.target

    @property
    def constants(self) -> list[np.ndarray]:
        """The final state's values, by leaf."""
        return self.first_part.constants

    @property
    def device(self) -> str:
        """The device that computed the sketch, "cpu" or "cuda"."""
        return self.first_part.device

    @property
    def nbytes(self) -> int:
        """The size of the coefficients of all parts in bytes."""
        return sum(part.nbytes for part in self.parts.values())

    def __dir__(self) -> list[str]:
        return list_completions(self, PUBLIC)


def describe(sketch: SketchRecord) -> str:
    """Describe a sketch in a few lines of text."""
    return "\n".join([heading(sketch), *(f"  {name:<10} {printable(text)}" for name, text in facts(sketch))])


def heading(sketch: SketchRecord) -> str:
    """Describe a sketch's directions and their order."""
    seed = "" if sketch.distribution.seed is None else f", seed {sketch.distribution.seed}"
    kind = "complex" if sketch.random is None or sketch.random.target.mode.complex else "real"
    return f"sketch of {sketch.count:,} {kind} directions ({sketch.distribution.name}{seed}) to order {sketch.order}"


def facts(sketch: SketchRecord) -> Iterator[tuple[str, str]]:
    """Yield everything else about a sketch, by name."""
    what = "examples" if sketch.groups is None else "groups"
    if sketch.per_example is not None:
        yield f"per {what[:-1]}", f"each of the {sketch.n:,} {what} alone, exactly, to order {sketch.per_example.order}"
    if sketch.retrained is not None:
        yield "retrained", f"{sketch.n:,} models, each without one of the {what}"
    if sketch.groups is not None:
        yield (
            "groups",
            f"{sketch.n:,} of {len(sketch.groups):,} examples, with one weight each: {summarize(sketch.groups)}",
        )
    elif sketch.labels is not None:
        yield "labels", f"{len(dict.fromkeys(sketch.labels)):,}: {summarize(sketch.labels)}"
    if sketch.items is not None and sketch.groups is None:
        yield "items", summarize(sketch.items)
    if sketch.chosen_similarity is not None:
        yield "similarity", f"given, as {sketch.chosen_similarity.shape[1]:,} columns"
    elif sketch.per_example is not None and sketch.per_example.order:
        yield "similarity", "learned: what each one does to the trained parameters at first order"
    steps, size, fingerprint = facts_of_run(sketch)
    yield "run", f"{steps:,} steps on {sketch.n:,} {what}, size(A) = {size:,} scalar gates"
    yield "prints", ", ".join(f"{part} {digest[:12]}" for part, digest in fingerprint.items())
    yield "state", f"{sum(leaf.size for leaf in sketch.constants):,} numbers in {len(sketch.constants)} leaves"
    if sketch.first_part.dropped:
        names = sketch.first_part.kept_names
        yield "leaves", f"{len(names)} of them kept: {list_some(names)}"
    number = "float32" if sketch.target.single else "float64"
    yield "kept", f"{sketch.nbytes / 1e6:,.1f} MB of {number}, {sketch.target.width} directions a block"
    for store in stores_of(sketch)[:1]:
        yield "path", str(sketch.path)
        yield "begun", store.created
        yield "by", format_versions(store.versions)


def facts_of_run(sketch: SketchRecord) -> tuple[int, int, Mapping[str, str]]:
    """Return the run's steps, size(A) and fingerprint, from the run or from the disk."""
    if sketch.run is not None:
        return sketch.run.steps, sketch.run.size, fingerprint_of(sketch.run, sketch.device)
    header = stores_of(sketch)[0].header
    return header.steps, header.size, header.fingerprint


def stores_of(sketch: SketchRecord) -> list[PartStore]:
    """Return the stores of the parts that are on disk."""
    return [part.lanes for part in sketch.parts.values() if isinstance(part.lanes, PartStore)]
