"""Kernel records, which say what code to generate, and instructions, which say what data it works on. All are data.

A kernel record does not contain shapes: those are arguments (see `packing`), so that documents of all lengths share
kernels. `tape` chooses what runs, `encode` makes the instructions, and `backends/` the code.

Two phases. The *constant phase* computes the real values that all lanes share. The *lane phase* computes what differs
from lane to lane: Taylor coefficients 1..order, or, for several retrainings, plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from circuitsketch.circuit import Place
from circuitsketch.gates import Gate
from circuitsketch.lower.packing import CHAIN_AXES, Arguments

Phase = Literal["constant", "lane"]
Step = Literal["0", "1", "?"]


@dataclass(frozen=True, slots=True)
class Mode:
    """What a lane holds: Taylor coefficients 1..order (complex or real), or the value itself (order 0)."""

    order: int
    complex: bool = True
    values: bool = False

    @property
    def components(self) -> int:
        """The number of reals per lane and element."""
        return 1 if self.values else self.order * (2 if self.complex else 1)


@dataclass(frozen=True, slots=True)
class ChainOperand:
    """An operand of a chain; constant, lanes : whether they are read. step : along the innermost axis."""

    constant: bool
    lanes: bool
    step: Step = "?"


@dataclass(frozen=True, slots=True)
class ChainGate:
    """A gate in a chain. References >= 0 are operands of the chain, ~i is the chain's gate i.

    gate : the record and not its name, which a user may give to another gate later.
    value, companions : the operands of the chain that hold this gate's own constant terms (lane phase), or -1.
    exact : the parameters as text, in which -0.0 differs from 0.0 and True from 1.
    """

    gate: Gate
    params: tuple[tuple[str, Any], ...]
    operands: tuple[int, ...]
    value: int = -1
    companions: tuple[int, ...] = ()
    exact: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact", repr(self.params))


@dataclass(frozen=True, slots=True)
class ChainKernel:
    """Fused elementwise gates.

    results : as (gate, part); part 0 is the gate's result, part j its companion j.
    axes : how many axes have loops; those before them have length 1. Chosen by a backend.
    """

    phase: Phase
    operands: tuple[ChainOperand, ...]
    gates: tuple[ChainGate, ...]
    results: tuple[tuple[int, int], ...]
    steps: tuple[Step, ...] = ()
    axes: int = CHAIN_AXES


@dataclass(frozen=True, slots=True)
class ContractKernel:
    """A contraction.

    left, right : whether that operand has lanes.
    vector : whether the columns of the right operand and of the result are contiguous (constant phase).
    packed : whether the kernel copies columns of the right operand to contiguous memory. Chosen by a backend.
    prefetched : whether it prefetches columns of the right operand from memory. Chosen by a backend.
    panel : how many rows of the result it computes before it goes on to other columns; 0 for all. Chosen by a backend.
    """

    phase: Phase
    left: bool = False
    right: bool = False
    vector: bool = False
    packed: bool = False
    prefetched: bool = False
    panel: int = 0


@dataclass(frozen=True, slots=True)
class MoveKernel:
    """A copy, addition, maximum or minimum of elements from one layout to another.

    A maximum or minimum of series takes the coefficients of an element whose constant term is that of the target.

    index : the side with run-time indices.
    """

    phase: Phase
    combine: Literal["copy", "add", "max", "min"]
    index: Literal["none", "source", "target"] = "none"

    @property
    def selects(self) -> bool:
        """Whether constant terms choose which series are moved, unless lanes hold values."""
        return self.phase == "lane" and self.combine in ("max", "min")


@dataclass(frozen=True, slots=True)
class FillKernel:
    """A run of elements set to a number."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class UpdateKernel:
    """A contraction of the lane phase, and the chain that is all that reads its result. Made by a backend.

    operand : the operand of the chain that is the result, which is not stored.
    """

    contraction: ContractKernel
    chain: ChainKernel
    operand: int

    @property
    def phase(self) -> Phase:
        """The phase of both."""
        return self.chain.phase

    @property
    def gates(self) -> tuple[ChainGate, ...]:
        """The gates of the chain."""
        return self.chain.gates


Kernel = ChainKernel | ContractKernel | UpdateKernel | MoveKernel | FillKernel


@dataclass(frozen=True, slots=True)
class Instruction:
    """A kernel and its arguments.

    place : the user's line of its last gate. wires : of all its gates.
    consumed : whether only the next instruction reads the result (of a contraction).
    """

    kernel: Kernel
    arguments: Arguments
    place: Place
    wires: tuple[int, ...]
    consumed: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """The first element of each buffer in the constant arena and in the lane arena."""

    constant: Mapping[int, int]
    lane: Mapping[int, int]
