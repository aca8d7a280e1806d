"""What a backend is: Protocols that `cpu/` and `cuda/` implement, which mypy checks, and plain data that they share.

A `Backend` makes a `Target` (what code is written for) and links tapes to an `Executable` (code and addresses), which
gives `Arena`s (one thread's memory), on which a `Schedule` is played. Callers ask nothing else; `registry` has the
backends by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from circuitsketch.lower.instructions import Instruction, Mode, Placement
from circuitsketch.lower.layout import Layout
from circuitsketch.lower.tape import Tape

# Above this order a rule's loops over coefficients are loops of the kernel, not straight code.
STRAIGHT_ORDER = 8
CACHE_LINE = 64  # bytes

Report = Callable[[int, int], None]  # called with (steps done, steps)


class Phases(IntFlag):
    """What of a step is played: its constants, its lanes, carrying the state on to the next step."""

    CONSTANT = 1
    LANE = 2
    CARRY = 4
    ALL = CONSTANT | LANE | CARRY


@dataclass(frozen=True, slots=True)
class Target:
    """What kernels are compiled for: what lanes hold, how many there are, in which precision.

    device : the backend that it belongs to, by its name in `registry`.
    """

    mode: Mode
    width: int
    single: bool = False

    device: ClassVar[str] = "cpu"

    @property
    def straight(self) -> bool:
        """Whether products of series are written out."""
        return self.mode.values or self.mode.order <= STRAIGHT_ORDER

    @property
    def unit(self) -> int:
        """Numbers in one element's lane block."""
        return self.mode.components * self.width


@dataclass(frozen=True, eq=False)
class Schedule:
    """What every step does and reads: which program, packed data, example ids; `_start` arrays have one entry more."""

    program: np.ndarray
    data: np.ndarray
    data_start: np.ndarray
    ids: np.ndarray
    ids_start: np.ndarray

    @staticmethod
    @cache
    def single() -> Schedule:
        """One step of program 0 that reads nothing."""
        zero = np.zeros(1, dtype=np.int64)
        two = np.zeros(2, dtype=np.int64)
        return Schedule(zero, np.zeros(0), two, zero[:0], two)


@dataclass(frozen=True, eq=False)
class Record:
    """The inputs of consecutive steps, kept by a run for a sweep that plays them in reverse; the last step comes first.

    Attributes
    ----------
    last : the number of the step after the last one.
    constants, starts : state, data and keeps of each step, packed, and where each step's begin (one entry more).
    lanes : (blocks, steps, numbers), the lanes of the state; None if there are none.
    """

    last: int
    constants: np.ndarray
    starts: np.ndarray
    lanes: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums, by example, of the entries of one output over all steps.

    Attributes
    ----------
    output : the position of the output, which has an entry per example of the step.
    ids, starts : the examples of each step, packed, and where each step's begin (one entry more).
    constants : (examples,). lanes : (blocks, examples, components, width), in double precision.
    """

    output: int
    ids: np.ndarray
    starts: np.ndarray
    constants: np.ndarray
    lanes: np.ndarray


class InstructionTime(NamedTuple):
    """One instruction: its stage, what it does, where it comes from, seconds, useful multiply-adds (contractions)."""

    stage: str
    name: str
    extents: tuple[int, ...]
    place: str
    seconds: float
    multiply_adds: int

    @property
    def rate(self) -> float:
        """Multiply-adds per second."""
        return self.multiply_adds / self.seconds if self.seconds else 0.0


class Executable(Protocol):
    """Code and addresses for a family of circuits over one state. `linking.Linked` says what the attributes hold;
    a row of `programs` is a `linking.ProgramRow`: where a program lies among `instructions`."""

    @property
    def target(self) -> Target: ...  # noqa: D102
    @property
    def tapes(self) -> Sequence[Tape]: ...  # noqa: D102
    @property
    def placements(self) -> Sequence[Placement]: ...  # noqa: D102
    @property
    def instructions(self) -> Sequence[Instruction]: ...  # noqa: D102
    @property
    def programs(self) -> np.ndarray: ...  # noqa: D102
    @property
    def state_lane(self) -> list[int]: ...  # noqa: D102
    @property
    def state_cells(self) -> int: ...  # noqa: D102
    @property
    def lane_state_cells(self) -> int: ...  # noqa: D102
    @property
    def lane_end(self) -> int: ...  # noqa: D102
    @property
    def constant_end(self) -> int: ...  # noqa: D102
    @property
    def unit(self) -> int: ...  # noqa: D102

    def arena(self, blocks: int = 1) -> Arena:
        """Fresh memory for some lane blocks that are played together, plain data in place."""

    def arena_bytes(self, blocks: int = 1) -> int:
        """Bytes of this machine's memory that the arena for some lane blocks takes."""

    def together(self, blocks: int, examples: int = 0) -> int:
        """How many of some lane blocks one call should be given; examples : whose directions lie in the same memory.

        Raises
        ------
        DeviceError : not even one fits.
        """

    def side_by_side(self, blocks: int, examples: int, threads: int | None) -> int:
        """How many of some lane blocks one call should carry through a whole run."""

    def threads(self, asked: int | None) -> int | None:
        """On how many threads calls run, of those asked for (None: one per core)."""

    def check_memory(self, blocks: int, examples: int, threads: int | None) -> None:
        """Raise an InputError where the memory that these threads would play some lane blocks in is not there."""

    def progress(self, now: float, told: float, seconds: float) -> float | None:
        """What to say of `now` lane blocks done when `told` were said `seconds` ago; None where nothing is due."""


class Arena(Protocol):
    """One thread's memory for some lane blocks: constant terms that all lanes share, and lanes."""

    @property
    def executable(self) -> Executable: ...  # noqa: D102
    @property
    def constants(self) -> np.ndarray: ...  # noqa: D102

    def set_state(self, leaves: Sequence[np.ndarray]) -> None:
        """Put the state's constant terms, and clear its lanes (where they hold values: set them)."""

    def state(self) -> list[np.ndarray]:
        """Copies of the state's constant terms."""

    def lane_state(self, block: int = 0) -> np.ndarray:
        """The state in one lane block, varying leaves one after the other: (elements, components, width)."""

    def put_lane_state(self, block: int, lanes: np.ndarray) -> None:
        """Set the state in one lane block."""

    def constant_view(self, program: int, layout: Layout) -> np.ndarray:
        """A wire's constant terms."""

    def lane_view(self, program: int, layout: Layout, block: int = 0) -> np.ndarray:
        """A wire in one lane block: (*shape, components, width)."""

    def run(
        self,
        schedule: Schedule,
        first: int,
        last: int,
        at: np.ndarray,
        directions: np.ndarray | None = None,
        *,
        begins: np.ndarray | None = None,
        watch: bool = False,
        phases: Phases = Phases.ALL,
        record: Record | None = None,
        source: Record | None = None,
        totals: Totals | None = None,
    ) -> int:
        """Play steps first..last; returns the step after which the state was not finite (-1: none, or not watched).

        at : the point of expansion, downweights (n,). directions : (blocks, n, parts, width).
        begins : the first step of each block's lanes (default: all steps).
        record : where to keep the inputs of the steps. source : a record whose lanes step t reads from row t, as the
            lanes of the inputs that follow the state. totals : where to add up an output.
        """

    def slices(
        self,
        schedule: Schedule,
        at: np.ndarray,
        directions: np.ndarray,
        begins: np.ndarray | None = None,
        report: Report | None = None,
    ) -> Iterator[None]:
        """Play all steps in slices, yielding after each, so that other arenas can have the thread (see `scheduler`)."""


class Backend(Protocol):
    """What makes targets and executables.

    widths_vary : whether a block's lanes are chosen by how many there are in all; work begun then keeps its width.
    """

    @property
    def widths_vary(self) -> bool: ...  # noqa: D102

    def check(self) -> None:
        """Raise a DeviceError, which says what was looked for, where this backend has nothing to run on."""

    def target(self, mode: Mode, single: bool, width: int | None, lanes: int) -> Target:
        """What to write code for, when about so many lanes are to be carried; `width` : lanes per block, if given.

        Raises
        ------
        DeviceError : there is no device. InputError : a width that cannot be.
        """

    def link(
        self,
        tapes: Sequence[Tape],
        target: Target,
        state_count: int,
        has_keep: bool,
        phases: Phases = Phases.ALL,
    ) -> Executable:
        """One executable of tapes whose first `state_count` inputs are the same state, and whose last is the weights.

        phases : what will be played of it; code for the rest is not compiled.
        """

    def profile(self, arena: Arena, program: int, seconds: float) -> list[InstructionTime]:
        """Time every instruction of a program, each for about so many seconds."""
