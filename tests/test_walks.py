"""How many files a reader walks through to follow a call, and how often they turn back to a file that they have left.

A walk is the sequence of the package's files whose functions a call enters. Left out are those that whoever follows the
data reads past (PASSED, with the reason). The walk of a sketch ends where a backend is handed the circuits, and where
the disk is handed the bytes: the rooms below training are behind the backend's contract, which is a walk of its own
(BEHIND_THE_CONTRACT).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitsketch as cs

PACKAGE = str(Path(cs.__file__).parent) + "/"
PASSED = {
    "convert and check what a caller gives": {
        "arguments.py",
        "arrays.py",
        "attribution/validation.py",
        "training/health.py",
        "training/kept_leaves.py",
        "training/subsets.py",
        "training/weights.py",
        "tree.py",
    },
    "refuse what memory, the disk or the data do not suffice for": {
        "estimators/checks.py",
        "limits.py",
        "propagate/sizes.py",
    },
    "leave out of a block the leaves that the caller does not keep": {"propagate/kept_lanes.py"},
    "save what is unfinished, in case of an interruption": {
        "propagate/resumption.py",
        "store/checkpoints.py",
        "store/objects.py",
    },
    "widen an answer by what the run says against it": {
        "attribution/run_checks.py",
        "estimators/alikeness.py",
        "estimators/caveats.py",
        "estimators/retrained_together.py",
        "training/crossings.py",
        "training/kinks.py",
    },
}
LEFT_OUT = set().union(*PASSED.values())
BEHIND_THE_CONTRACT = ("backends/", "checks/", "circuit/", "frontends/", "gates/", "lower/", "passes/")


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Record the files that are entered, in order."""
    entered: list[str] = []

    def enter(frame: Any, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(PACKAGE):
            entered.append(path.removeprefix(PACKAGE))

    threading.setprofile(enter)
    sys.setprofile(enter)
    try:
        yield entered
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def follow(entered: list[str]) -> list[str]:
    """Return the walk; a file that is entered several times in a row counts once."""
    kept = [file for file in entered if file not in LEFT_OUT and not file.startswith(BEHIND_THE_CONTRACT)]
    return [file for file, _ in groupby(kept)]


def make_run() -> cs.Training:
    rng = np.random.default_rng(0)
    batches = [[i, (i + 1) % 12] for i in range(12)]
    return cs.Training(
        lambda s, x, keep: s + 0.3 * np.tanh(keep @ x - s), np.zeros(3), rng.normal(size=(12, 2, 3)), batches
    )


def record_answer(estimator: str) -> list[str]:
    """Record the second of two equal answers: the first draws directions, measures the region of trust, and fits."""
    query = cs.sketch(make_run(), 24, per_example="series").measure(np.sum)
    query.without([1, 2], estimator=estimator)
    with recorded() as entered:
        query.without([1, 2], estimator=estimator)
    return entered


def record_sketch(path: Path) -> list[str]:
    run = make_run()
    with recorded() as entered:
        cs.sketch(run, 8, path=path)
    return entered


@pytest.mark.parametrize("estimator, files", [("theorem", 5), ("interactions", 6)])
def test_an_answer_walks_one_way_through_few_files(estimator: str, files: int) -> None:
    walk = follow(record_answer(estimator))
    assert len(set(walk)) <= files and len(walk) - len(set(walk)) <= 3, walk


def test_a_sketch_walks_through_few_files_to_the_disk(tmp_path: Path) -> None:
    walk = follow(record_sketch(tmp_path / "a.sketch"))
    assert "store/atomic_files.py" in walk and len(set(walk)) <= 15, sorted(set(walk))


def test_no_file_is_left_out_that_no_walk_enters(tmp_path: Path) -> None:
    entered = {*record_answer("theorem"), *record_answer("interactions"), *record_sketch(tmp_path / "a.sketch")}
    assert not LEFT_OUT - entered
