"""TRAK."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .asking import combine_losses, load_batches, select_queries
from .twins import Twin


def trak(twin: Twin, values: list[int], models: int, sizes: tuple[int, float]) -> np.ndarray:
    """TRAK of one model or of an ensemble; the output is the margin, or a word's loss. `sizes`: projections, ridge."""
    from trak import TRAKer
    from trak.modelout_functions import AbstractModelOutput

    class WordLoss(AbstractModelOutput):
        def __init__(self) -> None:
            super().__init__()

        @staticmethod
        def get_output(model: nn.Module, weights: Any, buffers: Any, x: Tensor, y: Tensor) -> Tensor:
            scores = torch.func.functional_call(model, (weights, buffers), (x.unsqueeze(0),))
            return twin.losses(scores, y.unsqueeze(0)).sum()

        def get_out_to_loss_grad(self, model: nn.Module, weights: Any, buffers: Any, batch: Any) -> Tensor:
            return torch.ones(len(batch[0]), 1)

    ids, queries = select_queries(twin, values)
    words = twin.setting.activation is None
    n = twin.setting.run.n
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            model=twin.model,
            task=WordLoss() if words else "image_classification",
            train_set_size=n,
            save_dir=folder,
            device="cpu",
            proj_dim=sizes[0],
            lambda_reg=sizes[1],
            use_half_precision=False,
            logging_level=50,
        )
        states = twin.trained(models)
        for number, state in enumerate(states):
            traker.load_checkpoint(state, model_id=number)
            for batch in load_batches(twin, 100):
                traker.featurize(batch=batch, num_samples=len(batch[0]))
        traker.finalize_features()
        for number, state in enumerate(states):
            traker.start_scoring_checkpoint("asked", state, model_id=number, num_targets=len(ids))
            traker.score(batch=queries.tensors, num_samples=len(ids))
        scores = np.array(traker.finalize_scores("asked"))
    twin.model.load_state_dict(states[0])
    if not words:  # from a margin to its loss: d loss = -(1 - p) d margin
        with torch.no_grad():
            p = torch.exp(-twin.losses(twin.model(queries.tensors[0]), queries.tensors[1])).numpy()
        scores = scores * (1 - p)  # removing an example lowers a margin by its score, and raises the loss
    return combine_losses(twin, values, ids, scores)
