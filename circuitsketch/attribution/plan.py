"""How large a sketch the theorem asks for, and what any sketch costs: seconds, bytes in memory, bytes on disk.

In: how small an error, how surely, and perhaps a pilot's measurement; or the numbers that `sketch` takes; perhaps a
run. Out: a `Plan`. The constants are proved, for any function and any deletion, so they are large: a sketch's own error
bars usually say better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import thread_time
from typing import Any

import numpy as np

from circuitsketch.arguments import is_real, quoted
from circuitsketch.attribution.query import Query
from circuitsketch.attribution.sketch import wanted_of
from circuitsketch.backends.scheduler import thread_count
from circuitsketch.directions import Sphere
from circuitsketch.errors import InputError
from circuitsketch.estimators.convergence import ratio_of_decay, scaled_norms, truncation_of
from circuitsketch.limits import disk_free, human, memory_available, require_memory, within_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import by_first_step, pack_directions
from circuitsketch.propagate.parts import RANDOM, SketchSpec
from circuitsketch.propagate.sizes import PartSize, executable_of, parts_of
from circuitsketch.training.training import Training

MOST_ORDERS, MOST_GROUPS = 60, 399  # more never pay: 4^-60 is below rounding, and 399 groups reach delta = 1e-40
MOST_DIRECTIONS = 2**53  # in a group, beyond which a count is not exact
LARGEST_FLOAT = int(np.finfo(np.float64).max)
ENOUGH = 0.3  # seconds of a trial push: hundreds of steps of a small model, and more than any clock's grain
ERRORS = 2.0  # standard errors that are added to a pilot's norms: it saw few directions
DELETED = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # deletions whose error is listed where none was asked for


@dataclass(frozen=True)
class Plan:
    """A sketch, from `plan`: what it promises, what it costs.

    Attributes
    ----------
    epsilon, delta : as asked; None, as are alpha, error and truncation, where a sketch was priced and nothing promised.
    alpha : the stability function at 4 |h|. alpha_is : "assumed" (to be 1), "given", or "measured" by a pilot.
    order : s. per_group, median_groups : m and k. directions : m k, of distribution `distribution`. per_example_order : of every example alone, or
    None. dtype : of the coefficients.
    error : epsilon alpha, what holds with probability 1 - delta. truncation : the part of it left to orders above s.
    deleted : how many examples may go, |h|^2, where a pilot was asked; further : (deleted, alpha) of other deletions.
    seconds : of the push, on `threads` threads, without compiling; nbytes : of the coefficients, in memory, or on disk,
    where files make it `disk`; working : of the memory beside them that the push takes. All None without a run.
    seconds_per_gate : of one core for a scalar gate along a complex direction; measured : by a trial push, or else
    given. coordinates, unit : how many single examples, or groups, there are to push, and what they are called.
    pilot : what alpha rests on, in words.
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
        lines = [f"plan: {', and '.join(parts)}", *(f"  {name:<10} {text}" for name, text in self.lines())]
        return "\n".join(lines)

    def lines(self) -> list[tuple[str, str]]:
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
            there = "" if available is None else f"; {human(available)} are available here"
            lines.append(
                (
                    "memory",
                    f"{human(self.nbytes)} of coefficients ({self.dtype}) and {human(self.working)} to work in{there}",
                )
            )
            there = "" if free is None else f"; {human(free)} are free in this folder"
            lines.append(("disk", f"{human(self.disk)} instead of the coefficients' memory, with path=...{there}"))
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
        words = [("promise", f"an error of at most {self.error:.3g} = {self.epsilon:.3g} alpha {surely}; {share}")]
        if self.alpha_is == "given":
            return [*words, ("alpha", f"{self.alpha:.4g}, as given, at 4 |h|")]
        assert self.deleted is not None
        radius = 4 * math.sqrt(self.deleted)
        words.append(
            (
                "alpha",
                f"alpha({radius:.3g}) = {self.alpha:.4g} for the deletion of {amount(self.deleted, self.unit)}, "
                f"{self.pilot}",
            )
        )
        for deleted, alpha in self.further:
            words.append(("", f"without {amount(deleted, self.unit)}: {self.epsilon * alpha:.3g}, alpha {alpha:.4g}"))
        itself = self.epsilon / self.alpha
        words.append(("", f"for an error of at most {self.epsilon:.3g} itself, plan epsilon={itself:.3g}"))
        return words

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


@within_memory("the trial push", "seconds_per_gate=...")
def plan(
    epsilon: float | None = None,
    delta: float | None = None,
    alpha: float | None = None,
    *,
    query: Query | None = None,
    deleted: float | None = None,
    run: Training | None = None,
    directions: int | None = None,
    order: int | None = None,
    distribution: str | None = None,
    per_example: str | None = None,
    per_example_order: int | None = None,
    groups: Sequence[Any] | None = None,
    seconds_per_gate: float | None = None,
    dtype: Any = np.complex128,
    threads: int | None = None,
) -> Plan:
    """The cheapest sketch by which a prediction errs by at most epsilon alpha with probability 1 - delta, or the cost
    of any sketch.

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
    independent of each other, as those of the distributions "sphere" and "gaussian" are, and the prediction the theorem's:
    `query.without(..., estimator="theorem", median_groups=plan.median_groups)`.

    A pilot's norms are taken two standard errors larger than they were measured. Where (4 |h|)^r ||F_r|| still grows at
    its highest order, alpha is the largest of those that were measured, s is at most the pilot's order, and what is
    truncated is what |h|^r ||F_r|| adds up to above s, if it goes on as it was measured.

    Parameters
    ----------
    epsilon, delta : above 0, delta below 1. Leave both out to price the sketch that `directions` and `order` describe.
    alpha : the stability function at 4 |h|, which is 4 sqrt(d) for d deletions; it scales the error alone. By default
        it is measured where `query` is given, else taken as 1, which the plan says.
    query : a measurement of a small sketch of the same run, the pilot: order 3 or 4 along a few dozen directions. Of
        several values the largest alpha counts. deleted : how many examples may go at once (|h|^2 for other
        downweights); by default 1, and the errors of larger deletions are listed.
    run : of which time and bytes are predicted: directions times size(A) times the rate, over the threads; single
        examples are real directions, which skip the steps before their example.
    directions, order, distribution, per_example, per_example_order, groups, dtype, threads : as for `sketch`. Where epsilon is given,
        the first three follow from it.
    seconds_per_gate : the rate, of one core at this order, along a complex direction (single examples are then taken
        to cost what their multiply-adds do). By default it is measured: a few directions are pushed through the run's
        first steps for a third of a second, once its kernels are compiled.

    Raises
    ------
    InputError : for numbers that cannot be; a pilot that tells no alpha: of order 1, of one direction, or whose norms
        do not fall for deletions of this size.

    >>> import circuitsketch as cs
    >>> found = cs.plan(0.1, 0.05)
    >>> found.order, found.median_groups, found.per_group
    (2, 1, 820)
    """
    if run is not None and not isinstance(run, Training):
        raise InputError(f"run is a cs.Training, not a {type(run).__name__}")
    if (epsilon is None) != (delta is None):
        raise InputError("a promise takes both epsilon and delta; to price a sketch, leave out both")
    if epsilon is None or delta is None:
        refuse({"alpha": alpha, "query": query, "deleted": deleted}, "belongs to a promise; give epsilon and delta too")
        if run is None:
            raise InputError("give epsilon and delta, to plan a sketch, or run=, to price one")
        count, order = 512 if directions is None else directions, 3 if order is None else order
        chosen = "orthonormal" if distribution is None else distribution
        wanted = wanted_of(run, count, order, 0, chosen, per_example, per_example_order, groups, dtype, threads, "cpu")
        promised = Plan(None, None, None, wanted.order, wanted.count, 1, None, None, distribution=chosen)
        return priced(promised, wanted, seconds_per_gate)
    refuse(
        {"directions": directions, "order": order, "distribution": distribution},
        "follows from epsilon and delta; leave it out, or leave out those to price a sketch",
    )
    epsilon, delta = check_positive("epsilon", epsilon), check_positive("delta", delta)
    alpha = None if alpha is None else check_positive("alpha", alpha)
    if delta >= 1:
        raise InputError(f"delta is {delta!r}; it is the probability of failure, below 1")
    if deleted is not None and query is None:
        raise InputError("deleted says where a pilot's alpha is taken; give query too")
    if query is not None and alpha is not None:
        raise InputError("alpha is given, or measured by query=; leave one of them out")
    if groups is not None and run is not None:
        run = run.grouped(groups)
    promised = promise_of(epsilon, delta, alpha, query, deleted, run)
    if run is None:
        refuse(
            {"seconds_per_gate": seconds_per_gate, "per_example": per_example, "groups": groups},
            "is for the cost of a run; give run too",
        )
        return promised
    wanted = wanted_of(
        run,
        promised.directions,
        promised.order,
        0,
        "sphere",
        per_example,
        per_example_order,
        None,
        dtype,
        threads,
        "cpu",
    )
    return priced(promised, wanted, seconds_per_gate)


# ------------------------------------------------------------------------------------------ what is promised


def promise_of(
    epsilon: float, delta: float, alpha: float | None, query: Query | None, deleted: float | None, run: Training | None
) -> Plan:
    """The plan without its costs."""
    if query is None:
        size, how = (1.0, "assumed") if alpha is None else (float(alpha), "given")
        order, per_group, groups = cheapest(epsilon, delta, truncation)
        left = size * truncation(order)
        return Plan(epsilon, delta, size, order, per_group, groups, epsilon * size, left, alpha_is=how)
    if not isinstance(query, Query):
        raise InputError(f"query is a measurement of a pilot sketch, sketch.measure(...), not a {type(query).__name__}")
    if run is not None and run.n != query.n:
        of = f"the pilot is of {query.n:,} {query.unit}s and the run of {run.n:,}"
        raise InputError(f"{of}; give a pilot of this run")
    deleted = None if deleted is None else check_positive("deleted", deleted)
    pilot = pilot_of(query)
    gone = 1.0 if deleted is None else float(deleted)
    size, tail, most = pilot.at(gone)
    order, per_group, groups = cheapest(epsilon, delta, tail, most)
    further = []
    for more in DELETED if deleted is None else ():
        if 1 < more <= query.n and pilot.falls(4 * math.sqrt(more)):
            further.append((float(more), pilot.alpha(4 * math.sqrt(more))))
    return Plan(
        epsilon,
        delta,
        size,
        order,
        per_group,
        groups,
        epsilon * size,
        size * tail(order),
        alpha_is="measured",
        deleted=gone,
        further=tuple(further),
        pilot=pilot.words(gone),
        unit=query.unit,
    )


@dataclass(frozen=True, eq=False)
class Pilot:
    """What a pilot says of norms: norms (order, values), two standard errors above what was measured."""

    norms: np.ndarray
    directions: int

    def decay(self, radius: float) -> np.ndarray:
        """radius^r ||F_r||, (order, values)."""
        with np.errstate(divide="ignore"):
            return scaled_norms(np.log(self.norms), radius)

    def falls(self, radius: float) -> bool:
        """Whether radius^r ||F_r|| falls from order to order at the highest ones, of all values."""
        return bool((ratio_of_decay(self.decay(radius)) < 1).all())

    def alpha(self, radius: float) -> float:
        """The largest radius^r ||F_r|| of all orders and values."""
        return max(float(self.decay(radius).max()), np.finfo(float).tiny)

    def at(self, deleted: float) -> tuple[float, Callable[[int], float], int]:
        """alpha, what the orders above s add at most over alpha, by s, and the highest s that is known of."""
        length = math.sqrt(deleted)
        alpha = self.alpha(4 * length)
        if self.falls(4 * length):
            return alpha, truncation, MOST_ORDERS
        if not self.falls(length):
            sizes = ", ".join(f"{size:.3g}" for size in self.decay(length).max(axis=1))
            raise InputError(
                f"the pilot's terms do not fall for deletions of {deleted:,g}: at orders 1 to {len(self.norms)} they "
                f"are as large as {sizes}, so no number of directions keeps a promise there; plan fewer deletions, or "
                "measure a pilot of more directions and a higher order"
            )
        terms = self.decay(length)
        above = truncation_of(terms)

        def tail(s: int) -> float:
            return float((terms[s:].sum(axis=0) + above).max()) / alpha

        return alpha, tail, len(self.norms)

    def words(self, deleted: float) -> str:
        """What alpha rests on."""
        text = f"measured along {self.directions:,} directions to order {len(self.norms)}, two standard errors added"
        if self.falls(4 * math.sqrt(deleted)):
            return text
        return f"{text}; the largest of these orders, which still grow there, and what is truncated is measured too"


def pilot_of(query: Query) -> Pilot:
    """The norms of a pilot's measurement; InputError where they tell no alpha."""
    stability = query.stability()
    if stability.order < 2:
        raise InputError("a pilot of order 1 does not tell how the orders go on; sketch it to order 3 or 4")
    norms = (stability.norms + ERRORS * stability.stderr).reshape(stability.order, -1)
    if not np.isfinite(norms).all():
        raise InputError("a pilot of one direction has no errors, so it tells no alpha; take a few dozen")
    return Pilot(norms, stability.directions)


def cheapest(
    epsilon: float, delta: float, tail: Callable[[int], float], most: int = MOST_ORDERS
) -> tuple[int, int, int]:
    """s, m and k of the least cost; tail : what is truncated above s, over alpha."""
    from scipy.special import betaincinv  # a slow import

    left = [(s, epsilon - tail(s)) for s in range(1, most + 1)]
    ways = []
    for k in range(1, MOST_GROUPS + 1, 2):
        half = (k + 1) / 2
        p = float(betaincinv(half, half, delta))
        for s, t in left:
            if t > 0 and p * t * t > 0:
                m = spread(s) ** 2 / (p * t * t)
                if m < MOST_DIRECTIONS:
                    m = max(math.ceil(m), 1)
                    ways.append((k * m * s * (s + 1), s, m, k))
    if not ways:
        least = "" if most == MOST_ORDERS else f": above order {most}, the pilot's, {tail(most):.2g} alpha is left"
        raise InputError(f"no order reaches epsilon = {epsilon!r} with delta = {delta!r}{least}; ask for less")
    return min(ways)[1:]


def truncation(s: int) -> float:
    """What the orders above s add at most, over alpha."""
    return 4.0**-s / 3


def spread(s: int) -> float:
    """v(s), the standard deviation of one sample over alpha."""
    return sum(math.sqrt(math.comb(2 * r, r)) * 4.0**-r for r in range(1, s + 1))


# ------------------------------------------------------------------------------------------ what it costs


def priced(promised: Plan, wanted: SketchSpec, given: float | None) -> Plan:
    """A plan with its costs."""
    if given is not None:
        given = check_positive("seconds_per_gate", given)
    run, parts = wanted.run, list(parts_of(wanted))
    seconds, workers, shown = 0.0, 1, given
    for part in parts:
        mode = part.target.mode
        rate = given * multiply_adds(mode) / multiply_adds(Mode(wanted.order)) if given else measured_rate(run, part)
        threads = thread_count(wanted.threads, part.blocks)
        seconds += gates_along(run, part) * rate / threads
        workers = max(workers, threads)
        if shown is None:
            shown = rate * multiply_adds(Mode(wanted.order)) / multiply_adds(mode)
    working = max(
        (part.working(executable_of(run, part), run.n, wanted.threads) for part in parts if part.cells), default=0
    )
    return replace(
        promised,
        seconds=seconds,
        nbytes=sum(part.nbytes for part in parts),
        seconds_per_gate=shown,
        threads=workers,
        measured=given is None,
        per_example_order=wanted.per_example_order,
        coordinates=run.n,
        unit="example" if run.groups is None else "group",
        dtype="complex64" if np.dtype(wanted.dtype).name in ("complex64", "float32") else "complex128",
        disk=sum(part.disk() for part in parts),
        working=working + sum(part.directions(run.n) for part in parts),
    )


def multiply_adds(mode: Mode) -> float:
    """Real multiply-adds of a product of series, of which real ones need a quarter."""
    return max(mode.order * (mode.order + 1) * (2.0 if mode.complex else 0.5), 1.0)


def gates_along(run: Training, part: PartSize) -> float:
    """Scalar gates times directions: all steps for random directions, those from its first example on for a block of
    single examples."""
    if part.name == RANDOM:
        return float(part.count) * run.size
    sizes = np.array([circuit.size for circuit in run.circuits], dtype=np.float64)[run.schedule.program]
    rest = np.append(np.cumsum(sizes[::-1])[::-1], 0.0)  # from step t on
    first = np.full(run.n, run.steps)
    step_of = np.repeat(np.arange(run.steps), np.diff(run.schedule.ids_start))
    np.minimum.at(first, run.schedule.ids, step_of)
    begins = first[by_first_step(run)][:: part.target.width]
    return float(rest[begins].sum()) * part.target.width


def measured_rate(run: Training, part: PartSize) -> float:
    """Seconds of one core for a scalar gate along a direction of a part, from the run's first steps."""
    executable, is_complex = executable_of(run, part), part.target.mode.complex
    width = executable.target.width
    together = executable.side_by_side(4, run.n, 1)
    require_memory(executable.arena_bytes(together), "a trial push", ["seconds_per_gate=..."])
    arena = executable.arena(together)
    distribution = Sphere(run.n)
    rows = np.stack(
        [pack_directions(distribution.block(b * width, (b + 1) * width), width, is_complex) for b in range(together)]
    )
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
    return spent / (max(gates, 1) * together * width)


def refuse(given: Mapping[str, Any], why: str) -> None:
    """InputError for the first argument that was given."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} {why}")


def check_positive(name: str, value: Any) -> float:
    """A finite real number above zero."""
    if not is_real(value) or not 0 < value < math.inf or value > LARGEST_FLOAT:
        raise InputError(f"{name} is a number above 0, not {quoted(value)}")
    return float(value)
