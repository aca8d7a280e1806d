"""The front of the package: push directions through a run, then measure anything and ask.

In: a training run; how many directions, of which distribution, to which order; per-example series if asked for. Out: a
`Sketch`, which may be extended; its `measure` (`MeasuringSketch`) makes a `Query`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np

from circuitsketch.arguments import check_executor, refuse_device
from circuitsketch.attribution.description import describe, facts, heading
from circuitsketch.attribution.measuring_sketch import MeasuringSketch
from circuitsketch.attribution.run_checks import names_of_kinks
from circuitsketch.attribution.validation import check_spec, check_staging
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Basis, Given, check_count
from circuitsketch.display import table
from circuitsketch.errors import InputError
from circuitsketch.estimators.similarity import given_similarity
from circuitsketch.limits import within_memory
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.propagate.parts import PER_EXAMPLE, RANDOM, RETRAINED, SketchSpec, push_parts
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.propagate.sizes import check_capacity
from circuitsketch.store.atomic_files import absolute_path
from circuitsketch.store.metadata import SketchMetadata, json_values
from circuitsketch.store.sketch_store import SketchStore
from circuitsketch.training.training import Training


@dataclass(eq=False)
class Sketch(MeasuringSketch):
    """A training run as a polynomial in its examples' weights, seen along directions: see `sketch` and `push`.

    Attributes
    ----------
    parts : mapping of str to PropagatedRun
        What was pushed: "random" (random, or given, directions) and "per-example" (every example's own series); either
        may be missing. `random` and `per_example` are these, or None.
    distribution : Distribution
        Of the random (or given) directions; see `circuitsketch.directions`.
    count, order, n : int
        The number of these directions, the highest order of their Taylor coefficients, the number of examples or
        groups.
    run : Training or None
        What was sketched, with one weight per group if there are groups; None if the sketch was opened without it.
    labels, items : tuple or None
        Of the examples, or groups.
    groups : tuple or None
        The label of each example, if weights are constant on groups.
    chosen_similarity : ndarray or None
        The factor of a similarity that the user gave.
    path : str or None
        Where the sketch lies on disk.
    origin : str or None
        A note of how the run is made (`Training.origin`).
    kink_names : tuple of str
        Of a sketch on disk, the gates with kinks and the user's lines.
    """

    @within_memory("the sketch", "a sketch made with path=...", "fewer directions")
    def extend(
        self,
        directions: int,
        *,
        progress: Progress | bool | None = None,
        executor: Executor | None = None,
        staging: str | PathLike[str] | None = None,
    ) -> Sketch:
        """Add random directions; the first of them are those that the sketch has.

        Only what is new is pushed, on the device that has pushed the rest; on a CPU the bits are those of a sketch made
        at once. A stored sketch is extended on disk.

        Parameters
        ----------
        directions : int
            The number of directions in all.
        progress, executor, staging : optional
            As for `sketch`.

        Returns
        -------
        Sketch

        Raises
        ------
        InputError
            If the directions were given; if there are as many already; if the run is not at hand.
        StoreError
            As for `sketch`.
        DeviceError
            If a GPU has pushed what there is, and there is none.
        WorkerError
            As for `sketch`.

        Examples
        --------
        >>> import numpy as np, circuitsketch as cs
        >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
        >>> bool((cs.sketch(run, 2, 1).extend(5).state == cs.sketch(run, 5, 1).state).all())
        True
        """
        count = check_count(directions)
        if isinstance(self.distribution, Given | Basis):
            raise InputError(
                f"this sketch has {self.count} {self.distribution.name} directions, which no seed goes on with; use "
                "cs.push"
            )
        if count <= self.count:
            raise InputError(f"this sketch has {self.count} directions; say how many there shall be, a larger number")
        if self.run is None:
            raise InputError("extending a sketch takes its run: cs.open_sketch(path, run).extend(...)")
        first = self.first_part
        refuse_device(check_executor(executor), first.device)
        dtype = np.complex64 if first.target.single else np.complex128
        order = None if self.per_example is None else self.per_example.order
        spec = SketchSpec(
            self.run,
            self.distribution,
            count,
            self.order,
            order,
            dtype,
            first.threads,
            first.device,
            RETRAINED in self.parts,
            None if self.path else tuple(first.kept_names),
            executor,
            check_staging(staging, self.path, executor),
        )
        before = None if self.path else self.parts
        return make_sketch(spec, similarity=self.chosen_similarity, before=before, progress=progress, path=self.path)

    def info(self) -> str:
        """Describe the sketch in a few lines: its parts, the run that was sketched, where it lies."""
        return describe(self)

    def _repr_html_(self) -> str:
        return table(heading(self), facts(self))

    def __repr__(self) -> str:
        unit = "example" if self.groups is None else "group"
        also = "" if self.per_example is None else f" and every {unit} alone to order {self.per_example.order}"
        also += "" if self.retrained is None else f" and a model retrained without each {unit}"
        return (
            f"<Sketch of {self.count} {self.distribution.name} directions to order {self.order}{also}, {self.n} "
            f"{unit}s, "
            f"{self.nbytes / 1e6:.1f} MB>"
        )


@within_memory("the sketch", "path=... to keep it on disk", "dtype='complex64'", "groups=...", "fewer directions")
def sketch(
    run: Training,
    directions: int = 512,
    order: int = 3,
    seed: int = 0,
    *,
    distribution: str = "orthonormal",
    per_example: str | None = None,
    per_example_order: int | None = None,
    groups: Sequence[Any] | None = None,
    similarity: Any = None,
    keep: Any = None,
    dtype: Any = np.complex128,
    threads: int | None = None,
    progress: Progress | bool | None = None,
    path: str | PathLike[str] | None = None,
    device: str = "cpu",
    executor: Executor | None = None,
    staging: str | PathLike[str] | None = None,
) -> Sketch:
    """Push random directions through a training run, and every example alone if asked for.

    Parameters
    ----------
    run : Training
        The training run.
    directions : int
        The number of directions; 0 only with `per_example`.
    order : int
        The highest Taylor coefficient.
    seed : int
        Of the directions; the same seed gives the same sketch for any number of threads.
    distribution : {"orthonormal", "sphere", "gaussian"}
        Of the directions; "sphere" is the theorem's. See `circuitsketch.directions`.
    per_example : {"series", "retrained"}, optional
        "series" pushes the n real basis directions too, to order `per_example_order`: every example's own series. A
        real direction costs a quarter of a complex one, and skips the steps before its example. "retrained" trains
        without each example and keeps the n models: exact own effects on whatever is measured later, for about n / 4
        to n / 2 trainings, also where the run has kinks or its series diverge.
    per_example_order : int, optional
        By default, `order`.
    groups : sequence, optional
        A label per example: weights are constant on each group, and questions are about groups. See `Training.grouped`.
    similarity : array_like, of shape (n, n) or (n, p), optional
        A similarity of examples, or features, for the interactions between them. By default it is learned from the
        per-example series; see `circuitsketch.estimators.similarity`.
    keep : str or list of str, optional
        The leaves of the trained state whose coefficients are kept: by default those that `run.params` reads, which are
        all that a measurement can; "state" for all, an optimiser's moments among them; or paths of leaves, or of parts
        of the state, such as ["state.params.w1"], if the rest will never be measured. A sketch on disk goes on with
        what it keeps.
    dtype : {complex128, complex64}
        complex64 takes half the memory and time; it computes in single precision, see `docs/storage.md`.
    threads : int, optional
        By default, one per core.
    progress : bool or callable, optional
        True for a bar with rate and remaining time, or a function that is called with (blocks done, blocks) whenever a
        block is done, and about once per second in between, when the number is a fraction.
    path : path-like, optional
        A folder to keep the sketch in, block by block. Interrupted at any moment, the same call resumes, and ends with
        the same bits; with more directions it adds to what is there. See `open_sketch`.
    device : {"cpu", "cuda"}
        "cuda" for an NVIDIA GPU (needs the extra cuda12 or cuda13), whose coefficients are the CPU's up to rounding.
    executor : concurrent.futures.Executor, optional
        Workers that share the blocks, such as those of `circuitsketch.executor`: processes, or other machines. The
        bits are the same. `threads` are then those of each worker, by default 1.
    staging : str or path-like, optional
        Where workers that do not see `path` put blocks until this process has gathered them: "s3://bucket/prefix"
        (needs the extra objects), or a folder that all of them see. Requires `path` and `executor`. See
        `docs/machines.md`.

    Returns
    -------
    Sketch

    Raises
    ------
    InputError
        For an argument of the wrong type or range.
    DomainError, DivergenceError
        If the run has no finite series.
    StoreError
        If the path holds another run's sketch, or a damaged one, or if another process writes it; if `staging` cannot
        be read or written.
    DeviceError
        If there is no GPU, or its memory does not hold a single block.
    WorkerError
        If a worker dies, or rounds differently from the others.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> query = cs.sketch(run, directions=2, order=1).measure(lambda s: s)
    >>> round(query.without([1]).value, 6)
    1.0
    >>> cs.sketch(run, directions=0, order=1, per_example="series").measure(lambda s: s).per_example
    array([[ 11.,  -1.],
           [ 11., -10.]])
    """
    if not isinstance(run, Training):
        raise InputError(f"cs.sketch takes a cs.Training, not {type(run).__name__}; for a function use cs.local_sketch")
    path = None if path is None else absolute_path(path)
    thread_count(threads, 1)
    spec = check_spec(
        run, directions, order, seed, distribution, per_example, per_example_order, groups, dtype, threads, device, keep
    )
    refuse_device(check_executor(executor), device)
    factor = None if similarity is None else given_similarity(similarity, spec.run.n)
    spec = replace(spec, executor=executor, staging=check_staging(staging, path, executor))
    return make_sketch(spec, similarity=factor, progress=progress, path=path)


def make_sketch(
    spec: SketchSpec,
    *,
    similarity: np.ndarray | None = None,
    before: Mapping[str, PropagatedRun] | None = None,
    progress: Progress | bool | None = None,
    path: str | PathLike[str] | None = None,
) -> Sketch:
    """Make a sketch, at a path if there is one."""
    run = spec.run
    if path is not None and spec.keep is None:
        spec = replace(spec, keep=SketchStore.kept_leaves(path, run.state_names))
    metadata = None if path is None else metadata_of(spec, similarity)
    with show_progress(progress) as report_progress:
        check_capacity(spec, path)  # before anything is at the path
        store = None if path is None or metadata is None else SketchStore.resume(path, metadata)
        with store or nullcontext():
            parts = push_parts(
                spec,
                before=before,
                progress=report_progress,
                store_for=None if store is None else store.part,
                stored_width=None if store is None else store.width,
            )
    return Sketch(
        parts,
        spec.distribution,
        spec.order,
        run=run,
        labels=run.labels,
        items=run.items,
        groups=run.groups,
        chosen_similarity=similarity,
        path=None if store is None else store.path,
        origin=run.origin,
    )


def metadata_of(spec: SketchSpec, similarity: np.ndarray | None) -> SketchMetadata:
    """Return what is stored of a sketch besides its parts."""
    run, distribution = spec.run, spec.distribution
    groups = None
    if run.groups is not None:
        groups = json_values(run.groups)
        if groups is None:
            raise InputError(
                "groups of a sketch on disk are labelled by strings or finite numbers; give such, or no path"
            )
    parts = [RANDOM] * (spec.count > 0) + [PER_EXAMPLE] * (spec.per_example_order is not None)
    parts += [RETRAINED] * spec.retrained
    pending = None if spec.count else (distribution.name, int(distribution.seed or 0), spec.order)
    labels, items = (None, None) if groups else (json_values(run.labels), json_values(run.items))
    keep = tuple(name for i, name in enumerate(run.state_names) if i in spec.kept)
    return SketchMetadata(
        tuple(parts),
        pending,
        groups,
        labels,
        items,
        similarity,
        run.origin,
        names_of_kinks(run),
        keep if len(keep) < len(run.state_names) else None,
    )
