"""How large a tile of a contraction is: what a thread's registers hold, as long as there is work for all threads."""

from __future__ import annotations

from dataclasses import dataclass

from circuitsketch.backends.cuda.kernel_builder import CudaTarget
from circuitsketch.lower.instructions import ContractKernel
from circuitsketch.lower.packing import ContractArguments

REGISTERS = 24  # accumulators that fit in 128 registers beside what is multiplied, in double precision, without spills


@dataclass(frozen=True, slots=True)
class Tile:
    """The rows and columns of the result that a thread has."""

    rows: int
    columns: int

    def count(self, rows: int, columns: int) -> int:
        """Tiles that cover a result."""
        return -(-rows // self.rows) * -(-columns // self.columns)


def list_tiles(kernel: ContractKernel, target: CudaTarget) -> list[Tile]:
    """The tiles for a contraction, largest first: what the registers hold, and one entry, for small results."""
    if target.mode.values:
        return [Tile(4, 4), Tile(1, 1)]
    fit = max(REGISTERS // target.mode.components, 1)
    if not kernel.left:  # the left operand is one number: many rows share what is loaded of the right one
        large = Tile(min(fit, 8), 1)
    else:
        large = Tile(2, 4) if fit >= 8 else Tile(1, min(fit, 4))
    return [large, Tile(1, 1)] if large != Tile(1, 1) else [large]


def choose_tile(kernel: ContractKernel, target: CudaTarget, arguments: ContractArguments) -> Tile:
    """The largest tile that still has work for all threads; a heuristic, to be measured on a device."""
    batches, rows, columns, _ = arguments.extents
    options = list_tiles(kernel, target)
    for tile in options:
        if batches * tile.count(rows, columns) * target.width >= target.threads:
            return tile
    return options[-1]
