"""Reverse sweeps through a training run: the gradient of a measurement with respect to every example's weight."""
