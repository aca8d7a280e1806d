"""A page in one file, which needs no server and can be sent to somebody.

In: a view. Out: HTML with the examples, their effects, and what is needed to sum them, with intervals, in the browser.
"""

from __future__ import annotations

from pathlib import Path

from circuitsketch.errors import InputError
from circuitsketch.page.document import build_document
from circuitsketch.page.sums import describe_sums, sum_query
from circuitsketch.page.view import View


def sum_view(view: View) -> View:
    """Return the view of the same measurements that answers by single examples' effects, summed, as the file does."""
    summed = {name: sum_query(query, name, view.values, view.retrained) for name, query in view.bases.items()}
    alike = View(summed, title=view.title, about=view.about)
    alike.retrained = view.retrained
    return alike


def build_static_page(view: View) -> str:
    """Return the page as one HTML document, which loads nothing.

    Raises
    ------
    InputError
        If the effects of single examples are not known.
    """
    alike = sum_view(view)
    known = view.describe()
    data = alike.describe() | {
        "can_retrain": False,
        "about": [list(pair) for pair in view.about if pair[0] != "path"],  # of this machine, and not for others
        "values": known["values"],
        "effect_warnings": known["effect_warnings"],
        "sums": [describe_sums(query, name) for name, query in alike.bases.items()],
        "calibration": alike.calibration(),
    }
    return build_document(data, f"{view.title}: without them" if view.title else "Without them")


def write_static_page(view: View, path: str | Path) -> int:
    """Write the page to a file; return its size in bytes.

    Raises
    ------
    InputError
        If the file cannot be written, or the effects of single examples are not known.
    """
    text = build_static_page(view).encode()
    try:
        Path(path).write_bytes(text)
    except OSError as reason:
        raise InputError(f"cannot write {path}: {reason.strerror}") from None
    return len(text)
