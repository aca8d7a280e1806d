"""Backends: what runs a lowered circuit. The reference in NumPy, compiled CPU kernels, CUDA kernels."""
