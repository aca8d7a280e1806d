"""Many subsets in one command, intervals of any level, plans, labels, groups and figures of one's own sketch.

The oracles: the Python interface, closed forms of a run that is a polynomial in its weights, retraining.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import t as student

import circuitsketch as cs

OWN = """
import numpy as np
import circuitsketch as cs

def make(scale=1.0):
    xs = [np.float64(1 + i % 4) * scale for i in range(4)]
    step = lambda s, x, keep: {"params": 0.5 * s["params"] + (keep * keep).sum() * x}
    run = cs.Training(step, {"params": np.zeros(())}, xs, [[i] for i in range(4)], labels=["a", "a", "b", "b"],
                      items=["ann", "bob", "cid", "dan"])
    return run

def value(params):
    return params

def both(params):
    return {"once": params, "twice": [2 * params]}

def wobbly(params):
    return np.tanh(params)
"""


def truth(gone):
    """s = sum_t 0.5^(3 - t) (1 + t) over what is kept."""
    return sum(0.5 ** (3 - t) * (1 + t) for t in range(4) if t not in gone)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run of one's own, a sketch of it, one by label, one of random directions."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "mine.py").write_text(OWN)
    for name, options in {
        "own": ["--directions", "8", "--order", "2", "--per-example"],
        "grouped": ["--directions", "8", "--order", "2", "--per-example", "--by-label"],
        "noisy": ["--directions", "12", "--order", "3", "--distribution", "sphere"],
    }.items():
        command = [sys.executable, "-m", "circuitsketch.cli", "sketch", "mine.py:make", "--out", f"{name}.sketch"]
        command += options
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    return folder


ASK = ("predict", "own.sketch", "--measure", "mine.py:value")


@pytest.mark.parametrize(
    ("name", "text", "subsets"),
    [
        ("lines.txt", "0\n1 3  # both\n\n# nothing\n0-2\n", {"line 1": [0], "line 2": [1, 3], "line 5": [0, 1, 2]}),
        ("list.json", "[[0], [1, 3], [2, 0]]", {"subset 0": [0], "subset 1": [1, 3], "subset 2": [0, 2]}),
        ("names.json", '{"first": [0], "rest": "1-3"}', {"first": [0], "rest": [1, 2, 3]}),
        ("noname", '["0", ["1-2"]]', {"subset 0": [0], "subset 1": [1, 2]}),
    ],
)
def test_a_file_of_several_subsets_gives_a_row_for_each(found, call, home, name, text, subsets):
    (home / name).write_text(text)
    answer = found(*ASK, "--file", name, "--target", "mine.py:make", "--retrain")
    assert {row["name"]: row["ids"] for row in answer["subsets"]} == subsets
    for row in answer["subsets"]:
        assert row["retrained"] == pytest.approx(truth(row["ids"]), rel=1e-12)
        assert row["value"] == pytest.approx(truth(row["ids"]), rel=1e-9) and row["deleted"] == len(row["ids"])
    code, out, _ = call(*ASK, "--file", name)
    assert code == 0 and all(name in out for name in subsets) and f"{len(subsets)} subsets of 4 examples" in out


def test_examples_named_beside_a_file_are_deleted_from_each_of_its_subsets(found, home):
    (home / "two.txt").write_text("0\n1\n")
    answer = found(*ASK, "--file", "two.txt", "--containing", "dan")
    assert [row["ids"] for row in answer["subsets"]] == [[0, 3], [1, 3]]


@pytest.mark.parametrize(("name", "text"), [("one.txt", "0,2"), ("one.json", "[0, 2]"), ("one.json", "[[0, 2]]")])
def test_a_file_of_one_subset_is_one_prediction(found, home, name, text):
    (home / name).write_text(text)
    answer = found(*ASK, "--file", name)
    assert answer["ids"] == [0, 2] and answer["value"] == pytest.approx(truth([0, 2]), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bad.txt", "0\nx\n", "bad.txt:2"),
        ("far.txt", "0\n9\n", "far.txt:2: there is no example 9"),
        ("bad.json", "[[0], 1.5]", "subset 1 is 1.5"),
        ("bad.json", "[[0], []]", "subset 1 is []"),
        ("bad.json", "[[0], {}]", "subset 1 is {}"),
        ("bad.json", "[[0", "is not JSON"),
        ("bad.json", "[[true]]", "subset 0"),
        ("empty.txt", "# nothing\n", "contains no ids"),
    ],
)
def test_an_invalid_subsets_file_is_refused_with_its_place(call, home, name, text, words):
    (home / name).write_text(text)
    code, out, err = call(*ASK, "--file", name)
    assert code in (1, 2) and words in err and not out


def test_the_level_of_an_interval_is_chosen(found, call):
    ask = ("predict", "noisy.sketch", "--measure", "mine.py:wobbly", "--without", "1")
    for level in (0.5, 0.95, 0.999):
        answer = found(*ask, "--level", str(level))
        reach = student.ppf(0.5 + level / 2, answer["degrees_of_freedom"]) * answer["stderr"]
        assert answer["level"] == level and answer["high"] - answer["value"] == pytest.approx(reach)
    assert "50 % interval" in call(*ask, "--level", "0.5")[1]
    assert "95 % interval" in call(*ask)[1]
    for level in ("0", "1", "2", "nan"):
        assert call(*ask, "--level", level)[0] == 2


def test_order_1_has_no_order_2(found, call):
    for store in ("own.sketch", "noisy.sketch"):
        ask = ("predict", store, "--measure", "mine.py:wobbly", "--without", "1,2", "--order", "1")
        answer = found(*ask)
        assert answer["order"] == 1 and len(answer["terms"]) == 1
        assert answer["change"] == pytest.approx(answer["terms"][0])
        assert "order 2" not in call(*ask)[1]


def test_each_label_is_left_out_in_turn(found, call):
    ask = ("evaluate", "own.sketch", "--measure", "mine.py:value", "--target", "mine.py:make", "--by-label")
    answer = found(*ask)
    assert [(row["label"], row["deleted"]) for row in answer["labels"]] == [("a", 2), ("b", 2)]
    for row, gone in zip(answer["labels"], ([0, 1], [2, 3]), strict=True):
        assert row["retrained"] == pytest.approx(truth(gone)) and row["predicted"] == pytest.approx(truth(gone))
    out = call(*ask)[1]
    assert "each of 2 labels" in out and "retrained" in out
    assert call(*ask, "--size", "2")[0] == 2 and call(*ask, "--subsets", "2")[0] == 2


def test_a_sketch_of_groups_speaks_of_groups(call, home):
    target = ("--target", "mine.py:make")
    for command in (
        ("info", "grouped.sketch"),
        ("predict", "grouped.sketch", "--measure", "mine.py:value", "--label", "a"),
        ("influence", "grouped.sketch", "--measure", "mine.py:value"),
        ("stability", "grouped.sketch", "--measure", "mine.py:value"),
        ("evaluate", "grouped.sketch", "--measure", "mine.py:value", "--subsets", "2", "--size", "1", *target),
    ):
        code, out, err = call(*command)
        assert code == 0, err
        assert (
            "example" not in out.replace("2 of 4 examples", "").replace("estimator per-example", "") and "group" in out
        ), (command, out)
    code, _, err = call("predict", "grouped.sketch", "--measure", "mine.py:value", "--without", "7")
    assert code == 1 and "no group 7" in err
    query = cs.open_sketch(home / "grouped.sketch").measure(lambda p: p)
    opened = cs.open_sketch(home / "grouped.sketch")
    for text in (str(query), str(query.influence()), str(query.without("a")), repr(opened)):
        assert "example" not in text, text
    for wrong in ([7], [0, 0], np.ones(5, dtype=bool), []):
        with pytest.raises(cs.InputError) as said:
            query.without(wrong)
        assert "example" not in str(said.value), said.value


def test_a_pytree_is_predicted_on_the_command_line(found, call):
    ask = ("predict", "own.sketch", "--measure", "mine.py:both", "--without", "1")
    ask += ("--target", "mine.py:make", "--retrain")
    answer = found(*ask)
    assert answer["value"]["twice"][0] == pytest.approx(2 * truth([1]))
    assert answer["retrained"] == {"once": pytest.approx(truth([1])), "twice": [pytest.approx(2 * truth([1]))]}
    assert "twice.0" in call(*ask)[1]
    listed = found("influence", "own.sketch", "--measure", "mine.py:both", "--top", "1")
    assert listed["top"][0]["id"] == 3


def test_a_plan_is_the_packages_own(found, call, home):
    run = cs.open_sketch(home / "noisy.sketch").measure(lambda p: p)
    answer = found("plan", "--epsilon", "0.1", "--delta", "0.05")
    assert answer["directions"] == 820 and answer["alpha_is"] == "assumed"
    assert "taken as 1" in call("plan", "--epsilon", "0.1", "--delta", "0.05")[1]
    pilot = ("--pilot", "noisy.sketch", "--measure", "mine.py:value")
    promise = ("--epsilon", "0.4", "--delta", "0.05", *pilot, "--deleted", "2", "--rate", "1e-9")
    answer = found("plan", "mine.py:make", *promise)
    expected = cs.plan(0.4, 0.05, query=run, deleted=2)
    assert answer["alpha"] == pytest.approx(expected.alpha) and answer["directions"] == expected.directions
    assert answer["seconds"] > 0 and answer["disk"] > 0
    priced = found("plan", "mine.py:make", "--directions", "20", "--order", "2", "--per-example", "--rate", "1e-9")
    made = cs.sketch(run_of(home), 20, 2, per_example="series")
    assert priced["nbytes"] == made.lanes.nbytes + made.per_example.lanes.nbytes and priced["error"] is None
    for wrong in ((), ("mine.py:make", "--pilot", "noisy.sketch"), ("x", "--per-example-order", "2")):
        assert call("plan", *wrong)[0] == 2


def run_of(home):
    space = {}
    exec((home / "mine.py").read_text(), space)
    return space["make"]()


def test_figures_of_ones_own_sketch(found, call, home):
    pytest.importorskip("matplotlib")
    keep = ("--subsets", "6", "--size", "2", "--keep", "truths", "--target", "mine.py:make")
    found("evaluate", "noisy.sketch", "--measure", "mine.py:wobbly", *keep)
    ask = ("figures", "noisy.sketch", "--measure", "mine.py:wobbly")
    answer = found(*ask, "--truths", "truths", "--out", "drawn")
    names = ["stability", "influence", "removal", "calibration", "agreement"]
    assert [name.split("/")[-1] for name in answer["files"]] == [f"{name}.png" for name in names]
    data = {name: json.loads((home / "drawn" / f"{name}.json").read_text())["data"] for name in names}
    query = cs.open_sketch(home / "noisy.sketch").measure(np.tanh)
    np.testing.assert_allclose(data["stability"]["norms"], query.stability().norms)
    effects = query.influence().change
    assert data["influence"]["helpful_change"] + data["influence"]["harmful_change"] == pytest.approx(
        [*sorted(effects[effects > 0], reverse=True), *sorted(effects[effects < 0])]
    )
    assert set(data["influence"]["helpful"]) <= {"ann", "bob", "cid", "dan"}
    assert data["agreement"]["retrained"] == pytest.approx(np.load(home / "truths" / "margins.npy").ravel().tolist())
    assert len(data["calibration"]["levels"]) == len(data["calibration"]["covered"]) == 19
    fewer = found(*ask, "--out", "fewer")["files"]
    assert [name.split("/")[-1] for name in fewer] == ["stability.png", "influence.png", "removal.png"]
    (home / "pair.json").write_text('{"first": [0], "rest": [1, 2]}')
    found(*ask, "--file", "pair.json", "--retrain", "--target", "mine.py:make", "--out", "curves")
    removal = json.loads((home / "curves" / "removal.json").read_text())["data"]
    assert [curve["label"] for curve in removal["curves"]] == ["first", "rest"]
    run = run_of(home)
    expected = [np.tanh(run.params(run.retrain(w))) for w in ([0.0] * 4, [1.0, 0, 0, 0], [0, 1.0, 1.0, 0])]
    assert removal["retrained"][0] == pytest.approx(expected[0]) and removal["checked"][-2:] == [1, 1]
    assert removal["retrained"][-2:] == pytest.approx(expected[1:])
    found(*ask, "--containing", "b", "--label", "a", "--out", "one")
    removal = json.loads((home / "one" / "removal.json").read_text())["data"]
    assert removal["removed"] == "2 of 4 examples (ann, bob)"
    assert call("figures", "--without", "1")[0] == 2 and call("figures", "--retrain")[0] == 2
    assert call("figures", "noisy.sketch")[0] == 2 and call("figures", "--measure", "x")[0] == 2
    assert call(*ask, "--paper")[0] == 2
