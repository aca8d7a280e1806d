"""Measure what training in float32 changes: by a framework, and by the package where a user asks for it.

    python bench/float32_runs.py            the first table requires JAX: pip install jax
    python bench/float32_runs.py --full --write

A microgpt is trained in float32 by JAX and by the package, and in double precision by the package, with all examples
and without a random 5 % of them, several times. The first table has the largest difference of a trained parameter, as a
share of the largest parameter; the same for what a deletion changes in the parameters, as a share of its largest
change; and the error of the change of a loss, as a share of the root mean square of that change over the deletions.

The second table has, on several runs, the error of the change of a loss by retraining in float32: measured from the
plain run in float64, as the package does, and from one in float32; and the CPU seconds of retraining 48 subsets as
lanes of one thread, in both precisions in turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from report import Report, Row, add_options, table
from timing import interleaved, middle, ratio
from workloads import mlp

import circuitsketch as cs
from circuitsketch.zoo import datasets, microgpt
from circuitsketch.zoo import mlp as perceptron

NAME = "elizabeth"
TOGETHER = 48  # subsets that are retrained at a time: six blocks of lanes in float64, three in float32
PRECISIONS = ("float64", "float32")
HEADER = ["run", "deleted", "change of the loss", "error, float64 base", "error, float32 base", "of the change"]
HEADER += ["ms a retraining, float64", "float32", "times faster"]


@dataclass(frozen=True)
class Case:
    """A run, and a loss of its parameters."""

    name: str
    key: str
    run: cs.Training
    loss: Callable[[Any], Any]


def train_in_float32(run: cs.Training, keeps: np.ndarray) -> np.ndarray:
    """Return the parameters, one vector per row of `keeps`, trained by JAX in float32."""
    from jax_microgpt import JaxRun

    found = np.asarray(JaxRun(run).stepwise(keeps)())
    if found.dtype != np.float32:
        raise SystemExit(f"JAX trained in {found.dtype}, not in float32; unset JAX_ENABLE_X64")
    return found.astype(np.float64)


def evaluate(run: cs.Training, vectors: np.ndarray) -> np.ndarray:
    """Return a name's loss in double precision for each vector of parameters."""
    config = microgpt.Config(len(microgpt.ALPHABET) + 1, run.state["params"]["wte"].shape[1], count_layers(run), 4, 16)
    measured = cs.compile(cs.trace(lambda p: microgpt.loss(p, NAME), config.parameters(vectors[0])))
    return np.array([float(measured(config.parameters(vector))) for vector in vectors])


def count_layers(run: cs.Training) -> int:
    """Return the number of layers of a run's model."""
    return sum(name.endswith("attn_wq") for name in run.state["params"])


def root_mean_square(values: np.ndarray) -> float:
    """Return the root of the mean of squares."""
    return float(np.sqrt(np.mean(values**2)))


def measure(report: Report, width: int, layers: int, steps: int, subsets: int) -> None:
    """Add the rows of one model."""
    from jax_microgpt import flat

    run = microgpt.training(microgpt.names()[:steps], seed=42, alphabet=microgpt.ALPHABET, width=width, layers=layers)
    rng = np.random.default_rng(0)
    without = np.zeros((subsets + 1, run.n))  # the first row deletes nothing
    for row in without[1:]:
        row[rng.choice(run.n, max(run.n // 20, 1), replace=False)] = 1.0
    keeps = np.stack([1.0 - without[:, ids[0]] for ids in run.examples], axis=1)
    double, ours = (flat(run.retrain(without=without, threads=1, dtype=kind)["params"], lead=1) for kind in PRECISIONS)
    theirs = train_in_float32(run, keeps)
    # By the package from the plain run in double precision, as it measures changes; by JAX from its own plain run.
    bases = {"JAX": theirs[:1], "the package": double[:1]}
    moves = double[1:] - double[0]
    losses = evaluate(run, double[1:]) - evaluate(run, double[:1])
    name, key, changes = f"{double.shape[1]:,} parameters, {steps} steps", f"p{double.shape[1]}", []
    figures: dict[str, float] = {}
    for trainer, vectors in (("JAX", theirs), ("the package", ours)):
        base = bases[trainer]
        changes.append(evaluate(run, vectors[1:]) - evaluate(run, base))
        off = np.abs(vectors[1:] - base - moves).max() / np.abs(moves).max()
        figures |= {
            f"difference of a parameter, {trainer}": np.abs(double - vectors).max() / np.abs(double).max(),
            f"difference of what a deletion moves, {trainer}": off,
            f"error of the change of a loss, {trainer}": root_mean_square(changes[-1] - losses)
            / root_mean_square(losses),
        }
    apart = root_mean_square(changes[0] - changes[1]) / root_mean_square(losses)
    figures["difference of the change of a loss between the two"] = apart
    for i, (what, value) in enumerate(figures.items()):
        report.add(Row(f"{name}: {what}", f"{key}_{i}", float(value), "{:.1e}"))


def list_cases(full: bool) -> list[Case]:
    """Return the runs of the second table; short ones, if not full."""

    def of_names(width: int, layers: int, steps: int) -> Case:
        words = microgpt.names()[:steps]
        run = microgpt.training(words, seed=42, alphabet=microgpt.ALPHABET, width=width, layers=layers)
        return Case(f"microgpt-{width}, {steps} names", f"gpt{width}", run, lambda p: microgpt.loss(p, NAME))

    images, labels = datasets.digits()
    x, y = np.reshape(images, (len(images), -1))[:50], labels[:50]
    run = mlp(500 if full else 10)
    digits = Case(
        f"digits 64-128-10, GELU and momentum, {run.steps} steps",
        "gelu",
        run,
        lambda p: perceptron.loss(p, x, y).mean(),
    )
    run = perceptron.training(
        width=32, activation="relu", optimiser="adam", learning_rate=0.01, epochs=20 if full else 1
    )
    kinked = Case(f"digits 64-32-10, ReLU and Adam, {run.steps} steps", "relu", run, perceptron.held_out_loss)
    return [of_names(16, 1, 1000), of_names(64, 2, 200), digits, kinked] if full else [of_names(8, 1, 20), kinked]


def compare_precisions(report: Report, case: Case, repeats: int) -> list[list[str]]:
    """Return the rows of one run: single deletions, and deletions of 5 %."""
    run, rng, rows = case.run, np.random.default_rng(1), []
    plain = float(case.loss(run.params(run.train())))
    for deleted, size in (("one", 1), ("5 %", max(run.n // 20, 1))):
        without = np.zeros((TOGETHER, run.n))
        for row in without[1:]:  # the first row deletes nothing
            row[rng.choice(run.n, size, replace=False)] = 1.0
        sides = {kind: partial(run.retrain, without=without, threads=1, dtype=kind) for kind in PRECISIONS}
        timings = interleaved(sides, repeats)
        double, single = (measure_each(case, sides[kind]()) for kind in PRECISIONS)
        truth = double[1:] - plain
        errors = [root_mean_square(single[1:] - base - truth) for base in (plain, single[0])]
        change, speedup = root_mean_square(truth), ratio(timings["float64"], timings["float32"])
        key = f"{case.key}_{'one' if deleted == 'one' else 'share'}"
        report.numbers |= {f"{key}_error": errors[0] / change, f"{key}_speedup": speedup}
        milliseconds = [f"{1e3 * middle(timings[kind]) / TOGETHER:.3g}" for kind in PRECISIONS]
        figures = [f"{change:.2g}", *(f"{error:.1e}" for error in errors), f"{errors[0] / change:.0e}"]
        rows.append([case.name, deleted, *figures, *milliseconds, f"{speedup:.2f}"])
    return rows


def measure_each(case: Case, states: Any) -> np.ndarray:
    """Return the loss of each of several trained models, in double precision."""
    params = case.run.params(states)
    models = ({name: leaf[i] for name, leaf in params.items()} for i in range(TOGETHER))
    return np.array([float(case.loss(model)) for model in models])


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the measurements and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subsets", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    add_options(parser)
    options = parser.parse_args(arguments)
    report = Report("float32_runs", options, {"subsets": options.subsets, "repeats": options.repeats})
    try:
        import jax
    except ImportError:
        report.say("  the first table is skipped: JAX is not installed; pip install jax")
    else:
        report.machine["jax"] = jax.__version__
        for width, layers, steps in ((16, 1, 1000), (64, 2, 200)) if options.full else ((16, 1, 100),):
            measure(report, width, layers, steps, options.subsets)
    rows = [row for case in list_cases(options.full) for row in compare_precisions(report, case, options.repeats)]
    report.add_table(f"Retraining in float32 by the package, 47 deletions each:\n\n{table(rows, HEADER)}")
    return report.finish()


if __name__ == "__main__":
    main()
