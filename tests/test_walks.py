"""How many files a reader walks through to follow a call, and how often they turn back to a file that they have left.

A walk is the sequence of the package's files whose functions a call enters. Left out are the files that only convert
and check what a caller gives (which leaves to keep, too), only raise errors, save what is unfinished in case of an
interruption, or widen an answer by what the run says against it (CHECKS): whoever follows the data reads past them. The
walk of a sketch ends where a backend is handed the circuits, and where the disk is handed the bytes: the rooms below
training are behind the backend's contract, which is a walk of its own (BEHIND_THE_CONTRACT).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitsketch as cs

PACKAGE = str(Path(cs.__file__).parent) + "/"
CHECKS = {
    "arguments.py",
    "arrays.py",
    "attribution/alike_subsets.py",
    "attribution/run_checks.py",
    "attribution/validation.py",
    "display.py",
    "errors.py",
    "estimators/caveats.py",
    "estimators/checks.py",
    "limits.py",
    "propagate/kept_lanes.py",
    "propagate/resumption.py",
    "propagate/sizes.py",
    "store/checkpoints.py",
    "training/crossings.py",
    "training/health.py",
    "training/indices.py",
    "training/kept_leaves.py",
    "training/kinks.py",
    "training/subsets.py",
    "training/weights.py",
    "tree.py",
}
BEHIND_THE_CONTRACT = ("backends/", "checks/", "circuit/", "frontends/", "gates/", "lower/", "passes/")


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Record the files that are entered, in order; a file that is entered several times in a row counts once."""
    walk: list[str] = []

    def enter(frame: Any, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(PACKAGE):
            return
        file = path.removeprefix(PACKAGE)
        if file not in CHECKS and not file.startswith(BEHIND_THE_CONTRACT) and walk[-1:] != [file]:
            walk.append(file)

    threading.setprofile(enter)
    sys.setprofile(enter)
    try:
        yield walk
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def make_run() -> cs.Training:
    rng = np.random.default_rng(0)
    batches = [[i, (i + 1) % 12] for i in range(12)]
    return cs.Training(
        lambda s, x, keep: s + 0.3 * np.tanh(keep @ x - s), np.zeros(3), rng.normal(size=(12, 2, 3)), batches
    )


@pytest.mark.parametrize("estimator, files", [("theorem", 5), ("interactions", 8)])
def test_an_answer_walks_one_way_through_few_files(estimator: str, files: int) -> None:
    query = cs.sketch(make_run(), 24, per_example="series").measure(np.sum)
    question: Callable[[], Any] = lambda: query.without([1, 2], estimator=estimator)  # noqa: E731
    question()  # draws the directions, measures the region of trust, and fits the interactions; all are kept
    with recorded() as walk:
        question()
    assert len(set(walk)) <= files and len(walk) - len(set(walk)) <= 3, walk


def test_a_sketch_walks_through_few_files_to_the_disk(tmp_path: Path) -> None:
    run = make_run()
    with recorded() as walk:
        cs.sketch(run, 8, path=tmp_path / "a.sketch")
    assert "store/atomic_files.py" in walk and len(set(walk)) <= 15, sorted(set(walk))
