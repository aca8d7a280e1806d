"""What a sketch takes: bytes of its coefficients, of the disk it is kept on, of the memory it is made in.

In: what is wanted of a run. Out: `Size`, known before anything is pushed, and a refusal where memory or disk do not
hold it. What it costs in time is left to `attribution.plan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from circuitsketch.backends.contract import Executable, Target
from circuitsketch.backends.registry import backend, target_for
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Law, Orthonormal
from circuitsketch.errors import StoreError
from circuitsketch.limits import require_disk, require_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.parts import RANDOM, SINGLES, Wanted
from circuitsketch.store.part_store import Store
from circuitsketch.training.training import Training

CLUSTER = 4096  # bytes that a file takes at least, and its size is a multiple of, on most disks
BASICS = 64 << 10  # bytes of the files of a part beside its blocks, roughly


@dataclass(frozen=True)
class PartSize:
    """One part of a sketch: `count` directions of a mode, in lane blocks of the target's width.

    cells : numbers of the trained state that vary, each a series along every direction.
    """

    name: str
    law: Law | None
    count: int
    target: Target
    cells: int

    @property
    def blocks(self) -> int:
        """How many lane blocks."""
        return -(-self.count // self.target.width)

    @property
    def block_bytes(self) -> int:
        """Bytes of a lane block."""
        item = 4 if self.target.single else 8
        return self.target.width * self.cells * self.target.mode.components * item

    @property
    def nbytes(self) -> int:
        """Bytes of the coefficients: of `Sketch.lanes`."""
        return self.blocks * self.block_bytes

    def disk(self, done: int = 0) -> int:
        """Bytes on disk of the blocks that are not done, each a file with a small one beside it."""
        left = max(self.blocks - done, 0)
        return left * (-(-self.block_bytes // CLUSTER) + 1) * CLUSTER + BASICS if left else 0

    def directions(self, n: int) -> int:
        """Bytes of the directions that are kept while they are pushed: an orthonormal one needs those before it."""
        return 16 * n * min(self.count, n) if isinstance(self.law, Orthonormal) else 0

    def working(self, executable: Executable, n: int, threads: int | None) -> int:
        """Bytes of the memory that threads push this part in."""
        together = executable.side_by_side(self.blocks, n, threads)
        workers = thread_count(threads, -(-self.blocks // together))
        rows = 2 * together * self.target.width * n * (16 if self.target.mode.complex else 8)
        return workers * (executable.arena_bytes(together) + rows)


def parts_of(wanted: Wanted) -> Iterator[PartSize]:
    """The parts of a sketch that is wanted; on a GPU, whose blocks are of any width, as if they were of one."""
    run = wanted.run
    cells = sum(run.state_leaves[i].size for i in run.varying())
    parts: list[tuple[str, Law | None, int, Mode]] = []
    if wanted.count:
        parts.append((RANDOM, wanted.law, wanted.count, wanted.mode))
    if wanted.singles_order is not None:
        parts.append((SINGLES, None, run.n, Mode(wanted.singles_order, False)))
    for name, law, count, mode in parts:
        target = target_for(mode, wanted.dtype, 1 if backend(wanted.device).widths_vary else None, "cpu")
        yield PartSize(name, law, count, target, cells)


def executable_of(run: Training, part: PartSize) -> Executable:
    """The run linked for a part, as `push` will ask for it."""
    return run.executable(part.target.mode, np.complex64 if part.target.single else np.complex128)


def check_room(wanted: Wanted, path: str | os.PathLike[str] | None) -> None:
    """Refuse a sketch for which there is no memory, or no room on the disk, before anything of it is made.

    Raises
    ------
    InputError : memory does not hold it, or not what the threads push in. StoreError : the disk does not.
    """
    parts = list(parts_of(wanted))
    kept = sum(part.nbytes for part in parts)
    directions = sum(part.directions(wanted.run.n) for part in parts)
    what = described(wanted)
    if path is None:
        ways = ["path=... to keep it on disk"] if kept > directions else []
        require_memory(kept + directions, what, [*ways, *ways_out(wanted)])
    else:
        left = sum(part.disk(blocks_done(path, part)) for part in parts)
        require_disk(left, path, what, ["another disk", *ways_out(wanted)])
        require_memory(directions, f"the directions of {what}", ["law='sphere'", *ways_out(wanted)])
    if wanted.device == "cpu" and any(part.cells for part in parts):
        working = max(part.working(executable_of(wanted.run, part), wanted.run.n, wanted.threads) for part in parts)
        more = directions + (kept if path is None else 0)
        fewer = ["threads=1"] if wanted.threads != 1 else []
        require_memory(working + more, f"pushing {what}", [*fewer, *ways_out(wanted)])


def described(wanted: Wanted) -> str:
    """A sketch that is wanted, in words."""
    what = "groups" if wanted.run.groups is not None else "examples"
    parts = [f"{wanted.count:,} directions to order {wanted.order}"] if wanted.count else []
    if wanted.singles_order is not None:
        parts.append(f"{wanted.run.n:,} single {what} to order {wanted.singles_order}")
    return f"a sketch of {' and '.join(parts)}"


def ways_out(wanted: Wanted) -> Iterator[str]:
    """What makes a sketch smaller."""
    if np.dtype(wanted.dtype).name in ("complex128", "float64"):
        yield "dtype='complex64' for half of it"
    if wanted.run.groups is None:
        yield "groups=... with one weight per label"
    if wanted.singles_order is not None and wanted.count:
        yield "no singles"
    if wanted.count > 1:
        yield "fewer directions"
    if max(wanted.order if wanted.count else 0, wanted.singles_order or 0) > 1:
        yield "a lower order"


def blocks_done(path: str | os.PathLike[str], part: PartSize) -> int:
    """How many blocks of a part lie at a path already; what is wrong with them is left to whoever resumes them."""
    folder = os.path.join(os.path.abspath(path), part.name)
    try:
        return len(Store.open(folder).done) if Store.exists(folder) else 0
    except StoreError:
        return 0
