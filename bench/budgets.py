"""What a given budget buys: the error of every estimator against the trainings that it cost.

    python bench/budgets.py                        # 50, 500 and 2,500 trainings: half an hour
    python bench/budgets.py --runs tumours         # one of the runs: a minute
    python bench/budgets.py --full --plot FILE     # 8,000 trainings as well; the plot requires matplotlib

The runs, their measurements and the deletions are those of accuracy.py. A training is the CPU seconds of one plain
`run.train()`, the median of several; what a method costs is the CPU seconds that it took, on one thread, in that unit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
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

RUNS = {"names, 4 values": ("names", 4), "names": ("names", 16), "digits": ("digits", 16), "tumours": ("tumours", 16)}
LEFT_OUT = ("random 0.1 %", "random 50 %")
KNOWN, LEAST_ASKED = 48, 8  # retrained subsets of a kind that a calibration may know, and those asked about at least
ORDER, SINGLES_ORDER = 3, 6
LANES = 64  # directions or subsets that a cost is timed on
LARGEST = 1024  # random directions at most
# What the names run with 4 values reaches for 2,500 trainings and digits for any, in RMSE of first order.
GOALS = {
    "names, 4 values": {"random 1 %": 0.21, "random 5 %": 0.37, "random 10 %": 0.5, "coherent": 0.42, "letter": 0.9},
    "names": {"random 1 %": 0.24, "random 5 %": 0.4, "random 10 %": 0.53, "coherent": 0.45, "letter": 0.9},
    "digits": {
        **{"random 1 %": 0.21, "random 5 %": 0.31, "random 10 %": 0.43},
        **{"coherent": 0.52, "mislabelled": 0.4},
    },
}
METHODS = ("plain sketch", "first order", "own effects", "own and pairs", "calibrated", "interactions", "datamodels")

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
    """CPU seconds of one plain training, and trainings per retrained subset and per direction of `ORDER`."""

    training: float
    subset: float
    direction: float


def restrict(whole: Case, values: int) -> Case:
    """Measure only the first values of a case."""
    return Case(whole.name, whole.run, lambda params: whole.measure(params)[:values], whole.kinds)


def time_costs(now: Case) -> Costs:
    """Time a training, and subsets and directions among LANES of them, after one call each to compile."""
    run, masks = now.run, np.random.default_rng(0).random((LANES, now.run.n)) < 0.1
    block = find_distribution("orthonormal", run.n, 0).block(0, LANES)
    sides = (run.train, lambda: run.retrain(masks, 1), lambda: cs.push(run, block, ORDER, threads=1))
    training, subset, direction = (
        median(timed(side).cpu for _ in range(5)) if side is run.train else min(timed(side).cpu for _ in range(2))
        for side in sides
    )
    return Costs(training, subset / LANES / training, direction / LANES / training)


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


def attribute(
    now: Case, budget: float, asked: dict[str, Asked], unit: float
) -> dict[str, tuple[dict[str, Any], float]]:
    """Return the values that `cs.attribute` predicts by method and kind, and what they cost.

    A calibration on as many subsets of the kind replaces that on random ones, at the same cost.
    """
    kept: list[cs.Query] = []
    spent = timed(lambda: kept.append(cs.attribute(now.run, now.measure, budget=budget, threads=1))).cpu / unit
    query = kept[0]
    names = {"per-example": "own effects", "pairs": "own and pairs"}
    plain = [name for name in names if name in query.estimators and query.plan.own == now.run.n]
    cells = {
        names[name]: {kind: query.without(one.masks, estimator=name).value for kind, one in asked.items()}
        for name in plain[-1:]
    }
    calibrated = {}
    for kind, one in asked.items():
        like = query.calibrate(one.known, truth=one.known_truth) if len(one.known) else query
        calibrated[kind] = like.without(one.masks).value
    return {method: (values, spent) for method, values in (cells | {"calibrated": calibrated}).items()}


def differentiate(now: Case, asked: dict[str, Asked], unit: float) -> tuple[dict[str, np.ndarray], float]:
    """Return the values by first order from a reverse sweep, and what they cost."""
    kept: list[Any] = []
    spent = timed(lambda: kept.append(cs.metagradient(now.run, now.measure, threads=1))).cpu / unit
    gradient = np.asarray(kept[0]).reshape(-1, now.run.n)
    base = np.asarray(now.measure(now.run.params(now.run.train())))
    return {kind: base + one.masks @ gradient.T for kind, one in asked.items()}, spent


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


def predict_datamodels(now: Case, asked: dict[str, Asked], count: int) -> dict[str, np.ndarray]:
    """Return what datamodels predict that are fitted on `count` retrainings of the size that is asked about."""
    rng, values = np.random.default_rng(5), {}
    for kind, one in asked.items():
        sizes = one.masks.sum(axis=1)
        masks = np.zeros((count, now.run.n), dtype=bool)
        for mask in masks:
            mask[rng.permutation(now.run.n)[: rng.choice(sizes)]] = True
        values[kind] = fit_datamodel(masks, retrain(now, masks))(one.masks)
    return values


# ------------------------------------------------------------------------------------------------ the benchmark


def score(value: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the RMSE over the truth's deviation, and the rank correlation, means over values."""
    rmse = np.sqrt(((value - truth) ** 2).mean(axis=0)) / truth.std(axis=0)
    return {"rmse": float(rmse.mean()), "lds": float(rank_correlation(value, truth))}


def measure_run(name: str, budgets: list[int], subsets: int, datamodels: int) -> tuple[list[dict[str, Any]], Costs]:
    """Score every method at every budget, and return the cells and the costs."""
    original, values = RUNS[name]
    now = restrict(case(original, KNOWN + subsets), values)
    costs, asked = time_costs(now), ask(now)
    cells: list[dict[str, Any]] = []

    def add(method: str, budget: int, values: dict[str, np.ndarray], cost: float) -> None:
        for kind, one in asked.items():
            about = {"run": name, "kind": kind, "method": method, "budget": budget, "cost": cost}
            cells.append(about | score(values[kind], one.truth))

    add("first order", 5, *differentiate(now, asked, costs.training))
    afford = [int(min(budget / costs.direction, LARGEST)) for budget in budgets]
    plain = sketch(now, "sphere", max(afford))
    singly: tuple[np.ndarray, np.ndarray] | None = None
    if costs.direction * now.run.n < max(budgets):  # own series to order 6 cost more than directions of order 3
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        own_cost = timed(lambda: kept.append(expand_singly(now))).cpu / costs.training
        singly, orthonormal = kept[0], sketch(now, "orthonormal", max(afford))
    for budget, m in zip(budgets, afford, strict=True):
        if m > 0:
            query = Query(plain[:m], find_distribution("sphere", now.run.n, 0))
            change = {kind: query.without(one.masks, median_groups=1).value for kind, one in asked.items()}
            add("plain sketch", budget, change, m * costs.direction)
        try:
            for method, (values, cost) in attribute(now, budget, asked, costs.training).items():
                add(method, budget, values, cost)
        except cs.InputError:  # the budget is too small
            pass
        if singly is not None and (rest := int(min((budget - own_cost) / costs.direction, LARGEST))) >= 16:
            distribution = find_distribution("orthonormal", now.run.n, 0)
            fitted = Query(orthonormal[:rest], distribution, per_example=singly[0], similarity=singly[1])
            values = {kind: fitted.without(one.masks).value for kind, one in asked.items()}
            add("interactions", budget, values, own_cost + rest * costs.direction)
        count = int(budget / costs.subset)
        if LEAST_ASKED <= count and budget <= datamodels:
            add("datamodels", budget, predict_datamodels(now, asked, count), count * costs.subset)
    return cells, costs


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--budgets", nargs="+", type=int, help="in trainings")
    parser.add_argument("--subsets", type=int, default=32, help="subsets per kind of deletion")
    parser.add_argument("--datamodels", type=int, default=500, help="the largest budget of datamodels")
    parser.add_argument("--plot", metavar="FILE", help="plot error against cost; requires matplotlib")
    options = parser.parse_args(argv)
    budgets = options.budgets or [5, 50, 500, 2500, *([8000] if options.full else [])]
    report = Report("budgets", options, {"budgets": budgets, "subsets": options.subsets})
    report.numbers |= {"cells": [], "costs": {}}
    for name in options.runs:
        cells, costs = measure_run(name, budgets, options.subsets, options.datamodels)
        report.numbers["cells"] += cells
        report.numbers["costs"][name] = vars(costs)
        report.add_table(
            f"{name}: a training takes {costs.training * 1e3:.3g} ms; one of several retrained subsets costs "
            f"{costs.subset:.2g} trainings, a direction {costs.direction:.3g}."
        )
        report.add_table(tabulate(cells))
    if options.plot:
        plot(report.numbers["cells"], options.plot)
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
        rows.append(["goal", "", "", *(f"({goals[kind]:.2f})" if kind in goals else "" for kind in kinds)])
    return table(rows, ["method", "budget", "spent", *kinds])


def plot(cells: list[dict[str, Any]], file: str) -> None:
    """Plot RMSE against what was spent, one panel per run and kind of deletion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys((cell["run"], cell["kind"]) for cell in cells))
    columns = 4
    figure, axes = pyplot.subplots(-(-len(panels) // columns), columns, figsize=(16, 3 * -(-len(panels) // columns)))
    for axis, (run, kind) in zip(np.ravel(axes), panels, strict=False):
        for method in METHODS:
            here = [c for c in cells if (c["run"], c["kind"], c["method"]) == (run, kind, method)]
            axis.loglog([c["cost"] for c in here], [c["rmse"] for c in here], "o-", label=method)
        axis.axhline(1.0, color="grey", linestyle=":", label="no change")
        axis.set(title=f"{run}, {kind}", xlabel="cost, trainings", ylabel="RMSE / deviation")
    np.ravel(axes)[0].legend(fontsize=6)
    for axis in np.ravel(axes)[len(panels) :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
