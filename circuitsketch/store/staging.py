"""A staging area for blocks: workers put them there themselves, and the process that writes the sketch gathers them.

In: a store that is open for writing, an address (`objects`). Out: `Staging`, small when pickled; for a block, on a
worker that reaches the same area, a `StagedBlock`. A worker puts the data under a name of its own, and then a receipt
that names them, with their digest and that of the run's final state, unless there is a receipt already: of workers that
do a block twice, one wins. A block without a receipt does not exist, so whoever dies leaves nothing that could be read.
Receipts outlive the processes: what an interrupted attempt has put there, the next one gathers, each block checked.

    ADDRESS/ID/             ID: the digest of what the part holds, and of when it was created
        here.TOKEN          a worker that finds it reaches the same area
        c.B.D.TOKEN         block B of D directions
        c.B.D.done          its receipt
        c.B.D.steps         its checkpoint, while it takes long
        end.DIGEST          the constant terms of the run's final state
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from circuitsketch.errors import InputError, StoreError, WorkerError
from circuitsketch.store.checkpoints import CHECKPOINT, Checkpoints, checkpoints_at
from circuitsketch.store.header import Header
from circuitsketch.store.objects import Objects, make_place, open_objects, remove_place
from circuitsketch.store.reader import digest_block
from circuitsketch.store.shared_folder import BlockFile, SharedFolder
from circuitsketch.store.zarr_layout import disk_dtype, flatten_leaves, to_little_endian

RECEIPT = re.compile(rb"([0-9a-f]{16}) ([0-9a-f]{64}) ([0-9a-f]{64}|-) ([0-9a-f]{64})\n")
RECEIPT_NAME = re.compile(r"c\.(0|[1-9][0-9]{0,14})\.([1-9][0-9]{0,14})\.done")
MAX_RECEIPT = 256  # bytes
ONLY_THIS = "call again with the same path: only this block is recomputed"


class DamagedBlock(StoreError):
    """A block that is not there, or not as its worker wrote it."""


@dataclass(frozen=True)
class StagedBlock:
    """A block that lies in a staging area.

    Attributes
    ----------
    block : int
        Its number.
    token : str
        Of the worker that wrote it.
    digest : str
        Of the block, in hexadecimal.
    end : str
        Of the run's final state on that worker; "-" if the worker did not compute it.
    """

    block: int
    token: str
    digest: str
    end: str


@dataclass(frozen=True)
class Staging:
    """The staging area of a part.

    Attributes
    ----------
    address : str
        Of the area of this part.
    marker : str
        The name of an object that the writer made: a worker that finds it reaches the same area.
    key : bytes
        Identifies what the part holds.
    directions, width : int
        How many directions it has, in all and in a block.
    """

    address: str
    marker: str
    key: bytes
    directions: int
    width: int

    # ------------------------------------------------------------------------------------------ workers

    @property
    def is_here(self) -> bool:
        """Whether this process reaches the area."""
        return self.objects.size(self.marker) is not None

    @property
    def objects(self) -> Objects:
        """The objects of the area."""
        return open_objects(self.address)

    @property
    def checkpoints(self) -> Checkpoints | None:
        """The checkpoints of unfinished blocks, if this process reaches the area."""
        if not self.is_here:
            return None
        name_of = lambda block: self.name(block) + CHECKPOINT  # noqa: E731
        return checkpoints_at(self.objects, self.key, self.directions, self.width, name_of)

    def __call__(self, block: int, lanes: np.ndarray, end: Sequence[np.ndarray] = ()) -> StagedBlock | np.ndarray:
        """Write a block if this process reaches the area, else return it.

        Parameters
        ----------
        end : sequence of ndarray
            The leaves of the run's final state, if the worker has computed it.

        Raises
        ------
        StoreError
            The area cannot be written.
        WorkerError
            Another worker has written other bits.
        """
        if not self.is_here:
            return lanes.copy()
        data, token = to_little_endian(lanes), secrets.token_hex(8)
        staged = StagedBlock(block, token, digest_block(self.key, block, data).hex(), self.put_end(end))
        self.objects.put(self.data_name(staged), data)
        if not self.objects.put_new(self.receipt_name(block), self.encode(staged)):
            staged = self.yield_to_other(staged)
        with suppress(StoreError):  # the block is done; what is left is deleted in the end
            self.objects.delete(self.name(block) + CHECKPOINT)
        return staged

    def put_end(self, leaves: Sequence[np.ndarray]) -> str:
        """Put the constant terms where they are not yet, under the name of their digest; return it."""
        if not leaves:
            return "-"
        flat = flatten_leaves(leaves)
        digest = digest_block(self.key, None, flat).hex()
        if self.objects.size(f"end.{digest}") != flat.nbytes:
            self.objects.put(f"end.{digest}", flat)
        return digest

    def yield_to_other(self, mine: StagedBlock) -> StagedBlock:
        """Return the block of another worker that was first, and delete this worker's; mine, if the other's is gone."""
        other = self.read_receipt(mine.block)
        if other is None or other.token == mine.token:  # gathered meanwhile; or the server's answer was lost on the way
            return mine
        if (other.digest, other.end) != (mine.digest, mine.end):
            raise WorkerError(
                f"block {mine.block} in {self.address} was computed by two workers with different results: their "
                "processors or package versions differ; use workers with the same processor and the same package "
                "versions, delete everything at this address, and call again"
            )
        with suppress(StoreError):
            self.objects.delete(self.data_name(mine))
        return other

    # ------------------------------------------------------------------------------------------ the writer

    def read(self, staged: StagedBlock, nbytes: int) -> memoryview:
        """Read a block of so many bytes, checked against its digest; DamagedBlock if it is missing, or differs."""
        name = self.data_name(staged)
        size = self.objects.size(name)
        data = self.objects.get(name) if size == nbytes else None
        if data is not None and digest_block(self.key, staged.block, np.frombuffer(data, "u1")).hex() == staged.digest:
            return data
        self.forget(staged)  # so that a later attempt does not find it
        if size is None:
            raise DamagedBlock(f"{self.address}/{name} is missing; {ONLY_THIS}")
        reason = "it does not match its digest" if size == nbytes else f"it has {size} bytes, expected {nbytes}"
        raise DamagedBlock(f"{self.address}/{name} is damaged: {reason}; {ONLY_THIS}")

    def forget(self, staged: StagedBlock) -> None:
        """Delete a block, the receipt first; what cannot be deleted now is deleted in the end."""
        with suppress(StoreError):
            self.objects.delete(self.receipt_name(staged.block))
            self.objects.delete(self.data_name(staged))

    def receipts(self) -> Iterator[StagedBlock]:
        """Yield the blocks of earlier attempts; those of other sizes, and damaged receipts, are deleted."""
        for name, _ in list(self.objects.list("c.")):
            match = RECEIPT_NAME.fullmatch(name)
            if match is None:
                continue
            block = int(match[1])
            staged = self.read_receipt(block) if name == self.receipt_name(block) else None
            if staged is None:
                self.objects.delete(name)
            else:
                yield staged

    def read_end(self, digest: str, cells: int) -> np.ndarray | None:
        """Read the constant terms of a digest, as one vector; None if they are missing or damaged."""
        nbytes, name = 8 * cells, f"end.{digest}"
        data = self.objects.get(name) if self.objects.size(name) == nbytes else None
        if data is None or data.nbytes != nbytes:
            return None
        flat = np.frombuffer(data, disk_dtype("float64"))
        return flat if digest_block(self.key, None, flat).hex() == digest else None

    def clear(self) -> None:
        """Delete all that lies in the area, when the part is complete."""
        with suppress(StoreError):
            for name, _ in sorted(self.objects.list(), key=lambda entry: not entry[0].startswith("here.")):
                self.objects.delete(name)
            remove_place(self.address)

    # ------------------------------------------------------------------------------------------ names

    def name(self, block: int) -> str:
        """Return the beginning of the names of a block: its number, and how many directions it has."""
        return f"c.{block}.{min(self.directions - block * self.width, self.width)}"

    def receipt_name(self, block: int) -> str:
        """Return the name of a block's receipt."""
        return self.name(block) + ".done"

    def data_name(self, staged: StagedBlock) -> str:
        """Return the name of a block's data."""
        if not re.fullmatch("[0-9a-f]{16}", staged.token):
            raise InputError(f"{staged.token!r} is not the token of a worker")
        return f"{self.name(staged.block)}.{staged.token}"

    def encode(self, staged: StagedBlock) -> bytes:
        """Return the receipt of a block, which ends with its own digest."""
        text = f"{staged.token} {staged.digest} {staged.end}".encode()
        return b"%s %s\n" % (text, self.digest(staged.block, text))

    def read_receipt(self, block: int) -> StagedBlock | None:
        """Read a block's receipt; None if there is none, or it is damaged."""
        name = self.receipt_name(block)
        if (self.objects.size(name) or MAX_RECEIPT) >= MAX_RECEIPT:
            return None
        data = self.objects.get(name)
        match = None if data is None else RECEIPT.fullmatch(bytes(data))
        if match is None or self.digest(block, match[0].rpartition(b" ")[0]) != match[4]:
            return None
        return StagedBlock(block, *(part.decode() for part in match.groups()[:3]))

    def digest(self, block: int, text: bytes) -> bytes:
        """Return the digest of a receipt, with what it is for."""
        what = b"receipt %d:%s:" % (len(self.key), self.key) + self.name(block).encode()
        return hashlib.sha256(what + b":" + text).hexdigest().encode()


Shared = SharedFolder | Staging  # where workers put blocks themselves
Written = BlockFile | StagedBlock  # what they say of one


def open_staging(address: str, header: Header, created: str) -> Staging:
    """Open the area of a part below an address, for its writer. StoreError: it cannot be written."""
    key = header.identity()
    identity = hashlib.sha256(b"%d:%s%s" % (len(key), key, created.encode())).hexdigest()[:32]
    place = f"{address}/{identity}"
    staging = Staging(place, f"here.{secrets.token_hex(8)}", key, header.directions, header.width)
    make_place(place)
    staging.objects.put(
        staging.marker, b"circuitsketch: blocks of a sketch that is being made; deleted when it is done\n"
    )
    return staging
