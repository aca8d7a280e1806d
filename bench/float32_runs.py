"""Measure what it means that a user trains in float32 while the package computes primal values in double precision.

    python bench/float32_runs.py            requires JAX: pip install jax
    python bench/float32_runs.py --full --write

The same microgpt is trained in float32 by JAX and in double precision by the package, with all examples and without a
random 5 % of them, several times. The table has the largest difference of a trained parameter, as a share of the
largest parameter; the same for what a deletion changes in the parameters, as a share of its largest change; and the
error of the change of a loss, as a share of the root mean square of that change over the deletions.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from report import Report, Row, add_options

import circuitsketch as cs
from circuitsketch.zoo import microgpt

NAME = "elizabeth"


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


def measure(report: Report, width: int, layers: int, steps: int, subsets: int) -> None:
    """Add the rows of one model."""
    from jax_microgpt import flat

    run = microgpt.training(microgpt.names()[:steps], seed=42, alphabet=microgpt.ALPHABET, width=width, layers=layers)
    rng = np.random.default_rng(0)
    without = np.zeros((subsets + 1, run.n))  # the first row deletes nothing
    for row in without[1:]:
        row[rng.choice(run.n, max(run.n // 20, 1), replace=False)] = 1.0
    keeps = np.stack([1.0 - without[:, ids[0]] for ids in run.examples], axis=1)
    double = flat(run.retrain(without=without, threads=1)["params"], lead=1)
    single = train_in_float32(run, keeps)
    losses = [evaluate(run, vectors) for vectors in (double, single)]
    changes = [values[1:] - values[0] for values in losses]
    moved = [vectors[1:] - vectors[0] for vectors in (double, single)]
    name = f"{double.shape[1]:,} parameters, {steps} steps"
    key = f"p{double.shape[1]}"
    figures = {
        "difference of a parameter": np.abs(double - single).max() / np.abs(double).max(),
        "difference of what a deletion moves": np.abs(moved[0] - moved[1]).max() / np.abs(moved[0]).max(),
        "error of the change of a loss": np.sqrt(np.mean((changes[0] - changes[1]) ** 2) / np.mean(changes[0] ** 2)),
    }
    for i, (what, value) in enumerate(figures.items()):
        report.add(Row(f"{name}: {what}", f"{key}_{i}", float(value), "{:.1e}"))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the measurements and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subsets", type=int, default=8)
    add_options(parser)
    options = parser.parse_args(arguments)
    report = Report("float32_runs", options, {"subsets": options.subsets})
    try:
        import jax
    except ImportError:
        report.say("  skipped: JAX is not installed; pip install jax")
        return report.finish()
    report.machine["jax"] = jax.__version__
    sizes = ((16, 1, 1000), (64, 2, 200)) if options.full else ((16, 1, 100),)
    for width, layers, steps in sizes:
        measure(report, width, layers, steps, options.subsets)
    return report.finish()


if __name__ == "__main__":
    main()
