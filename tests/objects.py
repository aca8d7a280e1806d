"""Laws of stores of objects, and places for them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

numbers = itertools.count()


def places(kind: str, folder: Path) -> str:
    """A new address of a kind; a folder exists."""
    if kind == "files":
        return str(folder)
    pytest.importorskip("obstore", reason="needs the extra objects: pip install 'circuitsketch[objects]'")
    return f"{kind}://bucket/{next(numbers)}"


def read(objects, name):
    data = objects.get(name)
    return None if data is None else bytes(data)


def absent_objects_are_none(objects):
    assert objects.get("a") is None and objects.size("a") is None and list(objects.list()) == []
    objects.delete("a")


def what_is_put_is_there(objects):
    for data in (b"", b"some bytes", np.arange(6.0), np.arange(6.0).reshape(2, 3), memoryview(b"view")):
        objects.put("a", data)
        expected = bytes(memoryview(data).cast("B")) if memoryview(data).nbytes else b""
        assert read(objects, "a") == expected and objects.size("a") == len(expected)


def the_first_of_what_is_new_stays(objects):
    assert objects.put_new("a", b"first") is True
    assert objects.put_new("a", b"second") is False
    assert read(objects, "a") == b"first"
    objects.put("a", b"third")
    assert objects.put_new("a", b"fourth") is False and read(objects, "a") == b"third"
    objects.delete("a")
    assert objects.put_new("a", b"fifth") is True and read(objects, "a") == b"fifth"


def all_names_are_listed(objects):
    expected = {f"c.{i}.4": i % 7 for i in range(40)} | {"end.1": 3, "c": 1, "d.1": 2}
    for name, size in expected.items():
        objects.put(name, b"x" * size)
    assert dict(objects.list()) == expected
    assert dict(objects.list("c.")) == {name: size for name, size in expected.items() if name.startswith("c.")}
    objects.delete("c.3.4")
    objects.delete("c.3.4")
    assert len(list(objects.list())) == len(expected) - 1


LAWS = {
    law.__name__: law
    for law in (absent_objects_are_none, what_is_put_is_there, the_first_of_what_is_new_stays, all_names_are_listed)
}
