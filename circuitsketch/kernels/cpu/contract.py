"""Contractions: result[batch, row, column] = sum_k left[batch, row, k] * right[batch, k, column], in register tiles.

Where the entries lie is looked up in tables of element numbers, so any axes of any view can play any role. A tile of a
few rows and columns of the result is kept in registers while k runs: that is what makes the arithmetic, and not the
loads, the limit. In the lane phase an entry is a lane block and a product is the ring's; in the constant phase an entry
is one number, or a vector of neighbouring columns.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from circuitsketch.kernels.cpu.chain import load_coefficient, store_coefficient
from circuitsketch.kernels.cpu.frame import Frame
from circuitsketch.kernels.cpu.values import INT, ZERO, Complex, Emitter, Real
from circuitsketch.lower.tape import ContractKernel

CACHE = 48 << 10  # bytes of a first-level cache; half as large a one still keeps the columns
REGISTERS = 24  # accumulators a tile may hold, of 32 vector registers; tiles that fill them spill


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
    if kernel.phase == "constant":
        with frame.loop(tables.batches) as batch:
            if kernel.vector:
                wide = b.mul(b.sdiv(tables.columns, frame.const(8)), frame.const(8))
                blocked(frame, tables, batch, NumberRing(frame, 8), 4, 2, frame.const(0), wide)
                blocked(frame, tables, batch, NumberRing(frame, 1), 4, 1, wide, tables.columns)
            else:
                blocked(frame, tables, batch, NumberRing(frame, 1), 4, 3, frame.const(0), tables.columns)
    else:
        ring = lane_ring(frame, kernel)
        rows, columns = ring.tile()
        with frame.loop(tables.batches) as batch:
            blocked(frame, tables, batch, ring, rows, columns, frame.const(0), tables.columns)
    frame.finish()


def lane_ring(frame: Frame, kernel: ContractKernel) -> Any:
    """How lane blocks are multiplied: by what lanes hold, and by whether the left operand has lanes."""
    if frame.target.mode.values:
        return ValueRing(frame, kernel.left)
    if frame.target.straight:
        return SeriesRing(frame, kernel.left)
    from circuitsketch.kernels.cpu.long_series import LongRing

    return LongRing(frame, kernel.left)


def blocked(
    frame: Frame,
    tables: Tables,
    batch: ir.Value,
    ring: Any,
    rows: int,
    columns: int,
    first: ir.Value,
    last: ir.Value,
) -> None:
    """Take the summed axis in blocks, so that a tile's columns of the right operand stay in the first-level cache while
    the rows of the left pass by; sums are carried on in memory from block to block."""
    b = frame.builder
    length = ring.summed_block(columns)
    if length is None:
        tiled(frame, tables, batch, ring, rows, columns, first, last, (frame.const(0), tables.summed))
        return
    with frame.loop(tables.summed, step=length) as begin:
        end = b.add(begin, frame.const(length))
        end = b.select(b.icmp_signed("<", end, tables.summed), end, tables.summed)
        tiled(frame, tables, batch, ring, rows, columns, first, last, (begin, end))


def tiled(
    frame: Frame,
    tables: Tables,
    batch: ir.Value,
    ring: Any,
    rows: int,
    columns: int,
    first: ir.Value,
    last: ir.Value,
    summed: tuple[ir.Value, ir.Value],
) -> None:
    """Cover rows 0..tables.rows and columns first..last with tiles: full ones, then the rest in smaller ones."""
    b = frame.builder
    wide = columns * ring.step
    full_columns = b.add(first, b.mul(b.sdiv(b.sub(last, first), frame.const(wide)), frame.const(wide)))
    full_rows = b.mul(b.sdiv(tables.rows, frame.const(rows)), frame.const(rows))
    rest_columns = b.sdiv(b.sub(last, full_columns), frame.const(ring.step))
    rest_rows = b.sub(tables.rows, full_rows)

    def down(column: ir.Value, width: int) -> None:
        with frame.loop(full_rows, step=rows) as row:
            ring.tile_of(tables, batch, row, column, rows, width, summed)
        for height in range(1, rows):
            with b.if_then(b.icmp_signed("==", rest_rows, frame.const(height))):
                ring.tile_of(tables, batch, full_rows, column, height, width, summed)

    with frame.loop(full_columns, start=first, step=wide) as column:
        down(column, columns)
    for width in range(1, columns):
        with b.if_then(b.icmp_signed("==", rest_columns, frame.const(width))):
            down(full_columns, width)


class TileRing:
    """A tile's loop over k. Subclasses say how entries are loaded, multiplied, accumulated and stored."""

    step = 1  # columns that one accumulator covers

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def summed_block(self, columns: int) -> int | None:
        """How much of the summed axis to take at a time; None for all of it."""
        return None

    def tile_of(
        self,
        tables: Tables,
        batch: ir.Value,
        row: ir.Value,
        column: ir.Value,
        height: int,
        width: int,
        summed: tuple[ir.Value, ir.Value],
    ) -> None:
        """One tile of the result: accumulators in registers, begun at zero or at what is there, k in a loop."""
        frame, b = self.frame, self.frame.builder
        rows = [b.add(row, frame.const(i)) for i in range(height)]
        columns = [b.add(column, frame.const(i * self.step)) for i in range(width)]
        left_batch, right_batch, out_batch = (tables.entry(i, batch) for i in (0, 3, 6))
        left_rows = [b.add(left_batch, tables.entry(1, r)) for r in rows]
        right_columns = [b.add(right_batch, tables.entry(5, c)) for c in columns]
        kinds = self.accumulators()
        cells = [(i, j) for i in range(height) for j in range(width)]
        places = {
            (i, j): b.add(out_batch, b.add(tables.entry(7, rows[i]), tables.entry(8, columns[j]))) for i, j in cells
        }
        start, stop = summed
        before = b.block
        body, done = b.append_basic_block("k"), b.append_basic_block("stored")
        incoming = [(before, {cell: [zero_of(kind) for kind in kinds] for cell in cells})]
        if self.summed_block(width) is None:
            b.branch(body)
        else:
            again = b.append_basic_block("again")
            b.cbranch(b.icmp_signed("==", start, frame.const(0)), body, again)
            b.position_at_end(again)
            old = {cell: [part.value for part in self.load(tables, at)] for cell, at in places.items()}
            incoming.append((b.block, old))
            b.branch(body)
        b.position_at_end(body)
        k = b.phi(INT)
        sums: dict[tuple[int, int], list[Any]] = {cell: [b.phi(kind) for kind in kinds] for cell in cells}
        for block, values in incoming:
            k.add_incoming(start, block)
            for cell in cells:
                for phi, value in zip(sums[cell], values[cell], strict=True):
                    phi.add_incoming(value, block)
        entries = {cell: [Real(self.emit, phi) for phi in sums[cell]] for cell in cells}
        left_k, right_k = tables.entry(2, k), tables.entry(4, k)
        lefts = [self.load_left(tables, b.add(at, left_k)) for at in left_rows]
        rights = [self.load_right(tables, b.add(at, right_k)) for at in right_columns]
        for i, j in cells:
            entries[i, j] = self.multiply_add(entries[i, j], lefts[i], rights[j])
        following = b.add(k, frame.const(1))
        k.add_incoming(following, b.block)
        for cell in cells:
            for phi, entry in zip(sums[cell], entries[cell], strict=True):
                phi.add_incoming(entry.value, b.block)
        b.cbranch(b.icmp_signed("<", following, stop), body, done)
        b.position_at_end(done)
        for cell, at in places.items():
            self.store(tables, entries[cell], at)

    emit: Emitter

    def accumulators(self) -> list[ir.Type]:
        """The registers that one entry of the result takes."""
        raise NotImplementedError

    def load_left(self, tables: Tables, at: ir.Value) -> Any:
        """An entry of the left operand, at an element relative to the operand's offset."""
        raise NotImplementedError

    def load_right(self, tables: Tables, at: ir.Value) -> Any:
        """An entry of the right operand."""
        raise NotImplementedError

    def multiply_add(self, total: list[Real], left: Any, right: Any) -> list[Real]:
        """total + left * right."""
        raise NotImplementedError

    def load(self, tables: Tables, at: ir.Value) -> list[Real]:
        """An entry of the result, as far as it has been summed."""
        raise NotImplementedError

    def store(self, tables: Tables, total: list[Real], at: ir.Value) -> None:
        """Put an entry of the result."""
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

    def accumulators(self) -> list[ir.Type]:
        """One number, or one vector of columns."""
        return [self.kind]

    def load_left(self, tables: Tables, at: ir.Value) -> Any:
        """A number."""
        return self.frame.load(self.frame.constants, self.frame.builder.add(tables.constant[0], at))

    def load_right(self, tables: Tables, at: ir.Value) -> Any:
        """A number, or neighbouring columns."""
        kind = self.kind if self.step > 1 else None
        return self.frame.load(self.frame.constants, self.frame.builder.add(tables.constant[1], at), kind)

    def multiply_add(self, total: list[Real], left: Any, right: Any) -> list[Real]:
        """One fused multiply-add."""
        return [fused(self.emit, left, right, total[0])]

    def store(self, tables: Tables, total: list[Real], at: ir.Value) -> None:
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

    def base(self, tables: Tables, operand: int, at: ir.Value) -> ir.Value:
        """The first number of an entry's lane block."""
        b, target = self.frame.builder, self.frame.target
        return b.mul(b.add(tables.lane[operand], at), self.frame.const(target.mode.components * target.width))

    def summed_block(self, columns: int) -> int | None:
        """As much as lets a tile's columns take half of a first-level cache."""
        target = self.frame.target
        entry = target.mode.components * target.width * (4 if target.single else 8)
        return max(CACHE // 2 // (entry * columns), 4)

    def shared(self, tables: Tables, operand: int, at: ir.Value) -> Real:
        """An entry's constant term."""
        return self.frame.load(self.frame.shared, self.frame.builder.add(tables.constant[operand], at))


class ValueRing(LaneRing):
    """Lanes that hold values."""

    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        return 4, 4

    def accumulators(self) -> list[ir.Type]:
        """One vector of lanes."""
        return [self.emit.vector]

    def load(self, tables: Tables, at: ir.Value) -> list[Real]:
        """A value a lane."""
        return [self.frame.load(self.frame.lanes, self.base(tables, 2, at), self.emit.vector)]

    def load_left(self, tables: Tables, at: ir.Value) -> Any:
        """A value a lane, or one number for all."""
        if not self.left_has_lanes:
            return self.shared(tables, 0, at)
        return self.frame.load(self.frame.lanes, self.base(tables, 0, at), self.emit.vector)

    def load_right(self, tables: Tables, at: ir.Value) -> Any:
        """A value a lane."""
        return self.frame.load(self.frame.lanes, self.base(tables, 1, at), self.emit.vector)

    def multiply_add(self, total: list[Real], left: Any, right: Any) -> list[Real]:
        """One fused multiply-add."""
        return [fused(self.emit, left, right, total[0])]

    def store(self, tables: Tables, total: list[Real], at: ir.Value) -> None:
        """Put a value a lane."""
        self.frame.store(total[0], self.frame.lanes, self.base(tables, 2, at))


class SeriesRing(LaneRing):
    """Lanes that hold Taylor coefficients 1..order; the constant terms are single numbers beside them."""

    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile: what the registers hold of accumulators."""
        per = self.frame.target.mode.components
        if not self.left_has_lanes:
            return max(min(REGISTERS // per, 8), 1), 1
        if 8 * per <= REGISTERS:
            return 2, 4
        return 1, max(min(REGISTERS // per, 4), 1)

    def accumulators(self) -> list[ir.Type]:
        """The coefficients of one entry."""
        return [self.emit.vector] * self.frame.target.mode.components

    def load(self, tables: Tables, at: ir.Value) -> list[Real]:
        """The coefficients, part by part."""
        base = self.base(tables, 2, at)
        found: list[Real] = []
        for k in self.orders:
            value = load_coefficient(self.frame, base, k)
            found += [value.re, value.im] if isinstance(value, Complex) else [value]
        return found

    def load_left(self, tables: Tables, at: ir.Value) -> Any:
        """A constant term, and the coefficients where there are any."""
        constant = self.shared(tables, 0, at)
        if not self.left_has_lanes:
            return [constant]
        base = self.base(tables, 0, at)
        return [constant] + [load_coefficient(self.frame, base, k) for k in self.orders]

    def load_right(self, tables: Tables, at: ir.Value) -> Any:
        """The coefficients, and the constant term where the left operand has lanes."""
        base = self.base(tables, 1, at)
        coefficients = [load_coefficient(self.frame, base, k) for k in self.orders]
        return [self.shared(tables, 1, at) if self.left_has_lanes else None, *coefficients]

    @property
    def orders(self) -> range:
        """1..order."""
        return range(1, self.frame.target.mode.order + 1)

    def multiply_add(self, total: list[Real], left: Any, right: Any) -> list[Real]:
        """The truncated Cauchy product, every multiply-add fused."""
        found = list(total)
        if self.frame.target.mode.complex:
            for k in self.orders:
                terms = [
                    (left[j], right[k - j])
                    for j in range(0, k + 1)
                    if j < len(left) and (k - j or len(left) > 1)
                ]
                for x, y in terms:
                    self.complex_add(found, k, x, y)
        else:
            for k in self.orders:
                for j in range(0, min(k, len(left) - 1) + 1):
                    found[k - 1] = fused(self.emit, left[j], right[k - j], found[k - 1])
        return found

    def complex_add(self, found: list[Real], k: int, x: Any, y: Any) -> None:
        """Add x * y to coefficient k, kept as two reals."""
        re, im = 2 * k - 2, 2 * k - 1
        if isinstance(x, Complex) and isinstance(y, Complex):
            found[re] = fused(self.emit, x.re, y.re, found[re])
            found[im] = fused(self.emit, x.re, y.im, found[im])
            found[re] = fused(self.emit, -x.im, y.im, found[re])
            found[im] = fused(self.emit, x.im, y.re, found[im])
            return
        number, pair = (x, y) if isinstance(y, Complex) else (y, x)
        found[re] = fused(self.emit, number, pair.re, found[re])
        found[im] = fused(self.emit, number, pair.im, found[im])

    def store(self, tables: Tables, total: list[Real], at: ir.Value) -> None:
        """Put the coefficients."""
        base = self.base(tables, 2, at)
        for k in self.orders:
            value: Any = (
                Complex(total[2 * k - 2], total[2 * k - 1])
                if self.frame.target.mode.complex
                else total[k - 1]
            )
            store_coefficient(self.frame, value, base, k)


__all__ = ["ZERO", "LaneRing", "SeriesRing", "Tables", "emit_contract", "fused"]
