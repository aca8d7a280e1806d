"""The command line: what it prints, where, and with which exit code, on small settings."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

import circuitsketch
from circuitsketch import cli
from circuitsketch.errors import InputError
from circuitsketch.report import Answer, Demo, Question, Settings, prepare
from circuitsketch.report.demo import draw_questions
from circuitsketch.report.tables import format_demo
from circuitsketch.zoo import microgpt

SMALL = ("--steps", "60", "--budget", "80")


def call(capsys, *arguments):
    """Exit code, stdout and stderr of a call in this process."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    out, err = capsys.readouterr()
    return left.value.code or 0, out, err


@pytest.fixture(scope="module")
def small():
    """One small demo as a process of its own: stdout, stderr."""
    command = [sys.executable, "-m", "circuitsketch.cli", "demo", *SMALL, "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_json_alone_is_on_stdout(small):
    found = json.loads(small[0])
    assert found["steps"] == 60
    assert found["budget"] == 80
    assert "retrained subsets" in found["plan"] and "rank correlation" in found["worth"]
    assert found["seconds"] > 0
    assert {"size", "baseline", "predicted", "stderr", "first_order", "retrained", "groups"} <= set(found)


def test_the_main_numbers_are_those_of_the_first_group(small):
    found = json.loads(small[0])
    first = found["groups"][0]
    assert {key: found[key] for key in first} == first


def test_size_and_progress_are_on_stderr(small):
    assert f"size(A) = {json.loads(small[0])['size']:,}" in small[1]
    assert "attribute" in small[1]


def test_the_retrained_loss_is_that_of_a_training_without_the_group(small):
    found = json.loads(small[0])["groups"][0]
    letters = found["without"].removeprefix("names with ")
    names = microgpt.names()[:60]
    run = microgpt.training(names, seed=0, alphabet=microgpt.ALPHABET)
    gone = [i for i, name in enumerate(names) if letters in name]
    assert found["deleted"] == len(gone)
    assert found["baseline"] == pytest.approx(microgpt.loss(run.params(run.train()), found["name"]), rel=1e-9)
    # By hand: the losses of the group's names multiplied by zero.
    keep = [0.0 if i in gone else 1.0 for i in range(60)]
    state = run.retrain(without=[1.0 - k for k in keep])
    assert found["retrained"] == pytest.approx(microgpt.loss(run.params(state), found["name"]), rel=1e-9)


def test_predictions_lie_within_a_few_errors_of_the_truth(small):
    for group in json.loads(small[0])["groups"]:
        assert abs(group["predicted"] - group["retrained"]) < 6 * group["stderr"] + 0.05


def test_the_same_seed_gives_the_same_numbers_as_a_table_and_in_a_file(small, capsys, tmp_path):
    code, out, _ = call(capsys, "demo", *SMALL, "--json", str(tmp_path / "demo.json"))
    assert code == 0
    ours, theirs = json.loads((tmp_path / "demo.json").read_text()), json.loads(small[0])
    for key in ("baseline", "predicted", "stderr", "first_order", "retrained"):
        assert ours[key] == theirs[key]
        if key != "stderr":
            assert f"{ours[key]:.3f}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "--budget", "0"), "budget must be at least 40 trainings, not 0"),
        (("demo", "--budget", "nan"), "budget must be at least 40 trainings, not nan"),
        (("demo", "--budget", "many"), "--budget"),
        (("demo", "--steps", "0"), "steps must be from 1 to"),
        (("demo", "--steps", "3"), "steps must be at least"),
        (("demo", "--steps", "1000000"), "from 1 to 5163"),
        (("demo", "--seed", "-1"), "seed must be non-negative, not -1"),
        (("demo", "--json", "/nowhere/at/all.json"), "cannot write /nowhere/at/all.json"),
        (("demo", "--nonsense"), "--nonsense"),
        (("nonsense",), "nonsense"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, message):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("circuitsketch: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_path_is_tried_without_a_file_left_behind(capsys, tmp_path):
    call(capsys, "demo", "--budget", "0", "--json", str(tmp_path / "demo.json"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept.json").write_text("kept")
    call(capsys, "demo", "--budget", "0", "--json", str(tmp_path / "kept.json"))
    assert (tmp_path / "kept.json").read_text() == "kept"


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_an_interrupt_leaves_with_130_and_no_traceback():
    command = [sys.executable, "-u", "-m", "circuitsketch.cli", "demo", "--budget", "5000", "--json", "-"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs would ignore it
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, preexec_fn=heed) as running:
        running.stderr.readline()  # the size has been told: the work begins
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    # Python exits by the signal itself if it came amid `exec`, as imports of others use; a shell shows both as 130.
    assert running.returncode in (130, -signal.SIGINT)
    assert out == ""
    assert "Traceback" not in err
    assert "circuitsketch: interrupted" in err


def test_help_and_version_are_printed(capsys):
    code, out, _ = call(capsys, "--version")
    assert code == 0
    assert out == f"circuitsketch {circuitsketch.__version__}\n"
    code, out, _ = call(capsys, "demo", "--help")
    assert code == 0
    assert all(option in out for option in ("--budget", "--steps", "--seed", "--json"))
    code, out, _ = call(capsys)
    assert code == 0
    assert "demo" in out


def test_values_that_are_not_finite_are_null_in_json():
    answer = Answer(Question("max", "x", (0,)), 2.0, 2.1, math.inf, -math.inf, math.inf, 2.05, 2.2)
    found = Demo(Settings(), 7, (answer,), {"train": 0.25}).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["stderr"] is None
    assert answer.covered


def test_groups_are_the_names_that_have_the_letters():
    experiment = prepare(Settings(steps=400))
    names = microgpt.names()[:400]
    for question in experiment.questions + experiment.known:
        assert question.letters in question.name
        assert [names[i] for i in question.ids] == [name for name in names if question.letters in name]


def test_questions_and_what_they_are_calibrated_on_are_drawn_alike():
    """Every question has the same chance to be asked, and no group that is asked about is retrained beforehand."""
    asked, everything = {}, set()
    for seed in range(400):
        questions = draw_questions(microgpt.names()[:1000], seed)
        assert len({question.ids for question in questions}) == len(questions)
        everything |= {question.ids for question in questions}
        for question in questions[:7]:
            asked[question.ids] = asked.get(question.ids, 0) + 1
    expected = 400 * 7 / len(everything)
    assert asked.keys() == everything
    assert max(abs(count - expected) for count in asked.values()) < 5 * expected**0.5
    assert draw_questions(microgpt.names()[:1000], 3) == draw_questions(microgpt.names()[:1000], 3)


def test_invalid_demo_settings_are_refused_with_a_reason():
    with pytest.raises(InputError, match="budget must be at least 40 trainings, not 0"):
        Settings(budget=0)


def test_the_table_of_the_demo_tells_what_is_warned_of_from_what_is_not():
    names, truths = ("max", "alex", "eve"), (2.2, 9.0, 2.2)
    warnings = ((), ("far: too far",), ("far: farther",))
    answers = tuple(
        Answer(Question(name, "x", (0, 1)), 2.0, 2.1, 0.1, 1.9, 2.3, 2.05, truth, told)
        for name, truth, told in zip(names, truths, warnings, strict=True)
    )
    table, *lines = list(format_demo(Demo(Settings(), 7, answers, {"train": 0.25})))[1:]
    assert list(table.columns[1].cells) == ["x (2)", "x (2) !", "x (2) !"]
    assert "1 of 1 retrained losses predicted without a warning lie in their interval" in lines
    assert "1 of 2 retrained losses predicted with a warning (!) lie in their interval" in lines
    # A kind of warning is told once, with all whom it concerns.
    expected = ["warning for alex without x (also eve without x): far: too far"]
    assert [line for line in lines if line.startswith("warning")] == expected
