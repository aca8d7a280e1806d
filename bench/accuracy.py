"""How right the predictions are: every estimator against retraining, over kinds of deletions and budgets of directions.

    python bench/accuracy.py                      # small: one budget, 32 subsets a kind, a few minutes
    python bench/accuracy.py --full --write       # budgets 64 to 4,096, 128 subsets a kind: hours
    python bench/accuracy.py --plot error.png     # error against cost; needs matplotlib

Three runs: microgpt on 1,000 names, a perceptron on 1,000 digits and a logistic regression on 400 tumours, of the
last two one label in twenty wrong. Truths are retrainings without each subset. A method's cost is in trainings: CPU
seconds of what it pushes or retrains over those of one retraining, of which many are trained together.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from report import Report, add_options, table
from timing import timed

import circuitsketch as cs
from circuitsketch.deletion.evaluation import Evaluation, retrained, score
from circuitsketch.deletion.prediction import Prediction
from circuitsketch.deletion.query import Query
from circuitsketch.sketch.directions import find_law
from circuitsketch.zoo import logistic, microgpt, mlp

SHARES = (0.001, 0.01, 0.05, 0.1, 0.5)
SINGLES_ORDER, ORDER = 6, 3
GOALS = {
    "random 1 %": 0.25,
    "random 5 %": 0.45,
    "random 10 %": 0.55,
    "coherent": 0.62,
}  # of exact first order's RMSE
RUNS = ("names", "digits", "tumours")


@dataclass(frozen=True)
class Case:
    """A run, what is measured of it, and subsets by kind, (B, n) masks."""

    name: str
    run: cs.Training
    measure: Callable[[Any], Any]
    kinds: dict[str, np.ndarray]


def case(name: str, subsets: int, n: int | None = None) -> Case:
    """One of the three runs, with so many subsets a kind."""
    rng = np.random.default_rng(2)
    if name == "names":
        words = microgpt.names()
        asked = words[1000:5000:250]
        docs = words[: n or 1000]
        run = microgpt.training(docs, seed=42, alphabet=microgpt.ALPHABET)
        groups = spelt_alike(docs)
        return Case(
            name,
            run,
            lambda p: np.stack([microgpt.loss(p, word) for word in asked]),
            random_masks(run.n, subsets, rng)
            | {
                "coherent": chosen([g for g in groups if 3 <= len(g) <= 30], run.n, subsets, rng),
                "letter": chosen([g for g in groups if 30 < len(g) <= 400], run.n, subsets, rng),
            },
        )
    model, count = (mlp, 1000) if name == "digits" else (logistic, 400)
    data = model.data(n or count)
    y, classes = data.y.copy(), int(data.y.max()) + 1
    wrong = rng.choice(len(y), len(y) // 20, replace=False)
    y[wrong] = (y[wrong] + rng.integers(1, classes, len(wrong))) % classes
    run = model.training(data.x, y)
    near = [
        neighbours(data.x, y, int(rng.integers(len(y))), int(rng.integers(3, 31))) for _ in range(subsets)
    ]
    bad = [rng.choice(wrong, rng.integers(3, min(31, len(wrong) + 1)), replace=False) for _ in range(subsets)]
    shares = [(c, s) for c in range(classes) for s in (0.25, 0.5, 1.0)]
    whole = [part(np.flatnonzero(y == c), s, rng) for c, s in shares]
    return Case(
        name,
        run,
        lambda p: model.margin(p, data.test_x[:16], data.test_y[:16]),
        random_masks(run.n, subsets, rng)
        | {
            "coherent": chosen(near, run.n, subsets, rng),
            "mislabelled": chosen(bad, run.n, subsets, rng),
            "class": chosen(whole, run.n, subsets, rng),
        },
    )


def random_masks(n: int, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    sizes = {f"random {100 * share:g} %": max(1, round(share * n)) for share in SHARES}
    return {
        kind: chosen([rng.permutation(n)[:size] for _ in range(count)], n, count, rng)
        for kind, size in sizes.items()
    }


def chosen(groups: list[Any], n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many of the groups, in random order, as masks."""
    masks = np.zeros((min(count, len(groups)), n), dtype=bool)
    for mask, i in zip(masks, rng.permutation(len(groups)), strict=False):
        mask[np.asarray(groups[i])] = True
    return masks


def spelt_alike(docs: list[str]) -> list[tuple[int, ...]]:
    """Names that share a letter, a pair of letters, a beginning or an ending, as ids."""
    found: dict[str, set[int]] = {}
    for i, doc in enumerate(docs):
        parts = {doc[a : a + 2] for a in range(len(doc) - 1)} | set(doc)
        parts |= {f"^{doc[:k]}" for k in (1, 2, 3)} | {f"{doc[-k:]}$" for k in (1, 2, 3)}
        for spelling in parts:
            found.setdefault(spelling, set()).add(i)
    return sorted({tuple(sorted(ids)) for ids in found.values()})


def neighbours(x: np.ndarray, y: np.ndarray, i: int, count: int) -> np.ndarray:
    same = np.flatnonzero(y == y[i])
    return same[np.argsort(((x[same] - x[i]) ** 2).sum(axis=1))[:count]]


def part(ids: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(ids)[: max(1, int(share * len(ids)))]


# ------------------------------------------------------------------------------------------------ the methods


@dataclass(frozen=True)
class Pushed:
    """What was made once: coefficients, and their cost in trainings."""

    singles: np.ndarray
    factor: np.ndarray
    random: dict[str, np.ndarray]
    baseline: np.ndarray
    cost: dict[
        str, float
    ]  # of one training, in CPU seconds, and in trainings of "singles", "first order", a "direction"


def push_all(case: Case, budget: int) -> Pushed:
    """The singles, and random directions of both laws."""
    run = case.run
    run.retrain(np.eye(run.n, dtype=bool)[:8], 1)  # compiled before it is timed
    some = np.random.default_rng(0).random((64, run.n)) < 0.1
    one = timed(lambda: run.retrain(some, 1)).cpu / len(some)
    made: dict[str, Any] = {}

    def push(key: str, make: Callable[[], Any]) -> float:
        return timed(lambda: made.__setitem__(key, make())).cpu / one

    singles = push("singles", lambda: cs.push(run, np.eye(run.n), SINGLES_ORDER, threads=1))
    first = push("first", lambda: cs.push(run, np.eye(run.n), 1, threads=1))
    cost = {"training": one, "singles": singles, "first order": first}
    for law in ("orthonormal", "sphere"):
        spent = push(law, lambda law=law: cs.sketch(run, budget, ORDER, seed=0, law=law, threads=1))
        cost["direction"] = spent / budget
    effects = made["first"].state["params"]
    factor = np.concatenate([leaf[:, 1].real.reshape(run.n, -1) for leaf in effects.values()], axis=1)
    random = {law: made[law].measure(case.measure).coefficients for law in ("orthonormal", "sphere")}
    own = made["singles"].measure(case.measure).coefficients.real
    return Pushed(own, factor, random, own[0, 0], cost)


def methods(case: Case, pushed: Pushed, m: int, masks: np.ndarray) -> dict[str, tuple[Prediction, float]]:
    """Every estimator's predictions with m directions, and what they cost in trainings."""
    h, n, cost = masks.astype(np.float64), case.run.n, pushed.cost
    found: dict[str, tuple[Prediction, float]] = {}
    for law, name in (("sphere", "plain sketch"), ("orthonormal", "orthonormal")):
        query = Query(pushed.random[law][:m], find_law(law, n, 0))
        found[name] = query.predict(h, groups=1), m * cost["direction"]
    query = whole_query(case, pushed, m)
    found["first order"] = query.predict(h, estimator="first-order"), cost["first order"]
    found["singles"] = query.predict(h, estimator="singles"), cost["singles"]
    found["interactions"] = query.predict(h), cost["singles"] + m * cost["direction"]
    return found


QUERIES: dict[tuple[str, int], Query] = {}


def whole_query(case: Case, pushed: Pushed, m: int) -> Query:
    """The query of singles and m directions, fitted once."""
    key = (case.name, m)
    if key not in QUERIES:
        law = find_law("orthonormal", case.run.n, 0)
        QUERIES[key] = Query(
            pushed.random["orthonormal"][:m], law, singles=pushed.singles, metric=pushed.factor
        )
    return QUERIES[key]


def datamodels(case: Case, count: int, seed: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression on `count` retrainings without 1 to 10 % at random: from masks to values.

    The penalty is that of the least squared error of retrainings left out, in closed form."""
    rng = np.random.default_rng(seed)
    n = case.run.n
    masks = rng.random((count, n)) < rng.uniform(0.01, 0.1, size=(count, 1))
    truth = retrained(case.run, masks.astype(np.float64), case.measure, (), 1)
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


# ------------------------------------------------------------------------------------------------ the bench


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--directions", nargs="+", type=int, help="budgets of random directions")
    parser.add_argument("--subsets", type=int, help="subsets of a kind")
    parser.add_argument("--examples", type=int, help="fewer training examples, for a trial")
    parser.add_argument(
        "--retrainings", type=int, help="of datamodels; by default those of equal cost, at most 4,000"
    )
    parser.add_argument("--plot", metavar="FILE", help="error against cost, drawn with matplotlib")
    options = parser.parse_args(argv)
    budgets = options.directions or ([64, 128, 256, 512, 1024, 2048, 4096] if options.full else [256])
    subsets = options.subsets or (128 if options.full else 32)
    report = Report("accuracy", options, {"directions": budgets, "subsets": subsets, "order": ORDER})
    rows, numbers = [], []
    for name in options.runs:
        now = case(name, subsets, options.examples)
        pushed = push_all(now, max(budgets))
        said = ", ".join(f"{what} {number:.3g}" for what, number in pushed.cost.items())
        report.say(f"{name}: CPU seconds of one training, and others in trainings: {said}")
        equal = int(pushed.cost["singles"] + max(budgets) * pushed.cost["direction"])
        count = options.retrainings or max(32, min(equal, 4000))
        linear = datamodels(now, count)
        for kind, masks in now.kinds.items():
            truth = retrained(now.run, masks.astype(np.float64), now.measure, (), 1)
            for m in budgets:
                made = methods(now, pushed, m, masks)
                base = score(made["first order"][0], truth, masks)
                trusted = score(made["interactions"][0], truth, masks).trusted.mean()
                scored = {method: (score(p, truth, masks), cost) for method, (p, cost) in made.items()}
                for method, (evaluation, cost) in scored.items():
                    numbers.append(entry(name, kind, m, method, cost, evaluation, base.rmse))
                numbers.append(
                    linear_entry(
                        name, kind, m, count, linear(masks), truth, made["first order"][0], base.rmse
                    )
                )
                rows.append(cells(name, kind, m, numbers[-6:], float(trusted)))
                report.say(" | ".join(rows[-1]))
    report.numbers["cells"] = numbers
    head = ["run", "deletions", "m", *METHODS, "ratio (goal)", "no warning", "covered"]
    report.add_table("LDS, RMSE over the truth's deviation, of each method:\n\n" + table(rows, head))
    if options.plot:
        plot(numbers, options.plot)
    return report.finish()


METHODS = ("plain sketch", "orthonormal", "first order", "singles", "interactions", "datamodels")


def entry(
    run: str, kind: str, m: int, method: str, cost: float, found: Evaluation, first: float
) -> dict[str, Any]:
    """One cell as numbers."""
    inside = found.where(found.trusted)[0.95]
    about = {"run": run, "kind": kind, "directions": m, "method": method, "cost": cost}
    covered = inside if np.isfinite(inside) else None
    return (
        about | found.to_dict() | {"over_first_order": found.rmse / first, "covered_where_trusted": covered}
    )


def linear_entry(
    run: str,
    kind: str,
    m: int,
    count: int,
    values: np.ndarray,
    truth: np.ndarray,
    like: Prediction,
    first: float,
) -> dict[str, Any]:
    """The cell of datamodels, which say no error."""
    from dataclasses import replace

    silent = replace(like, value=values, stderr=np.full(values.shape, np.inf), estimator="datamodels")
    return entry(run, kind, m, "datamodels", count, score(silent, truth, None), first)


def cells(run: str, kind: str, m: int, found: list[dict[str, Any]], trusted: float) -> list[str]:
    """A row of the table."""
    by = {cell["method"]: cell for cell in found}

    def said(x: float | None) -> str:
        return "-" if x is None else f"{x:.3f}"[: 5 if abs(x) < 10 else 4]

    scores = [f"{said(by[name]['lds'])}, {said(by[name]['rmse'])}" for name in METHODS]
    best = by["interactions"]
    goal = f" ({GOALS[kind]})" if run == "names" and kind in GOALS else ""
    covered = best["covered_where_trusted"]
    shares = [f"{trusted:.0%}", "-" if covered is None else f"{covered:.1%}"]
    return [run, kind, str(m), *scores, f"{best['over_first_order']:.2f}{goal}", *shares]


def plot(numbers: list[dict[str, Any]], file: str) -> None:
    """RMSE against cost in trainings, a panel a kind of deletion of each run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys((cell["run"], cell["kind"]) for cell in numbers))
    columns = 4
    lines = -(-len(panels) // columns)
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
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
