"""Parse command-line arguments that select examples: ids, labels, texts, and files of subsets.

In: texts such as 1,5,7-9, or a file. Out: lists of ids, or an error that names the option.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuitsketch.arguments import text_of
from circuitsketch.cli.parsing import UsageError, suggest_name
from circuitsketch.errors import InputError
from circuitsketch.training.subsets import in_order


def parse_ids(text: str, n: int, where: str = "--without", unit: str = "example") -> list[int]:
    """Parse ids and ranges of ids, separated by commas or spaces.

    >>> parse_ids("1,5,7-9", 10)
    [1, 5, 7, 8, 9]
    """
    ids: list[int] = []
    for word in re.split(r"[,\s]+", text.strip()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if match is None:
            raise UsageError(
                f"{where}: {word!r} is not an id; give ids and ranges such as 1,5,7-9, or use --containing TEXT "
                "or --label LABEL"
            )
        first, last = (parse_id(digits, n) for digits in (match[1], match[2] or match[1]))
        if last < first:
            raise UsageError(f"{where}: the range {word} is reversed; write {last}-{first}")
        if last >= n:
            raise InputError(f"{where}: there is no {unit} {shorten(match[2] or match[1])}; ids go from 0 to {n - 1}")
        ids += range(first, last + 1)
    return ids


def shorten(text: str) -> str:
    """Shorten a text for an error message."""
    return text if len(text) <= 40 else text[:37] + "..."


def parse_id(digits: str, n: int) -> int:
    """Parse an id of any length; ids that are too large become n."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= len(str(n)) else n


def read_subsets(path: Path, n: int, unit: str = "example") -> dict[str, list[int]]:
    """Read the subsets in a file, by name.

    A text file has one subset per line, with comments after #. A JSON file has a list of subsets, a dict of them by
    name, or one subset; a subset is a list of ids or a text such as "1,5,7-9".
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        cause = reason.strerror if isinstance(reason, OSError) else "it is not a UTF-8 text file"
        raise InputError(f"--file: cannot read {path}: {cause}") from None
    if path.suffix == ".json" or text.lstrip()[:1] in ("[", "{"):
        return parse_json_subsets(text, path, n, unit)
    subsets = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if kept := line.split("#")[0].strip():
            subsets[f"line {number}"] = parse_ids(kept, n, f"{path}:{number}", unit)
    if not subsets:
        raise InputError(f"--file: {path} contains no ids; write one subset per line, such as 1,5,7-9")
    return subsets


def parse_json_subsets(text: str, path: Path, n: int, unit: str) -> dict[str, list[int]]:
    """Parse the subsets of a JSON file."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise InputError(f"--file: {path} is not JSON: {reason}") from None

    def subset(value: Any, where: str) -> list[int]:
        if isinstance(value, str):
            return parse_ids(value, n, f"{path}: {where}", unit)
        if not isinstance(value, list) or not value or not all(type(x) in (int, str) for x in value):
            raise InputError(
                f"--file: {path}: {where} is {json.dumps(value)[:40]}; a subset is a list of ids, such as [1, 5], or a "
                'text, such as "1,5,7-9"'
            )
        return [i for x in value for i in parse_ids(str(x), n, f"{path}: {where}", unit)]

    if isinstance(given, dict) and isinstance(given.get("questions"), list):  # the log of a page
        return {one["name"]: subset(one["ids"], repr(one["name"])) for one in given["questions"]}
    if isinstance(given, dict) and given:
        return {str(name): subset(value, repr(name)) for name, value in given.items()}
    if isinstance(given, list) and given and any(isinstance(value, list) for value in given):
        return {f"subset {i}": subset(value, f"subset {i}") for i, value in enumerate(given)}
    return {"all": subset(given, "it")}


def read_log(path: Path, n: int, unit: str = "example") -> list[tuple[str, list[int], dict[str, float]]]:
    """Read the questions of a log that a page has written, JSON or CSV: names, ids, and predicted values by name."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip()[:1] == "{":
            questions = json.loads(text)["questions"]
            rows = [(q["name"], q["ids"], v["name"], v["value"]) for q in questions for v in q["values"]]
        else:
            lines = csv.DictReader(io.StringIO(text, newline=""))
            rows = [(row["name"], row["ids"], row["value_name"], float(row["value"])) for row in lines]
    except OSError as reason:
        raise InputError(f"--replay: cannot read {path}: {reason.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"--replay: {path} is not a log; download one from the page") from None
    logged: dict[tuple[str, str], dict[str, float]] = {}
    for name, ids, value_name, value in rows:
        logged.setdefault((str(name), str(ids)), {})[str(value_name).removeprefix("'")] = value
    return [(name, parse_ids(ids, n, f"{path}: {name}", unit), values) for (name, ids), values in logged.items()]


def ids_containing(text: str, items: Sequence[Any] | None, unit: str = "example") -> list[int]:
    """Return the ids of the examples whose item contains a text."""
    if not text:
        raise UsageError("--containing: the text is empty")
    if items is None:
        raise InputError(
            "--containing: the examples of the run have no items; pass items= to cs.Training, or use --without IDS"
        )
    ids = [i for i, item in enumerate(items) if text in str(item)]
    if not ids:
        raise InputError(f"--containing: no {unit} contains {text!r}; examples: {first_values(items)}")
    return ids


def ids_with_label(label: str, labels: Sequence[Any] | None, unit: str = "example") -> list[int]:
    """Return the ids of the examples with a label."""
    if labels is None:
        raise InputError(
            "--label: the examples of the run have no labels; pass labels= to cs.Training, or use --without IDS"
        )
    ids = [i for i, known in enumerate(labels) if label in (str(known), text_of(known))]
    if not ids:
        known = [text_of(x) for x in in_order(labels)]
        raise InputError(
            f"--label: no {unit} has the label {label!r}; labels are {first_values(known)}{suggest_name(label, known)}"
        )
    return ids


def first_values(values: Sequence[Any]) -> str:
    """Format the first few values."""
    return ", ".join(text_of(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
