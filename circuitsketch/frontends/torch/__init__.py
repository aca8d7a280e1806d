"""The PyTorch front end: entire training steps and functions, written in PyTorch, as programs of wires.

In: a function of tensors, as a graph of ATen operations (`capture`). Out: a function of wires that computes the same in
double precision. A value of a graph is static, the same in every step; known, different per step, but computed by
PyTorch for all steps in advance, since no example's weight reaches it; or a wire. `program` tells them apart, `rules`
translates what meets wires, `step` imports training steps and `function` functions.
"""

from circuitsketch.frontends.torch.function import import_function
from circuitsketch.frontends.torch.optimiser import Optimiser
from circuitsketch.frontends.torch.step import check_order, import_step

__all__ = ["Optimiser", "check_order", "import_function", "import_step"]
