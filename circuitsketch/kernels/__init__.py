"""Kernels: a tape and coefficients in, coefficients out. `reference` says what is right, `cpu` and `cuda` how fast."""
