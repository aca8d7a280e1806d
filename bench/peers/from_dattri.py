"""dattri: influence functions by conjugate gradients, TracIn, data value embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .asking import choose_checkpoints, combine_losses, load_batches, select_queries, steps_per_epoch
from .twins import Twin


def build_task(twin: Twin, checkpoints: list[dict[str, Tensor]]) -> Any:
    from dattri.task import AttributionTask

    def loss(params: Any, data: Any) -> Tensor:
        x, y = data
        return twin.losses(torch.func.functional_call(twin.model, params, (x,)), y).mean()

    return AttributionTask(loss_func=loss, model=twin.model, checkpoints=checkpoints)


def influence(twin: Twin, values: list[int], damping: float) -> np.ndarray:
    """Influence functions by conjugate gradients; its README has 10 iterations and a damping of 0.01."""
    from dattri.algorithm import IFAttributorCG

    ids, queries = select_queries(twin, values)
    attributor = IFAttributorCG(task=build_task(twin, twin.trained()), max_iter=10, regularization=damping)
    attributor.cache(load_batches(twin))
    scores = attributor.attribute(load_batches(twin), DataLoader(queries, batch_size=len(ids)))
    return combine_losses(twin, values, ids, scores.detach() / twin.setting.run.n)


def tracin(twin: Twin, values: list[int], _: None) -> np.ndarray:
    """TracIn over the checkpoints of the epochs, with the learning rates there."""
    from dattri.algorithm import TracInAttributor

    ids, queries = select_queries(twin, values)
    steps = choose_checkpoints(twin)
    rates = torch.tensor([float(twin.setting.rule.rates[step - 1]) for step in steps])
    task = build_task(twin, twin.train(steps))
    attributor = TracInAttributor(task=task, weight_list=rates, normalized_grad=False)
    attributor.projector_kwargs = None  # without a projection, which its default has
    scores = attributor.attribute(load_batches(twin), DataLoader(queries, batch_size=len(ids)))
    return combine_losses(twin, values, ids, scores.detach())


def embeddings(twin: Twin, values: list[int], scale: float) -> np.ndarray:
    """Data value embeddings, collected while training; with momentum .9 the effective learning rate is tenfold."""
    from dattri.algorithm import DVEmbAttributor

    ids, queries = select_queries(twin, values)
    setting = twin.setting
    attributor = DVEmbAttributor(task=build_task(twin, [twin.model.state_dict()]), factorization_type="none")
    per_epoch = steps_per_epoch(twin)
    states = twin.train(list(range(1, setting.run.steps + 1)))
    before = [twin.state(setting.run.state["params"]), *states[:-1]]
    for t, state in enumerate(before):
        twin.model.load_state_dict(state)
        ids_of_step = torch.from_numpy(np.asarray(setting.run.examples[t]))
        attributor.cache_gradients(t // per_epoch, twin.batch(t), ids_of_step, scale * float(setting.rule.rates[t]))
    attributor.cache()
    twin.model.load_state_dict(states[-1])
    scores = attributor.attribute(DataLoader(queries, batch_size=len(ids)))
    return combine_losses(twin, values, ids, scores.detach())
