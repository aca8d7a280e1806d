"""Benchmark a GPU: the time of a sketch, its share of the GPU's peak, and comparisons with the CPU and with JAX.

    python bench/gpu.py                                   a small table: fewer steps
    python bench/gpu.py --full --write                    the complete table, written to bench/README.md
    python bench/gpu.py --workloads microgpt --no-jax     part of it

Requires an NVIDIA GPU and the extra cuda12 or cuda13; for JAX on the GPU, `pip install "jax[cuda12]"`. Seconds are the
wall-clock time of `cs.push(..., device="cuda")`, including the check for gates without a series and the copies to and
from the GPU, but not compilation. There are two operations per useful multiply-add (multiply_adds.py), and the peak is
that of the multiprocessors at their highest clock; bytes are those of the lanes that instructions access (traffic.py).
The CPU is timed with all cores on some of the directions. JAX is timed with truncated polynomials written by hand
(jax_polynomial.py, jax_mlp.py), with as many directions at a time as its memory holds, in the same precision. Before
the timing, the first directions are computed on both devices and compared.
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
from traffic import count_lane_bytes
from workloads import STEPS, WORKLOADS, directions, training

import circuitsketch as cs
from circuitsketch.backends.cuda.device import Device, find_device
from circuitsketch.errors import DeviceError
from circuitsketch.lower.instructions import Mode
from circuitsketch.tree import flatten

SMALL_STEPS = {"microgpt": 100, "mlp": 50, "wide": 20}
CHECKED = 16  # directions computed on both devices
TOLERANCE = {"complex128": 1e-11, "complex64": 1e-4}
JAX_TOLERANCE = {"complex128": 1e-9, "complex64": 1e-3}
SECONDS = {"complex128": 3.0, "complex64": 1.0}  # goals for microgpt on an H100, 512 directions, 1,000 steps, order 3

# Multiply-adds per clock per multiprocessor in double and single precision, by compute capability: the table of
# arithmetic instructions in NVIDIA's CUDA C++ programming guide.
RATES = {
    (7, 0): (32, 64), (7, 5): (2, 64), (8, 0): (32, 64), (8, 6): (2, 128), (8, 9): (2, 128), (9, 0): (64, 128),
    (10, 0): (64, 128), (12, 0): (2, 128),
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """The peak rates of a GPU: operations per second in double and single precision, bytes per second."""

    name: str
    double: float
    single: float
    bandwidth: float

    @staticmethod
    def of(device: Device, clock: float, memory_clock: float, bus: int) -> Card:
        """Compute the peak rates from the clocks in hertz and the width of the memory bus in bits.

        A multiply-add is two operations, and memory transfers twice per clock. The rates are NaN for a compute
        capability that is not in the table.
        """
        rates = RATES.get(device.capability, (float("nan"),) * 2)
        double, single = (2 * rate * device.multiprocessors * clock for rate in rates)
        return Card(device.name, double, single, 2 * memory_clock * bus / 8)

    @staticmethod
    def current() -> Card:
        """Return the current GPU, or raise DeviceError if there is none."""
        device = find_device()
        if device.simulated:
            raise DeviceError("Numba's simulator is not a GPU: unset NUMBA_ENABLE_CUDASIM to time one")
        from numba import cuda

        card = cuda.get_current_device()
        return Card.of(device, 1e3 * card.CLOCK_RATE, 1e3 * card.MEMORY_CLOCK_RATE, card.GLOBAL_MEMORY_BUS_WIDTH)


@dataclass(frozen=True)
class Case:
    """The settings of one sketch."""

    workload: str
    steps: int
    directions: int
    order: int
    dtype: str

    @property
    def key(self) -> str:
        """The prefix of its numbers in the JSON."""
        return f"{self.workload}_{self.dtype}"

    def push(self, device: str, count: int | None = None) -> Callable[[], Any]:
        """Return the push of all or the first directions on a device, as a function."""
        run = training(self.workload, self.steps)
        given = directions(self.directions, run.n)[:count]
        return partial(cs.push, run, given, self.order, dtype=np.dtype(self.dtype), device=device)

    def work(self) -> tuple[float, float, str]:
        """Return the useful operations, the bytes accessed, and how directions share the GPU's memory, in words."""
        run = training(self.workload, self.steps)
        mode = Mode(self.order)
        executable = run.executable(mode, self.dtype, device="cuda", lanes=self.directions)
        blocks = -(-self.directions // executable.target.width)
        flops = 2.0 * self.directions * run_cost(run, mode)
        touched = float(self.directions * count_lane_bytes(executable, run.schedule))
        return (
            flops,
            touched,
            f"{executable.target.width} directions per block; {executable.plan_memory(blocks, run.n)}",
        )

    def __str__(self) -> str:
        kind = "float32" if self.dtype == "complex64" else "float64"
        return f"{self.workload}, {self.steps} steps, {self.directions} directions, order {self.order}, {kind}"


@dataclass(frozen=True)
class Measurement:
    """The measurements of a case: seconds on the GPU, of its first call, on the CPU and in JAX (None: not measured)."""

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
        """Return one row per number."""
        case, card, key = self.case, self.card, self.case.key
        goal = goals and case.workload == "microgpt"
        peak = card.single if case.dtype == "complex64" else card.double
        bound = Goal("<=", SECONDS[case.dtype]) if goal else None
        rows = [
            Row(f"seconds: {case}", f"{key}_seconds", self.seconds, "{:.3f}", bound, self.plan),
            Row("seconds of the first call, with compilation", f"{key}_first_seconds", self.first, "{:.1f}"),
            Row(
                "share of the GPU's peak", f"{key}_fraction_of_peak", self.flops / self.seconds / peak, "{:.3f}", None,
                f"{self.flops / self.seconds / 1e12:.3g} of {peak / 1e12:.3g} TFLOP/s",
            ),
            Row(
                "share of its bandwidth, by bytes accessed", f"{key}_fraction_of_bandwidth",
                self.touched / self.seconds / card.bandwidth, "{:.3f}", None,
                f"{self.touched / self.seconds / 1e12:.3g} of {card.bandwidth / 1e12:.3g} TB/s",
            ),
        ]  # fmt: skip
        if self.cpu_seconds is not None:
            note = f"{self.cpu_seconds:.4g} s on the CPU, from {self.cpu_directions} directions"
            times = self.cpu_seconds / self.seconds
            rows.append(Row("times faster than the CPU", f"{key}_over_cpu", times, "{:.1f}", None, note))
        if self.jax_seconds is not None:
            note = f"{self.jax_seconds:.4g} s in JAX, {self.jax_block} directions at a time"
            bound = Goal(">=", 5.0) if goal else None
            times = self.jax_seconds / self.seconds
            rows.append(Row("times faster than JAX", f"{key}_over_jax", times, "{:.1f}", bound, note))
        return rows


def difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference of two states' coefficients, relative to the largest of their leaf and order."""
    pairs = zip(flatten(ours)[0], flatten(theirs)[0], strict=True)
    return max(agreement(two.reshape(*two.shape[:2], -1), one.reshape(*one.shape[:2], -1)) for one, two in pairs)


def check_devices(report: Report, case: Case) -> None:
    """Compute the first directions on both devices, and exit if they disagree."""
    worst = difference(case.push("cuda", CHECKED)().state, case.push("cpu", CHECKED)().state)
    report.numbers[f"{case.key}_difference"] = worst
    report.say(f"  {case}: the devices agree to {worst:.1e}")
    if not worst <= TOLERANCE[case.dtype]:
        raise SystemExit(f"{case}: the devices differ by {worst:.1e} of the largest coefficient")


def measure(report: Report, case: Case, card: Card, options: argparse.Namespace) -> Measurement:
    """Measure one case."""
    check_devices(report, case)
    push = case.push("cuda")
    first = timed(push).wall
    seconds = middle(interleaved({"cuda": push}, options.repeats, warm=False)["cuda"], "wall")
    result = Measurement(case, card, seconds, first, *case.work())
    if not options.no_cpu:
        count = min(options.cpu_directions, case.directions)
        spent = timed(case.push("cpu", count)).wall  # compiled by the comparison
        result = replace(result, cpu_seconds=spent * case.directions / count, cpu_directions=count)
    if not options.no_jax:
        spent, block = time_jax(report, case, options.repeats)
        result = replace(result, jax_seconds=spent, jax_block=block)
    return result


def jax_problem() -> str:
    """Return why JAX cannot be timed on the GPU, or "" if it can."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # share the GPU's memory
    try:
        import jax
    except ImportError:
        return 'JAX is not installed; pip install "jax[cuda12]"'
    if jax.default_backend() != "gpu":
        return f'JAX sees no GPU, only {jax.default_backend()}; pip install "jax[cuda12]"'
    return ""


def time_jax(report: Report, case: Case, repeats: int) -> tuple[float, int]:
    """Return the seconds of the same push in JAX and its directions per block, after a check."""
    import jax

    jax.config.update("jax_enable_x64", case.dtype == "complex128")
    run = training(case.workload, case.steps)
    given = directions(case.directions, run.n)
    make_push, names = jax_pusher(case.workload, run)

    def once(block: int) -> Callable[[], Any]:
        push = make_push(given, case.order, block)
        push()
        return push

    push, block = halve_until_it_fits(once, case.directions)
    from jax_polynomial import coefficients

    some = min(CHECKED, case.directions)
    params = case.push("cpu", some)().state["params"]
    ours = np.concatenate([params[n].reshape(*params[n].shape[:2], -1) for n in names], axis=-1)
    worst = agreement(ours, coefficients(make_push(given[:some], case.order, some)(), names))
    report.numbers[f"{case.key}_jax_difference"] = worst
    if not worst <= JAX_TOLERANCE[case.dtype]:
        raise SystemExit(f"{case}: JAX differs by {worst:.1e} of the largest coefficient, so it is not the same run")
    return middle(interleaved({"jax": push}, repeats, warm=False)["jax"], "wall"), block


def jax_pusher(workload: str, run: cs.Training) -> tuple[Callable[..., Callable[[], Any]], list[str]]:
    """Return a function that makes a push (directions, order, block) in JAX, and the names of the parameters."""
    import jax_mlp
    import jax_polynomial
    from jax_microgpt import JaxRun

    params = run.state["params"]
    if workload == "mlp":
        return partial(jax_mlp.push, run), list(params)
    jax_run = JaxRun(run)
    return partial(jax_polynomial.push, jax_run, params), jax_run.names


def halve_until_it_fits(once: Callable[[int], Any], directions: int) -> tuple[Any, int]:
    """Call `once` with all directions at a time, then with half as many while JAX runs out of memory."""
    block = directions
    while True:
        try:
            return once(block), block
        except RuntimeError as reason:  # XLA's own error has no public name
            if "RESOURCE_EXHAUSTED" not in str(reason) or block == 1:
                raise
            block = -(-block // 2)


def cases(options: argparse.Namespace) -> list[Case]:
    """List the cases of the options."""
    steps = STEPS if options.full else SMALL_STEPS
    return [
        Case(workload, options.steps or steps[workload], options.directions, options.order, dtype)
        for workload in options.workloads.split(",")
        for dtype in options.dtypes.split(",")
    ]


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="workloads, separated by commas")
    parser.add_argument("--dtypes", default="complex128,complex64", help="data types, separated by commas")
    parser.add_argument("--steps", type=int, help="default: 100, 50, 20 by workload; full: 1000, 500, 200")
    parser.add_argument("--directions", type=int, default=512)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu-directions", type=int, default=64, help="number of directions for the CPU")
    parser.add_argument("--no-cpu", action="store_true", help="do not time the CPU")
    parser.add_argument("--no-jax", action="store_true", help="do not time JAX")
    add_options(parser)
    options = parser.parse_args(arguments)
    for name, chosen, known in (("workloads", options.workloads, WORKLOADS), ("dtypes", options.dtypes, TOLERANCE)):
        if unknown := set(chosen.split(",")) - set(known):
            parser.error(f"--{name} has {min(unknown)!r}; choose from {', '.join(known)}")
    return options


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return the numbers."""
    options = parse_options(arguments)
    report = Report("gpu", options, {"full": options.full, "repeats": options.repeats})
    try:
        card = Card.current()
    except DeviceError as reason:
        report.say(f"  skipped, nothing is written: {reason}")
        options.write = False
        report.numbers["skipped"] = str(reason)
        return report.finish()
    if not options.no_jax and (problem := jax_problem()):
        report.say(f"  without JAX: {problem}")
        options.no_jax = True
    report.settings |= {"card": card.name, "JAX": "not timed" if options.no_jax else jax_version()}
    double, single, bandwidth = (x / 1e12 for x in (card.double, card.single, card.bandwidth))
    report.say(f"  {card.name}: {double:.3g} TFLOP/s in double, {single:.3g} in single, {bandwidth:.3g} TB/s")
    goals = options.full and (options.directions, options.order, options.steps) == (512, 3, None)
    begin = time.perf_counter()
    for case in cases(options):
        for row in measure(report, case, card, options).rows(goals):
            report.add(row)
    report.numbers["minutes"] = (time.perf_counter() - begin) / 60
    return report.finish()


def jax_version() -> str:
    """Return the version of JAX."""
    import jax

    return str(jax.__version__)


if __name__ == "__main__":
    main()
