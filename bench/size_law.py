"""Benchmark how time scales with size(A), with the number of directions, and with the order.

    python bench/size_law.py                                  small, a minute or two
    python bench/size_law.py --full --plot law.png --write    work over a second everywhere, with a plot

Propagating directions through a run should take time proportional to size(A), whether it grows by steps, width, depth
or document length, and proportional to the number of directions; order s costs as much as a product of series, 4s +
2s(s-1) multiply-adds. Slopes are least-squares fits in logarithms. All points are measured in turns, and each is the
median of its turns, in CPU seconds of one thread. The cost of a direction relative to plain training is measured, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from multiply_adds import run_cost, series_product
from report import Goal, Report, Row, add_options, table
from timing import Timing, interleaved, middle, ratio
from workloads import directions

import circuitsketch as cs
from circuitsketch.lower.instructions import Mode
from circuitsketch.zoo import microgpt

LENGTH = 7  # predicted tokens of a document if the length does not vary; close to the mean of real names
MIN_SECONDS = 1.0  # shorter points are not compared with the goal
LAW = Goal("=", 1.0, 0.05)


@dataclass(frozen=True)
class Point:
    """One push: its family and its label there, the run, the directions and the order."""

    family: str
    label: str
    run: cs.Training
    directions: int
    order: int = 3


def make_documents(steps: int, length: int) -> list[str]:
    """Join names and cut them into words of `length - 1` letters, which predict `length` tokens."""
    text = "".join(microgpt.names())
    size = length - 1
    return [text[t * size : (t + 1) * size] for t in range(steps)]


def run_of(steps: int, width: int = 16, layers: int = 1, length: int = LENGTH) -> cs.Training:
    """Return a microgpt run of some sizes on documents of one length."""
    alphabet = microgpt.ALPHABET
    return microgpt.training(make_documents(steps, length), seed=42, alphabet=alphabet, width=width, layers=layers)


def points(steps: int, count: int, full: bool) -> list[Point]:
    """List all pushes: families of growing runs, directions and orders."""
    base = run_of(steps)
    pushes = [Point("steps", f"{k * steps}", run_of(k * steps) if k > 1 else base, count) for k in (1, 2, 4, 8)]
    widths = (16, 24, 32, 48, 64) if full else (16, 24, 32)
    pushes += [Point("width", f"{w}", run_of(steps, width=w) if w > 16 else base, count) for w in widths]
    depths = (1, 2, 4, 8) if full else (1, 2, 4)
    pushes += [Point("depth", f"{d}", run_of(steps, layers=d) if d > 1 else base, count) for d in depths]
    pushes += [Point("length", f"{n}", run_of(steps, length=n) if n != LENGTH else base, count) for n in (4, 7, 11, 16)]
    pushes += [Point("directions", f"{k * count}", base, k * count) for k in (1, 2, 4, 8)]
    orders = (1, 2, 3, 4, 6, 8, 12) if full else (1, 2, 3, 4)
    pushes += [Point("order", f"{s}", base, count, s) for s in orders]
    return pushes


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Fit the slope of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def select_long(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float], bool]:
    """Return the points of at least MIN_SECONDS and True if there are two or more, else all points and False."""
    long = [(x, y) for x, y in zip(xs, ys, strict=True) if y >= MIN_SECONDS]
    if len(long) < 2:
        return list(xs), list(ys), False
    return [x for x, _ in long], [y for _, y in long], True


def measure(all_points: list[Point], repeats: int) -> list[list[Timing]]:
    """Time all points in turns; equal pushes (families share their first point) are timed once."""
    keys = [(id(point.run), point.directions, point.order) for point in all_points]
    sides = {}
    for key, point in zip(keys, all_points, strict=True):
        given = directions(point.directions, point.run.n)
        cs.push(point.run, given[:1], point.order, threads=1)  # compiles
        sides[str(key)] = partial(cs.push, point.run, given, point.order, threads=1)
    timings = interleaved(sides, repeats, warm=False)
    return [timings[str(key)] for key in keys]


def add_slope_rows(report: Report, all_points: list[Point], seconds: list[float]) -> None:
    """Add the slope of each family, and of all runs together."""
    pooled: tuple[list[float], list[float]] = ([], [])
    measured: dict[str, bool] = {}
    for family in ("steps", "width", "depth", "length", "directions"):
        mine = [i for i, point in enumerate(all_points) if point.family == family]
        against = "directions" if family == "directions" else "size(A)"
        xs = [float(all_points[i].directions if family == "directions" else all_points[i].run.size) for i in mine]
        ys = [seconds[i] for i in mine]
        xs, ys, enough = select_long(xs, ys)
        # Fixed costs matter for short pushes, so only long ones are compared with the goal.
        note, goal = ("", LAW) if enough else ("less than a second of work", None)
        measured[family] = enough
        what = f"slope against {against}" + ("" if family == "directions" else f", varying {family}")
        report.add(Row(what, f"slope_{family}", slope(xs, ys), "{:.2f}", goal, note))
        if family != "directions":
            pooled[0].extend(xs)
            pooled[1].extend(ys)
    goal = LAW if all(measured.values()) else None
    report.add(Row("slope against size(A), all these runs", "slope_size", slope(*pooled), "{:.2f}", goal))


def add_order_rows(report: Report, all_points: list[Point], timings: list[list[Timing]], repeats: int) -> None:
    """Add the cost of each order: measured, counted, and relative to plain training."""
    mine = [i for i, point in enumerate(all_points) if point.family == "order"]
    run = all_points[mine[0]].run
    seconds = [middle(timings[i]) for i in mine]
    orders = [all_points[i].order for i in mine]
    counted = [float(run_cost(run, Mode(s))) for s in orders]
    report.add(Row("slope against the order", "slope_order", slope(orders, seconds), "{:.2f}"))
    report.add(Row("the same for counted multiply-adds", "slope_order_counted", slope(orders, counted), "{:.2f}"))
    sides = {f"{all_points[i].order}": partial(push_again, all_points[i]) for i in mine}
    turns = interleaved({"plain": partial(train_repeatedly, run), **sides}, repeats, warm=False)
    lines = []
    for i, s, work in zip(mine, orders, counted, strict=True):
        over = ratio(turns[f"{s}"], turns["plain"]) * TRAININGS / all_points[i].directions
        ms = 1e3 * middle(turns[f"{s}"]) / (run.steps * all_points[i].directions)
        report.numbers[f"direction_over_plain_order_{s}"] = over
        lines.append(
            [
                f"{s}",
                f"{ms:.4f}",
                f"{work / run.steps / 1e6:.2f}",
                f"{series_product(Mode(s))}",
                f"{over:.1f}",
            ]
        )
    header = [
        "order",
        "core ms per direction per step",
        "M multiply-adds of it",
        "of one product",
        "times plain training",
    ]
    report.add_table(table(lines, header))


TRAININGS = 5


def push_again(point: Point) -> Any:
    """Push a point again."""
    return cs.push(point.run, directions(point.directions, point.run.n), point.order, threads=1)


def train_repeatedly(run: cs.Training) -> None:
    """Train several times, long enough to be timed."""
    for _ in range(TRAININGS):
        run.train()


def plot(all_points: list[Point], seconds: list[float], file: str) -> None:
    """Plot time against size(A), directions and order, in logarithms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    for family in ("steps", "width", "depth", "length"):
        mine = [i for i, point in enumerate(all_points) if point.family == family]
        axes[0].loglog([all_points[i].run.size for i in mine], [seconds[i] for i in mine], "o-", label=family)
    axes[0].legend(title="varying")
    axes[0].set_xlabel("size(A)")
    for axis, family in zip(axes[1:], ("directions", "order"), strict=True):
        mine = [i for i, point in enumerate(all_points) if point.family == family]
        xs = np.array(
            [all_points[i].directions if family == "directions" else all_points[i].order for i in mine], dtype=float
        )
        axis.loglog(xs, [seconds[i] for i in mine], "o-", label="measured")
        counted = np.array(
            [all_points[i].directions * run_cost(all_points[i].run, Mode(all_points[i].order)) for i in mine]
        )
        scale = seconds[mine[-1]] / counted[-1]
        axis.loglog(xs, counted * scale, "--", color="0.5", label="counted multiply-adds")
        axis.set_xlabel(family)
        axis.legend()
    axes[0].set_ylabel("CPU seconds")
    sizes = np.array(sorted(point.run.size for point in all_points[:4]), dtype=float)
    axes[0].loglog(sizes, seconds[0] * sizes / sizes[0], "--", color="0.5")
    for axis in axes:
        axis.grid(True, which="both", alpha=0.2)
        axis.xaxis.set_minor_formatter("")
        axis.yaxis.set_minor_formatter("")
    figure.savefig(file, dpi=130)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="steps of the smallest run; default 64, full 192")
    parser.add_argument("--directions", type=int, help="default 16, full 64")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", metavar="FILE", help="plot the results; requires matplotlib")
    add_options(parser)
    options = parser.parse_args(arguments)
    steps = options.steps or (192 if options.full else 64)
    count = options.directions or (64 if options.full else 16)
    settings = {"steps": steps, "directions": count, "repeats": options.repeats, "threads": 1}
    report = Report("size_law", options, settings)
    all_points = points(steps, count, options.full)
    timings = measure(all_points, options.repeats)
    seconds = [middle(t) for t in timings]
    for point, s in zip(all_points, seconds, strict=True):
        report.say(
            f"  {point.family} {point.label}: size(A) {point.run.size:,}, {point.directions} directions, "
            f"order {point.order}, {s:.3f} s"
        )
    report.numbers["points"] = [
        {
            "family": point.family,
            "at": point.label,
            "size": point.run.size,
            "directions": point.directions,
            "order": point.order,
            "seconds": s,
        }
        for point, s in zip(all_points, seconds, strict=True)
    ]
    add_slope_rows(report, all_points, seconds)
    add_order_rows(report, all_points, timings, options.repeats)
    if options.plot:
        try:
            plot(all_points, seconds, options.plot)
            report.say(f"  drawn in {options.plot}")
        except ImportError:
            report.say("  no plot: matplotlib is not installed; pip install matplotlib")
    return report.finish()


if __name__ == "__main__":
    main()
