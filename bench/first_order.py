"""Where first order breaks, what higher orders save, and what a calibration says: two tests of metagradients.

    python bench/first_order.py            # 32 subsets, 384 names
    python bench/first_order.py --full     # 64 subsets, 1,024 names

The weight-step test moves the weights of all examples along the metagradient of one loss, further and further, and
compares the change that is predicted with that of the retrained model. The batch-size test trains one small GPT on
minibatches of 256 to 8 names, as many epochs and the same learning rate each, and compares predictions for random
deletions with retraining. Orders 1 to 3 are the exact series along each deletion: no estimate of them can do better.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from report import Report, add_options, table

import circuitsketch as cs
from circuitsketch.attribution.evaluation import rank_correlation
from circuitsketch.attribution.ground_truth import retrain_and_measure
from circuitsketch.zoo import microgpt

BATCHES = (256, 64, 16, 8)
STEPS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # the largest change of a weight
LENGTH, HEADS, EPOCHS, RATE = 8, 4, 3, 0.01
KNOWN = 24  # subsets of a calibration
SHARES = (0.05, 0.2)
BUDGET = 200  # of the queries
ASKED = ("elizabeth", "jonathan", "madison", "tyler")


def cut_words(words: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, targets, and weights whose sum over the positions of a word is 1, (words, LENGTH) each."""
    boundary = len(microgpt.ALPHABET)
    tokens = np.full((len(words), LENGTH), boundary)
    targets, weights = tokens.copy(), np.zeros(tokens.shape)
    for i, word in enumerate(words):
        read, predicted = microgpt.encode(word, microgpt.ALPHABET, LENGTH)
        tokens[i, : len(read)], targets[i, : len(read)] = read, predicted
        weights[i, : len(read)] = 1 / len(read)
    return tokens, targets, weights


def compute_losses(params: Any, tokens: Any, targets: Any, weights: Any) -> Any:
    """The mean cross-entropy of each word, (words,): microgpt with an axis of words before its own."""
    words, width = tokens.shape[0], params["wte"].shape[1]
    part = {name: params[f"layer0.{name}"] for name in microgpt.LAYER_PARTS}
    x = microgpt.normalise(cs.take(params["wte"], tokens, axis=0) + params["wpe"])
    h = microgpt.normalise(x)
    split = (words, LENGTH, HEADS, width // HEADS)
    queries, keys, values = (np.reshape(h @ part[f"attn_w{c}"].T, split) for c in "qkv")
    scores = np.einsum("nqhd,nkhd->nhqk", queries * (width // HEADS) ** -0.5, keys)
    attention = cs.softmax(np.where(np.tri(LENGTH, dtype=bool), scores, microgpt.MASKED), axis=-1)
    mixed = np.einsum("nhqk,nkhd->nqhd", attention, values)
    x = x + np.reshape(mixed, (words, LENGTH, width)) @ part["attn_wo"].T
    x = x + cs.gelu(microgpt.normalise(x) @ part["mlp_fc1"].T) @ part["mlp_fc2"].T
    return (cs.cross_entropy(x @ params["lm_head"].T, targets) * weights).sum(axis=-1)


def train_on(words: list[str], size: int) -> cs.Training:
    """The training of the GPT on minibatches of so many words, every epoch in a new order."""

    def step(state: Any, batch: Any, keep: Any) -> Any:
        grads = cs.grad(lambda params: (keep * compute_losses(params, *batch)).mean())(state["params"])
        return cs.optim.adam(state, grads, RATE, b1=0.85, b2=0.99, eps=0.0, eps_root=1e-5)

    data, rng = cut_words(words), np.random.default_rng(0)
    orders = [rng.permutation(len(words)) for _ in range(EPOCHS)]
    ids = [order[begin : begin + size] for order in orders for begin in range(0, len(words), size)]
    state = cs.optim.adam_state(microgpt.Config(context=LENGTH).draw(0))
    return cs.Training(step, state, [tuple(part[i] for part in data) for i in ids], ids, n=len(words))


def measure(params: Any) -> Any:
    return compute_losses(params, *cut_words(list(ASKED)))


def measure_first(params: Any) -> Any:
    return measure(params)[0]


def expand(run: cs.Training, rows: np.ndarray, function: Any) -> np.ndarray:
    """The values by the series along each row of downweights, cut off at orders 1 to 3, (3, rows, ...)."""
    terms = cs.push(run, rows, 3, threads=1).measure(function).coefficients.real
    return np.moveaxis(terms.cumsum(axis=1)[:, 1:], 1, 0)


def test_weight_steps(run: cs.Training) -> list[list[str]]:
    """The error of each prediction over the change, by the largest change of a weight along the metagradient."""
    query = cs.attribute(run, measure_first, budget=2 * run.n, threads=1)
    direction = query.influence(estimator="first-order").change
    direction = direction / np.abs(direction).max()
    rows = np.outer(STEPS, direction)
    base = float(measure_first(run.params(run.train())))
    truth = np.array([float(measure_first(run.params(run.train_with(row)))) for row in rows])
    orders = expand(run, rows, measure_first)
    names = {"per-example": "own effects", "pairs": "own and pairs", "calibrated": "attribute"}
    known = {label: query.without(rows, estimator=name) for name, label in names.items() if name in query.estimators}
    values = {f"order {k + 1}": orders[k] for k in range(3)} | {name: one.value for name, one in known.items()}
    lines = []
    for i, step in enumerate(STEPS):
        errors = [f"{abs(value[i] - truth[i]) / abs(truth[i] - base):.2g}" for value in values.values()]
        interval = known["attribute"].interval(0.95)
        inside = "yes" if interval[0][i] <= truth[i] <= interval[1][i] else "no"
        inside += ", warned" if query.without(rows[i]).warnings else ""
        lines.append([f"{step:g}", f"{truth[i] - base:+.4f}", *errors, inside])
    return [["largest change of a weight", "change of the loss", *values, "in its interval"], *lines]


def score(value: np.ndarray, truth: np.ndarray) -> str:
    rmse = np.sqrt(((value - truth) ** 2).mean(axis=0)) / truth.std(axis=0)
    return f"{rank_correlation(value, truth):.3f}, {rmse.mean():.2f}"


def test_batch_sizes(words: list[str], subsets: int, report: Report) -> list[list[str]]:
    """LDS and RMSE of the orders and of a query, by the size of minibatches and the share that is deleted."""
    lines = []
    for size in BATCHES:
        run = train_on(words, size)
        base = np.asarray(measure(run.params(run.train())))
        query = cs.attribute(run, measure, budget=BUDGET, threads=1)
        for share in SHARES:
            rng = np.random.default_rng(1)
            masks = np.zeros((KNOWN + subsets, run.n), dtype=bool)
            for mask in masks:
                mask[rng.permutation(run.n)[: round(share * run.n)]] = True
            truth = retrain_and_measure(run, masks.astype(float), measure, (), 1)
            own = query.calibrate(masks[:KNOWN], truth=truth[:KNOWN])
            asked, answers = masks[KNOWN:], truth[KNOWN:]
            predicted = own.without(asked)
            low, high = predicted.interval(0.95)
            covered = float(((low <= answers) & (answers <= high)).mean())
            orders = [score(value, answers) for value in expand(run, asked.astype(float), measure)]
            width = ((high - low) / 2 / answers.std(axis=0)).mean()
            said = f"{covered:.0%}, +- {width:.2f}"
            change = f"{np.abs(answers - base).mean():.3f}"
            line = [str(size), f"{run.steps}", f"{share:.0%}", change, *orders, score(predicted.value, answers), said]
            lines.append(line)
            for order in (1, 2):
                what = f"LDS of order {order}, batches of {size}, {share:.0%} deleted"
                report.numbers[what] = float(orders[order - 1].split(",")[0])
    about = ["batch", "steps", "deleted", "mean change", *(f"order {k}" for k in (1, 2, 3))]
    return [[*about, "attribute", "covered, half width"], *lines]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--words", type=int, help="names to train on")
    parser.add_argument("--subsets", type=int, help="subsets per share")
    options = parser.parse_args(argv)
    count = options.words or (1024 if options.full else 384)
    subsets = options.subsets or (64 if options.full else 32)
    report = Report("first_order", options, {"names": count, "subsets": subsets, "budget": BUDGET})
    words = microgpt.names()[:count]
    for size in (BATCHES[1], BATCHES[-1]):
        header, *rows = test_weight_steps(train_on(words, size))
        report.add_table(f"Error over the change as weights move, batches of {size}:\n\n{table(rows, header)}")
    header, *rows = test_batch_sizes(words, subsets, report)
    report.add_table(f"LDS and RMSE by the size of minibatches; what the intervals say:\n\n{table(rows, header)}")
    return report.finish()


if __name__ == "__main__":
    main()
