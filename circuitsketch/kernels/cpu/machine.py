"""The machine that plays tapes: a small compiled loop over steps, lane blocks and instructions.

In: an `Executable` (tapes of one or many circuits linked into one address space), the state to begin with, what each
step reads, and directions. Out: the state's lane blocks at the end. Lane blocks are independent (a thread takes a few
at a time, which share the work on constant terms), so results do not depend on how many threads there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

ALIGNMENT = 64
INFINITE = 0x7FF0000000000000  # the exponent of infinities and NaNs


@intrinsic
def invoke(context, address, constants, shared, lanes, args):  # type: ignore[no-untyped-def]
    """Call the kernel at an address."""
    signature = types.void(types.int64, types.voidptr, types.voidptr, types.voidptr, types.voidptr)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer] * 4)
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        builder.call(function, arguments[1:])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pointer_at(context, base, offset):  # type: ignore[no-untyped-def]
    """A pointer, from an address and an offset in bytes."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(builder.add(*arguments), ir.IntType(8).as_pointer())

    return types.voidptr(types.int64, types.int64), generate


@njit(nogil=True, cache=True)
def play(tape, args, first, last, constants, shared, lanes):  # type: ignore[no-untyped-def]
    """Execute instructions first..last: row i of `tape` is a kernel's address and where its arguments begin."""
    base = args.ctypes.data
    for i in range(first, last):
        invoke(
            tape[i, 0],
            pointer_at(constants, 0),
            pointer_at(shared, 0),
            pointer_at(lanes, 0),
            pointer_at(base, 8 * tape[i, 1]),
        )


@njit(nogil=True, cache=True)
def run_steps(
    tape, args, programs, first_step, last_step, step_program, data, data_start, data_slot, ids, ids_start, keep_slot,
    at, directions, begins, constants, shared, lanes, components, width, values, mirror, watch_count, stages,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Play a step's program for every step in first_step..last_step.

    programs : rows of instruction numbers (constant first, last; lane first, last; carried constants last; carried
        lanes last), then the constants used.
    data, data_start, data_slot : what steps read, packed, and where it goes in the constant arena.
    ids, ids_start, keep_slot : the examples of a step, and where their weights go (constant element, lane element).
    lanes : one row a lane block; the blocks share the constant phase of every step. begins : the step with which each
        block's lanes begin; before it nothing that they follow has happened, and they stay as they are.
    at, directions : the expansion point w (n,) and directions or downweights (blocks, n, parts, width).
    values : lanes hold values; then `directions` are downweights. mirror : copy the constants for narrower lanes.
    stages : a bit mask: 1 the constant phase, 2 the lane phase, 4 carrying the state to the next step.
    Returns the step after which one of the first `watch_count` constants (the state) was not finite, or -1.
    """
    c, r, s = constants.ctypes.data, shared.ctypes.data, lanes[0].ctypes.data
    bits = constants.view(np.int64)
    groups, parts = lanes.shape[0], directions.shape[2]
    for t in range(first_step, last_step):
        p = step_program[t]
        if stages & 1:
            for i in range(data_start[t], data_start[t + 1]):
                constants[data_slot[p] + i - data_start[t]] = data[i]
            for i in range(ids_start[t], ids_start[t + 1]):
                constants[keep_slot[p, 0] + i - ids_start[t]] = 1.0 - at[ids[i]]
            play(tape, args, programs[p, 0], programs[p, 1], c, r, s)
        if stages & 2 and components and mirror:
            for i in range(programs[p, 6]):
                shared[i] = constants[i]
        for g in range(groups if stages & 2 and components else 0):
            if t < begins[g]:
                continue
            s = lanes[g].ctypes.data
            for i in range(ids_start[t], ids_start[t + 1]):
                e = ids[i]
                block = (keep_slot[p, 1] + i - ids_start[t]) * components * width
                for q in range(components * width):
                    lanes[g, block + q] = 0.0
                for q in range(parts):
                    for lane in range(width):
                        keep = 1.0 if values else 0.0
                        lanes[g, block + q * width + lane] = keep - directions[g, e, q, lane]
            play(tape, args, programs[p, 2], programs[p, 3], c, r, s)
            if stages & 4:
                play(tape, args, programs[p, 4], programs[p, 5], c, r, s)
        if stages & 4:
            play(tape, args, programs[p, 3], programs[p, 4], c, r, lanes[0].ctypes.data)
            not_finite = 0  # counted without a branch, so that the loop runs on vectors
            for i in range(watch_count):
                not_finite += (bits[i] & INFINITE) == INFINITE
            if not_finite:
                return t
    return -1


def aligned(count: int, dtype: Any) -> np.ndarray:
    """Zeros that begin at a cache line."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(count * size + ALIGNMENT, dtype=np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    return raw[offset : offset + count * size].view(dtype)


@njit(nogil=True, cache=True)
def repeat(tape, args, instruction, times, constants, shared, lanes):  # type: ignore[no-untyped-def]
    """Execute one instruction many times, for profiles."""
    base = args.ctypes.data
    for _ in range(times):
        invoke(
            tape[instruction, 0],
            pointer_at(constants, 0),
            pointer_at(shared, 0),
            pointer_at(lanes, 0),
            pointer_at(base, 8 * tape[instruction, 1]),
        )
