"""The six methods of a store of objects: one table of laws for files, memory and, in `workers`, an S3 server.

The oracle: a dict.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from objects import LAWS, places
from stores import watched

import circuitsketch as cs
from circuitsketch.store import object_store, objects
from circuitsketch.store.objects import FileObjects, check_address, open_objects


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", ["files", "memory"])
def test_objects_follow_the_laws(kind, law, tmp_path):
    LAWS[law](open_objects(places(kind, tmp_path)))


def test_an_object_that_was_being_written_is_absent_or_complete(tmp_path):
    """Stopped before any call to the system, and in the middle of those that write."""
    files = FileObjects(str(tmp_path))
    old, new = b"old", b"new contents"
    for write, before in ((files.put, old), (files.put, None), (files.put_new, None)):
        calls = []
        with watched(lambda name, call, *a: (calls.append(name), call(*a))[1]):  # noqa: B023
            files.put("count", old)
            files.delete("count")
            write("count", new)
        files.delete("count")
        for k in range(len(calls)):
            if before is not None:
                files.put("c.0", before)
            number = iter(range(1000))

            def stop(name, call, *arguments, number=number, k=k):
                now = next(number)
                if now == k and name == "write":
                    call(arguments[0], bytes(arguments[1])[:5])
                if now >= k:
                    raise KeyboardInterrupt
                return call(*arguments)

            with watched(stop), pytest.raises(KeyboardInterrupt):
                write("c.0", new)
                raise KeyboardInterrupt
            data = files.get("c.0")
            assert (None if data is None else bytes(data)) in (before, new)
            for name, _ in list(files.list()):
                files.delete(name)


def test_of_two_processes_that_write_what_is_new_one_wins(tmp_path):
    program = (
        "import sys; from circuitsketch.store.objects import FileObjects\n"
        "files = FileObjects(sys.argv[1])\n"
        "sys.stdin.readline()\n"
        "print(*[int(files.put_new(str(i), sys.argv[2].encode() * 1000)) for i in range(200)])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    racers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    wins = [list(map(int, racer.communicate()[0].split())) for racer in racers]
    assert [a + b for a, b in zip(*wins, strict=True)] == [1] * 200
    files = FileObjects(str(tmp_path))
    assert all(bytes(files.get(str(i))) == (b"a" if a else b"b") * 1000 for i, a in enumerate(wins[0]))


def test_links_and_folders_are_not_objects(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "area"
    (folder / "folder").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    files = FileObjects(str(folder))
    assert files.get("folder") is None and files.size("folder") is None
    for read in (files.get, files.size):
        with pytest.raises(cs.StoreError, match="symbolic link"):
            read("link")
    os.mkfifo(folder / "pipe")
    assert files.get("pipe") is None and files.size("pipe") is None


def test_a_folder_without_rights_is_an_error_in_words(tmp_path, monkeypatch):
    files = FileObjects(str(tmp_path))

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", arguments[0])

    for call, name in ((lambda: files.put("a", b""), "open"), (lambda: files.put_new("a", b""), "link")):
        with (
            monkeypatch.context() as patch,
            pytest.raises(cs.StoreError, match="permission denied.*folder is writable"),
        ):
            patch.setattr(os, name, refuse)
            call()
    with monkeypatch.context() as patch, pytest.raises(cs.StoreError, match="permission denied"):
        patch.setattr(os, "listdir", refuse)
        list(files.list())


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://host/a", "begins with 'ftp://'; use s3://bucket/prefix"),
        ("s3://", "has no bucket"),
        ("s3:///a", "has no bucket"),
        ("s3://bucket//a", "an empty name"),
        ("s3://bucket/../a", "an empty name"),
        ("s3://user:hidden@bucket/a", "credentials are taken from the environment"),
        ("s3://bucket/a?secret=hidden", "credentials are taken from the environment"),
        ("", "an empty path"),
        (3, "must be a path, not 3"),
    ],
)
def test_a_malformed_address_is_refused_and_no_password_repeated(address, message):
    with pytest.raises(cs.InputError, match=message) as caught:
        check_address(address)
    assert "hidden" not in str(caught.value)


def test_addresses_are_normalised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_address("area") == check_address(tmp_path / "area/") == str(tmp_path / "area")
    assert check_address("s3://bucket/") == "s3://bucket" and check_address("gs://bucket/a/b") == "gs://bucket/a/b"


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(cs.InputError, match=r"requires the package obstore on every machine.*circuitsketch\[objects\]"):
        objects.open_objects.__wrapped__("s3://bucket/nowhere")


class PermissionDeniedError(Exception):
    """As obstore names it."""


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            ValueError("status code: 403 Forbidden: <Code>InvalidAccessKeyId</Code>AKIA"),
            "refused .403 InvalidAccessKeyId",
        ),
        (PermissionDeniedError("AKIA"), "access is refused .no rights.; check the credentials in the environment"),
        (FileNotFoundError("AKIA"), "its bucket does not exist; create it"),
        (ValueError("status code: 404: <Code>NoSuchBucket</Code>AKIA"), "its bucket does not exist; create it"),
        (OSError("status code: 501: <Code>NotImplemented</Code>AKIA"), "does not support.*a shared folder"),
        (OSError("status code: 507: <Code>XMinioStorageFull</Code>AKIA"), "is full .507.*free some space"),
        (OSError("status code: 503 Slow: <Code>SlowDown</Code>AKIA"), "answers 503 SlowDown; call again"),
        (OSError("HTTP error: error sending request AKIA"), "cannot be reached; check the network.*call again"),
        (OSError("HTTP error: builder error AKIA"), "malformed; check AWS_ENDPOINT_URL"),
    ],
)
def test_what_a_server_answers_is_put_in_words_without_its_text(reason, message):
    text = object_store.describe_error(reason)
    assert re.search(message, text) and "AKIA" not in text
