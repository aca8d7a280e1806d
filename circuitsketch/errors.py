"""The errors and warnings of the package. Each message says what happened, where, and what to do next."""

from __future__ import annotations


class CircuitSketchError(Exception):
    """The base of every error that the package raises on purpose.

    Its message may quote what somebody else wrote (labels, names, paths), so it is shown without control characters.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


def printable(text: str, keep: str = "") -> str:
    r"""Text that a terminal shows as it is: control characters, and what turns the direction of writing, as escapes.

    keep : characters that stay in any case, such as newlines in a text of several lines.

    >>> printable("caf\xe9 \x1b[31mred")
    'café \\x1b[31mred'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )


class InputError(CircuitSketchError, ValueError):
    """An argument cannot be used: a wrong shape, an id out of range, an empty deletion set."""


class TraceError(CircuitSketchError):
    """A function asks of a wire what a circuit cannot give: a branch, an in-place write, an unknown function.

    Not a TypeError: NumPy would catch it, try another way, and raise something that says less.
    """


class ShapeError(CircuitSketchError, ValueError):
    """Operands of a gate whose shapes or dtypes do not go together."""


class CircuitError(CircuitSketchError):
    """A circuit that breaks the rules of circuits: a bug of a pass, found by the legality check."""


class DomainError(CircuitSketchError, ArithmeticError):
    """A gate has no Taylor series at its constant term: sqrt or log at zero, a division by zero."""


class DivergenceError(CircuitSketchError, ArithmeticError):
    """Values left the finite numbers: a diverging run, or coefficients too large for the dtype."""


class GateError(CircuitSketchError, AssertionError):
    """The parts of a gate's record contradict each other: a bug in its rules, found by `circuitsketch.testing`."""


class DeviceError(CircuitSketchError, RuntimeError):
    """A device that was asked for cannot be used, or cannot hold what it was given."""


class KinkWarning(UserWarning):
    """A gate that is only locally analytic was evaluated within rounding of its kink."""


class FrozenDrawWarning(UserWarning):
    """A function that is traced draws random numbers, which its circuit keeps: every call gets the same ones."""


class StoreError(InputError):
    """A stored sketch cannot be used: another run's, damaged, being written by another process, or the disk is full."""


class BoundsError(InputError, ShapeError, IndexError):
    """An index that an array of its shape does not have, or a label without a class; NumPy raises an IndexError.

    Attributes
    ----------
    reason : the message without a place. entry : of the first index that is out of bounds, where in its array it is.
    """

    def __init__(self, reason: str, entry: tuple[int, ...] = (), place: object = "") -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason, self.entry = reason, entry

    def at(self, place: object) -> BoundsError:
        """The same error, of a line of the user's program."""
        return BoundsError(self.reason, self.entry, place)
