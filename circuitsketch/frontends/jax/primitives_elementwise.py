"""JAX's elementwise primitives: arithmetic, elementary functions, comparisons, logic, and conversions of dtypes.

JAX writes the derivative of a maximum as x == max(x, y). As an equality that always has a kink where x is the maximum;
here it becomes x >= y, or, of the maximum over an axis, an equality without a kink, since the maximum reports its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.circuit import CONSTANT
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import Wire
from circuitsketch.frontends.numpy.wire import user_place
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.gates.arithmetic import add
from circuitsketch.gates.extremum import largest, smallest
from circuitsketch.gates.movement import broadcast, reshape, transpose
from circuitsketch.gates.powers import sqrt
from circuitsketch.gates.selection import maximum, minimum, relu

# The operations of the primitives, where these have no parameters that matter.
NAMES = {
    **{"add": "add", "add_any": "add", "sub": "subtract", "mul": "multiply", "neg": "negative", "square": "square"},
    **{name: name for name in "sqrt rsqrt cbrt exp exp2 expm1 log log1p sin cos tan sinh cosh tanh".split()},
    **{name: name for name in "asin acos atan asinh acosh atanh atan2 erf erfc lgamma digamma sign abs".split()},
    **{"logistic": "sigmoid", "max": "maximum", "min": "minimum", "is_finite": "isfinite"},
    **{
        "lt": "less",
        "le": "less_equal",
        "gt": "greater",
        "ge": "greater_equal",
        "lt_to": "less",
        "le_to": "less_equal",
    },
    "stop_gradient": "stop_gradient",
}
IDENTITIES = (
    "copy copy_p device_put sharding_constraint mesh_cast reduce_precision optimization_barrier name pvary pcast"
    " reshard"
).split()
# Gates whose result is one of the elements of an operand.
PAIRS = (maximum, minimum, relu)
EXTREMA = (largest, smallest)
VIEWS = (broadcast, reshape, transpose)


def operation(name: str) -> Callable[..., Any]:
    """Return the rule of a primitive without parameters."""
    apply = OPERATIONS[name]
    return lambda equation, *operands: apply(*operands)


def divide(equation: Any, x: Any, y: Any) -> Any:
    """x / y; by a root, or by fewer numbers than there are quotients, as a product, which has the cheaper series."""
    if equation.outvars[0].aval.dtype.kind in "iu":
        raise TraceError(
            f"{user_place()} uses JAX's primitive 'div' on integers that the examples' weights reach, which truncates; "
            "convert them to floats first"
        )
    if not isinstance(y, Wire):
        return OPERATIONS["divide"](x, y)
    root = without_zero(y)
    if root.node.gate is sqrt:
        return x * OPERATIONS["rsqrt"](Wire(y.builder, root.node.operands[0]))
    source = Wire(y.builder, y.node.operands[0]) if y.node.gate is broadcast else y
    if source.size < np.size(x):
        return x * OPERATIONS["broadcast_to"](OPERATIONS["reciprocal"](source), y.shape)
    return OPERATIONS["divide"](x, y)


def without_zero(x: Wire) -> Wire:
    """Return the wire to which a constant zero was added, as an epsilon of 0; another wire as it is."""
    if x.node.gate is not add:
        return x
    one, other = (Wire(x.builder, i) for i in x.node.operands)
    for wire, added in ((one, other), (other, one)):
        constant = value_or_wire(added)
        if not isinstance(constant, Wire) and not np.any(constant):
            return wire
    return x


def booleans_only(name: str) -> Callable[..., Any]:
    """Return the rule of a bitwise primitive, which on booleans is a logical function."""
    apply = OPERATIONS[name]

    def rule(equation: Any, *operands: Any) -> Any:
        if any(operand.dtype.kind != "b" for operand in operands):
            raise TraceError(
                f"{user_place()} uses JAX's primitive {equation.primitive.name!r} on the bits of integers that the "
                "examples' weights reach, for which there is no gate; compare them first"
            )
        return apply(*operands)

    return rule


def same_root(x: Any) -> Any:
    """Return the wire that a wire is a view of; other values as they are."""
    while isinstance(x, Wire) and x.node.gate in VIEWS:
        x = Wire(x.builder, x.node.operands[0])
    return x


def is_same(x: Any, y: Any) -> bool:
    """Return whether two operands are one wire, or arrays of equal elements."""
    if isinstance(x, Wire) or isinstance(y, Wire):
        return isinstance(x, Wire) and isinstance(y, Wire) and x.index == y.index
    return bool(np.all(x == y))


def value_or_wire(x: Wire) -> Any:
    """Return the array of a constant wire, another wire as it is."""
    node = same_root(x).node
    return node.params["value"] if node.gate is CONSTANT else x


def equal(equation: Any, x: Any, y: Any) -> Any:
    """x == y; of a value and its own maximum or minimum without a false kink."""
    for element, extremum in ((x, y), (y, x)):
        root = same_root(extremum)
        if not isinstance(root, Wire):
            if extremum.dtype.kind == "f" and np.all(np.isinf(extremum)):
                return OPERATIONS["same"](element, extremum)  # no finite element is near infinity
            continue
        gate, build = root.node.gate, root.builder
        if gate in PAIRS:
            ends = [value_or_wire(Wire(build, i)) for i in root.node.operands] + [np.zeros(())] * (gate is relu)
            for end, other in (ends, ends[::-1]):
                if is_same(same_root(element), same_root(end)):
                    return OPERATIONS["less_equal" if gate is minimum else "greater_equal"](element, other)
        elif gate in EXTREMA and any(
            is_same(same_root(element), same_root(Wire(build, i))) for i in root.node.operands
        ):
            return OPERATIONS["same"](element, extremum)
    return OPERATIONS["equal"](x, y)


def not_equal(equation: Any, x: Any, y: Any) -> Any:
    """x != y; of a value and itself, where it is NaN."""
    if isinstance(x, Wire) and is_same(x, y):
        return OPERATIONS["isnan"](x)
    return OPERATIONS["not_equal"](x, y)


def clamp(equation: Any, low: Any, x: Any, high: Any) -> Any:
    """Keep x between two bounds."""
    return OPERATIONS["clip"](x, low, high)


def integer_power(equation: Any, x: Any) -> Any:
    """x ** y for an integer that JAX knows."""
    return OPERATIONS["integer_pow"](x, int(equation.params["y"]))


def power(equation: Any, x: Any, y: Any) -> Any:
    """x ** y; an exponent that is the same everywhere is one number."""
    if not isinstance(y, Wire) and y.size and np.all(y == y.flat[0]):
        y = y.flat[0]
    return OPERATIONS["broadcast_to"](OPERATIONS["pow"](x, y), equation.outvars[0].aval.shape)


def polygamma(equation: Any, order: Any, x: Any) -> Any:
    """The derivatives of digamma, of an order that is the same everywhere."""
    if isinstance(order, Wire) or not np.all(order == order.flat[0]):
        raise TraceError(f"{user_place()} uses JAX's primitive 'polygamma' with several orders; pass one number")
    return OPERATIONS["polygamma"](x, order=int(order.flat[0]))


def convert_dtype(equation: Any, x: Any) -> Any:
    """Relabel a value: every float is float64, every integer int64."""
    dtype = equation.params["new_dtype"]
    kind = "f" if dtype.kind == "V" else dtype.kind
    if kind == "b":
        return x if x.dtype.kind == "b" else OPERATIONS["not_equal"](x, 0)
    label = "int" if kind in "iu" else "float"
    if label == "int" and x.dtype.kind == "f":
        raise TraceError(
            f"{user_place()} converts a float that the examples' weights reach to {dtype} (JAX's primitive "
            "'convert_element_type'), which is locally constant and has no series; compute it from the data, or "
            "compare it instead (x > 0.5)"
        )
    return OPERATIONS["astype"](x, label)


def select(equation: Any, which: Any, *cases: Any) -> Any:
    """Return the case that a boolean or an integer names."""
    return OPERATIONS["choose"](which, cases)


def identity(equation: Any, *operands: Any) -> Any:
    """Return the operands as they are."""
    return operands[0] if len(operands) == 1 else operands


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{name: operation(named) for name, named in NAMES.items()},
    **{"and": booleans_only("logical_and"), "or": booleans_only("logical_or")},
    **{"xor": booleans_only("logical_xor"), "not": booleans_only("logical_not")},
    **dict.fromkeys(IDENTITIES, identity),
    "div": divide,
    "eq": equal,
    "eq_to": equal,
    "ne": not_equal,
    "clamp": clamp,
    "integer_pow": integer_power,
    "pow": power,
    "polygamma": polygamma,
    "convert_element_type": convert_dtype,
    "select_n": select,
}
