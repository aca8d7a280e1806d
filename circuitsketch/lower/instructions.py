"""What there is to run: kernel records, which say what code is wanted, and instructions, which say where.

A kernel record is compiled once, whatever the shapes: those are arguments, so that documents of all lengths share
kernels (see `packing`). Plain data; `tape` chooses what runs, `encode` makes the instructions, `backends/` the machine
code.

Two phases. The *constant phase* computes the real values that all lanes share. The *lane phase* computes what differs
from lane to lane: Taylor coefficients 1..order, or, for many retrainings at once, plain values.
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
        """Real numbers a lane and element."""
        return 1 if self.values else self.order * (2 if self.complex else 1)


@dataclass(frozen=True, slots=True)
class ChainOperand:
    """Something that a chain reads: its constant term, its lanes, or both; `step` is how its innermost axis moves."""

    constant: bool
    lanes: bool
    step: Step = "?"


@dataclass(frozen=True, slots=True)
class ChainGate:
    """A gate in a chain. References >= 0 are operands of the chain, ~i is the chain's gate i.

    gate : the record itself and not its name, which a user may give to another gate later.
    value and companions : the operands of the chain that hold this gate's own constant terms (lane phase), or -1.
    exact : the parameters as text, which tells -0.0 from 0.0 and True from 1.
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
    """Fused elementwise gates. `results` are (gate, part): part 0 the result, j its companion j. `axes`: how many axes
    are walked, those before them having extent 1 (chosen by a backend)."""

    phase: Phase
    operands: tuple[ChainOperand, ...]
    gates: tuple[ChainGate, ...]
    results: tuple[tuple[int, int], ...]
    steps: tuple[Step, ...] = ()
    axes: int = CHAIN_AXES


@dataclass(frozen=True, slots=True)
class ContractKernel:
    """A contraction; `left` and `right` say whether that operand has lanes. `vector`: the columns of the right operand
    and of the result are neighbours (constant phase). `packed`: the kernel copies columns of the right operand together
    (chosen by a backend, for its caches)."""

    phase: Phase
    left: bool = False
    right: bool = False
    vector: bool = False
    packed: bool = False


@dataclass(frozen=True, slots=True)
class MoveKernel:
    """Entries copied, added or maximised from one layout to another, perhaps through an index."""

    phase: Phase
    combine: Literal["copy", "add", "max"]
    index: Literal["none", "source", "target"] = "none"


@dataclass(frozen=True, slots=True)
class FillKernel:
    """A run of elements set to a number (its bits are the argument)."""

    phase: Phase


Kernel = ChainKernel | ContractKernel | MoveKernel | FillKernel


@dataclass(frozen=True, slots=True)
class Instruction:
    """A kernel and its arguments, of the kernel's kind; `place` is where the user asked for (the last gate of) it."""

    kernel: Kernel
    arguments: Arguments
    place: Place
    wires: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each buffer lies: element numbers in the constant arena and in the lane arena."""

    constant: Mapping[int, int]
    lane: Mapping[int, int]
