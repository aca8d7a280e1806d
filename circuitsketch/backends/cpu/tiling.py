"""Choose the tiles of contractions by the registers, and the blocks of the summed axis by the first-level cache.

A tile of the result is summed in registers while k runs, and what it reads along a block of k stays in the cache for
the next rows. The sizes are heuristics, with the measurements behind them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CACHE = 48 << 10  # bytes of a first-level cache; one half as large still keeps the columns
ACCUMULATORS = 24  # for a number times a series, with 32 vector registers
# Rows and columns of a tile for two series with 32 vector registers: by reals per coefficient, then by order from 1 on.
SERIES_TILES = {
    1: ((4, 4), (3, 3), (2, 3), (2, 2), (1, 3), (1, 2)),
    2: ((4, 3), (2, 2), (1, 3), (1, 2), (1, 2), (1, 1)),
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of the result that is summed in registers; parts : the coefficients to sum at a time."""

    rows: int
    columns: int
    parts: tuple[range, ...] = (range(1),)

    def with_columns(self, width: int) -> Tile:
        """Return the tile for `width` remaining columns.

        For one column, a tile of one row gets as many rows as it had columns, so that as many sums are independent.
        Seen on AVX2 with real series of order 3 through (7, 16, 64): 18.4 instead of 16.6 G multiply-adds per second,
        of at most 21.7.
        """
        return replace(self, rows=self.columns if self.rows == width == 1 else self.rows, columns=width)

    def with_rows(self, height: int) -> Tile:
        """Return the tile for `height` remaining rows."""
        return replace(self, rows=height)

    def join_parts(self, full: Tile) -> Tile:
        """Return the tile with several coefficients at a time if it is smaller than a full one, which fills registers.

        The sums of a single one would wait for each other. Up to half more than in a full tile fit. Seen on AVX2 with
        complex series of order 3, as a share of the peak: (7, 64, 16), .84 to .90; (9, 64, 16), .86 to .89.
        """
        count = 3 * full.rows * full.columns // (2 * self.rows * self.columns)
        if len(self.parts) == 1 or count < 2:
            return self
        every = [k for part in self.parts for k in part]
        groups = [every[i : i + count] for i in range(0, len(every), count)]
        return replace(self, parts=tuple(range(group[0], group[-1] + 1) for group in groups))


def choose_series_tile(registers: int, per: int, order: int, both: bool) -> Tile:
    """Return the tile for series of `order` coefficients of `per` reals each; both : both operands are series.

    With 32 registers, a number times a series has room for 24 accumulators and the factors; two series for 12 to 20, at
    order 1 for up to 24 (see SERIES_TILES); more spill. Seen on AVX-512, in G multiply-adds per second of a peak of
    44.6: at order 3, 1 x 3 complex elements 43, 1 x 4 27; 2 x 3 real ones 42, 1 x 8 33; at order 4, 1 x 2 complex ones
    44, 1 x 3 30.

    With 16 registers, 8 or 9 accumulators fit, so that most elements are summed one coefficient at a time, which also
    loads each coefficient only where it is used. Seen on AVX2 at order 3, as a share of the peak: 2 x 2 elements, one
    coefficient at a time .80, 1 x 2 with all coefficients .68, the tile for 32 registers .50; real series, 1 x 3 with
    all coefficients .81, 3 x 3 one at a time .57; a number times a series, 4 x 1 one at a time .63, 2 x 1 with all .58.
    """
    every = (range(1, order + 1),)
    single = tuple(range(k, k + 1) for k in range(1, order + 1))
    if registers < 16:
        return Tile(1, 1, single)
    if registers < 32:
        if not both:
            return Tile(4, 1, single)
        if per == 2:
            return Tile(2, 2, single)
        shapes = {1: (3, 3), 2: (2, 2), 3: (1, 3), 4: (1, 2)}
        return Tile(*shapes[order], every) if order in shapes else Tile(2, 4, single)
    if not both:
        return Tile(max(min(ACCUMULATORS // (per * order), 8), 1), 1, every)
    return Tile(*SERIES_TILES[per][min(order, len(SERIES_TILES[per])) - 1], every)


def choose_summed_block(entry: int, tile: Tile, left_has_lanes: bool) -> int:
    """Return how much of the summed axis a tile reads from half of a first-level cache; entry : bytes per element."""
    return max(CACHE // 2 // (entry * (tile.rows * left_has_lanes + tile.columns)), 4)
