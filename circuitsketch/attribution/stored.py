"""Open a sketch that lies on disk."""

from __future__ import annotations

from os import PathLike

from circuitsketch.arguments import check_instance
from circuitsketch.attribution.sketch import Sketch
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import find_distribution
from circuitsketch.limits import within_memory
from circuitsketch.propagate.parts import RANDOM, stored_part
from circuitsketch.store.sketch_store import SketchStore
from circuitsketch.training.training import Training


@within_memory("the sketch")
def open_sketch(path: str | PathLike[str], run: Training | None = None, *, threads: int | None = None) -> Sketch:
    """Open a sketch that `sketch(..., path=...)` has written; its blocks are read when they are asked for.

    Parameters
    ----------
    path : path-like
        The folder of the sketch.
    run : Training, optional
        The training run: then the store must be its own, and the state has its structure. Without it the state is made
        of nested dicts and lists by the names of its leaves, and measurements see state["params"], or the whole state
        if there is none.
    threads : int, optional
        Of measurements; by default, one per core.

    Returns
    -------
    Sketch

    Raises
    ------
    StoreError
        If there is no store; if it is not finished, damaged, of another run, or of a newer format.

    Examples
    --------
    >>> import tempfile, numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = cs.sketch(run, directions=4, order=1, path=folder + "/a.sketch")
    ...     bool((cs.open_sketch(folder + "/a.sketch").state == written.state).all())
    True
    """
    if run is not None:
        check_instance(run, "run", Training, "the cs.Training that was sketched, or None")
    thread_count(threads, 1)
    store = SketchStore.open(path)
    metadata = store.metadata
    if run is not None and metadata.groups is not None and run.groups != metadata.groups:
        run = run.grouped(metadata.groups)
    parts = {name: stored_part(part, run, threads) for name, part in store.stores.items()}
    if RANDOM in parts:
        distribution, order = parts[RANDOM].distribution, parts[RANDOM].order
    else:
        assert metadata.pending is not None
        name, seed, order = metadata.pending
        distribution = find_distribution(name, next(iter(parts.values())).n, seed)
    labels, items = metadata.labels, metadata.items
    if metadata.groups is not None:
        labels = items = tuple(dict.fromkeys(metadata.groups))
    return Sketch(
        parts,
        distribution,
        order,
        run=run,
        labels=labels if run is None or run.labels is None else run.labels,
        items=items if run is None or run.items is None else run.items,
        groups=metadata.groups,
        chosen_similarity=metadata.similarity,
        path=store.path,
        origin=metadata.origin if run is None or run.origin is None else run.origin,
        kink_names=metadata.kinks,
    )
