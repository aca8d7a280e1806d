"""The theorem's estimator by pushed directions against its gradient form: errors against retraining, at equal cost.

Run `python -m bench.gradient_form`; `compare` is for other benches.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import microgpt


@dataclass(frozen=True)
class Row:
    """An estimator's errors: `seconds` of it, `rmse` over the truths' root mean square, `stderr` over the same."""

    estimator: str
    directions: int
    seconds: float
    rmse: float
    stderr: float
    rmse_of_order_2: float  # 0 would be the exact second order


def compare(
    run: cs.Training, function: Any, args: tuple[Any, ...], subsets: np.ndarray, directions: int, seeds: Sequence[int]
) -> list[Row]:
    """Compare the two forms at order 2: gradients along `directions` directions, and as many pushes as take as long.

    subsets : masks or downweights (B, n). seeds : of the directions; figures are means over them.
    """
    weights = np.asarray(subsets, dtype=np.float64)
    retrained = run.params(run.retrain(weights))
    baseline = function(run.params(run.train()), *args)
    truths = np.array([function(take(retrained, i), *args) for i in range(len(weights))]) - baseline
    second = second_order(run, function, args, weights)
    rows: dict[str, list[tuple[float, ...]]] = {"theorem": [], "theorem-gradient": []}
    counts = {"theorem-gradient": directions, "theorem": 0}
    cs.sketch(run, 8, 2).measure(function, *args).with_gradients(8)  # compiled before anything is timed
    for seed in seeds:
        query = cs.sketch(run, 1, 1, seed).measure(function, *args)
        begun = time.perf_counter()
        with_gradients = query.with_gradients(directions)
        took = time.perf_counter() - begun
        begun = time.perf_counter()
        cs.sketch(run, 64, 2, seed)
        each = (time.perf_counter() - begun) / 64
        counts["theorem"] = counts["theorem"] or round(took / each)
        begun = time.perf_counter()
        plain = cs.sketch(run, counts["theorem"], 2, seed).measure(function, *args)
        plain_took = time.perf_counter() - begun
        for name, one, seconds in (("theorem", plain, plain_took), ("theorem-gradient", with_gradients, took)):
            found = one.predict(weights, estimator=name)
            rows[name].append((seconds, rms(found.change - truths), rms(found.stderr), rms(found.terms[1] - second)))
    scale = rms(truths)
    result = []
    for name, figures in rows.items():
        seconds, error, stderr, of_second = np.array(figures).T
        result.append(
            Row(name, counts[name], seconds.mean(), rms(error) / scale, rms(stderr) / scale, rms(of_second) / scale)
        )
    return result


def second_order(run: cs.Training, function: Any, args: tuple[Any, ...], weights: np.ndarray) -> np.ndarray:
    """Return the exact terms of order 2, by pushing the deletions themselves, (B,)."""
    pushed = cs.push(run, weights, order=2).measure(function, *args)
    return pushed.coefficients[:, 2].real


def take(params: Any, i: int) -> Any:
    """Return model i of several."""
    return {name: take(leaf, i) for name, leaf in params.items()} if isinstance(params, dict) else params[i]


def rms(values: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def main(count: int = 1000, directions: int = 64, seeds: int = 3, subsets: int = 20) -> None:
    """Print the comparison for random deletions of names, by their share."""
    run = microgpt.training(microgpt.names()[:count], alphabet=microgpt.ALPHABET)
    rng = np.random.default_rng(0)
    print("share  estimator         directions  seconds  RMSE/scale  +-/scale  RMSE of order 2/scale")
    for share in (0.01, 0.05, 0.1):
        masks = np.array([rng.permutation(count) < share * count for _ in range(subsets)])
        for row in compare(run, microgpt.loss, ("max",), masks, directions, range(seeds)):
            print(
                f"{share:5.0%}  {row.estimator:16s}  {row.directions:10d}  {row.seconds:7.1f}  {row.rmse:10.3f}"
                f"  {row.stderr:8.3f}  {row.rmse_of_order_2:10.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
