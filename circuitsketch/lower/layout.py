"""Layouts: which element of which buffer each element of a wire is. Movement without a copy is arithmetic on layouts.

A buffer is a run of elements. An element has a real constant term in one arena and a lane block in the other, and a
layout addresses both by the same element numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuitsketch.gates import Shape, cells

Strides = tuple[int, ...]


def contiguous_strides(shape: Shape) -> Strides:
    """Return C-order strides, in elements."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class Layout:
    """Element (i, j, ...) of a wire is element offset + i*strides[0] + j*strides[1] + ... of its buffer."""

    buffer: int
    offset: int
    shape: Shape
    strides: Strides

    @staticmethod
    def contiguous(buffer: int, shape: Shape) -> Layout:
        """Return the layout of all of a buffer, in C order."""
        return Layout(buffer, 0, shape, contiguous_strides(shape))

    @property
    def is_contiguous(self) -> bool:
        """Whether these are the buffer's elements in C order from the first (an axis of length 1 has any stride)."""
        return self.offset == 0 and are_strides_equal(self.shape, self.strides, contiguous_strides(self.shape))

    def transpose(self, axes: tuple[int, ...]) -> Layout:
        """Return the same elements with permuted axes."""
        return Layout(
            self.buffer,
            self.offset,
            tuple(self.shape[a] for a in axes),
            tuple(self.strides[a] for a in axes),
        )

    def broadcast(self, shape: Shape) -> Layout:
        """Return repeated elements, with stride 0."""
        extra = len(shape) - len(self.shape)
        strides = (0,) * extra + tuple(
            0 if old == 1 and new != 1 else stride
            for old, new, stride in zip(self.shape, shape[extra:], self.strides, strict=True)
        )
        return Layout(self.buffer, self.offset, shape, strides)

    def slice(self, starts: tuple[int, ...], steps: tuple[int, ...], shape: Shape) -> Layout:
        """Return the elements start + i * step along every axis."""
        offset = self.offset + sum(start * stride for start, stride in zip(starts, self.strides, strict=True))
        strides = tuple(step * stride for step, stride in zip(steps, self.strides, strict=True))
        return Layout(self.buffer, offset, shape, strides)

    def reshape(self, shape: Shape) -> Layout | None:
        """Return the same elements in another shape, or None if that needs a copy."""
        if cells(shape) == 0:
            return Layout(self.buffer, self.offset, shape, contiguous_strides(shape))
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        strides: list[int] = []
        rest = iter(merge_axes(old))
        extent, step = next(rest, (1, 1))  # a merged run of old axes, from the right
        step_now = step
        left = extent
        for new in reversed(shape):
            if new == 1:
                strides.append(step_now)
                continue
            if left == 1:
                extent, step_now = next(rest, (1, 1))
                left = extent
            if left % new:
                return None
            strides.append(step_now)
            step_now *= new
            left //= new
        return Layout(self.buffer, self.offset, shape, tuple(reversed(strides)))


def merge_axes(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge axes (extent, stride) where the outer one steps over all of the inner one; return the innermost first."""
    merged: list[tuple[int, int]] = []
    for extent, stride in reversed(axes):
        if merged and merged[-1][0] * merged[-1][1] == stride:
            merged[-1] = (merged[-1][0] * extent, merged[-1][1])
        else:
            merged.append((extent, stride))
    return merged


def are_strides_equal(shape: Shape, one: Strides, two: Strides) -> bool:
    """Return whether strides address the same elements: those of an axis of length 1 do not matter."""
    return all(n == 1 or a == b for n, a, b in zip(shape, one, two, strict=True))


def collapse(shape: Shape, operands: list[Strides]) -> tuple[Shape, list[Strides]]:
    """Return fewer axes over the same elements: merge an axis into the next one if every operand allows it."""
    axes = [(n, [s[i] for s in operands]) for i, n in enumerate(shape) if n != 1]
    merged: list[tuple[int, list[int]]] = []
    for extent, strides in axes:
        if merged and all(a == extent * b for a, b in zip(merged[-1][1], strides, strict=True)):
            merged[-1] = (merged[-1][0] * extent, strides)
        else:
            merged.append((extent, strides))
    return tuple(n for n, _ in merged), [tuple(s[i] for _, s in merged) for i in range(len(operands))]
