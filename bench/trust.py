"""Whether answers can be relied on: intervals, warnings and rankings against retraining, on runs that look like users'.

    python bench/trust.py                        # 128 directions, 64 subsets a cell: two minutes
    python bench/trust.py --full --write         # 512 directions, 200 subsets a cell: five minutes
    python bench/trust.py --cache FOLDER         # keeps sketches and retrainings; the next time goes on from them
    python bench/trust.py --quick                # two runs and few subsets, a trial

A cell is a run and a kind of deletion: one example, 5 %, 20 % or half of them at random, or alike ones. Each subset is
asked about on its own, so that the warnings counted are those that a user sees. A truth is a retrained model, measured.
An estimator, or a query that is prepared in another way, is one line in METHODS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import chosen
from report import Report, add_options, table
from trust_runs import RUNS, Draw, UserRun

import circuitsketch as cs
from circuitsketch.attribution.evaluation import rank_correlation
from circuitsketch.report.retraining import digest_measurement, retrain_subsets
from circuitsketch.store.fingerprint import digest, fingerprint_of

ORDER = 3
SIZES = {"1": 0.0, "5 %": 0.05, "20 %": 0.2, "half": 0.5}  # as shares of the examples
TRIES = 20  # draws per subset, before a kind counts as having no more different ones
CALIBRATION = 48  # subsets of a kind that a method may know
USEFUL = 0.5  # of the truth's deviation over a cell: a good prediction is off by less
FEWEST = 20  # unwarned answers, misses or good predictions that a share is judged by
COVERED, CAUGHT, ALARMED, RMSE = (0.9, 0.99), 0.9, 0.25, 1.05  # goals

# ------------------------------------------------------------------------------------------------ what is asked


@dataclass(frozen=True)
class Kind:
    """A kind of deletion of a run of n examples."""

    n: int
    draw_one: Draw

    def draw(self, count: int, seed: int) -> np.ndarray:
        """Draw at most so many different subsets, masks (subsets, n)."""
        rng, different = np.random.default_rng(seed), {}
        for _ in range(TRIES * count):
            if len(different) < count:
                different[tuple(sorted(int(i) for i in self.draw_one(rng)))] = None
        return chosen(list(different), self.n, count, rng)


def list_kinds(user: UserRun) -> dict[str, Kind]:
    """Return the kinds of deletion that a run is asked about: so many at random, and alike ones."""
    n = user.run.n

    def at_random(size: int) -> Draw:
        return lambda rng: rng.permutation(n)[:size]

    sizes = {name: at_random(max(1, round(share * n))) for name, share in SIZES.items()}
    return {name: Kind(n, draw) for name, draw in (sizes | user.alike).items()}


@dataclass(frozen=True)
class Asked:
    """What a method may use: a measured sketch, what `cs.attribute` knows of the measurement, and some subsets of the
    kind that will be asked about, which were retrained: masks (CALIBRATION, n), and their truths."""

    query: cs.Query
    attributed: cs.Query
    masks: np.ndarray
    truth: np.ndarray


Answer = Callable[[np.ndarray], cs.Prediction]  # of a mask


def calibrate(query: cs.Query, asked: Asked) -> Answer:
    """Return the answer of a query calibrated on the retrained subsets; as it is, where these delete one example each
    and are known exactly."""
    if asked.masks.sum(axis=1).max() == 1 and query.influence().stderr.max() == 0:
        return query.without
    return query.calibrate(asked.masks, truth=asked.truth).without


METHODS: dict[str, Callable[[Asked], Answer]] = {
    "interactions": lambda asked: asked.query.without,
    "per-example": lambda asked: partial(asked.query.without, estimator="per-example"),
    "first-order": lambda asked: partial(asked.query.without, estimator="first-order"),
    "theorem": lambda asked: partial(asked.query.without, estimator="theorem"),
    "evidence": lambda asked: asked.query.with_evidence(asked.masks, asked.truth).without,
    "calibrated": lambda asked: calibrate(asked.query, asked),
    "attribute": lambda asked: calibrate(asked.attributed, asked),
    "attribute, mixed": lambda asked: asked.attributed.without,
}


@dataclass(frozen=True)
class Answers:
    """Predictions of B subsets and K measurements, (B, K) each; NaN where a prediction was refused, with a warning."""

    value: np.ndarray
    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray
    warned: np.ndarray

    @staticmethod
    def collect(methods: list[Answer], masks: np.ndarray) -> Answers:
        """Ask a method's answer of each measurement about each subset."""
        numbers = np.full((5, len(masks), len(methods)), np.nan)
        numbers[4] = 1.0
        for k, answer in enumerate(methods):
            for b, mask in enumerate(masks):
                try:
                    prediction = answer(mask)
                except cs.DivergenceError:
                    continue
                interval = prediction.interval(0.95)
                numbers[:, b, k] = prediction.value, prediction.stderr, *interval, bool(prediction.warnings)
        return Answers(*numbers[:4], numbers[4].astype(bool))


# ------------------------------------------------------------------------------------------------ scores


def compute_share(what: np.ndarray, among: np.ndarray) -> float | None:
    """Return the share of some among others, or None where those are fewer than FEWEST."""
    return float(what[among].mean()) if among.sum() >= FEWEST else None


def score(answers: Answers, truth: np.ndarray) -> dict[str, Any]:
    """Compare answers with the truths, (B, K); bench/README.md defines each number."""
    error, spread = np.abs(answers.value - truth), truth.std(axis=0)
    rounding = 1e-9 * (spread + np.abs(truth))
    inside = (answers.low - rounding <= truth) & (truth <= answers.high + rounding)
    missed = ~(error <= 3 * answers.stderr + rounding) & np.isfinite(answers.value)
    good = inside & (error <= USEFUL * spread)
    answered = np.isfinite(answers.value).all(axis=1)
    varying = spread > 0
    with np.errstate(all="ignore"):
        rmse = np.sqrt((error[answered] ** 2).mean(axis=0))[varying] / spread[varying]
        lds = rank_correlation(answers.value[answered], truth[answered])
    return {
        "truths": truth.size,
        "refused": float(1 - np.isfinite(answers.value).mean()),
        "unwarned": float((~answers.warned).mean()),
        "covered": compute_share(inside, ~answers.warned),
        "misses": int(missed.sum()),
        "misses_warned": compute_share(answers.warned, missed),
        "good": int(good.sum()),
        "good_warned": compute_share(answers.warned, good),
        "rmse": float(rmse.mean()) if answered.any() and varying.any() else None,
        "lds": float(lds) if np.isfinite(lds) else None,
    }


# ------------------------------------------------------------------------------------------------ the bench


@dataclass(frozen=True)
class Bench:
    """The settings of a bench; without a folder nothing is kept."""

    directions: int
    subsets: int
    folder: Path | None

    def locate(self, *about: Any) -> Path | None:
        """Return the folder of what depends on these, and on nothing else."""
        return None if self.folder is None else self.folder / digest([str(x) for x in about])[:16]

    def retrain(self, user: UserRun, masks: np.ndarray) -> np.ndarray:
        """Retrain without each subset and return every measurement, (B, K)."""

        def measure_all(params: Any) -> Any:
            return np.stack([measurement(params) for measurement in user.measurements])

        key = fingerprint_of(user.run), digest_measurement(user.run, measure_all), np.packbits(masks).tobytes()
        shape = (len(user.measurements),)
        return retrain_subsets(
            user.run, masks, measure_all, shape=shape, what="trust", folder=self.locate("truths", *key)
        )

    def measure(self, user: UserRun) -> list[cs.Query]:
        """Sketch as a user would, with every example's own series, and measure."""
        path = self.locate("sketch", fingerprint_of(user.run), self.directions)
        sketch = cs.sketch(user.run, self.directions, ORDER, per_example="series", path=path)
        return [sketch.measure(measurement) for measurement in user.measurements]

    def attribute(self, user: UserRun) -> list[cs.Query]:
        """Attribute each measurement with a budget of first order, the calibration, and every example's own effect."""
        budget = user.run.n + CALIBRATION
        return [cs.attribute(user.run, measurement, budget=budget) for measurement in user.measurements]

    def score_cells(self, name: str) -> list[dict[str, Any]]:
        """Score every method on every kind of deletion of a run."""
        user = RUNS[name]()
        queries = list(zip(self.measure(user), self.attribute(user), strict=True))
        cells = []
        for number, (what, kind) in enumerate(list_kinds(user).items()):
            masks = kind.draw(CALIBRATION + self.subsets, seed=number)
            truth = self.retrain(user, masks)
            known, masks, known_truth, truth = masks[:CALIBRATION], masks[CALIBRATION:], *np.split(truth, [CALIBRATION])
            unchanged = np.broadcast_to([query.baseline for query, _ in queries], truth.shape)
            nothing = Answers(*[unchanged] * 4, np.zeros(truth.shape, dtype=bool))
            cell = {"run": name, "kind": what, "size": float(masks.sum(axis=1).mean())}
            methods = {"no change": score(nothing, truth)}
            for method, prepare in METHODS.items():
                answers = [prepare(Asked(*both, known, known_truth[:, k])) for k, both in enumerate(queries)]
                methods[method] = score(Answers.collect(answers, masks), truth)
            cells.append(cell | {"methods": methods})
        return cells


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--runs", nargs="+", choices=RUNS, metavar="RUN", help=f"some of: {', '.join(RUNS)}")
    parser.add_argument("--directions", type=int, help="random directions of a sketch")
    parser.add_argument("--subsets", type=int, help="subsets of a kind")
    parser.add_argument("--cache", metavar="FOLDER", help="keep sketches and retrainings there for the next time")
    parser.add_argument("--quick", action="store_true", help="two runs and few subsets, a trial")
    options = parser.parse_args(argv)
    directions, subsets = (512, 200) if options.full else (16, 24) if options.quick else (128, 64)
    folder = None if options.cache is None else Path(options.cache)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.directions or directions, options.subsets or subsets, folder)
    settings = {"directions": bench.directions, "subsets": bench.subsets, "order": ORDER}
    report = Report("trust", options, settings)
    cells: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for name in options.runs or (["poisson", "users"] if options.quick else RUNS):
        try:
            cells += bench.score_cells(name)
        except (cs.DivergenceError, cs.DomainError) as reason:
            refused[name] = f"{type(reason).__name__}: {reason}"
        report.say(f"{name}: {refused.get(name) or format_accuracy(cells[-1]['methods']['interactions'])}")
    report.numbers |= {"cells": cells, "refused": refused}
    report.add_table(summarise_cells(cells))
    report.add_table(
        "Coverage of unwarned answers (goal: 90 to 99 %) and their share, RMSE over the truth's deviation, LDS; of no "
        f"change, the RMSE:\n\n{tabulate_cells(cells, format_accuracy)}"
    )
    report.add_table(
        "Warnings: the share of misses beyond three errors that carry one (goal: at least 90 %), that of good "
        f"predictions (goal: at most 25 %), and how many there are of each:\n\n{tabulate_cells(cells, format_warnings)}"
    )
    if refused:
        report.add_table("Refused:\n\n" + table([[*one] for one in refused.items()], ["run", "error"]))
    return report.finish()


# ------------------------------------------------------------------------------------------------ tables


def format_share(share: float | None, good: bool = True) -> str:
    """Format a share, in bold where it misses its goal."""
    return "-" if share is None else f"{share:.0%}" if good else f"**{share:.0%}**"


def format_number(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x:.2f}" if abs(x) < 10 else f"{x:.0f}" if abs(x) < 1000 else f"{x:.0e}"


def format_coverage(scores: dict[str, Any]) -> str:
    """Format the coverage of the unwarned answers, and the share of these."""
    share = scores["covered"]
    return f"{format_share(share, share is None or share >= COVERED[0])} of {format_share(scores['unwarned'])}"


def format_accuracy(scores: dict[str, Any]) -> str:
    """Format coverage, RMSE and LDS of a method in a cell."""
    refused = f", {format_share(scores['refused'])} refused" if scores["refused"] else ""
    return f"{format_coverage(scores)}, {format_number(scores['rmse'])}, {format_number(scores['lds'])}{refused}"


def format_warnings(scores: dict[str, Any]) -> str:
    """Format the share of misses that are warned, and that of good predictions."""
    caught, alarmed = scores["misses_warned"], scores["good_warned"]
    return (
        f"{format_share(caught, caught is None or caught >= CAUGHT)} of {scores['misses']}, "
        f"{format_share(alarmed, alarmed is None or alarmed <= ALARMED)} of {scores['good']}"
    )


def is_sharp(cell: dict[str, Any], method: str) -> bool:
    """Return whether a method's RMSE is at most RMSE times that of the better of no change and first order."""
    errors = {name: scores["rmse"] for name, scores in cell["methods"].items() if scores["rmse"] is not None}
    return method in errors and errors[method] <= RMSE * min(
        errors[name] for name in ("no change", "first-order") if name in errors
    )


def summarise_cells(cells: list[dict[str, Any]]) -> str:
    """Tabulate how many cells reach the goals, by method."""
    low, high = COVERED
    rows = []
    for method in METHODS:
        scores = [cell["methods"][method] for cell in cells]
        coverages, caught, alarmed = (
            [one[key] for one in scores if one[key] is not None] for key in ("covered", "misses_warned", "good_warned")
        )
        within = [sum(x < low for x in coverages), sum(low <= x <= high for x in coverages)]
        numbers = [*within, sum(x > high for x in coverages), len(scores) - len(coverages)]
        shares = [(sum(x >= CAUGHT for x in caught), caught), (sum(x <= ALARMED for x in alarmed), alarmed)]
        shares.append((sum(is_sharp(cell, method) for cell in cells), cells))
        rows.append([method, *map(str, numbers), *(f"{count} of {len(judged)}" for count, judged in shares)])
    head = ["method", f"covered < {low:.0%}", f"{low:.0%} to {high:.0%} (goal)", f"> {high:.0%}"]
    head += [f"fewer than {FEWEST} unwarned", f"misses warned >= {CAUGHT:.0%}", f"good warned <= {ALARMED:.0%}"]
    head.append(f"RMSE <= {RMSE} of the better of no change and first order")
    return f"How many of {len(cells)} cells reach the goals:\n\n{table(rows, head)}"


def tabulate_cells(cells: list[dict[str, Any]], format_scores: Callable[[dict[str, Any]], str]) -> str:
    """Tabulate every cell by every method."""
    rows = [
        [
            *(cell["run"], cell["kind"], f"{cell['size']:.0f}", str(cell["methods"]["no change"]["truths"])),
            *(
                format_number(cell["methods"]["no change"]["rmse"]),
                *(format_scores(cell["methods"][name]) for name in METHODS),
            ),
        ]
        for cell in cells
    ]
    return table(rows, ["run", "deleted", "mean size", "truths", "no change", *METHODS])


if __name__ == "__main__":
    main()
