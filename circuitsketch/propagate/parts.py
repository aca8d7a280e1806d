"""Compute the parts of a sketch, one after the other: random (or given) directions, then the per-example series.

In: a `SketchSpec`, and the part of it that exists already, in memory or on disk. Out: a `PropagatedRun` for each part.
The per-example series are those along the n real basis directions; they use the real mode and have their own order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Executable, Target
from circuitsketch.backends.registry import get_backend, make_target
from circuitsketch.directions import Basis, Distribution, Given, find_distribution
from circuitsketch.gates import cells
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import by_first_step, push_blocks
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.propagate.kept_lanes import KeptLanes, KeptModels, keep_lanes
from circuitsketch.propagate.progress import Progress
from circuitsketch.propagate.retrained import VALUES, RetrainedModels, retrain_blocks
from circuitsketch.store.fingerprint import device_of, fingerprint_of
from circuitsketch.store.gathering import gathering_threads, open_area
from circuitsketch.store.header import Header, Leaf
from circuitsketch.store.part_store import PartStore, check_same_sketch
from circuitsketch.training.kept_leaves import leaves_of_params
from circuitsketch.training.training import Training, trained_params
from circuitsketch.tree import flatten, parse_paths

RANDOM, PER_EXAMPLE, RETRAINED = "random", "per-example", "retrained"  # the names of the parts
StoreFor = Callable[[str, Header], PartStore]


@dataclass(frozen=True, eq=False)
class SketchSpec:
    """What a sketch is to hold: `count` directions to `order`, and per-example series, unless their order is None.

    Attributes
    ----------
    dtype
        complex128 or complex64, of all parts.
    threads
        None is one per core.
    device
        "cpu" or "cuda", of all parts.
    keep
        The names of the state's leaves whose coefficients are kept; None, those that measurements can read.
    executor
        Workers that share the blocks.
    staging
        The address where they put blocks of a sketch on disk.
    """

    run: Training
    distribution: Distribution
    count: int
    order: int
    per_example_order: int | None = None
    dtype: Any = np.complex128
    threads: int | None = None
    device: str = "cpu"
    retrained: bool = False
    keep: tuple[str, ...] | None = None
    executor: Executor | None = None
    staging: str | None = None

    @cached_property
    def kept(self) -> frozenset[int]:
        """The positions of the leaves whose coefficients are kept."""
        if self.keep is None:
            return leaves_of_params(self.run)
        return frozenset(i for i, name in enumerate(self.run.state_names) if name in self.keep)

    @property
    def mode(self) -> Mode:
        """The mode of the directions: complex, unless they are given real ones."""
        real = isinstance(self.distribution, Given) and not np.iscomplexobj(self.distribution.vectors)
        return Mode(self.order, not real)


def push_parts(
    spec: SketchSpec,
    *,
    before: Mapping[str, PropagatedRun] | None = None,
    progress: Progress | None = None,
    store_for: StoreFor | None = None,
    stored_width: Callable[[str], int | None] | None = None,
) -> dict[str, PropagatedRun]:
    """Compute the parts of a sketch that do not exist yet; return all of them by name, the random directions first.

    Parameters
    ----------
    spec : SketchSpec
        What to compute.
    before : mapping of str to PropagatedRun, optional
        The parts of a smaller sketch of the same run, distribution and orders, in memory.
    progress : callable, optional
        Called with (blocks done, blocks) of all parts together.
    store_for : callable, optional
        Opens the store of a part for writing, by the part's name and header.
    stored_width : callable, optional
        Returns the directions per block of a part on disk, by its name; None if there is none.
    """
    run, before = spec.run, before or {}
    requested: dict[str, tuple[Distribution, int, Mode]] = {}
    if spec.count:
        requested[RANDOM] = spec.distribution, spec.count, spec.mode
    if spec.per_example_order is not None:
        existing = before.get(PER_EXAMPLE)
        basis = Basis(run.n, by_first_step(run)) if existing is None else existing.distribution
        requested[PER_EXAMPLE] = basis, run.n, Mode(spec.per_example_order, False)
    if spec.retrained:
        requested[RETRAINED] = Basis(run.n, by_first_step(run)), run.n, VALUES

    def choose_width(name: str) -> int:
        _, count, mode = requested[name]
        width = None
        if get_backend(spec.device).widths_vary:  # goes on with the width of what there is
            width = before[name].target.width if name in before else None
            width = stored_width(name) if stored_width is not None else width
        return make_target(mode, spec.dtype, width, spec.device, count).width

    widths = {name: choose_width(name) for name in requested}
    blocks = {name: -(-count // widths[name]) for name, (_, count, _) in requested.items()}
    offset, checked = 0, False

    def report_progress(done: float, _: int) -> None:
        nonlocal checked
        checked = True  # a part that has pushed a block has checked the run
        if progress is not None:
            progress(offset + done, sum(blocks.values()))

    parts = {}
    for name, (distribution, count, mode) in requested.items():
        parts[name] = push_part(
            spec,
            distribution,
            count,
            mode,
            widths[name],
            before.get(name),
            report_progress,
            None if store_for is None else partial(store_for, name),
            not checked,
        )
        offset += blocks[name]
    return parts


def push_part(
    spec: SketchSpec,
    distribution: Distribution,
    count: int,
    mode: Mode,
    width: int,
    existing: PropagatedRun | None,
    progress: Progress,
    store_for: Callable[[Header], PartStore] | None,
    check: bool,
) -> PropagatedRun:
    """Compute the blocks of one part that neither `existing` nor its store has."""
    run = spec.run

    def open_store(executable: Executable) -> PartStore:
        assert store_for is not None
        layout = keep_lanes(run, executable, spec.kept)
        return store_for(header_of(run, distribution, count, executable, spec.device, layout))

    if mode.values:
        assert isinstance(distribution, Basis)
        opener = None if store_for is None else open_store
        return retrain_each(spec, distribution, width, existing, progress, opener)

    executable, constants, lanes = push_blocks(
        run,
        distribution.block,
        count,
        mode.order,
        is_complex=mode.complex,
        dtype=spec.dtype,
        threads=spec.threads,
        width=width,
        device=spec.device,
        progress=progress,
        store_for=None if store_for is None else open_store,
        existing=full_blocks(existing) if existing is not None and store_for is None else None,
        check=check,
        kept=spec.kept,
        executor=spec.executor,
        staging=spec.staging,
    )
    layout = keep_lanes(run, executable, spec.kept)
    return PropagatedRun(
        distribution,
        count,
        executable.target,
        run.state_tree,
        run.params,
        constants or existing.constants if existing is not None else constants,
        layout.state_lane,
        lanes,
        spec.threads,
        spec.device,
        run,
        layout.dropped,
    )


def retrain_each(
    spec: SketchSpec,
    examples: Basis,
    width: int,
    existing: PropagatedRun | None,
    progress: Progress,
    store_for: Callable[[Executable], PartStore] | None,
) -> RetrainedModels:
    """Retrain without each example, block by block; blocks that `existing` or its store has are left as they are."""
    run = spec.run
    constants = flatten(run.train())[0]
    executable = run.executable(VALUES, spec.dtype, width, spec.device, run.n)
    layout = keep_lanes(run, executable, spec.kept)
    blocks = -(-run.n // width)
    store = None if store_for is None else store_for(executable)
    lanes: np.ndarray | PartStore = store or np.zeros(
        (blocks, layout.elements, 1, width), np.float32 if executable.target.single else np.float64
    )
    if store is not None and spec.staging is not None:
        store.write_constants(constants)
        open_area(store, spec.staging)
    done = set(store.done) if store is not None else set()
    if existing is not None and store is None:
        lanes, done = existing.lanes, set(range(blocks))

    def take(block: int, models: Any) -> None:
        if store is None:
            lanes[block] = models  # type: ignore[index]
        else:
            store.write_constants(constants)
            store.take(block, models)

    with nullcontext() if store is None or spec.executor is None else store.share() as folder:
        retrain_blocks(
            run,
            examples.block,
            run.n,
            take,
            blocks=set(range(blocks)) - done,
            dtype=spec.dtype,
            width=width,
            threads=spec.threads,
            device=spec.device,
            progress=lambda count, _: progress(len(done) + count, blocks),
            executor=spec.executor,
            read=KeptModels(layout, folder),
            take_threads=gathering_threads(store),
            checkpoints=None if store is None or not get_backend(spec.device).runs_constants else store.checkpoints,
        )
    if store is not None:
        constants = store.constants
    return RetrainedModels(
        examples,
        run.n,
        executable.target,
        run.state_tree,
        run.params,
        constants,
        layout.state_lane,
        lanes,
        spec.threads,
        spec.device,
        run,
        layout.dropped,
    )


def stored_part(store: PartStore, run: Training | None, threads: int | None) -> PropagatedRun:
    """Return a part on disk, whose blocks are read when they are used; StoreError if it is not of the run."""
    header = store.header
    device = device_of(header.fingerprint)
    mode = VALUES if header.distribution == RETRAINED else Mode(header.order, header.is_complex)
    target = Target(mode, header.width, header.dtype == "float32")
    distribution: Distribution
    if header.distribution in ("basis", RETRAINED):
        assert header.given is not None
        distribution = Basis(header.n, header.given.astype(np.int64))
    else:
        distribution = find_distribution(header.distribution, header.n, header.seed or 0)
    state_lane, lane = [], 0
    for leaf in header.leaves:
        state_lane.append(lane if leaf.in_lanes else -1)
        lane += cells(leaf.shape) if leaf.in_lanes else 0
    dropped = tuple(i for i, leaf in enumerate(header.leaves) if not leaf.kept)
    if run is None:
        tree, params = parse_paths([leaf.name for leaf in header.leaves]), trained_params
    else:
        tree, params = run.state_tree, run.params
        executable = run.executable(mode, np.complex64 if target.single else np.complex128, header.width)
        same = run.state_names == [leaf.name for leaf in header.leaves]  # else `check_same_sketch` refuses it
        layout = keep_lanes(run, executable, set(range(len(header.leaves))).difference(dropped) if same else None)
        check_same_sketch(store, header_of(run, distribution, header.directions, executable, device, layout))
    kind = RetrainedModels if mode.values else PropagatedRun
    return kind(
        distribution,
        header.directions,
        target,
        tree,
        params,
        store.constants,
        state_lane,
        store,
        threads,
        device,
        run,
        dropped,
    )


def full_blocks(existing: PropagatedRun) -> np.ndarray:
    """Return the full lane blocks, which more directions do not change; of a basis, which has no more, all blocks."""
    assert isinstance(existing.lanes, np.ndarray)
    is_basis = isinstance(existing.distribution, Basis)
    return existing.lanes if is_basis else existing.lanes[: existing.count // existing.target.width]


def header_of(
    run: Training, distribution: Distribution, count: int, executable: Executable, device: str, layout: KeptLanes
) -> Header:
    """Build the header of a part's store. device : that computes its blocks; layout : of the kept leaves in them."""
    target = executable.target
    leaves = tuple(
        Leaf(name, leaf.shape, executable.state_lane[i] >= 0, i not in layout.dropped)
        for i, (name, leaf) in enumerate(zip(run.state_names, run.state_leaves, strict=True))
    )
    return Header(
        distribution=RETRAINED if target.mode.values else distribution.name,
        n=run.n,
        seed=distribution.seed,
        directions=count,
        order=max(target.mode.order, 1),
        is_complex=target.mode.complex,
        dtype="float32" if target.single else "float64",
        width=target.width,
        steps=run.steps,
        size=run.size,
        leaves=leaves,
        fingerprint=fingerprint_of(run, device),
        given=distribution.examples if isinstance(distribution, Basis) else None,
    )
