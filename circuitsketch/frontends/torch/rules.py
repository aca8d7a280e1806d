"""The rules by which ATen operations become gates, by name; and the operations that are special in other ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from circuitsketch.frontends.torch.rules_elementwise import ELEMENTWISE
from circuitsketch.frontends.torch.rules_indexing import INDEXING
from circuitsketch.frontends.torch.rules_moving import MOVING
from circuitsketch.frontends.torch.rules_reducing import REDUCING
from circuitsketch.frontends.torch.rules_windows import WINDOWS

__all__ = ["BY_STRIDES", "RULES", "SHAPE_ONLY", "VIEWS"]

# By the name of the operation, or of one overload, such as aten.max.default.
RULES: dict[str, Callable[..., Any]] = {**ELEMENTWISE, **REDUCING, **MOVING, **INDEXING, **WINDOWS}
# Operations that read only the shape of a tensor.
SHAPE_ONLY = frozenset(
    """empty_like zeros_like ones_like full_like rand_like randn_like randint_like
    new_empty new_zeros new_ones new_full new_empty_strided""".split()
)
# Operations that address the memory of an array, which is in C order only if it is contiguous.
BY_STRIDES = ("as_strided", "as_strided_scatter")
# Of a known value, wires meet what it is a view of: views are not larger than it.
VIEWS = frozenset("expand view _unsafe_view unsqueeze squeeze permute t transpose alias detach clone".split())
