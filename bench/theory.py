"""What the theory says, measured: the rate of the theorem's estimator, and the error of the series by order; and how
many predictions a second a fitted query makes."""

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
from circuitsketch.attribution.ground_truth import retrained
from circuitsketch.attribution.query import Query
from circuitsketch.directions import Distribution, find_distribution
from circuitsketch.estimators import monte_carlo
from circuitsketch.report.figures import PAPER
from circuitsketch.zoo import microgpt

RATE = (64, 128, 256, 512, 1024, 2048, 4096)
ORDER, LAST = 3, 6
AT_ONCE = 4000  # subsets asked about in one call
ASKED = (0.001, 0.01, 0.05, 0.1, 0.3)


def in_theory(examples: int | None = None) -> dict[str, Any]:
    """Errors of the theorem's estimator by directions, and of the exact series along one deletion by its last order.

    The first on tumours, single deletions, directions of the sphere and plain means, all the directions being cut into
    sets of each size; over the root mean square of the true changes. The second is the paper's Figure 2 at full
    strength: names with a letter, the loss on one name, over the true change.
    """
    now = case("tumours", 32, examples)
    h = now.kinds["random 0.1 %"].astype(np.float64)
    change = retrained(now.run, h, now.measure, (), 1) - now.measure(now.run.params(now.run.train()))
    distribution = find_distribution("sphere", now.run.n, 0)
    sketch = cs.sketch(now.run, RATE[-1], ORDER, seed=0, distribution="sphere", threads=1)
    factors = np.array([distribution.log_factor(r) for r in range(1, ORDER + 1)])
    inner = monte_carlo.inner_products(distribution.block(0, RATE[-1]), h)
    samples = monte_carlo.contributions(sketch.measure(now.measure).coefficients, inner, factors).sum(axis=0)
    means = (samples.reshape(len(h), -1, m, change.shape[1]).mean(axis=2) for m in RATE)
    errors = [float(np.sqrt(((mean - change[:, None]) ** 2).mean() / (change**2).mean())) for mean in means]
    slope = float(np.polyfit(np.log(RATE), np.log(errors), 1)[0])
    return {"directions": list(RATE), "errors": errors, "slope": slope, **by_order(examples)}


def by_order(examples: int | None) -> dict[str, Any]:
    """Errors of the series along the deletion of names with a letter, cut off after orders 1 to 6, over the change."""
    docs = PAPER.docs[:examples]
    run = microgpt.training(docs, seed=PAPER.seed, alphabet=microgpt.ALPHABET)
    letters = PAPER.letters if any(PAPER.letters in doc for doc in docs) else docs[0][0]  # few names may lack it
    h = np.array([[float(letters in doc) for doc in docs]])
    series = cs.push(run, h, LAST, threads=1).measure(microgpt.loss, PAPER.measured).coefficients[0].real
    truth = float(microgpt.loss(run.params(run.retrain(h[0])), PAPER.measured))
    errors = np.abs(np.cumsum(series)[1:] - truth) / abs(truth - series[0])
    return {"letters": letters, "by_order": errors.tolist()}


def theory_table(found: dict[str, Any]) -> str:
    """Both in Markdown."""
    rate = [[str(m), f"{error:.3f}"] for m, error in zip(found["directions"], found["errors"], strict=True)]
    orders = [[str(r), f"{error:.3f}"] for r, error in enumerate(found["by_order"], start=1)]
    return (
        f"The theorem's estimator on single tumours (slope of the error against directions {found['slope']:.2f}, the "
        f"theorem's is -0.5):\n\n{table(rate, ['directions', 'error over change'])}\n\n"
        f"The exact series without names with {found['letters']!r}, cut off (the paper's Figure 2, full strength):\n\n"
        f"{table(orders, ['last order', 'error over change'])}"
    )


def predictions_a_second(query: Query) -> dict[str, dict[str, float]]:
    """By what is measured (one value, all) and by share deleted: predictions a CPU second of `query.without`.

    In a process of its own, whose linear algebra has one thread: a second one that waits would count as work."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1"))
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            arrays = query.coefficients, query.per_example, query.similarity
            return pool.submit(asked_of, query.distribution, *arrays).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def asked_of(
    distribution: Distribution, coefficients: np.ndarray, per_example: np.ndarray, similarity: np.ndarray
) -> dict[str, dict[str, float]]:
    """What `predictions_a_second` returns, here."""
    rng, found = np.random.default_rng(0), {}
    for count in (1, per_example.shape[2]):
        asked = Query(
            coefficients[:, :, :count], distribution, per_example=per_example[:, :, :count], similarity=similarity
        )
        speeds = found[str(count)] = {}
        for share in ASKED:
            masks = rng.random((AT_ONCE, asked.n)).argsort(axis=1) < max(1, round(share * asked.n))
            asked.without(masks[:64])
            speeds[str(share)] = AT_ONCE / min(timed(lambda: asked.without(masks)).cpu for _ in range(3))  # noqa: B023
    return found


def speed_table(found: dict[str, dict[str, float]], directions: int, n: int) -> str:
    """In Markdown."""
    rows = [
        [f"{100 * float(share):g} %", *(f"{speeds[share]:,.0f}" for speeds in found.values())]
        for share in next(iter(found.values()))
    ]
    head = ["deleted", *(f"{count} value{'s' * (count != '1')} measured" for count in found)]
    return (
        f"Predictions a CPU second once measured, masks in one array, {directions} directions, n = {n} "
        f"(goal: 20,000):\n\n{table(rows, head)}"
    )
