"""Emit contractions: result[batch, row, column] = sum_k left[batch, row, k] * right[batch, k, column], in tiles.

The positions of elements are looked up in tables, so that any axes of any view can have any role. A tile of a few rows
and columns of the result stays in registers while k runs, so that arithmetic, and not loads, is the limit. In the lane
phase an element is a lane block, which a micro-kernel multiplies; in the constant phase it is one number, or a vector
of contiguous columns.
"""

from __future__ import annotations

from dataclasses import replace

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
from circuitsketch.backends.cpu.tiling import Tile, choose_series_tile, choose_summed_block
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, Instruction, Kernel
from circuitsketch.lower.packing import ContractArguments

SETS, WAYS = 64, 8  # sets of a first-level cache, and lines in a set, on most processors
REUSED = 4  # fewest rows of the result for which packing the columns pays


def emit_contract(frame: Frame, kernel: ContractKernel) -> None:
    """Emit the kernel of a contraction."""
    tables = Tables(frame)
    with frame.loop(tables.batches) as batch:
        if kernel.phase == "lane":
            micro = make_micro_kernel(frame, kernel)
            emit_blocks(frame, tables, batch, micro, micro.choose_tile(), frame.const(0), tables.columns)
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
        return SeriesMicroKernel(frame, kernel.left, kernel.packed)
    return LongMicroKernel(frame, kernel.left)


def choose_kernel(instruction: Instruction, target: Target) -> Kernel:
    """Return the kernel for an instruction on this machine.

    A chain gets one loop per axis longer than 1. A contraction packs its columns if the elements of a column would
    evict each other from the first-level cache between one row of the result and the next.

    Lines that are a multiple of SETS * CACHE_LINE bytes apart share WAYS places, as the elements of a column do if a
    matrix has 64 columns. Seen on AVX2 with complex series of order 3 through (64, 128, 64), of a peak of 22 G
    multiply-adds per second: from 14 to 18 for products of series, from 12 to 21 for numbers times series.
    """
    kernel, arguments = instruction.kernel, instruction.arguments
    if isinstance(kernel, ChainKernel):
        return drop_unit_axes(instruction)
    if not isinstance(kernel, ContractKernel) or kernel.phase == "constant":
        return kernel
    assert isinstance(arguments, ContractArguments)
    if arguments.extent("rows") < REUSED or target.mode.values or not target.is_unrolled:
        return kernel
    steps = arguments.table("right_summed")  # along a column
    entry = target.mode.components * target.width * (4 if target.single else 8)
    tile = choose_series_tile(count_registers(target), 2 if target.mode.complex else 1, target.mode.order, kernel.left)
    first = np.array(steps[: choose_summed_block(entry, tile, kernel.left)]) * entry
    lines = (first[:, None] + np.arange(0, entry, CACHE_LINE)) // CACHE_LINE % SETS
    return replace(kernel, packed=bool(np.bincount(lines.ravel()).max() > WAYS))


def emit_blocks(
    frame: Frame, tables: Tables, batch: ir.Value, micro: MicroKernel, tile: Tile, first: ir.Value, last: ir.Value
) -> None:
    """Emit the loop over blocks of the summed axis, each as long as the first-level cache holds what a tile reads.

    From block to block the sums are kept in memory.
    """
    b = frame.builder
    length = micro.block
    if length is None:
        emit_tiles(frame, tables, batch, micro, tile, first, last, (frame.const(0), tables.summed))
        return
    with frame.loop(tables.summed, step=length) as begin:
        end = b.add(begin, frame.const(length))
        end = b.select(b.icmp_signed("<", end, tables.summed), end, tables.summed)
        emit_tiles(frame, tables, batch, micro, tile, first, last, (begin, end))


def emit_tiles(
    frame: Frame,
    tables: Tables,
    batch: ir.Value,
    micro: MicroKernel,
    tile: Tile,
    first: ir.Value,
    last: ir.Value,
    summed: tuple[ir.Value, ir.Value],
) -> None:
    """Emit the tiles that cover rows 0..tables.rows and columns first..last: full ones, then smaller ones."""
    for width in range(tile.columns, 0, -1):
        shape = tile.with_columns(width)
        end = emit_round_down(frame, first, last, width * micro.step)
        with frame.loop(end, start=first, step=width * micro.step) as column:
            strip = micro.make_strip(tables, batch, column, shape, summed)
            row = frame.const(0)
            for height in range(shape.rows, 0, -1):
                bottom = emit_round_down(frame, row, tables.rows, height)
                with frame.loop(bottom, start=row, step=height) as at:
                    micro.emit_tile(tables, strip, at, replace(shape, rows=height))
                row = bottom
        first = end


def emit_round_down(frame: Frame, first: ir.Value, last: ir.Value, step: int) -> ir.Value:
    """Emit the last number that full steps from `first` reach without passing `last`."""
    b = frame.builder
    return b.add(first, b.mul(b.sdiv(b.sub(last, first), frame.const(step)), frame.const(step)))
