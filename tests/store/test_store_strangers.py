"""A sketch from a stranger: nothing outside the sketch is read or written, numbers in it are held against bytes before
they are believed, and what it says is printed as plain text.

The oracles: the bytes of files outside, the answer of a sketch in memory, Python's own `str.isprintable`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from stores import leaves_of, signed

import circuitsketch as cs
from circuitsketch.cli import main
from circuitsketch.display import table
from circuitsketch.errors import StoreError, printable

SIMILARITY = np.arange(12.0).reshape(4, 3)


def run(**about):
    return cs.Training(
        lambda s, x, keep: s + np.tanh(keep.sum() * x - s),
        np.zeros(()),
        [1.0, 2.0, 0.5, 0.3],
        [[0], [1], [2], [3]],
        labels=["a", "b", "a", "b"],
        items=["w", "x", "y", "z"],
        **about,
    )


RUN = run()


def produce(path, directions=4):
    """Make a sketch of both parts and a similarity, or go on with one."""
    return cs.sketch(RUN, directions, 2, per_example="series", similarity=SIMILARITY, path=path, threads=1)


def answer(sketch):
    return sketch.measure(lambda s: s).without([1]).value


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("stranger") / "a.sketch"
    produce(path)
    return path


RIGHT = answer(cs.sketch(RUN, 4, 2, per_example="series", similarity=SIMILARITY, threads=1))


def everything_in(path: Path) -> list[str]:
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))


# ---------------------------------------------------------------------------------------- links and pipes


def outside(tmp_path: Path, what: Path) -> Path:
    """A copy of a file or folder beside the sketch, which must stay as it is."""
    copy = tmp_path / "outside"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    if what.is_dir():
        shutil.copytree(what, copy / what.name)
    else:
        shutil.copy(what, copy / what.name)
    return copy / what.name


def held_in(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_link_anywhere_in_a_sketch_is_refused_and_leaves_what_it_points_to(tmp_path, original):
    for name in everything_in(original):
        path = tmp_path / "a.sketch"
        shutil.copytree(original, path)
        target = outside(tmp_path, path / name)
        shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()
        (path / name).symlink_to(target)
        before = held_in(tmp_path / "outside")
        for act in (lambda path=path: cs.open_sketch(path), lambda path=path: produce(path, 12)):
            try:
                found = answer(act())
            except StoreError as reason:
                assert name.split("/")[-1] in str(reason) and "symbolic link" in str(reason), name
            else:  # a lock is of no interest to readers, nor is the array beside it
                assert found == RIGHT and name.startswith(("lock", "random/lanes/.lock", "singles/lanes/.lock")), name
        assert held_in(tmp_path / "outside") == before, name
        shutil.rmtree(path)


def test_a_sketch_may_be_reached_through_a_link(tmp_path, original):
    shutil.copytree(original, tmp_path / "far" / "a.sketch")
    (tmp_path / "near").symlink_to(tmp_path / "far")
    (tmp_path / "b.sketch").symlink_to(tmp_path / "far/a.sketch")
    assert answer(cs.open_sketch(tmp_path / "near/a.sketch")) == answer(produce(tmp_path / "b.sketch")) == RIGHT


@pytest.mark.parametrize("name", ["lock", "lock/.lock", "zarr.json.tmp", "lock/zarr.json.tmp", "lock/zarr.json"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_folder_that_somebody_prepared_with_links_is_not_begun(tmp_path, name, dangling):
    path, target = tmp_path / "a.sketch", tmp_path / "target"
    (path / name).parent.mkdir(parents=True)
    if not dangling:
        target.mkdir() if name == "lock" else target.write_text("precious")
    (path / name).symlink_to(target)
    with pytest.raises(StoreError, match="symbolic link"):
        produce(path)
    assert target.exists() is not dangling
    assert dangling or (list(target.iterdir()) == [] if name == "lock" else target.read_text() == "precious")


def special(path: Path, kind: str) -> contextlib.AbstractContextManager[object]:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        listening = socket.socket(socket.AF_UNIX)
        here = os.open(path.parent, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/{path.name}")  # the whole path may be too long for a socket
        os.close(here)
        return listening
    return contextlib.nullcontext()


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_what_is_not_a_plain_file_is_refused_without_waiting(tmp_path, original, kind):
    names = [name for name in everything_in(original) if (original / name).is_file()]
    for name in names:
        path = tmp_path / "a.sketch"
        shutil.copytree(original, path)
        (path / name).unlink()
        with special(path / name, kind):
            for act in (lambda path=path: cs.open_sketch(path), lambda path=path: produce(path, 12)):
                try:
                    assert answer(act()) == RIGHT
                    assert name.startswith("lock") or name.endswith(".lock"), name
                except StoreError:
                    pass
        shutil.rmtree(path)


def test_a_lock_is_never_emptied_and_only_a_number_of_ours_is_written_over(tmp_path, original):
    for name in ("lock/.lock", "random/lanes/.lock"):
        path, precious = tmp_path / "a.sketch", tmp_path / "precious"
        for text, linked in (("precious data", False), ("12", True), ("precious data" * 9, True), ("", True)):
            shutil.copytree(original, path)
            precious.write_text(text)
            (path / name).unlink()
            os.link(precious, path / name) if linked else shutil.copy(precious, path / name)
            seen = []
            cs.sketch(
                RUN,
                12,
                2,
                similarity=SIMILARITY,
                path=path,
                progress=lambda *_, path=path, name=name, seen=seen: seen.append((path / name).read_text()),
            )
            assert {*seen, (path / name).read_text()} == {text}
            shutil.rmtree(path)
            precious.unlink()


def test_temporary_files_of_a_dead_writer_are_removed_and_others_are_not(tmp_path, original):
    path = tmp_path / "a.sketch"
    shutil.copytree(original, path)
    similarity = next(path.glob("metric-*")).name
    for folder in ("", "lock/", "random/", "random/lanes/", "singles/constants/", f"{similarity}/"):
        for name in ("zarr.json.tmp", "zarr.json.0123456789abcdef.tmp", "c.3.0.0.0.fedcba9876543210.tmp"):
            (path / (folder + name)).write_text("half")
    (path / "notes.tmp").write_text("mine")
    (path / "random/zarr.json.1123456789abcdef.tmp").mkdir()  # nobody's: it is in nobody's way
    assert answer(produce(path)) == RIGHT
    left = [name for name in everything_in(path) if name.endswith(".tmp")]
    assert left == ["notes.tmp", "random/zarr.json.1123456789abcdef.tmp"]


def test_two_writes_of_one_file_go_aside_under_different_names(tmp_path, monkeypatch):
    names, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (names.append(old), replace(old, new)))
    produce(tmp_path / "a.sketch")
    produce(tmp_path / "a.sketch", 12)
    assert len(set(names)) == len(names) > 20 and all(name.endswith(".tmp") for name in names)


# ---------------------------------------------------------------------------------------- forged headers


def forge(path: Path, name: str, change) -> None:
    where = path / name / "zarr.json" if name else path / "zarr.json"
    root = json.loads(where.read_text())
    change(root["attributes"])
    root["attributes"] = signed(root["attributes"])
    where.write_text(json.dumps(root))


HUGE = [2 * 10**8, 2**62, 10**30, -1, 0, True, 1.5, None, "8", [[]]]


def test_numbers_in_a_forged_header_take_no_memory_before_they_are_held_against_the_bytes(tmp_path, original):
    for part in ("", "random", "singles"):
        root = json.loads((original / part / "zarr.json").read_text())["attributes"]
        paths = [at for at in leaves_of(root) if at and not isinstance(below(root, at), dict)]
        for number, (at, value) in enumerate(itertools.product(paths, HUGE)):
            if (value != HUGE[0] and number % 7) or at[0] in ("created", "versions", "sha256", "origin"):
                continue
            path = tmp_path / "a.sketch"
            if not path.exists():
                shutil.copytree(original, path)
            forge(path, part, lambda root, at=at, value=value: put(root, at, value))
            tracemalloc.start()
            try:
                sketch = cs.open_sketch(path)
            except StoreError:
                pass
            else:
                repr(sketch), sketch.info()
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert peak < 4 << 20, (part, at, value)
            shutil.copy(original / part / "zarr.json", path / part / "zarr.json")


def below(value, path):
    for key in path:
        value = value[key]
    return value


def put(root, path, value):
    below(root, path[:-1])[path[-1]] = value


BAD_JSON = {
    "a key twice": lambda text: text.replace('"order":', '"order": 2, "order":', 1),
    "not UTF-8": lambda text: text.encode("utf-16"),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "half a character": lambda text: text.encode().replace(b'"sphere"', b'"\xc3"').replace(b'"law"', b'"\xc3"'),
    "NaN": lambda text: text.replace('"n": 4', '"n": NaN'),
    "infinity": lambda text: text.replace('"n": 4', '"n": Infinity'),
    "5,000 digits": lambda text: text.replace('"n": 4', '"n": ' + "4" * 5000),
    "500 digits": lambda text: text.replace('"n": 4', '"n": ' + "4" * 500),
    "very deep": lambda text: text.replace('"n": 4', '"n": ' + "[" * 10**5 + "]" * 10**5),
    "deep": lambda text: text.replace('"n": 4', '"n": ' + "[" * 900 + "]" * 900),
    "deep versions": lambda text: text.replace('"version": 1', '"version": 9').replace(
        '"python":', '"x": ' + '{"a":' * 900 + "1" + "}" * 900 + ', "python":'
    ),
    "millions of lists": lambda text: text.replace('"n": 4', '"n": [' + "[]," * (3 << 19) + "[]]"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_metadata_that_only_some_readers_would_take_are_refused(tmp_path, original, name):
    shutil.copytree(original, tmp_path / "a")
    where = tmp_path / "a/random/zarr.json"
    text = BAD_JSON[name](where.read_text())
    assert text != where.read_text()
    where.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StoreError):
        cs.open_sketch(tmp_path / "a")


@pytest.mark.parametrize("name", ["labels", "items"])
def test_labels_for_another_number_of_examples_are_refused(tmp_path, original, name):
    shutil.copytree(original, tmp_path / "a")
    forge(tmp_path / "a", "", lambda root: root[name].append("more"))
    with pytest.raises(StoreError, match=f"has 5 {name}, but .* has 4"):
        cs.open_sketch(tmp_path / "a")


# ---------------------------------------------------------------------------------------- what a store says

# Colours, a title for the window, bells and returns, turned direction, invisible and half characters.
EVIL = "\x1b[31mred\x1b]0;title\x07\r\b\x7f\x9b2J‮gnp‬⁦\u2028\u2029​\x00\ud800"


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    path = tmp_path_factory.mktemp("evil") / "e.sketch"
    cs.sketch(run(), 4, 2, per_example="series", path=path, threads=1)

    def change(root):
        root |= {"labels": [EVIL + "1", EVIL, "[/b]", ":smiley:"], "items": [EVIL, "[red]", "y", EVIL], "origin": EVIL}
        root |= {"created": EVIL, "versions": {EVIL: EVIL}}

    forge(path, "", change)
    for part in ("random", "singles"):
        forge(path, part, lambda root: root.update(created=EVIL, versions={EVIL: EVIL}))
    return path


def assert_plain(text):
    wrong = {char for char in text if not char.isprintable() and char != "\n"}
    assert not wrong, wrong
    text.encode()


def test_texts_of_a_sketch_are_printed_without_control_characters(evil, capsys):
    sketch = cs.open_sketch(evil)
    query = sketch.measure(lambda s: s)
    answers = [sketch, query, query.influence(), query.without([0]), query.stability()]
    for thing in answers:
        for text in (str(thing), repr(thing), getattr(thing, "_repr_html_", str)()):
            assert_plain(text)
    info = sketch.info()
    assert_plain(info)
    assert "\\x1b[31mred" in info and "\\x9b2J" in info
    for act in (
        lambda: query.without("no such group"),
        lambda: query.without(EVIL + "2"),
        lambda: query.without(lambda item: item),
        lambda: cs.open_sketch(evil, cs.Training(lambda s, x, k: s + k.sum(), 0.0, [1.0], [[0]])),
        lambda: sketch.measure(lambda s: s["a"]),
        lambda: cs.open_sketch(str(evil) + EVIL[:-1].replace("\x00", "")),
        lambda: cs.sketch(RUN, 4, 2, path=str(evil) + "/\x1b[31m/x"),
    ):
        with pytest.raises(cs.CircuitSketchError) as reason:
            act()
        assert_plain(str(reason.value))


@pytest.mark.parametrize(
    "words",
    [
        ["info"],
        ["info", "--json", "-"],
        ["influence", "--measure", "test_store_strangers:identity"],
        ["influence", "--measure", "test_store_strangers:identity", "--json", "-"],
        ["predict", "--measure", "test_store_strangers:identity", "--containing", "red"],
        ["predict", "--measure", "test_store_strangers:identity", "--containing", "none of them"],
        ["predict", "--measure", "test_store_strangers:identity", "--label", "[/b]"],
        ["predict", "--measure", "test_store_strangers:identity", "--label", "another"],
        ["predict", "--measure", "test_store_strangers:identity", "--without", "0", "--retrain"],
        ["evaluate", "--measure", "test_store_strangers:identity"],
        ["predict", "--measure", "test_store_strangers:named", "--without", "0"],
        ["predict", "--measure", "test_store_strangers:identity", "--file", "subsets.json"],
    ],
)
def test_the_command_line_prints_a_strangers_words_as_plain_text(evil, capsys, words, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1]), *sys.path])
    monkeypatch.chdir(evil.parent)
    Path("subsets.json").write_text(json.dumps({"[red]\x1b[31m": [0], "[/b]": [1, 2]}))
    with contextlib.suppress(SystemExit):
        main([words[0], str(evil), *words[1:]])
    out, err = capsys.readouterr()
    assert_plain(out + err)
    assert "Traceback" not in err and (out or err)
    if "--json" in words:
        assert json.loads(out)
    if words[0] == "influence" and "--json" not in words:
        assert "[/b]" in out and ":smiley:" in out and "[red]" in out  # not taken for markup
    if words[-1] == "[/b]":
        assert "predicted" in out


def identity(params):
    return params


def named(params):
    return {EVIL: params, "[/b]": 2 * params}


def test_a_table_for_a_notebook_is_escaped_and_plain():
    text = table(EVIL, [[EVIL, "<script>" + EVIL]], [EVIL], [EVIL], "two\nlines" + EVIL)
    assert_plain(text)
    assert "<script>" not in text and "two\nlines" in text


def test_plain_text_stays_as_it_is():
    for text in ("Zoë, 王, café", "a 'quoted' \\x1b", "", "👍"):
        assert printable(text) == text
    assert printable("a\nb", keep="\n") == "a\nb" and printable("a\nb") == "a\\nb"
