"""A planned sketch: what it promises and what it costs, as numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from circuitsketch.limits import disk_free, format_bytes, memory_available


@dataclass(frozen=True)
class Plan:
    """A sketch, from `plan`: what it promises, what it costs.

    Attributes
    ----------
    epsilon, delta : float or None
        As asked for; None, as are alpha, error and truncation, if a sketch was priced and nothing promised.
    alpha : float or None
        The stability function at 4 |h|.
    order, per_group, median_groups : int
        s, m and k: the highest order, the directions per group of the median, and the number of groups.
    error : float or None
        epsilon alpha: with probability 1 - delta the error is at most this.
    truncation : float or None
        The part of the error that is left to orders above s.
    seconds : float or None
        Of the push, on `threads` threads, without compiling; None, as are the bytes, without a run.
    nbytes, disk, working : int or None
        Bytes of the coefficients in memory; of the same on disk; of the memory besides them that the push takes.
    seconds_per_gate : float or None
        Of one core, for a scalar gate along a complex direction; `measured` by a trial push, or else given.
    threads : int or None
        The number of threads.
    alpha_is : {"assumed", "given", "measured"}
        Assumed to be 1, given, or measured by a pilot.
    deleted : float or None
        How many examples may be deleted, |h|^2, if a pilot was given.
    further : tuple of (deleted, alpha)
        Alpha for other deletions.
    pilot : str
        What alpha rests on, in words.
    distribution : str
        Of the directions.
    per_example_order : int or None
        The order of the per-example series.
    coordinates, unit : int or None, str
        The number of single examples, or groups, to push, and what they are called.
    dtype : str
        Of the coefficients.
    path : str or None
        Of the sketch on disk, if one was given.
    stored : int or None
        The bytes of its files, measured.
    blocks : (int, int) or None
        How many of how many blocks are there.
    """

    epsilon: float | None
    delta: float | None
    alpha: float | None
    order: int
    per_group: int
    median_groups: int
    error: float | None
    truncation: float | None
    seconds: float | None = None
    nbytes: int | None = None
    seconds_per_gate: float | None = None
    threads: int | None = None
    measured: bool = False
    alpha_is: str = "assumed"
    deleted: float | None = None
    further: tuple[tuple[float, float], ...] = ()
    pilot: str = ""
    distribution: str = "sphere"
    per_example_order: int | None = None
    coordinates: int | None = None
    unit: str = "example"
    dtype: str = "complex128"
    disk: int | None = None
    working: int | None = None
    path: str | None = None
    stored: int | None = None
    blocks: tuple[int, int] | None = None

    @property
    def directions(self) -> int:
        """m k."""
        return self.per_group * self.median_groups

    def __str__(self) -> str:
        parts = []
        if self.directions:
            grouped = f", in {self.median_groups} group{'s' * (self.median_groups > 1)} of {self.per_group:,}"
            parts.append(
                f"{self.directions:,} directions of distribution {self.distribution!r} to order {self.order}"
                f"{grouped if self.error is not None else ''}"
            )
        if self.per_example_order is not None:
            parts.append(f"every one of {self.coordinates:,} {self.unit}s alone to order {self.per_example_order}")
        lines = [f"plan: {', and '.join(parts)}", *(f"  {name:<10} {text}" for name, text in self.rows())]
        return "\n".join(lines)

    def rows(self) -> list[tuple[str, str]]:
        """What is promised and what it costs, in words."""
        lines = []
        if self.error is not None and self.epsilon is not None and self.delta is not None:
            lines += self.promise()
        if self.seconds is not None and self.seconds_per_gate is not None:
            how = (
                "measured by a trial push of the run's first steps on this machine: right within a factor of 2 or so"
                if self.measured
                else "as given"
            )
            lines.append(
                (
                    "time",
                    f"{self.seconds:,.3g} s on {self.threads} thread{'s' * (self.threads != 1)}, once it is compiled "
                    f"({self.seconds_per_gate:.2g} s of a core per scalar gate and complex direction, {how})",
                )
            )
        if self.nbytes is not None and self.working is not None and self.disk is not None:
            available, free = memory_available(), disk_free(".")
            there = "" if available is None else f"; {format_bytes(available)} are available here"
            lines.append(
                (
                    "memory",
                    f"{format_bytes(self.nbytes)} of coefficients ({self.dtype}) and "
                    f"{format_bytes(self.working)} of working memory{there}",
                )
            )
            there = "" if free is None else f"; {format_bytes(free)} are free in this folder"
            lines.append(
                ("disk", f"{format_bytes(self.disk)} instead of the coefficients' memory, with path=...{there}")
            )
        if self.stored is not None and self.blocks is not None:
            done, blocks = self.blocks
            lines.append(
                ("", f"measured: {format_bytes(self.stored)} in {self.path}, {done:,} of {blocks:,} blocks are there")
            )
        return lines

    def promise(self) -> list[tuple[str, str]]:
        """What the theorem says of its errors, and what alpha rests on."""
        assert self.delta is not None and self.epsilon is not None
        assert self.alpha is not None and self.error is not None and self.truncation is not None
        surely = f"with probability {1 - self.delta:.6g}"
        share = f"{self.truncation / self.alpha:.2g} alpha of it is left to higher orders"
        if self.alpha_is == "assumed":
            return [
                ("promise", f"an error of at most {self.epsilon:.3g} alpha {surely}; {share}"),
                (
                    "alpha",
                    "alpha(4 |h|), the largest (4 |h|)^r ||F_r|| of the measurement, is not known here and was taken "
                    f"as 1: only then is this an error of {self.error:.3g}; a pilot measures it (query=, --pilot)",
                ),
            ]
        promise = [("promise", f"an error of at most {self.error:.3g} = {self.epsilon:.3g} alpha {surely}; {share}")]
        if self.alpha_is == "given":
            return [*promise, ("alpha", f"{self.alpha:.4g}, as given, at 4 |h|")]
        assert self.deleted is not None
        radius = 4 * math.sqrt(self.deleted)
        promise.append(
            (
                "alpha",
                f"alpha({radius:.3g}) = {self.alpha:.4g} for the deletion of {amount(self.deleted, self.unit)}, "
                f"{self.pilot}",
            )
        )
        for deleted, alpha in self.further:
            promise.append(("", f"without {amount(deleted, self.unit)}: {self.epsilon * alpha:.3g}, alpha {alpha:.4g}"))
        itself = self.epsilon / self.alpha
        promise.append(("", f"for an error of at most {self.epsilon:.3g} itself, plan epsilon={itself:.3g}"))
        return promise

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings and lists."""
        names = [name for name in self.__dataclass_fields__ if name != "further"]
        plain = {name: getattr(self, name) for name in names} | {"directions": self.directions}
        return plain | {"further": [{"deleted": deleted, "alpha": alpha} for deleted, alpha in self.further]}


def amount(deleted: float, unit: str) -> str:
    """So many examples.

    >>> amount(1, "example"), amount(2.5, "group")
    ('1 example', '2.5 groups')
    """
    return f"{deleted:,g} {unit}{'s' * (deleted != 1)}"
