"""Micro-kernels: the innermost loop of a contraction, which sums one tile of the result in registers.

There is one for numbers, one for values and one for unrolled series (and, in `long_contraction`, one for series of high
order). Each says how its elements are loaded, multiplied, added and stored; the loop over k is common to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from llvmlite import ir

from circuitsketch.backends.contract import CACHE_LINE
from circuitsketch.backends.cpu.chain_loops import load_coefficient, store_coefficient
from circuitsketch.backends.cpu.expressions import INT, Emitter, MachineReal, emit_fma
from circuitsketch.backends.cpu.kernel_builder import Frame, count_registers
from circuitsketch.backends.cpu.operand_lines import Line
from circuitsketch.backends.cpu.prefetching import ColumnPrefetch
from circuitsketch.backends.cpu.tiling import Tile, choose_series_tile, choose_summed_block
from circuitsketch.backends.numbers import Complex
from circuitsketch.backends.series import list_products
from circuitsketch.lower.instructions import ContractKernel
from circuitsketch.lower.packing import POSITIONS, ContractArguments

Cell = tuple[int, int]  # a row and a column of a tile


class Tables:
    """The arguments of a contraction: the offsets of its sides, its extents, and the position of each table.

    start : the position of the first argument.
    """

    def __init__(self, frame: Frame, start: int = 0) -> None:
        self.frame = frame
        *sides, extents = ContractArguments.unpack_head(POSITIONS[start:])
        self.constant = [frame.load_argument(side.constant) for side in sides]
        self.lane = [frame.load_argument(side.lane) for side in sides]
        lengths = {name: frame.load_argument(position) for name, position in extents.items()}
        self.batches, self.rows = lengths["batches"], lengths["rows"]
        self.columns, self.summed = lengths["columns"], lengths["summed"]
        at: ir.Value = frame.const(start + ContractArguments.HEAD)
        self.begin = {}
        for table, length in ContractArguments.TABLES.items():
            self.begin[table] = at
            at = frame.builder.add(at, lengths[length])

    def load_entry(self, table: str, i: ir.Value) -> ir.Value:
        """Emit the load of entry i of a table, named as in `ContractArguments`."""
        return self.frame.load_argument(self.frame.builder.add(self.begin[table], i))


@dataclass(frozen=True, slots=True)
class Strip:
    """A few columns of the result, and of the right operand along a part of the summed axis.

    right_step : returns the offset of element k in a column.
    ahead : what to prefetch for the next strip.
    """

    batch: ir.Value
    columns: list[ir.Value]
    rights: list[Any]
    right_step: Callable[[ir.Value], ir.Value]
    summed: tuple[ir.Value, ir.Value]
    ahead: ColumnPrefetch | None = None


class MicroKernel:
    """The loop over k of a tile. Subclasses say how elements are loaded, multiplied, accumulated and stored."""

    step = 1  # columns that one accumulator covers
    emit: Emitter

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @property
    def block(self) -> int | None:
        """How much of the summed axis to take at a time, or None for all of it."""
        return None

    def make_strip(
        self, tables: Tables, batch: ir.Value, column: ir.Value, tile: Tile, summed: tuple[ir.Value, ir.Value]
    ) -> Strip:
        """Return the columns of a tile, which all rows share."""
        b = self.frame.builder
        columns = [b.add(column, self.frame.const(i * self.step)) for i in range(tile.columns)]
        rights = self.make_columns(tables, batch, columns)
        return Strip(batch, columns, rights, partial(tables.load_entry, "right_summed"), summed)

    def make_columns(self, tables: Tables, batch: ir.Value, columns: list[ir.Value]) -> list[Any]:
        """Return columns of the right operand."""
        b, first = self.frame.builder, tables.load_entry("right_batch", batch)
        return [self.make_line(tables, 1, b.add(first, tables.load_entry("right_column", c))) for c in columns]

    def emit_tile(self, tables: Tables, strip: Strip, row: ir.Value, tile: Tile) -> None:
        """Emit one tile of the result."""
        frame, b = self.frame, self.frame.builder
        rows = [b.add(row, frame.const(i)) for i in range(tile.rows)]
        left_batch, out_batch = (
            tables.load_entry("left_batch", strip.batch),
            tables.load_entry("result_batch", strip.batch),
        )
        lefts = [self.make_line(tables, 0, b.add(left_batch, tables.load_entry("left_row", r))) for r in rows]
        out = {
            (i, j): b.add(out_batch, b.add(tables.load_entry("result_row", r), tables.load_entry("result_column", c)))
            for i, r in enumerate(rows)
            for j, c in enumerate(strip.columns)
        }
        prefetch = strip.ahead.emit_start(row, tile) if strip.ahead else None
        self.emit_sums(tables, lefts, strip, out, tile, prefetch)

    def emit_sums(
        self,
        tables: Tables,
        lefts: list[Any],
        strip: Strip,
        out: dict[Cell, ir.Value],
        tile: Tile,
        prefetch: Callable[[ir.Value], None] | None,
    ) -> None:
        """Emit the sums of a tile, part by part, and store them; out : the element of the result of every cell."""
        for part in tile.parts:
            # The last coefficient, if they are summed one at a time, takes the longest.
            last = prefetch if part is tile.parts[-1] else None
            self.emit_sum(tables, lefts, strip, out, part, self.block is not None, last)

    def emit_sum(
        self,
        tables: Tables,
        left: list[Any],
        strip: Strip,
        out: dict[Cell, ir.Value],
        part: range,
        resumes: bool,
        prefetch: Callable[[ir.Value], None] | None,
    ) -> None:
        """Emit the sum of a part of a tile, which begins at zero or, after the first block of k, with the last sum.

        resumes : whether there is more than one block of k. prefetch : emits the prefetch that goes with element k.
        """
        frame, b = self.frame, self.frame.builder
        kinds = self.list_accumulators(part)
        start, stop = strip.summed
        before = b.block
        body, done = b.append_basic_block("k"), b.append_basic_block("stored")
        incoming = [(before, {cell: [make_zero(kind) for kind in kinds] for cell in out})]
        if not resumes:
            b.branch(body)
        else:
            again = b.append_basic_block("again")
            b.cbranch(b.icmp_signed("==", start, frame.const(0)), body, again)
            b.position_at_end(again)
            old = {cell: [x.value for x in self.load(tables, at, part)] for cell, at in out.items()}
            incoming.append((b.block, old))
            b.branch(body)
        b.position_at_end(body)
        k = b.phi(INT)
        sums: dict[Cell, list[Any]] = {cell: [b.phi(kind) for kind in kinds] for cell in out}
        for block, values in incoming:
            k.add_incoming(start, block)
            for cell in out:
                for phi, value in zip(sums[cell], values[cell], strict=True):
                    phi.add_incoming(value, block)
        totals = {cell: [MachineReal(self.emit, phi) for phi in sums[cell]] for cell in out}
        left_k, right_k = tables.load_entry("left_summed", k), strip.right_step(k)
        self.multiply_add(totals, [x.at(left_k) for x in left], [y.at(right_k) for y in strip.rights], part)
        if prefetch is not None:
            prefetch(k)
        following = b.add(k, frame.const(1))
        k.add_incoming(following, b.block)
        for cell in out:
            for phi, total in zip(sums[cell], totals[cell], strict=True):
                phi.add_incoming(total.value, b.block)
        b.cbranch(b.icmp_signed("<", following, stop), body, done)
        b.position_at_end(done)
        for cell, at in out.items():
            self.store(tables, totals[cell], at, part)

    def make_line(self, tables: Tables, side: int, at: ir.Value) -> Any:
        """Return a row of the left operand (side 0) or a column of the right one; at : its first element."""
        raise NotImplementedError

    def emit_pointer(self, base: ir.Value, offset: ir.Value, at: ir.Value) -> ir.Value:
        """Emit a pointer to a number of an arena."""
        b = self.frame.builder
        return b.gep(base, [b.add(offset, at)], inbounds=True)

    def list_accumulators(self, part: range) -> list[ir.Type]:
        """Return the types of the registers that hold a part of one element of the result."""
        raise NotImplementedError

    def multiply_add(
        self, totals: dict[Cell, list[MachineReal]], lefts: list[Any], rights: list[Any], part: range
    ) -> None:
        """Emit the addition of left * right to every element of a tile."""
        for (i, j), total in totals.items():
            total[0] = emit_fma(self.emit, lefts[i][0], rights[j][0], total[0])

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[MachineReal]:
        """Emit the load of a part of an element of the result, as far as it has been summed."""
        raise NotImplementedError

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Emit the store of a part of an element of the result."""
        raise NotImplementedError


class NumberMicroKernel(MicroKernel):
    """The constant phase: numbers, or vectors of contiguous columns."""

    def __init__(self, frame: Frame, wide: int) -> None:
        super().__init__(frame)
        self.step = wide
        double = ir.DoubleType()
        self.kind = ir.VectorType(double, wide) if wide > 1 else double
        self.emit = Emitter(frame.builder, double, wide)

    def list_accumulators(self, part: range) -> list[ir.Type]:
        """Return one number, or one vector of columns."""
        return [self.kind]

    def make_line(self, tables: Tables, side: int, at: ir.Value) -> Any:
        """Return the numbers of a row, or those of a column, or of contiguous columns."""
        kind = self.kind if side and self.step > 1 else None
        return Line(self.frame, self.emit_pointer(self.frame.constants, tables.constant[side], at), kind)

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Emit the store of numbers in the constant arena."""
        self.frame.store(total[0], self.frame.constants, self.frame.builder.add(tables.constant[2], at))


class LaneMicroKernel(MicroKernel):
    """The lane phase: what values and series have in common."""

    def __init__(self, frame: Frame, left_has_lanes: bool) -> None:
        super().__init__(frame)
        self.left_has_lanes = left_has_lanes
        self.emit = frame.emit

    def choose_tile(self) -> Tile:
        """Return the full tile."""
        raise NotImplementedError

    @property
    def unit(self) -> int:
        """The number of reals in an element's lane block."""
        return self.frame.target.mode.components * self.frame.target.width

    def locate_lanes(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """Emit the position of the first number in an element's lane block."""
        return self.frame.builder.mul(self.frame.builder.add(tables.lane[side], at), self.frame.const(self.unit))

    @property
    def entry_bytes(self) -> int:
        """The bytes of an element's lane block."""
        return self.unit * (4 if self.frame.target.single else 8)

    @property
    def block(self) -> int | None:
        """So much that what a tile reads takes half of a first-level cache."""
        return choose_summed_block(self.entry_bytes, self.choose_tile(), self.left_has_lanes)

    def point_to_constant(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """Emit a pointer to an element's constant term."""
        return self.emit_pointer(self.frame.shared, tables.constant[side], at)

    def point_to_lanes(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """Emit a pointer to an element's lane block."""
        return self.frame.builder.gep(self.frame.lanes, [self.locate_lanes(tables, side, at)], inbounds=True)


class ValueMicroKernel(LaneMicroKernel):
    """Lanes that hold values."""

    def choose_tile(self) -> Tile:
        """Return the tile whose accumulators, with a row and a column, fit into registers."""
        return Tile(4, 4) if count_registers(self.frame.target) >= 32 else Tile(2, 4)

    def list_accumulators(self, part: range) -> list[ir.Type]:
        """Return one vector of lanes."""
        return [self.emit.vector]

    def make_line(self, tables: Tables, side: int, at: ir.Value) -> Line:
        """Return one value per lane, or numbers that all lanes share."""
        if side == 0 and not self.left_has_lanes:
            return Line(self.frame, self.point_to_constant(tables, side, at))
        return Line(self.frame, self.point_to_lanes(tables, side, at), self.emit.vector, self.unit)

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[MachineReal]:
        """Emit the load of one value per lane."""
        return [self.frame.load(self.frame.lanes, self.locate_lanes(tables, 2, at), self.emit.vector)]

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Emit the store of one value per lane."""
        self.frame.store(total[0], self.frame.lanes, self.locate_lanes(tables, 2, at))


class SeriesMicroKernel(LaneMicroKernel):
    """Lanes that hold Taylor coefficients 1..order; all lanes share the constant terms."""

    def __init__(self, frame: Frame, kernel: ContractKernel) -> None:
        super().__init__(frame, kernel.left)
        self.packed, self.prefetched = kernel.packed, kernel.prefetched

    @property
    def per(self) -> int:
        """The number of reals in a coefficient."""
        return 2 if self.frame.target.mode.complex else 1

    def choose_tile(self) -> Tile:
        """Return the tile that fits into registers: of all coefficients, or of one coefficient at a time."""
        target = self.frame.target
        return choose_series_tile(count_registers(target), self.per, target.mode.order, self.left_has_lanes)

    def list_accumulators(self, part: range) -> list[ir.Type]:
        """Return a vector per coefficient of one element, or two, for its real and imaginary part."""
        return [self.emit.vector] * (len(part) * self.per)

    def make_line(self, tables: Tables, side: int, at: ir.Value) -> Line:
        """Return series, or constant terms only."""
        lanes = self.point_to_lanes(tables, side, at) if side or self.left_has_lanes else None
        return Line(self.frame, self.point_to_constant(tables, side, at), None, 1, lanes, self.unit)

    def make_strip(
        self, tables: Tables, batch: ir.Value, column: ir.Value, tile: Tile, summed: tuple[ir.Value, ir.Value]
    ) -> Strip:
        """Return the columns of a tile; a packed operand's are copied to contiguous memory first."""
        strip = super().make_strip(tables, batch, column, tile, summed)
        frame, b = self.frame, self.frame.builder
        if self.prefetched:
            last = b.sub(tables.columns, frame.const(1))
            others = [b.add(at, frame.const(tile.columns)) for at in strip.columns]
            others = [b.select(b.icmp_signed("<", at, last), at, last) for at in others]
            lines = self.make_columns(tables, batch, others)
            ahead = ColumnPrefetch(frame, [line.series for line in lines], strip.right_step, self.unit)
            strip = replace(strip, ahead=ahead)
        if not self.packed:
            return strip
        numbers, series = self.scratch
        rights = [
            replace(line, numbers=self.scratch_column(numbers, j, 1), series=self.scratch_column(series, j, self.unit))
            for j, line in enumerate(strip.rights)
        ]
        start, stop = summed
        with frame.loop(stop, start=start) as k:
            here, to = strip.right_step(k), b.sub(k, start)
            for old, new in zip(strip.rights, rights, strict=True):
                old.at(here).copy_to(new.at(to), self.unit // frame.target.width)
        return replace(strip, rights=rights, right_step=lambda k: b.sub(k, start))

    @cached_property
    def scratch(self) -> tuple[ir.Value, ir.Value]:
        """Memory for the packed columns of a tile: for constant terms, and for series."""
        b, columns = self.frame.builder, self.choose_tile().columns
        assert self.block is not None
        pointers = []
        with b.goto_entry_block():
            for numbers in (1, self.unit):
                count = self.frame.const(columns * self.block * numbers)
                pointers.append(b.alloca(self.frame.element, size=count))
                pointers[-1].align = CACHE_LINE
        return pointers[0], pointers[1]

    def scratch_column(self, pointer: ir.Value, column: int, numbers: int) -> ir.Value:
        """Emit a pointer to a packed column; numbers : per element."""
        assert self.block is not None
        return self.frame.builder.gep(pointer, [self.frame.const(column * self.block * numbers)])

    def multiply_add(
        self, totals: dict[Cell, list[MachineReal]], lefts: list[Any], rights: list[Any], part: range
    ) -> None:
        """Add the truncated Cauchy products; what a pair of coefficients needs is loaded, used, and given up."""
        for k, j in self.order_products(part, len(rights) > len(lefts)):
            first = (k - part.start) * self.per
            x = [entry[j] for entry in lefts]
            y = [entry[k - j] for entry in rights]
            for half in (0, 1):
                for (row, column), total in totals.items():
                    # Reals with the right one first: the order decides which registers LLVM takes.
                    pair = (x[row], y[column]) if self.per == 2 else (y[column], x[row])
                    for product in list_products(*pair)[half]:
                        left = -product.left if product.subtracted else product.left
                        at = first + product.part
                        total[at] = emit_fma(self.emit, left, product.right, total[at])

    def order_products(self, part: range, wide: bool) -> list[Cell]:
        """Return (coefficient k of the result, coefficient j of the left operand) of all products; wide : more columns
        than rows.

        In a wide tile of complex series, one coefficient of all columns is multiplied by all of the few rows', then the
        one before it, so that it needs a register only once. Every coefficient of the result is summed in the same
        order in all tiles, so that its bits do not depend on them. Seen on AVX-512 (Ice Lake) with 1 x 3 elements of
        order 3 in the second-level cache: 29.6 instead of 23.7 G multiply-adds per second, where eight sums and series
        were spilled.
        """
        pairs = [(k, j) for k in part for j in range((k if self.left_has_lanes else 0) + 1)]
        return sorted(pairs, key=lambda pair: pair[1] - pair[0]) if wide and self.per == 2 else pairs

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[MachineReal]:
        """Emit the load of the coefficients, as far as they have been summed."""
        base = self.locate_lanes(tables, 2, at)
        reals: list[MachineReal] = []
        for k in part:
            value = load_coefficient(self.frame, base, k)
            reals += [value.re, value.im] if isinstance(value, Complex) else [value]
        return reals

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Emit the store of the coefficients."""
        base = self.locate_lanes(tables, 2, at)
        for k in part:
            value = total[(k - part.start) * self.per : (k - part.start + 1) * self.per]
            store_coefficient(self.frame, Complex(*value) if self.per == 2 else value[0], base, k)


def make_zero(kind: ir.Type) -> ir.Constant:
    """Return 0.0, or a vector of zeros."""
    return ir.Constant(kind, [0.0] * kind.count if isinstance(kind, ir.VectorType) else 0.0)
