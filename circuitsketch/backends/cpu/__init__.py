"""The CPU backend: directions are the lanes of SIMD vectors, lane blocks are the unit of work of a thread."""

from functools import cache

from llvmlite import binding


@cache
def lane_width(single: bool) -> int:
    """Lanes a vector register holds here: 64 bytes with AVX-512, 32 with AVX2, else 16."""
    features = binding.get_host_cpu_features()
    size = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    return size // (4 if single else 8)


@cache
def vector_registers() -> int:
    """How many vector registers there are: 32 with AVX-512 and on ARM, else 16."""
    wide = binding.get_host_cpu_features().get("avx512f")
    return 32 if wide or binding.get_process_triple().startswith(("aarch64", "arm64")) else 16
