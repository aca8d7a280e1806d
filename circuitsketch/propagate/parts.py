"""Compute the parts of a sketch, one after the other: random (or given) directions, then the per-example series.

In: a `SketchSpec`, and the part of it that exists already, in memory or on disk. Out: a `PropagatedRun` for each part.
The per-example series are those along the n real basis directions; they use the real mode and have their own order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Executable, Target
from circuitsketch.backends.registry import backend, target_for
from circuitsketch.directions import Basis, Distribution, Given, find_distribution
from circuitsketch.gates import cells
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import by_first_step, push_blocks
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.propagate.progress import Progress
from circuitsketch.store.fingerprint import device_of, fingerprint_of
from circuitsketch.store.header import Header, Leaf
from circuitsketch.store.part_store import Store, check_same_sketch
from circuitsketch.training.training import Training, trained_params
from circuitsketch.tree import tree_of

RANDOM, SINGLES = "random", "singles"
StoreFor = Callable[[str, Header], Store]


@dataclass(frozen=True, eq=False)
class SketchSpec:
    """The specification of a sketch: `count` directions to `order`, per-example series to `per_example_order` if not None.

    dtype : complex128 or complex64, of all parts. threads : None is one per core. device : "cpu" or "cuda", of all
    parts.
    """

    run: Training
    distribution: Distribution
    count: int
    order: int
    per_example_order: int | None = None
    dtype: Any = np.complex128
    threads: int | None = None
    device: str = "cpu"

    @property
    def mode(self) -> Mode:
        """The mode of the directions: complex, unless they are given real ones."""
        real = isinstance(self.distribution, Given) and not np.iscomplexobj(self.distribution.vectors)
        return Mode(self.order, not real)


def push_parts(
    spec: SketchSpec,
    *,
    before: tuple[PropagatedRun, PropagatedRun | None] | None = None,
    progress: Progress | None = None,
    store_for: StoreFor | None = None,
    stored_width: Callable[[str], int | None] | None = None,
) -> tuple[PropagatedRun, PropagatedRun | None]:
    """Compute the parts of a sketch that do not exist yet.

    Parameters
    ----------
    before : the parts of a smaller sketch of the same run, distribution and orders, in memory.
    progress : called with (blocks done, blocks) of all parts together.
    store_for : opens the store of a part for writing, by the part's name and header. stored_width : returns the
        directions per block of a part on disk, by its name; None if there is none.

    Returns
    -------
    The directions (perhaps none), and the per-example series, None without them.
    """
    run = spec.run
    directions_before, singles_before = before if before is not None else (None, None)
    singles_mode = None if spec.per_example_order is None else Mode(spec.per_example_order, False)

    def choose_width(name: str, mode: Mode, count: int, existing: PropagatedRun | None) -> int:
        width = None
        if backend(spec.device).widths_vary:  # goes on with the width of what there is
            width = existing.target.width if existing is not None and existing.count else None
            width = stored_width(name) if stored_width is not None else width
        return target_for(mode, spec.dtype, width, spec.device, count).width

    widths = {RANDOM: choose_width(RANDOM, spec.mode, spec.count, directions_before)} if spec.count else {}
    if singles_mode is not None:
        widths[SINGLES] = choose_width(SINGLES, singles_mode, run.n, singles_before)
    first_blocks = -(-spec.count // widths[RANDOM]) if spec.count else 0
    blocks_of_all = first_blocks + (-(-run.n // widths[SINGLES]) if singles_mode is not None else 0)
    reported: list[float] = []

    def push_part(
        name: str, distribution: Distribution, count: int, mode: Mode, offset: int, existing: PropagatedRun | None
    ) -> PropagatedRun:
        def report_progress(done: float, blocks: int) -> None:
            reported.append(done)
            if progress is not None:
                progress(offset + done, blocks_of_all)

        def open_store(executable: Executable) -> Store:
            assert store_for is not None
            return store_for(name, header_of(run, distribution, count, executable, spec.device))

        executable, constants, lanes = push_blocks(
            run,
            distribution.block,
            count,
            mode.order,
            is_complex=mode.complex,
            dtype=spec.dtype,
            threads=spec.threads,
            width=widths[name],
            device=spec.device,
            progress=report_progress,
            store_for=None if store_for is None else open_store,
            existing=full_blocks(existing) if existing is not None and existing.count and store_for is None else None,
            check=not reported,
        )
        constants = constants or existing.constants if existing is not None else constants
        target, tree, lane = executable.target, run.state_tree, executable.state_lane
        return PropagatedRun(
            distribution, count, target, tree, run.params, constants, lane, lanes, spec.threads, spec.device
        )

    directions = (
        push_part(RANDOM, spec.distribution, spec.count, spec.mode, 0, directions_before) if spec.count else None
    )
    per_example = None
    if singles_mode is not None:
        basis = Basis(run.n, by_first_step(run)) if singles_before is None else singles_before.distribution
        per_example = push_part(SINGLES, basis, run.n, singles_mode, first_blocks, singles_before)
    return directions or without_directions(spec.distribution, spec.order, per_example), per_example


def without_directions(distribution: Distribution, order: int, per_example: PropagatedRun | None) -> PropagatedRun:
    """Return a part without directions, which keeps their distribution and order so that some can be added later."""
    assert per_example is not None
    target = replace(per_example.target, mode=Mode(order))
    lanes = np.zeros((0, 0, target.mode.components, target.width))
    return replace(per_example, distribution=distribution, count=0, target=target, lanes=lanes)


def stored_part(store: Store, run: Training | None, threads: int | None) -> PropagatedRun:
    """Return a part on disk, whose blocks are read when they are used; StoreError if it is not of the run."""
    header = store.header
    device = device_of(header.fingerprint)
    mode = Mode(header.order, header.is_complex)
    target = Target(mode, header.width, header.dtype == "float32")
    distribution: Distribution
    if header.distribution == "basis":
        assert header.given is not None
        distribution = Basis(header.n, header.given.astype(np.int64))
    else:
        distribution = find_distribution(header.distribution, header.n, header.seed or 0)
    state_lane, lane = [], 0
    for leaf in header.leaves:
        state_lane.append(lane if leaf.varies else -1)
        lane += cells(leaf.shape) if leaf.varies else 0
    if run is None:
        tree, params = tree_of([leaf.name for leaf in header.leaves]), trained_params
    else:
        tree, params = run.state_tree, run.params
        executable = run.executable(mode, np.complex64 if target.single else np.complex128, header.width)
        check_same_sketch(store, header_of(run, distribution, header.directions, executable, device))
    return PropagatedRun(
        distribution, header.directions, target, tree, params, store.constants, state_lane, store, threads, device
    )


def full_blocks(existing: PropagatedRun) -> np.ndarray:
    """Return the full lane blocks, which more directions do not change; of a basis, which has no more, all blocks."""
    assert isinstance(existing.lanes, np.ndarray)
    is_basis = isinstance(existing.distribution, Basis)
    return existing.lanes if is_basis else existing.lanes[: existing.count // existing.target.width]


def header_of(run: Training, distribution: Distribution, count: int, executable: Executable, device: str) -> Header:
    """Build the header of a part's store. device : that computes its blocks."""
    target = executable.target
    leaves = tuple(
        Leaf(name, leaf.shape, at >= 0)
        for name, leaf, at in zip(run.state_names, run.state_leaves, executable.state_lane, strict=True)
    )
    return Header(
        distribution=distribution.name,
        n=run.n,
        seed=distribution.seed,
        directions=count,
        order=target.mode.order,
        is_complex=target.mode.complex,
        dtype="float32" if target.single else "float64",
        width=target.width,
        steps=run.steps,
        size=run.size,
        leaves=leaves,
        fingerprint=fingerprint_of(run, device),
        given=distribution.examples if isinstance(distribution, Basis) else None,
    )
