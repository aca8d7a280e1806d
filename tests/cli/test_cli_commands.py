"""Every command through its real entry point, on small runs: output and JSON."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import types

import numpy as np
import pytest
from own_run import OWN

from circuitsketch import cli
from circuitsketch.attribution.ground_truth import retrain_and_measure
from circuitsketch.report import profile
from circuitsketch.zoo import logistic

# Takes the graph where Graphviz's dot would, and draws an element for each of its edges.
STAND_IN = f"""#!{sys.executable}
import sys
assert sys.argv[1] == "-Tsvg"
edges = sys.stdin.read().count(" -> ")
print('<svg><g class="node"/>' + '<g class="edge"/>' * edges + "</svg>")
"""


def test_info_is_what_the_sketch_was_made_of(found, home):
    facts = found("info", "zoo.sketch")
    run = logistic.training(epochs=3)
    assert (facts["target"], facts["directions"], facts["order"]) == ("logistic:epochs=3", 8, 2)
    assert (facts["examples"], facts["steps"], facts["size"]) == (run.n, run.steps, run.size)
    assert facts["labels"] == 2 and facts["per_example_order"] is None
    assert found("info", "own.sketch")["per_example_order"] == 2


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (("--without", "0,2-3"), [0, 2, 3]),
        (("--label", "b"), [2, 3]),
        (("--containing", "an"), [0, 3]),
        (("--file", "ids.txt"), [1, 3]),
        (("--without", "0", "--label", "b", "--without", "2"), [0, 2, 3]),
    ],
)
def test_predict_deletes_what_is_named_and_agrees_with_the_closed_form(found, home, options, gone):
    (home / "ids.txt").write_text("# two names\n1, 3  # bob and dan\n")
    answer = found(
        "predict", "own.sketch", "--measure", "own.py:value", *options, "--target", "own.py:make", "--retrain"
    )
    assert answer["ids"] == gone and answer["deleted"] == len(gone)
    # s = sum_t 0.5^(3 - t) (1 + t) over what is kept; every series ends at order 2, so nothing is left out.
    truth = sum(0.5 ** (3 - t) * (1 + t) for t in range(4) if t not in gone)
    assert answer["retrained"] == pytest.approx(truth, rel=1e-12)
    assert answer["value"] == pytest.approx(truth, rel=1e-9)


def test_predict_strength_halves_the_weights(found):
    answer = found("predict", "own.sketch", "--measure", "own.py:value", "--without", "3", "--strength", "0.5")
    assert answer["change"] == pytest.approx(4 * (0.25 - 1), rel=1e-9)


def test_a_measurement_may_be_an_array_and_take_arguments(found, call):
    arguments = ("predict", "own.sketch", "--measure", "own.py:pair:factor=3.0", "--without", "1")
    answer = found(*arguments)
    assert answer["value"][1] == pytest.approx(3 * answer["value"][0])
    code, out, _ = call(*arguments)
    assert code == 0 and "[1]" in out


def test_influence_lists_the_largest_first(found, call):
    answer = found("influence", "own.sketch", "--measure", "own.py:value", "--top", "2")
    assert [(row["id"], row["item"], row["label"]) for row in answer["top"]] == [
        (3, "dan", "b"),
        (2, "cid", "b"),
    ]
    assert answer["top"][0]["change"] == pytest.approx(-4.0)
    _, out, _ = call("influence", "own.sketch", "--measure", "own.py:value", "--top", "2")
    assert "dan" in out and "ann" not in out
    headings, row = out.splitlines()[2], out.splitlines()[4]
    assert headings.split() == ["id", "example", "label", "change", "+-"]
    assert row.split()[:4] == ["3", "dan", "b", "-4"]


def test_influence_of_a_run_is_of_first_order_and_takes_no_sketch(found, call):
    answer = found("influence", "own.py:make", "--measure", "own.py:value", "--top", "2")
    assert (answer["target"], answer["order"], answer["estimator"]) == ("own.py:make", 1, "first-order")
    assert [(row["id"], row["item"], row["label"]) for row in answer["top"]] == [(3, "dan", "b"), (2, "cid", "b")]
    # s = sum_t 0.5^(3 - t) (1 + t) k_t^2, whose slope at k = 1 is twice its change
    assert [row["change"] for row in answer["top"]] == pytest.approx([-8.0, -3.0]) and answer["top"][0][
        "stderr"
    ] is None
    _, out, _ = call("influence", "logistic:epochs=3", "--measure", "held_out_loss", "--top", "2")
    assert "unknown" in out and "estimator first-order" in out
    code, _, err = call("influence", "own.py:make", "--measure", "own.py:value", "--estimator", "theorem")
    assert code == 2 and "own.py:make is a run" in err.replace("\n", " ")
    code, _, err = call("influence", "own.sketh", "--measure", "own.py:value")
    assert code == 1 and "did you mean 'own.sketch'" in err


def test_stability_has_the_norm_of_every_order(found):
    answer = found("stability", "own.sketch", "--measure", "own.py:value")
    weights = [0.5 ** (3 - t) * (1 + t) for t in range(4)]
    assert answer["norms"][0] == pytest.approx(2 * np.linalg.norm(weights), rel=1e-9)  # exact, of the singles
    assert len(answer["norms"]) == 2 and set(answer["radius"]) == {"value", "stderr"}


def test_evaluate_saves_its_retrained_truths_and_resumes(found, call, home):
    arguments = ("evaluate", "zoo.sketch", "--measure", "held_out_loss", "--size", "4", "--keep", "truths")
    found(*arguments, "--subsets", "4")
    first = np.load(home / "truths" / "margins.npy")
    run = logistic.training(epochs=3)
    gone = np.flatnonzero(~np.load(home / "truths" / "masks.npy")[0])
    assert len(gone) == 4
    assert first[0, 0] == pytest.approx(logistic.held_out_loss(run.params(run.retrain(gone.tolist()))), rel=1e-9)
    np.save(home / "truths" / "margins.npy", first[:2])  # as an interrupted evaluation leaves it
    answer = found(*arguments, "--subsets", "6")
    assert answer["subsets"] == 6 and 0 <= answer["coverage"]["0.95"] <= 1
    assert (np.load(home / "truths" / "margins.npy")[:4] == first).all()
    code, _, err = call(*arguments, "--subsets", "4", "--seed", "1")
    assert code == 1 and "other subsets" in err
    other = tuple("held_out_margin" if word == "held_out_loss" else word for word in arguments)
    code, _, err = call(*other, "--subsets", "4")
    assert code == 1 and "another run, measurement or dtype" in err
    code, _, err = call(*arguments, "--subsets", "4", "--dtype", "float32")
    assert code == 1 and "another run, measurement or dtype" in err


def test_evaluate_retrains_in_float32(found, home):
    arguments = ("evaluate", "zoo.sketch", "--measure", "held_out_loss", "--size", "4", "--subsets", "4")
    answers = [found(*arguments, *more) for more in ((), ("--dtype", "float32", "--keep", "single"))]
    truths = np.load(home / "single" / "margins.npy")
    run = logistic.training(epochs=3)
    rows = (~np.load(home / "single" / "masks.npy")).astype(float)
    expected = retrain_and_measure(run, rows, logistic.held_out_loss, (), 1, dtype="float32")
    np.testing.assert_array_equal(truths[:, 0], expected)
    assert (
        answers[0]["rmse"] == pytest.approx(answers[1]["rmse"], rel=1e-3) and answers[0]["rmse"] != answers[1]["rmse"]
    )


def test_predict_retrains_in_float32(found):
    asked = ("predict", "zoo.sketch", "--measure", "held_out_loss", "--without", "1", "--calibrate", "0", "--retrain")
    answers = [found(*asked, "--target", "logistic:epochs=3", *more) for more in ((), ("--dtype", "float32"))]
    run = logistic.training(epochs=3)
    for answer, dtype in zip(answers, ("float64", "float32"), strict=True):
        retrained = logistic.held_out_loss(run.params(run.retrain([1], dtype=dtype)))
        assert answer["retrained"] == pytest.approx(retrained, rel=1e-12)
    assert answers[0]["retrained"] != answers[1]["retrained"]


def test_trace_prints_the_circuit_and_writes_its_graph(found, call, home):
    circuit = logistic.training(epochs=1).circuits[0]
    plain = found("trace", "logistic:epochs=1", "--dot", "step.dot")
    assert plain["circuit"]["size"] == circuit.size and plain["circuit"]["depth"] == circuit.depth
    assert len(plain["circuit"]["nodes"]) == len(circuit.nodes)
    edges = [line for line in (home / "step.dot").read_text().splitlines() if " -> " in line]
    assert len(edges) == circuit.graph.number_of_edges()
    _, out, _ = call("trace", "logistic:epochs=1")
    assert f"size {circuit.size:,}, depth {circuit.depth}" in out


def test_profile_adds_up_to_its_rows(found, call):
    plain = found("profile", "logistic:epochs=2", "--order", "1", "--by", "line")
    assert sum(row["seconds"] for row in plain["rows"]) == pytest.approx(plain["seconds_sum_of_rows"])
    assert plain["steps"] == 2 and plain["order"] == 1
    assert any(row["line"].startswith("logistic.py:") for row in plain["rows"])
    _, out, _ = call("profile", "logistic:epochs=2", "--order", "1")
    assert "share" in out and max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", [function.__name__ for function, _ in cli.COMMANDS])
def test_every_help_has_an_example_within_80_columns(call, name):
    code, out, _ = call(name, "--help")
    assert code == 0 and f"circuitsketch {name}" in out.rsplit("Example", 1)[1] and "--json" in out
    assert max(map(len, out.splitlines())) <= 80


def test_no_colour_off_a_terminal(call):
    assert "\x1b" not in "".join(map(str, call("predict", "own.sketch", "--measure", "own.py:value", "--without", "1")))


def test_figures_are_drawn_into_the_folder_and_listed(found, call, home, monkeypatch):
    def draw(folder, *, paper, threads, progress):
        progress("figure 1", 1, 1)
        folder.mkdir()
        (folder / "one.png").write_bytes(b"")
        return [folder / "one.png"] if paper and threads == 1 else []

    stand_in = types.ModuleType("circuitsketch.report.figures")
    stand_in.draw = draw
    monkeypatch.setitem(sys.modules, "circuitsketch.report.figures", stand_in)
    answer = found("figures", "--paper", "--threads", "1", "--out", "drawn")
    assert answer["files"] == [os.path.join("drawn", "one.png")] and (home / "drawn" / "one.png").exists()


def test_figures_reuse_an_existing_sketch(found, call):
    arguments = ("sketch", "own.py:make", "--directions", "4", "--out", "twice.sketch")
    facts = found(*arguments)
    assert (facts["directions"], facts["order"], facts["target"]) == (4, 3, "own.py:make")
    code, out, err = call(*arguments)
    # No bar is left of what had nothing to do, and no line of it either.
    assert code == 0 and err == "own.py:make: 4 steps on 4 examples, size(A) = 16 scalar gates.\n"


def test_a_paragraph_of_help_is_broken_only_where_the_terminal_ends():
    assert cli.paragraphs("One\n    two.\n\n    Three\n    four.") == "One two.\n\nThree four."


def test_a_picture_of_a_circuit_has_its_nodes_and_edges(call, home, monkeypatch):
    circuit = logistic.training(epochs=1).circuits[0]
    if shutil.which("dot") is None:  # a stand-in for Graphviz, which need not be installed
        (home / "bin").mkdir(exist_ok=True)
        (home / "bin" / "dot").write_text(STAND_IN)
        (home / "bin" / "dot").chmod(0o755)
        monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    code, out, err = call("trace", "logistic:epochs=1", "--svg", "step.svg")
    assert code == 0 and err == "wrote the picture to step.svg\n" and out.startswith("1 steps on")
    picture = (home / "step.svg").read_text()
    assert picture.count('class="edge"') == circuit.graph.number_of_edges()
    assert 'class="node"' in picture and "<svg" in picture


KEPT = ["state.params.gelu0_w", "state"]


def test_a_sketch_is_what_its_options_say(tmp_path, found, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.py").write_text(OWN)
    options = (
        "--directions 3 --order 2 --seed 5 --distribution sphere --dtype complex64 --per-example --per-example-order 4"
    )
    facts = found("sketch", "run.py:make", *options.split())
    named = {
        "directions": 3,
        "order": 2,
        "seed": 5,
        "distribution": "sphere",
        "dtype": "complex64",
        "per_example_order": 4,
    }
    assert {name: facts[name] for name in named} == named
    assert facts["path"] == str(tmp_path / "run.sketch") and facts["groups"] is None
    kept = [found("sketch", "mlp", *"--directions 2 --order 1 --keep".split(), keep, "--out", keep) for keep in KEPT]
    assert [part["kept"] for part in kept] == [KEPT[:1], kept[1]["kept"]] and len(kept[1]["kept"]) == 8
    plans = [found("plan", "mlp", "--directions", "2", "--rate", "1e-9", "--keep", keep) for keep in KEPT]
    assert plans[0]["nbytes"] < plans[1]["nbytes"]
    assert found("sketch", "run.py:make", "--directions", "2", "--by-label", "--out", "labels.sketch")["groups"] == 2


def test_answers_are_of_the_order_estimator_and_size_that_were_asked_for(found):
    one = ("own.sketch", "--measure", "own.py:value")
    answer = found("predict", *one, "--without", "1", "--order", "1")
    assert answer["order"] == len(answer["terms"]) == 1
    for estimator in ("theorem", "per-example", "first-order"):
        assert found("predict", *one, "--without", "1", "--estimator", estimator)["estimator"] == estimator
        assert found("influence", *one, "--estimator", estimator)["estimator"] == estimator
        arguments = ("--target", "own.py:make", "--subsets", "3", "--estimator", estimator)
        assert found("evaluate", *one, *arguments)["estimator"] == estimator
    zoo = ("zoo.sketch", "--measure", "held_out_loss", "--subsets", "2")
    assert found("evaluate", *zoo)["size"] == 8  # 2 % of 400
    first, second = (found("evaluate", *zoo, "--seed", seed)["rmse"] for seed in ("0", "1"))
    assert first != second


def test_the_circuit_shown_is_that_of_the_step_or_of_most_steps(found):
    assert found("trace", "own.py:shapes")["shown"] == 1  # two of three steps read two numbers
    assert [found("trace", "own.py:shapes", "--step", str(k))["shown"] for k in range(3)] == [0, 1, 1]


def test_tables_say_what_the_json_says(found, call):
    arguments = ("predict", "zoo.sketch", "--measure", "held_out_loss", "--without", "1-9")
    answer, (_, out, _) = found(*arguments), call(*arguments)
    rows = {line[:14].strip(): line[14:].split() for line in out.splitlines() if line.startswith(" ")}
    assert rows["predicted"] == [f"{answer['value']:.6g}", f"{answer['stderr']:.6g}"]
    assert rows["95 % interval"] == [f"{answer['low']:.6g}", "to", f"{answer['high']:.6g}"]
    assert rows["order 2"] == [f"{answer['terms'][1]:+.6g}", f"{answer['term_stderr'][1]:.6g}"]
    arguments = ("stability", "zoo.sketch", "--measure", "held_out_loss")
    radius, (_, out, _) = found(*arguments)["radius"]["value"], call(*arguments)
    assert f"which is {int(radius**2):,} deleted examples" in " ".join(out.split())


def test_a_graph_numbers_operands_and_frames_outputs(call, home):
    call("trace", "own.py:shapes", "--step", "0", "--dot", "shapes.dot")
    lines = (home / "shapes.dot").read_text().splitlines()
    run = runpy.run_path(str(home / "own.py"))["shapes"]()
    (output,) = run.circuits[0].outputs
    framed = [line.split()[0] for line in lines if "peripheries=2" in line]
    assert framed == [str(output)]
    first, second = run.circuits[0].nodes[output].operands
    assert f'  {first} -> {output} [label="0"];' in lines and f'  {second} -> {output} [label="1"];' in lines


def test_an_instruction_is_counted_as_often_as_the_run_plays_it(monkeypatch):
    row = types.SimpleNamespace(name="exp", place="x.py:1", seconds=1.0, multiply_adds=3)
    timed = types.SimpleNamespace(profile=lambda arena, program, each: [row])
    monkeypatch.setattr(profile, "get_backend", lambda device: timed)
    found = profile.profile_run(logistic.training(epochs=5), 0, "complex128")
    assert [(one.gate, one.seconds, one.multiply_adds) for one in found.rows] == [("exp", 5.0, 15)]


def test_a_retrained_value_outside_the_interval_is_said(found, call):
    asked = ("predict", "own.sketch", "--measure", "own.py:value", "--without", "1", "--retrain")
    asked = (*asked, "--target", "own.py:make")
    right = found(*asked)
    assert right["retrained_outside"] is False and not any("retrained" in text for text in right["warnings"])
    # The measurement is of order 2 in the weights, and orthonormal directions know the first order exactly.
    wrong = found(*asked, "--order", "1", "--estimator", "theorem")
    assert wrong["retrained_outside"] is True
    assert any("the retrained value lies outside the 95 % interval" in text for text in wrong["warnings"])
    code, out, _ = call(*asked, "--order", "1", "--estimator", "theorem")
    assert code == 0 and "the retrained value lies outside the 95 % interval" in " ".join(out.split())
    several = found(*asked[:2], "--measure", "own.py:pair", *asked[4:], "--order", "1", "--estimator", "theorem")
    assert several["retrained_outside"] == [True, True]
    assert any("2 of 2 retrained values lie outside" in text for text in several["warnings"])
