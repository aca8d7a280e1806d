"""Retrain without each of several subsets, the ground truth of an evaluation.

In: a run, subsets and a measurement. Out: the measurement after retraining without each subset. Subsets are retrained
in parts; given a folder, each part is saved when it is done (as the `masks.npy` and `margins.npy` of
`Evaluation.save`), so that an interrupted evaluation resumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from circuitsketch.arguments import text_of
from circuitsketch.attribution.evaluation import read_numbers, write_array
from circuitsketch.attribution.ground_truth import check_rounding, retrain_and_measure
from circuitsketch.backends.registry import lane_width
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.errors import InputError
from circuitsketch.frontends.numpy import trace
from circuitsketch.passes import simplify
from circuitsketch.store.fingerprint import describe_circuit, digest, fingerprint_of
from circuitsketch.training.training import Training
from circuitsketch.tree import unflatten
from circuitsketch.workers.distribution import worker_count

ABOUT = "about.json"


def draw_masks(n: int, count: int, size: int, seed: int) -> np.ndarray:
    """Draw random masks of a fixed size; a larger count begins with the same masks.

    Parameters
    ----------
    n, count, size : int
        The number of examples, of masks, and of examples per mask.
    seed : int
        The seed of the masks.

    Returns
    -------
    (count, n) ndarray of bool
        The masks, True for the `size` examples that each draws without replacement.

    Raises
    ------
    InputError
        If `size` is not from 1 to n.

    Examples
    --------
    >>> draw_masks(5, 3, 2, seed=0).sum(axis=1)
    array([2, 2, 2])
    """
    if not 1 <= size <= n:
        raise InputError(f"the size of a subset must be from 1 to {n}, the number of examples, not {size}")
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, n), dtype=bool)
    for row in masks:
        row[rng.choice(n, size, replace=False)] = True
    return masks


def split_by_label(labels: Sequence[Any] | None) -> tuple[list[str], np.ndarray]:
    """Return one mask per label.

    Parameters
    ----------
    labels : sequence or None
        The label of each example.

    Returns
    -------
    names : list of str
        The distinct labels, in order of appearance.
    masks : (labels, n) ndarray of bool
        True for the examples with that label.

    Raises
    ------
    InputError
        If there are no labels, or fewer than two distinct ones.

    Examples
    --------
    >>> split_by_label(["a", "b", "a"])[1].sum(axis=1)
    array([2, 1])
    """
    if labels is None:
        raise InputError("--by-label: the sketch has no labels; give the run labels=")
    known = list(dict.fromkeys(labels))
    if len(known) < 2:
        raise InputError(f"--by-label: all examples have the label {known[0]!r}; scores require at least two subsets")
    return [text_of(label) for label in known], np.array([[one == label for one in labels] for label in known])


def retrain_subsets(
    run: Training,
    subsets: np.ndarray,
    measure: Callable[..., Any],
    *,
    shape: tuple[int, ...],
    what: str,
    threads: int | None = None,
    device: str = "cpu",
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    executor: Executor | None = None,
    dtype: str = "float64",
) -> np.ndarray:
    """Retrain without each subset and measure; values that the folder already has are not computed again.

    Parameters
    ----------
    run : Training
        The run.
    subsets : (subsets, n) ndarray
        Masks or downweights; with a folder, masks.
    measure : callable
        The measurement, a function of the trained parameters.
    shape : tuple of int
        The shape of its value.
    what : str
        Its name, which is stored in the folder.
    threads : int, optional
        The number of threads; by default all cores.
    device : str
        "cpu" or "cuda".
    folder : Path, optional
        Where to save the retrained values, and to resume from.
    progress : callable
        Called as `progress("retrain", done, total)`.
    executor : Executor, optional
        Workers that share the subsets.
    dtype : {"float64", "float32"}
        The precision of the retraining; a folder has the values of one precision.

    Returns
    -------
    (subsets, *shape) ndarray
        The retrained values.

    Raises
    ------
    InputError
        If the folder cannot be written, or has the values of another run, measurement or subsets.
    """
    count = len(subsets)
    truth = np.zeros((0, *shape))
    if folder is not None:
        about = {"measure": what, "circuit": digest_measurement(run, measure), "run": dict(fingerprint_of(run))}
        about |= {} if dtype == "float64" else {"dtype": dtype}
        truth = read_retrained(folder, subsets, shape, about)[:count]
    shares = thread_count(threads, count) if executor is None else 2 * worker_count(executor) * (threads or 1)
    together = lane_width(dtype == "float32") * shares
    progress("retrain", len(truth), count)
    while len(truth) < count:
        part = subsets[len(truth) : len(truth) + together].astype(np.float64)
        values = retrain_and_measure(run, part, measure, (), threads, device, executor, dtype, checks_rounding=False)
        truth = np.concatenate([truth, values])
        if folder is not None:
            write_retrained(folder, subsets[: len(truth)], truth)
        progress("retrain", len(truth), count)
    if dtype == "float32":
        check_rounding(run, subsets.astype(np.float64), truth, measure, (), threads, device, executor)
    return truth


def digest_measurement(run: Training, measure: Callable[..., Any]) -> str:
    """Return a digest of what a measurement computes, since its name stays the same when its file is edited."""
    circuit = trace(lambda state: measure(run.params(state)), unflatten(run.state_tree, run.state_leaves))
    return digest(describe_circuit(simplify(circuit)))


def read_retrained(folder: Path, masks: np.ndarray, shape: tuple[int, ...], about: dict[str, Any]) -> np.ndarray:
    """Return the retrained values in a folder, (done, *shape); creates the folder if it does not exist."""
    try:
        if not (folder / ABOUT).exists():
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise InputError(f"{folder} has other files in it; choose an empty or a new folder")
            with (folder / ABOUT).open("x", encoding="utf-8") as file:  # fails on a dangling link, too
                file.write(json.dumps(about) + "\n")
        stored = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        if isinstance(reason, InputError):
            raise
        cause = reason.strerror if isinstance(reason, OSError) else f"{ABOUT} is damaged"
        raise InputError(f"cannot save retrained values in {folder}: {cause}; choose another folder") from None
    if stored == {name: value for name, value in about.items() if name != "circuit"}:
        raise InputError(
            f"{folder} was written by an earlier version of circuitsketch, which stored the measurement's name but not "
            "what it computes; choose another folder"
        )
    if stored != about:
        raise InputError(
            f"{folder} has the retrained values of another run, measurement or dtype; choose another folder"
        )
    if not (folder / "margins.npy").exists():
        return np.zeros((0, *shape))
    try:
        margins, keep = (read_numbers(folder / name) for name in ("margins.npy", "masks.npy"))
        done = len(margins)  # at most as many as masks, which are written first
        shared = min(done, len(masks))
        same = np.array_equal(~keep[:shared], masks[:shared])
        truth = margins.reshape(done, *shape)
    except (OSError, ValueError, EOFError, TypeError) as reason:
        raise InputError(f"the retrained values in {folder} are damaged ({reason}); choose another folder") from None
    if not same:
        raise InputError(
            f"{folder} has the retrained values of other subsets; choose another folder, or the same size and seed"
        )
    return truth


def write_retrained(folder: Path, masks: np.ndarray, truth: np.ndarray) -> None:
    """Write masks and values; masks first, so that there are never fewer masks than values."""
    try:
        for name, array in (("masks", ~masks), ("margins", truth.reshape(len(truth), -1))):
            write_array(folder / f"{name}.npy", array)
    except OSError as reason:
        raise InputError(f"cannot save retrained values in {folder}: {reason.strerror}") from None
