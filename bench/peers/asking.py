"""What the libraries are given, and how their answers become effects on what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import DataLoader, TensorDataset

from .twins import Twin

FEWEST = 10  # checkpoints of a training


def load_batches(twin: Twin, size: int | None = None) -> DataLoader[Any]:
    """The examples in order; by default in one batch."""
    return DataLoader(TensorDataset(*twin.data), batch_size=size or twin.setting.run.n, shuffle=False)


def select_queries(twin: Twin, values: list[int]) -> tuple[np.ndarray, TensorDataset]:
    """The queries that some values read."""
    ids = np.flatnonzero((twin.setting.combine[values] != 0).any(axis=0))
    return ids, TensorDataset(*(part[ids] for part in twin.queries))


def combine_losses(twin: Twin, values: list[int], ids: np.ndarray, effects: Any) -> np.ndarray:
    """Effects on values (n, values) from those on the losses of queries, (n, queries).

    An effect on a margin or a probability is that on the loss times the derivative of the one by the other.
    """
    weights = twin.setting.combine[values][:, ids] * twin.slopes()[ids]
    return np.asarray(effects, dtype=np.float64) @ weights.T


def steps_per_epoch(twin: Twin) -> int:
    setting = twin.setting
    return -(-setting.run.n // len(setting.run.examples[0]))


def choose_checkpoints(twin: Twin) -> list[int]:
    """The numbers of steps after each pass over the data, or FEWEST evenly spaced ones."""
    steps = twin.setting.run.steps
    count = max(steps // steps_per_epoch(twin), FEWEST)
    return [(i + 1) * steps // count for i in range(count)]
