"""Checks of a circuit at a point, before kernels run: run-time indices and domains of gates."""
