"""What a notebook and an editor show of a record: its caption and rows of text come in, a small table in HTML goes out.

Every text is escaped and has no control characters. Which rows a record has is its own affair; in a terminal it is a
line from `__repr__`, and the same rows from `print`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from circuitsketch.arguments import text_of
from circuitsketch.errors import printable

SHOWN = 6  # of many values
NEWLINE = "\n"


def table(
    caption: str, rows: Iterable[Sequence[str]], head: Sequence[str] = (), notes: Iterable[str] = (), more: str = ""
) -> str:
    """A table: rows of a label and its cells, headings over the cells, notes below, and a listing that unfolds.

    >>> table("two", [["a < b", "1"]], notes=["no more"])
    '<table><caption>two</caption><tbody><tr><th>a &lt; b</th><td>1</td></tr></tbody></table><p>no more</p>'
    """
    top = "".join(f"<th>{escaped(name)}</th>" for name in ["", *head]) if head else ""
    body = "".join(
        f"<tr><th>{escaped(label)}</th>" + "".join(f"<td>{escaped(cell)}</td>" for cell in cells) + "</tr>"
        for label, *cells in rows
    )
    return (
        f"<table><caption>{escaped(caption)}</caption>"
        + (f"<thead><tr>{top}</tr></thead>" if top else "")
        + f"<tbody>{body}</tbody></table>"
        + "".join(f"<p>{escaped(note)}</p>" for note in notes)
        + (f"<details><summary>listing</summary>{listing(more)}</details>" if more else "")
    )


def listing(text: str) -> str:
    """Text whose lines and columns are kept."""
    return f"<pre>{html.escape(printable(text, keep=NEWLINE))}</pre>"


def escaped(text: str) -> str:
    """Text in HTML."""
    return html.escape(printable(text))


def completed(of: object, names: Sequence[str]) -> list[str]:
    """What tab completion shows of a record: the names that are for its users, without those that rooms share."""
    return [*names, *(name for name in object.__dir__(of) if name.startswith("__"))]


def some(values: Iterable[Any]) -> str:
    """The first few of many, each once.

    >>> some("aabc"), some(range(9))
    ('a, b, c', '0, 1, 2, 3, 4, 5, ...')
    """
    found: dict[str, None] = {}
    for value in values:
        text = text_of(value)
        found[text if len(text) <= 24 else text[:21] + "..."] = None
        if len(found) > SHOWN:
            return ", ".join([*list(found)[:SHOWN], "..."])
    return ", ".join(found)
