"""Gather the blocks of an earlier attempt from a staging area, before the others are computed.

In: a store that is open for writing, the address of a staging area. Out: the same store, with the blocks that workers
have put there, each checked, and the area opened for more. Blocks of runs that ended in other values are left out.
"""

from __future__ import annotations

import numpy as np

from circuitsketch.store.part_store import PartStore
from circuitsketch.store.staging import DamagedBlock, StagedBlock, Staging, open_staging


def open_area(store: PartStore, address: str) -> None:
    """Open the staging area of a store, and gather what an interrupted attempt has left in it.

    StoreError: the area cannot be read or written.
    """
    staging = store.staging = open_staging(address, store.header, store.created)
    blocks = list(staging.receipts())
    end = known_end(store, staging, blocks)
    for staged in blocks:
        if staged.end != end or staged.block in store.done:
            staging.forget(staged)
            continue
        try:
            store.gather(staged.block, staged)
        except DamagedBlock:
            continue  # it is computed again
    if store.complete:
        staging.clear()


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
