"""Write contractions, result[batch, row, column] = sum_k left[batch, row, k] * right[batch, k, column], as functions.

A thread has one lane of a tile of the result. Its accumulators stay in registers while k runs, so that it uses what it
loads more than once. Adjacent threads have adjacent lanes, then adjacent tiles of a row, so that the threads of a warp
load mostly the same of the left operand; the first-level cache, which is the same memory as the shared one, serves
several warps. The positions of elements are looked up in tables, as on the CPU. A tile across the edge computes the
last row or column again, and does not store it.
"""

from __future__ import annotations

from circuitsketch.backends.cuda.kernel_builder import CudaTarget, indent, write_kernel, write_lane_loop
from circuitsketch.backends.cuda.tiling import Tile
from circuitsketch.lower.instructions import ContractKernel
from circuitsketch.lower.packing import POSITIONS, ContractArguments


def write_head() -> list[str]:
    """Write what unpacks a contraction's arguments: extents, positions of tables, offsets of operands."""
    left, right, _, extents = ContractArguments.unpack_head(POSITIONS)
    lines = [f"{name} = args[at + {position}]" for name, position in extents.items()]
    begin = f"at + {ContractArguments.HEAD}"
    for table, length in ContractArguments.TABLES.items():
        lines.append(f"{table} = {begin}")
        begin = f"{table} + {length}"
    for name, side in (("left", left), ("right", right)):
        lines.append(f"{name}_constant = address(args[at + {side.constant}], now)")
        lines.append(f"{name}_lanes = args[at + {side.lane}]")
    return lines


def write_contraction(name: str, kernel: ContractKernel, tile: Tile, target: CudaTarget) -> str:
    """Write the device function of a contraction for one tile."""
    lines = [
        *write_head(),
        f"across = {count_tiles('columns', tile.columns)}",
        f"down = {count_tiles('rows', tile.rows)}",
    ]
    says = f"{'lanes' if kernel.left else 'constants'} times lanes, a tile of {tile.rows} x {tile.columns}"
    loop = write_lane_loop(target, "batches * down * across", write_tile(kernel, tile, target))
    return write_kernel(name, says, [*lines, *loop])


def count_tiles(extent: str, size: int) -> str:
    """Write how many tiles cover an extent."""
    return extent if size == 1 else f"({extent} + {size - 1}) // {size}"


def write_tile(kernel: ContractKernel, tile: Tile, target: CudaTarget) -> list[str]:
    """Write the position of a tile, the loop over k, and the stores."""
    rows, columns = range(tile.rows), range(tile.columns)
    _, _, result, _ = ContractArguments.unpack_head(POSITIONS)
    lines = [f"column0 = entry % across * {tile.columns}", "entry //= across"]
    lines += [f"row0 = entry % down * {tile.rows}", "batch = entry // down"]
    lines += [f"row{i} = min(row0 + {i}, rows - 1)" for i in rows if i]
    lines += [f"column{j} = min(column0 + {j}, columns - 1)" for j in columns if j]
    lines += [f"left{i} = args[left_batch + batch] + args[left_row + row{i}]" for i in rows]
    lines += [f"right{j} = args[right_batch + batch] + args[right_column + column{j}]" for j in columns]
    lines += [f"t{i}{j} = zeros()" for i in rows for j in columns]
    lines += ["for k in range(summed):", *indent(write_products(kernel, tile, target))]
    for i in rows:
        for j in columns:
            where = f"args[result_batch + batch] + args[result_row + row{i}] + args[result_column + column{j}]"
            stores = [f"x = args[at + {result.lane}] + {where}", f"store(lanes, x * {target.unit} + lane, t{i}{j})"]
            inside = [f"row0 + {i} < rows"] * (i > 0) + [f"column0 + {j} < columns"] * (j > 0)
            lines += [f"if {' and '.join(inside)}:", *indent(stores)] if inside else stores
    return lines


def write_products(kernel: ContractKernel, tile: Tile, target: CudaTarget) -> list[str]:
    """Write the body of the loop over k: load the left operand, then the right one per column, and add the products."""
    lines = ["left_step, right_step = args[index(left_summed + k)], args[index(right_summed + k)]"]
    series = kernel.left and not target.mode.values  # both operands' constant terms count
    for i in range(tile.rows):
        lines += write_loads(target, "left", i, series or not kernel.left, kernel.left)
    for j in range(tile.columns):
        lines += write_loads(target, "right", j, series, True)
        for i in range(tile.rows):
            if not kernel.left:
                lines.append(f"t{i}{j} = add_scaled(t{i}{j}, l{i}_0, r{j})")
            elif series:
                lines.append(f"t{i}{j} = add_product(t{i}{j}, l{i}_0, l{i}, r{j}_0, r{j})")
            else:
                lines.append(f"t{i}{j} = add_product(t{i}{j}, l{i}, r{j})")
    return lines


def write_loads(target: CudaTarget, side: str, i: int, constant: bool, lanes: bool) -> list[str]:
    """Write the load of an element of an operand: its constant term, its series, or both."""
    lines = [f"x = {side}{i} + {side}_step"]
    if constant:
        lines.append(f"{side[0]}{i}_0 = constants[index({side}_constant + x)]")
    if lanes:
        lines.append(f"{side[0]}{i} = series(lanes, ({side}_lanes + x) * {target.unit} + lane)")
    return lines
