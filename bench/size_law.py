"""The law of cost: time against size(A), against the number of directions, against the order.

    python bench/size_law.py                                  small, a minute or two
    python bench/size_law.py --full --plot law.png --write    work over a second everywhere, with a plot

Pushing directions through a run should take time in proportion to size(A), whichever way it grows (steps,
width, depth, length of the documents), and in proportion to the number of directions; the order s costs what
a product of series does, 4s + 2s(s-1) multiply-adds. Slopes are least squares in logarithms; all points take
turns, and each is the median of its turns, in CPU seconds of one thread. Beside them: what a direction costs
over plain training, which multiplies numbers.
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

LENGTH = 7  # predicted letters of a document, where the length is not what varies: close to the mean of real names
ENOUGH = 1.0  # seconds from which on the law is asked for
LAW = Goal("=", 1.0, 0.05)


@dataclass(frozen=True)
class Point:
    """One push: of which family, how it is called there, the run, directions, order."""

    family: str
    label: str
    run: cs.Training
    directions: int
    order: int = 3


def documents(steps: int, length: int) -> list[str]:
    """Real names run together and cut into words of `length - 1` letters, which predict `length` tokens."""
    text = "".join(microgpt.names())
    size = length - 1
    return [text[t * size : (t + 1) * size] for t in range(steps)]


def run_of(steps: int, width: int = 16, layers: int = 1, length: int = LENGTH) -> cs.Training:
    """microgpt of some sizes on documents of one length."""
    alphabet = microgpt.ALPHABET
    return microgpt.training(documents(steps, length), seed=42, alphabet=alphabet, width=width, layers=layers)


def points(steps: int, count: int, full: bool) -> list[Point]:
    """All pushes: families of growing runs, of directions, of orders."""
    base = run_of(steps)
    found = [Point("steps", f"{k * steps}", run_of(k * steps) if k > 1 else base, count) for k in (1, 2, 4, 8)]
    widths = (16, 24, 32, 48, 64) if full else (16, 24, 32)
    found += [Point("width", f"{w}", run_of(steps, width=w) if w > 16 else base, count) for w in widths]
    depths = (1, 2, 4, 8) if full else (1, 2, 4)
    found += [Point("depth", f"{d}", run_of(steps, layers=d) if d > 1 else base, count) for d in depths]
    found += [Point("length", f"{n}", run_of(steps, length=n) if n != LENGTH else base, count) for n in (4, 7, 11, 16)]
    found += [Point("directions", f"{k * count}", base, k * count) for k in (1, 2, 4, 8)]
    orders = (1, 2, 3, 4, 6, 8, 12) if full else (1, 2, 3, 4)
    found += [Point("order", f"{s}", base, count, s) for s in orders]
    return found


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def in_reach(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float], bool]:
    """The points whose work is over a second, if at least two are; else all, and False."""
    kept = [(x, y) for x, y in zip(xs, ys, strict=True) if y >= ENOUGH]
    if len(kept) < 2:
        return list(xs), list(ys), False
    return [x for x, _ in kept], [y for _, y in kept], True


def measure(found: list[Point], repeats: int) -> list[list[Timing]]:
    """Push every point in turns; equal pushes (the families share their first point) are measured once."""
    keys = [(id(point.run), point.directions, point.order) for point in found]
    sides = {}
    for key, point in zip(keys, found, strict=True):
        given = directions(point.directions, point.run.n)
        cs.push(point.run, given[:1], point.order, threads=1)  # compiles
        sides[str(key)] = partial(cs.push, point.run, given, point.order, threads=1)
    timings = interleaved(sides, repeats, warm=False)
    return [timings[str(key)] for key in keys]


def law_rows(report: Report, found: list[Point], seconds: list[float]) -> None:
    """Slopes, family by family, and over all runs together."""
    pooled: tuple[list[float], list[float]] = ([], [])
    measured: dict[str, bool] = {}
    for family in ("steps", "width", "depth", "length", "directions"):
        mine = [i for i, point in enumerate(found) if point.family == family]
        against = "directions" if family == "directions" else "size(A)"
        xs = [float(found[i].directions if family == "directions" else found[i].run.size) for i in mine]
        ys = [seconds[i] for i in mine]
        xs, ys, enough = in_reach(xs, ys)
        # Short pushes have a share of fixed costs, so the law is asked of long ones only.
        note, goal = ("", LAW) if enough else ("work under a second", None)
        measured[family] = enough
        what = f"slope against {against}" + ("" if family == "directions" else f", {family} growing")
        report.add(Row(what, f"slope_{family}", slope(xs, ys), "{:.2f}", goal, note))
        if family != "directions":
            pooled[0].extend(xs)
            pooled[1].extend(ys)
    goal = LAW if all(measured.values()) else None
    report.add(Row("slope against size(A), all these runs together", "slope_size", slope(*pooled), "{:.2f}", goal))


def order_rows(report: Report, found: list[Point], timings: list[list[Timing]], repeats: int) -> None:
    """Cost of an order: measured, counted, and over plain training."""
    mine = [i for i, point in enumerate(found) if point.family == "order"]
    run = found[mine[0]].run
    seconds = [middle(timings[i]) for i in mine]
    orders = [found[i].order for i in mine]
    counted = [float(run_cost(run, Mode(s))) for s in orders]
    report.add(Row("slope against the order", "slope_order", slope(orders, seconds), "{:.2f}"))
    report.add(Row("the same of counted multiply-adds", "slope_order_counted", slope(orders, counted), "{:.2f}"))
    sides = {f"{found[i].order}": partial(push_again, found[i]) for i in mine}
    turns = interleaved({"plain": partial(many_trainings, run), **sides}, repeats, warm=False)
    lines = []
    for i, s, work in zip(mine, orders, counted, strict=True):
        over = ratio(turns[f"{s}"], turns["plain"]) * TRAININGS / found[i].directions
        ms = 1e3 * middle(turns[f"{s}"]) / (run.steps * found[i].directions)
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
        "core ms a direction and step",
        "M multiply-adds of it",
        "of one product",
        "times plain training",
    ]
    report.add_table(table(lines, header))


TRAININGS = 5


def push_again(point: Point) -> Any:
    """The push of a point."""
    return cs.push(point.run, directions(point.directions, point.run.n), point.order, threads=1)


def many_trainings(run: cs.Training) -> None:
    """Plain training, long enough to be timed."""
    for _ in range(TRAININGS):
        run.train()


def plot(found: list[Point], seconds: list[float], file: str) -> None:
    """Time against size(A), directions and order, in logarithms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    for family in ("steps", "width", "depth", "length"):
        mine = [i for i, point in enumerate(found) if point.family == family]
        axes[0].loglog([found[i].run.size for i in mine], [seconds[i] for i in mine], "o-", label=family)
    axes[0].legend(title="what grows")
    axes[0].set_xlabel("size(A)")
    for axis, family in zip(axes[1:], ("directions", "order"), strict=True):
        mine = [i for i, point in enumerate(found) if point.family == family]
        xs = np.array([found[i].directions if family == "directions" else found[i].order for i in mine], dtype=float)
        axis.loglog(xs, [seconds[i] for i in mine], "o-", label="measured")
        counted = np.array([found[i].directions * run_cost(found[i].run, Mode(found[i].order)) for i in mine])
        scale = seconds[mine[-1]] / counted[-1]
        axis.loglog(xs, counted * scale, "--", color="0.5", label="counted multiply-adds")
        axis.set_xlabel(family)
        axis.legend()
    axes[0].set_ylabel("CPU seconds")
    sizes = np.array(sorted(point.run.size for point in found[:4]), dtype=float)
    axes[0].loglog(sizes, seconds[0] * sizes / sizes[0], "--", color="0.5")
    for axis in axes:
        axis.grid(True, which="both", alpha=0.2)
        axis.xaxis.set_minor_formatter("")
        axis.yaxis.set_minor_formatter("")
    figure.savefig(file, dpi=130)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="of the smallest run; default 64, full 192")
    parser.add_argument("--directions", type=int, help="default 16, full 64")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", metavar="FILE", help="draw the law (needs matplotlib)")
    add_options(parser)
    options = parser.parse_args(arguments)
    steps = options.steps or (192 if options.full else 64)
    count = options.directions or (64 if options.full else 16)
    settings = {"steps": steps, "directions": count, "repeats": options.repeats, "threads": 1}
    report = Report("size_law", options, settings)
    found = points(steps, count, options.full)
    timings = measure(found, options.repeats)
    seconds = [middle(t) for t in timings]
    for point, s in zip(found, seconds, strict=True):
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
        for point, s in zip(found, seconds, strict=True)
    ]
    law_rows(report, found, seconds)
    order_rows(report, found, timings, options.repeats)
    if options.plot:
        try:
            plot(found, seconds, options.plot)
            report.say(f"  drawn in {options.plot}")
        except ImportError:
            report.say("  no plot: matplotlib is not installed; pip install matplotlib")
    return report.finish()


if __name__ == "__main__":
    main()
