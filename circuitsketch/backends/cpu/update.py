"""Make one kernel of a contraction and the chain that consumes its result, such as a gradient and Adam's update.

In: the instructions of a lane phase. Out: fewer of them; and the kernel's code. A gradient that is larger than the
caches would be written to memory and read again. Here, the update of a tile's elements follows their sums, and what it
reads of the state is prefetched while the sums are formed, so that arithmetic and transfers overlap. Seen on Ice Lake
with microgpt's 102,784 parameters at order 3: 1.43 instead of 2.21 ms per direction per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from llvmlite import ir

from circuitsketch.backends.contract import CACHE_LINE, Target
from circuitsketch.backends.cpu.chain_loops import Access, emit_series_lanes, store_coefficient
from circuitsketch.backends.cpu.contraction import emit_blocks
from circuitsketch.backends.cpu.expressions import INT, MachineReal
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.micro_kernels import Cell, SeriesMicroKernel, Strip, Tables
from circuitsketch.backends.cpu.tiling import Tile
from circuitsketch.backends.numbers import Complex
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, Instruction, UpdateKernel
from circuitsketch.lower.packing import (
    CHAIN_AXES,
    ChainArguments,
    ChainSide,
    ContractArguments,
    UpdateArguments,
    is_contiguous,
)

LONGEST = 32  # summed elements, whose columns must stay in a first-level cache: sums are not kept in memory


def combine_updates(instructions: Sequence[Instruction], target: Target) -> list[Instruction]:
    """Return the instructions of a lane phase, with one in place of a contraction and the update that consumes it."""
    combined: list[Instruction] = []
    for instruction in instructions:
        update = None
        if combined and combined[-1].consumed and target.is_unrolled and not target.mode.values:
            update = combine(combined[-1], instruction)
        if update is None:
            combined.append(instruction)
        else:
            combined[-1] = update
    return combined


def combine(first: Instruction, second: Instruction) -> Instruction | None:
    """Return one instruction in place of a contraction and a chain, or None if they do not fit together.

    They do if the chain has one loop, in which everything is contiguous or one element; if it reads the result in this
    order only; and if it writes nothing that the contraction still reads.
    """
    contraction, chain, arguments, others = first.kernel, second.kernel, first.arguments, second.arguments
    if not (isinstance(contraction, ContractKernel) and isinstance(chain, ChainKernel)):
        return None
    assert isinstance(arguments, ContractArguments) and isinstance(others, ChainArguments)
    count, begin = others.extents[-1], arguments.result.lane
    sides = others.sides[: len(chain.operands)]
    reads = [
        (i, side.lane)
        for i, (operand, side) in enumerate(zip(chain.operands, sides, strict=True))
        if operand.lanes and begin - side.strides[-1] * (count - 1) <= side.lane < begin + count
    ]
    written = [(side.lane, side.lane + count) for side in others.sides[len(sides) :]]
    if (
        prod(others.extents) != count
        or count == 1
        or any(step == "?" for step in (*(operand.step for operand in chain.operands), *chain.steps))
        or any(step != "1" for step in chain.steps)
        or arguments.extent("summed") > LONGEST
        or len(reads) != 1
        or chain.operands[reads[0][0]].step != "1"
        or reads[0][1] != begin
        or not covers(arguments, count)
        or any(meets(span, part) for span in written for part in list_spans(contraction, arguments))
    ):
        return None
    if contraction.left and not is_contiguous(arguments.table("result_row")):
        arguments = arguments.exchange()
    kernel = UpdateKernel(contraction, chain, reads[0][0])
    return Instruction(kernel, UpdateArguments(arguments, others), second.place, (*first.wires, *second.wires))


def covers(arguments: ContractArguments, count: int) -> bool:
    """Return whether the elements of a contraction's result are number 0 to `count` - 1 of it, in any order."""
    batch, row, column = (np.array(table) for table in arguments.side_tables("result"))
    elements = batch[:, None, None] + row[None, :, None] + column[None, None, :]
    return elements.size == count and bool(np.array_equal(np.sort(elements, axis=None), np.arange(count)))


def list_spans(kernel: ContractKernel, arguments: ContractArguments) -> list[tuple[int, int]]:
    """Return the first element, and the one after the last, of each operand of a contraction that has lanes."""
    spans = []
    for name, side, has_lanes in (
        ("left", arguments.left, kernel.left),
        ("right", arguments.right, kernel.right),
    ):
        if has_lanes:
            tables = arguments.side_tables(name)
            spans.append((side.lane + sum(map(min, tables)), side.lane + sum(map(max, tables)) + 1))
    return spans


def meets(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two spans have an element in common."""
    return one[0] < other[1] and other[0] < one[1]


def emit_update(frame: Frame, kernel: UpdateKernel) -> None:
    """Emit the kernel of an update."""
    count = len(kernel.chain.operands) + len(kernel.chain.results)
    tables = Tables(frame, CHAIN_AXES + count * ChainSide.SIZE)
    micro = UpdateMicroKernel(frame, kernel)
    with frame.loop(tables.batches) as batch:
        none, panel = frame.const(0), kernel.contraction.panel
        emit_blocks(frame, tables, batch, micro, micro.choose_tile(), none, tables.columns, panel)
    frame.finish()


class UpdateAccess(Access):
    """The addresses of a chain's operands, of which one is a tile of sums; cell : the number of the element in it."""

    def __init__(self, frame: Frame, kernel: UpdateKernel, sums: ir.Value) -> None:
        super().__init__(frame, kernel.chain)
        self.operand, self.sums = kernel.operand, sums
        self.cell: ir.Value = frame.const(0)

    def lane_at(self, i: int, indices: list[ir.Value]) -> ir.Value:
        """Emit the position of the first number in the lane block of operand or result i."""
        if i != self.operand:
            return super().lane_at(i, indices)
        return self.frame.builder.mul(self.cell, self.frame.const(self.frame.target.unit))

    def lanes_of(self, i: int) -> ir.Value:
        """Return the memory that has the lanes of operand i."""
        return self.sums if i == self.operand else super().lanes_of(i)


class UpdateMicroKernel(SeriesMicroKernel):
    """Sums of series that are not stored: a chain reads them when a tile is complete."""

    def __init__(self, frame: Frame, kernel: UpdateKernel) -> None:
        super().__init__(frame, replace(kernel.contraction, packed=False, prefetched=False))
        self.chain = kernel.chain
        self.is_ahead = kernel.contraction.prefetched
        tile = self.choose_tile()  # no smaller one has more cells
        cells = frame.const(tile.rows * tile.columns)
        b = frame.builder
        self.sums = b.alloca(frame.element, size=b.mul(cells, frame.const(self.unit)))
        self.sums.align = CACHE_LINE
        self.elements = b.alloca(INT, size=cells)
        self.access = UpdateAccess(frame, kernel, self.sums)

    @property
    def block(self) -> int | None:
        """All of the summed axis: sums are not kept in memory."""
        return None

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Emit the store of the coefficients of cell `at` of the tile."""
        base = self.frame.builder.mul(at, self.frame.const(self.unit))
        for k in part:
            value = total[(k - part.start) * self.per : (k - part.start + 1) * self.per]
            store_coefficient(self.frame, Complex(*value) if self.per == 2 else value[0], base, k, self.sums)

    def emit_sums(
        self,
        tables: Tables,
        lefts: list[Any],
        strip: Strip,
        out: dict[Cell, ir.Value],
        tile: Tile,
        prefetch: Callable[[ir.Value], None] | None,
    ) -> None:
        """Emit the sums of a tile, and the chain on them."""
        frame, b = self.frame, self.frame.builder
        cells = {cell: frame.const(i) for i, cell in enumerate(out)}
        ahead = self.emit_ahead(list(out.values()), tile.rows) if self.is_ahead else None
        super().emit_sums(tables, lefts, strip, cells, tile, ahead)
        for cell, element in out.items():
            b.store(element, b.gep(self.elements, [cells[cell]]))
        self.emit_barrier()
        with frame.loop(frame.const(len(out))) as i:
            self.access.cell = i
            emit_series_lanes(frame, self.chain, self.access, [b.load(b.gep(self.elements, [i]))])

    def emit_barrier(self) -> None:
        """Emit that the sums may have changed in memory, which no instruction does.

        In a tile of one cell, LLVM would otherwise join the last products of the sums with the chain's first ones:
        results would depend on the tile, and so on the processor.
        """
        kind = ir.FunctionType(ir.VoidType(), [self.sums.type])
        self.frame.builder.asm(kind, "", "r,~{memory}", [self.sums], True)

    def emit_ahead(self, elements: list[ir.Value], rows: int) -> Callable[[ir.Value], None]:
        """Emit where the state of the next rows lies; return what emits the prefetch of its lines number k."""
        frame, b = self.frame, self.frame.builder
        per_line = CACHE_LINE // (4 if frame.target.single else 8)
        begins = [
            b.gep(frame.lanes, [self.access.lane_at(i, [b.add(element, frame.const(rows))])])
            for i, operand in enumerate(self.chain.operands)
            if operand.lanes and operand.step == "1" and i != self.access.operand
            for element in elements
        ]

        def emit_lines(k: ir.Value) -> None:
            at = b.mul(k, frame.const(per_line))
            for begin in begins:
                frame.prefetch(b.gep(begin, [at]))

        return emit_lines
