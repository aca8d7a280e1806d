"""The command page: served to this machine until Ctrl-C, written to one file, a log asked again; and --plot."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from matplotlib.image import imread


def test_a_page_is_served_until_ctrl_c(home):
    arguments = ("page", "own.sketch", "--measure", "own.py:value", "--run", "own.py:make", "--calibrate", "0")
    command = [sys.executable, "-m", "circuitsketch.cli", *arguments]
    server = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        root, token = address.split("?token=")
        question = urllib.request.Request(root + "ask", b'{"ids": [1, 2]}', {"X-Token": token})
        answer = json.loads(urllib.request.urlopen(question, timeout=30).read())
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(root + "data", timeout=30)
    finally:
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=30)
    assert server.returncode == 0 and "the server has stopped" in err and token not in err
    direct = subprocess.run(
        [*command[:3], "predict", "own.sketch", "--measure", "own.py:value", "--without", "1,2", "--json", "-"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert json.loads(direct.stdout)["value"] == answer["values"][0]["value"]


def test_a_page_is_written_to_a_file(found, home):
    plain = found("page", "own.sketch", "--measure", "own.py:value", "--measure", "own.py:pair", "--html", "page.html")
    text = (home / "page.html").read_text(encoding="utf-8")
    assert plain == {"file": "page.html", "bytes": len(text.encode())}
    assert "own.py:value" in text and "own.py:pair[1]" in text and '"ann"' in text


def test_a_log_is_asked_again(found, call, home):
    predicted = found("predict", "own.sketch", "--measure", "own.py:value", "--without", "1")["value"]
    values = [{"name": "own.py:value", "value": predicted, "low": None, "high": None, "retrained": None}]
    questions = [
        {"name": "one", "ids": "1", "values": values},
        {"name": "two", "ids": "2-3", "values": [values[0] | {"value": 99.0}]},
    ]
    (home / "log.json").write_text(json.dumps({"questions": questions}), encoding="utf-8")
    plain = found("page", "own.sketch", "--measure", "own.py:value", "--replay", "log.json")
    assert [(row["name"], row["ids"], row["same"]) for row in plain["answers"]] == [
        ("one", [1], True),
        ("two", [2, 3], False),
    ]
    assert plain["answers"][0]["value"] == predicted
    code, out, _ = call("page", "own.sketch", "--measure", "own.py:value", "--replay", "log.json")
    assert code == 0 and "1 the same, 1 differ" in out and "differs" in out
    subsets = found("predict", "own.sketch", "--measure", "own.py:value", "--file", "log.json")["subsets"]
    assert [(one["name"], one["ids"]) for one in subsets] == [("one", [1]), ("two", [2, 3])]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--host", "0.0.0.0"), 1, "--allow-remote"),
        (("--html", "a.html", "--replay", "log.json"), 2, "give only one of them"),
        (("--measure", "own.py:value"), 2, "given twice"),
        (("--replay", "nowhere.json"), 1, "cannot read"),
        (("--replay", "own.py"), 1, "is not a log"),
        (("--html", "nowhere/page.html"), 1, "cannot write"),
        (("--calibrate", "20"), 1, "--target"),
    ],
)
def test_mistakes_are_one_line(call, arguments, code, words):
    actual, _, err = call("page", "own.sketch", "--measure", "own.py:value", *arguments)
    assert actual == code and words in err and err.strip().count("\n") == 0


WITH_RUN = ("--target", "own.py:make")
DELETED = ("--without", "1,2", "--calibrate", "0")


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "own.sketch", "--measure", "own.py:value", *DELETED),
        ("predict", "own.sketch", "--measure", "own.py:value", *DELETED, "--retrain", *WITH_RUN),
        ("influence", "own.sketch", "--measure", "own.py:value"),
        ("influence", "logistic:epochs=3", "--measure", "held_out_loss"),
        ("evaluate", "own.sketch", "--measure", "own.py:value", *WITH_RUN, "--subsets", "4"),
        ("evaluate", "own.sketch", "--measure", "own.py:pair", *WITH_RUN, "--subsets", "4"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_results_are_drawn(call, home, arguments):
    code, out, err = call(*arguments, "--plot", "picture.png")
    assert code == 0, err
    assert out and imread(home / "picture.png").min() < 0.2  # there is something on it
    (home / "picture.png").unlink()


@pytest.mark.parametrize(
    ("plot", "words"), [("a.nothing", "end in .png, .pdf or .svg"), ("nowhere/a.png", "no such folder")]
)
def test_a_picture_that_cannot_be_drawn_is_told_first(call, plot, words):
    code, _, err = call("influence", "nowhere.sketch", "--measure", "own.py:value", "--plot", plot)
    assert code == 1 and words in err


def test_a_picture_is_of_one_number(call):
    code, _, err = call("influence", "own.sketch", "--measure", "own.py:pair", "--plot", "a.png")
    assert code == 1 and "measure one of them" in err
