"""From kernel records to machine code: emitted once, compiled by LLVM as Numba brings it, kept on disk.

In: kernels and a target, or a loop that Numba translates. Out: functions. The disk cache holds object code under the
hash of all that it depends on: what it does, the target, the emitting sources, the compilers' versions, the processor;
a file is written under another name and then renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding, ir
from numba.core.compiler_lock import global_compiler_lock

from circuitsketch.kernels.cpu.chain import emit_chain
from circuitsketch.kernels.cpu.contract import emit_contract
from circuitsketch.kernels.cpu.frame import Frame, Target
from circuitsketch.kernels.cpu.llvm import machine, object_code
from circuitsketch.kernels.cpu.moves import emit_fill, emit_move
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, FillKernel, Kernel, MoveKernel

EMITTERS: dict[type, Any] = {
    ChainKernel: emit_chain,
    ContractKernel: emit_contract,
    MoveKernel: emit_move,
    FillKernel: emit_fill,
}
ENTRY = "kernel"
loaded: dict[str, int] = {}  # hash -> address


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
    digest.update((package / "lower" / "instructions.py").read_bytes())
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


@cache
def engine() -> Any:
    """Where object code is loaded, to stay as long as the process does."""
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine())


def module_of(kernel: Kernel, target: Target, name: str = ENTRY) -> ir.Module:
    """The kernel's code."""
    module = ir.Module(name=name)
    module.triple = binding.get_process_triple()
    module.data_layout = str(machine().target_data)
    frame = Frame(module, name, target)
    EMITTERS[type(kernel)](frame, kernel)
    return module


def text_of(kernel: Kernel, target: Target, key: str) -> str:
    """The code of the kernel that is kept under a key, as LLVM reads it."""
    return str(module_of(kernel, target, f"{ENTRY}_{key}"))


def address_of(kernel: Kernel, target: Target) -> int:
    """The address of a kernel's function, compiled now, found on disk, or known already."""
    key = key_of(kernel, target)
    return load(key, lambda name: binding.parse_assembly(text_of(kernel, target, key)))


def function_of(program: Callable[..., Any], signature: Any) -> Callable[..., int]:
    """A loop written in Python, as machine code of whole numbers and addresses that runs without Python's lock."""
    key = hashlib.sha256(f"{sources_hash()} {program.__name__} {signature}".encode()).hexdigest()[:32]
    address = load(key, lambda name: translated(program, signature, name))
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(signature.args))
    return kind(address)


def load(key: str, written: Callable[[str], Any]) -> int:
    """The address of a function: known already, found on disk, or compiled from the module written under a name."""
    if key not in loaded:
        with global_compiler_lock:
            code = from_disk(key)
            if code is None:
                code = object_code(written(f"{ENTRY}_{key}"))
                to_disk(key, code)
            install({key: code})
    return loaded[key]


def install(codes: Mapping[str, bytes]) -> None:
    """Load object code into this process, to be found in `loaded` under its keys."""
    with global_compiler_lock:
        new = {key: code for key, code in codes.items() if key not in loaded}
        for code in new.values():
            engine().add_object_file(binding.ObjectFileRef.from_data(code))
        engine().finalize_object()
        for key in new:
            loaded[key] = engine().get_function_address(f"{ENTRY}_{key}")


def translated(program: Callable[..., Any], signature: Any, name: str) -> Any:
    """A Python function as Numba translates it, alone in a module: what Numba adds for functions that raise errors is
    dropped as unreachable, so that the machine code needs no running Numba."""
    compiled = numba.cfunc(signature)(program)
    module = binding.parse_assembly(compiled.inspect_llvm())
    for function in module.functions:
        if function.name == compiled.native_name:
            function.name = name
        elif not function.is_declaration:
            function.linkage = "internal"
    return module


def to_disk(key: str, code: bytes) -> None:
    """Write object code atomically; a folder that cannot be written costs time at the next start, nothing else."""
    try:
        folder = cache_folder() / key[:2]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(checksum(code) + code)
        os.replace(file.name, folder / key)
    except OSError:
        return


def checksum(data: bytes) -> bytes:
    """What a cache file begins with."""
    return hashlib.sha256(data).digest()


def from_disk(key: str) -> bytes | None:
    """Object code as it was kept; a missing or damaged file is None."""
    try:
        data = (cache_folder() / key[:2] / key).read_bytes()
    except OSError:
        return None
    return data[32:] if checksum(data[32:]) == data[:32] else None
