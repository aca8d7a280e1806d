"""What a given budget buys: the error of every method against the trainings that it cost.

    python bench/budgets.py                        # up to 2,500 trainings: a quarter of an hour
    python bench/budgets.py --runs tumours         # one of the runs: a minute
    python bench/budgets.py --full --plot FILE     # up to 8,000, 96 subsets: an hour; the plot requires matplotlib
    python bench/budgets.py --read FILE FILE --plot FILE     # tabulates and plots what --json FILE wrote earlier

The runs, their measurements and the deletions are those of accuracy.py. A training is the CPU seconds of one plain
`run.train()`, the median of several; what a method costs is the CPU seconds that it took, on one thread, in that unit,
once its kernels are compiled.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cases import Case, case
from report import Report, add_options, table
from timing import timed

import circuitsketch as cs
from circuitsketch.attribution.evaluation import rank_correlation
from circuitsketch.attribution.ground_truth import retrain_and_measure
from circuitsketch.attribution.query import Query
from circuitsketch.directions import find_distribution
from circuitsketch.estimators.calibration import MIN_SUBSETS
from circuitsketch.estimators.gradients import GradientMonteCarlo
from circuitsketch.reverse.metagradient import differentiate_run_along

RUNS = {"names, 4 values": ("names", 4), "names": ("names", 16), "digits": ("digits", 16), "tumours": ("tumours", 16)}
LEFT_OUT = ("random 0.1 %", "random 50 %")
KNOWN, LEAST_ASKED = 48, 8  # retrained subsets of a kind that a calibration may know, and those asked about at least
ORDER, SINGLES_ORDER = 3, 6
LANES, GRADIENTS = 64, 4  # directions or subsets that a cost is timed on; directions of gradients
LARGEST, LARGEST_SPHERE, LARGEST_GRADIENTS = 1024, 256, 64  # random directions of each kind at most
FEWEST = 16  # random directions that interactions are fitted to, at least
# RMSE over that of first order, and LDS: of names with 4 values for 2,500 trainings, with 16 for 4,500.
LDS = {"random 1 %": 0.998, "random 5 %": 0.991, "random 10 %": 0.982, "coherent": 0.995, "letter": 0.955}
GOALS: dict[str, dict[str, tuple[float, float | None]]] = {
    "names, 4 values": {kind: (rmse, LDS[kind]) for kind, rmse in zip(LDS, (0.21, 0.37, 0.5, 0.42, 0.9), strict=True)},
    "names": {kind: (rmse, LDS[kind]) for kind, rmse in zip(LDS, (0.24, 0.4, 0.53, 0.45, 0.9), strict=True)},
    "digits": {
        **{"random 1 %": (0.21, None), "random 5 %": (0.31, None), "random 10 %": (0.43, None)},
        **{"coherent": (0.52, None), "mislabelled": (0.4, None)},
    },
}
METHODS = (
    *("plain sketch", "theorem-gradient", "first order", "own effects", "own and pairs", "calibrated", "interactions"),
    "datamodels",
)

Model = Callable[[np.ndarray], np.ndarray]  # from masks (B, n) to values (B, C)


@dataclass(frozen=True)
class Asked:
    """Subsets of a kind, and the measurement without each: those that a calibration may know, and the others."""

    known: np.ndarray
    known_truth: np.ndarray
    masks: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Costs:
    """CPU seconds of one plain training, and trainings per retrained subset, direction of `ORDER`, and direction of
    gradients."""

    training: float
    subset: float
    direction: float
    gradient: float


def time_training(run: cs.Training) -> float:
    """Return the CPU seconds of one plain training, the median of seven."""
    return median(timed(run.train).cpu for _ in range(7))


def count_trainings(run: cs.Training, function: Callable[[], Any]) -> tuple[Any, float]:
    """Return a function's result and the trainings that it costs; a training is timed before and after it."""
    kept: list[Any] = []
    before = time_training(run)
    spent = timed(lambda: kept.append(function())).cpu
    return kept[0], 2 * spent / (before + time_training(run))


def time_costs(now: Case) -> Costs:
    """Time a training, and subsets and directions among several of them, after one call each to compile."""
    run, masks = now.run, np.random.default_rng(0).random((LANES, now.run.n)) < 0.1
    block = find_distribution("orthonormal", run.n, 0).block(0, LANES)
    sides: list[tuple[Callable[[], Any], int]] = [
        (lambda: run.retrain(masks, 1), LANES),
        (lambda: cs.push(run, block, ORDER, threads=1), LANES),
        (lambda: differentiate_along(now, GRADIENTS), GRADIENTS),
    ]
    for side, _ in sides:
        side()
    subset, direction, gradient = (
        min(count_trainings(run, side)[1] for _ in range(2)) / count for side, count in sides
    )
    return Costs(time_training(run), subset, direction, gradient)


def retrain(now: Case, masks: np.ndarray) -> np.ndarray:
    return np.asarray(retrain_and_measure(now.run, masks.astype(np.float64), now.measure, (), 1))


def ask(now: Case) -> dict[str, Asked]:
    """Retrain without the subsets of every kind; a kind that has too few has none for a calibration."""
    kinds = {}
    for kind, masks in now.kinds.items():
        if kind not in LEFT_OUT:
            truth = retrain(now, masks)
            split = KNOWN if len(masks) >= KNOWN + LEAST_ASKED else 0
            kinds[kind] = Asked(masks[:split], truth[:split], masks[split:], truth[split:])
    return kinds


# ------------------------------------------------------------------------------------------------ the methods


def attribute(now: Case, budget: float, asked: dict[str, Asked]) -> dict[str, tuple[dict[str, Any], float]]:
    """Return the values that `cs.attribute` predicts by method and kind, and what they cost; none if the budget is too
    small.

    A calibration on as many subsets of the kind replaces that on random ones, at the same cost.
    """
    try:
        query, spent = count_trainings(now.run, lambda: cs.attribute(now.run, now.measure, budget=budget, threads=1))
    except cs.InputError:
        return {}
    methods = {}
    best = "pairs" if query.plan.pairs else "per-example"
    if query.plan.own == now.run.n:
        name = "own and pairs" if best == "pairs" else "own effects"
        methods[name] = {kind: query.without(one.masks, estimator=best).value for kind, one in asked.items()}
    count = max(query.plan.subsets, MIN_SUBSETS)
    methods["calibrated"] = {}
    for kind, one in asked.items():
        known, truth = one.known[:count], one.known_truth[:count]
        several = len(known) > 0 and known.sum(axis=1).max() > 1  # single examples may be known exactly
        like = query.calibrate(known, truth=truth) if several else query
        methods["calibrated"][kind] = like.without(one.masks).value
    return {method: (values, spent) for method, values in methods.items()}


def differentiate(now: Case, asked: dict[str, Asked]) -> tuple[dict[str, np.ndarray], float, np.ndarray]:
    """Return the values by first order from a reverse sweep, what they cost, and the derivatives (C, n)."""

    def sweep() -> np.ndarray:
        return np.asarray(cs.metagradient(now.run, now.measure, threads=1)).reshape(-1, now.run.n)

    sweep()  # compiles
    gradient, spent = count_trainings(now.run, sweep)
    return {kind: measure_plain(now) + one.masks @ gradient.T for kind, one in asked.items()}, spent, gradient


def measure_plain(now: Case) -> np.ndarray:
    return np.asarray(now.measure(now.run.params(now.run.train())))


def differentiate_along(now: Case, count: int) -> np.ndarray:
    """Return the coefficients of the derivatives along random directions."""
    rows = find_distribution("sphere", now.run.n, 0).block(0, count)
    return differentiate_run_along(now.run, now.measure, (), rows, 1, 1)


def predict_from_gradients(
    now: Case, asked: dict[str, Asked], gradient: np.ndarray, coefficients: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what the theorem's estimator predicts from derivatives along random directions."""
    distribution = find_distribution("sphere", now.run.n, 0)
    base = measure_plain(now)
    estimator = GradientMonteCarlo(gradient.T, np.moveaxis(coefficients, 2, 3), distribution, base.shape)
    return {kind: base + estimator.predict(one.masks.astype(np.float64)).change for kind, one in asked.items()}


def sketch(now: Case, distribution: str, count: int) -> np.ndarray:
    """Return the coefficients along random directions."""
    directions = find_distribution(distribution, now.run.n, 0).block(0, count)
    return cs.push(now.run, directions, ORDER, threads=1).measure(now.measure).coefficients


def expand_singly(now: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return every example's own series, and its first-order effect on the parameters."""
    pushed = cs.push(now.run, np.eye(now.run.n), SINGLES_ORDER, threads=1)
    leaves = pushed.state["params"].values()
    factor = np.concatenate([leaf[:, 1].real.reshape(now.run.n, -1) for leaf in leaves], axis=1)
    return pushed.measure(now.measure).coefficients.real, factor


def fit_datamodel(masks: np.ndarray, truth: np.ndarray) -> Model:
    """Fit a ridge regression from masks to values; its penalty has the least leave-one-out error."""
    x, mean = masks.astype(np.float64), truth.mean(axis=0)
    centre = x.mean(axis=0)
    values, vectors = np.linalg.eigh((x - centre) @ (x - centre).T)
    fits = []
    for penalty in np.logspace(-3, 3, 13):
        inverse = (vectors / (np.maximum(values, 0) + penalty)) @ vectors.T
        alpha = inverse @ (truth - mean)
        fits.append((((alpha / np.diag(inverse)[:, None]) ** 2).sum(), penalty, alpha))
    weights = (x - centre).T @ min(fits, key=lambda fit: fit[0])[2]
    return lambda asked: mean + (asked - centre) @ weights


def predict_datamodels(now: Case, asked: dict[str, Asked], counts: list[int]) -> list[dict[str, np.ndarray]]:
    """Return what datamodels predict that are fitted on so many retrainings of the size that is asked about."""
    rng = np.random.default_rng(5)
    values: list[dict[str, np.ndarray]] = [{} for _ in counts]
    for kind, one in asked.items():
        sizes = one.masks.sum(axis=1)
        masks = np.zeros((max(counts, default=0), now.run.n), dtype=bool)
        for mask in masks:
            mask[rng.permutation(now.run.n)[: rng.choice(sizes)]] = True
        truth = retrain(now, masks)
        for fitted, count in zip(values, counts, strict=True):
            fitted[kind] = fit_datamodel(masks[:count], truth[:count])(one.masks)
    return values


# ------------------------------------------------------------------------------------------------ the benchmark


def score(value: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the RMSE over the truth's deviation, and the rank correlation, means over values."""
    rmse = np.sqrt(((value - truth) ** 2).mean(axis=0)) / truth.std(axis=0)
    return {"rmse": float(rmse.mean()), "lds": float(rank_correlation(value, truth))}


def measure_run(
    name: str, budgets: list[int], methods: list[str], subsets: int, datamodels: int, examples: int | None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Score methods at every budget, and return the cells and the costs."""
    original, count = RUNS[name]
    now = case(original, KNOWN + subsets, examples, values=count)
    costs, asked = time_costs(now), ask(now)
    cells: list[dict[str, Any]] = []

    def add(method: str, budget: int, values: dict[str, np.ndarray], cost: float) -> None:
        for kind, one in asked.items():
            about = {"run": name, "kind": kind, "method": method, "budget": budget, "cost": cost}
            cells.append(about | {"questions": len(one.masks)} | score(values[kind], one.truth))

    first, first_cost, gradient = differentiate(now, asked)
    add("first order", 5, first, first_cost)
    if "plain sketch" in methods:
        afford = {int(min(budget / costs.direction, LARGEST_SPHERE)): budget for budget in reversed(budgets)}
        plain = sketch(now, "sphere", max(afford))
        for m, budget in reversed(afford.items()):
            if m > 0:
                query = Query(plain[:m], find_distribution("sphere", now.run.n, 0))
                values = {kind: query.without(one.masks, median_groups=1).value for kind, one in asked.items()}
                add("plain sketch", budget, values, m * costs.direction)
    if "theorem-gradient" in methods:
        afford = {
            int(min((budget - first_cost) / costs.gradient, LARGEST_GRADIENTS)): budget for budget in reversed(budgets)
        }
        gradients = differentiate_along(now, max(*afford, 1))
        for m, budget in reversed(afford.items()):
            if m > 0:
                values = predict_from_gradients(now, asked, gradient, gradients[:m])
                add("theorem-gradient", budget, values, first_cost + m * costs.gradient)
    if "datamodels" in methods:
        payable = [budget for budget in budgets if LEAST_ASKED * costs.subset <= budget <= datamodels]
        counts = [int(budget / costs.subset) for budget in payable]
        for fitted, budget, number in zip(predict_datamodels(now, asked, counts), payable, counts, strict=True):
            add("datamodels", budget, fitted, number * costs.subset)
    for budget in budgets:
        for method, (values, cost) in attribute(now, budget, asked).items() if "calibrated" in methods else ():
            add(method, budget, values, cost)
    # Own series to order 6 cost more than as many directions of order 3.
    if "interactions" in methods and costs.direction * now.run.n < max(budgets):
        (series, factor), own_cost = count_trainings(now.run, lambda: expand_singly(now))
        distribution = find_distribution("orthonormal", now.run.n, 0)
        left = {budget: int(min((budget - own_cost) / costs.direction, LARGEST)) for budget in budgets}
        coefficients = sketch(now, "orthonormal", max(*left.values(), 1))
        for budget, m in left.items():
            if m >= FEWEST:
                fit = Query(coefficients[:m], distribution, per_example=series, similarity=factor)
                values = {kind: fit.without(one.masks).value for kind, one in asked.items()}
                add("interactions", budget, values, own_cost + m * costs.direction)
    return cells, vars(costs)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--budgets", nargs="+", type=int, help="in trainings")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help='"calibrated": all that cs.attribute does'
    )
    parser.add_argument("--subsets", type=int, help="subsets per kind of deletion; default: 32, with --full 96")
    parser.add_argument("--datamodels", type=int, default=500, help="the largest budget of datamodels")
    parser.add_argument("--examples", type=int, help="use fewer training examples, to try")
    parser.add_argument(
        "--read", nargs="+", metavar="FILE", help="tabulate what --json wrote to files; measure nothing"
    )
    parser.add_argument("--plot", metavar="FILE", help="plot error against cost; requires matplotlib")
    options = parser.parse_args(argv)
    budgets = options.budgets or [5, 50, 500, 2500, *([4500, 8000] if options.full else [])]
    subsets = options.subsets or (96 if options.full else 32)
    report = Report("budgets", options, {"budgets": budgets, "subsets": subsets})
    measured: list[dict[str, Any]] = [json.loads(Path(file).read_text()) for file in options.read or []]
    for name in [] if measured else options.runs:
        cells, costs = measure_run(name, budgets, options.methods, subsets, options.datamodels, options.examples)
        measured.append({"cells": cells, "costs": {name: costs}})
        report.say(f"{name}: measured")
    keys = ("run", "kind", "method", "budget")
    cells = [*{tuple(cell[key] for key in keys): cell for one in measured for cell in one["cells"]}.values()]
    costs_of = {name: costs for one in measured for name, costs in one["costs"].items()}
    report.numbers |= {"cells": cells, "costs": costs_of}
    for name, costs in costs_of.items():
        here = [cell for cell in cells if cell["run"] == name]
        questions = max(cell["questions"] for cell in here)
        report.add_table(
            f"{name}: a training takes {costs['training'] * 1e3:.3g} ms; one of several retrained subsets costs "
            f"{costs['subset']:.2g} trainings, so that retraining without each of the {questions} subsets of a kind "
            f"costs {questions * costs['subset']:.3g}; a direction costs {costs['direction']:.3g}, one of gradients "
            f"{costs['gradient']:.3g}."
        )
        report.add_table(tabulate(here))
    if options.plot:
        plot(cells, costs_of, options.plot)
    return report.finish()


def tabulate(cells: list[dict[str, Any]]) -> str:
    """Tabulate cost, RMSE, RMSE over that of first order, and LDS of the methods and budgets of one run."""
    kinds = list(dict.fromkeys(cell["kind"] for cell in cells))
    first = {cell["kind"]: cell["rmse"] for cell in cells if cell["method"] == "first order"}
    goals = GOALS.get(cells[0]["run"], {})
    rows = []
    for method in METHODS:
        for budget in dict.fromkeys(cell["budget"] for cell in cells if cell["method"] == method):
            by = {cell["kind"]: cell for cell in cells if (cell["method"], cell["budget"]) == (method, budget)}
            scores = [
                f"{by[kind]['rmse']:.3f} ({by[kind]['rmse'] / first[kind]:.2f}), {by[kind]['lds']:.3f}"
                for kind in kinds
            ]
            rows.append([method, f"{budget:,}", f"{by[kinds[0]]['cost']:,.1f}", *scores])
    if goals:
        texts = {kind: f"({rmse:.2f})" + (f", {lds:.3f}" if lds else "") for kind, (rmse, lds) in goals.items()}
        rows.append(["goal", "", "", *(texts.get(kind, "") for kind in kinds)])
    return table(rows, ["method", "budget", "spent", *kinds])


def plot(cells: list[dict[str, Any]], costs: dict[str, dict[str, float]], file: str) -> None:
    """Plot RMSE against what was spent: a line of panels per run, a panel per kind of deletion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = {name: list(dict.fromkeys(cell["kind"] for cell in cells if cell["run"] == name)) for name in costs}
    columns = max(len(some) for some in kinds.values())
    size = 2.9 * columns, 2.6 * len(kinds) + 0.8
    figure, axes = pyplot.subplots(len(kinds), columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = dict.fromkeys(METHODS)
    for line, (run, some) in zip(axes, kinds.items(), strict=True):
        for axis in line[len(some) :]:
            axis.set_axis_off()
        line[0].set_ylabel(f"{run}\nRMSE / deviation of the truth")
        for axis, kind in zip(line, some, strict=False):
            here = [cell for cell in cells if (cell["run"], cell["kind"]) == (run, kind)]
            for number, method in enumerate(METHODS):
                points = sorted((c["cost"], c["rmse"]) for c in here if c["method"] == method)
                if points:
                    handles[method] = axis.loglog(*zip(*points, strict=True), "o-", ms=3, lw=1.2, color=f"C{number}")[0]
            handles["no change"] = axis.axhline(1.0, color="grey", linestyle=":")
            handles["retraining what is asked: exact"] = axis.axvline(
                here[0]["questions"] * costs[run]["subset"], color="black", linestyle="--", lw=0.8
            )
            axis.set_title(kind, fontsize=9)
            axis.set_ylim(max(min(cell["rmse"] for cell in cells) / 1.5, 1e-3), 10.0)
            axis.tick_params(labelsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("cost, trainings")
    shown = {name: handle for name, handle in handles.items() if handle is not None}
    figure.legend(list(shown.values()), list(shown), loc="lower center", ncol=5, fontsize=8)
    figure.suptitle("What a given budget buys", fontsize=11)
    figure.tight_layout(rect=(0, 0.6 / size[1], 1, 1))
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
