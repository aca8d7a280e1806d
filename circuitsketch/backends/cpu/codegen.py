"""Generate machine code for kernel records: emit LLVM IR, compile it with llvmlite's LLVM, and cache it on disk.

In: kernels and a target, or a loop that Numba translates. Out: functions. Object code is stored (by `backends.cache`)
under a digest of all that it depends on: the versions of the compilers, the processor, the sources that emit it, and
the kernel. A kernel of built-in gates is identified by its record. A user's gate may read anything, so a kernel with
one is emitted at every start, which takes milliseconds, and identified by its IR.
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

from circuitsketch.backends.cache import hash_sources, make_key, read, write
from circuitsketch.backends.contract import Target
from circuitsketch.backends.cpu.contraction import emit_contract
from circuitsketch.backends.cpu.elementwise import emit_chain
from circuitsketch.backends.cpu.kernel_builder import Frame
from circuitsketch.backends.cpu.llvm import compile_object, target_machine
from circuitsketch.backends.cpu.moves import emit_fill, emit_move
from circuitsketch.backends.cpu.update import emit_update
from circuitsketch.errors import InputError
from circuitsketch.gates.digest import refuse_changed
from circuitsketch.gates.gate import is_built_in
from circuitsketch.lower.instructions import ChainKernel, ContractKernel, FillKernel, Kernel, MoveKernel, UpdateKernel

EMITTERS: dict[type, Any] = {
    ChainKernel: emit_chain,
    ContractKernel: emit_contract,
    UpdateKernel: emit_update,
    MoveKernel: emit_move,
    FillKernel: emit_fill,
}
ENTRY = "kernel"
loaded: dict[str, int] = {}  # key -> address
emitted: dict[tuple[Kernel, Target], str] = {}  # kernel with a user's gate -> key


@cache
def describe_environment() -> str:
    """Describe what all machine code depends on: the sources of records and emitters, the compilers, the processor.

    NumPy and SciPy are among the compilers, since they compute constants in the code.
    """
    versions = (numba.__version__, llvmlite.__version__, np.__version__, scipy.__version__)
    features = binding.get_host_cpu_features().flatten()
    processor = (binding.get_host_cpu_name(), binding.get_process_triple(), features)
    return repr((hash_sources("errors.py", "gates", "lower", "backends"), versions, processor))


def make_kernel_key(kernel: Kernel, target: Target) -> str:
    """Return the key under which a compiled kernel is cached.

    Raises
    ------
    InputError
        If a user's gate in it computes something else than when it was traced.
    """
    own = [gate for gate in getattr(kernel, "gates", ()) if not is_built_in(gate.gate)]
    if own:
        for gate in own:
            refuse_changed(gate.gate, len(gate.operands), dict(gate.params))
        if (kernel, target) not in emitted:
            emitted[kernel, target] = make_key(describe_environment(), "text", str(emit_module(kernel, target)))
        return emitted[kernel, target]
    constant = getattr(kernel, "phase", "lane") == "constant"
    # Kernels of the constant phase do not depend on lanes: all targets share them.
    return make_key(describe_environment(), "record", repr((kernel, None if constant else target)))


@cache
def get_engine() -> Any:
    """Return the engine that loads object code for the life of the process."""
    return binding.create_mcjit_compiler(binding.parse_assembly(""), target_machine())


def emit_module(kernel: Kernel, target: Target, name: str = ENTRY) -> ir.Module:
    """Emit a kernel as a module."""
    module = ir.Module(name=name)
    module.triple = binding.get_process_triple()
    module.data_layout = str(target_machine().target_data)
    frame = Frame(module, name, target)
    EMITTERS[type(kernel)](frame, kernel)
    return module


def emit_text(kernel: Kernel, target: Target, key: str) -> str:
    """Emit a kernel as text; its function is named after a key."""
    return str(emit_module(kernel, target, f"{ENTRY}_{key}"))


def compile_loop(program: Callable[..., Any], signature: Any) -> Callable[..., int]:
    """Compile a Python loop to a function of integers and addresses, which runs without Python's global lock.

    Functions that the loop calls are in `backends/`, whose sources are part of the key.
    """
    code = marshal.dumps(program.__code__).hex()
    key = make_key(describe_environment(), "loop", program.__module__, program.__qualname__, code, str(signature))
    address = load(key, lambda name: translate(program, signature, name))
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(signature.args))
    return kind(address)


def load(key: str, emit: Callable[[str], Any]) -> int:
    """Return the address of a function: loaded already, from the cache, or compiled from the module `emit` returns."""
    if key not in loaded:
        with global_compiler_lock:
            if not install(key, read(key)):
                code = compile_object(emit(f"{ENTRY}_{key}"))
                write(key, code)
                is_valid = install(key, code)
                assert is_valid, f"the object code under {key} does not define its function"
    return loaded[key]


def install(key: str, code: bytes | None) -> bool:
    """Load object code into this process and enter it in `loaded`; return False if it is not valid."""
    with global_compiler_lock:
        if key not in loaded and (address := link_object(f"{ENTRY}_{key}", code)):
            loaded[key] = address
        return key in loaded


def link_object(name: str, code: bytes | None) -> int:
    """Load object code and return the address of its function of this name, or 0 if there is none."""
    if code is None or name.encode() not in code:
        return 0
    code_file = binding.ObjectFileRef.from_data(code)
    if not code_file._as_parameter_:  # a null pointer: this is not object code, and loading it would end the process
        return 0
    get_engine().add_object_file(code_file)
    get_engine().finalize_object()
    return get_engine().get_function_address(name)


def translate(program: Callable[..., Any], signature: Any, name: str) -> Any:
    """Translate a Python function with Numba to a module that contains nothing else.

    What Numba adds for functions that raise errors is unreachable and dropped, so that the machine code does not need
    Numba to run.

    Raises
    ------
    InputError
        If the current folder has been deleted, since Numba needs one.
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
