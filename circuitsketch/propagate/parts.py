"""The parts of a sketch, pushed one after the other: random (or given) directions, and every example alone.

In: what is wanted of a run, and what there is of it already, in memory or on disk. Out: a `Pushed` for each part. The
single examples are the n real basis directions, so they take the real mode, in an order of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from circuitsketch.backends.contract import Executable, Target
from circuitsketch.backends.registry import backend, target_for
from circuitsketch.directions import Basis, Given, Law, find_law
from circuitsketch.gates import cells
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import by_first_step, push_blocks
from circuitsketch.propagate.coefficients import Pushed
from circuitsketch.propagate.progress import Progress
from circuitsketch.store.fingerprint import device_of, fingerprint_of
from circuitsketch.store.header import Header, Leaf
from circuitsketch.store.part_store import Store, refuse_other
from circuitsketch.training.training import Training, trained_params
from circuitsketch.tree import tree_of

RANDOM, SINGLES = "random", "singles"
StoreFor = Callable[[str, Header], Store]


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a sketch shall have: `count` directions of a law to `order`, and singles to `singles_order` if not None.

    dtype : complex128 or complex64, of all parts. threads : None is one a core. device : of all parts,
    "cpu" or "cuda".
    """

    run: Training
    law: Law
    count: int
    order: int
    singles_order: int | None = None
    dtype: Any = np.complex128
    threads: int | None = None
    device: str = "cpu"

    @property
    def mode(self) -> Mode:
        """Of the directions; given real ones are pushed as such."""
        real = isinstance(self.law, Given) and not np.iscomplexobj(self.law.vectors)
        return Mode(self.order, not real)


def push_parts(
    wanted: Wanted,
    *,
    before: tuple[Pushed, Pushed | None] | None = None,
    progress: Progress | None = None,
    store_for: StoreFor | None = None,
    stored_width: Callable[[str], int | None] | None = None,
) -> tuple[Pushed, Pushed | None]:
    """Push what is wanted and not there yet.

    Parameters
    ----------
    before : the parts of a smaller sketch of the same run, law and orders, in memory.
    progress : called with (blocks done, blocks) of all parts together.
    store_for : gives the store, open for writing, of a part by its name and header. stored_width : directions a block
        of a part that is on disk already, by its name.

    Returns
    -------
    The directions (perhaps none), and the single examples if they are wanted.
    """
    run = wanted.run
    first, second = before if before is not None else (None, None)
    alone = None if wanted.singles_order is None else Mode(wanted.singles_order, False)

    def width_of(name: str, mode: Mode, count: int, made: Pushed | None) -> int:
        width = None
        if backend(wanted.device).widths_vary:  # goes on with the width of what there is
            width = made.target.width if made is not None and made.count else None
            width = stored_width(name) if stored_width is not None else width
        return target_for(mode, wanted.dtype, width, wanted.device, count).width

    widths = {RANDOM: width_of(RANDOM, wanted.mode, wanted.count, first)} if wanted.count else {}
    if alone is not None:
        widths[SINGLES] = width_of(SINGLES, alone, run.n, second)
    ahead = -(-wanted.count // widths[RANDOM]) if wanted.count else 0
    blocks_of_all = ahead + (-(-run.n // widths[SINGLES]) if alone is not None else 0)
    told: list[float] = []

    def part(name: str, law: Law, count: int, mode: Mode, offset: int, made: Pushed | None) -> Pushed:
        def tell(done: float, blocks: int) -> None:
            told.append(done)
            if progress is not None:
                progress(offset + done, blocks_of_all)

        def stored(executable: Executable) -> Store:
            assert store_for is not None
            return store_for(name, header_of(run, law, count, executable, wanted.device))

        executable, constants, lanes = push_blocks(
            run,
            law.block,
            count,
            mode.order,
            is_complex=mode.complex,
            dtype=wanted.dtype,
            threads=wanted.threads,
            width=widths[name],
            device=wanted.device,
            progress=tell,
            store_for=None if store_for is None else stored,
            made=full_blocks(made) if made is not None and made.count and store_for is None else None,
            check=not told,
        )
        constants = constants or made.constants if made is not None else constants
        target, tree, lane = executable.target, run.state_tree, executable.state_lane
        return Pushed(law, count, target, tree, run.params, constants, lane, lanes, wanted.threads, wanted.device)

    directions = part(RANDOM, wanted.law, wanted.count, wanted.mode, 0, first) if wanted.count else None
    singles = None
    if alone is not None:
        basis = Basis(run.n, by_first_step(run)) if second is None else second.law
        singles = part(SINGLES, basis, run.n, alone, ahead, second)
    return directions or without_directions(wanted.law, wanted.order, singles), singles


def without_directions(law: Law, order: int, singles: Pushed | None) -> Pushed:
    """No random directions: their law and order, so that there may be some later."""
    assert singles is not None
    target = replace(singles.target, mode=Mode(order))
    lanes = np.zeros((0, 0, target.mode.components, target.width))
    return replace(singles, law=law, count=0, target=target, lanes=lanes)


def stored_part(store: Store, run: Training | None, threads: int | None) -> Pushed:
    """A part that is on disk, whose blocks are read when they are asked for; StoreError if it is not the run's own."""
    header = store.header
    device = device_of(header.fingerprint)
    mode = Mode(header.order, header.is_complex)
    target = Target(mode, header.width, header.dtype == "float32")
    law: Law
    if header.law == "basis":
        assert header.given is not None
        law = Basis(header.n, header.given.astype(np.int64))
    else:
        law = find_law(header.law, header.n, header.seed or 0)
    state_lane, lane = [], 0
    for leaf in header.leaves:
        state_lane.append(lane if leaf.varies else -1)
        lane += cells(leaf.shape) if leaf.varies else 0
    if run is None:
        tree, params = tree_of([leaf.name for leaf in header.leaves]), trained_params
    else:
        tree, params = run.state_tree, run.params
        executable = run.executable(mode, np.complex64 if target.single else np.complex128, header.width)
        refuse_other(store, header_of(run, law, header.directions, executable, device))
    return Pushed(law, header.directions, target, tree, params, store.constants, state_lane, store, threads, device)


def full_blocks(made: Pushed) -> np.ndarray:
    """The lane blocks without a lane to spare, which more directions leave as they are; of a whole basis all."""
    assert isinstance(made.lanes, np.ndarray)
    whole = isinstance(made.law, Basis)
    return made.lanes if whole else made.lanes[: made.count // made.target.width]


def header_of(run: Training, law: Law, count: int, executable: Executable, device: str) -> Header:
    """What the store of a push says about itself. device : which pushes its blocks."""
    target = executable.target
    leaves = tuple(
        Leaf(name, leaf.shape, at >= 0)
        for name, leaf, at in zip(run.state_names, run.state_leaves, executable.state_lane, strict=True)
    )
    return Header(
        law=law.name,
        n=run.n,
        seed=law.seed,
        directions=count,
        order=target.mode.order,
        is_complex=target.mode.complex,
        dtype="float32" if target.single else "float64",
        width=target.width,
        steps=run.steps,
        size=run.size,
        leaves=leaves,
        fingerprint=fingerprint_of(run, device),
        given=law.examples if isinstance(law, Basis) else None,
    )
