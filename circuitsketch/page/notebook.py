"""The page in a notebook: the page without a server, in a frame."""

from __future__ import annotations

import html
from pathlib import Path

from circuitsketch.arguments import check_int, quoted
from circuitsketch.attribution.query import Query
from circuitsketch.errors import InputError
from circuitsketch.page.static_page import build_static_page, write_static_page
from circuitsketch.page.view import View

HEIGHT = 900  # pixels of the frame
CALIBRATED_ON = 48  # subsets, where the run is at hand


def explore(query: Query, name: str | None = None, calibrate: int | None = None) -> Explorer:
    """Return the page of one measurement: see `Query.explore`."""
    if name is None:
        measure = None if query.source is None else query.source.measure
        name = getattr(measure, "__name__", "measurement").replace("<lambda>", "measurement")
    if not isinstance(name, str):
        raise InputError(f"name must be a string, such as 'loss', not {quoted(name)}")
    if calibrate is not None:
        check_int(calibrate, "calibrate", 0)
    view = View({name: query})
    count = calibrate if calibrate is not None else CALIBRATED_ON if query.knows_run else 0
    if count and "calibrated" not in query.estimators:
        view.calibrate(count)
    return Explorer(view)


class Explorer:
    """A page that a notebook shows, and that can be written to a file.

    Parameters
    ----------
    view : View
    """

    def __init__(self, view: View) -> None:
        self.view = view

    def save(self, path: str | Path) -> int:
        """Write the page to a file that can be sent to somebody; return its size in bytes."""
        return write_static_page(self.view, path)

    def _repr_html_(self) -> str:
        page = html.escape(build_static_page(self.view))
        return (
            f'<iframe srcdoc="{page}" title="What would the model say without them?" width="100%" height="{HEIGHT}" '
            'style="border:0" sandbox="allow-scripts allow-downloads"></iframe>'
        )

    def __repr__(self) -> str:
        names = ", ".join(value.name for value in self.view.values)
        return f"<page about {names}, {self.view.n:,} {self.view.unit}s: show it in a notebook, or save(path)>"
