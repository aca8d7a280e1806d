"""The step loop: a small compiled loop over steps, lane blocks and instructions, which runs linked tapes.

In: the tapes of an `Executable` as integers, the first state, the data of each step, and directions. Out: the state's
lane blocks after the last step. Lane blocks do not depend on each other, so results do not depend on the number of
threads.

The loops are written for Numba, with pointers in place of arrays: their machine code can then be cached like that of
kernels, and a call does not need the half second in which Numba prepares its types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from circuitsketch.backends.contract import CACHE_LINE, Phases
from circuitsketch.backends.linking import ProgramRow

HUGE = 2 << 20  # bytes of a huge page
PROGRAM_ROW = len(ProgramRow._fields)  # numbers in a row of `programs`
# The position of each field in a row, and the phases, as constants for Numba.
AT = ProgramRow(*range(PROGRAM_ROW))
CONSTANT_FIRST, CONSTANT_LAST, LANE_FIRST, LANE_LAST, CARRIED_CONSTANT_LAST, CARRIED_LANE_LAST, CONSTANTS_USED = AT
CONSTANT, LANE, CARRY = int(Phases.CONSTANT), int(Phases.LANE), int(Phases.CARRY)
INTS, DOUBLES = types.CPointer(types.int64), types.CPointer(types.float64)


@intrinsic
def invoke(context, address, constants, shared, lanes, args):  # type: ignore[no-untyped-def]
    """Call the kernel at an address with the addresses of arenas and arguments."""
    signature = types.void(*[types.int64] * 5)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def address_of(context, pointer):  # type: ignore[no-untyped-def]
    """Return the address of a pointer."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return types.int64(pointer), generate


@njit
def execute(tape, args, first, last, constants, shared, lanes):  # type: ignore[no-untyped-def]
    """Execute instructions first..last: row i of `tape` is a kernel's address and the position of its arguments."""
    for i in range(first, last):
        invoke(tape[2 * i], constants, shared, lanes, args + 8 * tape[2 * i + 1])


def run_steps(  # type: ignore[no-untyped-def]
    tape, args, programs, first_step, last_step, step_program, data, data_start, data_slot, ids, ids_start, keep_slot,
    at, directions, first_steps, constants, shared, lanes, groups, row, examples, parts, components, width, values,
    mirror, finite_count, phases, record, record_start, record_last, lane_record, lane_rows, lane_numbers, lanes_to,
    total_slot, total_ids, total_start, totals, lane_totals, total_count,
):  # fmt: skip
    """Run the program of every step from `first_step` to `last_step` (excluded).

    args : the address of the instructions' arguments.
    programs : a `ProgramRow` per program.
    data, data_start, data_slot : what steps read, packed, and its place in the constant arena.
    ids, ids_start, keep_slot : the examples of a step, and the place of their weights (constant element, lane element).
    lanes : `groups` lane blocks of `row` numbers; they share the constant phase of every step.
    first_steps : the first step of each block's lanes; until then, they are left as they are.
    at, directions : the expansion point w (examples,), and directions or downweights (groups, examples, parts, width).
    values : whether lanes hold values; `directions` are then downweights.
    mirror : whether to copy the constants to the lanes' precision.
    phases : see `Phases`.
    record, record_start : the inputs of step t are written to row record_last - 1 - t (record_last 0: nowhere).
    lane_record : (groups, lane_rows, lane_numbers), the lanes of the state that go with them. They are written too, or,
        where lanes_to >= 0, row t is read before step t, to this number of a lane block on.
    total_slot : three numbers per program: where the entries of an output lie (constant element and lane element, -1:
        nowhere) and their distance. They are added to the totals of total_ids, of which step t has those from
        total_start[t] on: totals (total_count,), lane_totals (groups, total_count, components, width).
    Return the step after which one of the first `finite_count` constants (the state) was not finite, or -1.
    """
    c, r, s, number = address_of(constants), address_of(shared), address_of(lanes), 4 if mirror else 8
    for t in range(first_step, last_step):
        p = step_program[t]
        program = PROGRAM_ROW * p
        if phases & CONSTANT:
            begin, into = data_start[t], data_slot[p]
            for i in range(data_start[t + 1] - begin):
                constants[into + i] = data[begin + i]
            for i in range(ids_start[t], ids_start[t + 1]):
                constants[keep_slot[2 * p] + i - ids_start[t]] = 1.0 - at[ids[i]]
            if record_last:
                begin = record_start[record_last - 1 - t]
                for i in range(keep_slot[2 * p] + ids_start[t + 1] - ids_start[t]):
                    record[begin + i] = constants[i]
            execute(tape, args, programs[program + CONSTANT_FIRST], programs[program + CONSTANT_LAST], c, r, s)
            if total_count and total_slot[3 * p] >= 0:
                for i in range(total_start[t], total_start[t + 1]):
                    entry = total_slot[3 * p] + (i - total_start[t]) * total_slot[3 * p + 2]
                    totals[total_ids[i]] += constants[entry]
        if phases & LANE and components and mirror:
            for i in range(programs[program + CONSTANTS_USED]):
                shared[i] = constants[i]
        for g in range(groups if phases & LANE and components else 0):
            if lane_numbers and lanes_to < 0:
                begin = (g * lane_rows + record_last - 1 - t) * lane_numbers
                for q in range(lane_numbers):
                    lane_record[begin + q] = lanes[g * row + q]
            if t < first_steps[g]:
                continue
            if lane_numbers and lanes_to >= 0:
                begin = (g * lane_rows + t) * lane_numbers
                for q in range(lane_numbers):
                    lanes[g * row + lanes_to + q] = lane_record[begin + q]
            for i in range(ids_start[t], ids_start[t + 1]):
                weights = g * row + (keep_slot[2 * p + 1] + i - ids_start[t]) * components * width
                for q in range(components * width):
                    lanes[weights + q] = 0.0
                direction = (g * examples + ids[i]) * parts * width
                for q in range(parts * width):
                    lanes[weights + q] = (1.0 if values else 0.0) - directions[direction + q]
            at_block = s + g * row * number
            execute(tape, args, programs[program + LANE_FIRST], programs[program + LANE_LAST], c, r, at_block)
            if total_count and total_slot[3 * p + 1] >= 0:
                for i in range(total_start[t], total_start[t + 1]):
                    entry = total_slot[3 * p + 1] + (i - total_start[t]) * total_slot[3 * p + 2]
                    into = (g * total_count + total_ids[i]) * components * width
                    for q in range(components * width):
                        lane_totals[into + q] += lanes[g * row + entry * components * width + q]
            if phases & CARRY:
                execute(
                    tape,
                    args,
                    programs[program + CARRIED_CONSTANT_LAST],
                    programs[program + CARRIED_LANE_LAST],
                    c,
                    r,
                    at_block,
                )
        if phases & CARRY:
            execute(tape, args, programs[program + LANE_LAST], programs[program + CARRIED_CONSTANT_LAST], c, r, s)
            not_finite = 0  # counted without a branch, so that the loop runs on vectors
            for i in range(finite_count):
                not_finite += constants[i] - constants[i] != 0.0  # infinities and NaNs: NaN
            if not_finite:
                return t
    return -1


def repeat(tape, args, instruction, times, constants, shared, lanes):  # type: ignore[no-untyped-def]
    """Execute one instruction several times, for profiles."""
    for _ in range(times):
        execute(tape, args, instruction, instruction + 1, constants, shared, lanes)


def make_steps_signature(single: bool) -> Any:
    """Return the types of the arguments of `run_steps`, for lanes of a precision."""
    reals = types.CPointer(types.float32) if single else DOUBLES
    schedule = [INTS, DOUBLES, INTS, INTS, INTS, INTS, INTS]
    arenas = [DOUBLES, DOUBLES, INTS, DOUBLES, reals, reals]
    numbers = [types.int64] * 10
    record = [DOUBLES, INTS, types.int64, reals, types.int64, types.int64, types.int64]
    totals = [INTS, INTS, INTS, DOUBLES, DOUBLES, types.int64]
    return types.int64(
        INTS, types.int64, INTS, types.int64, types.int64, *schedule, *arenas, *numbers, *record, *totals
    )


REPEAT_SIGNATURE = types.void(INTS, *[types.int64] * 6)


def allocate_aligned(count: int, dtype: Any) -> np.ndarray:
    """Return zeros aligned to a cache line or, if there are enough of them, to a huge page.

    From 4 MB on, NumPy asks for huge pages, each of which saves the translation of 512 addresses.
    """
    size = count * np.dtype(dtype).itemsize
    step = HUGE if size >= HUGE else CACHE_LINE
    raw = np.zeros(size + step, dtype=np.uint8)
    offset = -raw.ctypes.data % step
    return raw[offset : offset + size].view(dtype)
