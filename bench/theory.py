"""Measure what the theory predicts: the rate of the theorem's estimator, and the error of the series by order.

Also measures the predictions per second of a fitted query.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from cases import case
from report import table
from timing import timed

import circuitsketch as cs
from circuitsketch.attribution.ground_truth import retrain_and_measure
from circuitsketch.attribution.query import Query
from circuitsketch.directions import Distribution, find_distribution
from circuitsketch.estimators import monte_carlo
from circuitsketch.report.figures import PAPER
from circuitsketch.zoo import microgpt

RATE = (64, 128, 256, 512, 1024, 2048, 4096)
ORDER, LAST = 3, 6
BATCH = 4000  # subsets per call
SHARES = (0.001, 0.01, 0.05, 0.1, 0.3)


def measure_theory(examples: int | None = None) -> dict[str, Any]:
    """Measure the error of the theorem's estimator by directions, and of the exact series along one deletion by order.

    The first is on tumours, with single deletions, directions on the sphere and plain means, over disjoint sets of
    directions of each size, relative to the root mean square of the true changes. The second is the paper's Figure 2 at
    full strength: names with a letter, the loss on one name, relative to the true change.
    """
    now = case("tumours", 32, examples)
    h = now.kinds["random 0.1 %"].astype(np.float64)
    change = retrain_and_measure(now.run, h, now.measure, (), 1) - now.measure(now.run.params(now.run.train()))
    distribution = find_distribution("sphere", now.run.n, 0)
    sketch = cs.sketch(now.run, RATE[-1], ORDER, seed=0, distribution="sphere", threads=1)
    factors = np.array([distribution.log_factor(r) for r in range(1, ORDER + 1)])
    inner = monte_carlo.inner_products(distribution.block(0, RATE[-1]), h)
    samples = monte_carlo.contributions(sketch.measure(now.measure).coefficients, inner, factors).sum(axis=0)
    means = (samples.reshape(len(h), -1, m, change.shape[1]).mean(axis=2) for m in RATE)
    errors = [float(np.sqrt(((mean - change[:, None]) ** 2).mean() / (change**2).mean())) for mean in means]
    slope = float(np.polyfit(np.log(RATE), np.log(errors), 1)[0])
    return {"directions": list(RATE), "errors": errors, "slope": slope, **measure_by_order(examples)}


def measure_by_order(examples: int | None) -> dict[str, Any]:
    """Measure the relative error of the series along the deletion of names with a letter, for orders 1 to 6."""
    docs = PAPER.docs[:examples]
    run = microgpt.training(docs, seed=PAPER.seed, alphabet=microgpt.ALPHABET)
    letters = PAPER.letters if any(PAPER.letters in doc for doc in docs) else docs[0][0]  # few names may lack it
    h = np.array([[float(letters in doc) for doc in docs]])
    series = cs.push(run, h, LAST, threads=1).measure(microgpt.loss, PAPER.measured).coefficients[0].real
    truth = float(microgpt.loss(run.params(run.retrain(h[0])), PAPER.measured))
    errors = np.abs(np.cumsum(series)[1:] - truth) / abs(truth - series[0])
    return {"letters": letters, "by_order": errors.tolist()}


def theory_table(theory: dict[str, Any]) -> str:
    """Format both in Markdown."""
    rate = [[str(m), f"{error:.3f}"] for m, error in zip(theory["directions"], theory["errors"], strict=True)]
    orders = [[str(r), f"{error:.3f}"] for r, error in enumerate(theory["by_order"], start=1)]
    rates, errors = table(rate, ["directions", "relative error"]), table(orders, ["last order", "relative error"])
    return (
        f"The theorem's estimator on single tumours (slope of the error against directions {theory['slope']:.2f}, -0.5 "
        f"in theory):\n\n{rates}\n\nThe exact series without names with {theory['letters']!r}, truncated (the paper's "
        f"Figure 2, at full strength):\n\n{errors}"
    )


def time_predictions(query: Query) -> dict[str, dict[str, float]]:
    """Measure the predictions per CPU second of `query.without`, by number of measured values and share deleted.

    Runs in a separate process with single-threaded linear algebra, since waiting threads would count as work.
    """
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1"))
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            arrays = query.coefficients, query.per_example, query.similarity
            return pool.submit(time_query, query.distribution, *arrays).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def time_query(
    distribution: Distribution, coefficients: np.ndarray, per_example: np.ndarray, similarity: np.ndarray
) -> dict[str, dict[str, float]]:
    """Measure the predictions per CPU second in this process."""
    rng, speeds_by_count = np.random.default_rng(0), {}
    for count in (1, per_example.shape[2]):
        query = Query(
            coefficients[:, :, :count], distribution, per_example=per_example[:, :, :count], similarity=similarity
        )
        speeds = speeds_by_count[str(count)] = {}
        for share in SHARES:
            masks = rng.random((BATCH, query.n)).argsort(axis=1) < max(1, round(share * query.n))
            query.without(masks[:64])
            speeds[str(share)] = BATCH / min(timed(lambda: query.without(masks)).cpu for _ in range(3))  # noqa: B023
    return speeds_by_count


def speed_table(speeds_by_count: dict[str, dict[str, float]], directions: int, n: int) -> str:
    """Format the predictions per second in Markdown."""
    rows = [
        [f"{100 * float(share):g} %", *(f"{speeds[share]:,.0f}" for speeds in speeds_by_count.values())]
        for share in next(iter(speeds_by_count.values()))
    ]
    head = ["deleted", *(f"{count} value{'s' * (count != '1')} measured" for count in speeds_by_count)]
    return (
        f"Predictions per CPU second after measuring, masks in one array, {directions} directions, n = {n} "
        f"(goal: 20,000):\n\n{table(rows, head)}"
    )
