"""The page in one file: small, escaped, without addresses elsewhere; its numbers are those of Python."""

from __future__ import annotations

import json
import re

import numpy as np
import page_runs
import pytest
from small_runs import raises

import circuitsketch as cs
from circuitsketch.page.static_page import build_static_page, sum_view, write_static_page
from circuitsketch.page.view import View
from circuitsketch.zoo import microgpt

SUBSETS = [[5], [4, 9, 17], [1, 2, 3, 6, 7], list(range(3, 36)), page_runs.DIVERGES]


def kinds():
    """Views of all that a page can sum: series, retrained effects, a budget's, first order."""
    run = page_runs.make()
    sketch = cs.sketch(run, 16, order=2, per_example="series")
    both = {"loss": sketch.measure(page_runs.loss), "margin": sketch.measure(page_runs.margins)}
    calibrated = View(both)
    calibrated.calibrate(30, largest=6)
    retrained = View({"loss": cs.sketch(run, 0, order=1, per_example="retrained").measure(page_runs.loss)})
    retrained.calibrate(30, largest=6)
    return {
        "series": calibrated,
        "uncalibrated": View(both),
        "retrained": retrained,
        "budget": View({"loss": cs.attribute(run, page_runs.loss, budget=36)}),
        "first order": View({"loss": cs.sketch(run, 16, order=2).measure(page_runs.loss)}),
    }


@pytest.fixture(scope="module")
def views():
    return kinds()


def read_data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_sums_are_those_of_the_estimator_that_python_names(views):
    query = views["series"].bases["loss"]
    for ids in SUBSETS:
        value = sum_view(views["uncalibrated"]).ask(ids)["values"][0]
        assert value["value"] == pytest.approx(query.without(ids, estimator="per-example").value, rel=1e-12)
        assert value["low"] is None  # nothing is known of its error
    run = page_runs.make()
    exact = float(page_runs.loss(run.params(run.retrain([5]))))
    assert sum_view(views["retrained"]).ask([5])["values"][0]["low"] == pytest.approx(exact, rel=1e-9)
    budget = views["budget"].bases["loss"]
    answer = sum_view(views["budget"]).ask([4, 9, 17])["values"][0]
    assert (answer["low"], answer["high"]) == budget.without([4, 9, 17]).interval()


@pytest.mark.parametrize("kind", ["series", "uncalibrated", "retrained", "budget", "first order"])
def test_the_script_computes_pythons_numbers(views, kind, open_page, tmp_path):
    write_static_page(views[kind], tmp_path / "page.html")
    tab, alike = open_page((tmp_path / "page.html").as_uri()), sum_view(views[kind])
    for ids in SUBSETS:
        shown = tab.evaluate("ids => askSums(embedded, ids)", ids)
        expected = alike.ask(ids)
        for here, there in zip(shown["values"], expected["values"], strict=True):
            for key in ("value", "change", "low", "high"):
                assert here[key] == (None if there[key] is None else pytest.approx(there[key], rel=1e-7, abs=1e-9))
            for key in ("value", "low", "high"):
                same = [x if x is None else pytest.approx(x, rel=1e-7, abs=1e-9) for x in there["curve"][key]]
                assert here["curve"][key] == same
        assert bool(shown["warnings"]) == bool(expected["warnings"])


def test_an_interval_of_the_file_covers_what_is_retrained(views):
    run, rng = page_runs.make(), np.random.default_rng(5)
    alike, inside = sum_view(views["series"]), 0
    for _ in range(40):
        ids = rng.choice(page_runs.N, rng.integers(2, 7), replace=False)
        value = alike.ask(ids)["values"][0]
        inside += value["low"] <= float(page_runs.loss(run.params(run.retrain(ids)))) <= value["high"]
    assert inside >= 34  # of 40 at 95 %: fewer has a probability of 0.3 %


def test_a_file_for_others_says_no_path_of_this_machine(views):
    view = View(views["series"].bases, about=[("sketch", "of a test"), ("path", "/home/somebody/a.sketch")])
    page = build_static_page(view)
    assert "somebody" not in page and read_data(page)["about"] == [["sketch", "of a test"]]
    assert ["path", "/home/somebody/a.sketch"] in view.describe()["about"]


def test_nothing_in_the_data_is_markup(views):
    page = build_static_page(views["series"])
    assert page_runs.MARKUP not in page and page_runs.CLOSING not in page and "<b>user</b>" not in page
    assert read_data(page)["items"][1] == page_runs.MARKUP
    assert page.count("<script") == 2 and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_a_thousand_examples_take_less_than_a_megabyte(tmp_path):
    names = microgpt.names()[:1000]
    run = microgpt.training(names, width=4)
    query = cs.sketch(run, 0, order=2, per_example="series").measure(microgpt.loss, "max")
    size = write_static_page(View({"loss:max": query}), tmp_path / "page.html")
    assert size == (tmp_path / "page.html").stat().st_size < 300_000


def test_what_cannot_be_written_is_told(views, tmp_path):
    with raises(cs.InputError, "cannot write"):
        write_static_page(views["series"], tmp_path / "nowhere" / "page.html")
    cs.sketch(page_runs.make(), 8, order=2, path=tmp_path / "a.sketch")
    query = cs.open_sketch(tmp_path / "a.sketch").measure(page_runs.loss)
    with raises(cs.InputError, "--per-example"):
        build_static_page(View({"loss": query}))
