"""Print a tape: what runs, in order, on which elements, and for which of the user's lines."""

from __future__ import annotations

from collections.abc import Sequence

from circuitsketch.lower.fusion import Group
from circuitsketch.lower.instructions import Mode


def format_tape(mode: Mode, constant_groups: Sequence[Group], lane_groups: Sequence[Group]) -> str:
    """Return both phases of a tape as text, one line per chain, contraction or movement."""
    if mode.values:
        held = "values"
    else:
        held = f"coefficients 1..{mode.order}, {'complex' if mode.complex else 'real'}" if mode.order else "nothing"
    lines = [f"tape: lanes hold {held}; {len(constant_groups)} + {len(lane_groups)} groups"]
    for title, groups in (("constant phase", constant_groups), ("lane phase", lane_groups)):
        if groups:
            lines.append(f"  {title}")
            lines += [f"    {format_group(group)}" for group in groups]
    return "\n".join(lines)


def format_group(group: Group) -> str:
    """Return the line of a group."""
    last = group.operations[-1]
    extents = "x".join(str(n) for n in last.node.shape) or "1"
    if group.is_chain:
        what = " ".join(operation.node.gate.name for operation in group.operations)
    else:
        what = last.node.gate.name + (f" {last.spec}" if last.spec else "")
    return f"{extents:>12}  {what}  # {last.node.place}"
