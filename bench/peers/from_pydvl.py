"""pyDVL: influence functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .asking import combine_losses, load_batches, select_queries
from .twins import Twin


def influence(twin: Twin, values: list[int], kind: str, damping: float) -> np.ndarray:
    """Influence functions of pyDVL: the Hessian solved directly, its Nyström sketch, or EK-FAC."""
    from pydvl.influence.torch import DirectInfluence, EkfacInfluence, NystroemSketchInfluence

    ids, queries = select_queries(twin, values)

    def loss(scores: Tensor, y: Tensor) -> Tensor:
        return twin.losses(scores, y).mean()

    model: Any
    if kind == "direct":
        model = DirectInfluence(twin.model, loss, regularization=damping)
    elif kind == "nystroem":
        model = NystroemSketchInfluence(twin.model, loss, regularization=damping, rank=100)
    else:
        model = EkfacInfluence(twin.model, update_diagonal=True, hessian_regularization=damping)
    torch.manual_seed(0)
    fitted = model.fit(load_batches(twin, 100 if kind == "ekfac" else None))
    scores = fitted.influences(*queries.tensors, *twin.data)
    return combine_losses(twin, values, ids, scores.detach().T.double() / twin.setting.run.n)
