"""Prefetch the right operand's columns of the next tiles while the tiles of this strip are multiplied.

A processor prefetches long runs of addresses by itself, but tiles read short runs of several columns. A burst of
prefetches would occupy the few buffers for cache misses, so a tile prefetches a few lines in each round of its loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from circuitsketch.backends.contract import CACHE_LINE
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.tiling import Tile

SHARING_ROWS = 6  # rows of the result whose tiles share the prefetch; others repeat it, which costs little


@dataclass(frozen=True, slots=True)
class ColumnPrefetch:
    """The next columns of the right operand; step : the offset of element k. unit : reals per element."""

    frame: Frame
    columns: list[ir.Value]
    step: Callable[[ir.Value], ir.Value]
    unit: int

    def emit_start(self, row: ir.Value, tile: Tile) -> Callable[[ir.Value], None]:
        """Emit the choice of a tile's share, a part of one column; return what emits its prefetch for element k."""
        frame, b = self.frame, self.frame.builder
        per_line = CACHE_LINE // (4 if frame.target.single else 8)
        lines = -(-self.unit // per_line)
        tiles = max(SHARING_ROWS // tile.rows, len(self.columns))
        parts = min(tiles // len(self.columns), lines)  # of a column's elements
        count = -(-lines // parts)
        share = b.srem(b.sdiv(row, frame.const(tile.rows)), frame.const(parts * len(self.columns)))
        column = b.sdiv(share, frame.const(parts))
        begin = self.columns[0]
        for i, other in enumerate(self.columns[1:], 1):
            begin = b.select(b.icmp_signed("==", column, frame.const(i)), other, begin)
        first = b.mul(b.srem(share, frame.const(parts)), frame.const(count * per_line))

        def emit_element(k: ir.Value) -> None:
            at = b.add(b.mul(self.step(k), frame.const(self.unit)), first)
            for i in range(count):
                frame.prefetch(b.gep(begin, [b.add(at, frame.const(i * per_line))], inbounds=True))

        return emit_element
