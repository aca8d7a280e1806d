"""What a newcomer meets first: help, the public names, where docstrings send people, what prints itself."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch import errors


def help_of(thing):
    return pydoc.plain(pydoc.render_doc(thing))


def test_help_is_an_overview_that_names_everything_public():
    text = help_of(cs)
    assert len(text.splitlines()) < 120
    assert "__" not in text.replace("__init__.py", "")
    for name in cs.__all__:
        assert re.search(rf"\b{name}\b", text), name
    assert re.search(r"sketch\(\s*run: ", help_of(cs.sketch))
    assert "without" in help_of(cs.Query)


def test_what_others_than_help_see_of_the_package_is_all_that_is_public():
    assert set(cs.__all__) <= set(dir(cs))
    assert {name for name, _ in inspect.getmembers(cs)} >= set(cs.__all__)
    space = {}
    exec("from circuitsketch import *", space)
    assert set(cs.__all__) <= set(space)
    program = "import circuitsketch; print(len(dir(circuitsketch)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > len(cs.__all__)


def test_all_errors_and_warnings_are_exported():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert len(kinds) > 8
    for kind in kinds:
        assert getattr(cs, kind.__name__) is kind and kind.__name__ in cs.__all__


def mentioned():
    """Every dotted path into the package that a public docstring names."""
    texts = [cs.__doc__]
    for name in cs.__all__:
        thing = getattr(cs, name)
        texts.append(thing.__doc__)
        if inspect.isclass(thing):
            texts += [part.__doc__ for _, part in inspect.getmembers(thing)]
    texts = [text for text in texts if isinstance(text, str)]
    return sorted({path for text in texts for path in re.findall(r"circuitsketch(?:\.\w+)+", text)})


def test_where_docstrings_send_people_can_be_reached():
    paths = mentioned()
    assert "circuitsketch.directions" in paths and "circuitsketch.tree" in paths
    for path in [*paths, "circuitsketch.estimators.similarity", "circuitsketch.store.part_store"]:
        found = cs
        for name in path.split(".")[1:]:
            found = getattr(found, name)
        if inspect.ismodule(found):
            assert importlib.import_module(path) is found
            space = {}
            exec(f"import {path} as it", space)
            assert space["it"] is found
            assert help_of(found)


def run_of_five(**about):
    step = lambda s, x, keep: np.sin(s) + (keep * keep).sum() * x  # noqa: E731
    return cs.Training(step, np.zeros(()), [1.0, 5.0, 2.0, 4.0, 3.0], [[i] for i in range(5)], **about)


def test_tab_completion_offers_every_method_that_the_guides_call():
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    sketch = cs.sketch(run, directions=2, order=1)
    guides = "".join(page.read_text() for page in (Path(cs.__file__).parent / "docs").glob("*.md"))
    for name, held in {"sketch": sketch, "query": sketch.measure(lambda s: s)}.items():
        called = set(re.findall(rf"\b{name}\.(\w+)\(", guides))
        assert len(called) > 3 and called <= set(dir(held))


def test_printed_influence_says_who_the_examples_are():
    items, labels = ["ann", "bob " * 20, "cid", "dan", "eve"], ["x", "y", "x", "y", "y"]
    query = cs.sketch(run_of_five(items=items, labels=labels), 0, 3, per_example="series").measure(lambda s: s)
    lines = str(query.influence(top=5)).splitlines()
    assert lines[1].split() == ["id", "example", "label", "change", "+-"]
    for line, i in zip(lines[2:7], query.influence().top(5), strict=True):
        assert line.split()[0] == str(i) and items[i].split()[0] in line and f" {labels[i]} " in line
    assert max(map(len, lines[:7])) < 80 and "..." in "".join(lines[2:7])
    columns = [line.rstrip().rfind(line.split()[-1]) + len(line.split()[-1]) for line in lines[1:7]]
    assert len(set(columns)) == 1  # in a column
    assert "bob" in query.influence()._repr_html_()
    only = str(cs.sketch(run_of_five(labels=labels), 0, 3, per_example="series").measure(lambda s: s).influence())
    assert only.splitlines()[1].split() == ["id", "label", "change", "+-"]
    bare = str(cs.sketch(run_of_five(), 0, 3, per_example="series").measure(lambda s: s).influence())
    assert bare.splitlines()[1].split() == ["example", "change", "+-"]


def test_printed_influence_takes_items_that_are_arrays():
    items = [np.full((2, 2), i) for i in range(5)]
    query = cs.sketch(run_of_five(items=items, labels=["a"] * 5), 0, 2, per_example="series").measure(lambda s: s)
    assert "[[1 1] [1 1]]" in str(query.influence()) and "[[1 1] [1 1]]" in query.influence()._repr_html_()


def test_labels_that_would_steer_a_terminal_are_one_line():
    query = cs.sketch(run_of_five(items=["a\nb\tc", *"bcde"]), 0, 2, per_example="series").measure(lambda s: s)
    assert "a b c" in str(query.influence())


@pytest.mark.parametrize("estimator", ["interactions", "per-example", "first-order", "theorem"])
def test_a_prediction_of_order_1_is_of_order_1(estimator):
    step = lambda s, x, keep: s + 0.02 * keep.sum() * x * (1 + 0.3 * np.sin(s + x))  # noqa: E731
    run = cs.Training(step, np.zeros(()), [1.0, 5.0, 2.0, 4.0, 3.0], [[i] for i in range(5)])
    query = cs.sketch(run, 60, 3, per_example="series").measure(np.tanh)
    found = query.without([1, 3], order=1, estimator=estimator)
    assert found.order == 1 and found.terms.shape == (1,) and "order 2" not in str(found)
    assert found.change == pytest.approx(found.terms[0])
    if estimator != "theorem":  # the slope itself, by finite differences of retraining
        h = np.array([0, 1e-4, 0, 1e-4, 0])
        slope = (np.tanh(run.retrain(h)) - np.tanh(run.retrain(-h))) / 2e-4
        assert found.change == pytest.approx(slope, rel=1e-5)
    if estimator == "interactions":
        two = query.without([1, 3], order=2)
        own = query.without([1, 3], order=2, estimator="per-example")
        assert two.terms.shape == (2,) and two.change != own.change  # there are interactions of order 2 to leave out,
        assert found.stderr > two.stderr  # and what was left out is in the error


def test_messages_about_grouped_sketches_say_group():
    grouped = cs.sketch(run_of_five(), 8, 2, per_example="series", groups=["a", "a", "b", "b", "c"])
    query = grouped.measure(lambda s: s)
    for thing in (grouped, query, query.without("a"), query.influence(), query.without(["a", "b"])):
        text = f"{thing} {thing!r} {thing._repr_html_()}"
        assert "example" not in text.replace("3 of 5 examples", ""), text
    assert "3 groups" in repr(grouped) and "influence of 3 groups" in str(query.influence())
    with pytest.raises(cs.InputError, match="with n = 3 groups, ids are 0 to 2"):
        query.without([3])
