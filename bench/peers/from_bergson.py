"""Bergson: MAGIC, which differentiates through the training."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .twins import Twin


class WeightedBatches:
    """The batches of a run with a weight per example, as bergson's trainer reads them."""

    def __init__(self, twin: Twin) -> None:
        self.twin, self.device = twin, torch.device("cpu")
        self.weights = nn.Parameter(torch.ones(twin.setting.run.n, dtype=twin.dtype))

    def __len__(self) -> int:
        return self.twin.setting.run.steps

    def __getitem__(self, t: int) -> dict[str, Tensor]:
        x, y = self.twin.batch(t)
        ids = np.asarray(self.twin.setting.run.examples[t])
        return {"x": x, "y": y, "weight": self.weights[ids], "shift_loss_mask": torch.ones(len(ids))}

    @property
    def requires_grad(self) -> bool:
        return self.weights.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.weights.requires_grad = value


def magic(twin: Twin, values: list[int], _: None) -> np.ndarray:
    """MAGIC: back through the training, in double precision."""
    import torchopt
    from bergson.magic.trainer import BackwardState, Trainer
    from torchopt.pytree import tree_iter

    twin = Twin.of(twin.setting)
    rule = twin.setting.rule

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = twin.model

        def forward(self, x: Tensor, y: Tensor, weight: Tensor, shift_loss_mask: Tensor) -> Tensor:
            return (weight * twin.losses(self.model(x), y)).mean()

    def rate(t: Any) -> float:
        return float(rule.rates[min(int(t), len(rule.rates) - 1)])

    if rule.name == "momentum":
        optimiser = torchopt.sgd(rate, momentum=0.9, weight_decay=rule.weight_decay, moment_requires_grad=True)
    else:
        optimiser = torchopt.adam(rate, betas=rule.betas, eps=0.0, eps_root=rule.eps_root, moment_requires_grad=True)
    stream = WeightedBatches(twin)
    effects = []
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            trainer, state = Trainer.initialize(Weighted(), optimiser)
            final = trainer.train(state, stream, save_dir=folder, save_mode="sqrt")
            end = {name.removeprefix("model."): value.detach() for name, value in final.params.items()}
            twin.model = Twin.of(twin.setting).model
            twin.model.load_state_dict(end)
            for k in values:
                params = list(twin.model.parameters())
                grads = torch.autograd.grad(twin.measure(k), params)
                names = [f"model.{name}" for name, _ in twin.model.named_parameters()]
                zeros = [
                    torch.zeros_like(leaf)
                    for leaf in tree_iter(final.opt_state)
                    if isinstance(leaf, Tensor) and leaf.is_floating_point()
                ]
                begin = BackwardState(dict(zip(names, grads, strict=True)), zeros, torch.zeros_like(stream.weights))
                after = trainer.backward(folder, stream, begin, final, cleanup=False)
                effects.append(-after.weight_grads.detach().numpy())
    return np.stack(effects, axis=1)
