"""A program: the module of device code for a family of circuits, written, compiled once a process and kept on disk.

In: the lane phase's instructions and a target. Out: Python source of Numba CUDA functions: one for every chain,
contraction and move, and `play`, a small interpreter that walks the tape for every step, all of it in one thread block
that never waits for another. The constant phase is not here: see `executable`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from types import ModuleType
from typing import Any

from circuitsketch.backends.cuda.contraction import chosen_tile, contract_function
from circuitsketch.backends.cuda.elementwise import chain_function
from circuitsketch.backends.cuda.moves import fill_function, move_function
from circuitsketch.backends.cuda.series import GateFunctions, primitives
from circuitsketch.backends.cuda.target import PARAMETERS, CudaTarget
from circuitsketch.backends.numba_cache import keep
from circuitsketch.gates.digest import refuse_changed
from circuitsketch.lower.instructions import (
    ChainKernel,
    ContractKernel,
    Instruction,
    MoveKernel,
)
from circuitsketch.lower.packing import ChainArguments, ContractArguments, MoveArguments

ENTRIES = ("start", "play")  # what a host launches
PLAIN = 1 << 40  # plain data, which lies before the constant terms of the steps, has offsets from -PLAIN on

HEADER = '''"""Device code written by circuitsketch.backends.cuda for {holds}.

The memory of a block of threads: element e, component c, lane l at lanes[e * {unit} + c * {width} + l].
"""

import math

import numpy as np
from numba import config, cuda

THREADS = {threads}
PLAIN = {plain}
real = np.{real}
shared_type = np.dtype(real)
index = np.uint64  # of arrays, where it counts: a signed one is first asked whether it is negative


def inlined(function):
    """Small functions become part of those that call them; the simulator takes them as they are."""
    return function if config.ENABLE_CUDASIM else cuda.jit(device=True, forceinline=True)(function)


@inlined
def address(offset, now):
    """A constant term of this step, or plain data (negative offsets), which is the same in all steps."""
    return offset + now if offset >= 0 else offset + PLAIN
'''

PLAY = '''def start(state, all_lanes):
    """Set the state's lanes: every lane of element e to state[e] (zeros for series: all directions begin as one)."""
    lanes = all_lanes[cuda.blockIdx.x]
    for i in range(cuda.threadIdx.x, state.size * {unit}, THREADS):
        lanes[i] = state[i // {unit}]


def play(
    tape, args, programs, step_program, ids, ids_start, keep_slot, directions, begins,
    first, last, constants, constants_begin, constants_step, all_lanes,
):
    """Play steps first..last for the lanes of this block, from the step on at which something happens to them.

    tape : instructions (which function, where its arguments begin, whether to wait for the other threads before it, 0).
    programs : for each the first and the last instruction. keep_slot : the element where its examples' weights lie.
    """
    lanes = all_lanes[cuda.blockIdx.x]
    mine = directions[cuda.blockIdx.x]
    numbers = mine.shape[1] * {width}
    for t in range(max(first, begins[cuda.blockIdx.x]), last):
        program = step_program[t]
        now = constants_begin + (t - first) * constants_step
        cuda.syncthreads()
        keep = keep_slot[program] * {unit}
        for i in range(cuda.threadIdx.x, (ids_start[t + 1] - ids_start[t]) * {unit}, THREADS):
            number = i % {unit}
            value = real(0.0)
            if number < numbers:
                value = real({keep}) - mine[ids[ids_start[t] + i // {unit}], number // {width}, number % {width}]
            lanes[keep + i] = value
        cuda.syncthreads()
        for instruction in range(programs[program, 0], programs[program, 1]):
            which = tape[instruction, 0]
            at = tape[instruction, 1]
            # Plus zero, which the compiler cannot know: what functions derive from their thread's number is not kept in
            # registers from one instruction to the next.
            thread = cuda.threadIdx.x + tape[instruction, 3]
            if tape[instruction, 2]:
                cuda.syncthreads()
{cases}
'''


@dataclass(frozen=True, slots=True)
class Use:
    """A kernel in the variant that an instruction wants: how many axes its entries have, or which tile."""

    kernel: Any
    variant: Any


class Program:
    """Device code for a set of instructions.

    InputError: a gate of the user's own among them means something else than when it was traced.

    Attributes
    ----------
    source : the module's text. opcodes : for every instruction the number of its function.
    """

    def __init__(self, instructions: Sequence[Instruction], target: CudaTarget) -> None:
        self.target = target
        for kernel in {i.kernel for i in instructions if isinstance(i.kernel, ChainKernel)}:
            for gate in kernel.gates:
                refuse_changed(gate.gate, len(gate.operands), dict(gate.params))
        uses = variants([any_steps(i) for i in instructions], target)
        numbers: dict[Use, int] = {}
        for use in uses:
            numbers.setdefault(use, len(numbers))
        self.opcodes = [numbers[use] for use in uses]
        gates = GateFunctions(target)
        self.functions = [written(use, number, target, gates) for use, number in numbers.items()]
        self.helpers = [*primitives(target), *gates.texts.values()]
        self.source = self.written_module()

    def written_module(self) -> str:
        """The module's text."""
        target = self.target
        mode = target.mode
        kind = "complex" if mode.complex else "real"
        holds = "values" if mode.values else f"{kind} coefficients 1..{mode.order}"
        real = "float32" if target.single else "float64"
        head = HEADER.format(
            holds=f"{holds} in {real}, {target.width} lanes a block",
            unit=target.unit, width=target.width, threads=target.threads, plain=PLAIN, real=real,
        )  # fmt: skip
        cases = []
        for number, (name, _) in enumerate(self.functions):
            cases += [f"{'el' if number else ''}if which == {number}:", f"    {name}({PARAMETERS})"]
        play = PLAY.format(
            unit=target.unit, width=target.width, keep="1.0" if mode.values else "0.0",
            cases="\n".join(f"            {line}" for line in cases) or "            pass",
        )  # fmt: skip
        texts = [*self.helpers, *(text for _, text in self.functions)]
        return "\n\n".join([head, *(f"{text}\n" for text in texts), play])

    @cached_property
    def module(self) -> ModuleType:
        """The module, run; its functions are compiled at their first launch, or loaded from the disk cache."""
        return module_of(self.source)

    @cached_property
    def kernels(self) -> dict[str, Any]:
        """The module's kernels, compiled when they are first called, and kept on disk by the text of the module."""
        from numba import config, cuda

        if config.ENABLE_CUDASIM:
            return {name: cuda.jit(getattr(self.module, name)) for name in ENTRIES}
        from numba.cuda.core.caching import dumps
        from numba.cuda.dispatcher import CUDACache

        found = {}
        for name in ENTRIES:
            found[name] = cuda.jit(launch_bounds=self.target.threads)(getattr(self.module, name))
            keep(found[name], CUDACache, dumps, self.source, name, version("numba-cuda"))
        return found

    @property
    def shared(self) -> int:
        """Bytes of a block's shared memory: a number for every thread."""
        return self.target.threads * (4 if self.target.single else 8)

    def launched(self, name: str, blocks: int, stream: Any = 0) -> Any:
        """A kernel to call with its arguments, for so many lane blocks."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Grid size")  # few directions do not fill a card: no news
            return self.kernels[name][blocks, self.target.threads, stream, self.shared]


@cache
def module_of(source: str) -> ModuleType:
    """A module from its text, one for each text: what is compiled of it serves all programs that have it."""
    module = ModuleType("circuitsketch_cuda")
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
    return module


def any_steps(instruction: Instruction) -> Instruction:
    """Without what a chain knows of its innermost steps: that is for a CPU's vectors, and here each function that it
    tells apart would be compiled into the kernel again."""
    kernel = instruction.kernel
    if not isinstance(kernel, ChainKernel):
        return instruction
    operands = tuple(replace(operand, step="?") for operand in kernel.operands)
    return replace(instruction, kernel=replace(kernel, operands=operands, steps=()))


def variants(instructions: Sequence[Instruction], target: CudaTarget) -> list[Use]:
    """What every instruction wants; a kernel walks as many axes as the widest of its uses needs."""
    axes: dict[Any, int] = {}
    for i in instructions:
        if isinstance(i.kernel, ChainKernel | MoveKernel):
            axes[i.kernel] = max(axes.get(i.kernel, 1), axes_of(i))
    uses = []
    for i in instructions:
        if isinstance(i.kernel, ContractKernel) and isinstance(i.arguments, ContractArguments):
            uses.append(Use(i.kernel, chosen_tile(i.kernel, target, i.arguments)))
        else:
            uses.append(Use(i.kernel, axes.get(i.kernel)))
    return uses


def axes_of(instruction: Instruction) -> int:
    """The axes of a chain's or a move's entries, leading ones of extent 1 left away."""
    arguments = instruction.arguments
    assert isinstance(arguments, ChainArguments | MoveArguments)
    extents = arguments.extents
    return next((len(extents) - i for i, n in enumerate(extents) if n != 1), 1)


def written(use: Use, number: int, target: CudaTarget, gates: GateFunctions) -> tuple[str, str]:
    """The name and the text of a device function."""
    kernel, variant = use.kernel, use.variant
    if isinstance(kernel, ChainKernel):
        name = f"chain_{number}"
        return name, chain_function(name, kernel, variant, target, gates)
    if isinstance(kernel, ContractKernel):
        name = f"contract_{number}"
        return name, contract_function(name, kernel, variant, target)
    if isinstance(kernel, MoveKernel):
        name = f"{kernel.combine}_{number}"
        return name, move_function(name, kernel, variant, target)
    return f"fill_{number}", fill_function(f"fill_{number}", target)
