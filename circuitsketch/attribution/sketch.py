"""The front of the package: push directions through a run, then measure anything and ask.

In: a training run; how many directions, of which distribution, to which order; per-example series if asked for. Out: a
`Sketch`; `measure` turns it into a `Query`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os import PathLike
from typing import Any

import numpy as np

from circuitsketch.arguments import check_executor, refuse_device
from circuitsketch.attribution.calibrate import take_in_kept
from circuitsketch.attribution.description import SketchRecord, describe, facts, heading
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.run_checks import MeasuredState, RunChecks, RunKinks, names_of_kinks
from circuitsketch.attribution.structure import Structure
from circuitsketch.attribution.validation import check_spec, check_staging
from circuitsketch.autodiff import evaluate
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.circuit import Circuit
from circuitsketch.directions import Basis, Given, check_count
from circuitsketch.display import list_completions, table
from circuitsketch.errors import CircuitSketchError, InputError
from circuitsketch.estimators.alikeness import shares_labels
from circuitsketch.estimators.interactions.priors import Priors
from circuitsketch.estimators.known_effects import FromKnownEffects, KnownEffects
from circuitsketch.estimators.similarity import effects_similarity, given_similarity
from circuitsketch.limits import within_memory
from circuitsketch.propagate.coefficients import (
    PropagatedRun,
    refuse_measurement,
    unpack_series,
    value_shape,
    values_of,
)
from circuitsketch.propagate.parts import PER_EXAMPLE, RANDOM, RETRAINED, SketchSpec, push_parts
from circuitsketch.propagate.progress import Progress, show_progress
from circuitsketch.propagate.roots import shares_of_averages
from circuitsketch.propagate.sizes import check_capacity
from circuitsketch.reverse.metagradient import differentiate_run
from circuitsketch.store.atomic_files import absolute_path
from circuitsketch.store.fingerprint import describe_circuit, digest
from circuitsketch.store.kept_calibrations import CalibrationFolder
from circuitsketch.store.metadata import SketchMetadata, json_values
from circuitsketch.store.part_store import PartStore
from circuitsketch.store.sketch_store import SketchStore
from circuitsketch.training.kinks import Kinks
from circuitsketch.training.training import Training
from circuitsketch.tree import unflatten

# What tab completion shows.
PUBLIC = (
    "measure query extend info path n count order distribution directions coefficients per_example similarity labels "
    "items groups run params state nbytes"
).split()


@dataclass(eq=False)
class Sketch(SketchRecord):
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

    @cached_property
    def directions(self) -> np.ndarray:
        """The random (or given) directions, (count, n)."""
        return self.distribution.block(0, self.count)

    @cached_property
    def similarity(self) -> np.ndarray | None:
        """A factor J (n, p) of the similarity over examples, J J^T: the user's, else that of the first-order effects of
        single examples on the trained parameters, else None. Computed on first access."""
        if self.chosen_similarity is not None or self.per_example is None or not self.per_example.order:
            return self.chosen_similarity
        return effects_similarity(self.per_example)

    @cached_property
    def priors(self) -> Priors:
        """What all measurements share of the fit of interactions."""
        return Priors(partial(getattr, self, "similarity"), partial(self.distribution.block, 0, self.count))

    @cached_property
    def moves(self) -> np.ndarray | None:
        """First-order effects (n, p) of single examples on the trained parameters, or what retraining without each
        changes of these; None if they are not known."""
        if self.retrained is not None:
            circuit = self.first_part.measurement(lambda params: params, ())
            refuse_measurement(self.retrained.measured_bytes(circuit), circuit, self.n)
            trained = np.concatenate([np.ravel(leaf) for leaf in evaluate(circuit, self.constants)])
            return self.retrained.measured(circuit).reshape(self.n, -1) - trained
        return self.similarity if self.chosen_similarity is None else None

    @cached_property
    def shares(self) -> np.ndarray | None:
        """How much of an average under a root each example alone carries, see `shares_of_averages`; None if unknown.
        Computed on first access."""
        if self.run is None or self.per_example is None or not self.per_example.order:
            return None
        try:
            return shares_of_averages(self.run, self.per_example)
        except CircuitSketchError:  # first order diverges, or memory does not hold it
            return None

    @cached_property
    def kinks(self) -> RunKinks | None:
        """What random deletions move across the run's kinks; None for a smooth run. Computed on first access."""
        if self.run is None:
            return RunKinks(Kinks(self.kink_names)) if self.kink_names else None
        return RunKinks.of(self.run)

    @property
    def params(self) -> Callable[[Any], Any]:
        """The function from a state to the trained parameters."""
        return self.first_part.params

    @property
    def state(self) -> Any:
        """The final state's Taylor coefficients along the directions: see `PropagatedRun.state`."""
        if self.random is not None:
            return self.random.state
        shape = 0, self.order + 1
        empty = [np.zeros((*shape, *leaf.shape), dtype=np.complex128) for leaf in self.constants]
        return unflatten(self.first_part.tree, empty)

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def coefficients(self, function: Callable[..., Any], *args: Any, device: str = "cpu") -> Any:
        """Compute Taylor coefficients along the random (or given) directions: see `PropagatedRun.coefficients`."""
        if self.random is not None:
            return self.random.coefficients(function, *args, device=device)
        circuit = self.first_part.measurement(function, args)
        return unpack_series(circuit, self._measure_random(circuit, device))

    def _measure_random(self, circuit: Circuit, device: str) -> np.ndarray:
        if self.random is not None:
            return self.random.measured(circuit, device)
        return np.zeros((0, self.order + 1, *value_shape(circuit)), dtype=np.complex128)

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def measure(self, function: Callable[..., Any], *args: Any, device: str = "cpu") -> Query:
        """Measure the trained model, `function(params, *args)`, along every direction.

        Parameters
        ----------
        function : callable
            A NumPy function of the trained parameters. It returns a number, an array, or a pytree of them (the
            parameters themselves, too), and then predictions are such pytrees.
        *args
            Passed to the function unchanged (a name, test data); they are not traced.
        device : {"cpu", "cuda"}
            "cuda" is for measurements that take long.

        Returns
        -------
        Query

        Raises
        ------
        TraceError, InputError
            If the measurement is locally constant (a count, a rate, an accuracy), so that a series cannot predict it.
            If only some of its values are, predictions say which.
        """
        circuit = self.first_part.measurement(function, args)
        nbytes = sum(part.measured_bytes(circuit) for part in self.parts.values())
        refuse_measurement(nbytes, circuit, sum(part.count for part in self.parts.values()))
        series = [self._measure_random(circuit, device)]
        if self.per_example is not None:
            series.append(self.per_example.measured(circuit, device))
        if self.retrained is not None:
            query = self._measure_retrained(series[0], circuit, Source(function, args, self.run), device)
            query.calibrations = self.calibrations_of(circuit)
            return query
        constancy = self.first_part.constancy(circuit, *series)
        if constancy is not None and not constancy.flat.any():  # the same for all weights: what there is is rounding
            for part in series:
                part[:, 1:] = 0
        structure, source = Structure.of(circuit), Source(function, args, self.run)
        query = Query(
            series[0],
            self.distribution,
            per_example=series[1] if self.per_example is not None else None,
            constancy=constancy,
            labels=self.labels,
            items=self.items,
            priors=self.priors,
            unit="example" if self.groups is None else "group",
            structure=structure,
            source=source,
            checks=RunChecks(
                source,
                structure,
                partial(getattr, self, "kinks"),
                partial(getattr, self, "moves"),
                MeasuredState(circuit, self.constants, self.first_part.varying),
                self.labels if self.groups is None and shares_labels(self.labels) else None,
                partial(getattr, self, "shares"),
            ),
        )
        query.calibrations = self.calibrations_of(circuit)
        return query

    @within_memory("the measurement", "a measurement of fewer values", "fewer directions")
    def query(
        self, function: Callable[..., Any], *args: Any, kind: str | None = None, size: int | None = None
    ) -> Query:
        """Measure the trained model, and take in a calibration that the sketch has kept: nothing is retrained.

        Parameters
        ----------
        function, *args
            As for `measure`, the measurement that was calibrated.
        kind : {"mixed", "random", "label", "given"}, optional
            Of the subsets that it was calibrated on; needed where calibrations of several kinds are kept.
        size : int, optional
            A size |h|^2 that they reach.

        Returns
        -------
        Query
            With the default estimator "calibrated"; of several calibrations, on that of the most subsets.

        Raises
        ------
        InputError
            If there is no such calibration; see `Query.keep_calibration`.
        StoreError
            If it is damaged, or of another run.
        TraceError
            As for `measure`.

        Examples
        --------
        >>> import tempfile, circuitsketch as cs
        >>> step = lambda s, x, keep: s + np.tanh(keep.sum() * x - s)
        >>> run = cs.Training(step, np.zeros(()), np.linspace(0, 1, 50), [[i] for i in range(50)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sketch = cs.sketch(run, directions=0, order=1, per_example="series", path=folder + "/a.sketch")
        ...     kept = sketch.measure(lambda s: s).calibrate(size=(1, 5), count=24).keep_calibration()
        ...     print(sketch.query(lambda s: s, size=2).worth.subsets)
        24
        """
        return take_in_kept(self.measure(function, *args), kind, size)

    def calibrations_of(self, circuit: Circuit) -> CalibrationFolder | None:
        """Return where a measurement's calibrations are kept; None for a sketch in memory."""
        if self.path is None or not isinstance(self.first_part.lanes, PartStore):
            return None
        prints = self.first_part.lanes.header.fingerprint
        return CalibrationFolder(self.path, prints, digest(describe_circuit(circuit)), self.n, values_of(circuit))

    def _measure_retrained(self, coefficients: np.ndarray, circuit: Circuit, source: Source, device: str) -> Query:
        assert self.retrained is not None
        baseline = np.concatenate([np.ravel(leaf) for leaf in evaluate(circuit, self.constants)])
        own = self.retrained.measured(circuit, device).reshape(self.n, -1) - baseline
        gradient = None
        if self.run is not None:
            with suppress(CircuitSketchError):  # where there are no derivatives
                gradient = differentiate_run(self.run, source.measure, source.args, self.first_part.threads)[1].T
        shape, constancy = value_shape(circuit), None
        if len(coefficients):
            constancy = self.first_part.constancy(circuit, coefficients)
        known = KnownEffects.of_own(gradient, own, shape)
        series = np.stack([np.broadcast_to(baseline, own.shape), known.gradient], axis=1).reshape(self.n, 2, *shape)
        query = Query(
            coefficients,
            self.distribution,
            per_example=series,
            constancy=constancy,
            labels=self.labels,
            items=self.items,
            unit="example" if self.groups is None else "group",
            structure=Structure.of(circuit),
            source=source,
        )
        query.moves = partial(getattr, self, "moves")
        random = [query.random] if len(coefficients) else []
        return query.with_estimators([*random, *(FromKnownEffects(known, name) for name in known.names)])

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

    def __dir__(self) -> list[str]:
        return list_completions(self, PUBLIC)

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
