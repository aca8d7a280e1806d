"""The elementary functions that a gate's `constants` may call, one row per function: a new function is a new row.

`ELEMENTARY` has the rows by name. Each implementation of the rules (NumPy, machine code, device code) takes its
functions from this table, and adds `greater`, `greater_equal`, `equal`, `choose`, `maximum` and `minimum`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Elementary:
    """An elementary function, by its name in each implementation.

    Attributes
    ----------
    name : str
        Its name in rules.
    numpy : callable
        The function on arrays.
    machine : str
        The double precision function of the C library, or an LLVM intrinsic if it begins with "llvm.".
    device : str
        The function in Numba's CUDA kernels.
    mpmath : str
        The function in mpmath, the oracle of arbitrary precision.
    arity : int
        The number of arguments.
    """

    name: str
    numpy: Callable[..., Any]
    machine: str
    device: str
    mpmath: str
    arity: int = 1


def scipy(name: str) -> Callable[..., Any]:
    """Return a function of scipy.special, imported at the first call because the import is slow."""

    def call(*operands: Any) -> Any:
        from scipy import special

        return getattr(special, name)(*operands)

    return call


ROWS = (
    #          name        NumPy          machine      device         mpmath
    Elementary("exp", np.exp, "exp", "math.exp", "exp"),
    Elementary("expm1", np.expm1, "expm1", "math.expm1", "expm1"),
    Elementary("log", np.log, "log", "math.log", "log"),
    Elementary("log1p", np.log1p, "log1p", "math.log1p", "log1p"),
    Elementary("sin", np.sin, "sin", "math.sin", "sin"),
    Elementary("cos", np.cos, "cos", "math.cos", "cos"),
    Elementary("tanh", np.tanh, "tanh", "math.tanh", "tanh"),
    Elementary("sinh", np.sinh, "sinh", "math.sinh", "sinh"),
    Elementary("cosh", np.cosh, "cosh", "math.cosh", "cosh"),
    Elementary("arctan", np.arctan, "atan", "math.atan", "atan"),
    Elementary("arcsin", np.arcsin, "asin", "math.asin", "asin"),
    Elementary("arccos", np.arccos, "acos", "math.acos", "acos"),
    Elementary("arcsinh", np.arcsinh, "asinh", "math.asinh", "asinh"),
    Elementary("arccosh", np.arccosh, "acosh", "math.acosh", "acosh"),
    Elementary("arctanh", np.arctanh, "atanh", "math.atanh", "atanh"),
    Elementary("arctan2", np.arctan2, "atan2", "math.atan2", "atan2", arity=2),
    Elementary("hypot", np.hypot, "hypot", "math.hypot", "hypot", arity=2),
    Elementary("erf", scipy("erf"), "erf", "math.erf", "erf"),
    Elementary("erfc", scipy("erfc"), "erfc", "math.erfc", "erfc"),
    Elementary("gammaln", scipy("gammaln"), "lgamma", "math.lgamma", "loggamma"),
    Elementary("power", np.power, "pow", "math.pow", "power", arity=2),
    Elementary("sqrt", np.sqrt, "llvm.sqrt", "math.sqrt", "sqrt"),
    Elementary("absolute", np.abs, "llvm.fabs", "math.fabs", "fabs"),
    Elementary("floor", np.floor, "llvm.floor", "math.floor", "floor"),
)
ELEMENTARY: dict[str, Elementary] = {row.name: row for row in ROWS}


class Series(Protocol):
    """A Taylor series as rules see it: coefficient k is read, and coefficient k of a result is set."""

    def __getitem__(self, k: Any) -> Any: ...
    def __setitem__(self, k: Any, value: Any) -> None: ...


class SeriesOps(Protocol):
    """The arithmetic of Taylor rules beside + - * /."""

    @property
    def zero(self) -> Any:
        """A coefficient that is absent."""

    @property
    def choose(self) -> Callable[[Any, Any, Any], Any]:
        """`choose(test, x, y)`: x where the test is not 0, else y."""

    def convolve(
        self, k: Any, u: Any, v: Any, weight: Callable[[Any], Any] | None = None, low: int = 0, high: int = 0
    ) -> Any:
        """Return sum_{j=low..k-high} weight(j) u_j v_{k-j}."""


class NumpyMath:
    """The functions that `constants` may call, on real or complex NumPy arrays."""

    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    choose = staticmethod(np.where)

    @staticmethod
    def greater(x: Any, y: Any) -> Any:
        """Return 1.0 where x > y, else 0.0; compares real parts."""
        return np.asarray(np.real(x) > np.real(y), dtype=np.float64)

    @staticmethod
    def greater_equal(x: Any, y: Any) -> Any:
        """Return 1.0 where x >= y, else 0.0; compares real parts."""
        return np.asarray(np.real(x) >= np.real(y), dtype=np.float64)

    @staticmethod
    def equal(x: Any, y: Any) -> Any:
        """Return 1.0 where x == y, else 0.0."""
        return np.asarray(x == y, dtype=np.float64)


for row in ROWS:
    setattr(NumpyMath, row.name, staticmethod(row.numpy))
