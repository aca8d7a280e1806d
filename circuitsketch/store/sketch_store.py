"""A whole sketch on disk: each part (random directions, single examples) in a store of its own, below one path.

In: what a sketch is about (`About`), a path. Out: `Whole`, which gives its parts' stores, to one writer at a time, and
refuses what does not belong together. What is in a part is left to `sketch.store`.

    names.sketch/
        zarr.json           a Zarr group; its attributes are `About`, and their own sha256
        random/, singles/   the parts, see `sketch.layout`
        metric-HASH/c.0.0   (examples, columns), where the user gave a metric
        lock/.lock          held by the process that writes; beside an array of nothing, where Zarr readers do not look
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import numpy as np

from circuitsketch.arguments import check_order
from circuitsketch.directions import find_law
from circuitsketch.errors import InputError, StoreError
from circuitsketch.store.atomic_files import (
    ASIDES,
    BadFile,
    absolute,
    entries,
    exists,
    flush_names,
    is_folder,
    make_folder,
    reaching,
    read_array,
    read_text,
    reading,
    refuse_links,
    remove_asides,
    saving,
    write_whole,
)
from circuitsketch.store.fingerprint import device_of
from circuitsketch.store.header import FORMAT, Header, canonical, described, require, spelled, versions
from circuitsketch.store.lock import ELSEWHERE, Lock, hold
from circuitsketch.store.part_store import Store, check_place
from circuitsketch.store.zarr_layout import (
    AGAIN,
    LOCK,
    LONGEST,
    ROOT,
    WRONG,
    array_of,
    changed,
    check_origin,
    chunk,
    encoded,
    little,
    native,
    ordered,
    parsed,
)

VERSION = 1  # of this layout; parts have one of their own
PARTS = {"random": "random directions", "singles": "single examples"}
WHOLE_LOCK = os.path.join("lock", os.path.basename(LOCK))
MOST = 16 << 20  # bytes of labels or items; more are left to the run
PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, eq=False)
class About:
    """What a whole sketch is about, beyond its parts.

    Attributes
    ----------
    parts : names of the parts that belong to it, made or to be made. come : law, seed and order of random directions to
    come; None where they are a part. groups : the label of each example, if weights are constant on groups.
    labels, items : of the coordinates, or None: not there, or nothing that JSON holds. metric : (n, columns), or None.
    origin : how the run is made, in its maker's words, or None: a note, by which nothing is told apart.
    """

    parts: tuple[str, ...]
    come: tuple[str, int, int] | None = None
    groups: tuple[Any, ...] | None = None
    labels: tuple[Any, ...] | None = None
    items: tuple[Any, ...] | None = None
    metric: np.ndarray | None = None
    origin: str | None = None

    def plain(self) -> dict[str, Any]:
        """Everything as JSON, the metric as its shape, dtype and digest."""
        lists = {name: None if (found := getattr(self, name)) is None else list(found) for name in LISTS}
        return {
            "format": FORMAT,
            "whole": VERSION,
            "parts": sorted(self.parts),
            "directions_to_come": None if self.come is None else dict(zip(COME, self.come, strict=True)),
            **lists,
            "metric": None if self.metric is None else described(self.metric),
            **({} if self.origin is None else {"origin": self.origin}),
        }


METRIC = re.compile("metric-[0-9a-f]{16}")  # the folder of a metric
COME = ("law", "seed", "order")
LISTS = ("groups", "labels", "items")


def plain_list(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Strings, numbers, None as they come back from JSON, NumPy's as Python's; None if there is anything else."""
    if values is None:
        return None
    found = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    if not all(type(value) in PLAIN and (value == value) and abs_finite(value) for value in found):
        return None
    return found if len(canonical(list(found))) <= MOST else None


def abs_finite(value: Any) -> bool:
    """JSON has no infinities."""
    return not isinstance(value, float) or abs(value) < float("inf")


class Whole:
    """A whole sketch on disk; `open` and `resume` make one, `close` or the end of a `with` gives the lock back.

    Attributes
    ----------
    path : absolute. about : see `About`. created, versions : when, in UTC, and by what it was begun. opened : stores of
    parts by name.
    """

    def __init__(self, path: str, about: About, created: str, made_by: dict[str, str], lock: Lock | None) -> None:
        self.path = path
        self.about = about
        self.created = created
        self.versions = made_by
        self.lock = lock
        self.opened: dict[str, Store] = {}

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Whole:
        """A sketch for reading, all of whose parts are finished and belong together.

        Raises
        ------
        StoreError : there is none; it is not finished, of a newer format, or damaged.
        """
        path = absolute(path)
        if not Store.exists(path):
            raise StoreError(missing(path))
        whole = Whole(path, *read_about(path), None)
        left = []
        for name in whole.about.parts:
            if not Store.exists(whole.of(name)):
                left.append(f"none of its {PARTS[name]}")
                continue
            store = whole.opened[name] = Store.open(whole.of(name))
            if not store.complete:
                left.append(f"{len(store.done)} of {store.header.blocks} blocks of its {PARTS[name]}")
        if left:
            raise StoreError(
                f"{path} has {', '.join(left)}: make it again with the same run and path, and it goes on from there"
            )
        refuse_strangers(path, list(whole.opened.values()))
        refuse_other_n(whole)
        return whole

    @staticmethod
    def resume(path: str | os.PathLike[str], about: About) -> Whole:
        """The sketch at a path, open for writing: new, or gone on with, and then about these parts too.

        Nothing but the lock is written before the first `part`.

        Raises
        ------
        StoreError : there is something else; it has another metric or other groups; another process writes it.
        """
        path = absolute(path)
        if Store.exists(path):
            read_about(path)  # before anything is written to what may be no sketch
        else:
            check_place(path, is_unfinished)
        with saving(path):
            for folder in (path, os.path.join(path, "lock")):
                make_folder(folder)
            lock = hold(path, WHOLE_LOCK)
        try:
            if Store.exists(path):
                before, created, made_by = read_about(path)
                refuse_other(path, before, about)
                parts = tuple(sorted({*before.parts, *about.parts}))
                come = None if "random" in parts else about.come
                about = replace(about, parts=parts, come=come, origin=about.origin or before.origin)
            else:
                created, made_by = datetime.now(UTC).isoformat(timespec="seconds"), versions()
        except BaseException:
            lock.release()
            raise
        return Whole(path, about, created, made_by, lock)

    def of(self, name: str) -> str:
        """The folder of a part. StoreError: it is a symbolic link."""
        where = os.path.join(self.path, name)
        with reaching(where):
            refuse_links(self.path, where)
        return where

    def width(self, name: str) -> int | None:
        """Directions a block of a part that was begun, else None."""
        return Store.open(self.of(name)).header.width if Store.exists(self.of(name)) else None

    def part(self, name: str, header: Header) -> Store:
        """A part's store, open for writing: created, or gone on with; every other part must be of the same run."""
        if Store.exists(self.of(name)):
            Store.open(self.of(name), header=header)  # what differs is said best by the part itself
        for other in PARTS:
            if other != name and Store.exists(self.of(other)):
                refuse_strangers(self.path, [Store.open(self.of(other))], header)
        if Store.exists(self.of(name)):
            self.opened[name] = Store.resume(self.of(name), header)  # or refused, before anything is written
            write_about(self.path, self.about, self.created, self.versions)
        else:
            write_about(self.path, self.about, self.created, self.versions)
            self.opened[name] = Store.resume(self.of(name), header)
        return self.opened[name]

    def close(self) -> None:
        """Give all locks back."""
        for store in self.opened.values():
            store.close()
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def __enter__(self) -> Whole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_other(path: str, before: About, about: About) -> None:
    """Refuse other groups or another metric than a sketch was begun with."""
    mine, others = before.plain(), about.plain()
    words = {"groups": "other groups of examples", "metric": "another metric"}
    found = [word for name, word in words.items() if canonical(mine[name]) != canonical(others[name])]
    if found:
        raise StoreError(
            f"{path} holds another sketch: {' and '.join(found)}; give those that it was made with, or another path"
        )


def refuse_strangers(path: str, stores: Sequence[Store], header: Header | None = None) -> None:
    """Refuse parts that are not of one run, or end in other numbers."""
    wanted = header or stores[0].header
    for store in stores:
        found = store.header
        if dict(found.fingerprint) != dict(wanted.fingerprint) or found.leaves != wanted.leaves:
            if device_of(found.fingerprint) != device_of(wanted.fingerprint):
                raise StoreError(
                    f"{store.path} was pushed on device={device_of(found.fingerprint)!r}, and the rest of {path} is of "
                    "the other, which differs by rounding; give that device, or another path"
                )
            raise StoreError(
                f"{store.path} is of another run than the rest of {path}; give the run that it was made with, or "
                "another path"
            )
    ends = [store.stored_constants() for store in stores]
    for store, end in zip(stores, ends, strict=True):
        if end is not None and ends[0] is not None and end.tobytes() != ends[0].tobytes():
            raise StoreError(
                f"{store.path} ends in other numbers than {stores[0].path}: made on another processor or by another "
                f"version; {AGAIN}"
            )


def refuse_other_n(whole: Whole) -> None:
    """Refuse labels, items, groups or a metric of another number of examples than the parts have."""
    for store in whole.opened.values():
        n, about = store.header.n, whole.about
        groups = None if about.groups is None else len(set(about.groups))
        counts = {"labels": about.labels, "items": about.items, "metric": about.metric}
        found = {name: len(values) for name, values in counts.items() if values is not None}
        for name, count in (found | ({} if groups is None else {"groups": groups})).items():
            if count != n:
                raise StoreError(
                    f"{whole.path} has {count} {name}, and {store.path} is of {n}; restore it from a copy, or {AGAIN}"
                )


# ------------------------------------------------------------------------------------------ its own file


def group(about: About, created: str, made_by: dict[str, str]) -> dict[str, Any]:
    """The metadata of the group, with a sha256 of it all."""
    attributes = about.plain() | {"created": created, "versions": made_by}
    attributes["sha256"] = hashlib.sha256(canonical(attributes)).hexdigest()
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def metric_folder(plain: dict[str, Any]) -> str:
    """Named by what it holds: whatever is interrupted, a name never comes to hold something else."""
    return f"metric-{plain['sha256'][:16]}"


def metric_array(plain: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the metric's array."""
    return array_of(tuple(plain["shape"]), tuple(plain["shape"]), "float64", "NaN", ("example", "column"))


def write_about(path: str, about: About, created: str, made_by: dict[str, str]) -> None:
    """Write the group's metadata, last what makes it a sketch; leave it alone where it is the same."""
    data = encoded(group(about, created, made_by), path)
    where = os.path.join(path, ROOT)
    with saving(path):
        for name in ("", *os.listdir(path)):
            if name in ("", "lock") or METRIC.fullmatch(name):
                remove_asides(os.path.join(path, name), path)
        if Store.exists(path):
            with reading(where, AGAIN):
                before = read_text(where, LONGEST, path)
            if before == data:
                return
        flush_names(os.path.dirname(path))
        nothing = array_of((0,), (1,), "uint8", 0, ("nothing",))
        write_whole(os.path.join(path, "lock", ROOT), encoded(nothing, path), path)
        if about.metric is not None:
            plain = described(about.metric)
            folder = metric_folder(plain)
            make_folder(os.path.join(path, folder))
            write_whole(os.path.join(path, folder, ROOT), encoded(metric_array(plain), path), path)
            write_whole(chunk(path, folder, 0, 0), little(about.metric), path)
        flush_names(path)
        write_whole(where, data, path)


def read_about(path: str) -> tuple[About, str, dict[str, str]]:
    """What a sketch is about, when it was begun and by what; StoreError unless its file is as it was written."""
    where = os.path.join(path, ROOT)
    root = parsed(where, path)
    attributes = root.get("attributes") if isinstance(root, dict) else None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise StoreError(f"{path} is not a sketch, though it may be a Zarr group; choose another path")
    if "whole" not in attributes:
        raise StoreError(f"{path} is one part of a sketch; open {os.path.dirname(path)}")
    version = attributes["whole"]
    if isinstance(version, int) and version > VERSION:
        raise StoreError(
            f"{path} has format version {version}, and this circuitsketch reads up to {VERSION}; it was made by "
            f"{spelled(attributes.get('versions'))}: upgrade to that, or {AGAIN}"
        )
    try:
        metric = None if attributes["metric"] is None else read_metric(path, attributes["metric"])
        come = attributes["directions_to_come"]
        come = None if come is None else tuple(come[name] for name in COME)
        lists = {name: None if attributes[name] is None else tuple(attributes[name]) for name in LISTS}
        about = About(tuple(attributes["parts"]), come, **lists, metric=metric, origin=attributes.get("origin"))
        created, made_by = attributes["created"], attributes["versions"]
        check_origin(created, made_by)
        if canonical(root) != canonical(group(about, created, made_by)):
            raise InputError("it does not match its sha256, or has parts that no sketch has")
        require(about.parts != () and set(about.parts) <= set(PARTS), f"it has the parts {list(about.parts)}")
        check_values(about)
    except StoreError:
        raise
    except WRONG as reason:
        raise changed(where, reason) from None
    return about, created, made_by


def check_values(about: About) -> None:
    """Refuse what no sketch is about."""
    for name in LISTS:
        found = getattr(about, name)
        require(found is None or plain_list(found) is not None, f"its {name} are no list of strings and numbers")
    require(about.origin is None or isinstance(about.origin, str), "its origin is no text")
    require((about.come is None) == ("random" in about.parts), "it has directions both made and to come, or neither")
    if about.come is not None:
        find_law(about.come[0], 1, about.come[1])
        check_order(about.come[2])


def read_metric(path: str, plain: dict[str, Any]) -> np.ndarray:
    """The metric that the attributes tell the shape and digest of."""
    shape = plain["shape"]
    if plain["dtype"] != "float64" or len(shape) != 2 or not all(type(e) is int and e > 0 for e in shape):
        raise InputError(f"its metric has shape {shape} and dtype {plain['dtype']}")
    folder = metric_folder(plain)
    if canonical(parsed(os.path.join(path, folder, ROOT), path)) != canonical(metric_array(plain)):
        raise InputError(f"{folder}/{ROOT} contradicts it")
    where = chunk(path, folder, 0, 0)
    with reading(where, AGAIN):
        array = read_array(where, tuple(shape), ordered("float64"), path)
        if described(array) != plain:
            raise BadFile(f"{where} is damaged: it does not match its digest")
    return native(array)


def is_unfinished(path: str) -> bool:
    """Whether a folder is empty, or is what `resume` leaves when it is interrupted before there is a sketch.

    OSError: the system cannot tell. StoreError: there is a symbolic link where `resume` makes a folder or a file.
    """
    for entry in entries(path):
        top, *below = entry.split(os.sep)
        folder = top == "lock" or METRIC.fullmatch(top)
        known = (ROOT, "c.0.0", ".lock", ".lock" + ELSEWHERE)
        if below:
            fine = folder and len(below) == 1 and (below[0] in known or ASIDES.fullmatch(below[0]))
        else:
            fine = folder or ASIDES.fullmatch(top)
        if not fine:
            return False
        refuse_links(path, os.path.join(path, entry))
    return True


def missing(path: str) -> str:
    """What to say where `open` finds nothing."""
    with reaching(path):
        if not exists(path):
            return f"there is no {path}; check the path, or make the sketch there"
        unfinished = is_folder(path) and is_unfinished(path)
    if unfinished:
        return f"{path} holds no sketch: it is empty, or its creation was interrupted; make the sketch there"
    return f"{path} is not a sketch; check the path"
