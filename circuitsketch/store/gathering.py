"""Gather the blocks of an earlier attempt from a staging area, before the others are computed.

In: a store that is open for writing, the address of a staging area. Out: the same store, with the blocks that workers
have put there, each checked, and the area opened for more. Blocks of runs that ended in other values are left out.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from circuitsketch.limits import memory_available
from circuitsketch.store.part_store import PartStore
from circuitsketch.store.staging import DamagedBlock, StagedBlock, Staging, open_staging
from circuitsketch.workers.distribution import handle_in_threads

MOST = 8  # threads that gather blocks, each of which has one in memory


def open_area(store: PartStore, address: str) -> None:
    """Open the staging area of a store, and gather what an interrupted attempt has left in it.

    StoreError: the area cannot be read or written.
    """
    staging = store.staging = open_staging(address, store.header, store.created)
    blocks = list(staging.receipts())
    end = known_end(store, staging, blocks)

    def gather(staged: StagedBlock) -> None:
        if staged.end != end or staged.block in store.done:
            staging.forget(staged)
            return
        with suppress(DamagedBlock):  # it is computed again
            store.gather(staged.block, staged)

    for _ in handle_in_threads(blocks, gather, gathering_threads(store)):
        pass
    if store.complete:
        staging.clear()


def gathering_threads(store: PartStore | None) -> int:
    """Return how many threads gather blocks: a request to S3 has 85 to 90 MB/s, by Amazon's guidelines."""
    if store is None or store.staging is None:
        return 1
    available = memory_available()
    room = MOST if available is None else available // 4 // max(store.header.block_bytes, 1)
    return int(min(max(room, 1), MOST))


def known_end(store: PartStore, staging: Staging, blocks: list[StagedBlock]) -> str | None:
    """Return the digest of the state in which the run ends; where the store has none yet, that of all blocks.

    None: the blocks are of different ends, or their constant terms are missing, so that none of them can be used.
    """
    if store.header.distribution == "retrained":  # whose blocks say nothing of the run itself
        return "-"
    stored = store.stored_constants()
    if stored is not None:
        return store.digest(None, np.ascontiguousarray(stored, stored.dtype.newbyteorder("<"))).hex()
    ends = [*{staged.end for staged in blocks}]
    flat = staging.read_end(ends[0], store.header.constant_cells) if len(ends) == 1 else None
    if flat is None:
        return None
    store.write_constants(store.split_leaves(flat))
    return ends[0]
