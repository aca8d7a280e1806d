"""From kernel records to machine code: emitted once, compiled by Numba's code generator, kept on disk.

In: kernels and a target. Out: addresses of functions. The disk cache holds object code under the hash of everything it
depends on: the kernel, the target, the emitting sources, the compilers' versions and the processor; a file is written
under another name and then renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding, ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from circuitsketch.kernels.cpu.chain import emit_chain
from circuitsketch.kernels.cpu.contract import emit_contract
from circuitsketch.kernels.cpu.frame import Frame, Target
from circuitsketch.kernels.cpu.moves import emit_fill, emit_move
from circuitsketch.lower.tape import ChainKernel, ContractKernel, FillKernel, Kernel, MoveKernel

EMITTERS: dict[type, Any] = {
    ChainKernel: emit_chain,
    ContractKernel: emit_contract,
    MoveKernel: emit_move,
    FillKernel: emit_fill,
}
ENTRY = "kernel"
loaded: dict[str, tuple[int, Any]] = {}  # hash -> address and the library that keeps it alive


def cache_folder() -> Path:
    """Where compiled kernels are kept: CIRCUITSKETCH_CACHE, or the user's cache folder."""
    chosen = os.environ.get("CIRCUITSKETCH_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "circuitsketch"


@cache
def sources_hash() -> str:
    """The emitting code and the table of gates, the compilers and the processor: what machine code depends on."""
    package = Path(__file__).parent.parent.parent
    digest = hashlib.sha256()
    for file in sorted([*(package / "gates").glob("*.py"), *(package / "kernels" / "cpu").glob("*.py")]):
        digest.update(file.read_bytes())
    digest.update((package / "lower" / "tape.py").read_bytes())
    machine = (
        numba.__version__,
        llvmlite.__version__,
        binding.get_host_cpu_name(),
        binding.get_process_triple(),
    )
    features = binding.get_host_cpu_features().flatten()
    digest.update(repr((machine, features)).encode())
    return digest.hexdigest()


def key_of(kernel: Kernel, target: Target) -> str:
    """The name under which a compiled kernel is kept."""
    constant = getattr(kernel, "phase", "lane") == "constant"
    # The constant phase knows nothing of lanes: its kernels are shared by all targets.
    relevant = (kernel, None if constant else target)
    return hashlib.sha256(f"{sources_hash()} {relevant!r}".encode()).hexdigest()[:32]


def module_of(kernel: Kernel, target: Target) -> ir.Module:
    """The kernel's code."""
    module = ir.Module(name="circuitsketch")
    generator = cpu_target.target_context.codegen()
    module.triple = binding.get_process_triple()
    module.data_layout = str(generator.target_data)
    frame = Frame(module, ENTRY, target)
    EMITTERS[type(kernel)](frame, kernel)
    return module


def address_of(kernel: Kernel, target: Target) -> int:
    """The address of a kernel's function, compiled now, found on disk, or known already."""
    key = key_of(kernel, target)
    if key not in loaded:
        with global_compiler_lock:
            loaded[key] = from_disk(key) or compiled(key, kernel, target)
    return loaded[key][0]


def compiled(key: str, kernel: Kernel, target: Target) -> tuple[int, Any]:
    """Compile a kernel and keep its object code."""
    generator = cpu_target.target_context.codegen()
    module = module_of(kernel, target)
    name = f"{ENTRY}_{key}"
    text = str(module).replace(f'@"{ENTRY}"', f'@"{name}"')
    library = generator.create_library(name)
    library.enable_object_caching()
    library.add_llvm_module(binding.parse_assembly(text))
    library.finalize()
    address = library.get_pointer_to_function(name)
    _, _, (code, bitcode) = library.serialize_using_object_code()
    to_disk(key, code, bitcode)
    return address, library


def to_disk(key: str, code: bytes, bitcode: bytes) -> None:
    """Write object code atomically; a folder that cannot be written costs time at the next start, nothing else."""
    try:
        folder = cache_folder() / key[:2]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(checksum(code + bitcode))
            file.write(len(code).to_bytes(8, "little"))
            file.write(code)
            file.write(bitcode)
        os.replace(file.name, folder / key)
    except OSError:
        return


def checksum(data: bytes) -> bytes:
    """What a cache file begins with."""
    return hashlib.sha256(data).digest()


def from_disk(key: str) -> tuple[int, Any] | None:
    """Load object code; a missing or damaged file is None."""
    try:
        data = (cache_folder() / key[:2] / key).read_bytes()
    except OSError:
        return None
    length = int.from_bytes(data[32:40], "little")
    code, bitcode = data[40 : 40 + length], data[40 + length :]
    if checksum(code + bitcode) != data[:32]:
        return None
    name = f"{ENTRY}_{key}"
    library = cpu_target.target_context.codegen().unserialize_library((name, "object", (code, bitcode)))
    return library.get_pointer_to_function(name), library
