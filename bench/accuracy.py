"""Benchmark accuracy: every estimator against retraining, for several kinds of deletions and numbers of directions.

    python bench/accuracy.py                      # small: one number of directions, 32 subsets per kind, a few minutes
    python bench/accuracy.py --full --write       # 64 to 4,096 directions, 96 subsets per kind: long
    python bench/accuracy.py --cache FOLDER       # saves sketches and retrained values, and reuses them
    python bench/accuracy.py --plot error.png     # error against cost; requires matplotlib

Three runs: microgpt on 1,000 names, a perceptron on 1,000 digits and a logistic regression on 400 tumours; the last two
have one wrong label in twenty. The ground truth is retraining without each subset. The cost of a method is in
trainings: the CPU seconds of what it propagates or retrains, divided by those of one of several retrainings that run
together.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import RUNS, Case, case
from report import Report, add_options, table
from theory import measure_theory, speed_table, theory_table, time_predictions
from timing import timed

import circuitsketch as cs
from circuitsketch.attribution.evaluation import Evaluation, score
from circuitsketch.attribution.ground_truth import ids_of_largest_errors, retrain_and_measure
from circuitsketch.attribution.prediction import Prediction
from circuitsketch.attribution.query import Query
from circuitsketch.directions import find_distribution

SINGLES_ORDER, ORDER = 6, 3
MAX_SPHERE, MAX_FITTED = 256, 1024  # largest numbers of directions for the paper's distribution, and for interactions
RETRAINED = 16  # examples retrained singly, those with the largest truncation errors
PLUS = f"interactions + {RETRAINED}"
GOALS = {
    "random 1 %": 0.25,
    "random 5 %": 0.45,
    "random 10 %": 0.55,
    "coherent": 0.62,
}  # of exact first order's RMSE

# ------------------------------------------------------------------------------------------------ the methods


@dataclass(frozen=True)
class Propagated:
    """The coefficients of a run, and their costs.

    `cost` has the CPU seconds of one training, and in trainings the costs of "singles", "first order" and a
    "direction".
    """

    per_example: np.ndarray
    factor: np.ndarray
    random: dict[str, np.ndarray]
    cost: dict[str, float]


@dataclass(frozen=True)
class Cache:
    """A folder of sketches and retrained values for the next time; None saves nothing."""

    folder: Path | None

    def sketch(self, case: Case, budget: int, distribution: str) -> np.ndarray:
        """Return the coefficients along the first `budget` directions, extending a saved sketch."""
        path = None if self.folder is None else self.folder / f"{case.name}-{case.run.n}-{distribution}.sketch"
        sketch = cs.sketch(case.run, budget, ORDER, seed=0, distribution=distribution, path=path)
        return sketch.measure(case.measure).coefficients[:budget]

    def arrays(self, case: Case, what: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return arrays by name, computed unless they are saved."""
        if self.folder is None:
            return compute()
        file = self.folder / f"{case.name}-{case.run.n}-{what}.npz"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            np.savez(file, **compute())
        with np.load(file) as arrays:
            return dict(arrays)

    def truth(self, case: Case, what: str, masks: np.ndarray) -> np.ndarray:
        """Return the measurement after retraining without each subset."""
        key = hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()[:12]
        arrays = self.arrays(
            case,
            f"{what.replace(' ', '')}-{len(masks)}-{key}",
            lambda: {"truth": retrain_and_measure(case.run, masks.astype(np.float64), case.measure, (), 1)},
        )
        return arrays["truth"]


def propagate_all(case: Case, budget: int, cache: Cache) -> Propagated:
    """Propagate per-example and random directions; costs are timed on 64 of each, whatever the cache has."""
    run = case.run
    masks = np.random.default_rng(0).random((64, run.n)) < 0.1
    for _ in range(2):  # the first time compiles
        one = timed(lambda: run.retrain(masks, 1)).cpu / len(masks)
    spent = timed(lambda: cs.push(run, find_distribution("orthonormal", run.n, 0).block(0, 64), ORDER, threads=1)).cpu
    costs = {"training": one, "direction": spent / 64 / one}

    def per_example() -> dict[str, np.ndarray]:
        series, first = {}, {}
        full = timed(lambda: series.update(sketch=cs.push(run, np.eye(run.n), SINGLES_ORDER, threads=1))).cpu
        linear = timed(lambda: first.update(sketch=cs.push(run, np.eye(run.n), 1, threads=1))).cpu
        effects = first["sketch"].state["params"]
        factor = np.concatenate([leaf[:, 1].real.reshape(run.n, -1) for leaf in effects.values()], axis=1)
        own = series["sketch"].measure(case.measure).coefficients.real
        return {"own": own, "factor": factor, "cost": np.array([full, linear]) / one}

    singles = cache.arrays(case, f"singles-{SINGLES_ORDER}", per_example)
    costs |= {"singles": float(singles["cost"][0]), "first order": float(singles["cost"][1])}
    random = {
        "orthonormal": cache.sketch(case, budget, "orthonormal"),
        "sphere": cache.sketch(case, min(budget, MAX_SPHERE), "sphere"),
    }
    return Propagated(singles["own"], singles["factor"], random, costs)


def predict_all(
    case: Case, propagated: Propagated, m: int, masks: np.ndarray, singly: np.ndarray
) -> dict[str, tuple[Prediction, float]]:
    """Return the predictions of every estimator with m directions, and their costs in trainings.

    `singly` has the measurement without each single example, of which one method uses a few.
    """
    h, n, cost = masks.astype(np.float64), case.run.n, propagated.cost
    predictions: dict[str, tuple[Prediction, float]] = {}
    for distribution, name in (("sphere", "plain sketch"), ("orthonormal", "orthonormal")):
        if m <= len(propagated.random[distribution]):
            query = Query(propagated.random[distribution][:m], find_distribution(distribution, n, 0))
            predictions[name] = query.predict(h, median_groups=1), m * cost["direction"]
    query = fit_query(case, propagated, min(m, MAX_FITTED))
    predictions["first order"] = query.predict(h, estimator="first-order"), cost["first order"]
    predictions["singles"] = query.predict(h, estimator="per-example"), cost["singles"]
    if m <= MAX_FITTED:
        spent = cost["singles"] + m * cost["direction"]
        predictions["interactions"] = query.predict(h), spent
        worst = ids_of_largest_errors(query.influence(), RETRAINED)
        known = query.with_evidence(np.eye(n)[worst], singly[worst])
        predictions[PLUS] = known.predict(h), spent + RETRAINED
    return predictions


QUERIES: dict[tuple[str, int], Query] = {}


def fit_query(case: Case, propagated: Propagated, m: int) -> Query:
    """Return the query with per-example series and m directions, fitted once."""
    key = (case.name, m)
    if key not in QUERIES:
        distribution = find_distribution("orthonormal", case.run.n, 0)
        QUERIES[key] = Query(
            propagated.random["orthonormal"][:m],
            distribution,
            per_example=propagated.per_example,
            similarity=propagated.factor,
        )
    return QUERIES[key]


def fit_datamodel(case: Case, count: int, cache: Cache, seed: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a ridge regression from masks to values on `count` retrainings without a random 1 to 10 % of the examples.

    The penalty minimises the leave-one-out squared error over retrainings, in closed form.
    """
    rng = np.random.default_rng(seed)
    n = case.run.n
    masks = rng.random((count, n)) < rng.uniform(0.01, 0.1, size=(count, 1))
    truth = cache.truth(case, "datamodels", masks)
    x, mean = masks.astype(np.float64), truth.mean(axis=0)
    centre = x.mean(axis=0)
    values, vectors = np.linalg.eigh((x - centre) @ (x - centre).T)
    best = None
    for penalty in np.logspace(-3, 3, 13):
        inverse = (vectors / (np.maximum(values, 0) + penalty)) @ vectors.T
        alpha = inverse @ (truth - mean)
        loss = ((alpha / np.diag(inverse)[:, None]) ** 2).sum()
        if best is None or loss < best[0]:
            best = (loss, (x - centre).T @ alpha)
    assert best is not None
    weights = best[1]
    return lambda asked: mean + (asked - centre) @ weights


def sum_single_effects(case: Case, singly: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from masks to values that sums the exact effects of single examples, known by retraining."""
    base = np.asarray(case.measure(case.run.params(case.run.train())))
    return lambda asked: base + asked @ (singly - base)


# ------------------------------------------------------------------------------------------------ the benchmark


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--directions", nargs="+", type=int, help="numbers of random directions")
    parser.add_argument("--subsets", type=int, help="subsets per kind of deletion")
    parser.add_argument("--seed", type=int, help="draw other subsets than those of the table")
    parser.add_argument("--examples", type=int, help="use fewer training examples, to try")
    parser.add_argument(
        "--retrainings", type=int, help="number of retrainings for datamodels; default: equal cost, at most 2,000"
    )
    parser.add_argument("--cache", metavar="FOLDER", help="save sketches and retrained values for the next time")
    parser.add_argument("--plot", metavar="FILE", help="plot error against cost; requires matplotlib")
    options = parser.parse_args(argv)
    budgets = options.directions or ([64, 256, 1024, 4096] if options.full else [256])
    subsets = options.subsets or (96 if options.full else 32)
    cache = Cache(None if options.cache is None else Path(options.cache))
    report = Report("accuracy", options, {"directions": budgets, "subsets": subsets, "order": ORDER})
    numbers: list[dict[str, Any]] = []
    for name in options.runs:
        now = case(name, subsets, options.examples, options.seed)
        propagated = propagate_all(now, max(budgets), cache)
        costs = ", ".join(f"{what} {number:.3g}" for what, number in propagated.cost.items())
        report.say(f"{name}: CPU seconds of one training, and the costs of others in trainings: {costs}")
        equal = int(propagated.cost["singles"] + min(max(budgets), MAX_FITTED) * propagated.cost["direction"])
        count = options.retrainings or max(32, min(equal, 2000))
        singly = cache.truth(now, "one by one", np.eye(now.run.n, dtype=bool))
        from_retrainings = {
            "retrained singly": (sum_single_effects(now, singly), now.run.n),
            "datamodels": (fit_datamodel(now, count, cache), count),
        }
        for kind, masks in now.kinds.items():
            truth = cache.truth(now, kind, masks)
            for m in budgets:
                predictions = predict_all(now, propagated, m, masks, singly)
                first = predictions["first order"][0]
                base = score(first, truth, masks).rmse
                scored = {method: (score(p, truth, masks), cost) for method, (p, cost) in predictions.items()}
                unknown = np.full(truth.shape, np.inf)  # these methods estimate no error
                for method, (model, cost) in from_retrainings.items():
                    silent = replace(first, value=model(masks), stderr=unknown, estimator=method)
                    scored[method] = score(silent, truth, None), cost
                cells = [make_cell(name, kind, m, method, *scored[method][::-1], base) for method in scored]
                numbers += cells
                scores = ", ".join(f"{cell['method']} {format_score(cell['rmse'])}" for cell in cells)
                report.say(f"{name}, {kind}, {m} directions: {scores}")
        if name == "names":
            fitted = fit_query(now, propagated, min(max(budgets), 512))
            report.numbers["a_second"] = speeds = time_predictions(fitted)
            report.add_table(speed_table(speeds, len(fitted.coefficients), now.run.n))
    report.numbers["cells"] = numbers
    report.add_table(methods_table(numbers, max(m for m in budgets if m <= MAX_FITTED or m == min(budgets))))
    report.add_table(budgets_table(numbers, budgets))
    report.numbers["theory"] = theory = measure_theory(options.examples)
    report.add_table(theory_table(theory))
    if options.plot:
        plot(numbers, theory, options.plot)
    return report.finish()


METHODS = (
    *("plain sketch", "orthonormal", "first order", "singles", "interactions", PLUS, "retrained singly", "datamodels"),
)
OF_DIRECTIONS = (
    "plain sketch",
    "orthonormal",
    "interactions",
)  # methods that depend on the number of random directions


def make_cell(
    run: str, kind: str, m: int, method: str, cost: float, scores: Evaluation, first: float
) -> dict[str, Any]:
    """Return the numbers of one cell."""
    inside = scores.where(scores.trusted)[0.95]
    about = {"run": run, "kind": kind, "directions": m, "method": method, "cost": cost}
    covered = inside if np.isfinite(inside) else None
    return about | scores.to_dict() | {"over_first_order": scores.rmse / first, "covered_where_trusted": covered}


def format_score(x: float | None) -> str:
    return "-" if x is None else f"{x:.3f}"[: 5 if abs(x) < 10 else 4]


def group_cells(numbers: list[dict[str, Any]]) -> dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]]:
    """Group cells by run and kind of deletion, then by method and directions."""
    groups: dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]] = {}
    for cell in numbers:
        groups.setdefault((cell["run"], cell["kind"]), {})[cell["method"], cell["directions"]] = cell
    return groups


def methods_table(numbers: list[dict[str, Any]], m: int) -> str:
    """Format the scores of all methods but the plain ones, with m directions."""
    shown = [method for method in METHODS if method not in ("plain sketch", "orthonormal")]
    rows = []
    for (run, kind), by in group_cells(numbers).items():
        scores = [
            f"{format_score(by[name, m]['lds'])}, {format_score(by[name, m]['rmse'])}"
            for name in shown
            if (name, m) in by
        ]
        best = by.get(("interactions", m))
        if best is None:
            continue
        goal = f" ({GOALS[kind]})" if run == "names" and kind in GOALS else ""
        covered = best["covered_where_trusted"]
        shares = [f"{best['trusted']:.0%}", "-" if covered is None else f"{covered:.1%}"]
        exact = by["retrained singly", m]["rmse"]
        over_singly = format_score(best["rmse"] / exact if exact else None)  # single deletions are exact there
        over = f"{best['over_first_order']:.2f}, {by[PLUS, m]['over_first_order']:.2f}{goal}"
        rows.append([run, kind, *scores, over, over_singly, *shares])
    head = ["run", "deletions", *shown, f"over first, + {RETRAINED} (goal)", "over singly", "no warning", "covered"]
    return (
        f"LDS, RMSE over the standard deviation of the ground truth, with {m} random directions:\n\n{table(rows, head)}"
    )


def budgets_table(numbers: list[dict[str, Any]], budgets: list[int]) -> str:
    """Format the RMSE by the number of random directions."""
    columns = [(method, m) for method in OF_DIRECTIONS for m in budgets]
    by_kind = group_cells(numbers)
    columns = [column for column in columns if any(column in by for by in by_kind.values())]
    rows = [
        [run, kind, *(format_score(by[column]["rmse"]) if column in by else "-" for column in columns)]
        for (run, kind), by in by_kind.items()
    ]
    head = ["run", "deletions", *(f"{method}, {m}" for method, m in columns)]
    title = "RMSE over the standard deviation of the ground truth, by the number of random directions"
    return f"{title}:\n\n{table(rows, head)}"


def plot(numbers: list[dict[str, Any]], theory: dict[str, Any], file: str) -> None:
    """Plot RMSE against cost, one panel per run and kind of deletion; the theorem's rate, and the error by order."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys((cell["run"], cell["kind"]) for cell in numbers))
    columns = 4
    lines = -(-(len(panels) + 2) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(4 * columns, 3 * lines), squeeze=False)
    for axis, (run, kind) in zip(axes.flat, panels, strict=False):
        for method in METHODS:
            cell = [c for c in numbers if (c["run"], c["kind"], c["method"]) == (run, kind, method)]
            axis.loglog([c["cost"] for c in cell], [c["rmse"] for c in cell], "o-", label=method)
        count = next(c["subsets"] for c in numbers if (c["run"], c["kind"]) == (run, kind))
        axis.axvline(count, color="grey", linestyle=":", label="retraining each subset")
        axis.set_title(f"{run}, {kind}", fontsize=9)
        axis.set_xlabel("cost, trainings")
        axis.set_ylabel("RMSE / deviation")
    axes.flat[0].legend(fontsize=6)
    rate, pattern = axes.flat[len(panels)], axes.flat[len(panels) + 1]
    rate.loglog(theory["directions"], theory["errors"], "o-", label=f"slope {theory['slope']:.2f}")
    guide = theory["errors"][0] * np.sqrt(theory["directions"][0] / np.array(theory["directions"]))
    rate.loglog(theory["directions"], guide, ":", color="grey", label="slope -1/2")
    rate.set_title("the theorem's estimator, tumours", fontsize=9)
    rate.set_xlabel("directions")
    pattern.semilogy(range(1, len(theory["by_order"]) + 1), theory["by_order"], "o-")
    pattern.set_title(f"truncated series, names with {theory['letters']!r}", fontsize=9)
    pattern.set_xlabel("order")
    for axis in axes.flat[len(panels) + 2 :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
