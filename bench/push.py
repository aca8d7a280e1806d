"""Pushing directions through a training: core milliseconds a direction and step, and the share of the peak.

    python bench/push.py                                   one small push: microgpt, order 3, complex128
    python bench/push.py --workload mlp --order 1 --real   another
    python bench/push.py --all                             the whole table, small (some minutes)
    python bench/push.py --all --full --write              the whole table, kept in bench/README.md

Core milliseconds are CPU time of all threads over directions and steps, of a whole `cs.push`: directions are
given, all else is inside, the run's check for gates without a series too. The share of the peak is useful
multiply-adds (see multiply_adds.py) over what the same cores do at most (see machine.py), measured right
before and right after each push.
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
from start import start_rows
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
    """One push: what is trained, and what lanes hold."""

    workload: str
    steps: int
    directions: int
    order: int = 3
    dtype: str = "complex128"
    real: bool = False
    threads: int = 1

    @property
    def single(self) -> bool:
        """Whether lanes are in single precision."""
        return np.dtype(self.dtype) == np.complex64

    def ready(self) -> Callable[[], Any]:
        """The push, run and directions in place."""
        run = training(self.workload, self.steps)
        given = directions(self.directions, run.n, self.real)
        return partial(cs.push, run, given, self.order, dtype=np.dtype(self.dtype), threads=self.threads)

    def multiply_adds(self) -> int:
        """Useful multiply-adds of the whole push."""
        return self.directions * run_cost(training(self.workload, self.steps), Mode(self.order, not self.real))

    def __str__(self) -> str:
        kind = "real directions" if self.real else "directions"
        return (
            f"{self.workload}, {self.steps} steps, {self.directions} {kind}, order {self.order}, "
            f"{self.dtype}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        )


@dataclass(frozen=True)
class Measured:
    """A setting's timings, and the peak of one core around each."""

    setting: Setting
    timings: list[Timing]
    peaks: list[float]

    @property
    def core_ms(self) -> float:
        """Milliseconds of one core a direction and step."""
        return 1e3 * middle(self.timings) / (self.setting.directions * self.setting.steps)

    @property
    def fraction(self) -> float:
        """Useful multiply-adds over what the cores could do in the same CPU time."""
        work = self.setting.multiply_adds()
        return median(work / t.cpu / p for t, p in zip(self.timings, self.peaks, strict=True))

    def wall(self) -> float:
        """Seconds of the whole push."""
        return middle(self.timings, "wall")


def measured(setting: Setting, repeats: int, warm: Setting | None = None) -> Measured:
    """Push `repeats` times, the peak measured around each; before that `warm` (one direction), to compile."""
    push = setting.ready()
    (warm or replace(setting, directions=1)).ready()()
    timings, peaks = [], []
    for _ in range(repeats):
        before = peak(setting.single, setting.threads)
        timings.append(timed(push))
        peaks.append(fmean([before, peak(setting.single, setting.threads)]))
    return Measured(setting, timings, peaks)


def main_rows(report: Report, found: Measured, prefix: str = "", goals: bool = False) -> None:
    """Core milliseconds, share of the peak, and seconds of one setting."""
    s = found.setting
    per = s.multiply_adds() / (s.directions * s.steps)
    floor = 1e3 * per / fmean(found.peaks)
    report.add(
        Row(
            f"core ms a direction and step: {s}",
            f"{prefix}core_ms_per_direction_step",
            found.core_ms,
            "{:.4f}",
            Goal("<=", 0.10) if goals else None,
            f"floor {floor:.4f}",
        )
    )
    report.add(
        Row(
            "share of the multiply-add peak, same run",
            f"{prefix}fraction_of_peak",
            found.fraction,
            "{:.2f}",
            Goal(">=", 0.5) if goals else None,
            f"{per / 1e6:.3g} M useful a direction and step, peak {fmean(found.peaks) / 1e9:.1f} G/s a core",
        )
    )
    report.numbers[f"{prefix}wall_seconds"] = found.wall()
    report.numbers[f"{prefix}peak_multiply_adds_per_second"] = fmean(found.peaks)
    report.numbers[f"{prefix}useful_multiply_adds_per_direction_step"] = per


def ratio_rows(report: Report, base: Setting, repeats: int) -> None:
    """What precision, real directions, a lower order and a second thread are worth: all sides in turns."""
    sides = {
        "base": base,
        "single": replace(base, dtype="complex64"),
        "real": replace(base, real=True),
        "first": replace(base, order=1),
    }
    if cores() > 1:
        sides["two"] = replace(base, threads=2)
    found = interleaved({name: setting.ready() for name, setting in sides.items()}, repeats)
    rows = [
        ("complex64 against complex128, times faster", "complex64_speedup", "single", 1.8),
        ("real directions against complex, times faster", "real_speedup", "real", 2.5),
        ("order 1 against order 3, times faster", "order1_speedup", "first", 4.0),
    ]
    for what, key, side, goal in rows:
        report.add(Row(what, key, ratio(found["base"], found[side]), "{:.2f}", Goal(">=", goal)))
    if "two" in found:
        value = ratio(found["base"], found["two"], "wall")
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
        report.say("  two threads against one: skipped, this process may use one core only")


def long_row(report: Report, steps: int, of_steps: int) -> None:
    """Order 100: minutes for the run of the paper's figure, from as many steps as are asked for."""
    threads = min(cores(), 2)
    setting = Setting("microgpt", steps, LONG_DIRECTIONS, LONG_ORDER, threads=threads)
    found = measured(setting, 1, warm=replace(setting, steps=2))
    minutes = found.wall() * of_steps / steps / 60
    note = "measured" if steps == of_steps else f"from {steps} steps"
    what = f"order {LONG_ORDER}, {LONG_DIRECTIONS} directions, {of_steps} steps, {threads} threads: minutes"
    report.add(Row(what, "order100_minutes", minutes, "{:.1f}", Goal("<=", 10.0), note))
    report.numbers["order100_steps_measured"] = steps
    report.numbers["order100_fraction_of_peak"] = found.fraction


def whole_table(report: Report, full: bool, threads: int, repeats: int) -> None:
    """All rows."""
    steps, counts = (STEPS, FULL_DIRECTIONS) if full else (SMALL_STEPS, SMALL_DIRECTIONS)
    for workload in WORKLOADS:
        setting = Setting(workload, steps[workload], counts[workload], threads=threads)
        first = workload == "microgpt"
        main_rows(report, measured(setting, repeats), "" if first else f"{workload}_", first)
    ratio_rows(report, Setting("microgpt", steps["microgpt"], 128 if full else 32), repeats)
    long_row(report, 1000 if full else 5, 1000)
    start_rows(report, full)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure what the options say; returns the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="microgpt")
    parser.add_argument("--directions", type=int, help="default: 64, 32, 16 by workload; full: 512, 64, 32")
    parser.add_argument("--steps", type=int, help="default: 100, 20, 10 by workload; full: 1000, 500, 200")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--dtype", choices=("complex128", "complex64"), default="complex128")
    parser.add_argument("--real", action="store_true", help="real directions")
    parser.add_argument("--threads", type=int, help="default: 1; with --full or --all one a core, at most 2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="the whole table")
    add_options(parser)
    options = parser.parse_args(arguments)
    threads = options.threads or (min(cores(), 2) if options.full or options.all else 1)
    if options.all:
        report = Report("push", options, {"full": options.full, "threads": threads, "repeats": options.repeats})
        whole_table(report, options.full, threads, options.repeats)
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
        parser.error("--write keeps the whole table; use it with --all")
    main_rows(report, measured(setting, options.repeats))
    return report.finish()


if __name__ == "__main__":
    main()
