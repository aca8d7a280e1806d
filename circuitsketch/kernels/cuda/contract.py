"""Contractions as device functions: result[batch, row, column] = sum_k left[batch, row, k] * right[batch, k, column].

A thread has one lane of a tile of the result: its accumulators stay in registers while k runs, so that what it loads is
used more than once. Neighbouring threads have neighbouring lanes, then neighbouring tiles of a row, so what a warp loads
of the left operand is mostly the same. Where entries lie is looked up in tables, as on the CPU; a tile that hangs over
the edge computes the last row or column again and does not store it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from circuitsketch.kernels.cpu.chain import Coefficients
from circuitsketch.kernels.cpu.values import ZERO, Complex
from circuitsketch.kernels.cuda.chain import at, coefficient, components
from circuitsketch.kernels.cuda.frame import CudaTarget, function, indented, lane_loop
from circuitsketch.kernels.cuda.source import Page
from circuitsketch.lower.tape import ContractKernel

REGISTERS = 24  # accumulators in double precision that fit beside what is multiplied in 128 registers, without spills
TABLES = ("left_batch", "left_row", "left_k", "right_batch", "right_k", "right_column", "batch", "row", "column")


@dataclass(frozen=True, slots=True)
class Tile:
    """The rows and columns of the result that a thread has."""

    rows: int
    columns: int

    def count(self, rows: int, columns: int) -> int:
        """Tiles that cover a result."""
        return -(-rows // self.rows) * -(-columns // self.columns)


def tiles(kernel: ContractKernel, target: CudaTarget) -> list[Tile]:
    """The tiles for a contraction, largest first: what the registers hold, and one entry, for small results."""
    if target.mode.values:
        return [Tile(4, 4), Tile(1, 1)]
    fit = max(REGISTERS // target.mode.components, 1)
    if not kernel.left:  # the left operand is one number: many rows share what is loaded of the right one
        large = Tile(min(fit, 8), 1)
    else:
        large = Tile(2, 4) if fit >= 8 else Tile(1, min(fit, 4))
    return [large, Tile(1, 1)] if large != Tile(1, 1) else [large]


def chosen_tile(kernel: ContractKernel, target: CudaTarget, args: tuple[int, ...]) -> Tile:
    """The largest tile that still has work for all threads; a heuristic, to be measured on a device."""
    batches, rows, columns = args[6:9]
    options = tiles(kernel, target)
    for tile in options:
        if batches * tile.count(rows, columns) * target.width >= target.threads:
            return tile
    return options[-1]


def contract_function(name: str, kernel: ContractKernel, tile: Tile, target: CudaTarget) -> str:
    """The device function of a contraction for one tile."""
    lengths = ["batches", "rows", "summed", "batches", "summed", "columns", "batches", "rows"]
    head = ["batches, rows = args[at + 6], args[at + 7]", "columns, summed = args[at + 8], args[at + 9]"]
    head.append("left_batch = at + 10")
    for before, table, length in zip(TABLES, TABLES[1:], lengths, strict=False):
        head.append(f"{named(table)} = {named(before)} + {length}")
    head.append(f"across = {tiles_across('columns', tile.columns)}")
    head.append(f"down = {tiles_across('rows', tile.rows)}")
    head += ["left_constant = address(args[at], now)", "right_constant = address(args[at + 2], now)"]
    head.append("left_lanes, right_lanes, result_lanes = args[at + 1], args[at + 3], args[at + 5]")
    body = Contraction(kernel, tile, target).body()
    says = f"{'lanes' if kernel.left else 'constants'} times lanes, a tile of {tile.rows} x {tile.columns}"
    return function(name, says, [*head, *lane_loop(target, "batches * down * across", body)])


def named(table: str) -> str:
    """The result's tables by a longer name."""
    return table if "_" in table else f"result_{table}"


def tiles_across(extent: str, size: int) -> str:
    """How many tiles cover an extent."""
    return extent if size == 1 else f"({extent} + {size - 1}) // {size}"


class Contraction:
    """The body of a contraction's loop under construction."""

    def __init__(self, kernel: ContractKernel, tile: Tile, target: CudaTarget) -> None:
        self.kernel = kernel
        self.tile = tile
        self.target = target
        self.page = Page(target)
        values = target.mode.values
        self.parts = [""] if values else self.part_names()

    def part_names(self) -> list[str]:
        """How an entry's numbers are called, in the order in which they lie in memory."""
        suffixes = "ri" if self.target.mode.complex else [""]
        return [f"_{k}{s}" for k in range(1, self.target.mode.order + 1) for s in suffixes]

    def body(self) -> list[str]:
        """Where the tile lies, the loop over k, the stores."""
        rows, columns = range(self.tile.rows), range(self.tile.columns)
        lines = ["column0 = entry % across" + times(self.tile.columns), "entry //= across"]
        lines += ["row0 = entry % down" + times(self.tile.rows), "batch = entry // down"]
        lines += [f"row{i} = min(row0 + {i}, rows - 1)" for i in rows if i]
        lines += [f"column{j} = min(column0 + {j}, columns - 1)" for j in columns if j]
        lines += [f"left{i} = args[left_batch + batch] + args[left_row + row{i}]" for i in rows]
        lines += [f"right{j} = args[right_batch + batch] + args[right_column + column{j}]" for j in columns]
        zero = "real(0.0)" if self.target.single else "0.0"
        lines += [f"{total} = {zero}" for i in rows for j in columns for total in self.totals(i, j)]
        lines += ["for k in range(summed):", *indented(self.terms())]
        for i in rows:
            for j in columns:
                lines += self.stores(i, j)
        return lines

    def totals(self, i: int, j: int) -> list[str]:
        """The accumulators of an entry."""
        return [f"t{i}{j}{part}" for part in self.parts]

    def terms(self) -> list[str]:
        """One k: load a column of the left operand and a row of the right one, add their products."""
        lines = ["left_step = args[left_k + k]", "right_step = args[right_k + k]"]
        lefts = [self.operand("left", i, self.kernel.left, lines) for i in range(self.tile.rows)]
        rights = [self.operand("right", j, True, lines) for j in range(self.tile.columns)]
        totals, sums = [], []
        for i, left in enumerate(lefts):
            for j, right in enumerate(rights):
                names = self.totals(i, j)
                totals += names
                sums += self.added([self.page.text(name) for name in names], left, right)
        computed, shown = self.page.written(sums)
        return [*lines, *computed, *(f"{total} = {text}" for total, text in zip(totals, shown, strict=True))]

    def operand(self, side: str, i: int, lanes: bool, lines: list[str]) -> Any:
        """A series, or a value, of one of the operands."""
        element, name = f"e{side[0]}{i}", f"{side[0]}{i}"
        lines.append(f"{element} = {side}{i} + {side}_step")
        constant = None
        if not self.target.mode.values or not lanes:
            constant = self.page.text(f"constants[{side}_constant + {element}]", f"{name}_0")
        if lanes:
            lines.append(f"x{name} = ({side}_lanes + {element}) * {self.target.unit} + lane")
        if self.target.mode.values:
            return constant or self.page.text(f"lanes[x{name}]", name)
        needed = side == "left" or self.kernel.left  # beside a left operand of one number no constant term counts
        series = Coefficients(constant if needed else ZERO, self.target.mode.order)
        for k in range(1, self.target.mode.order + 1) if lanes else ():
            series[k] = coefficient(self.target, "lanes", f"x{name}", k, name, self.page)
        return series

    def added(self, totals: list[Any], left: Any, right: Any) -> list[Any]:
        """Accumulators plus left times right, term by term, so that every product is a fused multiply-add."""
        if self.target.mode.values:
            return [totals[0] + left * right]
        found = Coefficients(None, self.target.mode.order)
        per = 2 if self.target.mode.complex else 1
        for k in range(1, self.target.mode.order + 1):
            mine = totals[(k - 1) * per : k * per]
            for j in range(k + 1):
                mine = accumulated(mine, left[j], right[k - j])
            found[k] = Complex(*mine) if per == 2 else mine[0]
        return components(self.target, found)

    def stores(self, i: int, j: int) -> list[str]:
        """Put an entry of the result, if it is inside."""
        lines = [f"x = result_lanes + args[result_batch + batch] + args[result_row + row{i}] + args[result_column + column{j}]"]
        lines.append(f"x = x * {self.target.unit} + lane")
        lines += [f"{at('lanes', 'x', n * self.target.width)} = {t}" for n, t in enumerate(self.totals(i, j))]
        inside = [f"row0 + {i} < rows"] * (i > 0) + [f"column0 + {j} < columns"] * (j > 0)
        return [f"if {' and '.join(inside)}:", *indented(lines)] if inside else lines


def accumulated(totals: list[Any], x: Any, y: Any) -> list[Any]:
    """totals + x * y, the real and the imaginary part apart."""
    if x is ZERO or y is ZERO:
        return totals
    if isinstance(x, Complex) and isinstance(y, Complex):
        re, im = totals
        return [re + x.re * y.re - x.im * y.im, im + x.re * y.im + x.im * y.re]
    if len(totals) == 1:
        return [totals[0] + x * y]
    number, pair = (x, y) if isinstance(y, Complex) else (y, x)
    return [totals[0] + number * pair.re, totals[1] + number * pair.im]


def times(size: int) -> str:
    """A tile's number as the number of its first row or column."""
    return f" * {size}" if size > 1 else ""


__all__ = ["Tile", "chosen_tile", "contract_function", "tiles"]
