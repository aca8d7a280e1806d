"""Passes: circuits in, circuits out. Identities, sharing and pruning."""

from circuitsketch.passes.simplify import prune, simplify

__all__ = ["prune", "simplify"]
