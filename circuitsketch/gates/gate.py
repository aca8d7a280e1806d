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
from circuitsketch.arrays import lost_meaning, plain_array
from circuitsketch.errors import InputError, ShapeError

Shape = tuple[int, ...]
Kind = Literal["source", "elementwise", "contraction", "sum", "movement", "scatter", "extremum"]
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

    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply the gate: to wires it adds a node to their circuit, to arrays it computes."""
        for operand in operands:
            bind = getattr(operand, "bind_gate", None)
            if bind is not None:
                return bind(self, operands, params)
        for operand in operands:
            if type(operand) is not np.ndarray and (reason := lost_meaning(operand)) is not None:
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
        bad = DOMAINS[self.domain]
        return bad(*operands, varies) if self.domain in BY_OPERAND else bad(*operands)

    def __repr__(self) -> str:
        return f"Gate({self.name!r})"

    @property
    def unary(self) -> bool:
        """An elementwise function of one operand, analytic where its domain says."""
        return self.kind == "elementwise" and self.arity == 1 and not self.flat


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


class NumpyMath:
    """The elementary functions that `constants` may call, on NumPy arrays (real or complex)."""

    exp = staticmethod(np.exp)
    expm1 = staticmethod(np.expm1)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    sin = staticmethod(np.sin)
    cos = staticmethod(np.cos)
    tanh = staticmethod(np.tanh)
    sqrt = staticmethod(np.sqrt)
    power = staticmethod(np.power)
    absolute = staticmethod(np.abs)
    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    choose = staticmethod(np.where)

    @staticmethod
    def erf(x: Any) -> Any:
        """The error function."""
        from scipy import special  # a slow import

        return special.erf(x)

    @staticmethod
    def greater(x: Any, y: Any) -> Any:
        """1.0 where x > y, else 0.0 (the real parts decide)."""
        return np.asarray(np.real(x) > np.real(y), dtype=np.float64)

    @staticmethod
    def greater_equal(x: Any, y: Any) -> Any:
        """1.0 where x >= y, else 0.0 (the real parts decide)."""
        return np.asarray(np.real(x) >= np.real(y), dtype=np.float64)

    @staticmethod
    def equal(x: Any, y: Any) -> Any:
        """1.0 where x == y, else 0.0."""
        return np.asarray(x == y, dtype=np.float64)


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
) -> Gate:
    """Register an elementwise gate: `cost` arithmetic gates a scalar, value = the first of its constants."""

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
        )
    )


def power_lacks_series(x: Any, y: Any, base_varies: bool, exponent_varies: bool) -> Any:
    """Where x^y has no series. Of a varying base, whole powers have one below zero, and small ones at zero."""
    if exponent_varies:
        return ~((x > 0) | ((x == 0) & (y > 0) & (not base_varies)))
    whole = np.isfinite(y) & (y == np.rint(y))
    return ~((x > 0) | (whole & (x < 0)) | (whole & (x == 0) & (y >= 0) & (y <= 4)))


# Where a gate has a Taylor series at real constant terms; `bad(*x)` is true where it has none.
# "kink" domains are locally analytic on both sides: within rounding of the kink a warning is given, not an error.
DOMAINS: dict[str, Callable[..., Any]] = {
    "positive": lambda x: ~(x > 0),
    "above -1": lambda x: ~(x > -1),
    "nonzero": lambda x: x == 0,
    "nonzero divisor": lambda x, y: y == 0,
    "kink at zero": lambda x: np.abs(x) <= KINK_TOLERANCE,
    "kink at equality": lambda x, y: np.abs(x - y) <= KINK_TOLERANCE * np.maximum(np.abs(x), np.abs(y)),
    "base of a power": lambda x, y, varies=(True, True): power_lacks_series(x, y, *varies),
}
BY_OPERAND = {"base of a power"}  # domains that ask which operands carry a series
KINK_TOLERANCE = 4 * np.finfo(np.float64).eps
