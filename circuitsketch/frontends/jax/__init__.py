"""The JAX front end: entire training steps and functions, written in JAX, as programs of wires.

In: a function of JAX, as its jaxpr. Out: a function of wires that computes the same in double precision. A value of a
jaxpr is one of three (`values`): static, the same in every step; known, different per step, but computed by JAX for all
steps in advance, since no example's weight reaches it; or a wire. `walk` goes through a jaxpr, `primitives` translates
what meets wires, `step` imports training steps and `function` functions.
"""

from circuitsketch.frontends.jax.function import import_function
from circuitsketch.frontends.jax.state import array_leaves
from circuitsketch.frontends.jax.step import import_step

__all__ = ["array_leaves", "import_function", "import_step"]
