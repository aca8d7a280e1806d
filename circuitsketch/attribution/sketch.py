"""The front of the package: push directions through a run, then measure anything and ask.

In: a training run, how many directions of which distribution, an order; single examples if wanted. Out: a `Sketch`; `measure`
turns it into a `Query`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np

from circuitsketch.arguments import check_instance, check_int, check_order, is_int, quoted
from circuitsketch.arrays import coefficient_type, plain_array
from circuitsketch.attribution.description import Sketched, describe, facts, heading
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.structure import Structure
from circuitsketch.backends.registry import check_device
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Basis, Given, check_count, find_distribution
from circuitsketch.display import completed, table
from circuitsketch.errors import InputError
from circuitsketch.estimators.interactions.priors import Priors
from circuitsketch.estimators.similarity import effects_similarity, given_similarity
from circuitsketch.limits import within_memory
from circuitsketch.propagate.coefficients import PropagatedRun, refuse_measurement
from circuitsketch.propagate.parts import RANDOM, SINGLES, SketchSpec, push_parts, stored_part, without_directions
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.propagate.sizes import check_capacity
from circuitsketch.store.atomic_files import absolute_path
from circuitsketch.store.sketch_store import SketchMetadata, SketchStore, json_values
from circuitsketch.training.training import Training

# What tab completion shows.
PUBLIC = (
    "measure extend info path n count order distribution directions coefficients per_example similarity labels items groups run params "
    "state nbytes origin"
).split()


@dataclass(eq=False)
class Sketch(Sketched):
    """A training run as a polynomial in its examples' weights, seen along directions: see `sketch` and `push`.

    The attributes of `PropagatedRun` are those of the random (or given) directions.

    Attributes
    ----------
    per_example : every example alone, exactly; or None. run : what was sketched, with a weight a group where there are
    groups; None if the sketch was opened without it. labels, items : of the coordinates (examples or groups), or None.
    groups : the label of each example, where weights are constant on groups, or None.
    chosen_similarity : the factor of a similarity that the user gave, or None. path : where it lies on disk, or None.
    origin : what its run says of how it is made (`Training.origin`), or None.
    """

    @cached_property
    def similarity(self) -> np.ndarray | None:
        """A factor J (n, p) of the similarity over examples, Sigma = J J^T: the user's, else that of the single examples'
        first-order effects on the trained parameters, else None. Made when it is first asked for, and kept."""
        if self.chosen_similarity is not None or self.per_example is None or not self.per_example.order:
            return self.chosen_similarity
        return effects_similarity(self.per_example)

    @cached_property
    def priors(self) -> Priors:
        """What all measurements share of the fit of interactions; made when it is first asked for, and kept."""
        return Priors(self.similarity, self.distribution.block(0, self.count))

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def measure(self, function: Callable[..., Any], *args: Any, device: str = "cpu") -> Query:
        """Measure the trained model: `function(params, *args)` along every direction, as a Query.

        Parameters
        ----------
        function : anything in NumPy of the trained parameters; its value may be a number, an array, or a pytree of
            them (the parameters themselves, too): then predictions are such pytrees.
        args : passed on as they are (a name, test data); they are not traced.
        device : "cpu", or "cuda", which is for measurements that take long.

        Raises
        ------
        TraceError, InputError : the measurement is locally constant (a count, a rate, an accuracy), so that a series
            cannot predict it. Where only some of its values are, predictions say which, and know the others.
        """
        circuit = self.measurement(function, args)
        nbytes = self.measured_bytes(circuit) + (
            0 if self.per_example is None else self.per_example.measured_bytes(circuit)
        )
        refuse_measurement(nbytes, circuit, self.count + (0 if self.per_example is None else self.n))
        along = self.measured(circuit, device)
        per_example = None if self.per_example is None else self.per_example.measured(circuit, device)
        series = [along] if per_example is None else [along, per_example]
        constancy = self.constancy(circuit, *series)
        if constancy is not None and not constancy.flat.any():  # the same for all weights: what there is is rounding
            for part in series:
                part[:, 1:] = 0
        return Query(
            along,
            self.distribution,
            per_example=per_example,
            constancy=constancy,
            similarity=lambda: self.similarity,
            labels=self.labels,
            items=self.items,
            priors=lambda: self.priors,
            unit="example" if self.groups is None else "group",
            structure=Structure.of(circuit),
        )

    @property
    def varying_by_value(self) -> list[int]:
        """The positions of the state's leaves that the weights change; without the run, those with a series."""
        return self.varying if self.run is None else list(self.run.varying(values=True))

    def moved(self) -> list[np.ndarray | None]:
        """As `PropagatedRun.moved`, from the single examples where there are no other directions."""
        return super().moved() if self.count or self.per_example is None else self.per_example.moved()

    @within_memory("the sketch", "a sketch made with path=...", "fewer directions")
    def extend(self, directions: int, *, progress: Progress | bool | None = None) -> Sketch:
        """The sketch with more random directions; the first of them are those that it has.

        Only what is new is pushed, on the device that has pushed the rest; on a CPU the bits are those of a sketch that
        was made at once. A stored sketch is extended where it lies.

        Parameters
        ----------
        directions : how many there shall be in all. progress : as for `sketch`.

        Raises
        ------
        InputError : the directions were given; there are as many already; the run is not at hand. StoreError.
        DeviceError : a GPU has pushed what there is, and there is none.

        >>> import numpy as np, circuitsketch as cs
        >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
        >>> bool((cs.sketch(run, 2, 1).extend(5).state == cs.sketch(run, 5, 1).state).all())
        True
        """
        count = check_count(directions)
        if isinstance(self.distribution, Given | Basis):
            raise InputError(
                f"this sketch has {self.count} {self.distribution.name} directions, which no seed goes on with; use cs.push"
            )
        if count <= self.count:
            raise InputError(f"this sketch has {self.count} directions; say how many there shall be, a larger number")
        if self.run is None:
            raise InputError("extending a sketch takes its run: cs.open_sketch(path, run).extend(...)")
        dtype = np.complex64 if self.target.single else np.complex128
        alone = None if self.per_example is None else self.per_example.order
        wanted = SketchSpec(self.run, self.distribution, count, self.order, alone, dtype, self.threads, self.device)
        before = None if self.path else (self, self.per_example)
        return made(wanted, similarity=self.chosen_similarity, before=before, progress=progress, path=self.path)

    def info(self) -> str:
        """What this sketch is, in a few lines: its parts, the run that was sketched, where it lies."""
        return describe(self)

    def _repr_html_(self) -> str:
        return table(heading(self), facts(self))

    def __dir__(self) -> list[str]:
        return completed(self, PUBLIC)

    def __repr__(self) -> str:
        unit = "example" if self.groups is None else "group"
        alone = "" if self.per_example is None else f" and every {unit} alone to order {self.per_example.order}"
        return (
            f"<Sketch of {self.count} {self.distribution.name} directions to order {self.order}{alone}, {self.n} {unit}s, "
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
    dtype: Any = np.complex128,
    threads: int | None = None,
    progress: Progress | bool | None = None,
    path: str | PathLike[str] | None = None,
    device: str = "cpu",
) -> Sketch:
    """Push random directions through a training run, and every example alone if wanted.

    Parameters
    ----------
    run : a Training. directions : how many; 0 only with `per_example`. order : the highest Taylor coefficient.
    seed : of the directions; the same seed gives the same sketch, whatever the number of threads.
    distribution : "orthonormal", "sphere" (the theorem's) or "gaussian"; see `circuitsketch.directions`.
    per_example : "series" pushes the n real basis directions too, to order `per_example_order` (default: `order`): every
        example's own series. A real direction costs a quarter of a complex one, and skips the steps before its example.
    groups : (examples,) labels: weights are constant on each group, and questions are about groups; see
        `Training.grouped`.
    similarity : how alike examples are, for the interactions between them: a similarity (n, n), or features (n, p). By
        default it is learned from the single examples; see `circuitsketch.estimators.similarity`.
    dtype : complex128, or complex64 for half the memory and time.
    threads : how many (default: one a core). progress : True for a bar with rate and remaining time, or a function that
        is called with (blocks done, blocks), whenever a block is done and about once a second in between, when the
        number is a fraction.
    path : a folder to keep the sketch in, block by block. Interrupted at any moment, the same call goes on where it
        stopped, and ends with the same bits; with more directions it adds to what is there. See `open_sketch`.
    device : "cpu", or "cuda" for an NVIDIA GPU (needs the extra cuda12 or cuda13), whose coefficients are the CPU's up
        to rounding.

    Returns
    -------
    Sketch

    Raises
    ------
    InputError : for numbers that cannot be. DomainError, DivergenceError : where the run has no finite series.
    StoreError : the path holds another run's sketch, or a damaged one, or another process writes it.
    DeviceError : there is no GPU, or its memory does not hold a single block; it says what was looked for.

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
    wanted = wanted_of(
        run, directions, order, seed, distribution, per_example, per_example_order, groups, dtype, threads, device
    )
    factor = None if similarity is None else given_similarity(similarity, wanted.run.n)
    return made(wanted, similarity=factor, progress=progress, path=path)


def wanted_of(
    run: Training,
    directions: int,
    order: int,
    seed: int,
    distribution: str,
    per_example: str | None,
    per_example_order: int | None,
    groups: Sequence[Any] | None,
    dtype: Any,
    threads: int | None,
    device: str,
) -> SketchSpec:
    """What `sketch` is asked for, checked."""
    if groups is not None:
        run = run.grouped(groups)
    alone = check_per_example_order(order, per_example, per_example_order)
    count = check_int(directions, "directions", 0 if is_int(directions, 0, 0) and alone is not None else 1)
    number = coefficient_type(dtype)
    return SketchSpec(
        run,
        find_distribution(distribution, run.n, seed),
        count,
        check_order(order),
        alone,
        number,
        threads,
        check_device(device),
    )


def check_per_example_order(order: int, per_example: str | None, per_example_order: int | None) -> int | None:
    """The order of the single examples, None without them."""
    if per_example is not None and not (isinstance(per_example, str) and per_example == "series"):
        raise InputError(f"per_example is {quoted(per_example)}; choose 'series' (every example's own series), or None")
    if per_example is None and per_example_order is not None:
        raise InputError(
            f"per_example_order is {quoted(per_example_order)} and per_example is None; give per_example='series'"
        )
    if per_example is None:
        return None
    found = check_order(order if per_example_order is None else per_example_order)
    if not found:
        raise InputError("per_example_order is 0, and their effects begin at order 1; give per_example_order=1 or more")
    return found


def made(
    wanted: SketchSpec,
    *,
    similarity: np.ndarray | None = None,
    before: tuple[PropagatedRun, PropagatedRun | None] | None = None,
    progress: Progress | bool | None = None,
    path: str | PathLike[str] | None = None,
) -> Sketch:
    """The sketch that is wanted, at a path if there is one."""
    run = wanted.run
    kept = None if path is None else about(wanted, similarity)
    with show_progress(progress) as tell:
        check_capacity(wanted, path)  # before anything is at the path
        whole = None if path is None or kept is None else SketchStore.resume(path, kept)
        with whole or nullcontext():
            directions, per_example = push_parts(
                wanted,
                before=before,
                progress=tell,
                store_for=None if whole is None else whole.part,
                stored_width=None if whole is None else whole.width,
            )
    return Sketch(
        **vars_of(directions),
        per_example=per_example,
        run=run,
        labels=run.labels,
        items=run.items,
        groups=run.groups,
        chosen_similarity=similarity,
        path=None if whole is None else whole.path,
        origin=run.origin,
    )


def about(wanted: SketchSpec, similarity: np.ndarray | None) -> SketchMetadata:
    """What is kept on disk of a sketch beside its parts."""
    run, distribution = wanted.run, wanted.distribution
    groups = None
    if run.groups is not None:
        groups = json_values(run.groups)
        if groups is None:
            raise InputError(
                "groups of a sketch on disk are labelled by strings or finite numbers; give such, or no path"
            )
    parts = ["random"] * (wanted.count > 0) + ["singles"] * (wanted.per_example_order is not None)
    come = None if wanted.count else (distribution.name, int(distribution.seed or 0), wanted.order)
    labels, items = (None, None) if groups else (json_values(run.labels), json_values(run.items))
    return SketchMetadata(tuple(parts), come, groups, labels, items, similarity, run.origin)


def vars_of(pushed: PropagatedRun) -> dict[str, Any]:
    """A part's fields by name."""
    return {field.name: getattr(pushed, field.name) for field in fields(PropagatedRun)}


@within_memory("the sketch", "fewer directions", "dtype='complex64'", "a lower order")
def push(
    run: Training,
    directions: Any,
    order: int = 3,
    *,
    dtype: Any = np.complex128,
    threads: int | None = None,
    progress: Progress | bool | None = None,
    device: str = "cpu",
) -> Sketch:
    """Push given directions through a training run.

    Parameters
    ----------
    directions : (directions, examples), real or complex. Real ones cost a quarter.
    order, dtype, threads, progress, device : as for `sketch`.

    Returns
    -------
    Sketch of distribution "given": along a direction psi, keep is 1 - z psi, and `state` holds the coefficients of z^k.

    >>> import numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep[0] * keep[0] * x, np.zeros(()), [1.0], [[0]])
    >>> cs.push(run, [[1.0]], order=2).state.real
    array([[ 1., -2.,  1.]])
    """
    if not isinstance(run, Training):
        raise InputError(f"cs.push takes a cs.Training, not {type(run).__name__}; for a function use cs.local_sketch")
    given = plain_array(directions, "the array of numbers that directions are")
    if given.ndim != 2 or given.shape[1] != run.n:
        raise InputError(
            f"directions of shape {given.shape}; give (directions, examples) = (any, {run.n}), one weight an example"
        )
    number = coefficient_type(dtype)
    wanted = SketchSpec(run, Given(given), len(given), check_order(order), None, number, threads, check_device(device))
    return made(wanted, progress=progress)


@within_memory("the sketch")
def open_sketch(path: str | PathLike[str], run: Training | None = None, *, threads: int | None = None) -> Sketch:
    """A sketch that `sketch(..., path=...)` has written; its blocks are read when they are asked for.

    Parameters
    ----------
    run : the training run, if it is at hand: then the store must be its own, and the state has its structure. Without
        it the state comes back as nested dicts and lists by the names of its leaves, and measurements see
        state["params"], or the whole state where there is none.

    Raises
    ------
    StoreError : no store, not finished, damaged, of another run, or of a newer format.

    >>> import tempfile, numpy as np, circuitsketch as cs
    >>> run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 10.0], [[0], [1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = cs.sketch(run, directions=4, order=1, path=folder + "/a.sketch")
    ...     bool((cs.open_sketch(folder + "/a.sketch").state == made.state).all())
    True
    """
    if run is not None:
        check_instance(run, "run", Training, "the cs.Training that was sketched, or None")
    thread_count(threads, 1)
    whole = SketchStore.open(path)
    kept = whole.metadata
    if run is not None and kept.groups is not None and run.groups != kept.groups:
        run = run.grouped(kept.groups)
    parts = {name: stored_part(store, run, threads) for name, store in whole.stores.items()}
    directions, per_example = parts.get(RANDOM), parts.get(SINGLES)
    if directions is None:
        assert kept.pending is not None and per_example is not None
        distribution, seed, order = kept.pending
        directions = without_directions(find_distribution(distribution, per_example.n, seed), order, per_example)
    labels, items = kept.labels, kept.items
    if kept.groups is not None:
        labels = items = tuple(dict.fromkeys(kept.groups))
    return Sketch(
        **vars_of(directions),
        per_example=per_example,
        run=run,
        labels=labels if run is None or run.labels is None else run.labels,
        items=items if run is None or run.items is None else run.items,
        groups=kept.groups,
        chosen_similarity=kept.similarity,
        path=whole.path,
        origin=kept.origin if run is None or run.origin is None else run.origin,
    )
