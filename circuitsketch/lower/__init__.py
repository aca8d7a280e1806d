"""Lowering: a circuit in, a tape of few kernels on buffers out."""
