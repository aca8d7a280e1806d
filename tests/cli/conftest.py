"""A folder with a user's run and two sketches, and calls of the command line in it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from own_run import OWN

from circuitsketch import cli


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run of one's own and two sketches."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "own.py").write_text(OWN)
    (folder / "lacking.py").write_text("import nowhere_to_be_found\n")
    for arguments in (
        ("own.py:make", "--directions", "8", "--order", "2", "--per-example", "--out", "own.sketch"),
        ("logistic:epochs=3", "--directions", "8", "--order", "2", "--out", "zoo.sketch"),
    ):
        command = [sys.executable, "-m", "circuitsketch.cli", "sketch", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def call(home, monkeypatch, capsys):
    """Exit code, stdout, stderr of a call in the folder."""
    monkeypatch.chdir(home)

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        out, err = capsys.readouterr()
        return left.value.code or 0, out, err

    return run


@pytest.fixture
def found(call):
    """The JSON of a call, which must be all that is on stdout."""

    def run(*arguments):
        code, out, err = call(*arguments, "--json", "-")
        assert code == 0, err
        return json.loads(out)

    return run
