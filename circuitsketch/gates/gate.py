"""What a gate is: one frozen record that holds everything the package knows about a primitive.

In: nothing. Out: `Gate`, the table `GATES`, and the vocabulary in which rules are written. The families of gates
(arithmetic, powers, exponential, contraction, movement, selection) fill the table; who adds a gate adds one record.

Taylor rules are recurrences written once. `step(k, ops, *operands, out, *companions)` fills coefficient k >= 1 of
`out` (and of its companions, series that the recurrence carries along) from lower ones, with `+ - * /` and
`ops.convolve` alone, so that the same rule runs on NumPy arrays, on SIMD lanes and as generated source.
Coefficient 0 is real and comes from `constants(math, *x)`: the value first, then the companions' values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakSet

import numpy as np

from circuitsketch.arguments import kind_of
from circuitsketch.arrays import explain_lost_meaning, plain_array
from circuitsketch.errors import InputError, ShapeError
from circuitsketch.gates.domains import DOMAINS
from circuitsketch.gates.math import NumpyMath

Shape = tuple[int, ...]
Kind = Literal["source", "elementwise", "contraction", "movement"]
Reads = Literal["nothing", "operands", "all"]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Gate:
    """A primitive: its meaning, shape, derivative, Taylor rule and size, in one place.

    Attributes
    ----------
    shape : `shape(*operand_shapes, **params)` -> shape of the result; raises ShapeError.
    value : `value(*arrays, **params)` -> the NumPy meaning, on real arrays.
    vjp : `vjp(ct, out, *operands, **params)` -> one cotangent an operand (None: no derivative), written with gates,
        so that it runs on wires and on arrays alike.
    size : `size(out_shape, *operand_shapes, **params)` -> scalar arithmetic gates in it.
    constants, step : the Taylor rule of an elementwise gate (see the module's text). Gates of other kinds are linear
        in every operand, and their series follow from their kind.
    reads : which constant terms `step` reads: none, the operands', or also those of the result and companions.
    domain : where the series exists: a key of `DOMAINS`, or None for everywhere.
    flat : the result is locally constant: it carries no series even where its operands do.
    companions : how many series, beside the result's, the recurrence carries along.
    result : the label of the result: that of the operands, float or bool.
    static : the names of the parameters.
    guards : the value refuses operands (by a BoundsError): the gate stays even where nothing reads its result.
    labels : for result "same", the positions of the operands whose labels count; None: of all.
    keeps_bool : for result "same", booleans stay booleans, since they are moved or chosen and not added up.
    commutative : the operands may change places, exactly in floating point too.
    compose : whether the series of a function of one operand may be composed from the function's own coefficients at
        the constant term, which is less work than the rule on lanes wherever the rule is more than a copy.
    index : the position of an operand that holds run-time indices, or None.
    index_extent : `index_extent(array_shape, **params)` -> the extent of the axis that these indices address.
    view : of a movement that needs no copy, `view(shape, *layouts, **params)` -> where the entries of the result lie
        (see `lower.layout.Layout`), or None where that needs a copy of the operand in C order.
    moves : of any other movement, `moves(m, target, *layouts, **params)` -> what to do, in order, in terms of
        `m.fill(value)`, `m.move(target, source, combine)` with combine "copy", "add" or "max", and
        `m.gather`, `m.scatter` (see `lower.operations.Moves`).
    expand : `expand(b, node_shape, *wires, **params)` -> the scalar wires of the result, an array of integers, from
        those of the operands, in terms of `b.zero()`, `b.add(x, y)`, `b.multiply(x, y)` and `b.maximum(x, y)`; of an
        operand with run-time indices the indices themselves. None: `value` moves the wires as it moves numbers.
    """

    name: str
    kind: Kind
    arity: int | None
    shape: Callable[..., Shape]
    value: Callable[..., Any]
    vjp: Callable[..., tuple[Any, ...]]
    size: Callable[..., int]
    constants: Callable[..., tuple[Any, ...]] | None = None
    step: Callable[..., None] | None = None
    reads: Reads = "nothing"
    domain: str | None = None
    flat: bool = False
    companions: int = 0
    result: Literal["same", "bool", "float"] = "same"
    static: tuple[str, ...] = field(default=())
    guards: bool = False
    labels: tuple[int, ...] | None = None
    keeps_bool: bool = False
    commutative: bool = False
    compose: bool = True
    index: int | None = None
    index_extent: Callable[..., int] | None = None
    view: Callable[..., Any] | None = None
    moves: Callable[..., Any] | None = None
    expand: Callable[..., Any] | None = None

    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply the gate: to wires it adds a node to their circuit, to arrays it computes."""
        for operand in operands:
            bind = getattr(operand, "bind_gate", None)
            if bind is not None:
                return bind(self, operands, params)
        for operand in operands:
            if type(operand) is not np.ndarray and (reason := explain_lost_meaning(operand)) is not None:
                raise InputError(f"{self.name} is asked of {reason}")
            dtype = plain_array(operand, f"the operand of {self.name}").dtype
            if dtype.kind not in "biufc":
                raise InputError(f"{self.name} is a function of numbers, not of {kind_of(operand)} with dtype {dtype}")
        if self.unary:  # of numbers in double precision, whatever they are given as
            operands = tuple(x if np.iscomplexobj(x) else np.asarray(x, dtype=np.float64) for x in operands)
        # A sigmoid far from zero overflows on its way to the right 0 or 1: nothing to warn of.
        with np.errstate(over="ignore", under="ignore"):
            return self.value(*operands, **params)

    def lacks_series(self, operands: Sequence[Any], varies: Sequence[bool]) -> Any:
        """Where the gate has no series at constant terms; `varies` says which operands carry one."""
        assert self.domain is not None
        domain = DOMAINS[self.domain]
        return domain.lacks_series(*operands, varies) if domain.by_operand else domain.lacks_series(*operands)

    def __repr__(self) -> str:
        return f"Gate({self.name!r})"

    @property
    def unary(self) -> bool:
        """An elementwise function of one operand, analytic where its domain says."""
        return self.kind == "elementwise" and self.arity == 1 and not self.flat

    @property
    def is_composed(self) -> bool:
        """Whether its series is composed from the function's own Taylor coefficients at the constant term."""
        return self.unary and self.compose and self.reads != "nothing"

    @property
    def is_kink(self) -> bool:
        """Whether leaving the domain means a kink, on both sides of which there are series."""
        return self.domain is not None and DOMAINS[self.domain].is_kink


GATES: dict[str, Gate] = {}  # by name, the newest
BUILT_IN: dict[str, Gate] = {}  # the package's own, once all of them are there
REGISTERED: WeakSet[Gate] = WeakSet()  # also those that a newer gate of the same name has replaced in GATES


def register(gate: Gate) -> Gate:
    """Put a gate in the table.

    A gate of one's own may be defined again under its name. The new gate holds for what is traced from then on, and
    circuits that were traced before keep the gate that they were traced with.

    Raises
    ------
    InputError : the package itself has a gate of that name.
    """
    if gate.name in (BUILT_IN or GATES):
        raise InputError(f"{gate.name!r} is a gate of circuitsketch itself and cannot be redefined; use another name")
    GATES[gate.name] = gate
    REGISTERED.add(gate)
    return gate


def close_table() -> None:
    """Take all gates that are registered so far as the package's own: their names are taken for good."""
    BUILT_IN.update(GATES)


def is_built_in(gate: Gate) -> bool:
    """Whether the package defines this gate, so that its name and the package's version say what it means."""
    return BUILT_IN.get(gate.name) is gate


def cells(shape: Shape) -> int:
    """The number of scalars in an array of this shape."""
    count = 1
    for extent in shape:
        count *= extent
    return count


def same_shape(name: str) -> Callable[..., Shape]:
    """The shape rule of elementwise gates: all operands have one shape, which is the result's."""

    def shape(*shapes: Shape, **_: Any) -> Shape:
        if any(other != shapes[0] for other in shapes):
            listed = " and ".join(str(s) for s in shapes)
            raise ShapeError(f"{name} needs operands of one shape, not {listed}; reshape or broadcast them first")
        return shapes[0]

    return shape


def elementwise(
    name: str,
    arity: int,
    constants: Callable[..., tuple[Any, ...]],
    step: Callable[..., None] | None,
    vjp: Callable[..., tuple[Any, ...]],
    *,
    reads: Reads = "all",
    domain: str | None = None,
    flat: bool = False,
    companions: int = 0,
    cost: int = 1,
    result: Literal["same", "bool", "float"] = "float",
    static: tuple[str, ...] = (),
    **facts: Any,
) -> Gate:
    """Register an elementwise gate: `cost` arithmetic gates per scalar, value = the first of its constants.

    facts : further attributes of `Gate`, such as `labels` and `compose`.

    Raises
    ------
    InputError : the package itself has a gate of that name, or there is no such domain.
    """
    if domain is not None and domain not in DOMAINS:
        raise InputError(f"{name!r} has the domain {domain!r}, which does not exist; use one of {sorted(DOMAINS)}")

    def value(*operands: Any, **params: Any) -> Any:
        return constants(NumpyMath, *operands, **params)[0]

    def size(out: Shape, *_: Shape, **__: Any) -> int:
        return cost * cells(out)

    return register(
        Gate(
            name=name,
            kind="elementwise",
            arity=arity,
            shape=same_shape(name),
            value=value,
            vjp=vjp,
            size=size,
            constants=constants,
            step=step,
            reads=reads,
            domain=domain,
            flat=flat,
            companions=companions,
            result=result,
            static=static,
            **({"compose": False} if domain is not None and DOMAINS[domain].is_kink else {}) | facts,
        )
    )
