"""Dispatch calls of NumPy on wires to the rules in `ufuncs` and `array_functions`.

In: a NumPy call with wires among its arguments. Out: wires. A function in neither table raises a TraceError with the
closest alternative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from circuitsketch.arrays import explain_lost_meaning
from circuitsketch.errors import TraceError
from circuitsketch.frontends.numpy import dtypes, scans
from circuitsketch.frontends.numpy.array_functions import FUNCTIONS
from circuitsketch.frontends.numpy.dtypes import LABELS, RANK, asked_label, convert, dtype_of, truth
from circuitsketch.frontends.numpy.hints import advice
from circuitsketch.frontends.numpy.indexing import get_item
from circuitsketch.frontends.numpy.options import absent, call_rule, check_options, signature_of
from circuitsketch.frontends.numpy.selecting import WRITERS
from circuitsketch.frontends.numpy.ufuncs import CORES, DIVIDE_INTEGERS, REDUCTIONS, SCANS, SPECIAL, UFUNCS
from circuitsketch.frontends.numpy.wire import RULES, WRITE_REMEDY, Wire, refused_update, stores_entries, user_place

__all__ = ["call_function", "call_ufunc"]


def call_ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply a NumPy ufunc that has a wire among its inputs."""
    name = numpy_name(ufunc)
    refuse_lost_meaning(name, inputs)
    if any(value is not None for value in kwargs.get("out", ())):
        if stores_entries() == "update":
            raise refused_update()
        raise TraceError(
            f"{user_place()} writes {name} in place (out=..., or += on an array). Wires are immutable: "
            "write x = x + y, or assign the result to a name"
        )
    options = {key: value for key, value in kwargs.items() if key != "out"}
    if method == "reduce" and ufunc in REDUCTIONS:
        rule = REDUCTIONS[ufunc]
        if "dtype" not in signature_of(rule).parameters and absent(options.get("dtype")):
            options.pop("dtype", None)
        return call_rule(f"{name}.reduce", rule, inputs, {"axis": 0, **options})
    if method == "outer" and len(inputs) == 2:
        one, two = inputs
        return ufunc(np.reshape(one, (*np.shape(one), *(1,) * np.ndim(two))), two, **options)
    if method == "at":
        raise TraceError(
            f"{user_place()} calls {name}.at, which writes into an array. {WRITE_REMEDY}. To add up by index, multiply "
            "by a one-hot matrix, (i == np.arange(n)[:, None]) @ x"
        )
    if method == "accumulate" and ufunc in SCANS:
        return call_rule(f"{name}.accumulate", functools.partial(scans.accumulate, ufunc), inputs, options)
    if method != "__call__":
        raise TraceError(
            f"{user_place()} calls {name}.{method} on a wire, which has no gate; use np.sum, np.max or np.einsum"
        )
    function = UFUNCS.get(ufunc)
    if function is None and name.startswith("scipy.special."):
        function = SPECIAL.get(ufunc.__name__)
    if function is None:
        raise unknown_function(ufunc)
    check_options(name, options)
    own = {key: options.pop(key) for key in ("axis", "keepdims") if ufunc in CORES and key in options}
    allowed = {"dtype", "order", "casting", "subok", "axes", "signature", "sig"}
    if unknown := sorted(
        key for key, value in options.items() if key not in allowed and not (key == "where" and value is True)
    ):
        raise TraceError(f"{user_place()} calls {name} with {unknown}, which wires do not take; use np.where")
    return apply_with_dtype(ufunc, name, inputs, options.get("dtype"), lambda *xs: call_rule(name, function, xs, own))


def apply_with_dtype(ufunc: Any, name: str, inputs: tuple[Any, ...], dtype: Any, function: Callable[..., Any]) -> Any:
    """Apply a ufunc's rule to operands of the requested dtype; label the result as NumPy does.

    NumPy's own dtype resolution decides; combinations that it rejects (the difference of booleans) raise TraceError.
    """
    kinds = [type(x) if type(x) in (int, float) else dtype_of(x) for x in inputs]
    if any(isinstance(kind, np.dtype) and kind.kind not in LABELS for kind in kinds):
        return function(*inputs)
    label = None if absent(dtype) else asked_label(dtype, name)
    asked = {} if label is None else {"signature": (None,) * ufunc.nin + (np.dtype(dtype),)}
    try:
        *operand_dtypes, result = ufunc.resolve_dtypes((*kinds, None), **asked)
    except TypeError as reason:
        raise TraceError(
            f"{user_place()} calls {name} on {' and '.join(map(str, kinds))} values: {reason}; convert them with "
            "astype(float) first"
        ) from None
    if label is not None:
        inputs = tuple(convert(x, LABELS[kind.kind], name) for x, kind in zip(inputs, operand_dtypes, strict=True))
    if ufunc in DIVIDE_INTEGERS and LABELS.get(result.kind) == "int":
        raise TraceError(
            f"{user_place()} calls {name} on integers, for which NumPy truncates the quotient; write 1 / x, or convert "
            "with astype(float) first"
        )
    value = function(*inputs)
    expected = LABELS[result.kind]
    if isinstance(value, Wire) and value.label != expected:
        if expected == "int" and value.label == "float":
            raise TraceError(
                f"{user_place()} calls {name} on integers, where NumPy's result is an integer and a circuit's "
                "is a float; convert them with astype(float) first"
            )
        return truth(value) if RANK[expected] < RANK[value.label] else convert(value, expected, name)
    return value


def refuse_lost_meaning(name: str, operands: tuple[Any, ...]) -> None:
    """Raise TraceError for a masked array, a matrix or the like combined with a wire."""
    for operand in operands:
        if (reason := explain_lost_meaning(operand)) is not None:
            raise TraceError(f"{user_place()} calls {name} with a wire and {reason}")


def numpy_name(function: Any) -> str:
    """Return a function's name as users write it, such as np.exp."""
    if isinstance(function, np.ufunc):
        known = getattr(np, function.__name__, None) is function
        return f"np.{function.__name__}" if known else f"scipy.special.{function.__name__}"
    return f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)


def unknown_function(function: Any) -> TraceError:
    """Return the error for a function without a gate."""
    name = numpy_name(function)
    known = sorted({numpy_name(f) for f in (*UFUNCS, *FUNCTIONS)} | {f"scipy.special.{f}" for f in SPECIAL})
    return TraceError(f"{user_place()} calls {name} on a wire, for which there is no gate: {advice(name, known)}")


def call_function(function: Any, args: Any, kwargs: Any) -> Any:
    """Apply a NumPy array function that has a wire among its arguments."""
    if function in WRITERS:
        raise TraceError(f"{user_place()} calls {numpy_name(function)}, which writes into an array. {WRITE_REMEDY}")
    if function not in FUNCTIONS:
        raise unknown_function(function)
    refuse_lost_meaning(numpy_name(function), (*args, *kwargs.values()))
    return call_rule(numpy_name(function), FUNCTIONS[function], args, kwargs)


def change_dtype(x: Wire, dtype: Any, **options: Any) -> Wire:
    """Convert a wire, the method `astype`."""
    result: Wire = call_rule("astype", dtypes.astype, (x, dtype), options)
    return result


RULES.ufunc, RULES.function, RULES.item, RULES.astype = call_ufunc, call_function, get_item, change_dtype
