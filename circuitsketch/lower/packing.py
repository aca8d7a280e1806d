"""Arguments of instructions: records with named fields, and their order in the row of integers that kernels read.

`pack` writes a record as integers, `unpack` reads it back; nothing else knows the order. A code generator, which needs
the position of every field, unpacks `POSITIONS` in place of integers: each field is then its own position. The tables
of a contraction have run-time lengths; `ContractArguments.TABLES` names them in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np

CHAIN_AXES = 4
MOVE_AXES = 6
POSITIONS = range(1 << 16)  # a row of integers in which every one is its own position


@dataclass(frozen=True, slots=True)
class ChainSide:
    """An operand or a result of a chain: its first element in each arena, and its stride along every axis."""

    constant: int
    lane: int
    strides: tuple[int, ...]

    SIZE: ClassVar[int] = 2 + CHAIN_AXES


@dataclass(frozen=True, slots=True)
class ChainArguments:
    """The arguments of a chain: CHAIN_AXES extents, with leading ones; then its operands, then its results."""

    extents: tuple[int, ...]
    sides: tuple[ChainSide, ...]

    def pack(self) -> tuple[int, ...]:
        """Return the integers that the kernel reads."""
        return (*self.extents, *(x for side in self.sides for x in (side.constant, side.lane, *side.strides)))

    @staticmethod
    def unpack(args: Sequence[int], sides: int) -> ChainArguments:
        """Return the record in a row of integers; sides : how many operands and results it has."""
        return ChainArguments(tuple(args[:CHAIN_AXES]), tuple(unpack_chain_side(args, i) for i in range(sides)))


def unpack_chain_side(args: Sequence[int], i: int) -> ChainSide:
    """Return operand or result i in a chain's row of integers."""
    constant, lane, *strides = args[CHAIN_AXES + i * ChainSide.SIZE :][: ChainSide.SIZE]
    return ChainSide(constant, lane, tuple(strides))


@dataclass(frozen=True, slots=True)
class ContractSide:
    """An operand or the result of a contraction: the element in each arena from which its tables count."""

    constant: int
    lane: int


@dataclass(frozen=True, slots=True)
class ContractArguments:
    """The arguments of a contraction: three sides, four extents, and nine tables of element numbers.

    The element of the left operand at (batch, row, k) is left_batch[batch] + left_row[row] + left_summed[k] from its
    side's on, and so for the right operand and the result.
    """

    left: ContractSide
    right: ContractSide
    result: ContractSide
    tables: tuple[tuple[int, ...], ...]

    SIDES: ClassVar[tuple[str, ...]] = ("left", "right", "result")
    EXTENTS: ClassVar[tuple[str, ...]] = ("batches", "rows", "columns", "summed")
    # Name of a table -> the extent that is its length, in their order.
    TABLES: ClassVar[dict[str, str]] = {
        "left_batch": "batches",
        "left_row": "rows",
        "left_summed": "summed",
        "right_batch": "batches",
        "right_summed": "summed",
        "right_column": "columns",
        "result_batch": "batches",
        "result_row": "rows",
        "result_column": "columns",
    }
    HEAD: ClassVar[int] = 2 * len(SIDES) + len(EXTENTS)  # numbers before the tables

    def table(self, name: str) -> tuple[int, ...]:
        """Return a table by its name."""
        return self.tables[list(self.TABLES).index(name)]

    def extent(self, name: str) -> int:
        """Return an extent by its name."""
        return len(self.tables[list(self.TABLES.values()).index(name)])

    @property
    def extents(self) -> tuple[int, ...]:
        """The numbers of batches, rows, columns and summed elements."""
        return tuple(self.extent(name) for name in self.EXTENTS)

    def side_tables(self, side: str) -> list[tuple[int, ...]]:
        """Return the tables of a side."""
        return [self.table(name) for name in self.TABLES if name.startswith(f"{side}_")]

    def exchange(self) -> ContractArguments:
        """Return the arguments with the operands exchanged: rows become columns."""
        other = {"left": "right", "right": "left", "row": "column", "column": "row"}
        names = ("_".join(other.get(word, word) for word in name.split("_")) for name in self.TABLES)
        return ContractArguments(self.right, self.left, self.result, tuple(self.table(name) for name in names))

    def pack(self) -> tuple[int, ...]:
        """Return the integers that the kernel reads."""
        sides = [x for side in (self.left, self.right, self.result) for x in (side.constant, side.lane)]
        return (*sides, *self.extents, *(x for table in self.tables for x in table))

    @staticmethod
    def unpack(args: Sequence[int]) -> ContractArguments:
        """Return the record in a row of integers."""
        left, right, result, lengths = ContractArguments.unpack_head(args)
        tables, at = [], ContractArguments.HEAD
        for extent in ContractArguments.TABLES.values():
            tables.append(tuple(args[at : at + lengths[extent]]))
            at += lengths[extent]
        return ContractArguments(left, right, result, tuple(tables))

    @staticmethod
    def unpack_head(args: Sequence[int]) -> tuple[ContractSide, ContractSide, ContractSide, dict[str, int]]:
        """Return what comes before the tables: the three sides and, by name, the four extents."""
        left, right, result = (ContractSide(args[2 * i], args[2 * i + 1]) for i in range(len(ContractArguments.SIDES)))
        begin = 2 * len(ContractArguments.SIDES)
        extents = {name: args[begin + i] for i, name in enumerate(ContractArguments.EXTENTS)}
        return left, right, result, extents


@dataclass(frozen=True, slots=True)
class UpdateArguments:
    """The arguments of a contraction and of the chain that reads its result: first the chain's."""

    contraction: ContractArguments
    chain: ChainArguments

    @property
    def extents(self) -> tuple[int, ...]:
        """Those of the contraction."""
        return self.contraction.extents

    def pack(self) -> tuple[int, ...]:
        """Return the integers that the kernel reads."""
        return (*self.chain.pack(), *self.contraction.pack())


@dataclass(frozen=True, slots=True)
class MoveSide:
    """The target, the source or the index of a move: its first element, and its stride along every axis."""

    offset: int
    strides: tuple[int, ...]

    SIZE: ClassVar[int] = 1 + MOVE_AXES


@dataclass(frozen=True, slots=True)
class MoveArguments:
    """The arguments of a move: MOVE_AXES extents, with leading ones; its target; its source; perhaps an index.

    The index is in the constant arena; step : elements of the addressed side per unit of the index.
    constants : the first elements of the target and of the source in the constant arena, if these choose what is moved.
    """

    extents: tuple[int, ...]
    target: MoveSide
    source: MoveSide
    index: MoveSide | None = None
    step: int | None = None
    constants: tuple[int, ...] = ()

    def pack(self) -> tuple[int, ...]:
        """Return the integers that the kernel reads."""
        sides = [side for side in (self.target, self.source, self.index) if side is not None]
        steps = () if self.step is None else (self.step,)
        return (*self.extents, *(x for side in sides for x in (side.offset, *side.strides)), *steps, *self.constants)

    @staticmethod
    def unpack(args: Sequence[int], has_index: bool, selects: bool = False) -> MoveArguments:
        """Return the record in a row of integers, with or without an index, or with the sides' constant terms."""
        extents = tuple(args[:MOVE_AXES])
        target, source = unpack_move_side(args, 0), unpack_move_side(args, 1)
        end = MOVE_AXES + 2 * MoveSide.SIZE
        if selects:
            return MoveArguments(extents, target, source, constants=tuple(args[end : end + 2]))
        if not has_index:
            return MoveArguments(extents, target, source)
        return MoveArguments(extents, target, source, unpack_move_side(args, 2), args[end + MoveSide.SIZE])


def unpack_move_side(args: Sequence[int], i: int) -> MoveSide:
    """Return side i in a move's row of integers."""
    offset, *strides = args[MOVE_AXES + i * MoveSide.SIZE :][: MoveSide.SIZE]
    return MoveSide(offset, tuple(strides))


@dataclass(frozen=True, slots=True)
class FillArguments:
    """The arguments of a fill: the first element, the number of elements, and the value as the bits of a double."""

    first: int
    count: int
    bits: int

    def pack(self) -> tuple[int, ...]:
        """Return the integers that the kernel reads."""
        return self.first, self.count, self.bits

    @staticmethod
    def unpack(args: Sequence[int]) -> FillArguments:
        """Return the record in a row of integers."""
        first, count, bits = args[:3]
        return FillArguments(first, count, bits)


Arguments = ChainArguments | ContractArguments | UpdateArguments | MoveArguments | FillArguments


def pack_all(arguments: Iterable[Arguments]) -> tuple[np.ndarray, np.ndarray]:
    """Return the integers of all instructions, concatenated, and the position of each instruction's first."""
    rows = [record.pack() for record in arguments]
    starts = np.cumsum([0] + [len(row) for row in rows])[:-1]
    return np.fromiter(chain.from_iterable(rows), np.int64), starts


def is_contiguous(table: Sequence[int] | np.ndarray) -> bool:
    """Return whether consecutive entries of a table are consecutive elements."""
    return len(table) > 1 and bool(np.all(np.diff(table) == 1))


def pad(values: Iterable[int], axes: int, filler: int) -> tuple[int, ...]:
    """Return extents or strides with leading fillers (extents 1, strides 0), for a kernel with this many axes."""
    values = tuple(values)
    return (filler,) * (axes - len(values)) + values
