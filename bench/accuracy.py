"""How right the predictions are: every estimator against retraining, over kinds of deletions and budgets of directions.

    python bench/accuracy.py                      # small: one budget, 32 subsets a kind, a few minutes
    python bench/accuracy.py --full --write       # budgets 64 to 4,096, 96 subsets a kind: long
    python bench/accuracy.py --cache FOLDER       # keeps sketches and retrainings; the next time goes on from them
    python bench/accuracy.py --plot error.png     # error against cost; needs matplotlib

Three runs: microgpt on 1,000 names, a perceptron on 1,000 digits and a logistic regression on 400 tumours, of the
last two one label in twenty wrong. Truths are retrainings without each subset. A method's cost is in trainings: CPU
seconds of what it pushes or retrains over those of one retraining, of which many are trained together.
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
from theory import in_theory, predictions_a_second, speed_table, theory_table
from timing import timed

import circuitsketch as cs
from circuitsketch.attribution.evaluation import Evaluation, score
from circuitsketch.attribution.ground_truth import retrained, worst_of
from circuitsketch.attribution.prediction import Prediction
from circuitsketch.attribution.query import Query
from circuitsketch.directions import find_distribution

SINGLES_ORDER, ORDER = 6, 3
SPHERE, FITTED = 256, 1024  # directions up to which the paper's distribution is pushed, and interactions are fitted
ALONE = 16  # examples retrained alone, those whose own series leaves out most
PLUS = f"interactions + {ALONE}"
GOALS = {
    "random 1 %": 0.25,
    "random 5 %": 0.45,
    "random 10 %": 0.55,
    "coherent": 0.62,
}  # of exact first order's RMSE

# ------------------------------------------------------------------------------------------------ the methods


@dataclass(frozen=True)
class Pushed:
    """What was made once. cost: CPU seconds of one training, and in trainings those of "singles", "first order", a
    "direction"."""

    per_example: np.ndarray
    factor: np.ndarray
    random: dict[str, np.ndarray]
    cost: dict[str, float]


@dataclass(frozen=True)
class Cache:
    """A folder in which sketches and retrainings are kept for the next time; None keeps nothing."""

    folder: Path | None

    def sketch(self, case: Case, budget: int, distribution: str) -> np.ndarray:
        """Coefficients along the first `budget` directions; a kept sketch is extended."""
        path = None if self.folder is None else self.folder / f"{case.name}-{case.run.n}-{distribution}.sketch"
        made = cs.sketch(case.run, budget, ORDER, seed=0, distribution=distribution, path=path)
        return made.measure(case.measure).coefficients[:budget]

    def arrays(self, case: Case, what: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Arrays by name, made where they are not kept."""
        if self.folder is None:
            return make()
        file = self.folder / f"{case.name}-{case.run.n}-{what}.npz"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            np.savez(file, **make())
        with np.load(file) as found:
            return dict(found)

    def truth(self, case: Case, what: str, masks: np.ndarray) -> np.ndarray:
        """The measurement after retraining without each of these subsets."""
        key = hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()[:12]
        made = self.arrays(
            case,
            f"{what.replace(' ', '')}-{len(masks)}-{key}",
            lambda: {"truth": retrained(case.run, masks.astype(np.float64), case.measure, (), 1)},
        )
        return made["truth"]


def push_all(case: Case, budget: int, cache: Cache) -> Pushed:
    """The singles, and random directions of both distributions. Costs are timed on 64 of each, so that a cache changes none."""
    run = case.run
    some = np.random.default_rng(0).random((64, run.n)) < 0.1
    for _ in range(2):  # the first time compiles
        one = timed(lambda: run.retrain(some, 1)).cpu / len(some)
    spent = timed(lambda: cs.push(run, find_distribution("orthonormal", run.n, 0).block(0, 64), ORDER, threads=1)).cpu
    costs = {"training": one, "direction": spent / 64 / one}

    def per_example() -> dict[str, np.ndarray]:
        found, first = {}, {}
        alone = timed(lambda: found.update(made=cs.push(run, np.eye(run.n), SINGLES_ORDER, threads=1))).cpu
        linear = timed(lambda: first.update(made=cs.push(run, np.eye(run.n), 1, threads=1))).cpu
        effects = first["made"].state["params"]
        factor = np.concatenate([leaf[:, 1].real.reshape(run.n, -1) for leaf in effects.values()], axis=1)
        own = found["made"].measure(case.measure).coefficients.real
        return {"own": own, "factor": factor, "cost": np.array([alone, linear]) / one}

    made = cache.arrays(case, f"singles-{SINGLES_ORDER}", per_example)
    costs |= {"singles": float(made["cost"][0]), "first order": float(made["cost"][1])}
    random = {
        "orthonormal": cache.sketch(case, budget, "orthonormal"),
        "sphere": cache.sketch(case, min(budget, SPHERE), "sphere"),
    }
    return Pushed(made["own"], made["factor"], random, costs)


def methods(
    case: Case, pushed: Pushed, m: int, masks: np.ndarray, singly: np.ndarray
) -> dict[str, tuple[Prediction, float]]:
    """Every estimator's predictions with m directions, and what they cost in trainings. singly: what was measured
    without each single example, of which one method knows a few."""
    h, n, cost = masks.astype(np.float64), case.run.n, pushed.cost
    found: dict[str, tuple[Prediction, float]] = {}
    for distribution, name in (("sphere", "plain sketch"), ("orthonormal", "orthonormal")):
        if m <= len(pushed.random[distribution]):
            query = Query(pushed.random[distribution][:m], find_distribution(distribution, n, 0))
            found[name] = query.predict(h, median_groups=1), m * cost["direction"]
    query = whole_query(case, pushed, min(m, FITTED))
    found["first order"] = query.predict(h, estimator="first-order"), cost["first order"]
    found["singles"] = query.predict(h, estimator="per-example"), cost["singles"]
    if m <= FITTED:
        spent = cost["singles"] + m * cost["direction"]
        found["interactions"] = query.predict(h), spent
        worst = worst_of(query, ALONE)
        known = query.with_evidence(np.eye(n)[worst], singly[worst])
        found[PLUS] = known.predict(h), spent + ALONE
    return found


QUERIES: dict[tuple[str, int], Query] = {}


def whole_query(case: Case, pushed: Pushed, m: int) -> Query:
    """The query of singles and m directions, fitted once."""
    key = (case.name, m)
    if key not in QUERIES:
        distribution = find_distribution("orthonormal", case.run.n, 0)
        QUERIES[key] = Query(
            pushed.random["orthonormal"][:m], distribution, per_example=pushed.per_example, similarity=pushed.factor
        )
    return QUERIES[key]


def datamodels(case: Case, count: int, cache: Cache, seed: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression on `count` retrainings without 1 to 10 % at random: from masks to values.

    The penalty is that of the least squared error of retrainings left out, in closed form."""
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


def one_by_one(case: Case, singly: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The summed exact effects of single examples, each of which was retrained without: from masks to values."""
    base = np.asarray(case.measure(case.run.params(case.run.train())))
    return lambda asked: base + asked @ (singly - base)


# ------------------------------------------------------------------------------------------------ the bench


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--directions", nargs="+", type=int, help="budgets of random directions")
    parser.add_argument("--subsets", type=int, help="subsets of a kind")
    parser.add_argument("--seed", type=int, help="draw other subsets than those of the table below")
    parser.add_argument("--examples", type=int, help="fewer training examples, for a trial")
    parser.add_argument("--retrainings", type=int, help="of datamodels; by default those of equal cost, at most 2,000")
    parser.add_argument("--cache", metavar="FOLDER", help="keep sketches and retrainings there for the next time")
    parser.add_argument("--plot", metavar="FILE", help="error against cost, drawn with matplotlib")
    options = parser.parse_args(argv)
    budgets = options.directions or ([64, 256, 1024, 4096] if options.full else [256])
    subsets = options.subsets or (96 if options.full else 32)
    cache = Cache(None if options.cache is None else Path(options.cache))
    report = Report("accuracy", options, {"directions": budgets, "subsets": subsets, "order": ORDER})
    numbers: list[dict[str, Any]] = []
    for name in options.runs:
        now = case(name, subsets, options.examples, options.seed)
        pushed = push_all(now, max(budgets), cache)
        costs = ", ".join(f"{what} {number:.3g}" for what, number in pushed.cost.items())
        report.say(f"{name}: CPU seconds of one training, and others in trainings: {costs}")
        equal = int(pushed.cost["singles"] + min(max(budgets), FITTED) * pushed.cost["direction"])
        count = options.retrainings or max(32, min(equal, 2000))
        singly = cache.truth(now, "one by one", np.eye(now.run.n, dtype=bool))
        from_retrainings = {
            "retrained singly": (one_by_one(now, singly), now.run.n),
            "datamodels": (datamodels(now, count, cache), count),
        }
        for kind, masks in now.kinds.items():
            truth = cache.truth(now, kind, masks)
            for m in budgets:
                made = methods(now, pushed, m, masks, singly)
                first = made["first order"][0]
                base = score(first, truth, masks).rmse
                scored = {method: (score(p, truth, masks), cost) for method, (p, cost) in made.items()}
                unknown = np.full(truth.shape, np.inf)  # sums of retrainings say no error
                for method, (model, cost) in from_retrainings.items():
                    silent = replace(first, value=model(masks), stderr=unknown, estimator=method)
                    scored[method] = score(silent, truth, None), cost
                some = [entry(name, kind, m, method, *scored[method][::-1], base) for method in scored]
                numbers += some
                scores = ", ".join(f"{cell['method']} {said(cell['rmse'])}" for cell in some)
                report.say(f"{name}, {kind}, {m} directions: {scores}")
        if name == "names":
            fitted = whole_query(now, pushed, min(max(budgets), 512))
            report.numbers["a_second"] = speeds = predictions_a_second(fitted)
            report.add_table(speed_table(speeds, len(fitted.coefficients), now.run.n))
    report.numbers["cells"] = numbers
    report.add_table(methods_table(numbers, max(m for m in budgets if m <= FITTED or m == min(budgets))))
    report.add_table(budgets_table(numbers, budgets))
    report.numbers["theory"] = found = in_theory(options.examples)
    report.add_table(theory_table(found))
    if options.plot:
        plot(numbers, found, options.plot)
    return report.finish()


METHODS = (
    *("plain sketch", "orthonormal", "first order", "singles", "interactions", PLUS, "retrained singly", "datamodels"),
)
OF_DIRECTIONS = ("plain sketch", "orthonormal", "interactions")  # what depends on how many random ones there are


def entry(run: str, kind: str, m: int, method: str, cost: float, found: Evaluation, first: float) -> dict[str, Any]:
    """One cell as numbers."""
    inside = found.where(found.trusted)[0.95]
    about = {"run": run, "kind": kind, "directions": m, "method": method, "cost": cost}
    covered = inside if np.isfinite(inside) else None
    return about | found.to_dict() | {"over_first_order": found.rmse / first, "covered_where_trusted": covered}


def said(x: float | None) -> str:
    return "-" if x is None else f"{x:.3f}"[: 5 if abs(x) < 10 else 4]


def cells_of(numbers: list[dict[str, Any]]) -> dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]]:
    """The cells by run and kind of deletion, then by method and directions."""
    found: dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]] = {}
    for cell in numbers:
        found.setdefault((cell["run"], cell["kind"]), {})[cell["method"], cell["directions"]] = cell
    return found


def methods_table(numbers: list[dict[str, Any]], m: int) -> str:
    """Every method but the plain ones, with m directions."""
    shown = [method for method in METHODS if method not in ("plain sketch", "orthonormal")]
    rows = []
    for (run, kind), by in cells_of(numbers).items():
        scores = [f"{said(by[name, m]['lds'])}, {said(by[name, m]['rmse'])}" for name in shown if (name, m) in by]
        best = by.get(("interactions", m))
        if best is None:
            continue
        goal = f" ({GOALS[kind]})" if run == "names" and kind in GOALS else ""
        covered = best["covered_where_trusted"]
        shares = [f"{best['trusted']:.0%}", "-" if covered is None else f"{covered:.1%}"]
        exact = by["retrained singly", m]["rmse"]
        alone = said(best["rmse"] / exact if exact else None)  # one example alone: nothing to be off by
        over = f"{best['over_first_order']:.2f}, {by[PLUS, m]['over_first_order']:.2f}{goal}"
        rows.append([run, kind, *scores, over, alone, *shares])
    head = ["run", "deletions", *shown, f"over first, + {ALONE} (goal)", "over singly", "no warning", "covered"]
    return f"LDS, RMSE over the truth's deviation, of each method, with {m} random directions:\n\n{table(rows, head)}"


def budgets_table(numbers: list[dict[str, Any]], budgets: list[int]) -> str:
    """RMSE over the truth's deviation by the number of random directions."""
    columns = [(method, m) for method in OF_DIRECTIONS for m in budgets]
    by_kind = cells_of(numbers)
    columns = [column for column in columns if any(column in by for by in by_kind.values())]
    rows = [
        [run, kind, *(said(by[column]["rmse"]) if column in by else "-" for column in columns)]
        for (run, kind), by in by_kind.items()
    ]
    head = ["run", "deletions", *(f"{method}, {m}" for method, m in columns)]
    return f"RMSE over the truth's deviation, by the number of random directions:\n\n{table(rows, head)}"


def plot(numbers: list[dict[str, Any]], theory: dict[str, Any], file: str) -> None:
    """RMSE against cost in trainings, a panel a kind of deletion of each run; the theorem's rate, error by order."""
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
    pattern.set_title(f"the series cut off, names with {theory['letters']!r}", fontsize=9)
    pattern.set_xlabel("order")
    for axis in axes.flat[len(panels) + 2 :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
