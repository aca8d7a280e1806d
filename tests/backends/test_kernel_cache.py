"""The cache of compiled kernels: what comes back from it, and all that must not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from llvmlite import binding
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

import circuitsketch as cs
from circuitsketch.backends import cache
from circuitsketch.backends.cpu import codegen
from circuitsketch.backends.numba_cache import attach_cache
from circuitsketch.errors import InputError

KEY = "ab" + "0" * 30
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no user ids and modes here")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own for every test, and nothing has been warned of."""
    monkeypatch.setenv("CIRCUITSKETCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "warned", [])
    return tmp_path / "cache"


def files(folder):
    """All files below a folder."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


def give_away(path, monkeypatch):
    """Let a file or folder belong to another user who is not root."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)


def test_a_cached_kernel_is_read_until_it_is_damaged(folder):
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code"
    cache.write(KEY, b"other code")
    assert cache.read(KEY) == b"other code"
    (file,) = files(folder)
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole + b"x", b"x" + whole[1:], whole[:-1] + b"x", whole[:40]):
        file.write_bytes(damaged)
        assert cache.read(KEY) is None


def test_a_file_under_another_files_name_is_not_read(folder):
    cache.write(KEY, b"code")
    (file,) = files(folder)
    other = KEY[:-1] + "1"
    file.rename(file.with_name(other))
    assert cache.read(other) is None and cache.read(KEY) is None


@posix
def test_processes_take_turns_at_compiling_but_do_not_wait_for_ever(folder):
    order = []

    def compile_after(seconds):
        with cache.take_turns(seconds):
            order.append(seconds)

    with cache.take_turns():
        thread = threading.Thread(target=compile_after, args=(60.0,))
        thread.start()
        begin = time.monotonic()
        compile_after(0.2)
        assert time.monotonic() - begin >= 0.2
        order.append("held")
    thread.join()
    assert order == [0.2, "held", 60.0]
    assert [file.stat().st_mode & 0o777 for file in files(folder)] == [0o600]
    compile_after(0.0)  # the lock is free, and none is left behind


@posix
def test_folders_and_files_are_private_whatever_the_umask(folder, monkeypatch):
    monkeypatch.setenv("CIRCUITSKETCH_CACHE", str(folder / "some" / "way" / "down"))
    before = os.umask(0)
    try:
        cache.write(KEY, b"code")
    finally:
        os.umask(before)
    assert cache.read(KEY) == b"code"
    modes = {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()}
    assert modes == {0o700} and files(folder)[0].stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
@pytest.mark.parametrize("which", ["root", "subfolder", "file"])
def test_a_cache_writable_by_others_is_not_read_and_warns_once(folder, which, mode):
    cache.write(KEY, b"code")
    path = {"root": folder, "subfolder": folder / KEY[:2], "file": folder / KEY[:2] / KEY}[which]
    path.chmod(mode)
    with pytest.warns(RuntimeWarning, match=rf"not used: other users may write {path} .*CIRCUITSKETCH_CACHE") as told:
        assert cache.read(KEY) is None
        assert cache.read(KEY) is None
        if which != "file":  # a file is replaced by one of ours
            before = sorted(files(folder))
            cache.write(KEY[:-1] + "2", b"more")
            assert sorted(files(folder)) == before
    assert len(told) == 1


@posix
@pytest.mark.parametrize("which", ["root", "subfolder", "file"])
def test_a_cache_owned_by_another_user_is_not_read(folder, which, monkeypatch):
    cache.write(KEY, b"code")
    path = {"root": folder, "subfolder": folder / KEY[:2], "file": folder / KEY[:2] / KEY}[which]
    owners = path.stat().st_uid
    give_away(path, monkeypatch)
    with pytest.warns(RuntimeWarning, match="belongs to user .* runs as user"):
        assert cache.read(KEY) is None
    assert owners == os.getuid()


@posix
@pytest.mark.parametrize("mode", [0o755, 0o750, 0o500])
def test_a_cache_readable_by_others_is_used(folder, mode):
    cache.write(KEY, b"code")
    (folder / KEY[:2]).chmod(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.read(KEY) == b"code"


@posix
def test_a_cache_entry_that_is_not_a_regular_file_is_replaced(folder, tmp_path):
    cache.write(KEY, b"code")
    (file,) = files(folder)
    (tmp_path / "elsewhere").write_bytes(file.read_bytes())
    for put in (os.mkfifo, lambda path: os.symlink(tmp_path / "elsewhere", path), lambda path: os.symlink(path, path)):
        file.unlink()
        put(file)
        assert cache.read(KEY) is None
        cache.write(KEY, b"code")
        assert cache.read(KEY) == b"code"
    assert (tmp_path / "elsewhere").exists()
    file.unlink()
    file.mkdir()
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")
    assert files(folder) == []  # nothing is left of the attempt


@posix
def test_a_link_of_ones_own_to_the_cache_is_followed_and_one_within_is_not(folder, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "disk")
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code" and len(files(tmp_path / "disk")) == 1
    (tmp_path / "disk" / KEY[:2]).rename(tmp_path / "away")
    (tmp_path / "disk" / KEY[:2]).symlink_to(tmp_path / "away")
    assert cache.read(KEY) is None


def test_a_full_disk_leaves_no_cache_entry(folder, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.write(KEY, b"code")
    assert files(folder) == []


def test_old_temporary_files_of_a_killed_process_are_removed(folder):
    cache.write(KEY, b"code")
    (file,) = files(folder)
    old, young = (file.with_name(f"{KEY}.{pid}.aa") for pid in (1, 2))
    old.write_bytes(b"co")
    young.write_bytes(b"co")
    os.utime(old, (0, 0))
    cache.write(KEY, b"code")
    assert sorted(files(folder)) == [file, young]


@pytest.mark.parametrize("place", ["/proc/none", "bad\0name", "x" * 5000, "file/below"])
def test_an_impossible_cache_folder_disables_the_cache(place, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "locate_cache", lambda: tmp_path / place)
    cache.write(KEY, b"code")
    assert cache.read(KEY) is None


def test_without_a_home_folder_the_cache_is_disabled(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("CIRCUITSKETCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.locate_cache() is None
    cache.write(KEY, b"code")
    assert cache.read(KEY) is None


def test_compiling_works_without_a_cache(tmp_path):
    """Kernels, and the loops that Numba compiles by itself, whose own cache insists on a folder."""
    code = (
        "import numpy as np, circuitsketch as cs\n"
        "from circuitsketch.estimators.interactions.sparse_batches import compiled\n"
        "print(cs.compile(cs.trace(lambda x: 2.0 * x, 0.0))(1.5))\n"
        "print(compiled().gather(np.eye(2), np.empty(2, np.uint32), np.empty(2), np.zeros(3, np.int64)))"
    )
    surroundings = {k: v for k, v in os.environ.items() if not k.endswith(("CACHE", "CACHE_HOME", "CACHE_DIR"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings | {"HOME": "/proc/none"}, capture_output=True, text=True,
        timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.split() == ["3.0", "True"], done.stderr
    assert done.stderr == "" and files(tmp_path) == []


def test_a_deleted_current_folder_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("CIRCUITSKETCH_CACHE", "relative")
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")

    def broken(*_):
        return lambda program: os.getcwd()

    monkeypatch.setattr(numba, "cfunc", broken)
    with pytest.raises(InputError, match="the current folder has been deleted; change to one that exists"):
        codegen.translate(print, None, "name")


# ------------------------------------------------------------------------------------------------------ machine code


def seven(name, symbol=None):
    """A module whose function returns 7, perhaps under another symbol; its name stands in it in any case."""
    text = f"{name}\\00"
    return binding.parse_assembly(
        f'target triple = "{binding.get_process_triple()}"\n'
        f'@label = constant [{len(name) + 1} x i8] c"{text}"\n'
        f"define i64 @{symbol or name}() {{ ret i64 7 }}\n"
    )


def call(address):
    import ctypes

    assert address
    return ctypes.CFUNCTYPE(ctypes.c_int64)(address)()


@pytest.mark.parametrize("kind", ["of another symbol", "no object", "cut", "of another key"])
def test_cached_code_of_another_kernel_is_never_called(kind, folder):
    key = codegen.make_key("a kernel of this test", kind)
    name = f"kernel_{key}"
    code = codegen.target_machine().emit_object(seven(name, symbol=f"stranger_{key}"))
    if kind == "no object":
        code = b"ELF? " + name.encode()
    if kind == "cut":
        code = code[: len(code) // 2] + name.encode()
    if kind == "of another key":
        code = codegen.target_machine().emit_object(seven(f"kernel_{codegen.make_key('another')}"))
    cache.write(key, code)
    compiled = []

    def written(name):
        compiled.append(name)
        return seven(name)

    assert call(codegen.load(key, written)) == 7
    assert compiled == [name]
    assert cache.read(key) not in (None, code)  # and what was wrong is replaced
    assert not codegen.get_engine().get_function_address(f"kernel_{codegen.make_key('another')}")  # nor was it loaded
    codegen.loaded.pop(key)


def test_kernels_come_from_the_disk_when_they_are_there(folder, monkeypatch):
    key = codegen.make_key("a kernel that is kept")
    cache.write(key, codegen.target_machine().emit_object(seven(f"kernel_{key}")))

    def written(name):
        raise AssertionError("it is on the disk")

    assert call(codegen.load(key, written)) == 7


def test_a_kernels_name_depends_on_all_that_it_is_made_of(monkeypatch):
    compiled = cs.compile(cs.trace(lambda x: np.exp(x) * 2.0, np.zeros(3)))
    compiled(np.ones(3))
    (executable,) = compiled.executables.values()
    (kernel,) = {i.kernel for i in executable.instructions}
    one = codegen.make_kernel_key(kernel, executable.target)
    assert one == codegen.make_kernel_key(kernel, executable.target)
    monkeypatch.setattr(codegen, "describe_environment", lambda: "another compiler")
    assert codegen.make_kernel_key(kernel, executable.target) != one


def test_sources_that_cannot_be_read_are_never_the_same(monkeypatch, tmp_path):
    cache.hash_sources.cache_clear()
    known = cache.hash_sources("gates")
    assert known == cache.hash_sources.__wrapped__("gates") != cache.hash_sources("lower")
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    for room in ("gates", "estimators/interactions/sparse_kernels.py"):
        assert cache.hash_sources.__wrapped__(room) != cache.hash_sources.__wrapped__(room)
    cache.hash_sources.cache_clear()


def test_numba_functions_are_cached_by_source_and_types(folder):
    def twice(about):
        found = numba.njit(lambda x: 2 * x)
        attach_cache(found, FunctionCache, dumps, about)
        return found

    def hits(found):
        return sum(found.stats.cache_hits.values())

    first = twice("source")
    assert (first(4), first(1.5), hits(first)) == (8, 3.0, 0)
    again = twice("source")
    assert (again(4), again(1.5), hits(again)) == (8, 3.0, 2)
    other = twice("another source")
    assert (other(4), hits(other)) == (8, 0)
    for file in files(folder):
        cache.write(file.name, b"no pickle")
    damaged = twice("source")
    assert (damaged(4), hits(damaged)) == (8, 0)
