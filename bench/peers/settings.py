"""Trainings to compare on: data, subsets by kind, what is measured, and what a twin in another framework needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import case
from trust import list_kinds
from trust_runs import RUNS, UserRun

import circuitsketch as cs
from circuitsketch.zoo import microgpt, mlp, supervised

KNOWN = 48  # subsets of a kind that are retrained for calibrations; further ones are asked about
VALUES = 4  # values measured, each a question of its own
LEFT_OUT = ("random 0.1 %", "random 10 %", "class", "letter")  # kinds of deletions
NAMES = 400
IGNORED = -100  # the target of a padded position


@dataclass(frozen=True)
class Rule:
    """An optimiser: gradient descent with momentum .9 and weight decay, or Adam with its epsilon inside the root."""

    name: str
    rates: np.ndarray  # of each step
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps_root: float = 0.0


@dataclass(frozen=True)
class Setting:
    """A training, what is measured of it, and the subsets to delete, by kind.

    A value is a combination (K, Q) of the targets of Q queries, which are examples as those of the training: their
    margins log(p / (1 - p)), losses, or probabilities of the second class.
    """

    name: str
    run: cs.Training
    functions: tuple[Callable[[Any], Any], ...]  # one value each, of the trained parameters
    kinds: dict[str, np.ndarray]  # masks (KNOWN + subsets, n)
    x: np.ndarray
    y: np.ndarray
    queries: tuple[np.ndarray, np.ndarray]
    combine: np.ndarray
    target: str
    rule: Rule
    activation: str | None  # of a perceptron; None: microgpt
    draw: Callable[[int], dict[str, np.ndarray]]  # initial parameters from another seed, for ensembles

    @property
    def values(self) -> int:
        return len(self.combine)

    def measure(self, params: Any) -> Any:
        """All values, (K,)."""
        return np.stack([function(params) for function in self.functions])


def measure_margin(k: int) -> Callable[[Any], Any]:
    """Return the margin of a query."""
    data = mlp.data(1000)
    return lambda params: mlp.margin(params, data.test_x[k : k + 1], data.test_y[k : k + 1])[0]


def measure_word(word: str) -> Callable[[Any], Any]:
    """Return the loss on a word."""
    return lambda params: microgpt.loss(params, word)


def build_digits(name: str, subsets: int) -> Setting:
    """The perceptron on digits of accuracy.py, one label in twenty wrong; or softmax regression until it converges."""
    known = case("digits", KNOWN + subsets)
    data = mlp.data(1000)
    y = np.asarray(known.run.labels)
    queries = data.test_x[:VALUES], data.test_y[:VALUES]
    kinds = {kind: masks for kind, masks in known.kinds.items() if kind not in LEFT_OUT}
    if name == "digits":
        run, hidden, weight_decay = mlp.training(data.x, y), [16], 0.0
    else:
        hidden, weight_decay = [], 0.01
        run = supervised.training(
            *(mlp.loss, mlp.draw(64, hidden, 10, "gelu", 0), data.x, y),
            **{"epochs": 30, "learning_rate": 0.1, "weight_decay": weight_decay, "schedule": cs.optim.cosine},
        )
    combine = np.eye(VALUES)
    functions = tuple(map(measure_margin, range(VALUES)))
    rule = Rule("momentum", np.array([batch[0] for batch in run.batches]), weight_decay)

    def draw(seed: int) -> dict[str, np.ndarray]:
        return mlp.draw(64, hidden, 10, "gelu", seed)

    return Setting(name, run, functions, kinds, data.x, y, queries, combine, "margin", rule, "gelu", draw)


def build_names(subsets: int) -> Setting:
    """The GPT of accuracy.py on fewer names, one per step."""
    known = case("names", KNOWN + subsets, NAMES)
    words = microgpt.names()
    docs, asked = words[:NAMES], words[1000:5000:1000]
    kinds = {kind: masks for kind, masks in known.kinds.items() if kind not in LEFT_OUT}
    x, y = pad_words(docs)
    rule = Rule("adam", np.array([batch[2] for batch in known.run.batches]), betas=(0.85, 0.99), eps_root=1e-3)

    def draw(seed: int) -> dict[str, np.ndarray]:
        return microgpt.Config().draw(42 + seed)

    combine = np.eye(len(asked))
    return Setting(
        "names",
        known.run,
        tuple(map(measure_word, asked)),
        kinds,
        x,
        y,
        pad_words(asked),
        combine,
        "loss",
        rule,
        None,
        draw,
    )


def pad_words(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and targets (words, 16); what is padded is IGNORED and, by causality, changes nothing before it."""
    x = np.zeros((len(words), 16), dtype=np.int64)
    y = np.full((len(words), 16), IGNORED)
    for i, word in enumerate(words):
        tokens, targets = microgpt.encode(word, microgpt.ALPHABET, 16)
        x[i, : len(tokens)], y[i, : len(tokens)] = tokens, targets
    return x, y


def build_trust(name: str, subsets: int) -> Setting:
    """One of the trust runs, with data and queries read from what its functions close over."""
    user: UserRun = RUNS[name]()
    masks = {kind: one.draw(KNOWN + subsets, seed=i) for i, (kind, one) in enumerate(list_kinds(user).items())}
    kinds = {kind: some for kind, some in masks.items() if kind != "1"}
    x, y = gather_examples(user.run)

    if name == "users":
        rng = np.random.default_rng(13)
        queries = rng.normal(size=(20, 6)), rng.integers(2, size=20)
        combine = np.stack([np.full(20, 1 / 20), np.eye(20)[0]])
        rule = Rule("momentum", np.full(user.run.steps, 0.1))
        target, activation = "loss", "gelu"
    else:
        rng = np.random.default_rng(15)
        group = (rng.random(600) < 0.3).astype(int)
        rows = np.concatenate([rng.normal(size=(600, 4)) + 0.7 * group[:, None], group[:, None]], axis=1)
        queries = rows[300:], np.ones(300, dtype=np.int64)
        first = group[300:] == 0
        combine = (first / first.sum() - ~first / (~first).sum())[None]
        rule = Rule("adam", np.full(user.run.steps, 0.01), eps_root=1e-4)
        target, activation = "probability", "relu"

    def draw(seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        first = user.run.state["params"].items()
        scaled = {key: np.sqrt(2 / len(value)) * rng.normal(size=value.shape) for key, value in first}
        return {key: scaled[key] if value.ndim == 2 else value for key, value in first}

    return Setting(name, user.run, user.measurements, kinds, x, y, queries, combine, target, rule, activation, draw)


def gather_examples(run: cs.Training) -> tuple[np.ndarray, ...]:
    """Return the data of every example, in order, from the batches that read them."""
    arrays = [np.zeros((run.n, *part.shape[1:]), dtype=part.dtype) for part in run.batches[0]]
    for ids, batch in zip(run.examples, run.batches, strict=True):
        for array, part in zip(arrays, batch, strict=True):
            array[ids] = part
    return tuple(arrays)


SETTINGS: dict[str, Callable[[int], Setting]] = {
    "logistic": lambda subsets: build_digits("logistic", subsets),
    "digits": lambda subsets: build_digits("digits", subsets),
    "names": build_names,
    "users": lambda subsets: build_trust("users", subsets),
    "fairness gap": lambda subsets: build_trust("fairness gap", subsets),
}
