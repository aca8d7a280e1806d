"""What a gate is stands on its record: no code outside the room of gates decides by a gate's name."""

from __future__ import annotations

import ast
from pathlib import Path

import circuitsketch as cs
from circuitsketch.gates import GATES

ROOT = Path(cs.__file__).parent


def strings(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def attributes(tree):
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def decisions(source):
    """Comparisons of something's name with the name of a gate, and look-ups by one, with their lines."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            says_name = any("name" in attributes(side) or ast.unparse(side) == "name" for side in sides)
            if says_name and any(strings(side) & set(GATES) for side in sides):
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Compare) and any(
            ast.unparse(s).endswith("gate.name") for s in ast.walk(node) if isinstance(s, ast.Attribute)
        ):
            yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Match) and "name" in attributes(node.subject):
            yield node.lineno, ast.unparse(node.subject)
        if isinstance(node, ast.Subscript) and ast.unparse(node.slice).endswith("gate.name"):
            yield node.lineno, ast.unparse(node)


def test_no_code_outside_the_room_of_gates_decides_by_a_gates_name():
    listed = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] != "gates"
        for line, text in decisions(path.read_text())
    ]
    assert listed == []


def test_a_decision_by_name_would_be_noticed():
    for source in (
        'if node.gate.name == "take": pass',
        'if name in ("take", "pad"): pass',
        "if gate.name in COMMUTATIVE: pass",
        "RULES[node.gate.name]",
    ):
        assert list(decisions(source)), source
    assert not list(decisions('text = f"gate {node.gate.name}"'))
