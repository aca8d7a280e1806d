"""What JAX computes in advance, for all steps: everything that no weight reaches.

In: the jaxprs of the kinds of steps, the initial state, and the batches. Out: which leaves of the state weights reach;
and for each step the path that it takes through branches on known values, and the known values that wires meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from circuitsketch.frontends.jax.values import Known, Reached, is_reached
from circuitsketch.frontends.jax.walk import KnownWalk, Program, ReachWalk, Undecided, Walk, WireWalk

# For the draws of a transformer's dropout, LLVM takes a quarter of the time that it takes at its highest level, 3, and
# the code is up to 1.3 times as slow (AMD EPYC, jax 0.10): a training calls it once per step.
QUICKLY = {"xla_backend_optimization_level": 1}


@dataclass(frozen=True, eq=False)
class StepKind:
    """The jaxpr of steps whose batches have one structure and shape: (state, batch, keep) to state, leaf by leaf.

    Attributes
    ----------
    jaxpr : closed. state, batch : the avals of their arrays. keep : that of the weights.
    """

    jaxpr: Any
    state: tuple[Any, ...]
    batch: tuple[Any, ...]
    keep: Any

    def walk(self, walk: Walk, state: Sequence[Any], batch: Sequence[Any], keep: Any) -> list[Any]:
        """Return the new state of a walk."""
        jaxpr = self.jaxpr.jaxpr
        return walk.run(jaxpr, self.jaxpr.consts, [*state, *batch, keep], [True] * len(jaxpr.outvars))


class Foreknowledge:
    """The part of a training that JAX computes before it begins.

    Parameters
    ----------
    leaves : the arrays of the initial state. kinds : of the steps.

    Attributes
    ----------
    reached : the positions of the leaves of the state that weights reach.
    fixed : of those that no step changes, with their arrays.
    """

    def __init__(self, leaves: Sequence[Any], kinds: Sequence[StepKind]) -> None:
        self.program = Program()
        self.leaves = leaves
        self.fixed: dict[int, Any] = {}
        self.reached = self.find_reached(kinds)
        self.fixed = self.find_fixed(kinds)
        self.known = [i for i in range(len(leaves)) if i not in self.fixed and i not in self.reached]
        self.compiled: dict[tuple[StepKind, tuple[int, ...]], Any] = {}

    def inputs(self, kind: StepKind, reached: Mapping[int, Any], known: Mapping[int, Any]) -> list[Any]:
        """Return the values of the state before a step."""
        return [
            self.fixed[i] if i in self.fixed else reached[i] if i in reached else Known(aval, known.get(i))
            for i, aval in enumerate(kind.state)
        ]

    def look(self, kind: StepKind, reached: Sequence[int]) -> tuple[list[Any], list[Any]]:
        """Return the values of the state before and after a step, without computing them."""
        before = self.inputs(kind, {i: Reached(kind.state[i]) for i in reached}, {})
        batch = [Known(aval) for aval in kind.batch]
        return before, kind.walk(ReachWalk(self.program), before, batch, Reached(kind.keep))

    def find_reached(self, kinds: Sequence[StepKind]) -> tuple[int, ...]:
        """Return the leaves that weights reach, at a first step or, through other leaves, at a later one."""
        reached: set[int] = set()
        while True:
            states = [self.look(kind, sorted(reached))[1] for kind in kinds]
            more = reached | {i for state in states for i, value in enumerate(state) if is_reached(value)}
            if more == reached:
                return tuple(sorted(reached))
            reached = more

    def find_fixed(self, kinds: Sequence[StepKind]) -> dict[int, Any]:
        """Return the leaves that every step returns as they are: they are static."""
        looks = [self.look(kind, self.reached) for kind in kinds]
        unchanged = (i for i in range(len(self.leaves)) if all(after[i] is before[i] for before, after in looks))
        return {i: self.leaves[i] for i in unchanged if i not in self.reached}

    def compile(self, kind: StepKind, decisions: tuple[int, ...]) -> Any:
        """Return the function (known state, batch) -> (a test to be decided, None) or (None, (met, known state))."""
        if (kind, decisions) not in self.compiled:

            def compute(known: dict[int, Any], batch: list[Any]) -> Any:
                walk = KnownWalk(self.program, decisions)
                before = self.inputs(kind, {i: Reached(kind.state[i]) for i in self.reached}, known)
                inputs = [Known(aval, array) for aval, array in zip(kind.batch, batch, strict=True)]
                try:
                    after = kind.walk(walk, before, inputs, Reached(kind.keep))
                except Undecided as undecided:
                    return undecided.test, None
                for i in self.reached:
                    if isinstance(after[i], Known):
                        walk.meet(after[i])
                state = {i: value_in(after[i], kind.state[i]) for i in self.known}
                return None, ([known.value for _, known in walk.met.values()], state)

            self.compiled[kind, decisions] = jax.jit(compute, compiler_options=QUICKLY)
        return self.compiled[kind, decisions]

    def step(
        self, kind: StepKind, known: dict[int, Any], batch: list[Any]
    ) -> tuple[tuple[int, ...], list[np.ndarray], dict[int, Any]]:
        """Return the decisions of a step, the known values that wires meet in it, and the known state after it."""
        decisions: tuple[int, ...] = ()
        while True:
            test, results = self.compile(kind, decisions)(known, batch)
            if results is not None:
                return decisions, [np.asarray(value) for value in jax.device_get(results[0])], results[1]
            decisions += (int(test),)

    def record(
        self, kind: StepKind, decisions: tuple[int, ...], state: Mapping[int, Any], batch: Sequence[Any], keep: Any
    ) -> list[Any]:
        """Return the wires of the leaves that weights reach after a step; batch : the known values that wires meet."""
        walk = WireWalk(self.program, decisions, batch)
        after = kind.walk(walk, self.inputs(kind, state, {}), [Known(aval) for aval in kind.batch], keep)
        return [walk.meet(after[i]) if isinstance(after[i], Known) else after[i] for i in self.reached]


def value_in(value: Any, aval: Any) -> Any:
    """Return a known or static value as JAX's array, in the dtype that the state has before the next step."""
    array = value.value if isinstance(value, Known) else value
    return array if array.dtype == aval.dtype else jax.numpy.asarray(array, aval.dtype)
