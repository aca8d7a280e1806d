"""The page in a notebook: a real kernel runs the cells, and a real browser shows what they leave."""

from __future__ import annotations

import page_runs
import pytest
from small_runs import raises

import circuitsketch as cs

CELLS = """
import sys
sys.path.insert(0, {tests!r})
import circuitsketch as cs, page_runs
query = cs.sketch(page_runs.make(), 0, order=2, per_example="series").measure(page_runs.loss)
query.explore(calibrate=24)
"""


def test_a_notebook_shows_the_page_in_a_frame(open_page, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="no nbclient: pip install 'circuitsketch[browser]'")
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install 'circuitsketch[browser]'")
    cells = [nbformat.v4.new_code_cell(CELLS.format(tests=str(page_runs.__file__).rpartition("/")[0]))]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = notebook.cells[0].outputs[-1]["data"]
    assert "show it in a notebook" in shown["text/plain"]
    (tmp_path / "shown.html").write_text(f"<!doctype html><title>shown</title>{shown['text/html']}", encoding="utf-8")
    tab = open_page((tmp_path / "shown.html").as_uri(), ready=False)
    frame = tab.frame_locator("iframe")
    frame.locator("body[data-ready]").wait_for()
    frame.get_by_label("Ids").fill("4,9")
    frame.get_by_role("button", name="Pick ids").click()
    frame.locator("#headline", has_text="without 2 examples").wait_for()
    assert "95 % from" in frame.locator("#headline").inner_text()
    assert "24 random subsets" in frame.locator("#trust").inner_text()
    # A notebook may give a frame its width when the page has been drawn already.
    before = frame.locator("#agreement svg").bounding_box()["width"]
    tab.set_viewport_size({"width": 500, "height": 900})
    frame.locator(f"#agreement svg:not([width='{before:g}'])").wait_for()
    assert frame.locator("#agreement svg").bounding_box()["width"] < 480


def test_a_page_of_a_query_is_saved(tmp_path):
    query = cs.sketch(page_runs.make(), 0, order=2, per_example="series").measure(page_runs.loss)
    explorer = query.explore(calibrate=0)
    assert "loss" in repr(explorer) and explorer.save(tmp_path / "page.html") > 10_000
    assert "<iframe srcdoc=" in explorer._repr_html_() and page_runs.MARKUP not in explorer._repr_html_()
    with raises(cs.InputError, "calibrate"):
        query.explore(calibrate=-1)


def test_the_intervals_of_a_query_whose_run_is_at_hand_are_calibrated():
    query = cs.sketch(page_runs.make(), 0, order=2, per_example="series").measure(page_runs.loss)
    assert len(query.explore("value").view.retrained.drawn["value"].rows) == 48
