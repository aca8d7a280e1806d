"""Micro-kernel for series of high order: truncated Cauchy products in the first-level cache, in tiles.

A product of complex series takes three products of real ones: with x = a + ib and y = c + id,

    x y = ac - bd + i ((a + b)(c + d) - ac - bd),

where each of the three is summed over k before they are combined. That is three quarters of the multiply-adds, and the
error is as small relative to |x||y| (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 23.2.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from llvmlite import ir

from circuitsketch.backends.contract import CACHE_LINE
from circuitsketch.backends.cpu.expressions import MachineReal, emit_fma
from circuitsketch.backends.cpu.kernel_builder import Frame, count_registers
from circuitsketch.backends.cpu.micro_kernels import LaneMicroKernel, Strip, Tables
from circuitsketch.backends.cpu.tiling import Tile

HELD = 2  # coefficients of the left operand that a tile keeps in registers; with 4, fewer loads but more spills


@dataclass(frozen=True, slots=True)
class RealSeries:
    """Coefficients 1, 2, ... of a real series in memory, or the real or imaginary parts of a complex one."""

    frame: Frame
    pointer: ir.Value
    base: ir.Value
    step: int  # from one vector to the next

    def locate(self, k: ir.Value) -> ir.Value:
        """Emit the position of coefficient k."""
        b = self.frame.builder
        return b.add(self.base, b.mul(b.sub(k, self.frame.const(1)), self.frame.const(self.step)))

    def __getitem__(self, k: ir.Value) -> MachineReal:
        return self.frame.load(self.pointer, self.locate(k), self.frame.emit.vector)

    def __setitem__(self, k: ir.Value, value: MachineReal) -> None:
        self.frame.store(value, self.pointer, self.locate(k))


class LongMicroKernel(LaneMicroKernel):
    """Contractions of series of high order, one element of the result at a time."""

    @property
    def order(self) -> int:
        """The highest coefficient."""
        return self.frame.target.mode.order

    def choose_tile(self) -> Tile:
        """Return a tile of one element; its coefficients are tiled instead."""
        return Tile(1, 1)

    @property
    def block(self) -> int | None:
        """None, for all of the summed axis: one product is enough work for what it loads."""
        return None

    def make_strip(
        self, tables: Tables, batch: ir.Value, column: ir.Value, tile: Tile, summed: tuple[ir.Value, ir.Value]
    ) -> Strip:
        """Return a strip of one column."""
        return Strip(batch, [column], [], partial(tables.load_entry, "right_summed"), summed)

    def emit_tile(self, tables: Tables, strip: Strip, row: ir.Value, tile: Tile) -> None:
        """Emit one element of the result, in its place in memory."""
        frame, b = self.frame, self.frame.builder
        batch, (column,) = strip.batch, strip.columns
        left_at = b.add(tables.load_entry("left_batch", batch), tables.load_entry("left_row", row))
        right_at = b.add(tables.load_entry("right_batch", batch), tables.load_entry("right_column", column))
        out = b.add(
            tables.load_entry("result_batch", batch),
            b.add(tables.load_entry("result_row", row), tables.load_entry("result_column", column)),
        )
        result = self.list_parts(tables, 2, out)
        by_three = self.left_has_lanes and len(result) == 2
        totals = [self.allocate() for _ in range(3)] if by_three else result
        with self.loop_over_coefficients() as r:
            for part in totals:
                part[r] = self.zero
        with frame.loop(tables.summed) as k:
            left, right = (
                b.add(left_at, tables.load_entry("left_summed", k)),
                b.add(right_at, tables.load_entry("right_summed", k)),
            )
            self.add_elements(tables, totals, left, right)
        if by_three:
            with self.loop_over_coefficients() as r:
                reals, imaginaries, both = (part[r] for part in totals)
                result[0][r] = reals - imaginaries
                result[1][r] = both - reals - imaginaries

    def add_elements(self, tables: Tables, totals: list[RealSeries], left_at: ir.Value, right_at: ir.Value) -> None:
        """Emit the product of two elements, added to the parts of a series, or to the three real products."""
        x0, y0 = self.load_number(tables, 0, left_at), self.load_number(tables, 1, right_at)
        right = self.list_parts(tables, 1, right_at)
        if not self.left_has_lanes:
            with self.loop_over_coefficients() as r:
                for total, y in zip(totals, right, strict=True):
                    total[r] = emit_fma(self.emit, x0, y[r], total[r])
            return
        left = self.list_parts(tables, 0, left_at)
        self.add_products(totals[0], left[0], right[0], x0, y0)
        if len(totals) == 1:
            return
        self.add_products(totals[1], left[1], right[1])  # constant terms are real
        sums = self.allocate(), self.allocate()
        with self.loop_over_coefficients() as r:
            for total, (re, im) in zip(sums, (left, right), strict=True):
                total[r] = re[r] + im[r]
        self.add_products(totals[2], *sums, x0, y0)

    @contextmanager
    def loop_over_coefficients(self) -> Iterator[ir.Value]:
        """Emit a loop over the coefficients 1..order."""
        with self.frame.loop(self.frame.const(self.order + 1), start=self.frame.const(1)) as r:
            yield r

    @property
    def zero(self) -> MachineReal:
        """0 in every lane."""
        return MachineReal(self.emit, self.emit.splat(self.emit.number(0.0).value))

    def load_number(self, tables: Tables, side: int, at: ir.Value) -> MachineReal:
        """Emit the load of an element's constant term, in every lane."""
        return MachineReal(
            self.emit, self.emit.splat(self.frame.builder.load(self.point_to_constant(tables, side, at)))
        )

    def list_parts(self, tables: Tables, side: int, at: ir.Value) -> list[RealSeries]:
        """Return an element's coefficients: its real and imaginary parts."""
        frame, width = self.frame, self.frame.target.width
        base, per = self.locate_lanes(tables, side, at), 2 if frame.target.mode.complex else 1
        return [
            RealSeries(frame, frame.lanes, frame.builder.add(base, frame.const(part * width)), per * width)
            for part in range(per)
        ]

    def allocate(self) -> RealSeries:
        """Allocate memory for the coefficients of a real series."""
        width = self.frame.target.width
        with self.frame.builder.goto_entry_block():
            pointer = self.frame.builder.alloca(self.frame.element, size=self.frame.const(self.order * width))
        pointer.align = CACHE_LINE  # a vector that straddles two cache lines loads at half the speed
        return RealSeries(self.frame, pointer, self.frame.const(0), width)

    def add_products(
        self,
        total: RealSeries,
        x: RealSeries,
        y: RealSeries,
        x0: MachineReal | None = None,
        y0: MachineReal | None = None,
    ) -> None:
        """Emit total += x * y for real series; absent constant terms are 0."""
        frame = self.frame
        tile = choose_long_tile(self.order, count_registers(frame.target))
        full = self.order // tile * tile
        with frame.loop(frame.const(full + 1), start=frame.const(1), step=tile) as first:
            self.add_tile(total, x, y, x0, y0, first, tile)
        if self.order > full:
            self.add_tile(total, x, y, x0, y0, frame.const(full + 1), self.order - full)

    def add_tile(
        self,
        total: RealSeries,
        x: RealSeries,
        y: RealSeries,
        x0: MachineReal | None,
        y0: MachineReal | None,
        first: ir.Value,
        count: int,
    ) -> None:
        """Emit coefficients first..first+count-1 of x * y: each loaded y is multiplied by all x in registers."""
        frame, b = self.frame, self.frame.builder
        numbers = [b.add(first, frame.const(i)) for i in range(count)]
        cells = []
        for r in numbers:
            with b.goto_entry_block():
                cells.append(b.alloca(self.emit.vector))  # becomes a register, since nothing takes its address
            begun = total[r]
            if x0 is not None and y0 is not None:
                begun = emit_fma(self.emit, x0, y[r], emit_fma(self.emit, y0, x[r], begun))
            b.store(begun.value, cells[-1])
        with frame.loop(first, start=frame.const(1), step=HELD) as j:
            sums = [MachineReal(self.emit, b.load(cell)) for cell in cells]
            held = [x[b.add(j, frame.const(u))] for u in range(HELD)]
            start = b.sub(first, j)
            for shift in range(1 - HELD, count):
                value = y[b.add(start, frame.const(shift))]
                for u in range(max(-shift, 0), min(HELD, count - shift)):
                    sums[shift + u] = emit_fma(self.emit, held[u], value, sums[shift + u])
            for cell, new in zip(cells, sums, strict=True):
                b.store(new.value, cell)
        # The corner: for x from `first` on, only some of the y exist.
        sums = [MachineReal(self.emit, b.load(cell)) for cell in cells]
        for m in range(count - 1):
            value = x[numbers[m]]
            for i in range(m + 1, count):
                sums[i] = emit_fma(self.emit, value, y[frame.const(i - m)], sums[i])
        for r, new in zip(numbers, sums, strict=True):
            total[r] = new


def choose_long_tile(order: int, registers: int) -> int:
    """Return how many coefficients to sum at a time, a multiple of HELD; they, HELD x and one y are in registers.

    Tiles are of equal size, since a smaller one at the end takes nearly as long as a full one. Seen on AVX2 (16
    registers) at order 100, as a share of the peak: tiles of 12 .85, of 10 .92, of 8 .86.
    """
    most = max(registers * 5 // 8 // HELD * HELD, HELD)
    tiles = -(-order // most)
    return -(-order // (tiles * HELD)) * HELD
