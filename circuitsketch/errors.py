"""The package's errors and warnings. Each message says what happened, where, and what to do next."""

from __future__ import annotations


class CircuitSketchError(Exception):
    """The base class of every error that the package raises deliberately.

    Messages may quote text from elsewhere (labels, names, paths), so they are printed with control characters escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


def printable(text: str, keep: str = "") -> str:
    r"""Return text with every non-printable character (control, bidirectional override) replaced by its escape.

    Parameters
    ----------
    text : str
        The text to print.
    keep : str
        Characters to leave unescaped, such as newlines in a text of several lines.

    Examples
    --------
    >>> printable("caf\xe9 \x1b[31mred")
    'café \\x1b[31mred'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )


class InputError(CircuitSketchError, ValueError):
    """An argument is invalid: a wrong shape, an id out of range, an empty deletion set."""


class ConstantError(InputError):
    """A run or a measurement is locally constant in the examples' weights, so that no series predicts it."""


class TraceError(CircuitSketchError):
    """A traced function does something a circuit cannot express: a branch, an in-place write, an unknown function.

    This is not a TypeError, because NumPy would catch one and raise a less informative error instead.
    """


class ShapeError(CircuitSketchError, ValueError):
    """The shapes or dtypes of a gate's operands are incompatible."""


class CircuitError(CircuitSketchError):
    """The legality check failed: a pass produced an invalid circuit, which is a bug."""


class DomainError(CircuitSketchError, ArithmeticError):
    """A gate has no Taylor series at its primal value: sqrt or log at zero, a division by zero."""


class DivergenceError(CircuitSketchError, ArithmeticError):
    """Values became non-finite: training diverged, or coefficients overflowed the dtype."""


class GateError(CircuitSketchError, AssertionError):
    """The parts of a gate's record contradict each other: a bug in its rules, reported by `circuitsketch.testing`."""


class DeviceError(CircuitSketchError, RuntimeError):
    """The requested device is unavailable, or lacks the memory."""


class WorkerError(CircuitSketchError, RuntimeError):
    """A worker process of an executor died, was cancelled, or could not run its task."""


class KinkWarning(UserWarning):
    """A gate that is only piecewise analytic was evaluated within rounding error of its kink."""


class FrozenDrawWarning(UserWarning):
    """A traced function draws random numbers; the circuit stores them, so every call reuses the same ones."""


class RoundingWarning(UserWarning):
    """Models were retrained in float32, and the effects that were measured are not large against its rounding."""


class StoreError(InputError):
    """A stored sketch is unusable: from another run, damaged, locked by another process, or the disk is full."""


class BoundsError(InputError, ShapeError, IndexError):
    """An index is out of bounds, or a label has no class; also an IndexError, as NumPy raises.

    Attributes
    ----------
    reason : str
        The message without a source line.
    entry : tuple of int
        The position, in the array of indices, of the first index that is out of bounds.
    """

    def __init__(self, reason: str, entry: tuple[int, ...] = (), place: object = "") -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason, self.entry = reason, entry

    def at(self, place: object) -> BoundsError:
        """Return the same error with a line of the user's program in front."""
        return BoundsError(self.reason, self.entry, place)
