"""Loops and branches: scan is unrolled, cond and while are decided where their test is known.

In: a walk, an equation and its operands, some of which weights reach. Out: its results. A cond on a wire computes every
branch and selects; a while whose end depends on a wire has no fixed circuit and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from circuitsketch.errors import TraceError
from circuitsketch.frontends.jax.values import Known, aval_of, is_reached

LONGEST = 100_000  # rounds of a while loop
LARGEST = 100_000  # operations of a loop that is unrolled; with their gradient, they take half a minute


def check_size(walk: Any, rounds: int, operations: int) -> None:
    """Raise TraceError if a loop of so many rounds, each of so many operations, is too large to be unrolled."""
    if rounds * operations > LARGEST:
        raise TraceError(
            f"{walk.program.places.caller} repeats {operations:,} operation(s) {rounds:,} times, and a circuit has no "
            f"loops: unrolled, these would be {rounds * operations:,}, above {LARGEST:,}. Use fewer rounds (shorter "
            "sequences, fewer inner steps), operations on entire arrays instead of one row per round (jnp.cumsum, "
            "matrix products), or a loop over data alone, which no weight reaches and JAX computes"
        )


def unroll_scan(walk: Any, equation: Any, operands: list[Any], wanted: Sequence[bool]) -> list[Any]:
    """Walk through the body of a scan once per round."""
    params = equation.params
    first, carried, rounds = params["num_consts"], params["num_carry"], params["length"]
    consts, carry, inputs = operands[:first], operands[first : first + carried], operands[first + carried :]
    body = walk.program.liveness.scan_outputs(equation, wanted)
    check_size(walk, rounds, walk.program.liveness.count(params["jaxpr"].jaxpr, body))
    read = walk.program.liveness.scan_operands(equation, wanted)[first + carried :]
    rows: list[list[Any]] = []
    for number in reversed(range(rounds)) if params["reverse"] else range(rounds):
        row = [walk.slice_first(x, number) if needed else None for x, needed in zip(inputs, read, strict=True)]
        results = walk.run(params["jaxpr"].jaxpr, params["jaxpr"].consts, [*consts, *carry, *row], body)
        carry = results[:carried]
        rows.append(results[carried:])
    if params["reverse"]:
        rows.reverse()
    columns = zip(*rows, strict=True) if rows else ((),) * (len(equation.outvars) - carried)
    stacked = [
        walk.join_rows(column, v.aval) if needed else None
        for column, v, needed in zip(columns, equation.outvars[carried:], wanted[carried:], strict=True)
    ]
    return [*carry, *stacked]


def branch(walk: Any, equation: Any, operands: list[Any], wanted: Sequence[bool]) -> list[Any]:
    """Take one branch of a cond, or, if a wire names it, all of them."""
    which, *arguments = operands
    branches = equation.params["branches"]

    def take(number: int) -> list[Any]:
        chosen = branches[number]
        return walk.run(chosen.jaxpr, chosen.consts, arguments, wanted)

    if not is_reached(which):
        decision = walk.decide(which)
        if decision is not None:
            return take(min(max(decision, 0), len(branches) - 1))
        return [merge(column) for column in zip(*map(take, range(len(branches))), strict=True)]
    results = [[walk.meet(v) if isinstance(v, Known) else v for v in take(i)] for i in range(len(branches))]
    return [
        walk.choose(equation, which, column, v.aval) if needed else None
        for column, v, needed in zip(zip(*results, strict=True), equation.outvars, wanted, strict=True)
    ]


def merge(column: Sequence[Any]) -> Any:
    """Return what a value may be whose branch is not decided: reached, if it is in any branch."""
    if all(value is column[0] for value in column):
        return column[0]
    return next((value for value in column if is_reached(value)), Known(aval_of(column[0])))


def repeat(walk: Any, equation: Any, operands: list[Any], wanted: Sequence[bool]) -> list[Any]:
    """Walk through the body of a while loop as long as its test, a known value, is true."""
    params = equation.params
    tested, used = params["cond_nconsts"], params["body_nconsts"]
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    test_consts, body_consts, carry = operands[:tested], operands[tested : tested + used], operands[tested + used :]
    operations = walk.program.liveness.count(body.jaxpr, [True] * len(carry))
    for number in range(LONGEST):
        check_size(walk, number, operations)
        (going,) = walk.run(test.jaxpr, test.consts, [*test_consts, *carry], [True])
        if is_reached(going):
            raise TraceError(
                f"{walk.program.places.caller} repeats a loop until a value that the examples' weights reach "
                "says so (JAX's primitive 'while'); a circuit has a fixed number of gates: use a fixed number of "
                "rounds (lax.fori_loop, lax.scan), or take the test from the data"
            )
        decision = walk.decide(going)
        if decision == 0:
            return carry
        results = walk.run(body.jaxpr, body.consts, [*body_consts, *carry], [True] * len(carry))
        if decision is None:
            results = [merge(column) for column in zip(carry, results, strict=True)]
            if [*map(is_reached, results)] == [*map(is_reached, carry)]:
                return results
        carry = results
    raise TraceError(f"{walk.program.places.caller} repeats a while loop more than {LONGEST:,} times")


CONTROL_FLOW: dict[str, Callable[..., list[Any]]] = {"scan": unroll_scan, "cond": branch, "while": repeat}
