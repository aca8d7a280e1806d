"""The machine that a benchmark runs on: its description, and its measured peak rate of fused multiply-adds.

In: a precision and a number of threads. Out: multiply-adds per CPU second of one core, for independent chains in vector
registers. Nothing is loaded or stored, so no kernel on this core can do more.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from datetime import date
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import binding, ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from circuitsketch.backends.cpu import lane_width
from circuitsketch.backends.cpu.step_loop import allocate_aligned

# Chains that hide the latency of a multiply-add: 8 to 10 on x86, more on others; AVX-512 and ARM have registers
# for 24. The peak is the best of these.
CHAINS = (8, 12, 16, 24)
SECONDS = 0.01
INT = ir.IntType(64)


@cache
def peak_kernel(single: bool, chains: int) -> Any:
    """Return a function (pointer to two vectors, rounds) with `chains` independent vector multiply-adds per round."""
    width = lane_width(single)
    element = ir.FloatType() if single else ir.DoubleType()
    vector = ir.VectorType(element, width)
    module = ir.Module(name="peak")
    generator = cpu_target.target_context.codegen()
    module.triple = binding.get_process_triple()
    module.data_layout = str(generator.target_data)
    name = f"peak_{'single' if single else 'double'}_{chains}"
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [vector.as_pointer(), INT]), name)
    set.add(function.attributes, '"prefer-vector-width"="512"')
    into, rounds = function.args
    before = function.append_basic_block("before")
    body = function.append_basic_block("body")
    after = function.append_basic_block("after")
    b = ir.IRBuilder(before)
    x, y = (b.load(b.gep(into, [ir.Constant(INT, i)]), align=8) for i in (0, 1))
    b.branch(body)
    b.position_at_end(body)
    i = b.phi(INT)
    i.add_incoming(ir.Constant(INT, 0), before)
    sums = [b.phi(vector) for _ in range(chains)]
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{width}f{32 if single else 64}")
    following = [b.call(fma, [total, x, y]) for total in sums]
    for c, (total, new) in enumerate(zip(sums, following, strict=True)):
        total.add_incoming(ir.Constant(vector, [float(c)] * width), before)
        total.add_incoming(new, body)
    more = b.add(i, ir.Constant(INT, 1))
    i.add_incoming(more, body)
    b.cbranch(b.icmp_signed("<", more, rounds), body, after)
    b.position_at_end(after)
    for new in following[1:]:
        following[0] = b.fadd(following[0], new)
    b.store(following[0], into, align=8)
    b.ret_void()
    with global_compiler_lock:
        library = generator.create_library(name)
        library.add_llvm_module(binding.parse_assembly(str(module)))
        library.finalize()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library.get_pointer_to_function(name))
    call.library = library  # keep it alive with the function
    return call


def rate(single: bool, chains: int, seconds: float) -> float:
    """Measure the multiply-adds per CPU second of this thread, for about `seconds`."""
    width = lane_width(single)
    vectors = np.full((2, width), 0.5, dtype=np.float32 if single else np.float64)
    kernel = peak_kernel(single, chains)
    rounds, done, spent = 1 << 14, 0, 0.0
    while spent < seconds:
        begin = time.thread_time()
        kernel(vectors.ctypes.data, rounds)
        spent += time.thread_time() - begin
        done += rounds
    return done * chains * width / spent


@cache
def best_chains(single: bool) -> int:
    """Return the number of chains that reaches the peak on this machine."""
    for chains in CHAINS:
        rate(single, chains, SECONDS / 10)
    return max(CHAINS, key=lambda chains: rate(single, chains, SECONDS))


def peak(single: bool, threads: int = 1, seconds: float = SECONDS) -> float:
    """Measure the peak of one core, in multiply-adds per CPU second, while `threads` threads run."""
    chains = best_chains(single)
    if threads == 1:
        return rate(single, chains, seconds)
    rates: list[float] = []
    workers = [threading.Thread(target=lambda: rates.append(rate(single, chains, seconds))) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return fmean(rates)


def bandwidth(megabytes: int = 256, repeats: int = 5) -> float:
    """Measure the bytes per CPU second that one core reads and writes when it scales an array in place."""
    array = allocate_aligned(megabytes << 17, np.float64)
    spent = []
    for _ in range(repeats + 1):  # the first one maps the memory
        begin = time.thread_time()
        np.multiply(array, 0.5, out=array)
        spent.append(time.thread_time() - begin)
    return 2 * array.nbytes / median(spent[1:])


def hide_avx512() -> None:
    """Generate code for AVX2 from now on, although this processor has AVX-512; call it before any is generated."""
    features = {name: has and "avx512" not in name for name, has in binding.get_host_cpu_features().items()}
    binding.get_host_cpu_features = lambda: binding.targets.FeatureMap(features)
    binding.get_host_cpu_name = lambda: "haswell"
    lane_width.cache_clear()


def description() -> dict[str, Any]:
    """Describe the machine, for the tables of measurements."""
    return {
        "processor": processor(),
        "cores": cores(),
        "lanes": f"{lane_width(False)} in double, {lane_width(True)} in single precision",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": date.today().isoformat(),
    }


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the name of the processor."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = lines[0] if lines else name
    return f"{name} ({binding.get_host_cpu_name()})"


__all__ = ["bandwidth", "best_chains", "cores", "description", "hide_avx512", "peak"]
