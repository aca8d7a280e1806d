"""The walk through a jaxpr, with calls inlined and branches on known values decided.

In: a jaxpr and the values of its inputs, static, known or reached by weights. Out: the values of its outputs. The same
walk is taken three times, and only what it does with known and reached values differs: `ReachWalk` finds what weights
reach, `KnownWalk` has JAX compute what is known, and `WireWalk` records gates. The last two see the same values in the
same order, so that they agree on what the circuit is given: the known values that wires meet, numbered as they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from circuitsketch.frontends.jax.control_flow import CONTROL_FLOW
from circuitsketch.frontends.jax.liveness import Liveness, called_jaxpr
from circuitsketch.frontends.jax.places import Places
from circuitsketch.frontends.jax.primitives import PRIMITIVES, VIEWS, evaluate_in_numpy, find_rule
from circuitsketch.frontends.jax.refusals import refuse
from circuitsketch.frontends.jax.values import Known, Reached, is_complex, is_reached, is_static, plain
from circuitsketch.frontends.numpy import located


class Undecided(Exception):
    """A branch depends on a known value that no decision was given for; `test` is that value."""

    def __init__(self, test: Any) -> None:
        self.test = test


class Program:
    """What the walks of an import share: live equations, their lines, and static values, each computed once."""

    def __init__(self) -> None:
        self.liveness = Liveness()
        self.places = Places()
        self.static: dict[tuple[int, ...], tuple[Any, list[Any]]] = {}

    def compute_static(self, equation: Any, operands: Sequence[Any]) -> list[Any]:
        """Return the results of an equation of static values: NumPy's where that is simple, else JAX's."""
        key = id(equation), *map(id, operands)
        if key not in self.static:
            results = evaluate_in_numpy(equation, operands)
            if results is None:
                with jax.ensure_compile_time_eval():
                    results = bind(equation, operands)
            self.static[key] = (equation, operands), results
        return self.static[key][1]

    def literal(self, literal: Any) -> Any:
        """Return the value of a literal, always the same object."""
        key = (id(literal),)
        if key not in self.static:
            self.static[key] = literal, [np.asarray(literal.val, literal.aval.dtype)]
        return self.static[key][1][0]


def bind(equation: Any, operands: Sequence[Any]) -> list[Any]:
    """Return the results of an equation, computed or staged by JAX."""
    results = equation.primitive.bind(*operands, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


class Walk:
    """A walk; this class does what all three have in common.

    Parameters
    ----------
    program : what the walks share.
    decisions : the outcomes of branches on known values, in order; None: look at every branch.
    """

    def __init__(self, program: Program, decisions: Sequence[int] | None) -> None:
        self.program = program
        self.decisions = decisions
        self.decided = 0
        self.met: dict[int, tuple[int, Known]] = {}  # by identity, the known values that wires meet, numbered

    def run(self, jaxpr: Any, consts: Sequence[Any], operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
        """Return the outputs of a jaxpr; None for those that are not wanted."""
        values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, operands, strict=True))

        def read(v: Any) -> Any:
            return self.program.literal(v) if isinstance(v, Literal) else values.get(v)

        for equation, outputs in self.program.liveness.equations(jaxpr, wanted):
            results = self.equation(equation, [read(v) for v in equation.invars], outputs)
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(v) if needed else None for v, needed in zip(jaxpr.outvars, wanted, strict=True)]

    def equation(self, equation: Any, operands: list[Any], wanted: Sequence[bool]) -> list[Any]:
        """Return the results of an equation; those that are not wanted may be None."""
        called = called_jaxpr(equation)
        if called is not None and not (any(map(is_reached, operands)) and find_rule(equation)):
            with self.program.places.inside(equation, called):
                return self.run(called.jaxpr, called.consts, operands, wanted)
        if not any(map(is_reached, operands)):
            pairs = zip(operands, equation.invars, strict=True)
            operands = [np.zeros(v.aval.shape, v.aval.dtype) if x is None else x for x, v in pairs]  # that nobody reads
            if not any(isinstance(operand, Known) for operand in operands):
                return self.program.compute_static(equation, operands)
            return self.compute_known(equation, operands)
        if (control := CONTROL_FLOW.get(equation.primitive.name)) is not None:
            with self.program.places.inside(equation):
                return control(self, equation, operands, wanted)
        return self.reach(equation, [self.meet(v) if isinstance(v, Known) else v for v in operands])

    def decide(self, value: Any) -> int | None:
        """Return the outcome of a branch on a static or known value; None: look at every branch."""
        if is_static(value):
            return int(value)
        if self.decisions is None:
            return None
        if self.decided == len(self.decisions):
            raise Undecided(value.value)
        self.decided += 1
        return self.decisions[self.decided - 1]

    def view_of(self, equation: Any, operands: Sequence[Any]) -> tuple[Any, Known] | None:
        """Return the view that an equation makes of a known value, or None."""
        return (equation, operands[0]) if equation.primitive.name in VIEWS and len(operands) == 1 else None

    def compute_known(self, equation: Any, operands: list[Any]) -> list[Any]:
        """Return known results without computing them."""
        return [Known(v.aval, None, self.view_of(equation, operands)) for v in equation.outvars]

    def reach(self, equation: Any, operands: list[Any]) -> list[Any]:
        """Return results that weights reach without computing them."""
        return [Reached(v.aval) for v in equation.outvars]

    def meet(self, known: Known) -> Any:
        """Return what wires meet of a known value."""
        if known.view is not None:
            return self.reach(known.view[0], [self.meet(known.view[1])])[0]
        number = self.met.setdefault(id(known), (len(self.met), known))[0]
        return self.hand_over(number, known)

    def hand_over(self, number: int, known: Known) -> Any:
        """Return the known value of this number as the circuit is given it."""
        return Reached(known.aval)

    def slice_first(self, value: Any, number: int) -> Any:
        """Return one row of a value."""
        if isinstance(value, Known):
            row = None if value.value is None else value.value[number]
            return Known(jax.ShapeDtypeStruct(value.aval.shape[1:], value.aval.dtype), row)
        if isinstance(value, Reached):
            return Reached(jax.ShapeDtypeStruct(value.aval.shape[1:], value.aval.dtype))
        key = id(value), number
        if is_static(value) and key not in self.program.static:
            with jax.ensure_compile_time_eval():
                self.program.static[key] = value, [value[number]]
        return self.program.static[key][1][0] if is_static(value) else value[number]

    def join_rows(self, rows: Sequence[Any], aval: Any) -> Any:
        """Return rows of one shape as one value."""
        if any(map(is_reached, rows)):
            return self.stack([self.meet(row) if isinstance(row, Known) else row for row in rows], aval)
        if not any(isinstance(row, Known) for row in rows):
            with jax.ensure_compile_time_eval():
                return jax.numpy.stack([jax.numpy.asarray(row) for row in rows])
        return self.stack_known(rows, aval)

    def stack(self, rows: Sequence[Any], aval: Any) -> Any:
        """Return rows that weights reach as one value."""
        return Reached(aval)

    def stack_known(self, rows: Sequence[Any], aval: Any) -> Known:
        """Return known rows as one value."""
        return Known(aval)

    def choose(self, equation: Any, which: Any, cases: Sequence[Any], aval: Any) -> Any:
        """Return the result of that branch which a reached value names."""
        return Reached(aval)


class ReachWalk(Walk):
    """Finds what weights reach; branches on known values may go either way."""

    def __init__(self, program: Program) -> None:
        super().__init__(program, None)


class KnownWalk(Walk):
    """Has JAX compute what is known, under its `jit`; the values of known inputs are tracers."""

    def compute_known(self, equation: Any, operands: list[Any]) -> list[Any]:
        """Return known results."""
        results = bind(equation, [v.value if isinstance(v, Known) else v for v in operands])
        view = self.view_of(equation, operands)
        return [Known(v.aval, result, view) for v, result in zip(equation.outvars, results, strict=True)]

    def stack_known(self, rows: Sequence[Any], aval: Any) -> Known:
        """Return known and static rows as one value."""
        arrays = [row.value if isinstance(row, Known) else jax.numpy.asarray(row) for row in rows]
        return Known(aval, jax.numpy.stack(arrays))


class WireWalk(Walk):
    """Records gates; `batch` has the known values that the circuit is given, in order."""

    def __init__(self, program: Program, decisions: Sequence[int], batch: Sequence[Any]) -> None:
        super().__init__(program, decisions)
        self.batch = batch

    def hand_over(self, number: int, known: Known) -> Any:
        """Return an entry of the batch."""
        return self.batch[number]

    def reach(self, equation: Any, operands: list[Any]) -> list[Any]:
        """Return the wires of an equation's results, by the primitive's rule."""
        rule = find_rule(equation)
        place = self.program.places.of(equation)
        if rule is None or any(is_complex(v.aval) for v in (*equation.invars, *equation.outvars)):
            raise refuse(equation, place)
        with located(place):
            results = rule(equation, *(plain(v) if is_static(v) else v for v in operands))
        results = list(results) if isinstance(results, list | tuple) else [results]
        for v, result in zip(equation.outvars, results, strict=True):
            assert np.shape(result) == tuple(v.aval.shape), (equation, np.shape(result))
        return results

    def stack(self, rows: Sequence[Any], aval: Any) -> Any:
        """Return rows as one wire."""
        return np.stack([plain(row) if is_static(row) else row for row in rows])

    def choose(self, equation: Any, which: Any, cases: Sequence[Any], aval: Any) -> Any:
        """Return the wire of the branch that a wire names."""
        with located(self.program.places.of(equation)):
            return PRIMITIVES["select_n"](
                equation, which, *(plain(case) if is_static(case) else case for case in cases)
            )
