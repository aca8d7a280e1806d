"""Series of high order: the loops over coefficients become loops of the kernel, and series live in memory.

A chain advances all its gates together, coefficient by coefficient: coefficient k of every gate needs lower ones only.
A contraction adds up truncated Cauchy products, four coefficients of the result at a time, from the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from circuitsketch.gates import GATES
from circuitsketch.kernels.cpu.chain import Access
from circuitsketch.kernels.cpu.contract import LaneRing, Tables, Tile, fused
from circuitsketch.kernels.cpu.frame import Frame
from circuitsketch.kernels.cpu.values import INT, ZERO, Complex, MachineMath, Real, Zero
from circuitsketch.lower.tape import ChainKernel

TILE = 4  # coefficients of a product formed together: 8 accumulators, 10 loads for 16 multiply-adds


class Index(Real):
    """A coefficient's number at run time: an integer to address with, and the same as a real to calculate with."""

    __slots__ = ("index",)

    def __init__(self, frame: Frame, index: ir.Value) -> None:
        super().__init__(frame.emit, frame.builder.sitofp(index, frame.element))
        self.index = index


class LongSeries:
    """A series in memory: entry 0 a number, entries k >= 1 at `base` of `pointer`; without a pointer, constant."""

    def __init__(
        self, frame: Frame, constant: Any, pointer: ir.Value | None, base: ir.Value | None = None
    ) -> None:
        self.frame = frame
        self.constant = constant
        self.pointer = pointer
        self.base = base if base is not None else frame.const(0)

    @property
    def per(self) -> int:
        """Reals a coefficient."""
        return 2 if self.frame.target.mode.complex else 1

    def place(self, k: ir.Value, part: int) -> ir.Value:
        """Where a part of coefficient k stands."""
        b, width = self.frame.builder, self.frame.target.width
        first = b.mul(b.sub(k, self.frame.const(1)), self.frame.const(self.per * width))
        return b.add(self.base, b.add(first, self.frame.const(part * width)))

    def at(self, k: ir.Value) -> Real | Complex | Zero:
        """Coefficient k >= 1."""
        if self.pointer is None:
            return ZERO
        kind = self.frame.emit.vector
        values = [self.frame.load(self.pointer, self.place(k, part), kind) for part in range(self.per)]
        return Complex(*values) if self.per == 2 else values[0]

    def put(self, k: ir.Value, value: Any) -> None:
        """Store coefficient k >= 1."""
        assert self.pointer is not None
        parts = (value.re, value.im) if isinstance(value, Complex) else (value, ZERO)
        for part in range(self.per):
            number = parts[part]
            if isinstance(number, Zero):
                number = self.frame.emit.number(0.0)
            if not number.is_vector:
                number = Real(self.frame.emit, self.frame.emit.splat(number.value))
            self.frame.store(number, self.pointer, self.place(k, part))

    def __getitem__(self, k: Any) -> Any:
        return self.constant if isinstance(k, int) else self.at(k.index)

    def __setitem__(self, k: Any, value: Any) -> None:
        if self.pointer is not None:
            self.put(k.index, value)


class LoopSeries:
    """The arithmetic of Taylor rules with the sums over j as loops."""

    zero = ZERO

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.choose = MachineMath(frame.emit).choose

    def convolve(
        self,
        k: Index,
        u: LongSeries,
        v: LongSeries,
        weight: Callable[[Any], Any] | None = None,
        low: int = 0,
        high: int = 0,
    ) -> Any:
        """sum_{j=low..k-high} weight(j) u_j v_{k-j}: the ends apart, since coefficient 0 is, and a loop between."""
        total: Any = ZERO
        if low == 0:
            total = total + scaled(v[k] * u[0], weight, 0.0)
        if high == 0:
            total = total + scaled(u[k] * v[0], weight, k)
        if u.pointer is None or v.pointer is None:
            return total
        b, one = self.frame.builder, self.frame.const(1)
        if u is not v or weight is not None:
            return total + self.between(k, u, v, weight, b.sub(k.index, one))
        # A square: its mirrored products are formed once, and the middle one, if there is one, is half a pair.
        half = b.sdiv(b.sub(k.index, one), self.frame.const(2))
        middle = b.sdiv(b.add(k.index, one), self.frame.const(2))
        even = Real(
            self.frame.emit,
            b.uitofp(b.icmp_signed("==", b.mul(middle, self.frame.const(2)), k.index), self.frame.element),
        )
        at = u.at(middle)
        return total + self.between(k, u, v, None, half) * 2.0 + at * at * even

    def between(
        self, k: Index, u: LongSeries, v: LongSeries, weight: Callable[[Any], Any] | None, count: ir.Value
    ) -> Any:
        """sum_{j=1..count}, by pairs of terms with sums of their own, so that no addition waits for the one before."""
        frame, b = self.frame, self.frame.builder
        one = frame.const(1)
        pairs = b.mul(b.sdiv(count, frame.const(2)), frame.const(2))
        kind = frame.emit.vector
        parts = 4 if u.per == 2 else 1
        sums = [self.cell(kind) for _ in range(2 * parts)]

        def add(j: ir.Value, into: list[ir.Value]) -> None:
            x, y = u.at(j), v.at(b.sub(k.index, j))
            if weight is not None:
                x = x * weight(Index(frame, j))  # type: ignore[operator]
            if isinstance(x, Complex) and isinstance(y, Complex):
                terms = [(x.re, y.re), (-x.im, y.im), (x.re, y.im), (x.im, y.re)]
            else:
                terms = [(x, y)]  # type: ignore[list-item]
            for cell, (left, right) in zip(into, terms, strict=True):
                old = Real(frame.emit, b.load(cell))
                b.store(fused(frame.emit, left, right, old).value, cell)

        with frame.loop(b.add(pairs, one), start=one, step=2) as j:
            add(j, sums[:parts])
            add(b.add(j, one), sums[parts:])
        with b.if_then(b.icmp_signed("<", pairs, count)):
            add(count, sums[:parts])
        found = [Real(frame.emit, b.load(cell)) for cell in sums]
        if parts == 1:
            return found[0] + found[1]
        return Complex(
            found[0] + found[1] + (found[4] + found[5]), found[2] + found[3] + (found[6] + found[7])
        )

    def cell(self, kind: ir.Type) -> ir.Value:
        """A local variable set to zero, which the compiler turns into a register."""
        with self.frame.builder.goto_entry_block():
            found = self.frame.builder.alloca(kind)
        zero = [0.0] * kind.count if isinstance(kind, ir.VectorType) else 0.0
        self.frame.builder.store(ir.Constant(kind, zero), found)
        return found


def scaled(value: Any, weight: Callable[[Any], Any] | None, j: Any) -> Any:
    """weight(j) * value."""
    return value if weight is None or isinstance(value, Zero) else value * weight(j)


def long_chain(frame: Frame, kernel: ChainKernel, access: Access) -> None:
    """A chain on series of high order: results are formed in local memory and then copied, since a result may take the
    place of an operand of which later coefficients are still needed."""
    length = frame.target.mode.components * frame.target.width
    order = frame.const(frame.target.mode.order)
    b = frame.builder

    def local() -> ir.Value:
        with b.goto_entry_block():
            found = b.alloca(frame.element, size=frame.const(length))
            found.align = 64  # a vector that straddles two cache lines loads at half the speed
            return found

    with frame.nest(access.extents) as indices:
        constants: dict[int, Real] = {}

        def constant(ref: int) -> Real:
            if ref not in constants:
                constants[ref] = frame.load(frame.shared, access.constant_at(ref, indices))
            return constants[ref]

        external = [
            LongSeries(
                frame,
                constant(ref) if operand.constant else None,
                frame.lanes if operand.lanes else None,
                access.lane_at(ref, indices) if operand.lanes else None,
            )
            for ref, operand in enumerate(kernel.operands)
        ]
        computed = [
            LongSeries(frame, constant(gate.value) if gate.value >= 0 else None, local())
            for gate in kernel.gates
        ]
        companions = [
            [LongSeries(frame, constant(ref), local()) for ref in gate.companions] for gate in kernel.gates
        ]
        with frame.loop(b.add(order, frame.const(1)), start=frame.const(1)) as index:
            k = Index(frame, index)
            for i, gate in enumerate(kernel.gates):
                operands = [computed[~ref] if ref < 0 else external[ref] for ref in gate.operands]
                step = GATES[gate.gate].step
                assert step is not None
                step(k, LoopSeries(frame), *operands, computed[i], *companions[i], **dict(gate.params))
        for i, (gate_index, _) in enumerate(kernel.results):
            source = computed[gate_index].pointer
            base = access.lane_at(len(kernel.operands) + i, indices)
            with frame.loop(frame.const(length), step=frame.target.width) as at:
                frame.store(frame.load(source, at, frame.emit.vector), frame.lanes, b.add(base, at))


class LongRing(LaneRing):
    """Contractions of series of high order, entry by entry of the result."""

    def tile(self) -> Tile:
        """One entry at a time: its coefficients are the tile."""
        return Tile(1, 1)

    def summed_block(self, tile: Tile) -> int | None:
        """All of it: one product is work enough for what it loads."""
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
        """One entry of the result, in its place in memory."""
        frame, b = self.frame, self.frame.builder
        entry = b.add(tables.entry(6, batch), b.add(tables.entry(7, row), tables.entry(8, column)))
        result = LongSeries(frame, None, frame.lanes, self.base(tables, 2, entry))
        left_at = b.add(tables.entry(0, batch), tables.entry(1, row))
        right_at = b.add(tables.entry(3, batch), tables.entry(5, column))
        order = frame.const(frame.target.mode.order)
        with frame.loop(b.add(order, frame.const(1)), start=frame.const(1)) as r:
            result.put(r, ZERO)
        with frame.loop(tables.summed) as k:
            left_entry = b.add(left_at, tables.entry(2, k))
            right_entry = b.add(right_at, tables.entry(4, k))
            left_constant, right_constant = (
                frame.load(self.shared(tables, side, at), frame.const(0))
                for side, at in ((0, left_entry), (1, right_entry))
            )
            right_base = self.base(tables, 1, right_entry)
            if not self.left_has_lanes:
                right = LongSeries(frame, None, frame.lanes, right_base)
                with frame.loop(b.add(order, frame.const(1)), start=frame.const(1)) as r:
                    result.put(r, self.plus(result.at(r), left_constant, right.at(r)))
                return
            left = LongSeries(frame, left_constant, frame.lanes, self.base(tables, 0, left_entry))
            right = LongSeries(frame, right_constant, frame.lanes, right_base)
            full = b.mul(b.sdiv(order, frame.const(TILE)), frame.const(TILE))
            with frame.loop(b.add(full, frame.const(1)), start=frame.const(1), step=TILE) as r:
                self.product(result, left, right, r, TILE)
            with frame.loop(b.add(order, frame.const(1)), start=b.add(full, frame.const(1))) as r:
                self.product(result, left, right, r, 1)

    def product(
        self, result: LongSeries, left: LongSeries, right: LongSeries, first: ir.Value, count: int
    ) -> None:
        """Add coefficients first..first+count-1 of left * right to the result."""
        frame, b = self.frame, self.frame.builder
        kind = frame.emit.vector
        numbers = [b.add(first, frame.const(i)) for i in range(count)]
        sums = []
        for r in numbers:
            total: Any = self.plus(result.at(r), left[0], right.at(r))
            sums.append(self.plus(total, right[0], left.at(r)))
        before = b.block
        body, done = b.append_basic_block("j"), b.append_basic_block("corner")
        b.cbranch(b.icmp_signed(">", first, frame.const(1)), body, done)
        b.position_at_end(body)
        j = b.phi(INT)
        j.add_incoming(frame.const(1), before)
        phis = []
        for total in sums:
            pair = []
            for part in (total.re, total.im) if isinstance(total, Complex) else (total,):
                phi = b.phi(kind)
                phi.add_incoming(part.value, before)
                pair.append(phi)
            phis.append(pair)
        running = [self.of([Real(frame.emit, phi) for phi in pair]) for pair in phis]
        x = left.at(j)
        for i, r in enumerate(numbers):
            running[i] = self.plus(running[i], x, right.at(b.sub(r, j)))
        following = b.add(j, frame.const(1))
        j.add_incoming(following, b.block)
        for pair, total in zip(phis, running, strict=True):
            parts = (total.re, total.im) if isinstance(total, Complex) else (total,)
            for phi, part in zip(pair, parts, strict=True):
                phi.add_incoming(part.value, b.block)
        last = b.block
        b.cbranch(b.icmp_signed("<", following, first), body, done)
        b.position_at_end(done)
        final = []
        for total, after in zip(sums, running, strict=True):
            found = []
            ends = zip(
                (total.re, total.im) if isinstance(total, Complex) else (total,),
                (after.re, after.im) if isinstance(after, Complex) else (after,),
                strict=True,
            )
            for skipped, looped in ends:
                phi = b.phi(kind)
                phi.add_incoming(skipped.value, before)
                phi.add_incoming(looped.value, last)
                found.append(Real(frame.emit, phi))
            final.append(self.of(found))
        # The corner: j = first + m meets only coefficients of `right` that exist.
        for m in range(count - 1):
            x = left.at(numbers[m])
            for i in range(m + 1, count):
                final[i] = self.plus(final[i], x, right.at(frame.const(i - m)))
        for r, total in zip(numbers, final, strict=True):
            result.put(r, total)

    @staticmethod
    def of(parts: list[Real]) -> Any:
        """A coefficient from its parts."""
        return Complex(*parts) if len(parts) == 2 else parts[0]

    def plus(self, total: Any, x: Any, y: Any) -> Any:
        """total + x * y, every multiply-add fused; a number may stand for x."""
        if not isinstance(y, Complex):
            return fused(self.emit, x, y, total)
        if isinstance(x, Complex):
            re = fused(self.emit, -x.im, y.im, fused(self.emit, x.re, y.re, total.re))
            im = fused(self.emit, x.im, y.re, fused(self.emit, x.re, y.im, total.im))
            return Complex(re, im)
        return Complex(fused(self.emit, x, y.re, total.re), fused(self.emit, x, y.im, total.im))
