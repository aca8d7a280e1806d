"""Commands that cannot be done, or were interrupted: one line that helps, and the exit code."""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import circuitsketch as cs


def test_a_picture_without_graphviz_says_what_is_missing(call, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = call("trace", "logistic:epochs=1", "--svg", "step.svg")
    assert code == 1 and "Graphviz" in err and "--dot" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("skech", "logistic"), 2, "sketch"),
        (("sketch", "logistic", "--direction", "8"), 2, "--directions"),
        (("sketch", "logistic", "--order", "0"), 2, "--order"),
        (("sketch", "logistic", "--per-example-order", "2"), 2, "--per-example"),
        (("sketch", "logistc"), 2, "did you mean 'logistic'"),
        (("sketch", "logistic:epoch=3"), 1, "epochs"),
        (("sketch", "nowhere:make"), 1, "no module nowhere"),
        (("sketch", "nowhere.py:make"), 1, "no file nowhere.py"),
        (("sketch", "own.py:mak"), 1, "did you mean 'make'"),
        (("sketch", "own.py:broken"), 1, "own.py:26: ZeroDivisionError"),
        (("sketch", "own.py:number"), 1, "must return a cs.Training"),
        (("sketch", "own.py:leaves"), 1, "own.py:leaves exited the program"),
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
        (("sketch", "logistic", "--distribution", "spher"), 2, "'--distribution': 'spher' is not one of 'orthonormal'"),
        (("sketch", "logistic", "--order", "two"), 2, "should be a valid integer. Try: circuitsketch sketch --help"),
        (("sketch", "own.py:make", "--out", "own.py/x"), 1, "is not a folder"),
        (("sketch", "own.py:make", "--out", "own.py"), 1, "is not a sketch"),
        (("sketch", "own.py:make:8", "--out", "own.sketch", "--order", "2"), 1, "another"),
        (("predict", "own.sketch", "--without", "1"), 2, "--measure"),
        (("predict", "own.sketch", "--measure", "own.py:value"), 2, "--without IDS"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--without", "x"), 2, "'x' is not an id"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--without", "4"), 1, "0 to 3"),
        (("predict", "own.sketch", "--measure", "own.py:value", "--label", "c"), 1, "labels are a, b"),
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


def test_a_sketch_interrupted_after_its_last_block_is_complete(call, home, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("circuitsketch.cli.run_commands.Output.write", interrupted)
    code, out, err = call("sketch", "own.py:make", "--directions", "3", "--order", "2", "--out", "done.sketch")
    assert (code, out) == (130, "") and "of directions saved in done.sketch" in " ".join(err.split()), err
    assert cs.open_sketch(home / "done.sketch").count == 3


def test_without_matplotlib_the_figures_say_how_to_get_it(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "circuitsketch.report.plots", raising=False)
    code, out, err = call("figures", "--out", "undrawn")
    assert (code, out) == (1, "")
    remedy = "pip install 'circuitsketch[figures]'"
    assert err == f"circuitsketch: drawing figures requires matplotlib, which is not installed: {remedy}\n"


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


@pytest.mark.parametrize("form", [(), ("--json", "-")])
def test_a_full_disk_and_a_closed_pipe_give_no_traceback(home, form):
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


@pytest.mark.parametrize("command", ["predict", "influence", "stability", "evaluate"])
def test_a_measurement_without_a_derivative_is_an_error_of_every_command(call, home, command):
    (home / "counts.py").write_text("import numpy as np\ndef rate(s):\n    return np.where(s > 1.0, 1, 0)\n")
    more = {"predict": ("--without", "1"), "evaluate": ("--target", "own.py:make")}.get(command, ())
    code, _, err = call(command, "own.sketch", "--measure", "counts.py:rate", *more)
    assert code == 1 and "locally constant" in err and "counts.py:3" in err
