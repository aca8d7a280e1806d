"""Training runs and measurements written in JAX.

A step that is written in JAX, with its gradient and its optimiser (optax), on a state of any kind (dicts, flax's and
equinox's modules), is a training run like one in NumPy: `cs.jax.training` imports it, `cs.jax.function` imports what is
measured. JAX traces the functions, and computes in advance whatever no example's weight reaches: keys, counters,
schedules, dropout masks, the order of the data.

Every float is a float64 here, also those that are float32 or bfloat16 in JAX.

Requires the extra `circuitsketch[jax]`. JAX is imported when a function of this module is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from circuitsketch.arguments import call, check_callable
from circuitsketch.circuit import Circuit
from circuitsketch.frontends.imported import require_extra
from circuitsketch.passes import gather_scalars
from circuitsketch.training.training import Training, check_step, entry_per_step, example_ids, trained_params
from circuitsketch.tree import unflatten

if TYPE_CHECKING:
    from circuitsketch.frontends.jax.state import StateLayout

__all__ = ["JaxTraining", "function", "training"]


def load_frontend() -> Any:
    """Import the front end, and with it JAX; raise InputError if it is not installed."""
    with require_extra("jax", "jax", "jaxlib"):
        from circuitsketch.frontends import jax as frontend
    return frontend


class JaxTraining(Training):
    """A training run whose step is written in JAX, see `training`.

    Its state has the leaves that weights reach, as nested dicts and lists, by the paths that JAX gives them.

    Attributes
    ----------
    layout : StateLayout
        Where these leaves are in JAX's state.
    """

    layout: StateLayout

    def to_jax(self, state: Any) -> Any:
        """Return a state of this run as JAX's pytree.

        Parameters
        ----------
        state : pytree
            A state of `train`, `retrain` or a measurement.

        Returns
        -------
        pytree
            Of the structure of the state that `cs.jax.training` was given; leaves that no weight reaches (keys,
            counters) have their values after the last step.

        Examples
        --------
        >>> import jax.numpy as jnp, circuitsketch as cs
        >>> step = lambda s, x, keep: {"w": s["w"] + keep.sum() * x, "t": s["t"] + 1}
        >>> run = cs.jax.training(step, {"w": jnp.zeros(()), "t": 0}, [1.0, 10.0], [[0], [1]])
        >>> {name: float(leaf) for name, leaf in run.to_jax(run.retrain(without=[0])).items()}
        {'t': 2.0, 'w': 10.0}
        """
        return self.layout.to_jax(state)

    def step_circuit(self, step: Callable[[Any, Any, Any], Any], batch: Any, examples: int, t: int) -> Circuit:
        """Return the simplified circuit of a step, see `Training`, with scalars gathered."""
        return gather_scalars(super().step_circuit(step, batch, examples, t))

    def params(self, state: Any) -> Any:
        """Return the parameters in a state, as JAX's pytree."""
        whole = self.to_jax(state)
        return call(self.chosen_params, "params", whole) if self.chosen_params is not None else trained_params(whole)

    def param_leaves(self, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the arrays among the leaves of the parameters, given the leaves of a state."""
        values = load_frontend().array_leaves(self.params(unflatten(self.state_tree, list(leaves))))
        return [np.asarray(value, np.float64) for value in values if np.asarray(value).dtype.kind == "f"]


def training(
    step: Callable[[Any, Any, Any], Any],
    state: Any,
    batches: Sequence[Any],
    examples: Sequence[Any],
    *,
    n: int | None = None,
    params: Callable[[Any], Any] | None = None,
    labels: Sequence[Any] | None = None,
    items: Sequence[Any] | None = None,
) -> JaxTraining:
    """Import a training run that is written in JAX.

    Parameters
    ----------
    step : callable
        `step(state, batch, keep) -> state`, in JAX, with its gradient and its optimiser; `keep` has one entry per
        example of the step, 1 - w, by which its loss is multiplied.
    state : pytree
        The initial state, of any kind that JAX knows: parameters, the optimiser's state, keys, counters.
    batches : sequence of pytrees
        One per step, of arrays. Shapes may differ between steps.
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

    Returns
    -------
    JaxTraining
        A `Training` of the leaves that weights reach, with one circuit per shape of batch and path through branches.

    Raises
    ------
    TraceError
        If weights reach something for which there is no gate; the message names JAX's primitive, the user's line, and
        what to write instead.
    InputError, ShapeError
        On invalid arguments, before the run starts.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, circuitsketch as cs
    >>> def step(params, x, keep):
    ...     return params - 0.1 * jax.grad(lambda p: (keep * (p * x - 1.0) ** 2).sum())(params)
    >>> run = cs.jax.training(step, jnp.zeros(()), [jnp.ones(1)] * 3, [[0], [1], [0]])
    >>> round(float(run.train()), 4), round(float(run.retrain(without=[0])), 4)
    (0.488, 0.2)
    """
    check_callable(step, "step")
    check_step(step)
    batches = entry_per_step(batches, "batches")
    ids = example_ids(examples, len(batches))
    imported = load_frontend().import_step(step, state, batches, [len(row) for row in ids])
    options: dict[str, Any] = {"n": n, "params": params, "labels": labels, "items": items}
    run = JaxTraining(imported.step, imported.state, imported.batches, ids, **options)
    run.layout = imported.layout
    return run


def function(f: Callable[..., Any]) -> Callable[..., Any]:
    """Import a function that is written in JAX, for measurements, and for losses under `cs.grad`.

    Under `cs.grad`, the derivative is that of the function's values: the rules of `jax.custom_jvp` and `jax.custom_vjp`
    are not used.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays, in JAX.

    Returns
    -------
    callable
        The same function, of wires and of plain arrays, in double precision. JAX traces it for the shapes of the wires
        among its arguments; all others are passed on as they are.

    Raises
    ------
    TraceError
        When it is called: if there is no gate for something that it does with a wire.

    Examples
    --------
    >>> import jax, numpy as np, circuitsketch as cs
    >>> loss = cs.jax.function(lambda w, x: jax.nn.softplus(x @ w).sum())
    >>> cs.grad(loss)(np.zeros(2), np.eye(2))
    array([0.5, 0.5])
    """
    check_callable(f, "f")
    wrapped: Callable[..., Any] = load_frontend().import_function(f)
    return wrapped
