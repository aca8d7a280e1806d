"""How many directions to which order the theorem asks for, and what they cost for a run.

In: how small an error, how surely, and perhaps a run. Out: a `Plan`. The constants are proved, for any function and any
deletion, so they are large: a sketch's own error bars usually say better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import thread_time
from typing import Any

import numpy as np

from circuitsketch.arguments import is_real, quoted
from circuitsketch.compile import coefficient_type, target_for
from circuitsketch.errors import InputError
from circuitsketch.kernels.turns import thread_count
from circuitsketch.lower.instructions import Mode
from circuitsketch.sketch.directions import Sphere
from circuitsketch.sketch.push import blocks_together, packed
from circuitsketch.training.training import Training

MOST_ORDERS, MOST_GROUPS = 60, 399  # more never pay: 4^-60 is below rounding, and 399 groups reach delta = 1e-40
MOST_DIRECTIONS = 2**53  # in a group, beyond which a count is not exact
LARGEST_FLOAT = int(np.finfo(np.float64).max)
ENOUGH = 0.3  # seconds of a trial push: hundreds of steps of a small model, and more than any clock's grain


@dataclass(frozen=True)
class Plan:
    """A sketch that keeps the theorem's promise, from `plan`.

    Attributes
    ----------
    epsilon, delta, alpha : as asked. order : s. per_group, groups : m and k. directions : m k, of law "sphere".
    error : epsilon alpha, what holds with probability 1 - delta. truncation : the part of it left to orders above s.
    seconds : of the push, on `threads` threads; nbytes : of the coefficients; None without a run.
    seconds_per_gate : of one core for a scalar gate along a direction; measured : by a trial push, or else given.
    """

    epsilon: float
    delta: float
    alpha: float
    order: int
    per_group: int
    groups: int
    error: float
    truncation: float
    seconds: float | None = None
    nbytes: int | None = None
    seconds_per_gate: float | None = None
    threads: int | None = None
    measured: bool = False

    @property
    def directions(self) -> int:
        """m k."""
        return self.per_group * self.groups

    def __str__(self) -> str:
        lines = [
            f"plan: {self.directions:,} directions of law 'sphere' to order {self.order}, in {self.groups} group"
            f"{'s' * (self.groups > 1)} of {self.per_group:,}",
            f"  promise    an error of at most {self.error:.3g} with probability {1 - self.delta:.6g}, of which "
            f"{self.truncation:.2g} is left to higher orders",
        ]
        if self.seconds is not None and self.nbytes is not None:
            how = "measured by a trial push" if self.measured else "as given"
            lines.append(
                f"  cost       {self.seconds:,.3g} s on {self.threads} thread{'s' * (self.threads != 1)}, "
                f"{self.nbytes / 1e6:,.1f} MB ({self.seconds_per_gate:.2g} s a gate and direction, {how})"
            )
        return "\n".join(lines)


def plan(
    epsilon: float,
    delta: float,
    alpha: float = 1.0,
    *,
    run: Training | None = None,
    seconds_per_gate: float | None = None,
    dtype: Any = np.complex128,
    threads: int | None = None,
) -> Plan:
    """The cheapest sketch by which every prediction errs by at most epsilon alpha with probability 1 - delta.

    Write a = alpha(4 |h|) = sup_r (4 |h|)^r ||F_r||, so that |h|^r ||F_r|| <= 4^-r a. For Gaussian directions Wick's
    formula gives E |Z_r|^2 <= C(2r, r) |h|^(2r) ||F_r||^2; directions of the sphere vary no more, since for rising
    factorials (n)_r^2 <= (n)_2r, and a real part no more than the whole. Hence

        truncation   sum_(r>s) |h|^r ||F_r|| <= a 4^-s / 3,
        one sample   sd <= a v(s),  v(s) = sum_(r=1..s) sqrt(C(2r, r)) 4^-r,
        one mean     is off by more than t a with probability p <= v(s)^2 / (m t^2), by Chebyshev,
        the median   of k means, k odd, is off by more only if (k + 1) / 2 of them are:
                     P(Bin(k, p) >= (k + 1) / 2) = I_p((k + 1) / 2, (k + 1) / 2), which is delta for one p(k).

    With t = epsilon - 4^-s / 3 that gives m = v(s)^2 / (p(k) t^2), rounded up. Of all s and k the plan takes those with
    the least k m s (s + 1): a product of series of order s takes 2 s (s + 1) real multiply-adds. The directions must be
    independent of each other, as those of the laws "sphere" and "gaussian" are.

    Parameters
    ----------
    epsilon, delta : above 0, delta below 1. alpha : the stability function at 4 |h|, which is 4 sqrt(d) for d deletions
        (`query.stability()` measures it); it scales the error alone.
    run : of which time and bytes are predicted: directions times size(A) times the rate, over the threads.
    seconds_per_gate : the rate, of one core at this plan's order. By default it is measured: a few directions are
        pushed through the run's first steps for a third of a second, once its kernels are compiled.
    dtype, threads : as for `sketch`.

    Raises
    ------
    InputError : for numbers that cannot be.

    >>> import circuitsketch as cs
    >>> found = cs.plan(0.1, 0.05)
    >>> found.order, found.groups, found.per_group
    (2, 1, 820)
    """
    epsilon, delta, alpha = (
        check_positive(name, value) for name, value in (("epsilon", epsilon), ("delta", delta), ("alpha", alpha))
    )
    if delta >= 1:
        raise InputError(f"delta is {delta!r}; it is the probability of failure, below 1")
    order, per_group, groups = cheapest(epsilon, delta)
    found = (epsilon, delta, alpha, order, per_group, groups, epsilon * alpha, alpha * truncation(order))
    if run is None:
        if seconds_per_gate is not None:
            raise InputError("seconds_per_gate predicts the time of a run; give run too")
        return Plan(*found)
    if not isinstance(run, Training):
        raise InputError(f"run is a cs.Training, not a {type(run).__name__}")
    measured = seconds_per_gate is None
    rate = measured_rate(run, order, dtype) if seconds_per_gate is None else seconds_per_gate
    rate = check_positive("seconds_per_gate", rate)
    target = target_for(Mode(order), coefficient_type(dtype))
    blocks = -(-per_group * groups // target.width)
    workers = thread_count(threads, blocks)
    seconds = per_group * groups * run.size * rate / workers
    cells = sum(run.state_leaves[i].size for i in run.varying())
    nbytes = blocks * target.width * cells * target.mode.components * (4 if target.single else 8)
    return Plan(*found, seconds, nbytes, rate, workers, measured)


def cheapest(epsilon: float, delta: float) -> tuple[int, int, int]:
    """s, m and k of the least cost."""
    from scipy.special import betaincinv  # a slow import

    ways = []
    for k in range(1, MOST_GROUPS + 1, 2):
        half = (k + 1) / 2
        p = float(betaincinv(half, half, delta))
        for s in range(1, MOST_ORDERS + 1):
            t = epsilon - truncation(s)
            if t > 0 and p * t * t > 0:
                m = spread(s) ** 2 / (p * t * t)
                if m < MOST_DIRECTIONS:
                    m = max(math.ceil(m), 1)
                    ways.append((k * m * s * (s + 1), s, m, k))
    if not ways:
        raise InputError(f"no order reaches epsilon = {epsilon!r} with delta = {delta!r}; ask for less")
    return min(ways)[1:]


def truncation(s: int) -> float:
    """What the orders above s add at most, over alpha."""
    return 4.0**-s / 3


def spread(s: int) -> float:
    """v(s), the standard deviation of one sample over alpha."""
    return sum(math.sqrt(math.comb(2 * r, r)) * 4.0**-r for r in range(1, s + 1))


def measured_rate(run: Training, order: int, dtype: Any) -> float:
    """Seconds of one core for a scalar gate along a direction, from the run's first steps."""
    executable = run.executable(Mode(order), coefficient_type(dtype))
    width = executable.target.width
    together = blocks_together(executable, 4, 1)
    arena = executable.arena(together)
    law = Sphere(run.n)
    rows = np.stack([packed(law.block(b * width, (b + 1) * width), width, True) for b in range(together)])
    at = np.zeros(run.n)
    arena.set_state(run.state_leaves)
    arena.run(run.schedule, 0, 1, at, rows)  # warm
    spent, gates = 0.0, 0
    while spent < ENOUGH:
        arena.set_state(run.state_leaves)
        for t in range(run.steps):
            begin = thread_time()
            arena.run(run.schedule, t, t + 1, at, rows)
            spent += thread_time() - begin
            gates += run.circuits[run.schedule.program[t]].size
            if spent >= ENOUGH:
                break
    return spent / (gates * together * width)


def check_positive(name: str, value: Any) -> float:
    """A finite real number above zero."""
    if not is_real(value) or not 0 < value < math.inf or value > LARGEST_FLOAT:
        raise InputError(f"{name} is a number above 0, not {quoted(value)}")
    return float(value)
