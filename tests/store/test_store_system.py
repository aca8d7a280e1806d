"""A sketch on disk and a system that refuses: files, threads, locks, folders. Each refusal is a StoreError that says
where and what to do, and the sketch goes on afterwards.

The oracles: a list of what the system may say, and the answer of a sketch in memory.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from test_store_strangers import RIGHT, RUN, SIMILARITY, answer, identity, original, produce

import circuitsketch as cs
from circuitsketch.cli import main
from circuitsketch.errors import StoreError

__all__ = ["original"]

# ---------------------------------------------------------------------------------------- the system refuses

SAID = [
    errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EMFILE, errno.EDQUOT,
    errno.ELOOP, errno.EINTR, errno.ENOTDIR, errno.ENOMEM, errno.EPERM, errno.ENOLCK,
]  # fmt: skip
CALLS = (
    "open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir", "stat", "lstat", "fstat", "listdir", "scandir",
    "close", "pread", "pwrite",
)  # fmt: skip


@contextlib.contextmanager
def failing(k: int, number: int):
    """Let the k-th call to the system beside the sketch fail; yields how many there were."""
    originals = {name: getattr(os, name) for name in CALLS}
    count = itertools.count()
    inside: list[int] = []

    def wrap(name):
        def call(*arguments, **more):
            if threading.current_thread() is not threading.main_thread() or not ours(name, arguments):
                return originals[name](*arguments, **more)
            if next(count) == k:
                inside.append(k)
                if name == "close":
                    originals[name](*arguments)
                path = arguments[0] if isinstance(arguments[0], str) else None
                raise OSError(number, os.strerror(number), path)
            return originals[name](*arguments, **more)

        return call

    def ours(name, arguments):
        if isinstance(arguments[0], str):
            return ".sketch" in arguments[0]
        try:
            return ".sketch" in os.readlink(f"/proc/self/fd/{arguments[0]}")
        except OSError:
            return False

    try:
        for name in CALLS:
            setattr(os, name, wrap(name))
        yield inside
    finally:
        for name in CALLS:
            setattr(os, name, originals[name])


@pytest.mark.parametrize("what", ["begin", "extend", "open"])
def test_system_errors_become_store_errors(tmp_path, original, monkeypatch, what):
    path, codes = tmp_path / "a.sketch", itertools.cycle(SAID)
    steps = {
        "begin": lambda: produce(path),
        "extend": lambda: produce(path, 12),
        "open": lambda: answer(cs.open_sketch(path)),
    }
    monkeypatch.setattr(os, "fsync", lambda file: None)  # which takes most of the time
    for k in itertools.count(0, {"begin": 13, "extend": 11, "open": 1}[what]):
        code = next(codes)
        if what != "begin" and not path.exists():
            shutil.copytree(original, path)
        with failing(k, code) as reached:
            try:
                steps[what]()
            except StoreError as reason:
                text = str(reason)
                assert os.strerror(code)[1:] in text or code in (errno.ENOTDIR, errno.ELOOP, errno.ENOLCK), (k, text)
                assert str(path) in text and ";" in text, (k, text)
        if what != "open":
            assert answer(produce(path)) == RIGHT  # it goes on
            shutil.rmtree(path)
        if not reached:
            break
    assert k > 30


@pytest.mark.parametrize(
    "path", ["", "  ", "a\0b", b"a\0b", "\ud800", 3, 1.5, True, [], {}, object(), lambda: 0, ("a", "b")]
)
def test_invalid_paths_are_refused(path):
    for act in (lambda: cs.open_sketch(path), lambda: cs.sketch(RUN, 4, 1, path=path)):
        with pytest.raises(cs.InputError, match="^path "):
            act()
    with pytest.raises(cs.InputError, match="path must be a path, not None"):
        cs.open_sketch(None)


def test_a_path_may_be_bytes_or_anything_with_a_path(tmp_path):
    path = os.fsencode(tmp_path / "ü.sketch")
    assert answer(produce(path)) == answer(cs.open_sketch(path)) == RIGHT
    with os.scandir(tmp_path) as found:
        assert answer(cs.open_sketch(next(found))) == RIGHT


@pytest.mark.parametrize("name", ["a" * 300, "b/" * 3000 + "b"])
def test_a_name_longer_than_the_file_system_takes_is_refused(tmp_path, name):
    for act in (cs.open_sketch, produce):
        with pytest.raises(StoreError, match="ile name too long; choose a shorter path"):
            act(tmp_path / name)


def in_a_process(code: str, *arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROLOGUE + code, *arguments], capture_output=True, text=True, timeout=120, **more
    )


PROLOGUE = f"""
import sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
"""


def test_in_a_folder_that_was_deleted_absolute_paths_work_and_others_are_refused(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = """
import os
os.rmdir(os.getcwd())
from test_store_system import RIGHT, StoreError, answer, cs, main, produce
assert answer(produce(sys.argv[1])) == answer(cs.open_sketch(sys.argv[1])) == RIGHT
for act in (cs.open_sketch, produce):
    try:
        act("a.sketch")
    except StoreError as reason:
        assert "current folder, which cannot be found" in str(reason), reason
    else:
        raise AssertionError
try:
    main(["predict", sys.argv[1], "--measure", "test_store_system:identity", "--without", "1"])
except SystemExit as reason:
    assert reason.code == 0, reason
"""
    done = in_a_process(code, str(tmp_path / "a.sketch"), cwd=gone)
    assert done.returncode == 0, done.stderr


def test_ids_of_thousands_of_digits_are_ids_out_of_range(original, capsys):
    query = cs.open_sketch(original).measure(identity)
    many = "7" * 5000
    for what in ([10**5000], [0, 10**5000], [many], many, np.array([many]), [[10**5000]], 10**5000):
        with pytest.raises(cs.InputError):
            query.without(what)
    for words in (many, f"0-{many}", f"{many}-3", f"1,{many}"):
        with pytest.raises(SystemExit) as code:
            main(["predict", str(original), "--measure", "test_store_system:identity", "--without", words])
        assert code.value.code in (1, 2)
        assert "Traceback" not in (err := capsys.readouterr().err) and len(err) < 10**4
    with pytest.raises(SystemExit) as code:
        main(["predict", str(original), "--measure", "test_store_system:identity", "--without", "0" * 5000 + "1"])
    assert code.value.code == 0


# ---------------------------------------------------------------------------------------- no threads, no fcntl


@pytest.mark.parametrize("every", [1, 2])
def test_work_continues_where_no_thread_can_be_started(tmp_path, monkeypatch, every):
    begin, count = threading.Thread.start, itertools.count()

    def refuse(thread):
        if next(count) % every == 0:
            raise RuntimeError("can't start new thread")
        begin(thread)

    expected = RUN.retrain([[0], [1], [2]], threads=1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    sketch = cs.sketch(
        RUN, 40, 2, per_example="series", similarity=SIMILARITY, threads=4, progress=True, path=tmp_path / "a.sketch"
    )
    assert np.array_equal(RUN.retrain([[0], [1], [2]], threads=3), expected)
    assert np.isfinite(answer(sketch))


MASKED = """
import os, signal, time
sys.modules["fcntl"] = None
import warnings
warnings.simplefilter("error")
from test_store_system import SIMILARITY, RIGHT, RUN, StoreError, answer, cs, produce
path = sys.argv[1]

def refused(done, blocks):
    try:
        produce(path)
    except StoreError as reason:
        assert "is being written by another process" in str(reason), reason
    else:
        raise AssertionError

if sys.argv[2] == "work":
    cs.sketch(RUN, 4, 2, per_example="series", similarity=SIMILARITY, path=path, progress=refused, threads=1)
    assert answer(produce(path)) == RIGHT
else:
    cs.sketch(RUN, 12, 2, similarity=SIMILARITY, path=path, progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_without_fcntl_one_process_writes_at_a_time_and_the_dead_hold_no_lock(tmp_path):
    path = str(tmp_path / "a.sketch")
    done = in_a_process(MASKED, path, "work")
    assert done.returncode == 0, done.stderr
    assert answer(cs.open_sketch(path)) == RIGHT
    assert in_a_process(MASKED, path, "die").returncode == -9
    done = in_a_process(MASKED, path, "work")
    assert done.returncode == 0, done.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answer(produce(path, 12)) is not None
