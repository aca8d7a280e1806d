"""--executor: the same sketch and answers, computed by workers."""

from __future__ import annotations

import json

from stores import content


def test_a_sketch_by_workers_is_the_same(call, tmp_path):
    arguments = ("sketch", "own.py:make", "--directions", "20", "--order", "2", "--out")
    assert call(*arguments, str(tmp_path / "alone"))[0] == 0
    code, _, err = call(*arguments, str(tmp_path / "workers"), "--executor", "processes:2")
    assert code == 0, err
    assert content(tmp_path / "alone") == content(tmp_path / "workers")


def test_answers_by_workers_are_the_same(call):
    measured = ("--measure", "held_out_loss", "--json", "-")
    commands = {
        "attribute": ("logistic:epochs=3", *measured, "--without", "1", "--budget", "60"),
        "predict": ("zoo.sketch", *measured, "--without", "1", "--calibrate", "12"),
        "evaluate": ("zoo.sketch", *measured, "--subsets", "4"),
    }
    for command, arguments in commands.items():
        answers = []
        for more in ((), ("--executor", "processes:2")):
            code, out, err = call(command, *arguments, *more)
            assert code == 0, err
            answer = json.loads(out)
            answer.get("plan", {}).pop("spent", None)
            answer.get("plan", {}).pop("seconds", None)
            answers.append(answer)
        assert answers[0] == answers[1], command


def test_a_malformed_executor_is_refused_before_anything_is_computed(call):
    code, _, err = call("sketch", "own.py:make", "--executor", "process")
    assert code == 2
    assert "there is no executor 'process'; use 'processes', 'processes:4', 'dask://host:port' or 'mpi'" in err


def test_blocks_may_go_through_another_folder(call, tmp_path):
    (tmp_path / "area").mkdir()
    arguments = ("sketch", "own.py:make", "--directions", "20", "--order", "2", "--out")
    assert call(*arguments, str(tmp_path / "alone"))[0] == 0
    staging = ("--executor", "processes:2", "--staging", str(tmp_path / "area"))
    code, _, err = call(*arguments, str(tmp_path / "workers"), *staging)
    assert code == 0, err
    assert content(tmp_path / "alone") == content(tmp_path / "workers") and not list((tmp_path / "area").iterdir())


def test_staging_without_workers_or_at_a_malformed_address_is_refused(call):
    code, _, err = call("sketch", "own.py:make", "--staging", "s3://bucket/a")
    assert code == 2 and "--staging requires --executor" in err
    code, _, err = call("sketch", "own.py:make", "--executor", "processes:2", "--staging", "s3://me:hidden@bucket/a")
    assert code == 2 and "credentials are taken from the environment" in " ".join(err.split()) and "hidden" not in err
