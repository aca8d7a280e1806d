"""Layouts: which entry of which buffer each entry of a wire is. Movement that needs no copy is arithmetic on these.

A buffer is a run of elements in an arena; an element is one real constant term and, beside it, one lane block of
coefficients. A layout addresses both by the same element numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuitsketch.gates import Shape, cells

Strides = tuple[int, ...]


def contiguous_strides(shape: Shape) -> Strides:
    """C-order strides, in elements."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class Layout:
    """Entry (i, j, ...) of a wire is element offset + i*strides[0] + j*strides[1] + ... of its buffer."""

    buffer: int
    offset: int
    shape: Shape
    strides: Strides

    @staticmethod
    def whole(buffer: int, shape: Shape) -> Layout:
        """A buffer of its own, in C order."""
        return Layout(buffer, 0, shape, contiguous_strides(shape))

    @property
    def is_whole(self) -> bool:
        """The buffer's entries in C order from its beginning (axes of extent 1 may have any stride)."""
        return self.offset == 0 and are_strides_equal(self.shape, self.strides, contiguous_strides(self.shape))

    def transposed(self, axes: tuple[int, ...]) -> Layout:
        """The same entries with permuted axes."""
        return Layout(
            self.buffer,
            self.offset,
            tuple(self.shape[a] for a in axes),
            tuple(self.strides[a] for a in axes),
        )

    def broadcast(self, shape: Shape) -> Layout:
        """Repeated entries: stride 0."""
        extra = len(shape) - len(self.shape)
        strides = (0,) * extra + tuple(
            0 if extent == 1 and wanted != 1 else stride
            for extent, wanted, stride in zip(self.shape, shape[extra:], self.strides, strict=True)
        )
        return Layout(self.buffer, self.offset, shape, strides)

    def sliced(self, starts: tuple[int, ...], steps: tuple[int, ...], shape: Shape) -> Layout:
        """Entries start + i * step along every axis."""
        offset = self.offset + sum(start * stride for start, stride in zip(starts, self.strides, strict=True))
        strides = tuple(step * stride for step, stride in zip(steps, self.strides, strict=True))
        return Layout(self.buffer, offset, shape, strides)

    def reshaped(self, shape: Shape) -> Layout | None:
        """The same entries in another shape, or None where that needs a copy."""
        if cells(shape) == 0:
            return Layout(self.buffer, self.offset, shape, contiguous_strides(shape))
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        strides: list[int] = []
        rest = iter(merge_axes(old))
        extent, step = next(rest, (1, 1))  # a merged run of old axes, from the right
        step_now = step
        left = extent
        for wanted in reversed(shape):
            if wanted == 1:
                strides.append(step_now)
                continue
            if left == 1:
                extent, step_now = next(rest, (1, 1))
                left = extent
            if left % wanted:
                return None
            strides.append(step_now)
            step_now *= wanted
            left //= wanted
        return Layout(self.buffer, self.offset, shape, tuple(reversed(strides)))


def merge_axes(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Axes (extent, stride) merged where the outer steps over the whole inner one; innermost first."""
    found: list[tuple[int, int]] = []
    for extent, stride in reversed(axes):
        if found and found[-1][0] * found[-1][1] == stride:
            found[-1] = (found[-1][0] * extent, found[-1][1])
        else:
            found.append((extent, stride))
    return found


def are_strides_equal(shape: Shape, one: Strides, two: Strides) -> bool:
    """Whether two strides address alike: an axis of extent 1 is never stepped along."""
    return all(n == 1 or a == b for n, a, b in zip(shape, one, two, strict=True))


def collapse(shape: Shape, operands: list[Strides]) -> tuple[Shape, list[Strides]]:
    """Fewer axes over the same entries: an axis is merged into the next one where every operand allows it."""
    axes = [(n, [s[i] for s in operands]) for i, n in enumerate(shape) if n != 1]
    found: list[tuple[int, list[int]]] = []
    for extent, strides in axes:
        if found and all(a == extent * b for a, b in zip(found[-1][1], strides, strict=True)):
            found[-1] = (found[-1][0] * extent, strides)
        else:
            found.append((extent, strides))
    return tuple(n for n, _ in found), [tuple(s[i] for _, s in found) for i in range(len(operands))]
