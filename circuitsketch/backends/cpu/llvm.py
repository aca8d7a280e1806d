"""Compile modules with llvmlite's LLVM: the text of a module in, optimised object code out.

This file imports nothing of the package, so that it can also run as a program that compiles what it reads from standard
input. In one process, llvmlite compiles only one module at a time; `compile_workers` starts several.
"""

from __future__ import annotations

import struct
import sys
from functools import cache
from typing import IO, Any

from llvmlite import binding


@cache
def target_machine() -> Any:
    """Return LLVM's description of this processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten()
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=2, reloc="static", codemodel="jitdefault"
    )


def optimize(module: Any) -> None:
    """Optimise a module in place.

    Its loops are vectorised already; LLVM's own unrolling and vectorising was seen to triple the time for no gain.
    """
    options = binding.create_pipeline_tuning_options(2)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = options.loop_interleaving = False
    passes = binding.create_pass_builder(target_machine(), options)
    passes.getModulePassManager().run(module, passes)


def compile_object(module: Any) -> bytes:
    """Compile a module, which is optimised in place, to object code."""
    optimize(module)
    code: bytes = target_machine().emit_object(module)
    return code


def write_message(stream: IO[bytes], data: bytes) -> None:
    """Write a message: the number of bytes, then the bytes."""
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes:
    """Read a message; empty at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return b""
    (count,) = struct.unpack("<Q", head)
    data = stream.read(count)
    return data if len(data) == count else b""


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Compile every module that is sent, until there are no more."""
    while text := read_message(source):
        write_message(sink, compile_object(binding.parse_assembly(text.decode())))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
