"""Measure the registers that device code needs, without a device: compile PTX, and read the report of ptxas.

In: device code and a compute capability. Out: PTX, and the registers and spilled bytes of each function. NVVM and ptxas
come from the packages that numba-cuda's extras install; no driver is needed.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from circuitsketch.backends.cuda.codegen import DeviceCode

Capability = tuple[int, int]
ONE = '''

def only_{name}(args, at, constants, now, all_lanes):
    """One function as a kernel of its own."""
    {name}(cuda.threadIdx.x, args, at, constants, now, all_lanes[cuda.blockIdx.x])
'''


@dataclass(frozen=True, slots=True)
class Usage:
    """Registers per thread; bytes spilled to memory, and of stack, per thread; bytes of shared memory per block."""

    name: str
    registers: int
    spilled: int
    stack: int
    shared: int


def compile_ptx(program: DeviceCode, capability: Capability) -> str:
    """Compile `play` to PTX."""
    module = load_fresh_module(program.source)
    return compile_function(module.play, list_argument_types(program), program, capability)


def measure_usages(program: DeviceCode, capability: Capability, only: str = "") -> list[Usage]:
    """Compile each function whose name begins with `only` by itself, with the launch bounds of `play`."""
    names = [name for name, _ in program.functions if name.startswith(only)]
    module = load_fresh_module(program.source + "".join(ONE.format(name=name) for name in names))
    types = list_argument_types(program)
    args, integer, constants, lanes = types[1], types[9], types[11], types[14]
    usages = []
    for name in names:
        text = compile_function(
            getattr(module, f"only_{name}"), (args, integer, constants, integer, lanes), program, capability
        )
        usages.append(assemble(name, text, capability))
    return usages


def list_argument_types(program: DeviceCode) -> tuple[Any, ...]:
    """Return the types of the arguments of `play`."""
    from numba import types

    real = types.float32 if program.target.single else types.float64
    integer = types.int64

    def array(kind: Any, rank: int) -> Any:
        return types.Array(kind, rank, "C")

    table, list_ = array(integer, 2), array(integer, 1)
    return (
        table, list_, table, list_, list_, list_, list_, array(types.float64, 4), list_,
        integer, integer, array(real, 1), integer, integer, array(real, 2),
    )  # fmt: skip


def load_fresh_module(source: str) -> ModuleType:
    """Return a new module of a text, so that code compiled for one capability is not used for another."""
    module = ModuleType("circuitsketch_cuda_resources")
    exec(compile(source, "<circuitsketch_cuda_resources>", "exec"), module.__dict__)
    return module


def compile_function(function: Any, types: tuple[Any, ...], program: DeviceCode, capability: Capability) -> str:
    """Compile a kernel to PTX."""
    from numba import cuda

    with pretend_capability(capability):
        text, _ = cuda.compile_ptx(function, types, device=False, cc=capability, launch_bounds=program.target.threads)
    return str(text)


@contextmanager
def pretend_capability(capability: Capability) -> Iterator[None]:
    """Within this context, pretend that there is a device of a capability, for functions that ask for it."""
    from numba.cuda import dispatcher

    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = before


def find_ptxas() -> str | None:
    """Return the path of ptxas: from the CUDA packages installed with pip, or from PATH; None if there is none."""
    for package in ("nvidia.cuda_nvcc", "nvidia.cu13", "nvidia.cuda_nvcc_cu12"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (file := Path(folder) / "bin" / "ptxas").exists():
                return str(file)
    return shutil.which("ptxas")


def assemble(name: str, text: str, capability: Capability) -> Usage:
    """Assemble a kernel, and return the report of ptxas."""
    ptxas = find_ptxas()
    assert ptxas is not None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(text)
        arch = f"-arch=sm_{capability[0]}{capability[1]}"
        command = [ptxas, "-v", arch, str(source), "-o", str(Path(folder) / "kernel.cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    memory = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", said)
    assert registers is not None and memory is not None, said
    shared = re.search(r"(\d+) bytes smem", said)
    return Usage(name, int(registers[1]), int(memory[2]), int(memory[1]), int(shared[1]) if shared else 0)
