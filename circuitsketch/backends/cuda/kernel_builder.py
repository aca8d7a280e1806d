"""What all device functions have in common: what they are written for, and how functions and loops look on paper.

A kernel's function is called by all threads of a block with (thread, args, at, constants, now, lanes): the number of
the thread, the integers of its instruction from args[at] on, the constant terms of the step from constants[now] on, and
the block's own memory. Its loop deals entries times lanes, lanes fastest, out to the threads. What an entry holds in
one lane is called a series, and passed around as a tuple of its numbers (where lanes hold values: as one number).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from circuitsketch.backends.contract import Target

PARAMETERS = "thread, args, at, constants, now, lanes"
THREADS = 512  # a block's; with 65536 registers in a multiprocessor each may use 128
SIMULATED_THREADS = 16  # threads of Python, in Numba's simulator


@dataclass(frozen=True, slots=True)
class CudaTarget(Target):
    """What device code is written for. `width` is how many lanes a block of threads carries, a power of two."""

    threads: int = THREADS

    device: ClassVar[str] = "cuda"

    @property
    def zero(self) -> str:
        """0.0 in the lanes' precision."""
        return "real(0.0)" if self.single else "0.0"


def write_kernel(name: str, says: str, body: Sequence[str]) -> str:
    """What plays an instruction."""
    return write_function(name, PARAMETERS, says, body, "cuda.jit(device=True)")


def write_function(name: str, parameters: str, says: str, body: Sequence[str], decorator: str = "inlined") -> str:
    """A device function."""
    return "\n".join([f"@{decorator}", f"def {name}({parameters}):", *indent([f'"""{says}"""', *body])])


def indent(lines: Sequence[str]) -> list[str]:
    """The body of a loop."""
    return [f"    {line}" for line in lines]


def write_lane_loop(target: CudaTarget, count: str, body: Sequence[str]) -> list[str]:
    """Deal out `count` entries times lanes; the body sees `entry` and `lane`."""
    shift = target.width.bit_length() - 1
    head = f"for i in range(thread, {count} * {target.width}, THREADS):"
    return [head, *indent([f"lane = i & {target.width - 1}", f"entry = i >> {shift}", *body])]


def write_unravel(number: str, extents: Sequence[str], names: Sequence[str]) -> list[str]:
    """Indices along axes from a number in C order; what is left of the number is the first index."""
    lines = []
    for name, extent in list(zip(names, extents, strict=True))[:0:-1]:
        lines += [f"{name} = {number} % {extent}", f"{number} //= {extent}"]
    return lines if names[0] == number else [*lines, f"{names[0]} = {number}"]


def write_dot(names: Sequence[str], positions: Sequence[int]) -> str:
    """An element number: indices times the strides at some positions of the instruction's integers."""
    return " + ".join(f"{name} * args[at + {position}]" for name, position in zip(names, positions, strict=True))
