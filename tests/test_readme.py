"""The README keeps its word: its examples run, and its two commands are the ones that continuous integration runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("source", blocks("python"), ids=["training", "on disk", "gate"])
def test_an_example_runs_as_it_stands(source, tmp_path):
    # A process of its own: an example may add a gate to the table, which no other test should meet.
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    # The numbers that comments quote are among those printed.
    for quoted in re.findall(r"# (\d\.\d+)", source):
        assert quoted in done.stdout


def test_the_first_example_has_at_most_15_lines():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("command", [block.strip() for block in blocks("sh")[:2]])
def test_continuous_integration_runs_the_command_word_for_word(command):
    assert command.startswith("python3 -m venv .venv && ")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_tests_come_last_so_that_their_summary_does():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()
    assert lines[-1] == blocks("sh")[1].strip()


def test_every_dependency_has_its_line_of_why():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = README.split("## Dependencies")[1].split("\n## ")[0]
    for requirement in project["dependencies"]:
        assert f"| {re.match(r'[a-z0-9-]+', requirement)[0]} |" in section
    for requirement in sum(project["optional-dependencies"].values(), []):
        assert re.search(rf"\b{re.match(r'[a-z0-9-]+', requirement)[0]}\b", section)


def test_every_room_is_on_the_map():
    section = README.split("## The rooms")[1].split("\n## ")[0]
    package = ROOT / "circuitsketch"
    rooms = [f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()]
    rooms += [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    assert [room for room in rooms if f"`{room}`" not in section] == []


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_a_link_to_a_file_leads_somewhere(target):
    assert (ROOT / target).exists()
