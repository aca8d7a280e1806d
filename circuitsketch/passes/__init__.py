"""Passes: circuits in, circuits out. The gradient, the identities, sharing and pruning."""

from circuitsketch.passes.gradient import evaluate, grad, jvp, pull_back, value_and_grad
from circuitsketch.passes.simplify import prune, simplify

__all__ = ["evaluate", "grad", "jvp", "prune", "pull_back", "simplify", "value_and_grad"]
