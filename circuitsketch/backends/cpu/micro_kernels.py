"""What a contraction's entries are, numbers, values a lane, or series, and how a tile of the result is summed up.

Each ring says how its entries are loaded, multiplied, added and stored; the loop over k is common to all. Where entries
lie is looked up in tables of element numbers.
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
from circuitsketch.backends.cpu.tiling import Tile, choose_series_tile, choose_summed_block
from circuitsketch.backends.numbers import Complex
from circuitsketch.backends.series import list_products
from circuitsketch.lower.packing import POSITIONS, ContractArguments

Cell = tuple[int, int]  # a row and a column of a tile


class Tables:
    """The arguments of a contraction: offsets, extents, and where each table begins."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        *sides, extents = ContractArguments.head(POSITIONS)
        self.constant = [frame.arg(side.constant) for side in sides]
        self.lane = [frame.arg(side.lane) for side in sides]
        lengths = {name: frame.arg(position) for name, position in extents.items()}
        self.batches, self.rows = lengths["batches"], lengths["rows"]
        self.columns, self.summed = lengths["columns"], lengths["summed"]
        at: ir.Value = frame.const(ContractArguments.HEAD)
        self.begin = {}
        for table, length in ContractArguments.TABLES.items():
            self.begin[table] = at
            at = frame.builder.add(at, lengths[length])

    def entry(self, table: str, i: ir.Value) -> ir.Value:
        """Entry i of a table, by the name that `ContractArguments` has for it."""
        return self.frame.arg(self.frame.builder.add(self.begin[table], i))


@dataclass(frozen=True, slots=True)
class Strip:
    """A few columns of the result, and the right operand's along a part of the summed axis; `right_step` says where
    their entries lie, by k."""

    batch: ir.Value
    columns: list[ir.Value]
    rights: list[Any]
    right_step: Callable[[ir.Value], ir.Value]
    summed: tuple[ir.Value, ir.Value]


class MicroKernel:
    """A tile's loop over k. Subclasses say how entries are loaded, multiplied, accumulated and stored."""

    step = 1  # columns that one accumulator covers
    emit: Emitter

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @property
    def block(self) -> int | None:
        """How much of the summed axis to take at a time; None for all of it."""
        return None

    def make_strip(
        self, tables: Tables, batch: ir.Value, column: ir.Value, tile: Tile, summed: tuple[ir.Value, ir.Value]
    ) -> Strip:
        """The columns of a tile, for all rows."""
        b = self.frame.builder
        columns = [b.add(column, self.frame.const(i * self.step)) for i in range(tile.columns)]
        right_batch = tables.entry("right_batch", batch)
        rights = [self.make_line(tables, 1, b.add(right_batch, tables.entry("right_column", c))) for c in columns]
        return Strip(batch, columns, rights, partial(tables.entry, "right_summed"), summed)

    def emit_tile(self, tables: Tables, strip: Strip, row: ir.Value, tile: Tile) -> None:
        """One tile of the result."""
        frame, b = self.frame, self.frame.builder
        rows = [b.add(row, frame.const(i)) for i in range(tile.rows)]
        left_batch, out_batch = tables.entry("left_batch", strip.batch), tables.entry("result_batch", strip.batch)
        lefts = [self.make_line(tables, 0, b.add(left_batch, tables.entry("left_row", r))) for r in rows]
        out = {
            (i, j): b.add(out_batch, b.add(tables.entry("result_row", r), tables.entry("result_column", c)))
            for i, r in enumerate(rows)
            for j, c in enumerate(strip.columns)
        }
        for part in tile.parts:
            self.emit_sum(tables, lefts, strip, out, part, self.block is not None)

    def emit_sum(
        self,
        tables: Tables,
        left: list[Any],
        strip: Strip,
        out: dict[Cell, ir.Value],
        part: range,
        resumes: bool,
    ) -> None:
        """A part of a tile, in registers: begun at zero or, after the first block of k (`resumes`), as it stands."""
        frame, b = self.frame, self.frame.builder
        kinds = self.accumulators(part)
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
        left_k, right_k = tables.entry("left_summed", k), strip.right_step(k)
        self.multiply_add(totals, [x.at(left_k) for x in left], [y.at(right_k) for y in strip.rights], part)
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
        """A row of the left operand (side 0) or a column of the right one, from an element relative to its offset;
        `at` gives its entries."""
        raise NotImplementedError

    def pointer(self, base: ir.Value, offset: ir.Value, at: ir.Value) -> ir.Value:
        """A pointer to a number of an arena."""
        b = self.frame.builder
        return b.gep(base, [b.add(offset, at)], inbounds=True)

    def accumulators(self, part: range) -> list[ir.Type]:
        """The registers that a part of one entry of the result takes."""
        raise NotImplementedError

    def multiply_add(
        self, totals: dict[Cell, list[MachineReal]], lefts: list[Any], rights: list[Any], part: range
    ) -> None:
        """Add left * right to every entry of a tile."""
        for (i, j), total in totals.items():
            total[0] = emit_fma(self.emit, lefts[i][0], rights[j][0], total[0])

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[MachineReal]:
        """A part of an entry of the result, as far as it has been summed."""
        raise NotImplementedError

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Put a part of an entry of the result."""
        raise NotImplementedError


class NumberMicroKernel(MicroKernel):
    """The constant phase: numbers, or vectors of neighbouring columns."""

    def __init__(self, frame: Frame, wide: int) -> None:
        super().__init__(frame)
        self.step = wide
        double = ir.DoubleType()
        self.kind = ir.VectorType(double, wide) if wide > 1 else double
        self.emit = Emitter(frame.builder, double, wide)

    def accumulators(self, part: range) -> list[ir.Type]:
        """One number, or one vector of columns."""
        return [self.kind]

    def make_line(self, tables: Tables, side: int, at: ir.Value) -> Any:
        """Numbers of a row; numbers, or neighbouring columns, of a column."""
        kind = self.kind if side and self.step > 1 else None
        return Line(self.frame, self.pointer(self.frame.constants, tables.constant[side], at), kind)

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Put numbers into the constant arena."""
        self.frame.store(total[0], self.frame.constants, self.frame.builder.add(tables.constant[2], at))


class LaneMicroKernel(MicroKernel):
    """The lane phase: what is common to value lanes and series."""

    def __init__(self, frame: Frame, left_has_lanes: bool) -> None:
        super().__init__(frame)
        self.left_has_lanes = left_has_lanes
        self.emit = frame.emit

    def choose_tile(self) -> Tile:
        """The full tile."""
        raise NotImplementedError

    @property
    def unit(self) -> int:
        """Numbers in an entry's lane block."""
        return self.frame.target.mode.components * self.frame.target.width

    def base(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """The first number of an entry's lane block."""
        return self.frame.builder.mul(self.frame.builder.add(tables.lane[side], at), self.frame.const(self.unit))

    @property
    def entry_bytes(self) -> int:
        """Bytes of an entry's lane block."""
        return self.unit * (4 if self.frame.target.single else 8)

    @property
    def block(self) -> int | None:
        """As much as lets what a tile reads take half of a first-level cache."""
        return choose_summed_block(self.entry_bytes, self.choose_tile(), self.left_has_lanes)

    def shared(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """A pointer to an entry's constant term."""
        return self.pointer(self.frame.shared, tables.constant[side], at)

    def lanes(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """A pointer to an entry's lane block."""
        return self.frame.builder.gep(self.frame.lanes, [self.base(tables, side, at)], inbounds=True)


class ValueMicroKernel(LaneMicroKernel):
    """Lanes that hold values."""

    def choose_tile(self) -> Tile:
        """Accumulators, a row and a column in registers."""
        return Tile(4, 4) if count_registers(self.frame.target) >= 32 else Tile(2, 4)

    def accumulators(self, part: range) -> list[ir.Type]:
        """One vector of lanes."""
        return [self.emit.vector]

    def make_line(self, tables: Tables, side: int, at: ir.Value) -> Line:
        """Values a lane, or numbers for all."""
        if side == 0 and not self.left_has_lanes:
            return Line(self.frame, self.shared(tables, side, at))
        return Line(self.frame, self.lanes(tables, side, at), self.emit.vector, self.unit)

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[MachineReal]:
        """A value a lane."""
        return [self.frame.load(self.frame.lanes, self.base(tables, 2, at), self.emit.vector)]

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Put a value a lane."""
        self.frame.store(total[0], self.frame.lanes, self.base(tables, 2, at))


class SeriesMicroKernel(LaneMicroKernel):
    """Lanes that hold Taylor coefficients 1..order; the constant terms are single numbers beside them."""

    def __init__(self, frame: Frame, left_has_lanes: bool, packed: bool = False) -> None:
        super().__init__(frame, left_has_lanes)
        self.packed = packed

    @property
    def per(self) -> int:
        """Reals a coefficient."""
        return 2 if self.frame.target.mode.complex else 1

    def choose_tile(self) -> Tile:
        """What the registers hold of accumulators: whole entries, or one coefficient of several entries at a time."""
        target = self.frame.target
        return choose_series_tile(count_registers(target), self.per, target.mode.order, self.left_has_lanes)

    def accumulators(self, part: range) -> list[ir.Type]:
        """The coefficients of one entry, real and imaginary parts one after the other."""
        return [self.emit.vector] * (len(part) * self.per)

    def make_line(self, tables: Tables, side: int, at: ir.Value) -> Line:
        """Series, or constant terms alone."""
        lanes = self.lanes(tables, side, at) if side or self.left_has_lanes else None
        return Line(self.frame, self.shared(tables, side, at), None, 1, lanes, self.unit)

    def make_strip(
        self, tables: Tables, batch: ir.Value, column: ir.Value, tile: Tile, summed: tuple[ir.Value, ir.Value]
    ) -> Strip:
        """The columns of a tile; of a packed operand copied together, see `suited`."""
        found = super().make_strip(tables, batch, column, tile, summed)
        if not self.packed:
            return found
        frame, b = self.frame, self.frame.builder
        numbers, series = self.scratch
        rights = [
            replace(line, numbers=self.scratch_column(numbers, j, 1), series=self.scratch_column(series, j, self.unit))
            for j, line in enumerate(found.rights)
        ]
        start, stop = summed
        with frame.loop(stop, start=start) as k:
            here, to = found.right_step(k), b.sub(k, start)
            for old, new in zip(found.rights, rights, strict=True):
                old.at(here).copy_to(new.at(to), self.unit // frame.target.width)
        return replace(found, rights=rights, right_step=lambda k: b.sub(k, start))

    @cached_property
    def scratch(self) -> tuple[ir.Value, ir.Value]:
        """Room for the columns of a tile: constant terms, and series."""
        b, columns = self.frame.builder, self.choose_tile().columns
        assert self.block is not None
        found = []
        with b.goto_entry_block():
            for numbers in (1, self.unit):
                count = self.frame.const(columns * self.block * numbers)
                found.append(b.alloca(self.frame.element, size=count))
                found[-1].align = CACHE_LINE
        return found[0], found[1]

    def scratch_column(self, pointer: ir.Value, column: int, numbers: int) -> ir.Value:
        """Where a column begins in memory for so many numbers an entry."""
        assert self.block is not None
        return self.frame.builder.gep(pointer, [self.frame.const(column * self.block * numbers)])

    def multiply_add(
        self, totals: dict[Cell, list[MachineReal]], lefts: list[Any], rights: list[Any], part: range
    ) -> None:
        """Add the truncated Cauchy products; what a pair of coefficients needs is loaded, used, and given up."""
        for k in part:
            first = (k - part.start) * self.per
            for j in range(0, (k if self.left_has_lanes else 0) + 1):
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

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[MachineReal]:
        """The coefficients so far."""
        base = self.base(tables, 2, at)
        found: list[MachineReal] = []
        for k in part:
            value = load_coefficient(self.frame, base, k)
            found += [value.re, value.im] if isinstance(value, Complex) else [value]
        return found

    def store(self, tables: Tables, total: list[MachineReal], at: ir.Value, part: range) -> None:
        """Put the coefficients."""
        base = self.base(tables, 2, at)
        for k in part:
            value = total[(k - part.start) * self.per : (k - part.start + 1) * self.per]
            store_coefficient(self.frame, Complex(*value) if self.per == 2 else value[0], base, k)


@dataclass(frozen=True, slots=True)
class Line:
    """A row or column of an operand along the summed axis: a pointer to its constant terms (or to what it has instead
    of a series: `kind` a load, `step` numbers an entry), and one to its series. What changes with k is one offset for
    all lines of a side, so that an address takes no arithmetic."""

    frame: Frame
    numbers: ir.Value
    kind: ir.Type | None = None
    step: int = 1
    series: ir.Value | None = None
    unit: int = 0

    def at(self, k: ir.Value) -> Entry:
        """The entry k elements on."""
        return Entry(self, k)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of an operand; its constant term (0) and coefficients are loaded where they are asked for."""

    line: Line
    k: ir.Value

    def __getitem__(self, coefficient: int) -> Any:
        line, frame = self.line, self.line.frame
        if coefficient == 0:
            kind = line.kind if isinstance(line.kind, ir.VectorType) else None
            return frame.load(line.numbers, frame.builder.mul(self.k, frame.const(line.step)), kind)
        return load_coefficient(frame, self.base, coefficient, line.series)

    @property
    def base(self) -> ir.Value:
        """Where its series begins."""
        return self.line.frame.builder.mul(self.k, self.line.frame.const(self.line.unit))

    def copy_to(self, other: Entry, vectors: int) -> None:
        """Copy its constant term and the vectors of its series to another place."""
        frame, width = self.line.frame, self.line.frame.target.width
        frame.store(self[0], other.line.numbers, other.k)
        for i in range(vectors):
            at, to = (frame.builder.add(e.base, frame.const(i * width)) for e in (self, other))
            frame.store(frame.load(self.line.series, at, frame.emit.vector), other.line.series, to)


def make_zero(kind: ir.Type) -> ir.Constant:
    """0.0, or a vector of it."""
    return ir.Constant(kind, [0.0] * kind.count if isinstance(kind, ir.VectorType) else 0.0)
