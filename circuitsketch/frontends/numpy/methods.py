"""The methods of a wire: those of an ndarray, each delegating to the NumPy function.

In: an array method's arguments, in ndarray's order and by its names. Out: the result of the NumPy function for a wire,
which honours or rejects every option. Attributes that arrays have and wires lack are listed below with an alternative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitsketch.errors import InputError
from circuitsketch.frontends.numpy.hints import HINTS

# NumPy's functions, without the types that its stubs give them for arrays.
numpy: Any = np
NO_VALUE = np._NoValue  # type: ignore[attr-defined]  # NumPy's default of an omitted argument

CHOICE = "the order of elements depends on values: sort or search plain data before tracing"
CONSTANT = "it is locally constant and has no Taylor series; compute it on plain data, or use np.where"
IN_PLACE = "wires are immutable: build a new one with np.where, np.concatenate or np.pad"
MEMORY = "a wire has no memory during tracing; keep computing with NumPy functions"
REMEDIES = {
    **dict.fromkeys(("sort", "argsort", "partition", "argpartition", "searchsorted", "nonzero"), CHOICE),
    **dict.fromkeys(("argmax", "argmin", "round"), CONSTANT),
    **dict.fromkeys(("fill", "put", "resize", "setfield", "setflags", "byteswap", "itemset"), IN_PLACE),
    **dict.fromkeys("base ctypes data device flags flat itemsize nbytes strides getfield view".split(), MEMORY),
    **dict.fromkeys("dump dumps tobytes tostring tofile to_device newbyteorder".split(), MEMORY),
    "choose": "choose between arrays with np.where or np.select",
}


def remedy_for(name: str) -> str:
    """Return what to use instead of an attribute that wires lack."""
    return REMEDIES.get(name) or HINTS.get(name, "use a NumPy function on it instead")


class ArrayMethods:
    """The methods and properties of an ndarray that are NumPy functions of it."""

    __slots__ = ()

    @property
    def T(self) -> Any:
        """The axes in reverse order."""
        return numpy.transpose(self)

    @property
    def mT(self) -> Any:
        """The last two axes exchanged."""
        return numpy.matrix_transpose(self)

    @property
    def real(self) -> Any:
        """The wire itself: wires are real."""
        return self

    @property
    def imag(self) -> Any:
        """Zeros: wires are real."""
        return numpy.imag(self)

    # Shapes.
    def reshape(self, *shape: Any, order: Any = "C", copy: Any = None) -> Any:
        """np.reshape, with a tuple or separate sizes."""
        if not shape:
            raise InputError("reshape() needs a shape: an integer, or several, or a tuple")
        return numpy.reshape(self, shape[0] if len(shape) == 1 else shape, order=order, copy=copy)

    def ravel(self, order: Any = "C") -> Any:
        """np.ravel."""
        return numpy.ravel(self, order)

    def flatten(self, order: Any = "C") -> Any:
        """np.ravel."""
        return numpy.ravel(self, order)

    def transpose(self, *axes: Any) -> Any:
        """np.transpose, with a tuple or separate axes."""
        if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list | np.ndarray)):
            return numpy.transpose(self, axes[0])
        return numpy.transpose(self, axes or None)

    def swapaxes(self, axis1: Any, axis2: Any, /) -> Any:
        """np.swapaxes."""
        return numpy.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: Any = None) -> Any:
        """np.squeeze."""
        return numpy.squeeze(self, axis)

    def diagonal(self, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Any:
        """np.diagonal."""
        return numpy.diagonal(self, offset, axis1, axis2)

    def repeat(self, repeats: Any, /, axis: Any = None) -> Any:
        """np.repeat."""
        return numpy.repeat(self, repeats, axis)

    def take(self, indices: Any, /, axis: Any = None, out: Any = None, mode: Any = "raise") -> Any:
        """np.take."""
        return numpy.take(self, indices, axis, out, mode)

    def compress(self, condition: Any, axis: Any = None, out: Any = None) -> Any:
        """np.compress with a plain mask."""
        return numpy.compress(condition, self, axis, out)

    # Reductions.
    def sum(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        initial: Any = NO_VALUE,
        where: Any = NO_VALUE,
    ) -> Any:
        """np.sum."""
        return numpy.sum(self, axis, dtype, out, keepdims, initial, where)

    def prod(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        initial: Any = NO_VALUE,
        where: Any = NO_VALUE,
    ) -> Any:
        """np.prod."""
        return numpy.prod(self, axis, dtype, out, keepdims, initial, where)

    def cumsum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        """np.cumsum."""
        return numpy.cumsum(self, axis, dtype, out)

    def cumprod(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        """np.cumprod."""
        return numpy.cumprod(self, axis, dtype, out)

    def mean(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        *,
        where: Any = NO_VALUE,
    ) -> Any:
        """np.mean."""
        return numpy.mean(self, axis, dtype, out, keepdims, where=where)

    def var(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: Any = 0,
        keepdims: Any = NO_VALUE,
        *,
        where: Any = NO_VALUE,
        mean: Any = NO_VALUE,
    ) -> Any:
        """np.var."""
        return numpy.var(self, axis, dtype, out, ddof, keepdims, where=where, mean=mean)

    def std(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: Any = 0,
        keepdims: Any = NO_VALUE,
        *,
        where: Any = NO_VALUE,
        mean: Any = NO_VALUE,
    ) -> Any:
        """np.std."""
        return numpy.std(self, axis, dtype, out, ddof, keepdims, where=where, mean=mean)

    def max(
        self,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        initial: Any = NO_VALUE,
        where: Any = NO_VALUE,
    ) -> Any:
        """np.max."""
        return numpy.max(self, axis, out, keepdims, initial, where)

    def min(
        self,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        initial: Any = NO_VALUE,
        where: Any = NO_VALUE,
    ) -> Any:
        """np.min."""
        return numpy.min(self, axis, out, keepdims, initial, where)

    def any(self, axis: Any = None, out: Any = None, *, keepdims: Any = NO_VALUE, where: Any = NO_VALUE) -> Any:
        """np.any."""
        return numpy.any(self, axis, out, keepdims=keepdims, where=where)

    def all(self, axis: Any = None, out: Any = None, *, keepdims: Any = NO_VALUE, where: Any = NO_VALUE) -> Any:
        """np.all."""
        return numpy.all(self, axis, out, keepdims=keepdims, where=where)

    def trace(self, offset: Any = 0, axis1: Any = 0, axis2: Any = 1, dtype: Any = None, out: Any = None) -> Any:
        """np.trace."""
        return numpy.trace(self, offset, axis1, axis2, dtype, out)

    # Arithmetic.
    def dot(self, other: Any, /, out: Any = None) -> Any:
        """np.dot."""
        return numpy.dot(self, other, out)

    def clip(self, min: Any = NO_VALUE, max: Any = NO_VALUE, out: Any = None, **kwargs: Any) -> Any:
        """np.clip."""
        low, high = (None if bound is NO_VALUE else bound for bound in (min, max))
        return numpy.clip(self, low, high, out, **kwargs)

    def conj(self) -> Any:
        """Return the wire itself: wires are real."""
        return self

    def conjugate(self) -> Any:
        """Return the wire itself: wires are real."""
        return self

    # Values and dtypes.
    def astype(
        self,
        dtype: Any,
        order: Any = "K",
        casting: Any = "unsafe",
        subok: Any = True,
        copy: Any = True,
    ) -> Any:
        """Convert booleans to integers and integers to floats; floats stay float64, whatever width is requested."""
        return self.change_dtype(dtype, order=order, casting=casting, subok=subok, copy=copy)

    def copy(self, order: Any = "C") -> Any:
        """Return the wire itself: wires are immutable."""
        return numpy.copy(self, order)

    def item(self, *args: Any) -> float:
        """Raise TraceError: a wire has no value."""
        raise self.refuse_number("item")

    def tolist(self) -> list[Any]:
        """Raise TraceError: a wire has no value."""
        raise self.refuse_number("values as a list")

    # Implemented by the class that inherits these methods.
    def change_dtype(self, dtype: Any, **options: Any) -> Any:
        """Convert the wire to another label."""
        raise NotImplementedError

    def refuse_number(self, what: str) -> Exception:
        """Return the error for float(wire) and similar conversions."""
        raise NotImplementedError
