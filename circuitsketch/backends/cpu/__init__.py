"""The CPU backend: directions are the lanes of SIMD vectors, and a thread runs a few lane blocks at a time."""

from functools import cache

from llvmlite import binding


@cache
def lane_width(single: bool) -> int:
    """Return the number of lanes in a vector register: of 64 bytes with AVX-512, 32 with AVX2, else 16."""
    features = binding.get_host_cpu_features()
    size = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    return size // (4 if single else 8)


@cache
def vector_registers() -> int:
    """Return the number of vector registers: 32 with AVX-512 and on ARM, else 16."""
    wide = binding.get_host_cpu_features().get("avx512f")
    return 32 if wide or binding.get_process_triple().startswith(("aarch64", "arm64")) else 16
