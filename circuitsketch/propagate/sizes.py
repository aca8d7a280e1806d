"""The size of a sketch in bytes: its coefficients, its files, and the memory that computing it takes.

In: a `SketchSpec`. Out: `PartSize` for each part, before anything is computed, and an error if memory or disk are too
small. The time that a sketch takes is left to `attribution.plan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from circuitsketch.backends.contract import Executable, Target
from circuitsketch.backends.registry import get_backend, make_target
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Distribution, Orthonormal
from circuitsketch.errors import StoreError
from circuitsketch.limits import require_disk, require_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.parts import PER_EXAMPLE, RANDOM, RETRAINED, SketchSpec
from circuitsketch.propagate.retrained import VALUES
from circuitsketch.store.metadata import FOLDERS
from circuitsketch.store.part_store import PartStore
from circuitsketch.training.training import Training

CLUSTER = 4096  # bytes: on most disks the space that a file takes is a multiple of this
BASICS = 64 << 10  # bytes of a part's files other than its blocks, roughly


@dataclass(frozen=True)
class PartSize:
    """One part of a sketch: `count` directions of a mode, in lane blocks of the target's width.

    cells : elements of the trained state that vary and are kept; each has a series along every direction.
    """

    name: str
    distribution: Distribution | None
    count: int
    target: Target
    cells: int

    @property
    def blocks(self) -> int:
        """The number of lane blocks."""
        return -(-self.count // self.target.width)

    @property
    def block_bytes(self) -> int:
        """The size of a lane block in bytes."""
        item = 4 if self.target.single else 8
        return self.target.width * self.cells * self.target.mode.components * item

    @property
    def nbytes(self) -> int:
        """The size of the coefficients (`Sketch.lanes`) in bytes."""
        return self.blocks * self.block_bytes

    def disk(self, done: int = 0) -> int:
        """Return the bytes on disk of the blocks that are not done, each a file and the small file of its digest."""
        disk_bytes = max(self.blocks - done, 0)
        return disk_bytes * (-(-self.block_bytes // CLUSTER) + 1) * CLUSTER + BASICS if disk_bytes else 0

    def directions(self, n: int) -> int:
        """Return the bytes of directions held in memory: each orthonormal direction needs all those before it."""
        return 16 * n * min(self.count, n) if isinstance(self.distribution, Orthonormal) else 0

    def working(self, executable: Executable, n: int, threads: int | None) -> int:
        """Bytes of the memory that threads push this part in."""
        together = executable.choose_blocks_per_run(self.blocks, n, threads)
        workers = thread_count(threads, -(-self.blocks // together))
        rows = 2 * together * self.target.width * n * (16 if self.target.mode.complex else 8)
        return workers * (executable.arena_bytes(together) + rows)


def parts_of(spec: SketchSpec) -> Iterator[PartSize]:
    """Yield the parts of a specified sketch; on a GPU, whose blocks may have any width, with blocks of width 1."""
    run = spec.run
    parts: list[tuple[str, Distribution | None, int, Mode]] = []
    if spec.count:
        parts.append((RANDOM, spec.distribution, spec.count, spec.mode))
    if spec.per_example_order is not None:
        parts.append((PER_EXAMPLE, None, run.n, Mode(spec.per_example_order, False)))
    if spec.retrained:
        parts.append((RETRAINED, None, run.n, VALUES))
    for name, distribution, count, mode in parts:
        target = make_target(mode, spec.dtype, 1 if get_backend(spec.device).widths_vary else None, "cpu")
        cells = sum(run.state_leaves[i].size for i in spec.kept.intersection(run.varying(mode.values)))
        yield PartSize(name, distribution, count, target, cells)


def executable_of(run: Training, part: PartSize) -> Executable:
    """Return the run's executable for a part, the one that `push_blocks` will use."""
    return run.executable(part.target.mode, np.complex64 if part.target.single else np.complex128)


def check_capacity(spec: SketchSpec, path: str | os.PathLike[str] | None) -> None:
    """Refuse a sketch that does not fit into memory or on the disk, before anything of it is computed.

    Raises
    ------
    InputError
        There is not enough memory for it, or for computing it.
    StoreError
        There is not enough disk space.
    """
    parts = list(parts_of(spec))
    coefficient_bytes = sum(part.nbytes for part in parts)
    directions = sum(part.directions(spec.run.n) for part in parts)
    what = describe_spec(spec)
    if path is None:
        remedies = ["path=... to store the sketch on disk"] if coefficient_bytes > directions else []
        require_memory(coefficient_bytes + directions, what, [*remedies, *size_remedies(spec)])
    else:
        disk_bytes = sum(part.disk(count_finished_blocks(path, part)) for part in parts)
        require_disk(disk_bytes, path, what, ["another disk", *size_remedies(spec)])
        require_memory(directions, f"the directions of {what}", ["distribution='sphere'", *size_remedies(spec)])
    here = spec.executor is None and get_backend(spec.device).runs_constants
    if here and any(part.cells for part in parts):
        working = max(part.working(executable_of(spec.run, part), spec.run.n, spec.threads) for part in parts)
        more = directions + (coefficient_bytes if path is None else 0)
        fewer = ["threads=1"] if spec.threads != 1 else []
        require_memory(working + more, f"computing {what}", [*fewer, *size_remedies(spec)])


def describe_spec(spec: SketchSpec) -> str:
    """Describe a specified sketch."""
    what = "groups" if spec.run.groups is not None else "examples"
    parts = [f"{spec.count:,} directions to order {spec.order}"] if spec.count else []
    if spec.per_example_order is not None:
        parts.append(f"per-example series of {spec.run.n:,} {what} to order {spec.per_example_order}")
    if spec.retrained:
        parts.append(f"{spec.run.n:,} models, each retrained without one of the {what}")
    return f"a sketch of {' and '.join(parts)}"


def size_remedies(spec: SketchSpec) -> Iterator[str]:
    """Yield remedies that make a sketch smaller."""
    if np.dtype(spec.dtype).name in ("complex128", "float64"):
        yield "dtype='complex64', which takes half the space"
    if spec.run.groups is None:
        yield "groups=... with one weight per label"
    if (spec.per_example_order is not None or spec.retrained) and spec.count:
        yield "per_example=None"
    if spec.count > 1:
        yield "fewer directions"
    if max(spec.order if spec.count else 0, spec.per_example_order or 0) > 1:
        yield "a lower order"


def count_finished_blocks(path: str | os.PathLike[str], part: PartSize) -> int:
    """Return how many blocks of a part are at a path already; errors in them are left to whoever resumes the store."""
    folder = os.path.join(os.path.abspath(path), FOLDERS[part.name])
    try:
        return len(PartStore.open(folder).done) if PartStore.exists(folder) else 0
    except StoreError:
        return 0
