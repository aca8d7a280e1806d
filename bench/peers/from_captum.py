"""Captum: TracIn, and influence functions by an Arnoldi iteration."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from .asking import choose_checkpoints, combine_losses, select_queries
from .twins import Twin


def build_loss(twin: Twin) -> nn.Module:
    class Losses(nn.Module):
        reduction = "none"

        def forward(self, scores: Tensor, y: Tensor) -> Tensor:
            return twin.losses(scores, y)

    return Losses()


def tracin(twin: Twin, values: list[int], _: None) -> np.ndarray:
    """TracIn over the checkpoints of the epochs."""
    from captum.influence import TracInCP

    ids, queries = select_queries(twin, values)
    steps = choose_checkpoints(twin)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for step, state in zip(steps, twin.train(steps), strict=True):
            paths.append(os.path.join(folder, f"{step}.pt"))
            torch.save((state, float(twin.setting.rule.rates[step - 1])), paths[-1])

        def load(model: nn.Module, path: str) -> float:
            state, rate = torch.load(path)
            model.load_state_dict(state)
            return rate

        method = TracInCP(twin.model, TensorDataset(*twin.data), paths, load, loss_fn=build_loss(twin), batch_size=100)
        scores = method.influence(queries.tensors)
    return combine_losses(twin, values, ids, scores.detach().T)


def influence(twin: Twin, values: list[int], _: None) -> np.ndarray:
    """Influence functions on the space of an Arnoldi iteration, with its default sizes."""
    from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction

    ids, queries = select_queries(twin, values)
    n = twin.setting.run.n
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.pt")
        torch.save(twin.model.state_dict(), path)

        def load(model: nn.Module, path: str) -> float:
            model.load_state_dict(torch.load(path))
            return 1.0

        method = ArnoldiInfluenceFunction(
            twin.model, TensorDataset(*twin.data), path, load, loss_fn=build_loss(twin), batch_size=n
        )
        scores = method.influence(queries.tensors)
    return combine_losses(twin, values, ids, scores.detach().T)
