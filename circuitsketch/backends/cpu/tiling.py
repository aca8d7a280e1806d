"""How large a tile of a contraction is: what registers and the first-level cache hold.

Part of a result is summed up in registers while k runs, and what its tiles read along k stays in the cache while the
rows pass by. The sizes are heuristics, with what was seen when they were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CACHE = 48 << 10  # bytes of a first-level cache; half as large a one still keeps the columns
ACCUMULATORS = 24  # of a number times series, in 32 vector registers
# Rows and columns of a tile of two series in 32 vector registers, by reals a coefficient and by order, from 1 on.
SERIES_TILES = {
    1: ((4, 4), (3, 3), (2, 3), (2, 2), (1, 3), (1, 2)),
    2: ((4, 3), (2, 2), (1, 3), (1, 2), (1, 2), (1, 1)),
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of the result that is summed up in registers; where an entry holds more than they do, part by part."""

    rows: int
    columns: int
    parts: tuple[range, ...] = (range(1),)

    def with_columns(self, width: int) -> Tile:
        """The tile for columns left over: where a tile is one row high, one column takes as many rows as it had
        columns, so that as many sums run side by side (AVX2, real series of order 3 through (7, 16, 64): 16.6 to 18.4 G
        multiply-adds a second, of 21.7 at most)."""
        return replace(self, rows=self.columns if self.rows == width == 1 else self.rows, columns=width)


def choose_series_tile(registers: int, per: int, order: int, both: bool) -> Tile:
    """The tile for series of `order` coefficients of `per` reals, `both` operands or only the right one having them.

    With 32 registers a number times a series has room for 24 accumulators and what is multiplied; two series have 12
    to 20, at order 1 up to 24 (see WHOLE), and with more of them spill. Seen on AVX-512, G multiply-adds a second of
    44.6: order 3, 1 x 3 complex entries 43, 1 x 4 27; 2 x 3 real ones 42, 1 x 8 33; order 4, 1 x 2 complex ones 44,
    1 x 3 30.

    With 16 registers that is 8 or 9, and more spill: so an entry is summed up coefficient by coefficient, which also
    loads each coefficient just where it is used. Seen on AVX2 at order 3, multiply-adds over the peak: 2 x 2 entries,
    one coefficient at a time .80, 1 x 2 entries whole .68, the tile for 32 registers .50; real series, 1 x 3 entries
    whole .81, 3 x 3 one coefficient at a time .57; a number times a series, 4 x 1 entries, one coefficient at a time
    .63, 2 x 1 whole .58.
    """
    whole = (range(1, order + 1),)
    single = tuple(range(k, k + 1) for k in range(1, order + 1))
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
        return Tile(max(min(ACCUMULATORS // (per * order), 8), 1), 1, whole)
    return Tile(*SERIES_TILES[per][min(order, len(SERIES_TILES[per])) - 1], whole)


def choose_summed_block(entry: int, tile: Tile, left_has_lanes: bool) -> int:
    """How many entries of so many bytes, along the summed axis, a tile reads in half of a first-level cache."""
    return max(CACHE // 2 // (entry * (tile.rows * left_has_lanes + tile.columns)), 4)
