"""Passes, which rewrite a circuit into an equivalent one: identities, sharing and pruning."""

from circuitsketch.passes.simplify import prune, simplify

__all__ = ["prune", "simplify"]
