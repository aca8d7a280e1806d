"""What a sketch is, in words: its parts, the run that was sketched, where it lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from circuitsketch.sketch.fingerprint import fingerprint_of
from circuitsketch.sketch.header import spelled
from circuitsketch.sketch.store import Store

if TYPE_CHECKING:
    from circuitsketch.deletion.sketch import Sketch

SHOWN = 6  # of the labels and items


def describe(sketch: Sketch) -> str:
    """A sketch in some lines of text."""
    seed = "" if sketch.law.seed is None else f", seed {sketch.law.seed}"
    kind = "complex" if sketch.target.mode.complex else "real"
    what = "examples" if sketch.groups is None else "groups"
    lines = [f"sketch of {sketch.count:,} {kind} directions ({sketch.law.name}{seed}) to order {sketch.order}"]

    def say(name: str, text: str) -> None:
        lines.append(f"  {name:<10} {text}")

    if sketch.singles is not None:
        say("singles", f"each of the {sketch.n:,} {what} alone, exactly, to order {sketch.singles.order}")
    if sketch.groups is not None:
        say("groups", f"{sketch.n:,} of {len(sketch.groups):,} examples, with one weight each: {some(sketch.groups)}")
    elif sketch.labels is not None:
        say("labels", f"{len(dict.fromkeys(sketch.labels)):,}: {some(sketch.labels)}")
    if sketch.items is not None and sketch.groups is None:
        say("items", some(sketch.items))
    if sketch.chosen_metric is not None:
        say("metric", f"given, as {sketch.chosen_metric.shape[1]:,} columns")
    elif sketch.singles is not None and sketch.singles.order:
        say("metric", "learned: what each single does to the trained parameters at first order")
    steps, size, prints = trained(sketch)
    say("run", f"{steps:,} steps on {sketch.n:,} {what}, size(A) = {size:,} scalar gates")
    say("prints", ", ".join(f"{part} {found[:12]}" for part, found in prints.items()))
    say("state", f"{sum(leaf.size for leaf in sketch.constants):,} numbers in {len(sketch.constants)} leaves")
    number = "float32" if sketch.target.single else "float64"
    say("kept", f"{sketch.nbytes / 1e6:,.1f} MB of {number}, {sketch.target.width} directions a block")
    for store in stores_of(sketch)[:1]:
        say("path", str(sketch.path))
        say("begun", store.created)
        say("by", spelled(store.versions))
    return "\n".join(lines)


def trained(sketch: Sketch) -> tuple[int, int, Mapping[str, str]]:
    """The run's steps, size(A) and fingerprint, from the run or from the disk."""
    if sketch.run is not None:
        return sketch.run.steps, sketch.run.size, fingerprint_of(sketch.run, sketch.device)
    header = stores_of(sketch)[0].header
    return header.steps, header.size, header.fingerprint


def stores_of(sketch: Sketch) -> list[Store]:
    """The stores of the parts that are on disk."""
    parts = (sketch, sketch.singles)
    return [part.lanes for part in parts if part is not None and isinstance(part.lanes, Store)]


def some(values: Iterable[Any]) -> str:
    """The first few of many, each once."""
    found: dict[str, None] = {}
    for value in values:
        text = str(value)
        found[text if len(text) <= 24 else text[:21] + "..."] = None
        if len(found) > SHOWN:
            return ", ".join([*list(found)[:SHOWN], "..."])
    return ", ".join(found)
