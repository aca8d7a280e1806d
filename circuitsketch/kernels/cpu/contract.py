"""Contractions: result[batch, row, column] = sum_k left[batch, row, k] * right[batch, k, column], in register tiles.

Where the entries lie is looked up in tables of element numbers, so any axes of any view can play any role. A tile of a
few rows and columns of the result is kept in registers while k runs: that is what makes the arithmetic, and not the
loads, the limit. In the lane phase an entry is a lane block and a product is the ring's; in the constant phase an entry
is one number, or a vector of neighbouring columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir

from circuitsketch.kernels.cpu.chain import load_coefficient, store_coefficient
from circuitsketch.kernels.cpu.frame import Frame
from circuitsketch.kernels.cpu.values import INT, Complex, Emitter, Real
from circuitsketch.lower.instructions import ContractKernel

CACHE = 48 << 10  # bytes of a first-level cache; half as large a one still keeps the columns
ACCUMULATORS = 24  # that a tile may hold, of 32 vector registers; tiles that fill them spill
Cell = tuple[int, int]  # a row and a column of a tile


class Tables:
    """The arguments of a contraction: offsets, extents, and where each table begins."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.constant = [frame.arg(0), frame.arg(2), frame.arg(4)]
        self.lane = [frame.arg(1), frame.arg(3), frame.arg(5)]
        self.batches, self.rows, self.columns, self.summed = (frame.arg(6 + i) for i in range(4))
        lengths = [
            self.batches, self.rows, self.summed,
            self.batches, self.summed, self.columns,
            self.batches, self.rows, self.columns,
        ]  # fmt: skip
        at: ir.Value = frame.const(10)
        self.begin = []
        for length in lengths:
            self.begin.append(at)
            at = frame.builder.add(at, length)

    def entry(self, table: int, i: ir.Value) -> ir.Value:
        """Entry i of a table."""
        return self.frame.arg(self.frame.builder.add(self.begin[table], i))


def emit_contract(frame: Frame, kernel: ContractKernel) -> None:
    """The contraction's kernel."""
    tables = Tables(frame)
    b = frame.builder
    with frame.loop(tables.batches) as batch:
        if kernel.phase == "lane":
            ring = lane_ring(frame, kernel)
            blocked(frame, tables, batch, ring, ring.tile(), frame.const(0), tables.columns)
        elif kernel.vector:
            wide = b.mul(b.sdiv(tables.columns, frame.const(8)), frame.const(8))
            blocked(frame, tables, batch, NumberRing(frame, 8), Tile(4, 2), frame.const(0), wide)
            blocked(frame, tables, batch, NumberRing(frame, 1), Tile(4, 1), wide, tables.columns)
        else:
            blocked(frame, tables, batch, NumberRing(frame, 1), Tile(4, 3), frame.const(0), tables.columns)
    frame.finish()


def lane_ring(frame: Frame, kernel: ContractKernel) -> Any:
    """How lane blocks are multiplied: by what lanes hold, and by whether the left operand has lanes."""
    if frame.target.mode.values:
        return ValueRing(frame, kernel.left)
    if frame.target.straight:
        return SeriesRing(frame, kernel.left)
    from circuitsketch.kernels.cpu.long_contract import LongRing

    return LongRing(frame, kernel.left)


def blocked(
    frame: Frame, tables: Tables, batch: ir.Value, ring: Any, tile: Tile, first: ir.Value, last: ir.Value
) -> None:
    """Take the summed axis in blocks, so that what a tile reads stays in the first-level cache while the rows pass by;
    sums are carried on in memory from block to block."""
    b = frame.builder
    length = ring.summed_block(tile)
    if length is None:
        tiled(frame, tables, batch, ring, tile, first, last, (frame.const(0), tables.summed))
        return
    with frame.loop(tables.summed, step=length) as begin:
        end = b.add(begin, frame.const(length))
        end = b.select(b.icmp_signed("<", end, tables.summed), end, tables.summed)
        tiled(frame, tables, batch, ring, tile, first, last, (begin, end))


def tiled(
    frame: Frame,
    tables: Tables,
    batch: ir.Value,
    ring: Any,
    tile: Tile,
    first: ir.Value,
    last: ir.Value,
    summed: tuple[ir.Value, ir.Value],
) -> None:
    """Cover rows 0..tables.rows and columns first..last with tiles: full ones, then the rest in smaller ones."""
    b = frame.builder
    wide = tile.columns * ring.step
    full_columns = b.add(first, b.mul(b.sdiv(b.sub(last, first), frame.const(wide)), frame.const(wide)))
    rest_columns = b.sdiv(b.sub(last, full_columns), frame.const(ring.step))

    def down(column: ir.Value, shape: Tile) -> None:
        full_rows = b.mul(b.sdiv(tables.rows, frame.const(shape.rows)), frame.const(shape.rows))
        with frame.loop(full_rows, step=shape.rows) as row:
            ring.tile_of(tables, batch, row, column, shape, summed)
        if tile.rows == 1 < shape.rows:
            with frame.loop(tables.rows, start=full_rows) as row:
                ring.tile_of(tables, batch, row, column, replace(shape, rows=1), summed)
            return
        rest_rows = b.sub(tables.rows, full_rows)
        for height in range(1, shape.rows):
            with b.if_then(b.icmp_signed("==", rest_rows, frame.const(height))):
                ring.tile_of(tables, batch, full_rows, column, replace(shape, rows=height), summed)

    with frame.loop(full_columns, start=first, step=wide) as column:
        down(column, tile)
    for width in range(1, tile.columns):
        with b.if_then(b.icmp_signed("==", rest_columns, frame.const(width))):
            down(full_columns, tile.strip(width))


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of the result that is summed up in registers; where an entry holds more than they do, part by part."""

    rows: int
    columns: int
    parts: tuple[range, ...] = (range(1),)

    def strip(self, width: int) -> Tile:
        """The tile for columns left over: where a tile is one row high, one column takes as many rows as it had
        columns, so that as many sums run side by side (AVX2, real series of order 3 through (7, 16, 64): 16.6 to 18.4 G
        multiply-adds a second, of 21.7 at most)."""
        return replace(self, rows=self.columns if self.rows == width == 1 else self.rows, columns=width)


class TileRing:
    """A tile's loop over k. Subclasses say how entries are loaded, multiplied, accumulated and stored."""

    step = 1  # columns that one accumulator covers
    emit: Emitter

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def summed_block(self, tile: Tile) -> int | None:
        """How much of the summed axis to take at a time; None for all of it."""
        return None

    def tile_of(
        self,
        tables: Tables,
        batch: ir.Value,
        row: ir.Value,
        column: ir.Value,
        tile: Tile,
        summed: tuple[ir.Value, ir.Value],
    ) -> None:
        """One tile of the result."""
        frame, b = self.frame, self.frame.builder
        rows = [b.add(row, frame.const(i)) for i in range(tile.rows)]
        columns = [b.add(column, frame.const(i * self.step)) for i in range(tile.columns)]
        left_batch, right_batch, out_batch = (tables.entry(i, batch) for i in (0, 3, 6))
        lefts = [self.operand(tables, 0, b.add(left_batch, tables.entry(1, r))) for r in rows]
        rights = [self.operand(tables, 1, b.add(right_batch, tables.entry(5, c))) for c in columns]
        out = {
            (i, j): b.add(out_batch, b.add(tables.entry(7, rows[i]), tables.entry(8, columns[j])))
            for i in range(tile.rows)
            for j in range(tile.columns)
        }
        for part in tile.parts:
            self.sum_up(tables, lefts, rights, out, part, summed, self.summed_block(tile) is not None)

    def sum_up(
        self,
        tables: Tables,
        left: list[Any],
        right: list[Any],
        out: dict[Cell, ir.Value],
        part: range,
        summed: tuple[ir.Value, ir.Value],
        resumes: bool,
    ) -> None:
        """A part of a tile, in registers: begun at zero or, after the first block of k (`resumes`), as it stands."""
        frame, b = self.frame, self.frame.builder
        kinds = self.accumulators(part)
        start, stop = summed
        before = b.block
        body, done = b.append_basic_block("k"), b.append_basic_block("stored")
        incoming = [(before, {cell: [zero_of(kind) for kind in kinds] for cell in out})]
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
        totals = {cell: [Real(self.emit, phi) for phi in sums[cell]] for cell in out}
        left_k, right_k = tables.entry(2, k), tables.entry(4, k)
        self.multiply_add(totals, [x.along(left_k) for x in left], [y.along(right_k) for y in right], part)
        following = b.add(k, frame.const(1))
        k.add_incoming(following, b.block)
        for cell in out:
            for phi, total in zip(sums[cell], totals[cell], strict=True):
                phi.add_incoming(total.value, b.block)
        b.cbranch(b.icmp_signed("<", following, stop), body, done)
        b.position_at_end(done)
        for cell, at in out.items():
            self.store(tables, totals[cell], at, part)

    def operand(self, tables: Tables, side: int, at: ir.Value) -> Any:
        """A row of the left operand (side 0) or a column of the right one, from an element relative to its offset;
        `along` gives its entries."""
        raise NotImplementedError

    def pointer(self, base: ir.Value, offset: ir.Value, at: ir.Value) -> ir.Value:
        """A pointer to a number of an arena."""
        b = self.frame.builder
        return b.gep(base, [b.add(offset, at)], inbounds=True)

    def accumulators(self, part: range) -> list[ir.Type]:
        """The registers that a part of one entry of the result takes."""
        raise NotImplementedError

    def multiply_add(
        self, totals: dict[Cell, list[Real]], lefts: list[Any], rights: list[Any], part: range
    ) -> None:
        """Add left * right to every entry of a tile."""
        for (i, j), total in totals.items():
            total[0] = fused(self.emit, lefts[i][0], rights[j][0], total[0])

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[Real]:
        """A part of an entry of the result, as far as it has been summed."""
        raise NotImplementedError

    def store(self, tables: Tables, total: list[Real], at: ir.Value, part: range) -> None:
        """Put a part of an entry of the result."""
        raise NotImplementedError


def zero_of(kind: ir.Type) -> ir.Constant:
    """0.0, or a vector of it."""
    return ir.Constant(kind, [0.0] * kind.count if isinstance(kind, ir.VectorType) else 0.0)


class NumberRing(TileRing):
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

    def operand(self, tables: Tables, side: int, at: ir.Value) -> Any:
        """Numbers of a row; numbers, or neighbouring columns, of a column."""
        kind = self.kind if side and self.step > 1 else None
        return Line(self.frame, self.pointer(self.frame.constants, tables.constant[side], at), kind)

    def store(self, tables: Tables, total: list[Real], at: ir.Value, part: range) -> None:
        """Put numbers into the constant arena."""
        self.frame.store(total[0], self.frame.constants, self.frame.builder.add(tables.constant[2], at))


def fused(emit: Emitter, x: Real, y: Real, z: Real) -> Real:
    """x * y + z in one rounding."""
    values = [v.value for v in (x, y, z)]
    if any(isinstance(v.type, ir.VectorType) for v in values):
        values = [v if isinstance(v.type, ir.VectorType) else emit.splat(v) for v in values]
    return Real(emit, emit.intrinsic("fma", *values))


class LaneRing(TileRing):
    """The lane phase: what is common to value lanes and series."""

    def __init__(self, frame: Frame, left_has_lanes: bool) -> None:
        super().__init__(frame)
        self.left_has_lanes = left_has_lanes
        self.emit = frame.emit

    @property
    def unit(self) -> int:
        """Numbers in an entry's lane block."""
        return self.frame.target.mode.components * self.frame.target.width

    def base(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """The first number of an entry's lane block."""
        return self.frame.builder.mul(self.frame.builder.add(tables.lane[side], at), self.frame.const(self.unit))

    def summed_block(self, tile: Tile) -> int | None:
        """As much as lets what a tile reads take half of a first-level cache."""
        entry = self.unit * (4 if self.frame.target.single else 8)
        return max(CACHE // 2 // (entry * (tile.rows * self.left_has_lanes + tile.columns)), 4)

    def shared(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """A pointer to an entry's constant term."""
        return self.pointer(self.frame.shared, tables.constant[side], at)

    def lanes(self, tables: Tables, side: int, at: ir.Value) -> ir.Value:
        """A pointer to an entry's lane block."""
        return self.frame.builder.gep(self.frame.lanes, [self.base(tables, side, at)], inbounds=True)


class ValueRing(LaneRing):
    """Lanes that hold values."""

    def tile(self) -> Tile:
        """Accumulators, a row and a column in registers."""
        return Tile(4, 4) if self.frame.target.registers >= 32 else Tile(2, 4)

    def accumulators(self, part: range) -> list[ir.Type]:
        """One vector of lanes."""
        return [self.emit.vector]

    def operand(self, tables: Tables, side: int, at: ir.Value) -> Line:
        """Values a lane, or numbers for all."""
        if side == 0 and not self.left_has_lanes:
            return Line(self.frame, self.shared(tables, side, at))
        return Line(self.frame, self.lanes(tables, side, at), self.emit.vector, self.unit)

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[Real]:
        """A value a lane."""
        return [self.frame.load(self.frame.lanes, self.base(tables, 2, at), self.emit.vector)]

    def store(self, tables: Tables, total: list[Real], at: ir.Value, part: range) -> None:
        """Put a value a lane."""
        self.frame.store(total[0], self.frame.lanes, self.base(tables, 2, at))


class SeriesRing(LaneRing):
    """Lanes that hold Taylor coefficients 1..order; the constant terms are single numbers beside them."""

    @property
    def per(self) -> int:
        """Reals a coefficient."""
        return 2 if self.frame.target.mode.complex else 1

    def tile(self) -> Tile:
        """What the registers hold of accumulators: whole entries, or one coefficient of several entries at a time."""
        target = self.frame.target
        return series_tile(target.registers, self.per, target.mode.order, self.left_has_lanes)

    def accumulators(self, part: range) -> list[ir.Type]:
        """The coefficients of one entry, real and imaginary parts one after the other."""
        return [self.emit.vector] * (len(part) * self.per)

    def operand(self, tables: Tables, side: int, at: ir.Value) -> Line:
        """Series, or constant terms alone."""
        lanes = self.lanes(tables, side, at) if side or self.left_has_lanes else None
        return Line(self.frame, self.shared(tables, side, at), None, 1, lanes, self.unit)

    def multiply_add(
        self, totals: dict[Cell, list[Real]], lefts: list[Any], rights: list[Any], part: range
    ) -> None:
        """The truncated Cauchy product, every multiply-add fused: for each pair of coefficients, what the tile needs of
        them is loaded, used, and given up."""
        for k in part:
            first = (k - part.start) * self.per
            for j in range(0, (k if self.left_has_lanes else 0) + 1):
                x = [entry[j] for entry in lefts]
                y = [entry[k - j] for entry in rights]
                for half in (0, 1):
                    for (row, column), total in totals.items():
                        self.add(total, first, x[row], y[column], half)

    def add(self, total: list[Real], first: int, x: Any, y: Any, half: int) -> None:
        """Add x * y to the coefficient kept from `first` on, in two halves: no sum is needed again at once."""
        if isinstance(x, Complex) and isinstance(y, Complex):
            one, two = (y.re, y.im) if half == 0 else (y.im, y.re)
            factor = x.re if half == 0 else x.im
            total[first] = fused(self.emit, factor if half == 0 else -factor, one, total[first])
            total[first + 1] = fused(self.emit, factor, two, total[first + 1])
        elif half == 0:
            number, series = (x, y) if isinstance(y, Complex) else (y, x)
            parts = (series.re, series.im) if isinstance(series, Complex) else (series,)
            for i, value in enumerate(parts, start=first):
                total[i] = fused(self.emit, number, value, total[i])

    def load(self, tables: Tables, at: ir.Value, part: range) -> list[Real]:
        """The coefficients so far."""
        base = self.base(tables, 2, at)
        found: list[Real] = []
        for k in part:
            value = load_coefficient(self.frame, base, k)
            found += [value.re, value.im] if isinstance(value, Complex) else [value]
        return found

    def store(self, tables: Tables, total: list[Real], at: ir.Value, part: range) -> None:
        """Put the coefficients."""
        base = self.base(tables, 2, at)
        for k in part:
            value = total[(k - part.start) * self.per : (k - part.start + 1) * self.per]
            store_coefficient(self.frame, Complex(*value) if self.per == 2 else value[0], base, k)


def series_tile(registers: int, per: int, order: int, both: bool) -> Tile:
    """The tile for series of `order` coefficients of `per` reals, `both` operands or only the right one having them.

    With 32 registers 24 accumulators leave room for what is multiplied. With 16 that is 8 or 9, and more spill: so an
    entry is summed up coefficient by coefficient, which also loads each coefficient just where it is used. Seen on AVX2
    at order 3, multiply-adds over the peak: 2 x 2 entries, one coefficient at a time .80, 1 x 2 entries whole .68, the
    tile for 32 registers .50; real series, 1 x 3 entries whole .81, 3 x 3 one coefficient at a time .57; a number times
    a series, 4 x 1 entries, one coefficient at a time .63, 2 x 1 whole .58.
    """
    whole = (range(1, order + 1),)
    single = tuple(range(k, k + 1) for k in range(1, order + 1))
    reals = per * order
    if registers < 16:
        return Tile(1, 1, single)
    if registers < 32:
        if not both:
            return Tile(4, 1, single)
        if per == 2:
            return Tile(2, 2, single)
        shapes = {1: (3, 3), 2: (2, 2), 3: (1, 3), 4: (1, 2)}
        return Tile(*shapes[order], whole) if order in shapes else Tile(2, 4, single)
    if not both:
        return Tile(max(min(ACCUMULATORS // reals, 8), 1), 1, whole)
    if 8 * reals <= ACCUMULATORS:
        return Tile(2, 4, whole)
    return Tile(1, max(min(ACCUMULATORS // reals, 4), 1), whole)


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

    def along(self, k: ir.Value) -> Entry:
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
        base = frame.builder.mul(self.k, frame.const(line.unit))
        return load_coefficient(frame, base, coefficient, line.series)


__all__ = ["LaneRing", "SeriesRing", "Tile", "Tables", "emit_contract", "fused"]
