"""The contract of backends: Protocols that `cpu/` and `cuda/` implement, checked by mypy, and their plain data.

A `Backend` chooses a `Target` (what code is generated for) and links tapes to an `Executable` (code and addresses). An
executable allocates `Arena`s (one thread's memory), and an arena runs the steps of a `Schedule`. Callers use nothing
else; `registry` has the backends by name.
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

UNROLLED_ORDER = 8  # above it, the loops over coefficients in a rule are loops of the generated code
CACHE_LINE = 64  # bytes

Report = Callable[[int, int], None]  # called with (steps done, steps)


class Phases(IntFlag):
    """The phases of a step: its constants, its lanes, and carrying the new state to where the next step reads it."""

    CONSTANT = 1
    LANE = 2
    CARRY = 4
    ALL = CONSTANT | LANE | CARRY


@dataclass(frozen=True, slots=True)
class Target:
    """What code is generated for: what lanes hold, how many a block has, and in which precision.

    Attributes
    ----------
    mode : Mode
        What lanes hold.
    width : int
        The number of lanes in a block.
    single : bool
        Whether lanes are in single precision.
    device : str
        The name of the backend in `registry`.
    """

    mode: Mode
    width: int
    single: bool = False

    device: ClassVar[str] = "cpu"

    @property
    def is_unrolled(self) -> bool:
        """Whether products of series are written out term by term."""
        return self.mode.values or self.mode.order <= UNROLLED_ORDER

    @property
    def unit(self) -> int:
        """The number of reals in one element's lane block."""
        return self.mode.components * self.width


@dataclass(frozen=True, eq=False)
class Schedule:
    """What every step runs and reads: its program, its packed data and its example ids.

    Step t reads `data[data_start[t]:data_start[t + 1]]` and `ids[ids_start[t]:ids_start[t + 1]]`.
    """

    program: np.ndarray
    data: np.ndarray
    data_start: np.ndarray
    ids: np.ndarray
    ids_start: np.ndarray

    @staticmethod
    @cache
    def single_step() -> Schedule:
        """Return a schedule of one step, of program 0, that reads nothing."""
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
    """The time of one instruction.

    stage : "constant", "lane" or "carry". name : its gates, or its kind. extents : its axes longer than 1.
    place : the user's line. multiply_adds : the useful ones, of contractions.
    """

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
    """Code and addresses for a family of circuits with the same state.

    `linking.Linked` describes the attributes. A row of `programs` is a `linking.ProgramRow`: where the instructions of
    a program are among `instructions`.
    """

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

    def allocate_arena(self, blocks: int = 1) -> Arena:
        """Return new memory for lane blocks that run in one call, with the literals in place."""

    def arena_bytes(self, blocks: int = 1) -> int:
        """Return the bytes of host memory that an arena takes."""

    def choose_blocks_per_call(self, blocks: int, examples: int = 0) -> int:
        """Return how many of `blocks` lane blocks one call should run.

        examples : the number of examples whose directions are in the same memory.

        Raises
        ------
        DeviceError
            If not even one fits into the device's memory.
        """

    def choose_blocks_per_run(self, blocks: int, examples: int, threads: int | None) -> int:
        """Return how many of `blocks` lane blocks one call should carry through all steps of a run."""

    def limit_threads(self, threads: int | None) -> int | None:
        """Return how many threads may make calls, of those requested (None: one per core)."""

    def check_memory(self, blocks: int, examples: int, threads: int | None, together: int = 1) -> None:
        """Raise InputError unless there is memory for the arenas of these threads.

        together : the lane blocks that a thread carries through a run at a time.
        """

    def round_progress(self, now: float, reported: float, seconds: float) -> float | None:
        """Return the progress to report, or None if there is none yet.

        now : blocks done, with the shares of unfinished ones. reported, seconds : the last report, and its age.
        """


class Arena(Protocol):
    """One thread's memory for some lane blocks: the constant terms, which all lanes share, and the lanes."""

    @property
    def executable(self) -> Executable: ...  # noqa: D102
    @property
    def constants(self) -> np.ndarray: ...  # noqa: D102

    def set_state(self, leaves: Sequence[np.ndarray]) -> None:
        """Set the state's constant terms, and its lanes: to zero, or to the same values where lanes hold values."""

    def get_state(self) -> list[np.ndarray]:
        """Return copies of the state's constant terms."""

    def get_lane_state(self, block: int = 0) -> np.ndarray:
        """Return the state in one lane block, its varying leaves concatenated: (elements, components, width)."""

    def set_lane_state(self, block: int, lanes: np.ndarray) -> None:
        """Set the state in one lane block."""

    def view_constant(self, program: int, layout: Layout) -> np.ndarray:
        """Return a wire's constant terms."""

    def view_lanes(self, program: int, layout: Layout, block: int = 0) -> np.ndarray:
        """Return a wire in one lane block: (*shape, components, width)."""

    def run(
        self,
        schedule: Schedule,
        first: int,
        last: int,
        at: np.ndarray,
        directions: np.ndarray | None = None,
        *,
        first_steps: np.ndarray | None = None,
        check_finite: bool = False,
        phases: Phases = Phases.ALL,
        record: Record | None = None,
        source: Record | None = None,
        totals: Totals | None = None,
    ) -> int:
        """Run the steps from `first` to `last` (excluded).

        Parameters
        ----------
        at : ndarray (n,)
            The point of expansion: downweights.
        directions : ndarray (blocks, n, parts, width), optional
            Directions, or downweights where lanes hold values.
        first_steps : ndarray (blocks,), optional
            The first step of each block's lanes; by default all steps.
        check_finite : bool
            Whether to stop after a step with a state that is not finite.
        phases : Phases
            What to run of each step.
        record : Record, optional
            Where to keep the inputs of the steps.
        source : Record, optional
            A record whose lanes step t reads from row t, as the lanes of the inputs that follow the state.
        totals : Totals, optional
            Where to add up an output.

        Returns
        -------
        int
            The step after which the state was not finite, or -1.
        """

    def run_in_slices(
        self,
        schedule: Schedule,
        at: np.ndarray,
        directions: np.ndarray,
        first_steps: np.ndarray | None = None,
        report: Report | None = None,
    ) -> Iterator[None]:
        """Run all steps; yield now and then, so that other arenas can have the thread (see `scheduler`)."""


class Backend(Protocol):
    """A device: chooses targets and links executables.

    widths_vary : whether the number of lanes in a block depends on how many there are in all; a stored sketch then
        keeps the width that it began with.
    runs_constants : whether the device itself runs the constant phase, so that one run needs no lanes, and its working
        memory is the host's.
    """

    @property
    def widths_vary(self) -> bool: ...  # noqa: D102
    @property
    def runs_constants(self) -> bool: ...  # noqa: D102

    def check_available(self) -> None:
        """Raise DeviceError, which says what was looked for, if there is no such device."""

    def make_target(self, mode: Mode, single: bool, width: int | None, lanes: int) -> Target:
        """Return the target for about this many lanes; width : lanes per block, if prescribed.

        Raises
        ------
        DeviceError
            If there is no such device.
        InputError
            If the width is not possible.
        """

    def link(
        self,
        tapes: Sequence[Tape],
        target: Target,
        state_count: int,
        has_keep: bool,
        phases: Phases = Phases.ALL,
    ) -> Executable:
        """Link tapes to one executable.

        Parameters
        ----------
        tapes : sequence of Tape
            Their first `state_count` inputs are the same state.
        target : Target
            What to generate code for.
        state_count : int
            The number of state leaves.
        has_keep : bool
            Whether the last input of every tape holds the weights of the step's examples.
        phases : Phases
            What will be run; no code is generated for the rest.
        """

    def profile(self, arena: Arena, program: int, seconds: float) -> list[InstructionTime]:
        """Time every instruction of a program, each for about this many seconds."""
