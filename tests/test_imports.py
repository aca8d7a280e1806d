"""Which module imports which, read from the source: every import counts, in functions and for type checkers too."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "circuitsketch"


def package_sources() -> dict[str, str]:
    """The source of every module of the package, by its dotted name."""
    sources = {}
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text(encoding="utf-8")
    return sources


def imported_names(source: str) -> Iterator[str]:
    """The dotted names that a module imports; of `from a import b` both are given as a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(sources: Mapping[str, str]) -> nx.DiGraph:
    """An edge from every module to the modules among `sources` that it imports."""
    graph = nx.DiGraph()
    graph.add_nodes_from(sources)
    for module, source in sources.items():
        for name in imported_names(source):
            while name and name not in sources:  # a.b.function is in a.b
                name = name.rpartition(".")[0]
            if name and name != module:
                graph.add_edge(module, name)
    return graph


def circles(graph: nx.DiGraph) -> list[list[str]]:
    return [sorted(component) for component in nx.strongly_connected_components(graph) if len(component) > 1]


def rooms_from_the_top() -> list[set[str]]:
    """The layers of the import-linter contract; rooms side by side in one layer do not import each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [{room.strip() for room in layer.split("|")} for layer in contract["layers"]]


def test_no_modules_import_each_other():
    assert circles(import_graph(package_sources())) == []


@pytest.mark.parametrize(
    "back",
    [
        "import p.a",
        "from p import a",
        "from p.a import thing",
        "def late():\n    from p.a import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import Thing",
    ],
)
def test_a_circle_is_seen_however_its_imports_are_written(back):
    assert circles(import_graph({"p": "", "p.a": "from p.b import other", "p.b": back})) == [["p.a", "p.b"]]


def test_the_layers_list_every_room_once():
    listed = sorted(room for layer in rooms_from_the_top() for room in layer)
    rooms = {file.stem for file in (ROOT / PACKAGE).glob("*.py")} - {"__init__"}
    rooms |= {folder.parent.name for folder in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert listed == sorted(rooms)


def test_rooms_import_only_from_rooms_below_them():
    level = {room: i for i, layer in enumerate(rooms_from_the_top()) for room in layer}
    upward = []
    for importer, imported in import_graph(package_sources()).edges:
        if PACKAGE in (importer, imported):  # the front door: what it shows, no circle among them, is held above
            continue
        above, below = importer.split(".")[1], imported.split(".")[1]
        if above != below and level[above] >= level[below]:
            upward.append((importer, imported))
    assert upward == []


def test_imports_that_no_tool_sees_are_of_backends_the_page_and_the_users_modules():
    hidden = {name for name, source in package_sources().items() if "import_module(" in source}
    of_users = {"circuitsketch.cli.parsing", "circuitsketch.gates.gate"}
    assert hidden == {"circuitsketch.backends.registry", "circuitsketch.attribution.query"} | of_users


def test_the_page_is_imported_when_a_query_is_explored():
    code = "import sys, circuitsketch; print('circuitsketch.page.notebook' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False\n"
