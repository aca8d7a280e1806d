"""How large a tile of a contraction is: what a thread's registers hold, as long as there is work for all threads."""

from __future__ import annotations

from dataclasses import dataclass

from circuitsketch.backends.cuda.kernel_builder import CudaTarget
from circuitsketch.lower.instructions import ContractKernel
from circuitsketch.lower.packing import ContractArguments

REGISTERS = 24  # accumulators in double precision that fit into 128 registers with the factors, without spills


@dataclass(frozen=True, slots=True)
class Tile:
    """The rows and columns of the result that a thread sums."""

    rows: int
    columns: int

    def count(self, rows: int, columns: int) -> int:
        """Return the number of tiles that cover a result."""
        return -(-rows // self.rows) * -(-columns // self.columns)


def list_tiles(kernel: ContractKernel, target: CudaTarget) -> list[Tile]:
    """Return the tiles for a contraction, largest first: as many elements as registers hold, or one."""
    if target.mode.values:
        return [Tile(4, 4), Tile(1, 1)]
    fit = max(REGISTERS // target.mode.components, 1)
    if not kernel.left:  # the left operand is one number: many rows share what is loaded of the right one
        large = Tile(min(fit, 8), 1)
    else:
        large = Tile(2, 4) if fit >= 8 else Tile(1, min(fit, 4))
    return [large, Tile(1, 1)] if large != Tile(1, 1) else [large]


def choose_tile(kernel: ContractKernel, target: CudaTarget, arguments: ContractArguments) -> Tile:
    """Return the largest tile that leaves work for all threads; a heuristic."""
    batches, rows, columns, _ = arguments.extents
    options = list_tiles(kernel, target)
    for tile in options:
        if batches * tile.count(rows, columns) * target.width >= target.threads:
            return tile
    return options[-1]
