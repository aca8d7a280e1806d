"""A GPU: seconds of a sketch, the share of the card that it uses, against the CPU and against JAX on the same card.

    python bench/gpu.py                                   a small table: fewer steps
    python bench/gpu.py --full --write                    the whole one, kept in bench/README.md
    python bench/gpu.py --workloads microgpt --no-jax     part of it

Needs an NVIDIA GPU and an extra (cuda12 or cuda13); for JAX on the card, `pip install "jax[cuda12]"`. Seconds are wall
time of a whole `cs.push(..., device="cuda")`, the check for gates without a series and the copies to and from the card
included, compiling not. Operations are two for each useful multiply-add (multiply_adds.py) and the peak is what the
card's multiprocessors do at their highest clock; bytes are those of lanes that the tape's instructions touch
(traffic.py). The CPU is timed with all its cores on some of the directions, and JAX, whose truncated polynomials are
written by hand (jax_polynomial.py, jax_mlp.py), with as many directions at a time as its memory holds, in the same
precision. Before anything is timed, the first directions are pushed on both devices and compared.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from compare_jax import agreement
from multiply_adds import run_cost
from report import Goal, Report, Row, add_options
from timing import interleaved, middle, timed
from traffic import lane_bytes
from workloads import STEPS, WORKLOADS, directions, training

import circuitsketch as cs
from circuitsketch.backends.cuda.device import Device, find_device
from circuitsketch.errors import DeviceError
from circuitsketch.lower.instructions import Mode
from circuitsketch.tree import flatten

SMALL_STEPS = {"microgpt": 100, "mlp": 50, "wide": 20}
CHECKED = 16  # directions pushed on both devices
TOLERANCE = {"complex128": 1e-11, "complex64": 1e-4}
JAX_TOLERANCE = {"complex128": 1e-9, "complex64": 1e-3}
SECONDS = {"complex128": 3.0, "complex64": 1.0}  # goals for microgpt on an H100, 512 directions, 1,000 steps, order 3

# Multiply-adds a clock of one multiprocessor in double and in single precision, by compute capability: the table of
# arithmetic instructions in NVIDIA's CUDA C++ programming guide.
RATES = {
    (7, 0): (32, 64), (7, 5): (2, 64), (8, 0): (32, 64), (8, 6): (2, 128), (8, 9): (2, 128), (9, 0): (64, 128),
    (10, 0): (64, 128), (12, 0): (2, 128),
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """What a card can do at most: operations a second in double and in single precision, bytes a second."""

    name: str
    double: float
    single: float
    bandwidth: float

    @staticmethod
    def of(device: Device, clock: float, memory_clock: float, bus: int) -> Card:
        """From its clocks in hertz and the bits of its memory bus; a multiply-add is two operations, and memory sends
        twice a clock. For a capability that is not in the table, the operations are not known."""
        rates = RATES.get(device.capability, (float("nan"),) * 2)
        double, single = (2 * rate * device.multiprocessors * clock for rate in rates)
        return Card(device.name, double, single, 2 * memory_clock * bus / 8)

    @staticmethod
    def current() -> Card:
        """The card that is used. DeviceError : there is none."""
        device = find_device()
        if device.simulated:
            raise DeviceError("Numba's simulator is no card: unset NUMBA_ENABLE_CUDASIM to time one")
        from numba import cuda

        card = cuda.get_current_device()
        return Card.of(device, 1e3 * card.CLOCK_RATE, 1e3 * card.MEMORY_CLOCK_RATE, card.GLOBAL_MEMORY_BUS_WIDTH)


@dataclass(frozen=True)
class Case:
    """One sketch: what is trained, how far, along how many directions, in which precision."""

    workload: str
    steps: int
    directions: int
    order: int
    dtype: str

    @property
    def key(self) -> str:
        """How its numbers begin in the JSON."""
        return f"{self.workload}_{self.dtype}"

    def push(self, device: str, count: int | None = None) -> Callable[[], Any]:
        """The push of all directions, or of the first ones, on a device."""
        run = training(self.workload, self.steps)
        given = directions(self.directions, run.n)[:count]
        return partial(cs.push, run, given, self.order, dtype=np.dtype(self.dtype), device=device)

    def work(self) -> tuple[float, float, str]:
        """Useful operations and bytes touched by all directions, and in words how they share the card's memory."""
        run = training(self.workload, self.steps)
        mode = Mode(self.order)
        executable = run.executable(mode, self.dtype, device="cuda", lanes=self.directions)
        blocks = -(-self.directions // executable.target.width)
        flops = 2.0 * self.directions * run_cost(run, mode)
        touched = float(self.directions * lane_bytes(executable, run.schedule))
        return flops, touched, f"{executable.target.width} directions a block; {executable.plan_memory(blocks, run.n)}"

    def __str__(self) -> str:
        kind = "float32" if self.dtype == "complex64" else "float64"
        return f"{self.workload}, {self.steps} steps, {self.directions} directions, order {self.order}, {kind}"


@dataclass(frozen=True)
class Found:
    """What was measured of a case: seconds on the card, of its first call, on the CPU, in JAX (None: not measured)."""

    case: Case
    card: Card
    seconds: float
    first: float
    flops: float
    touched: float
    plan: str
    cpu_seconds: float | None = None
    cpu_directions: int = 0
    jax_seconds: float | None = None
    jax_block: int = 0

    def rows(self, goals: bool) -> list[Row]:
        """A row for each number."""
        case, card, key = self.case, self.card, self.case.key
        goal = goals and case.workload == "microgpt"
        peak = card.single if case.dtype == "complex64" else card.double
        bound = Goal("<=", SECONDS[case.dtype]) if goal else None
        found = [
            Row(f"seconds: {case}", f"{key}_seconds", self.seconds, "{:.3f}", bound, self.plan),
            Row("of its first call, compiling included", f"{key}_first_seconds", self.first, "{:.1f}"),
            Row(
                "share of the card's peak", f"{key}_fraction_of_peak", self.flops / self.seconds / peak, "{:.3f}", None,
                f"{self.flops / self.seconds / 1e12:.3g} of {peak / 1e12:.3g} TFLOP/s",
            ),
            Row(
                "bytes touched, against its bandwidth", f"{key}_fraction_of_bandwidth",
                self.touched / self.seconds / card.bandwidth, "{:.3f}", None,
                f"{self.touched / self.seconds / 1e12:.3g} of {card.bandwidth / 1e12:.3g} TB/s",
            ),
        ]  # fmt: skip
        if self.cpu_seconds is not None:
            note = f"{self.cpu_seconds:.4g} s on the CPU, from {self.cpu_directions} directions"
            times = self.cpu_seconds / self.seconds
            found.append(Row("times faster than the CPU", f"{key}_over_cpu", times, "{:.1f}", None, note))
        if self.jax_seconds is not None:
            note = f"{self.jax_seconds:.4g} s in JAX, {self.jax_block} directions at a time"
            bound = Goal(">=", 5.0) if goal else None
            times = self.jax_seconds / self.seconds
            found.append(Row("times faster than JAX", f"{key}_over_jax", times, "{:.1f}", bound, note))
        return found


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two states' coefficients, over the largest of their leaf and order."""
    pairs = zip(flatten(ours)[0], flatten(theirs)[0], strict=True)
    return max(agreement(two.reshape(*two.shape[:2], -1), one.reshape(*one.shape[:2], -1)) for one, two in pairs)


def compared(report: Report, case: Case) -> None:
    """Push the first directions on both devices; stop if they disagree."""
    worst = difference(case.push("cuda", CHECKED)().state, case.push("cpu", CHECKED)().state)
    report.numbers[f"{case.key}_difference"] = worst
    report.say(f"  {case}: the devices agree to {worst:.1e}")
    if not worst <= TOLERANCE[case.dtype]:
        raise SystemExit(f"{case}: the devices differ by {worst:.1e} of the largest coefficient")


def measured(report: Report, case: Case, card: Card, options: argparse.Namespace) -> Found:
    """Everything about one case."""
    compared(report, case)
    push = case.push("cuda")
    first = timed(push).wall
    seconds = middle(interleaved({"cuda": push}, options.repeats, warm=False)["cuda"], "wall")
    found = Found(case, card, seconds, first, *case.work())
    if not options.no_cpu:
        count = min(options.cpu_directions, case.directions)
        spent = timed(case.push("cpu", count)).wall  # compiled already, by the comparison
        found = replace(found, cpu_seconds=spent * case.directions / count, cpu_directions=count)
    if not options.no_jax:
        spent, block = in_jax(report, case, options.repeats)
        found = replace(found, jax_seconds=spent, jax_block=block)
    return found


def have_jax() -> str:
    """Why JAX cannot be timed on the card; nothing if it can."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the card's memory is for both
    try:
        import jax
    except ImportError:
        return 'JAX is not installed; pip install "jax[cuda12]"'
    if jax.default_backend() != "gpu":
        return f'JAX sees no GPU, only {jax.default_backend()}; pip install "jax[cuda12]"'
    return ""


def in_jax(report: Report, case: Case, repeats: int) -> tuple[float, int]:
    """Seconds of the same push in JAX, and how many directions it took at a time; checked on the first ones."""
    import jax

    jax.config.update("jax_enable_x64", case.dtype == "complex128")
    run = training(case.workload, case.steps)
    given = directions(case.directions, run.n)
    maker, names = polynomials(case.workload, run)

    def once(block: int) -> Callable[[], Any]:
        push = maker(given, case.order, block)
        push()
        return push

    push, block = first_that_fits(once, case.directions)
    from jax_polynomial import coefficients

    some = min(CHECKED, case.directions)
    params = case.push("cpu", some)().state["params"]
    ours = np.concatenate([params[n].reshape(*params[n].shape[:2], -1) for n in names], axis=-1)
    worst = agreement(ours, coefficients(maker(given[:some], case.order, some)(), names))
    report.numbers[f"{case.key}_jax_difference"] = worst
    if not worst <= JAX_TOLERANCE[case.dtype]:
        raise SystemExit(f"{case}: JAX differs by {worst:.1e} of the largest coefficient; it is not the same run")
    return middle(interleaved({"jax": push}, repeats, warm=False)["jax"], "wall"), block


def polynomials(workload: str, run: cs.Training) -> tuple[Callable[..., Callable[[], Any]], list[str]]:
    """What pushes (directions, order, block) through a run in JAX, and the names of its parameters in order."""
    import jax_mlp
    import jax_polynomial
    from jax_microgpt import JaxRun

    params = run.state["params"]
    if workload == "mlp":
        return partial(jax_mlp.push, run), list(params)
    jax_run = JaxRun(run)
    return partial(jax_polynomial.push, jax_run, params), jax_run.names


def first_that_fits(once: Callable[[int], Any], directions: int) -> tuple[Any, int]:
    """What `once` gives for all directions at a time, or for half as many as before where JAX's memory runs out."""
    block = directions
    while True:
        try:
            return once(block), block
        except RuntimeError as reason:  # XLA's own error has no public name
            if "RESOURCE_EXHAUSTED" not in str(reason) or block == 1:
                raise
            block = -(-block // 2)


def cases(options: argparse.Namespace) -> list[Case]:
    """What the options ask for."""
    steps = STEPS if options.full else SMALL_STEPS
    return [
        Case(workload, options.steps or steps[workload], options.directions, options.order, dtype)
        for workload in options.workloads.split(",")
        for dtype in options.dtypes.split(",")
    ]


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="separated by commas")
    parser.add_argument("--dtypes", default="complex128,complex64", help="separated by commas")
    parser.add_argument("--steps", type=int, help="default: 100, 50, 20 by workload; full: 1000, 500, 200")
    parser.add_argument("--directions", type=int, default=512)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu-directions", type=int, default=64, help="how many the CPU is timed with")
    parser.add_argument("--no-cpu", action="store_true", help="do not time the CPU")
    parser.add_argument("--no-jax", action="store_true", help="do not time JAX")
    add_options(parser)
    options = parser.parse_args(arguments)
    for name, chosen, known in (("workloads", options.workloads, WORKLOADS), ("dtypes", options.dtypes, TOLERANCE)):
        if unknown := set(chosen.split(",")) - set(known):
            parser.error(f"--{name} has {min(unknown)!r}; choose from {', '.join(known)}")
    return options


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure what the options say; returns the numbers, or says why not."""
    options = parsed(arguments)
    report = Report("gpu", options, {"full": options.full, "repeats": options.repeats})
    try:
        card = Card.current()
    except DeviceError as reason:
        report.say(f"  skipped, and nothing is kept: {reason}")
        options.write = False
        report.numbers["skipped"] = str(reason)
        return report.finish()
    if not options.no_jax and (why := have_jax()):
        report.say(f"  without JAX: {why}")
        options.no_jax = True
    report.settings |= {"card": card.name, "JAX": "not timed" if options.no_jax else jax_version()}
    double, single, bandwidth = (x / 1e12 for x in (card.double, card.single, card.bandwidth))
    report.say(f"  {card.name}: {double:.3g} TFLOP/s in double, {single:.3g} in single, {bandwidth:.3g} TB/s")
    goals = options.full and (options.directions, options.order, options.steps) == (512, 3, None)
    begin = time.perf_counter()
    for case in cases(options):
        for row in measured(report, case, card, options).rows(goals):
            report.add(row)
    report.numbers["minutes"] = (time.perf_counter() - begin) / 60
    return report.finish()


def jax_version() -> str:
    """JAX's version."""
    import jax

    return str(jax.__version__)


if __name__ == "__main__":
    main()
