"""Benchmark the propagation of directions: core milliseconds per direction per step, and the share of the peak.

    python bench/push.py                                   one small push: microgpt, order 3, complex128
    python bench/push.py --workload mlp --order 1 --real   another one
    python bench/push.py --all                             the complete table, small (some minutes)
    python bench/push.py --all --full --write              the complete table, written to bench/README.md

Core milliseconds are the CPU time of all threads of a `cs.push` with given directions, including the check for gates
without a series, divided by directions and steps. The share of the peak is useful multiply-adds (see multiply_adds.py)
divided by the peak of the same cores (see machine.py), measured immediately before and after each push.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, median
from typing import Any

import numpy as np
from machine import cores, peak
from multiply_adds import run_cost
from report import Goal, Report, Row, add_options
from start import add_start_rows
from timing import Timing, interleaved, middle, ratio, timed
from workloads import STEPS, WORKLOADS, directions, training

import circuitsketch as cs
from circuitsketch.lower.instructions import Mode

SMALL_STEPS = {"microgpt": 100, "mlp": 20, "wide": 10}
SMALL_DIRECTIONS = {"microgpt": 64, "mlp": 32, "wide": 16}
FULL_DIRECTIONS = {"microgpt": 512, "mlp": 64, "wide": 32}
LONG_ORDER, LONG_DIRECTIONS = 100, 12


@dataclass(frozen=True)
class Setting:
    """The settings of one push."""

    workload: str
    steps: int
    directions: int
    order: int = 3
    dtype: str = "complex128"
    real: bool = False
    threads: int = 1

    @property
    def single(self) -> bool:
        """Whether coefficients are in single precision."""
        return np.dtype(self.dtype) == np.complex64

    def prepare(self) -> Callable[[], Any]:
        """Return the push as a function, with the run and the directions."""
        run = training(self.workload, self.steps)
        given = directions(self.directions, run.n, self.real)
        return partial(cs.push, run, given, self.order, dtype=np.dtype(self.dtype), threads=self.threads)

    def multiply_adds(self) -> int:
        """Count the useful multiply-adds of the push."""
        return self.directions * run_cost(training(self.workload, self.steps), Mode(self.order, not self.real))

    def __str__(self) -> str:
        kind = "real directions" if self.real else "directions"
        return (
            f"{self.workload}, {self.steps} steps, {self.directions} {kind}, order {self.order}, "
            f"{self.dtype}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        )


@dataclass(frozen=True)
class Measurement:
    """The timings of a setting, and the peak of one core around each of them."""

    setting: Setting
    timings: list[Timing]
    peaks: list[float]

    @property
    def core_ms(self) -> float:
        """Milliseconds of one core per direction per step."""
        return 1e3 * middle(self.timings) / (self.setting.directions * self.setting.steps)

    @property
    def fraction(self) -> float:
        """Useful multiply-adds divided by the peak in the same CPU time."""
        work = self.setting.multiply_adds()
        return median(work / t.cpu / p for t, p in zip(self.timings, self.peaks, strict=True))

    def wall(self) -> float:
        """Return the wall-clock seconds of the push."""
        return middle(self.timings, "wall")


def measure(setting: Setting, repeats: int, warm: Setting | None = None) -> Measurement:
    """Push `repeats` times and measure the peak around each, after `warm` (default: one direction) to compile."""
    push = setting.prepare()
    (warm or replace(setting, directions=1)).prepare()()
    timings, peaks = [], []
    for _ in range(repeats):
        before = peak(setting.single, setting.threads)
        timings.append(timed(push))
        peaks.append(fmean([before, peak(setting.single, setting.threads)]))
    return Measurement(setting, timings, peaks)


def add_main_rows(report: Report, measurement: Measurement, prefix: str = "", goals: bool = False) -> None:
    """Add the core milliseconds, the share of the peak and the seconds of one setting."""
    s = measurement.setting
    per = s.multiply_adds() / (s.directions * s.steps)
    floor = 1e3 * per / fmean(measurement.peaks)
    report.add(
        Row(
            f"core ms per direction per step: {s}",
            f"{prefix}core_ms_per_direction_step",
            measurement.core_ms,
            "{:.4f}",
            Goal("<=", 0.10) if goals else None,
            f"floor {floor:.4f}",
        )
    )
    report.add(
        Row(
            "share of the multiply-add peak, same run",
            f"{prefix}fraction_of_peak",
            measurement.fraction,
            "{:.2f}",
            Goal(">=", 0.5) if goals else None,
            f"{per / 1e6:.3g} M useful per direction per step, peak {fmean(measurement.peaks) / 1e9:.1f} G/s per core",
        )
    )
    report.numbers[f"{prefix}wall_seconds"] = measurement.wall()
    report.numbers[f"{prefix}peak_multiply_adds_per_second"] = fmean(measurement.peaks)
    report.numbers[f"{prefix}useful_multiply_adds_per_direction_step"] = per


def add_ratio_rows(report: Report, base: Setting, repeats: int) -> None:
    """Add the speedups by single precision, real directions, a lower order and a second thread, measured in turns."""
    sides = {
        "base": base,
        "single": replace(base, dtype="complex64"),
        "real": replace(base, real=True),
        "first": replace(base, order=1),
    }
    if cores() > 1:
        sides["two"] = replace(base, threads=2)
    timings = interleaved({name: setting.prepare() for name, setting in sides.items()}, repeats)
    rows = [
        ("complex64 against complex128, times faster", "complex64_speedup", "single", 1.8),
        ("real directions against complex, times faster", "real_speedup", "real", 2.5),
        ("order 1 against order 3, times faster", "order1_speedup", "first", 4.0),
    ]
    for what, key, side, goal in rows:
        report.add(Row(what, key, ratio(timings["base"], timings[side]), "{:.2f}", Goal(">=", goal)))
    if "two" in timings:
        value = ratio(timings["base"], timings["two"], "wall")
        note = "wall time; needs two idle cores"
        report.add(
            Row(
                "two threads against one, times faster",
                "two_thread_speedup",
                value,
                "{:.2f}",
                Goal(">=", 1.9),
                note,
            )
        )
    else:
        report.say("  two threads against one: skipped, because this process may use only one core")


def add_long_row(report: Report, steps: int, of_steps: int) -> None:
    """Add the minutes of the run of the paper's Figure 1 at order 100, extrapolated from `steps` to `of_steps`."""
    threads = min(cores(), 2)
    setting = Setting("microgpt", steps, LONG_DIRECTIONS, LONG_ORDER, threads=threads)
    measurement = measure(setting, 1, warm=replace(setting, steps=2))
    minutes = measurement.wall() * of_steps / steps / 60
    note = "measured" if steps == of_steps else f"from {steps} steps"
    what = f"order {LONG_ORDER}, {LONG_DIRECTIONS} directions, {of_steps} steps, {threads} threads: minutes"
    report.add(Row(what, "order100_minutes", minutes, "{:.1f}", Goal("<=", 10.0), note))
    report.numbers["order100_steps_measured"] = steps
    report.numbers["order100_fraction_of_peak"] = measurement.fraction


def add_all_rows(report: Report, full: bool, threads: int, repeats: int) -> None:
    """Add all rows."""
    steps, counts = (STEPS, FULL_DIRECTIONS) if full else (SMALL_STEPS, SMALL_DIRECTIONS)
    for workload in WORKLOADS:
        setting = Setting(workload, steps[workload], counts[workload], threads=threads)
        first = workload == "microgpt"
        add_main_rows(report, measure(setting, repeats), "" if first else f"{workload}_", first)
    add_ratio_rows(report, Setting("microgpt", steps["microgpt"], 128 if full else 32), repeats)
    add_long_row(report, 1000 if full else 5, 1000)
    add_start_rows(report, full)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="microgpt")
    parser.add_argument("--directions", type=int, help="default: 64, 32, 16 by workload; full: 512, 64, 32")
    parser.add_argument("--steps", type=int, help="default: 100, 20, 10 by workload; full: 1000, 500, 200")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--dtype", choices=("complex128", "complex64"), default="complex128")
    parser.add_argument("--real", action="store_true", help="real directions")
    parser.add_argument("--threads", type=int, help="default: 1; with --full or --all one per core, at most 2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="measure the complete table")
    add_options(parser)
    options = parser.parse_args(arguments)
    threads = options.threads or (min(cores(), 2) if options.full or options.all else 1)
    if options.all:
        report = Report("push", options, {"full": options.full, "threads": threads, "repeats": options.repeats})
        add_all_rows(report, options.full, threads, options.repeats)
        return report.finish()
    steps, counts = (STEPS, FULL_DIRECTIONS) if options.full else (SMALL_STEPS, SMALL_DIRECTIONS)
    setting = Setting(
        options.workload,
        options.steps or steps[options.workload],
        options.directions or counts[options.workload],
        options.order,
        options.dtype,
        options.real,
        threads,
    )
    report = Report("push", options, {"repeats": options.repeats})
    if options.write:
        parser.error("--write requires --all")
    add_main_rows(report, measure(setting, options.repeats))
    return report.finish()


if __name__ == "__main__":
    main()
