"""What a notebook, an editor and a prompt show of the package's records: well-formed, escaped, short, and true."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

import circuitsketch as cs

RUDE = "<b>&amp; friends</b>"


def value(state):
    """The trained number."""
    return state


@pytest.fixture(scope="module")
def shown():
    """A record of each kind, by name, of a run whose items have letters that HTML minds."""
    step = lambda s, x, keep: 0.5 * s + keep.sum() * x  # noqa: E731
    run = cs.Training(
        step, np.zeros(()), [1.0, 10.0, 2.0, 3.0], [[0], [1], [2], [3]], labels=["a", "<i>", "a", "a"], items=[RUDE] * 4
    )
    sketch = cs.sketch(run, directions=4, order=2, per_example="series")
    query = sketch.measure(value)
    return {
        "Training": run,
        "Circuit": run.circuits[0],
        "Sketch": sketch,
        "Query": query,
        "Prediction": query.without([1]),
        "several": sketch.measure(lambda s: s * np.ones(2)).without([1]),
        "Evaluation": cs.evaluate(query, [[0], [1], [2, 3]], run=run, measure=value),
    }


class Reader(HTMLParser):
    """Texts by the tag that they stand in; fails where tags do not match."""

    def __init__(self, page):
        super().__init__()
        self.open, self.found = [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert attrs == []
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.found.append((self.open[-1], data))

    def cells(self):
        """The rows of the table: label to what follows it."""
        found, label = {}, None
        for tag, text in self.found:
            if tag == "th":
                label = text
            elif tag == "td" and label is not None:
                found[label] = (found[label] + " | " if label in found else "") + text
        return found


NAMES = ["Training", "Circuit", "Sketch", "Query", "Prediction", "several", "Evaluation"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_a_small_table_whose_tags_match(shown, name):
    page = shown[name]._repr_html_()
    read = Reader(page)
    assert page.startswith("<table>") and len(page) < 3000
    assert {tag for tag, _ in read.found} <= {"caption", "th", "td", "p", "summary", "pre"}
    assert "<b>" not in page and "<i>" not in page


def test_a_notebook_table_shows_the_right_facts(shown):
    cells = {name: Reader(shown[name]._repr_html_()).cells() for name in NAMES}
    assert cells["Training"]["size(A)"] == f"{shown['Training'].size} scalar gates"
    assert cells["Training"]["items"] == cells["Sketch"]["items"] == "<b>&amp; friends</b>"
    assert cells["Training"]["labels"] == cells["Query"]["labels"] == "a, <i>"
    assert cells["Circuit"]["takes"] == "args.0 f64[], args.1 f64[], args.2 f64[1]"
    assert f"depth {shown['Circuit'].depth}" in cells["Circuit"]["size"]
    assert ("pre", str(shown["Circuit"])) in Reader(shown["Circuit"]._repr_html_()).found
    assert cells["Sketch"]["per example"].startswith("each of the 4 examples alone")
    assert cells["Query"]["as trained"] == "6.625"  # 1/8 + 10/4 + 2/2 + 3, of which 10/4 goes
    assert cells["Query"]["directions"] == "4 of distribution 'orthonormal', to order 2"
    assert cells["Prediction"]["value"] == "4.125"
    assert cells["several"]["value"] == "4.125 | 4.125"
    assert cells["Evaluation"]["LDS"].startswith(f"{shown['Evaluation'].lds:.3f}")


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_shows_one_short_line(shown, name):
    line = repr(shown[name])
    assert line.startswith("<") and line.endswith(">") and "\n" not in line and len(line) < 160


def test_other_results_have_one_line_reprs(shown):
    query = shown["Query"]
    for found in (query.influence(), query.stability()):
        assert "\n" not in repr(found) and repr(found)[1:-1] == str(found).splitlines()[0]
    assert "1 warning>" in repr(cs.Prediction(**{**vars(shown["Prediction"]), "warnings": ("far",)}))


@pytest.mark.parametrize(
    ("name", "there", "hidden"),
    [
        ("Training", {"train", "retrain", "size", "params"}, {"schedule", "executables", "state_tree"}),
        ("Sketch", {"measure", "extend", "info", "path"}, {"lanes", "state_lane", "constants", "target"}),
        ("Query", {"without", "influence", "calibrate", "worth", "downweights"}, {"evidence", "source", "moves"}),
    ],
)
def test_completion_shows_what_is_for_users(shown, name, there, hidden):
    names = [found for found in dir(shown[name]) if not found.startswith("_")]
    assert there <= set(names) and not hidden & set(names) and len(names) <= 25
    assert all(hasattr(shown[name], found) for found in dir(shown[name]))
