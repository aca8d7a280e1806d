"""Emit contractions: result[batch, row, column] = sum_k left[batch, row, k] * right[batch, k, column], in tiles.

The positions of elements are looked up in tables, so that any axes of any view can have any role. A tile of a few rows
and columns of the result stays in registers while k runs, so that arithmetic, and not loads, is the limit. In the lane
phase an element is a lane block, which a micro-kernel multiplies; in the constant phase it is one number, or a vector
of contiguous columns.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from llvmlite import ir

from circuitsketch.backends.contract import CACHE_LINE, Target
from circuitsketch.backends.cpu import lane_width
from circuitsketch.backends.cpu.chain_loops import drop_unit_axes
from circuitsketch.backends.cpu.kernel_builder import Frame, count_registers
from circuitsketch.backends.cpu.long_contraction import LongMicroKernel
from circuitsketch.backends.cpu.micro_kernels import (
    LaneMicroKernel,
    MicroKernel,
    NumberMicroKernel,
    SeriesMicroKernel,
    Tables,
    ValueMicroKernel,
)
from circuitsketch.backends.cpu.sharing import LARGE, read_level_2_size
from circuitsketch.backends.cpu.tiling import Tile, choose_series_tile, choose_summed_block
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, Instruction, Kernel, UpdateKernel
from circuitsketch.lower.packing import ContractArguments, UpdateArguments, is_contiguous

SETS, WAYS = 64, 8  # sets of a first-level cache, and lines in a set, on most processors
REUSED = 4  # fewest rows of the result for which packing the columns pays


def emit_contract(frame: Frame, kernel: ContractKernel) -> None:
    """Emit the kernel of a contraction."""
    tables = Tables(frame)
    with frame.loop(tables.batches) as batch:
        if kernel.phase == "lane":
            micro = make_micro_kernel(frame, kernel)
            tile = micro.choose_tile()
            emit_blocks(frame, tables, batch, micro, tile, frame.const(0), tables.columns, kernel.panel)
        elif kernel.vector:
            wide = lane_width(single=False)
            full = emit_round_down(frame, frame.const(0), tables.columns, wide)
            emit_blocks(frame, tables, batch, NumberMicroKernel(frame, wide), Tile(4, 2), frame.const(0), full)
            emit_blocks(frame, tables, batch, NumberMicroKernel(frame, 1), Tile(4, 1), full, tables.columns)
        else:
            emit_blocks(frame, tables, batch, NumberMicroKernel(frame, 1), Tile(4, 3), frame.const(0), tables.columns)
    frame.finish()


def make_micro_kernel(frame: Frame, kernel: ContractKernel) -> LaneMicroKernel:
    """Return the micro-kernel for what lanes hold and for whether the left operand has lanes."""
    if frame.target.mode.values:
        return ValueMicroKernel(frame, kernel.left)
    if frame.target.is_unrolled:
        return SeriesMicroKernel(frame, kernel)
    return LongMicroKernel(frame, kernel.left)


def choose_kernel(instruction: Instruction, target: Target, lanes: int = 0) -> Kernel:
    """Return the kernel for an instruction on this machine; lanes : bytes of a lane block with all its elements.

    A chain gets one loop per axis longer than 1. A contraction of series copies, prefetches and goes by panels of rows
    as its operands require; see `pack_columns`, `prefetch_columns` and `choose_panel`.
    """
    kernel, arguments = instruction.kernel, instruction.arguments
    if isinstance(kernel, ChainKernel):
        return drop_unit_axes(instruction)
    if isinstance(kernel, UpdateKernel):
        assert isinstance(arguments, UpdateArguments)
        return choose_update(kernel, arguments.contraction, target, lanes)
    if not isinstance(kernel, ContractKernel) or kernel.phase == "constant":
        return kernel
    assert isinstance(arguments, ContractArguments)
    if target.mode.values or not target.is_unrolled:
        return kernel
    entry = target.mode.components * target.width * (4 if target.single else 8)
    tile = choose_series_tile(count_registers(target), 2 if target.mode.complex else 1, target.mode.order, kernel.left)
    block = choose_summed_block(entry, tile, kernel.left)
    return replace(
        kernel,
        packed=pack_columns(arguments, entry, block),
        prefetched=prefetch_columns(arguments, entry, lanes),
        panel=choose_panel(arguments, entry, block, tile) if kernel.left else 0,
    )


def choose_update(kernel: UpdateKernel, arguments: ContractArguments, target: Target, lanes: int) -> UpdateKernel:
    """Return the kernel of an update, whose chain has one loop.

    It prefetches the state of the next rows if that comes from memory and is contiguous, and goes by panels whose rows
    take a quarter of a second-level cache: the state passes through it too.
    """
    entry = target.unit * (4 if target.single else 8)
    cache = read_level_2_size()
    ahead = lanes > LARGE * cache and is_contiguous(arguments.table("result_row"))
    bytes_per_row = entry * arguments.extent("summed") if kernel.contraction.left else 0
    panel = 0
    if arguments.extent("rows") * bytes_per_row > cache // 4:
        panel = max(cache // 4 // bytes_per_row // 12, 1) * 12  # of tiles with 1, 2, 3 or 4 rows
    contraction = replace(kernel.contraction, prefetched=ahead, panel=panel)
    return replace(kernel, contraction=contraction, chain=replace(kernel.chain, axes=1))


def pack_columns(arguments: ContractArguments, entry: int, block: int) -> bool:
    """Return whether to copy columns to contiguous memory; entry : bytes per element. block : of the summed axis.

    That pays if the elements of a column would evict each other from the first-level cache between one row of the
    result and the next. Lines that are a multiple of SETS * CACHE_LINE bytes apart share WAYS places, as the elements
    of a column do if a matrix has 64 columns. Seen on AVX2 with complex series of order 3 through (64, 128, 64), of a
    peak of 22 G multiply-adds per second: from 14 to 18 for products of series, from 12 to 21 for numbers times series.
    """
    if arguments.extent("rows") < REUSED:
        return False
    first = np.array(arguments.table("right_summed")[:block]) * entry  # along a column
    lines = (first[:, None] + np.arange(0, entry, CACHE_LINE)) // CACHE_LINE % SETS
    return bool(np.bincount(lines.ravel()).max() > WAYS)


def prefetch_columns(arguments: ContractArguments, entry: int, lanes: int) -> bool:
    """Return whether to prefetch the next columns: if the right operand does not fit into the second-level cache.

    In a lane block that is larger than LARGE of these caches, a quarter of one is enough: what a step reads once, such
    as a matrix of parameters, comes from memory. Seen on Zen 5 with complex series of order 3, as a share of the peak:
    (8, 512, 128) from memory with AVX-512, .56 to .65 before and .79 to .83 with prefetches; from the third-level cache
    .81 to .89 and .83 to .88. (9, 64, 64) among other layers with AVX2, .57 to .67 and .76 to .80.
    """
    elements = prod(len(set(table)) for table in arguments.side_tables("right"))
    cache = read_level_2_size()
    return elements * entry > (cache // 4 if lanes > LARGE * cache else cache)


def choose_panel(arguments: ContractArguments, entry: int, block: int, tile: Tile) -> int:
    """Return how many rows to do at a time: all (0), or those whose left operand takes half of a second-level cache.

    Seen on AVX-512 (Zen 5) with complex series of order 3, as a share of the peak: (256, 64, 8), .74 to .87;
    (128, 64, 64), .85 to .90.
    """
    bytes_per_row = entry * min(block, arguments.extent("summed"))
    if arguments.extent("rows") * bytes_per_row <= read_level_2_size() // 2:
        return 0
    return max(read_level_2_size() // 2 // (entry * block) // tile.rows, 1) * tile.rows


def emit_blocks(
    frame: Frame,
    tables: Tables,
    batch: ir.Value,
    micro: MicroKernel,
    tile: Tile,
    first: ir.Value,
    last: ir.Value,
    panel: int = 0,
) -> None:
    """Emit the loops over blocks of the summed axis and panels of rows.

    A block is as long as the first-level cache holds what a tile reads; from block to block the sums are kept in
    memory.
    """
    none = frame.const(0)

    def emit_panels(summed: tuple[ir.Value, ir.Value]) -> None:
        if not panel:
            emit_tiles(frame, tables, batch, micro, tile, (first, last), (none, tables.rows), summed)
            return
        with frame.loop(tables.rows, step=panel) as top:
            emit_tiles(
                frame, tables, batch, micro, tile, (first, last), emit_part(frame, top, panel, tables.rows), summed
            )

    length = micro.block
    if length is None:
        emit_panels((none, tables.summed))
        return
    with frame.loop(tables.summed, step=length) as begin:
        emit_panels(emit_part(frame, begin, length, tables.summed))


def emit_tiles(
    frame: Frame,
    tables: Tables,
    batch: ir.Value,
    micro: MicroKernel,
    tile: Tile,
    columns: tuple[ir.Value, ir.Value],
    rows: tuple[ir.Value, ir.Value],
    summed: tuple[ir.Value, ir.Value],
) -> None:
    """Emit the tiles that cover some columns and rows: full ones, then smaller ones."""
    first, last = columns
    for width in range(tile.columns, 0, -1):
        shape = tile.with_columns(width)
        end = emit_round_down(frame, first, last, width * micro.step)
        with frame.loop(end, start=first, step=width * micro.step) as column:
            strip = micro.make_strip(tables, batch, column, shape, summed)
            row = rows[0]
            for height in range(shape.rows, 0, -1):
                bottom = emit_round_down(frame, row, rows[1], height)
                with frame.loop(bottom, start=row, step=height) as at:
                    micro.emit_tile(tables, strip, at, shape.with_rows(height).join_parts(tile))
                row = bottom
        first = end


def emit_part(frame: Frame, begin: ir.Value, length: int, end: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Emit the bounds of a part of some length, which ends before `end`."""
    b = frame.builder
    stop = b.add(begin, frame.const(length))
    return begin, b.select(b.icmp_signed("<", stop, end), stop, end)


def emit_round_down(frame: Frame, first: ir.Value, last: ir.Value, step: int) -> ir.Value:
    """Emit the last number that full steps from `first` reach without passing `last`."""
    b = frame.builder
    return b.add(first, b.mul(b.sdiv(b.sub(last, first), frame.const(step)), frame.const(step)))
