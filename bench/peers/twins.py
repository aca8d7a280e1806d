"""The models of the settings in PyTorch, trained on the same batches in the same order as the NumPy runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .settings import IGNORED, Setting

AGREEMENT = 1e-10  # of the parameters after training, in double precision
ACTIVATIONS = {"gelu": functional.gelu, "relu": functional.relu}
HEADS, NORM_EPSILON, MASKED = 4, 1e-5, -1e30


class Perceptron(nn.Module):
    """Linear layers with an activation between them."""

    def __init__(self, sizes: list[int], activation: str) -> None:
        super().__init__()
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.layers = nn.ModuleList([nn.Linear(inputs, outputs) for inputs, outputs in pairs])
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class Gpt(nn.Module):
    """microgpt, for words that are padded to its context."""

    def __init__(self, vocabulary: int, context: int, width: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.attn_wq, self.attn_wk, self.attn_wv, self.attn_wo = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.mlp_fc1 = nn.Linear(width, 4 * width, bias=False)
        self.mlp_fc2 = nn.Linear(4 * width, width, bias=False)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("earlier", torch.ones(context, context).tril().bool(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[-1]
        width = self.wte.weight.shape[1]
        x = normalise(self.wte(tokens) + self.wpe(torch.arange(length)))
        h = normalise(x)
        split = (*tokens.shape, HEADS, width // HEADS)
        queries = self.attn_wq(h).reshape(split) * (width // HEADS) ** -0.5
        keys, values = self.attn_wk(h).reshape(split), self.attn_wv(h).reshape(split)
        scores = torch.einsum("...qhd,...khd->...hqk", queries, keys)
        attention = scores.masked_fill(~self.earlier[:length, :length], MASKED).softmax(dim=-1)
        mixed = torch.einsum("...hqk,...khd->...qhd", attention, values)
        x = x + self.attn_wo(mixed.reshape(*tokens.shape, width))
        x = x + self.mlp_fc2(functional.gelu(self.mlp_fc1(normalise(x))))
        return self.lm_head(x)


def normalise(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + NORM_EPSILON)


def class_losses(scores: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each example, (B,), or of one."""
    return -scores.log_softmax(dim=-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)


def word_losses(scores: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each word, the mean over its tokens, (B,), or of one."""
    kept = y != IGNORED
    return (class_losses(scores, y.clamp(min=0)) * kept).sum(dim=-1) / kept.sum(dim=-1)


def margins(scores: Tensor, y: Tensor) -> Tensor:
    """log(p / (1 - p)) of the correct class, (B,)."""
    correct = torch.arange(scores.shape[-1]) == y.unsqueeze(-1)
    picked = scores.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return picked - scores.masked_fill(correct, MASKED).logsumexp(dim=-1)


@dataclass
class Twin:
    """A setting in PyTorch: an untrained model, its examples and queries, and how it is trained."""

    setting: Setting
    model: nn.Module
    data: tuple[Tensor, Tensor]
    queries: tuple[Tensor, Tensor]

    @staticmethod
    def of(setting: Setting, dtype: torch.dtype = torch.float64) -> Twin:
        """Build the twin of a setting, with its initial parameters."""
        params = setting.run.state["params"]
        if setting.activation is None:
            model: nn.Module = Gpt(*params["wte"].shape[:1], *params["wpe"].shape)
        else:
            weights = [value for value in params.values() if value.ndim == 2]
            model = Perceptron([len(weights[0]), *(w.shape[1] for w in weights)], setting.activation)
        model = model.to(dtype)

        def tensor(array: np.ndarray) -> Tensor:
            values = torch.from_numpy(np.array(array))
            return values.to(dtype) if values.is_floating_point() else values

        twin = Twin(setting, model, (tensor(setting.x), tensor(setting.y)), tuple(map(tensor, setting.queries)))
        twin.model.load_state_dict(twin.state(params))
        return twin

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def state(self, params: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Return the parameters of a NumPy run as a state of the model."""
        if self.setting.activation is None:
            names = {name: f"{name.split('.')[-1]}.weight" for name in params}
            arrays = {names[name]: value for name, value in params.items()}
        else:
            arrays = {}
            pairs = list(params.values())
            for k in range(len(pairs) // 2):
                arrays |= {f"layers.{k}.weight": pairs[2 * k].T, f"layers.{k}.bias": pairs[2 * k + 1]}
        return {name: torch.from_numpy(np.array(value)).to(self.dtype) for name, value in arrays.items()}

    def batch(self, t: int) -> tuple[Tensor, Tensor]:
        ids = self.setting.run.examples[t]
        return self.data[0][ids], self.data[1][ids]

    @property
    def losses(self) -> Callable[[Tensor, Tensor], Tensor]:
        """One loss per example, of scores and targets."""
        return word_losses if self.setting.activation is None else class_losses

    def targets(self, scores: Tensor, y: Tensor) -> Tensor:
        """What is measured of each query, (B,)."""
        if self.setting.target == "margin":
            return margins(scores, y)
        loss = self.losses(scores, y)
        return loss if self.setting.target == "loss" else torch.exp(-loss)

    def measure(self, k: int) -> Tensor:
        """One value of the model."""
        x, y = self.queries
        weights = torch.from_numpy(self.setting.combine[k]).to(self.dtype)
        return weights @ self.targets(self.model(x), y)

    def slopes(self) -> np.ndarray:
        """The derivative of each query's target by its loss, (Q,)."""
        x, y = self.queries
        with torch.no_grad():
            p = torch.exp(-self.losses(self.model(x), y)).numpy()
        return {"loss": np.ones_like(p), "margin": -1 / (1 - p), "probability": -p}[self.setting.target]

    def train(
        self, checkpoints: list[int] | None = None, first: dict[str, Tensor] | None = None
    ) -> list[dict[str, Tensor]]:
        """Train a copy of the model, from the run's initial parameters or others; return its state after each step in
        `checkpoints`, by default the last."""
        wanted = [self.setting.run.steps] if checkpoints is None else checkpoints
        model, rule = copy.deepcopy(self.model), self.setting.rule
        model.load_state_dict(self.state(self.setting.run.state["params"]) if first is None else first)
        params = list(model.parameters())
        moment, square = ([torch.zeros_like(p) for p in params] for _ in range(2))
        states = []
        for t, rate in enumerate(map(float, rule.rates)):
            x, y = self.batch(t)
            grads = torch.autograd.grad(self.losses(model(x), y).mean(), params)
            with torch.no_grad():
                for p, g, m, v in zip(params, grads, moment, square, strict=True):
                    if rule.name == "momentum":
                        m.mul_(0.9).add_(g + rule.weight_decay * p)
                        p.sub_(rate * m)
                    else:
                        b1, b2 = rule.betas
                        m.mul_(b1).add_((1 - b1) * g)
                        v.mul_(b2).add_((1 - b2) * g * g)
                        root = torch.sqrt(v / (1 - b2 ** (t + 1)) + rule.eps_root)
                        p.sub_(rate / (1 - b1 ** (t + 1)) * m / root)
            if t + 1 in wanted:
                states.append({name: value.clone() for name, value in model.state_dict().items()})
        return states

    def check(self) -> float:
        """Return the largest difference from the parameters of the NumPy run; raise where it is above AGREEMENT."""
        mine, run = self.train()[0], self.setting.run
        theirs = self.state(run.params(run.train()))
        difference = max(float((mine[name] - value).abs().max()) for name, value in theirs.items())
        if not difference <= AGREEMENT:
            raise SystemExit(f"{self.setting.name}: the trained models differ by {difference:.2g}")
        with torch.no_grad():
            self.model.load_state_dict(mine)
            values = np.array([float(self.measure(k)) for k in range(self.setting.values)])
        gap = np.abs(values - np.asarray(self.setting.measure(run.params(run.train())))).max()
        if not gap <= AGREEMENT:
            raise SystemExit(f"{self.setting.name}: what is measured of the trained models differs by {gap:.2g}")
        return difference

    def trained(self, models: int = 1) -> list[dict[str, Tensor]]:
        """Return the trained states of the run, and of the same batches from other initial parameters."""
        run = self.setting.run
        others = [self.train(first=self.state(self.setting.draw(seed)))[0] for seed in range(1, models)]
        return [self.state(run.params(run.train())), *others]
