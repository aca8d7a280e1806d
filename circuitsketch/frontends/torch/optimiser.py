"""PyTorch's optimisers as functions of parameters, gradients and a state, to be stepped inside of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from circuitsketch.arguments import quoted
from circuitsketch.errors import InputError

Tensors = Mapping[str, torch.Tensor]


def check_tensors(value: Any, name: str, like: Tensors | None = None) -> Tensors:
    """Return a dict of tensors, of the keys of `like`, or raise InputError."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(x, torch.Tensor) for x in value.values()):
        raise InputError(
            f"{name} must be a dict of tensors, as in {{k: p.detach().clone() for k, p in model.named_parameters()}}, "
            f"not {quoted(value)}"
        )
    if like is not None and value.keys() != like.keys():
        raise InputError(f"{name} has the keys {quoted(sorted(map(str, value)))}; give it those of params")
    return value


class Optimiser:
    """An optimiser of torch.optim without a state of its own, see `circuitsketch.torch.optimiser`."""

    def __init__(self, kind: Any, **options: Any) -> None:
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            raise InputError(f"optimiser takes a class of torch.optim, such as torch.optim.AdamW, not {quoted(kind)}")
        self.kind = kind
        self.options = {"foreach": False, "differentiable": True, **options}
        try:
            self.init({"tried": torch.zeros(1)})
        except Exception as reason:
            raise InputError(f"torch.optim.{kind.__name__} cannot take a step with these options: {reason}") from None

    def build(self, params: Tensors) -> tuple[torch.optim.Optimizer, dict[str, torch.Tensor]]:
        """Return an optimiser of copies of some parameters, and the copies."""
        copies = {name: param.detach().clone() for name, param in params.items()}
        return self.kind(list(copies.values()), **self.options), copies

    def init(self, params: Tensors) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state before the first step: for each of the state's parts, a tensor per parameter."""
        optimiser, copies = self.build(check_tensors(params, "params"))
        for copy in copies.values():
            copy.grad = torch.zeros_like(copy)
        with torch.no_grad():
            optimiser.step()
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, copy in copies.items():
            for part, value in optimiser.state[copy].items():
                if isinstance(value, torch.Tensor):
                    parts.setdefault(part, {})[name] = torch.zeros_like(value)
        return parts

    def step(
        self, params: Tensors, grads: Tensors, state: Mapping[str, Tensors]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters and the state after a step."""
        optimiser, copies = self.build(check_tensors(params, "params"))
        check_tensors(grads, "grads", params)
        if not isinstance(state, Mapping):
            raise InputError(f"state must be the result of init(params) or of the step before, not {quoted(state)}")
        for part, values in state.items():
            check_tensors(values, f"state[{part!r}]", params)
        for name, copy in copies.items():
            copy.grad = grads[name].detach()
            optimiser.state[copy] = {part: values[name].clone() for part, values in state.items()}
        with torch.no_grad():
            optimiser.step()
        after = {part: {name: optimiser.state[copy][part] for name, copy in copies.items()} for part in state}
        return copies, after
