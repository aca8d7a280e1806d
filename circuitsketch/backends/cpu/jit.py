"""From kernel records to machine code: emitted once, compiled by LLVM as Numba brings it, kept on disk.

In: kernels and a target, or a loop that Numba translates. Out: functions. Object code is kept under a digest of all
that it depends on: the compilers' versions, the processor, the emitting sources, and what it does. That is the kernel's
record where its gates are the package's own. A gate of the user's may read anything, so a kernel with one in it is
emitted at every start, which takes milliseconds, and found by the text that was emitted. The files are
`backends.cache`'s.
"""

from __future__ import annotations

import ctypes
import marshal
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite
import numba
import numpy as np
import scipy
from llvmlite import binding, ir
from numba.core.compiler_lock import global_compiler_lock

from circuitsketch.backends.cache import key_of, read, sources_hash, write
from circuitsketch.backends.contract import Target
from circuitsketch.backends.cpu.chain import emit_chain
from circuitsketch.backends.cpu.contraction import emit_contract
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.llvm import machine, object_code
from circuitsketch.backends.cpu.moves import emit_fill, emit_move
from circuitsketch.errors import InputError
from circuitsketch.gates.digest import refuse_changed
from circuitsketch.gates.gate import is_built_in
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, FillKernel, Kernel, MoveKernel

EMITTERS: dict[type, Any] = {
    ChainKernel: emit_chain,
    ContractKernel: emit_contract,
    MoveKernel: emit_move,
    FillKernel: emit_fill,
}
ENTRY = "kernel"
loaded: dict[str, int] = {}  # key -> address
emitted: dict[tuple[Kernel, Target], str] = {}  # kernels with gates of the user's own -> key


@cache
def surroundings() -> str:
    """What all machine code depends on: the sources that emit it and that say what records mean, the compilers, what
    computes the constants in it, and the processor."""
    versions = (numba.__version__, llvmlite.__version__, np.__version__, scipy.__version__)
    features = binding.get_host_cpu_features().flatten()
    processor = (binding.get_host_cpu_name(), binding.get_process_triple(), features)
    return repr((sources_hash("errors.py", "gates", "lower", "backends"), versions, processor))


def kernel_key(kernel: Kernel, target: Target) -> str:
    """The name under which a compiled kernel is kept.

    Raises
    ------
    InputError : a gate of the user's own in it means something else than when it was traced.
    """
    own = [gate for gate in getattr(kernel, "gates", ()) if not is_built_in(gate.gate)]
    if own:
        for gate in own:
            refuse_changed(gate.gate, len(gate.operands), dict(gate.params))
        if (kernel, target) not in emitted:
            emitted[kernel, target] = key_of(surroundings(), "text", str(module_of(kernel, target)))
        return emitted[kernel, target]
    constant = getattr(kernel, "phase", "lane") == "constant"
    # The constant phase knows nothing of lanes: its kernels are shared by all targets.
    return key_of(surroundings(), "record", repr((kernel, None if constant else target)))


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
    key = kernel_key(kernel, target)
    return load(key, lambda name: binding.parse_assembly(text_of(kernel, target, key)))


def function_of(program: Callable[..., Any], signature: Any) -> Callable[..., int]:
    """A loop written in Python, as machine code of whole numbers and addresses that runs without Python's lock.

    What the loop calls is in this room, whose sources are part of the key.
    """
    code = marshal.dumps(program.__code__).hex()
    key = key_of(surroundings(), "loop", program.__module__, program.__qualname__, code, str(signature))
    address = load(key, lambda name: translated(program, signature, name))
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(signature.args))
    return kind(address)


def load(key: str, written: Callable[[str], Any]) -> int:
    """The address of a function: known already, found on disk, or compiled from the module written under a name."""
    if key not in loaded:
        with global_compiler_lock:
            if not install(key, read(key)):
                code = object_code(written(f"{ENTRY}_{key}"))
                write(key, code)
                known = install(key, code)
                assert known, f"the object code under {key} does not define its function"
    return loaded[key]


def install(key: str, code: bytes | None) -> bool:
    """Load object code into this process, to be found in `loaded` under its key; False where it is not that."""
    with global_compiler_lock:
        if key not in loaded and (address := linked(f"{ENTRY}_{key}", code)):
            loaded[key] = address
        return key in loaded


def linked(name: str, code: bytes | None) -> int:
    """The address of a function of this name in object code; 0 where there is none, which must not be called."""
    if code is None or name.encode() not in code:
        return 0
    found = binding.ObjectFileRef.from_data(code)
    if not found._as_parameter_:  # a null pointer: this is no object code, and to load it would end the process
        return 0
    engine().add_object_file(found)
    engine().finalize_object()
    return engine().get_function_address(name)


def translated(program: Callable[..., Any], signature: Any, name: str) -> Any:
    """A Python function as Numba translates it, alone in a module: what Numba adds for functions that raise errors is
    dropped as unreachable, so that the machine code needs no running Numba.

    InputError: the current folder has been deleted, on which Numba insists.
    """
    try:
        compiled = numba.cfunc(signature)(program)
    except FileNotFoundError as reason:
        raise InputError("the current folder has been deleted; change to one that exists, and try again") from reason
    module = binding.parse_assembly(compiled.inspect_llvm())
    for function in module.functions:
        if function.name == compiled.native_name:
            function.name = name
        elif not function.is_declaration:
            function.linkage = "internal"
    return module
