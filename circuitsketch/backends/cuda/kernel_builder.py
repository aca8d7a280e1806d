"""What all device functions have in common: their target, their signature and their loops, as source text.

All threads of a block call the function of a kernel with (thread, args, at, constants, now, lanes): the number of the
thread, the integers of the instruction from args[at] on, the constant terms of the step from constants[now] on, and the
block's memory. Its loop distributes elements times lanes, lanes fastest, to the threads. An element's numbers in one
lane are called a series, and passed as a tuple (where lanes hold values: as one number).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from circuitsketch.backends.contract import Target

PARAMETERS = "thread, args, at, constants, now, lanes"
THREADS = 512  # per block; each may use 128 of the 65536 registers of a multiprocessor
SIMULATED_THREADS = 16  # threads of Python, in Numba's simulator


@dataclass(frozen=True, slots=True)
class CudaTarget(Target):
    """What device code is written for; width : the lanes of a block of threads, a power of two."""

    threads: int = THREADS

    device: ClassVar[str] = "cuda"

    @property
    def zero(self) -> str:
        """0.0 in the lanes' precision."""
        return "real(0.0)" if self.single else "0.0"


def write_kernel(name: str, says: str, body: Sequence[str]) -> str:
    """Write the function of a kernel, which executes an instruction."""
    return write_function(name, PARAMETERS, says, body, "cuda.jit(device=True)")


def write_function(name: str, parameters: str, says: str, body: Sequence[str], decorator: str = "inlined") -> str:
    """Write a device function."""
    return "\n".join([f"@{decorator}", f"def {name}({parameters}):", *indent([f'"""{says}"""', *body])])


def indent(lines: Sequence[str]) -> list[str]:
    """Indent lines."""
    return [f"    {line}" for line in lines]


def write_lane_loop(target: CudaTarget, count: str, body: Sequence[str]) -> list[str]:
    """Write a loop that distributes `count` elements times lanes; the body reads `entry` and `lane`."""
    shift = target.width.bit_length() - 1
    head = f"for i in range(thread, {count} * {target.width}, THREADS):"
    return [head, *indent([f"lane = i & {target.width - 1}", f"entry = i >> {shift}", *body])]


def write_unravel(number: str, extents: Sequence[str], names: Sequence[str]) -> list[str]:
    """Write the indices of an element number in C order; the first index is the remainder of the number."""
    lines = []
    for name, extent in list(zip(names, extents, strict=True))[:0:-1]:
        lines += [f"{name} = {number} % {extent}", f"{number} //= {extent}"]
    return lines if names[0] == number else [*lines, f"{names[0]} = {number}"]


def write_dot(names: Sequence[str], positions: Sequence[int]) -> str:
    """Return the expression of indices times strides, which are at some positions of the instruction's integers."""
    return " + ".join(f"{name} * args[at + {position}]" for name, position in zip(names, positions, strict=True))
