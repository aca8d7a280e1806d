"""Choose how many lane blocks a thread carries through a run, by the size of its caches."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from circuitsketch.backends.scheduler import thread_count

CACHES, MEMORY = 8, 64 << 20
BEYOND, UNCACHED = 4, 512 << 20  # blocks at a time, and their bytes, where no cache has room for one
LARGE = 12  # second-level caches: a lane block beyond them comes from memory, or from a cache that others use too
LEVEL_2, GUESS = Path("/sys/devices/system/cpu/cpu0/cache/index2/size"), 512 << 10


def choose_blocks_per_thread(row: int, blocks: int, threads: int | None) -> int:
    """Return how many lane blocks of `row` bytes a thread runs at a time.

    They share the constant phase, and every step runs them one after another, so all of them should stay in a cache.

    A heuristic: as many as fit into CACHES second-level caches, but at most 8, at most MEMORY bytes per thread, and so
    few that no thread is without work. Seen on microgpt, in ms per direction per step, with 1, 2 and 4 blocks:
    with a cache of 512 kB, at order 3 (3.6 MB per block) .16, .17, .21; at order 1 (1.4 MB) .053, .047, .044; with four
    layers (11 MB) .76, .96 and, with 3 blocks, .99;
    with a cache of 2 MB, at order 3 (7.9 MB) .104, .100, .101; at order 1 (2.6 MB) .030, .028, .027 and, with 8, .026;
    with a cache of 1 MB and AVX2, at order 3 (4.0 MB) .088, .086, .089, and with busy neighbours .098, .097, .109 (with
    3 blocks .102); with AVX-512 and these neighbours, at order 3 (7.9 MB) .052, .060, .074; at order 1 (2.6 MB) .0140,
    .0128, .0128 and, with 8, .018.

    A block that is larger than MEMORY comes from memory in every step, alone or not: then up to BEYOND of them share
    the constant phase, in at most UNCACHED bytes per thread. Seen with 135 MB per block and a second-level cache of
    1.25 MB, with 1, 2 and 4 blocks: 4.7, 4.1, 4.0.
    """
    share = blocks // thread_count(threads, blocks)
    if row > MEMORY:
        return max(min(BEYOND, UNCACHED // row, share), 1)
    cached = min(max(CACHES * read_level_2_size() // max(row, 1), 1), 8)
    return max(min(cached, MEMORY // max(row, 1), share), 1)


@cache
def read_level_2_size() -> int:
    """Return the bytes of a core's second-level cache, as Linux reports it, else a guess."""
    try:
        return int(LEVEL_2.read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return GUESS
