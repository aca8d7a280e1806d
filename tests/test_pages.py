"""The README and the guide pages: examples run, links lead somewhere, and quoted commands are the real ones."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "circuitsketch" / "docs").glob("*.md"))
TEXTS = [README, *PAGES, ROOT / "circuitsketch" / "THEORY.md", ROOT / "circuitsketch" / "CHANGELOG.md"]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def section(path: Path, title: str) -> str:
    return path.read_text(encoding="utf-8").split(title)[1].split("\n## ")[0]


@pytest.mark.parametrize("path", [p for p in [README, *PAGES] if blocks(p, "python")], ids=lambda p: p.name)
def test_the_examples_of_a_page_run_one_after_the_other(path, tmp_path):
    # A process of its own: an example may add a gate to the table, which no other test should meet.
    source = "\n".join(blocks(path, "python"))
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    for quoted in re.findall(r"# (\d\.\d+)", source):  # the numbers that comments quote are among those printed
        assert quoted in done.stdout


def test_the_first_example_has_at_most_15_lines():
    assert len([line for line in blocks(README, "python")[0].splitlines() if line.strip()]) <= 15


def test_the_readme_is_read_in_one_sitting():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


@pytest.mark.parametrize("command", [block.strip() for block in blocks(README, "sh")[:2]])
def test_continuous_integration_runs_the_command_word_for_word(command):
    assert command.startswith("python3 -m venv .venv && ")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_tests_come_last_so_that_their_summary_does():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()
    assert lines[-1] == blocks(README, "sh")[1].strip()


def test_every_dependency_has_its_line_of_why():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    why = section(README, "## Dependencies")
    for requirement in project["dependencies"]:
        assert f"| {re.match(r'[a-z0-9-]+', requirement)[0]} |" in why
    for requirement in sum(project["optional-dependencies"].values(), []):
        assert re.search(rf"\b{re.match(r'[a-z0-9-]+', requirement)[0]}\b", why)


def test_every_module_of_the_package_is_in_the_table():
    rooms = section(ROOT / "circuitsketch" / "docs" / "internals.md", "# Structure of the code")
    package = ROOT / "circuitsketch"
    names = [f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()]
    names += [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    assert [name for name in names if f"`{name}`" not in rooms] == []


def test_every_page_is_in_the_table_of_contents():
    listed = blocks(ROOT / "circuitsketch" / "docs" / "index.md", "{toctree}")[0].split()
    assert {page.stem for page in PAGES} - {"index"} <= set(listed)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_a_link_to_a_file_leads_somewhere(path):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
