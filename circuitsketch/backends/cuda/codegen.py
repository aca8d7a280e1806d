"""Generate device code for a family of circuits: write a module, compile it once per process, and cache it on disk.

In: the lane phase's instructions and a target. Out: Python source of Numba CUDA functions: one for every chain,
contraction and move, and `play`, a small interpreter that walks the tape for every step. A thread block runs all of it
and never waits for another one. The constant phase is not here: see `executable`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from types import ModuleType
from typing import Any

from circuitsketch.backends.cuda.contraction import write_contraction
from circuitsketch.backends.cuda.elementwise import write_chain
from circuitsketch.backends.cuda.kernel_builder import PARAMETERS, CudaTarget
from circuitsketch.backends.cuda.moves import write_fill, write_move
from circuitsketch.backends.cuda.series import GateFunctions, write_primitives
from circuitsketch.backends.cuda.tiling import choose_tile
from circuitsketch.backends.numba_cache import attach_cache
from circuitsketch.gates.digest import refuse_changed
from circuitsketch.lower.instructions import (
    ChainKernel,
    ContractKernel,
    Instruction,
    MoveKernel,
)
from circuitsketch.lower.packing import ChainArguments, ContractArguments, MoveArguments

ENTRIES = ("start", "play")  # the functions that the host launches
PLAIN = 1 << 40  # literals, which are stored before the constant terms of the steps, have offsets from -PLAIN on

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
class Variant:
    """A kernel for an instruction's number of axes, or with a tile."""

    kernel: Any
    variant: Any


class DeviceCode:
    """Device code for a set of instructions.

    Attributes
    ----------
    source : the module's text.
    opcodes : for every instruction the number of its function.

    Raises
    ------
    InputError
        If a user's gate computes something else than when it was traced.
    """

    def __init__(self, instructions: Sequence[Instruction], target: CudaTarget) -> None:
        self.target = target
        for kernel in {i.kernel for i in instructions if isinstance(i.kernel, ChainKernel)}:
            for gate in kernel.gates:
                refuse_changed(gate.gate, len(gate.operands), dict(gate.params))
        uses = choose_variants([forget_steps(i) for i in instructions], target)
        numbers: dict[Variant, int] = {}
        for use in uses:
            numbers.setdefault(use, len(numbers))
        self.opcodes = [numbers[use] for use in uses]
        gates = GateFunctions(target)
        self.functions = [write_instruction(use, number, target, gates) for use, number in numbers.items()]
        self.helpers = [*write_primitives(target), *gates.texts.values()]
        self.source = self.write_module()

    def write_module(self) -> str:
        """Return the module's text."""
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
        """The module; its functions are compiled at their first launch, or loaded from the disk cache."""
        return load_module(self.source)

    @cached_property
    def kernels(self) -> dict[str, Any]:
        """The functions to launch, compiled when they are first called, and cached on disk by the module's text."""
        from numba import config, cuda

        if config.ENABLE_CUDASIM:
            return {name: cuda.jit(getattr(self.module, name)) for name in ENTRIES}
        from numba.cuda.core.caching import dumps
        from numba.cuda.dispatcher import CUDACache

        kernels = {}
        for name in ENTRIES:
            kernels[name] = cuda.jit(launch_bounds=self.target.threads)(getattr(self.module, name))
            attach_cache(kernels[name], CUDACache, dumps, self.source, name, version("numba-cuda"))
        return kernels

    @property
    def shared(self) -> int:
        """The bytes of a block's shared memory: one number per thread."""
        return self.target.threads * (4 if self.target.single else 8)

    def configure_launch(self, name: str, blocks: int, stream: Any = 0) -> Any:
        """Return a kernel for this many lane blocks, to be called with its arguments."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Grid size")  # a few directions do not fill a card
            return self.kernels[name][blocks, self.target.threads, stream, self.shared]


@cache
def load_module(source: str) -> ModuleType:
    """Return the module of a text; equal texts share one, and its compiled functions."""
    module = ModuleType("circuitsketch_cuda")
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
    return module


def forget_steps(instruction: Instruction) -> Instruction:
    """Return an instruction whose chain does not know its innermost steps.

    They are for a CPU's vectors; here, functions that differ in nothing else would all be compiled into the kernel.
    """
    kernel = instruction.kernel
    if not isinstance(kernel, ChainKernel):
        return instruction
    operands = tuple(replace(operand, step="?") for operand in kernel.operands)
    return replace(instruction, kernel=replace(kernel, operands=operands, steps=()))


def choose_variants(instructions: Sequence[Instruction], target: CudaTarget) -> list[Variant]:
    """Return the variant for each instruction; all uses of a kernel share the largest number of axes among them."""
    axes: dict[Any, int] = {}
    for i in instructions:
        if isinstance(i.kernel, ChainKernel | MoveKernel):
            axes[i.kernel] = max(axes.get(i.kernel, 1), count_axes(i))
    uses = []
    for i in instructions:
        if isinstance(i.kernel, ContractKernel) and isinstance(i.arguments, ContractArguments):
            uses.append(Variant(i.kernel, choose_tile(i.kernel, target, i.arguments)))
        else:
            uses.append(Variant(i.kernel, axes.get(i.kernel)))
    return uses


def count_axes(instruction: Instruction) -> int:
    """Return the number of axes of a chain or a move, without leading ones of length 1."""
    arguments = instruction.arguments
    assert isinstance(arguments, ChainArguments | MoveArguments)
    extents = arguments.extents
    return next((len(extents) - i for i, n in enumerate(extents) if n != 1), 1)


def write_instruction(use: Variant, number: int, target: CudaTarget, gates: GateFunctions) -> tuple[str, str]:
    """Return the name and the text of a device function."""
    kernel, variant = use.kernel, use.variant
    if isinstance(kernel, ChainKernel):
        name = f"chain_{number}"
        return name, write_chain(name, kernel, variant, target, gates)
    if isinstance(kernel, ContractKernel):
        name = f"contract_{number}"
        return name, write_contraction(name, kernel, variant, target)
    if isinstance(kernel, MoveKernel):
        name = f"{kernel.combine}_{number}"
        return name, write_move(name, kernel, variant, target)
    return f"fill_{number}", write_fill(f"fill_{number}", target)
