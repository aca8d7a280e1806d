"""The record of a gate, with everything that the package knows about a primitive, and the table of all gates.

The families of gates (arithmetic, powers, exponential, contraction, movement, selection, ...) register their records in
`GATES`.

A Taylor rule is a recurrence, written once. `step(k, ops, *operands, out, *companions)` sets coefficient k >= 1 of
`out` (and of its companions, auxiliary series of the recurrence) from lower ones, with `+ - * /` and `ops.convolve`
only, so that the same rule runs on NumPy arrays, on SIMD lanes and as generated source. Coefficient 0, the primal, is
real and returned by `constants(math, *x)`: the value first, then the companions' values.
"""

from __future__ import annotations

import importlib
import pickle
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
    """A primitive: its value, shape, derivative, Taylor rule and size, in one record.

    Attributes
    ----------
    name : str
        Its name in listings and errors.
    kind : str
        "elementwise", "contraction", "movement" or "source".
    arity : int or None
        The number of operands; None for any number.
    shape : callable
        `shape(*operand_shapes, **params)` returns the shape of the result or raises ShapeError.
    value : callable
        `value(*arrays, **params)` returns the value on real arrays.
    vjp : callable
        `vjp(ct, out, *operands, **params)` returns one cotangent per operand (None: no derivative), written with gates,
        so that it runs on wires and on arrays.
    size : callable
        `size(out_shape, *operand_shapes, **params)` returns the number of scalar arithmetic gates.
    constants : callable or None
        `constants(math, *x)` returns the value of an elementwise gate at real x, then the values of its companions.
    step : callable or None
        `step(k, ops, *operands, out, *companions)`, the Taylor rule of an elementwise gate, sets coefficient k; of a
        movement that selects, on NumPy arrays. Other gates are linear in every operand, and their series follow from
        their kind.
    reads : {"nothing", "operands", "all"}
        Which primals `step` reads: none, the operands', or also those of the result and the companions.
    domain : str or None
        Where the series exists: a key of `DOMAINS`, or None for everywhere.
    flat : bool
        Whether the result is piecewise constant: it has no series even if its operands do.
    companions : int
        The number of auxiliary series that the recurrence computes.
    result : {"same", "float", "bool"}
        The label of the result; "same" is that of the operands.
    static : tuple of str
        The names of the parameters.
    guards : bool
        Whether the value raises BoundsError for some operands: the gate is kept even if nothing reads its result.
    labels : tuple of int or None
        For result "same", the positions of the operands whose labels count; None for all.
    keeps_bool : bool
        For result "same", whether booleans stay booleans, because they are moved or selected and not added.
    commutative : bool
        Whether the operands can be exchanged, exactly in floating point too.
    compose : bool
        Whether the series of a unary function may be composed from its Taylor coefficients at the primal, which is less
        work than the rule on lanes unless the rule is only a copy.
    selects : bool
        Whether each element of the result is an element of an operand, which the primals choose: the vjp is zero for
        those that are not chosen.
    zeroed_by : tuple of int
        The positions of operands that, where they are zero, make the result zero, whatever the others are.
    index : int or None
        The position of an operand with run-time indices.
    index_extent : callable or None
        `index_extent(array_shape, **params)` returns the size of the axis that these indices address.
    view : callable or None
        Of a movement that needs no copy: `view(shape, *layouts, **params)` returns where the elements of the result are
        (see `lower.layout.Layout`), or None if that requires a copy of the operand in C order.
    moves : callable or None
        Of any other movement: `moves(m, target, *layouts, **params)` returns what to do, in order, in terms of
        `m.fill(value)`, `m.move(target, source, combine)` with combine "copy", "add", "max" or "min", `m.gather` and
        `m.scatter` (see `lower.operations.Moves`).
    expand : callable or None
        `expand(b, node_shape, *wires, **params)` returns the scalar wires of the result, an integer array, given those
        of the operands (for an operand with run-time indices, the indices), in terms of `b.zero()`, `b.add(x, y)`,
        `b.multiply(x, y)`, `b.maximum(x, y)` and `b.minimum(x, y)`. None: `value` moves the wires as it moves numbers.
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
    selects: bool = False
    zeroed_by: tuple[int, ...] = ()
    index: int | None = None
    index_extent: Callable[..., int] | None = None
    view: Callable[..., Any] | None = None
    moves: Callable[..., Any] | None = None
    expand: Callable[..., Any] | None = None

    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply the gate: add a node to the circuit of wires, or compute on arrays."""
        for operand in operands:
            bind = getattr(operand, "bind_gate", None)
            if bind is not None:
                return bind(self, operands, params)
        for operand in operands:
            if type(operand) is not np.ndarray and (reason := explain_lost_meaning(operand)) is not None:
                raise InputError(f"the operand of {self.name} is {reason}")
            dtype = plain_array(operand, f"the operand of {self.name}").dtype
            if dtype.kind not in "biufc":
                raise InputError(f"{self.name} requires numbers, not {kind_of(operand)} with dtype {dtype}")
        if self.unary:  # computed in double precision
            operands = tuple(x if np.iscomplexobj(x) else np.asarray(x, dtype=np.float64) for x in operands)
        # A sigmoid far from zero overflows in an intermediate result and still returns the correct 0 or 1.
        with np.errstate(over="ignore", under="ignore"):
            return self.value(*operands, **params)

    def lacks_series(self, operands: Sequence[Any], varies: Sequence[bool]) -> Any:
        """Return where the gate has no series, given the primals of its operands and which of them carry a series."""
        assert self.domain is not None
        domain = DOMAINS[self.domain]
        return domain.lacks_series(*operands, varies) if domain.by_operand else domain.lacks_series(*operands)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the gate as its name, and the module that registers it: no rule, and no compiled code."""
        if GATES.get(self.name) is not self:
            raise pickle.PicklingError(
                f"gate {self.name!r} cannot be pickled: a gate of the same name was registered later; trace the "
                "circuit (or create the run) again"
            )
        return find_gate, (self.name, None if is_built_in(self) else self.module)

    def __repr__(self) -> str:
        return f"Gate({self.name!r})"

    @property
    def module(self) -> str:
        """The name of the module that defines its rules; of a user's gate, the user's."""
        rules = (self.constants, self.step, self.vjp, self.value, self.shape, self.size)
        modules = [str(getattr(rule, "__module__", None) or "") for rule in rules]
        return next((name for name in modules if name and not name.startswith("circuitsketch.gates.")), modules[2])

    @property
    def unary(self) -> bool:
        """Whether the gate is an elementwise function of one operand, analytic in its domain."""
        return self.kind == "elementwise" and self.arity == 1 and not self.flat

    @property
    def is_composed(self) -> bool:
        """Whether its series is composed from the function's Taylor coefficients at the primal."""
        return self.unary and self.compose and self.reads != "nothing"

    @property
    def is_kink(self) -> bool:
        """Whether the points outside the domain are kinks, with series on both sides."""
        return self.domain is not None and DOMAINS[self.domain].is_kink


GATES: dict[str, Gate] = {}  # by name; of several with one name the newest
BUILT_IN: dict[str, Gate] = {}  # the package's own, set by `close_table`
REGISTERED: WeakSet[Gate] = WeakSet()  # including those that a newer gate of the same name replaced in GATES


def register(gate: Gate) -> Gate:
    """Register a gate.

    A gate of your own may be redefined. Circuits that are traced from then on use the new gate; circuits that were
    traced before keep the old one.

    Parameters
    ----------
    gate : Gate
        The record.

    Returns
    -------
    Gate
        The same record.

    Raises
    ------
    InputError
        If the package has a gate of that name.
    """
    if gate.name in (BUILT_IN or GATES):
        raise InputError(f"{gate.name!r} is a gate of circuitsketch and cannot be redefined; use another name")
    GATES[gate.name] = gate
    REGISTERED.add(gate)
    return gate


def find_gate(name: str, module: str | None) -> Gate:
    """Return a gate by its name; a user's gate that is not registered yet, by importing its module.

    Raises
    ------
    InputError
        If there is no such gate here.
    """
    if name not in GATES and module is not None:
        try:
            importlib.import_module(module)
        except ImportError as reason:
            raise InputError(
                f"gate {name!r} is defined in module {module!r}, which cannot be imported here: {reason}; put the "
                "module where every process can import it"
            ) from reason
    if name not in GATES:
        where = "this version of circuitsketch" if module is None else f"module {module!r} of this process"
        raise InputError(
            f"there is no gate {name!r} in {where}; register it at the top level of a module that can be imported"
        )
    return GATES[name]


def close_table() -> None:
    """Mark all gates that are registered so far as the package's own, which cannot be redefined."""
    BUILT_IN.update(GATES)


def is_built_in(gate: Gate) -> bool:
    """Return whether the package defines this gate, so that its name and the package's version identify it."""
    return BUILT_IN.get(gate.name) is gate


def cells(shape: Shape) -> int:
    """Return the number of elements of an array of this shape."""
    count = 1
    for size in shape:
        count *= size
    return count


def same_shape(name: str) -> Callable[..., Shape]:
    """Return the shape rule of an elementwise gate: all operands have the shape of the result."""

    def shape(*shapes: Shape, **_: Any) -> Shape:
        if any(other != shapes[0] for other in shapes):
            listed = " and ".join(str(s) for s in shapes)
            raise ShapeError(
                f"{name} requires operands of the same shape, not {listed}; reshape or broadcast them first"
            )
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
    """Register an elementwise gate.

    Parameters
    ----------
    name : str
        Its name.
    arity : int
        The number of operands.
    constants : callable
        `constants(m, *x)` returns the value at real x, then the values of the companions.
    step : callable or None
        `step(k, ops, *u, v, *companions)` sets coefficient k >= 1; None if `flat`.
    vjp : callable
        `vjp(ct, out, *x)` returns one cotangent per operand.
    reads, domain, flat, companions, result, static
        As in `Gate`.
    cost : int
        The number of arithmetic gates per element.
    **facts
        Further attributes of `Gate`, such as `labels` and `compose`.

    Returns
    -------
    Gate
        The registered gate, a function of wires and arrays.

    Raises
    ------
    InputError
        If the package has a gate of that name, or the domain does not exist.
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
