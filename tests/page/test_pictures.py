"""The pictures of the page in the README and the docs: drawn here, and as large as those that are there.

PICTURES=circuitsketch/docs pytest tests/page/test_pictures.py   draws them anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from matplotlib.image import imread

import circuitsketch as cs
from circuitsketch.page.view import View
from circuitsketch.zoo import microgpt

DOCS = Path(cs.__file__).parent / "docs"
SIZES = {"page": (1200, 1250, "light"), "page_narrow": (360, 1500, "dark")}


@pytest.fixture(scope="module")
def view():
    """A GPT of 120 names, and what it says of two of them."""
    run = microgpt.training(microgpt.names()[:120], alphabet=microgpt.ALPHABET)
    sketch = cs.sketch(run, 48, order=3, per_example="series")
    queries = {f"loss:{name}": sketch.measure(microgpt.loss, name) for name in ("christian", "max")}
    names = View(queries, title="names.sketch", about=[("run", "120 steps on 120 names")])
    names.calibrate(48)
    names.check([i for i, name in enumerate(run.items) if "ch" in name])
    return names


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_is_what_the_page_shows(view, serve, open_page, tmp_path, name):
    width, height, scheme = SIZES[name]
    with serve(view) as server:
        tab = open_page(server.address, viewport={"width": width, "height": height}, color_scheme=scheme)
        tab.get_by_label("Search").fill("ch")
        tab.get_by_role("button", name="Pick all shown").click()
        tab.locator("#headline", has_text="Trained again").wait_for()
        folder = Path(os.environ.get("PICTURES", tmp_path)).absolute()
        tab.screenshot(path=folder / f"{name}.png")
    assert imread(folder / f"{name}.png").shape[:2] == imread(DOCS / f"{name}.png").shape[:2] == (height, width)
