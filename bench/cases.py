"""Three training runs, their measurements, and subsets to delete by kind, for accuracy.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import logistic, microgpt, mlp

SHARES = (0.001, 0.01, 0.05, 0.1, 0.5)
RUNS = ("names", "digits", "tumours")


@dataclass(frozen=True)
class Case:
    """A run, its measurement, and subsets by kind, (B, n) masks."""

    name: str
    run: cs.Training
    measure: Callable[[Any], Any]
    kinds: dict[str, np.ndarray]


def case(name: str, subsets: int, n: int | None = None, seed: int | None = None, values: int = 16) -> Case:
    """Return one of the three runs with a number of subsets per kind, and of values that are measured.

    `seed` draws other subsets of the same run.
    """
    rng = np.random.default_rng(2)
    if name == "names":
        rng = rng if seed is None else np.random.default_rng(seed)
        words = microgpt.names()
        asked = words[1000:5000:250][:values]
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
    rng = rng if seed is None else np.random.default_rng(seed)
    near = [neighbours(data.x, y, int(rng.integers(len(y))), int(rng.integers(3, 31))) for _ in range(subsets)]
    bad = [rng.choice(wrong, rng.integers(3, min(31, len(wrong) + 1)), replace=False) for _ in range(subsets)]
    shares = [(c, s) for c in range(classes) for s in (0.25, 0.5, 1.0)]
    by_class = [part(np.flatnonzero(y == c), s, rng) for c, s in shares]
    return Case(
        name,
        run,
        lambda p: model.margin(p, data.test_x[:values], data.test_y[:values]),
        random_masks(run.n, subsets, rng)
        | {
            "coherent": chosen(near, run.n, subsets, rng),
            "mislabelled": chosen(bad, run.n, subsets, rng),
            "class": chosen(by_class, run.n, subsets, rng),
        },
    )


def random_masks(n: int, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    sizes = {f"random {100 * share:g} %": max(1, round(share * n)) for share in SHARES}
    return {
        kind: chosen([rng.permutation(n)[:size] for _ in range(count)], n, count, rng) for kind, size in sizes.items()
    }


def chosen(groups: list[Any], n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return at most `count` of the groups, in random order, as masks."""
    masks = np.zeros((min(count, len(groups)), n), dtype=bool)
    for mask, i in zip(masks, rng.permutation(len(groups)), strict=False):
        mask[np.asarray(groups[i])] = True
    return masks


def spelt_alike(docs: list[str]) -> list[tuple[int, ...]]:
    """Return the ids of names that share a letter, a pair of letters, a beginning or an ending."""
    groups: dict[str, set[int]] = {}
    for i, doc in enumerate(docs):
        parts = {doc[a : a + 2] for a in range(len(doc) - 1)} | set(doc)
        parts |= {f"^{doc[:k]}" for k in (1, 2, 3)} | {f"{doc[-k:]}$" for k in (1, 2, 3)}
        for spelling in parts:
            groups.setdefault(spelling, set()).add(i)
    return sorted({tuple(sorted(ids)) for ids in groups.values()})


def neighbours(x: np.ndarray, y: np.ndarray, i: int, count: int) -> np.ndarray:
    same = np.flatnonzero(y == y[i])
    return same[np.argsort(((x[same] - x[i]) ** 2).sum(axis=1))[:count]]


def part(ids: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(ids)[: max(1, int(share * len(ids)))]
