"""How many lane blocks share a thread, by the caches that there are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from circuitsketch.backends.scheduler import thread_count

CACHES, MEMORY = 12, 64 << 20
LEVEL_2, GUESS = Path("/sys/devices/system/cpu/cpu0/cache/index2/size"), 512 << 10


def choose_blocks_per_thread(row: int, blocks: int, threads: int | None) -> int:
    """How many lane blocks of `row` bytes a thread plays side by side: they share the constant phase, and turn to each
    other at every step, so that what they hold should stay in a cache.

    A heuristic: as many of at most 8 as CACHES second-level caches hold, no more than MEMORY bytes a thread, and no
    thread without work. Seen on microgpt, 1, 2, 4 blocks, ms a direction and step: with a cache of 512 kB, at order 3
    (3.6 MB a block) .16, .17, .21, at order 1 (1.4 MB) .053, .047, .044, with four layers (11 MB) .76, .96 and, of
    three, .99; with one of 2 MB, at order 3 (7.9 MB) .104, .100, .101, at order 1 (2.6 MB) .030, .028, .027, of eight
    .026.
    """
    share = blocks // thread_count(threads, blocks)
    cached = min(max(CACHES * read_level_2_size() // max(row, 1), 1), 8)
    return max(min(cached, MEMORY // max(row, 1), share), 1)


@cache
def read_level_2_size() -> int:
    """Bytes of a core's second-level cache, where Linux tells; else a guess."""
    try:
        return int(LEVEL_2.read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return GUESS
