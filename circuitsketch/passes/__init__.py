"""Passes, which rewrite a circuit into an equivalent one: identities, sharing, pruning, and gathering of scalars."""

from circuitsketch.passes.scalars import gather_scalars
from circuitsketch.passes.simplify import prune, simplify

__all__ = ["gather_scalars", "prune", "simplify"]
