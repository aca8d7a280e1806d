"""The truths of an evaluation: random subsets of the examples in, the measurement after retraining without each out.

Retrained in parts, which are kept in a folder as they are done where one is given (the `masks.npy` and `margins.npy` of
`Evaluation.save`), so that an evaluation that was interrupted goes on. How predictions compare is left to `deletion`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from circuitsketch.arguments import text_of
from circuitsketch.attribution.evaluation import read_numbers, write_array
from circuitsketch.attribution.ground_truth import retrain_and_measure
from circuitsketch.backends.registry import lane_width
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.errors import InputError
from circuitsketch.frontends.numpy import trace
from circuitsketch.passes import simplify
from circuitsketch.store.fingerprint import describe_circuit, digest, fingerprint_of
from circuitsketch.training.training import Training
from circuitsketch.tree import unflatten

ABOUT = "about.json"


def random_subsets(n: int, count: int, size: int, seed: int) -> np.ndarray:
    """Masks (count, n), each with `size` examples drawn without replacement; a larger count has the same first ones.

    >>> random_subsets(5, 3, 2, seed=0).sum(axis=1)
    array([2, 2, 2])
    """
    if not 1 <= size <= n:
        raise InputError(f"a subset of {size} of {n} examples; take from 1 to {n}")
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, n), dtype=bool)
    for row in masks:
        row[rng.choice(n, size, replace=False)] = True
    return masks


def label_subsets(labels: Sequence[Any] | None) -> tuple[list[str], np.ndarray]:
    """The labels of the examples, in order of appearance, and a mask (labels, n) of those that bear each.

    >>> label_subsets(["a", "b", "a"])[1].sum(axis=1)
    array([2, 1])
    """
    if labels is None:
        raise InputError("--by-label: the sketch knows no labels of its examples; give the run labels=")
    known = list(dict.fromkeys(labels))
    if len(known) < 2:
        raise InputError(f"--by-label: all examples bear the label {known[0]!r}; scores take at least two subsets")
    return [text_of(label) for label in known], np.array([[one == label for one in labels] for label in known])


def truths_of(
    run: Training,
    subsets: np.ndarray,
    measure: Callable[..., Any],
    *,
    shape: tuple[int, ...],
    what: str,
    threads: int | None = None,
    device: str = "cpu",
    folder: Path | None = None,
    watch: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> np.ndarray:
    """The measurement without each subset, (subsets, *shape), retrained as far as the folder does not have it.

    subsets : masks or downweights, one row a subset; with a folder, masks. what : names the measurement, in the folder.

    Raises
    ------
    InputError : the folder cannot be written, or has the truths of another run, measurement or subsets.
    """
    count = len(subsets)
    truth = np.zeros((0, *shape))
    if folder is not None:
        about = {"measure": what, "circuit": circuit_digest(run, measure), "run": dict(fingerprint_of(run))}
        truth = read_saved(folder, subsets, shape, about)[:count]
    together = lane_width(False) * thread_count(threads, count)
    watch("retrain", len(truth), count)
    while len(truth) < count:
        part = subsets[len(truth) : len(truth) + together].astype(np.float64)
        truth = np.concatenate([truth, retrain_and_measure(run, part, measure, (), threads, device)])
        if folder is not None:
            save_truths(folder, subsets[: len(truth)], truth)
        watch("retrain", len(truth), count)
    return truth


def circuit_digest(run: Training, measure: Callable[..., Any]) -> str:
    """What a measurement computes, as a digest: its name stays the same when its file is edited."""
    circuit = trace(lambda state: measure(run.params(state)), unflatten(run.state_tree, run.state_leaves))
    return digest(describe_circuit(simplify(circuit)))


def read_saved(folder: Path, masks: np.ndarray, shape: tuple[int, ...], about: dict[str, Any]) -> np.ndarray:
    """The truths that a folder has already, (some, *shape); made where there is none."""
    try:
        if not (folder / ABOUT).exists():
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise InputError(f"{folder} holds something else; choose an empty folder, or a new one")
            with (folder / ABOUT).open("x", encoding="utf-8") as file:  # nor through a link to nowhere
                file.write(json.dumps(about) + "\n")
        before = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        if isinstance(reason, InputError):
            raise
        said = reason.strerror if isinstance(reason, OSError) else f"{ABOUT} is not as it was written"
        raise InputError(f"cannot keep truths in {folder}: {said}; choose another folder") from None
    if before == {name: value for name, value in about.items() if name != "circuit"}:
        raise InputError(
            f"{folder} was begun by an earlier circuitsketch, which kept the measurement's name and not what it "
            "computes; choose another folder"
        )
    if before != about:
        raise InputError(f"{folder} has the truths of another run or measurement; choose another folder")
    if not (folder / "margins.npy").exists():
        return np.zeros((0, *shape))
    try:
        margins, kept = (read_numbers(folder / name) for name in ("margins.npy", "masks.npy"))
        done = len(margins)  # at most as many as masks, which are written first
        shared = min(done, len(masks))
        same = np.array_equal(~kept[:shared], masks[:shared])
        truth = margins.reshape(done, *shape)
    except (OSError, ValueError, EOFError, TypeError) as reason:
        raise InputError(f"the truths in {folder} are damaged ({reason}); choose another folder") from None
    if not same:
        raise InputError(f"{folder} has the truths of other subsets; choose another folder, or the same size and seed")
    return truth


def save_truths(folder: Path, masks: np.ndarray, truth: np.ndarray) -> None:
    """Write what is done; masks first, so that truths never have fewer."""
    try:
        for name, array in (("masks", ~masks), ("margins", truth.reshape(len(truth), -1))):
            write_array(folder / f"{name}.npy", array)
    except OSError as reason:
        raise InputError(f"cannot keep truths in {folder}: {reason.strerror}") from None
