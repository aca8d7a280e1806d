"""Kronfluence: EK-FAC."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from .asking import combine_losses, select_queries
from .twins import Twin


def ekfac(twin: Twin, values: list[int], damping: float | None) -> np.ndarray:
    """EK-FAC with the true Fisher, as in its examples; None: its heuristic damping."""
    import logging

    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Losses(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            x, y = batch
            scores = model(x)
            if sample:
                with torch.no_grad():
                    drawn = torch.distributions.Categorical(logits=scores).sample()
                y = torch.where(y >= 0, drawn, y)
            return twin.losses(scores, y).sum()

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

    ids, queries = select_queries(twin, values)
    n = twin.setting.run.n
    torch.manual_seed(0)
    task = Losses()
    model = prepare_model(twin.model, task)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "bench", model, task, cpu=True, output_dir=folder, disable_tqdm=True, log_level=logging.ERROR
        )
        data = TensorDataset(*twin.data)
        analyzer.fit_all_factors("ekfac", data, per_device_batch_size=n, factor_args=FactorArguments(strategy="ekfac"))
        analyzer.compute_pairwise_scores(
            scores_name="asked",
            factors_name="ekfac",
            query_dataset=queries,
            train_dataset=data,
            per_device_query_batch_size=len(ids),
            per_device_train_batch_size=n,
            score_args=ScoreArguments(damping_factor=damping),
        )
        scores = analyzer.load_pairwise_scores("asked")["all_modules"].T
    return combine_losses(twin, values, ids, scores.double() / n)
