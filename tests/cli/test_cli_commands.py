"""Every command through its real entry point, on small runs: output, JSON, error lines, exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch import cli
from circuitsketch.report import profile
from circuitsketch.zoo import logistic

OWN = """
import numpy as np
import circuitsketch as cs

def make(steps=4):
    xs = [np.float64(1 + i % 4) for i in range(steps)]
    ids = [[i % 4] for i in range(steps)]
    step = lambda s, x, keep: 0.5 * s + (keep * keep).sum() * x
    return cs.Training(step, np.zeros(()), xs, ids, labels=["a", "a", "b", "b"], items=["ann", "bob", "cid", "dan"])

def value(s):
    return s

def pair(s, factor=2.0):
    return np.stack([s, factor * s])

def slow():
    step = lambda s, x, keep: np.tanh(0.9 * s + keep.sum() * x)
    return cs.Training(step, np.zeros(400), [np.ones(400)] * 4000, [[i % 50] for i in range(4000)])

def shapes():
    step = lambda s, x, keep: s + (keep * x).sum()
    return cs.Training(step, np.zeros(()), [np.ones(1), np.ones(2), np.ones(2)], [[0], [0, 1], [0, 1]])

def broken():
    return 1 / 0

def leaves():
    raise SystemExit(3)

def needs():
    import nowhere_to_be_found

def two():
    return cs.Training(lambda state, batch: state, np.zeros(()), [1.0], [[0]])

def words(s):
    return "abc"

def number():
    return 3
"""

# Takes the graph where Graphviz's dot would, and draws an element for each of its edges.
STAND_IN = f"""#!{sys.executable}
import sys
assert sys.argv[1] == "-Tsvg"
edges = sys.stdin.read().count(" -> ")
print('<svg><g class="node"/>' + '<g class="edge"/>' * edges + "</svg>")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run of one's own and two sketches."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "own.py").write_text(OWN)
    (folder / "lacking.py").write_text("import nowhere_to_be_found\n")
    for arguments in (
        ("own.py:make", "--directions", "8", "--order", "2", "--singles", "--out", "own.sketch"),
        ("logistic:epochs=3", "--directions", "8", "--order", "2", "--out", "zoo.sketch"),
    ):
        command = [sys.executable, "-m", "circuitsketch.cli", "sketch", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def call(home, monkeypatch, capsys):
    """Exit code, stdout, stderr of a call in the folder."""
    monkeypatch.chdir(home)

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        out, err = capsys.readouterr()
        return left.value.code or 0, out, err

    return run


@pytest.fixture
def found(call):
    """The JSON of a call, which must be all that is on stdout."""

    def run(*arguments):
        code, out, err = call(*arguments, "--json", "-")
        assert code == 0, err
        return json.loads(out)

    return run


def test_info_is_what_the_sketch_was_made_of(found, home):
    facts = found("info", "zoo.sketch")
    run = logistic.training(epochs=3)
    assert (facts["target"], facts["directions"], facts["order"]) == ("logistic:epochs=3", 8, 2)
    assert (facts["examples"], facts["steps"], facts["size"]) == (run.n, run.steps, run.size)
    assert facts["labels"] == 2 and facts["singles_order"] is None
    assert found("info", "own.sketch")["singles_order"] == 2


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (("--without", "0,2-3"), [0, 2, 3]),
        (("--group", "b"), [2, 3]),
        (("--containing", "an"), [0, 3]),
        (("--file", "ids.txt"), [1, 3]),
        (("--without", "0", "--group", "b", "--without", "2"), [0, 2, 3]),
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


def test_strength_halves(found):
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


def test_stability_has_the_norm_of_every_order(found):
    answer = found("stability", "own.sketch", "--measure", "own.py:value")
    weights = [0.5 ** (3 - t) * (1 + t) for t in range(4)]
    assert answer["norms"][0] == pytest.approx(2 * np.linalg.norm(weights), rel=1e-9)  # exact, of the singles
    assert len(answer["norms"]) == 2 and set(answer["radius"]) == {"value", "stderr"}


def test_evaluate_keeps_its_truths_and_goes_on(found, call, home):
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
    assert code == 1 and "another run or measurement" in err


def test_trace_prints_the_circuit_and_writes_its_graph(found, call, home):
    circuit = logistic.training(epochs=1).circuits[0]
    plain = found("trace", "logistic:epochs=1", "--dot", "step.dot")
    assert plain["circuit"]["size"] == circuit.size and plain["circuit"]["depth"] == circuit.depth
    assert len(plain["circuit"]["nodes"]) == len(circuit.nodes)
    edges = [line for line in (home / "step.dot").read_text().splitlines() if " -> " in line]
    assert len(edges) == circuit.graph.number_of_edges()
    _, out, _ = call("trace", "logistic:epochs=1")
    assert f"size {circuit.size:,}, depth {circuit.depth}" in out


def test_a_picture_without_graphviz_says_what_is_missing(call, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = call("trace", "logistic:epochs=1", "--svg", "step.svg")
    assert code == 1 and "Graphviz" in err and "--dot" in err


def test_profile_adds_up_to_its_rows(found, call):
    plain = found("profile", "logistic:epochs=2", "--order", "1", "--by", "line")
    assert sum(row["seconds"] for row in plain["rows"]) == pytest.approx(plain["seconds_added_up"])
    assert plain["steps"] == 2 and plain["order"] == 1
    assert any(row["line"].startswith("logistic.py:") for row in plain["rows"])
    _, out, _ = call("profile", "logistic:epochs=2", "--order", "1")
    assert "share" in out and max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("skech", "logistic"), 2, "sketch"),
        (("sketch", "logistic", "--direction", "8"), 2, "--directions"),
        (("sketch", "logistic", "--order", "0"), 2, "--order"),
        (("sketch", "logistic", "--singles-order", "2"), 2, "--singles"),
        (("sketch", "logistc"), 2, "did you mean 'logistic'"),
        (("sketch", "logistic:epoch=3"), 1, "epochs"),
        (("sketch", "nowhere:make"), 1, "no module nowhere"),
        (("sketch", "nowhere.py:make"), 1, "no file nowhere.py"),
        (("sketch", "own.py:mak"), 1, "did you mean 'make'"),
        (("sketch", "own.py:broken"), 1, "own.py:26: ZeroDivisionError"),
        (("sketch", "own.py:number"), 1, "must return a cs.Training"),
        (("sketch", "own.py:leaves"), 1, "own.py:leaves left the program"),
        (("sketch", "own.py:needs"), 1, "needs the module nowhere_to_be_found"),
        (("sketch", "own.py:two"), 1, "step must accept (state, batch, keep)"),
        (("sketch", "lacking.py:make"), 1, "needs the module nowhere_to_be_found"),
        (("sketch", "lacking:make"), 1, "needs the module nowhere_to_be_found"),
        (("sketch", "own.py"), 2, "say which function, as in own.py:make"),
        (("sketch", "own.make"), 2, "did you mean 'own:make'?"),
        (("sketch", "logistic:(3"), 2, "brackets in '(3' do not match"),
        (("sketch", "logistic:3]"), 2, "brackets in '3]' do not match"),
        (("sketch", "logistic:epochs=many"), 1, "epochs is 'many'; give an integer"),
        (("sketch", "mlp:batch_size=2.5"), 1, "batch_size is 2.5; give an integer"),
        (("sketch", "cnn:x=3"), 1, "y is missing"),
        (("sketch", "own.py:make:1,2"), 1, "it takes steps"),
        (("sketch", "logistic", "--law", "spher"), 2, "'--law': 'spher' is not one of 'orthonormal'"),
        (("sketch", "logistic", "--order", "two"), 2, "should be a valid integer. Try: circuitsketch sketch --help"),
        (("sketch", "own.py:make", "--out", "own.py/x"), 1, "is not a folder"),
        (("sketch", "own.py:make", "--out", "own.py"), 1, "is not a sketch"),
        (("sketch", "own.py:make:8", "--out", "own.sketch", "--order", "2"), 1, "another"),
        (("predict", "own.sketch", "--without", "1"), 2, "--measure"),
        (("predict", "own.sketch", "--measure", "own.py:value"), 2, "--without IDS"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--without", "x"), 2, "'x' is not an id"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--without", "4"), 1, "0 to 3"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--group", "c"), 1, "labels are a, b"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--containing", "q"), 1, "ann"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--file", "none"), 1, "cannot read none"),
        (("predict", "own.sketch", "--measure", "value", "--without", "1"), 2, "module:function"),
        (
            ("predict", "own.sketch", "--measure", "own.py:value", "--without", "1", "--retrain"),
            1,
            "according to the sketch, own.py:make",
        ),
        (
            ("predict", "zoo.sketch", "--measure", "held_loss", "--without", "1"),
            1,
            "did you mean 'held_out_loss'",
        ),
        (("predict", "zoo.sketch", "--measure", "accuraci", "--without", "1"), 1, "did you mean 'accuracy'?"),
        (("predict", "zoo.sketch", "--measure", "xyz", "--without", "1"), 1, "it has accuracy, held_out_loss"),
        (("predict", "own.sketch", "--measure", "own.py:words", "--without", "1"), 1, "returns 'abc'"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--without", "1", "--strength", "0"), 2, "be finite"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--containing", ""), 2, "the text is empty"),
        (("evaluate", "zoo.sketch", "--measure", "held_out_loss", "--size", "400"), 1, "from 1 to 399"),
        (("info", "own.sketh"), 1, "did you mean 'own.sketch'"),
        (("info", "own.py"), 1, "not a sketch"),
        (("influence", "own.sketch", "--measure", "own.py:value", "--json", "/nowhere/x"), 2, "cannot write"),
        (("trace", "own.py:make", "--step", "9"), 2, "steps 0 to 3"),
        (("trace", "own.py:make", "--dot", "/nowhere/x"), 1, "cannot write"),
        (("figures", "--out", "own.py"), 1, "own.py"),
    ],
)
def test_a_mistake_is_one_line_that_helps(call, arguments, code, message):
    left, out, err = call(*arguments)
    assert (left, out) == (code, "")
    lines = [line for line in err.splitlines() if line.startswith("circuitsketch: ")]
    assert len(lines) == 1 and message in lines[0] and "Traceback" not in err


@pytest.mark.parametrize("name", [function.__name__ for function, _ in cli.COMMANDS])
def test_every_help_has_an_example_within_80_columns(call, name):
    code, out, _ = call(name, "--help")
    assert code == 0 and f"circuitsketch {name}" in out.rsplit("Example", 1)[1] and "--json" in out
    assert max(map(len, out.splitlines())) <= 80


def test_no_colour_off_a_terminal(call):
    assert "\x1b" not in "".join(map(str, call("predict", "own.sketch", "--measure", "own.py:value", "--without", "1")))


def heed_interrupts():
    """In a child: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_an_interrupted_sketch_is_kept_and_gone_on_with(home):
    command = [sys.executable, "-m", "circuitsketch.cli", "sketch", "own.py:slow", "--out", "slow.sketch"]
    command += ["--directions", "320", "--order", "2", "--threads", "1"]  # seconds, so that some are done and some not
    with subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as running:
        deadline = time.monotonic() + 120
        while not list((home / "slow.sketch").glob("random/lanes_sha256/c.*.0")) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    assert running.returncode == 130 and out == "" and "Traceback" not in err, (running.returncode, out, err)
    assert "of directions saved in slow.sketch; run the same command to resume" in " ".join(err.split())
    with pytest.raises(cs.errors.StoreError, match="of its random directions"):
        cs.open_sketch(home / "slow.sketch")
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    whole = runpy.run_path(str(home / "own.py"))["slow"]()
    assert np.array_equal(cs.open_sketch(home / "slow.sketch").state, cs.sketch(whole, 320, order=2).state)


def test_a_sketch_interrupted_when_it_was_done_is_not_said_to_be_lost(call, home, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("circuitsketch.cli.making.Answer.give", interrupted)
    code, out, err = call("sketch", "own.py:make", "--directions", "3", "--order", "2", "--out", "done.sketch")
    assert (code, out) == (130, "") and "of directions saved in done.sketch" in " ".join(err.split()), err
    assert cs.open_sketch(home / "done.sketch").count == 3


def test_figures_are_drawn_into_the_folder_and_listed(found, call, home, monkeypatch):
    def draw(folder, *, paper, threads, watch):
        watch("figure 1", 1, 1)
        folder.mkdir()
        (folder / "one.png").write_bytes(b"")
        return [folder / "one.png"] if paper and threads == 1 else []

    stand_in = types.ModuleType("circuitsketch.report.figures")
    stand_in.draw = draw
    monkeypatch.setitem(sys.modules, "circuitsketch.report.figures", stand_in)
    answer = found("figures", "--paper", "--threads", "1", "--out", "drawn")
    assert answer["files"] == [os.path.join("drawn", "one.png")] and (home / "drawn" / "one.png").exists()


def test_without_matplotlib_the_figures_say_how_to_get_it(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "circuitsketch.report.pictures", raising=False)
    code, out, err = call("figures", "--out", "undrawn")
    assert (code, out) == (1, "")
    assert err == (
        "circuitsketch: figures are drawn by matplotlib, which is not installed: pip install 'circuitsketch[figures]'\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("sketch", "own.py:make", "--out", "gpu.sketch"),
        ("predict", "own.sketch", "--measure", "own.py:value", "--without", "1"),
        ("influence", "own.sketch", "--measure", "own.py:value"),
        ("stability", "own.sketch", "--measure", "own.py:value"),
        ("evaluate", "own.sketch", "--measure", "own.py:value", "--target", "own.py:make"),
    ],
)
def test_without_a_gpu_a_device_is_one_clear_error(call, home, monkeypatch, arguments):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "numba_cuda" else there(name, *more)
    )
    code, out, err = call(*arguments, "--device", "cuda")
    assert (code, out) == (1, "") and not (home / "gpu.sketch").exists()
    assert err.startswith("circuitsketch: device='cuda' needs the package numba-cuda") and err.count("\n") == 1
    assert call(*arguments, "--device", "tpu")[0] == 2


def test_what_is_there_already_is_not_sketched_again(found, call):
    arguments = ("sketch", "own.py:make", "--directions", "4", "--out", "twice.sketch")
    facts = found(*arguments)
    assert (facts["directions"], facts["order"], facts["target"]) == (4, 3, "own.py:make")
    code, out, err = call(*arguments)
    # No bar is left of what had nothing to do, and no line of it either.
    assert code == 0 and err == "own.py:make: 4 steps on 4 examples, size(A) = 16 scalar gates.\n"


@pytest.mark.parametrize("form", [(), ("--json", "-")])
def test_a_full_disk_and_a_reader_that_has_gone_are_no_tracebacks(home, form):
    command = [sys.executable, "-m", "circuitsketch.cli", "info", "own.sketch", *form]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=home, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "circuitsketch: cannot write stdout: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=home, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


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


def test_a_sketch_is_what_its_options_say(tmp_path, found, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.py").write_text(OWN)
    options = "--directions 3 --order 2 --seed 5 --law sphere --dtype complex64 --singles --singles-order 4"
    facts = found("sketch", "run.py:make", *options.split())
    named = {"directions": 3, "order": 2, "seed": 5, "law": "sphere", "dtype": "complex64", "singles_order": 4}
    assert {name: facts[name] for name in named} == named
    assert facts["path"] == str(tmp_path / "run.sketch") and facts["groups"] is None
    assert found("sketch", "run.py:make", "--directions", "2", "--by-label", "--out", "labels.sketch")["groups"] == 2


def test_answers_are_of_the_order_estimator_and_size_that_were_asked_for(found):
    one = ("own.sketch", "--measure", "own.py:value")
    answer = found("predict", *one, "--without", "1", "--order", "1")
    assert answer["order"] == len(answer["terms"]) == 1
    for estimator in ("theorem", "singles", "first-order"):
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
    assert f"that is {int(radius**2):,} deleted examples" in " ".join(out.split())


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
    monkeypatch.setattr(profile, "profile", lambda arena, program, each: [row])
    found = profile.profile_of(logistic.training(epochs=5), 0, "complex128")
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


@pytest.mark.parametrize("command", ["predict", "influence", "stability", "evaluate"])
def test_a_measurement_without_a_derivative_is_an_error_of_every_command(call, home, command):
    (home / "counts.py").write_text("import numpy as np\ndef rate(s):\n    return np.where(s > 1.0, 1, 0)\n")
    more = {"predict": ("--without", "1"), "evaluate": ("--target", "own.py:make")}.get(command, ())
    code, _, err = call(command, "own.sketch", "--measure", "counts.py:rate", *more)
    assert code == 1 and "locally constant" in err and "counts.py:3" in err
