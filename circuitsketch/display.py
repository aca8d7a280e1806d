"""Render a record as a small HTML table for notebooks: a caption and rows of text in, HTML out.

All text is escaped and free of control characters. Each record chooses its rows; in a terminal `__repr__` gives one
line, and `print` the same rows as the table.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from circuitsketch.arguments import text_of
from circuitsketch.errors import printable

SHOWN = 6  # values that `summarize` lists
NEWLINE = "\n"


def table(
    caption: str, rows: Iterable[Sequence[str]], head: Sequence[str] = (), notes: Iterable[str] = (), more: str = ""
) -> str:
    """Return an HTML table of labelled rows, with optional column headings, notes below, and a collapsible listing.

    >>> table("two", [["a < b", "1"]], notes=["no more"])
    '<table><caption>two</caption><tbody><tr><th>a &lt; b</th><td>1</td></tr></tbody></table><p>no more</p>'
    """
    top = "".join(f"<th>{escape(name)}</th>" for name in ["", *head]) if head else ""
    body = "".join(
        f"<tr><th>{escape(label)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for label, *cells in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption>"
        + (f"<thead><tr>{top}</tr></thead>" if top else "")
        + f"<tbody>{body}</tbody></table>"
        + "".join(f"<p>{escape(note)}</p>" for note in notes)
        + (f"<details><summary>listing</summary>{listing(more)}</details>" if more else "")
    )


def listing(text: str) -> str:
    """Return text as a preformatted HTML block."""
    return f"<pre>{html.escape(printable(text, keep=NEWLINE))}</pre>"


def escape(text: str) -> str:
    """Return text escaped for HTML."""
    return html.escape(printable(text))


def list_completions(of: object, names: Sequence[str]) -> list[str]:
    """Return the names that tab completion offers for a record: its public names and the dunder methods."""
    return [*names, *(name for name in object.__dir__(of) if name.startswith("__"))]


def list_some(names: Sequence[str], most: int = 5) -> str:
    """Return the first names as comma-separated text, with the number of the others.

    >>> list_some(["a", "b", "c"]), list_some(["a", "b", "c"], most=2)
    ('a, b, c', 'a, b and 1 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def summarize(values: Iterable[Any]) -> str:
    """Return the first distinct values as comma-separated text, with "..." for the rest.

    >>> summarize("aabc"), summarize(range(9))
    ('a, b, c', '0, 1, 2, 3, 4, 5, ...')
    """
    texts: dict[str, None] = {}
    for value in values:
        text = text_of(value)
        texts[text if len(text) <= 24 else text[:21] + "..."] = None
        if len(texts) > SHOWN:
            return ", ".join([*list(texts)[:SHOWN], "..."])
    return ", ".join(texts)
