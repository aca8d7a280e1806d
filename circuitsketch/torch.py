"""Training runs and measurements written in PyTorch.

A step that is written in PyTorch, with its gradient by `torch.func` and its optimiser, is a training run like one in
NumPy: `cs.torch.training` imports it, `cs.torch.function` imports what is measured. PyTorch itself computes in advance
whatever no example's weight reaches: counters, schedules, dropout masks, the order of the data.

Every float is a float64 here, also those that are float32 or bfloat16 in PyTorch.

Requires the extra `circuitsketch[torch]`. PyTorch is imported when a function of this module is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from circuitsketch.arguments import call, check_callable, check_int
from circuitsketch.circuit import Circuit
from circuitsketch.frontends.imported import require_extra
from circuitsketch.passes import gather_scalars
from circuitsketch.training.training import Training, check_step, entry_per_step, example_ids, trained_params

if TYPE_CHECKING:
    from circuitsketch.frontends.torch import Optimiser
    from circuitsketch.frontends.torch.state import StateLayout

__all__ = ["TorchTraining", "function", "optimiser", "training"]

SEEDS = (-(2**63), 2**64 - 1)  # the smallest and the largest that torch.manual_seed takes


def load_frontend() -> Any:
    """Import the front end, and with it PyTorch; raise InputError if it is not installed."""
    with require_extra("torch", "torch"):
        from circuitsketch.frontends import torch as frontend
    return frontend


class TorchTraining(Training):
    """A training run whose step is written in PyTorch, see `training`.

    Its state has the leaves that weights reach, as nested dicts and lists, by their paths.

    Attributes
    ----------
    layout : StateLayout
        Where these leaves are in the user's state.
    """

    layout: StateLayout

    def to_torch(self, state: Any) -> Any:
        """Return a state of this run as the user's pytree of tensors.

        Parameters
        ----------
        state : pytree
            A state of `train` or `retrain`.

        Returns
        -------
        pytree
            Of the structure and the dtypes of the state that `cs.torch.training` was given; leaves that no weight
            reaches (counters, masks) have their values after the last step.

        Examples
        --------
        >>> import torch, circuitsketch as cs
        >>> step = lambda s, x, keep: {"w": s["w"] + keep.sum() * x, "t": s["t"] + 1}
        >>> batches = [torch.tensor(1.0), torch.tensor(10.0)]
        >>> run = cs.torch.training(step, {"w": torch.zeros(()), "t": 0}, batches, [[0], [1]])
        >>> run.to_torch(run.retrain(without=[0]))
        {'w': tensor(10.), 't': tensor(2)}
        """
        return self.layout.to_torch(state)

    def step_circuit(self, step: Callable[[Any, Any, Any], Any], batch: Any, examples: int, t: int) -> Circuit:
        """Return the simplified circuit of a step, see `Training`, with scalars gathered."""
        return gather_scalars(super().step_circuit(step, batch, examples, t))

    def params(self, state: Any) -> Any:
        """Return the parameters in a state."""
        merged = self.layout.merge(state)
        return trained_params(merged) if self.chosen_params is None else call(self.chosen_params, "params", merged)


def training(
    step: Callable[[Any, Any, Any], Any],
    state: Any,
    batches: Any,
    examples: Sequence[Any],
    *,
    n: int | None = None,
    params: Callable[[Any], Any] | None = None,
    labels: Sequence[Any] | None = None,
    items: Sequence[Any] | None = None,
    seed: int = 0,
) -> TorchTraining:
    """Import a training run that is written in PyTorch.

    Parameters
    ----------
    step : callable
        `step(state, batch, keep) -> state`, in PyTorch, with its gradient (`torch.func.grad`) and its optimiser; `keep`
        has one entry per example of the step, 1 - w, by which its loss is multiplied. A module is called by
        `torch.func.functional_call(module, params, (x,))`.
    state : pytree
        The initial state: dicts, lists and tuples of tensors and numbers.
    batches : iterable of pytrees
        One per step, of tensors or arrays: a DataLoader, for example, either without shuffling or with a
        `batch_sampler` that is also passed as `examples`. Shapes may differ.
    examples : sequence of sequences of int
        One per step: the ids of the examples whose weights it reads.
    n : int, optional
        The number of examples; by default the largest id + 1.
    params : callable, optional
        `params(state)` returns the parameters passed to measurements; by default state["params"] or state.params,
        or the entire state if it has neither.
    labels : sequence of hashable, optional
        One label per example (a class, a source), by which queries can select examples.
    items : sequence, optional
        The raw form of each example, by which queries can select examples.
    seed : int
        The seed of PyTorch's generator before the first step, for steps that draw random numbers, as dropout does:
        from -2**63 to 2**64 - 1, as in `torch.manual_seed`. Every retraining draws the same.

    Returns
    -------
    TorchTraining
        A `Training` of the leaves that weights reach, with one circuit per shape of batch.

    Raises
    ------
    TraceError
        If weights reach something for which there is no gate, or the step branches on the numbers in a tensor; the
        message names the operation, the user's line, and what to write instead.
    InputError, ShapeError
        On invalid arguments, before the run starts.

    Examples
    --------
    >>> import torch, circuitsketch as cs
    >>> def step(params, x, keep):
    ...     return params - 0.1 * torch.func.grad(lambda p: (keep * (p * x - 1.0) ** 2).sum())(params)
    >>> run = cs.torch.training(step, torch.zeros(()), [torch.ones(1)] * 3, [[0], [1], [0]])
    >>> round(float(run.train()), 4), round(float(run.retrain(without=[0])), 4)
    (0.488, 0.2)
    """
    check_callable(step, "step")
    check_step(step)
    load_frontend().check_order(batches)
    batches = entry_per_step(batches, "batches")
    ids = example_ids(examples, len(batches))
    seed = check_int(seed, "seed", *SEEDS)
    imported = load_frontend().import_step(step, state, batches, [len(row) for row in ids], seed)
    options: dict[str, Any] = {"n": n, "params": params, "labels": labels, "items": items}
    run = TorchTraining(imported.step, imported.state, imported.batches, ids, **options)
    run.layout = imported.layout
    return run


def function(f: Callable[..., Any]) -> Callable[..., Any]:
    """Import a function that is written in PyTorch, for measurements, and for losses under `cs.grad`.

    Under `cs.grad`, the derivative is that of the function's values: a `backward` of one's own is not used.

    Parameters
    ----------
    f : callable
        A function of pytrees of tensors, in PyTorch. It is captured with floats of PyTorch's default dtype.

    Returns
    -------
    callable
        The same function, of wires and of plain arrays, in double precision. PyTorch traces it for the shapes of the
        wires among its arguments; all others are passed on, arrays as tensors.

    Raises
    ------
    TraceError
        When it is called: if there is no gate for something that it does with a wire.

    Examples
    --------
    >>> import torch, numpy as np, circuitsketch as cs
    >>> loss = cs.torch.function(lambda w, x: torch.nn.functional.softplus(x @ w).sum())
    >>> cs.grad(loss)(np.zeros(2), np.eye(2))
    array([0.5, 0.5])
    """
    check_callable(f, "f")
    wrapped: Callable[..., Any] = load_frontend().import_function(f)
    return wrapped


def optimiser(kind: Any, **options: Any) -> Optimiser:
    """Return an optimiser of torch.optim that keeps no state, to be stepped inside of a training step.

    Parameters
    ----------
    kind : class
        A class of torch.optim, such as SGD, AdamW or RMSprop; those that read numbers in tensors are refused when the
        step is traced.
    **options
        Its options, such as `lr`.

    Returns
    -------
    Optimiser
        With `init(params)`, which returns the state before the first step, and `step(params, grads, state)`, which
        returns the parameters and the state after a step; `params` and `grads` are dicts of tensors.

    Raises
    ------
    InputError
        If it is not a class of torch.optim.

    Examples
    --------
    >>> import torch, circuitsketch as cs
    >>> sgd = cs.torch.optimiser(torch.optim.SGD, lr=0.5, momentum=0.9)
    >>> params, grads = {"w": torch.tensor(1.0)}, {"w": torch.tensor(1.0)}
    >>> state = sgd.init(params)
    >>> params, state = sgd.step(params, grads, state)
    >>> params, state
    ({'w': tensor(0.5000)}, {'momentum_buffer': {'w': tensor(1.)}})
    """
    built: Optimiser = load_frontend().Optimiser(kind, **options)
    return built
