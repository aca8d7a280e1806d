"""The training of the perceptron along directions as truncated polynomials in JAX, for comparison.

In: the run of `workloads.mlp`, with its batches and initial parameters. Out: the propagation of directions through it,
with the arithmetic and the reverse mode of jax_polynomial.py. Import this only after setting the options of XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax_polynomial import Poly, Tape, exp_at, gelu_at, log_at
from workloads import MLP_RATE

import circuitsketch as cs

State = tuple[dict[str, Poly], dict[str, Poly]]  # parameters and their velocity


def rows(tape: Tape, bias: int, count: int) -> int:
    """Repeat a vector as `count` rows."""

    def repeated(a: Any) -> Any:
        return jnp.broadcast_to(a[..., None, :], (*a.shape[:-1], count, a.shape[-1]))

    return tape.linear(bias, repeated, lambda ct: ct.sum(-2))


def loss_gradients(params: dict[str, Poly], x: Any, y: Any, keep: Poly) -> dict[str, Poly]:
    """Return the gradient of the mean loss of a batch, weighted by keep (examples, 1), along all directions."""
    tape = Tape()
    p = {name: tape.note(value) for name, value in params.items()}
    count = x.shape[0]
    scores = tape.note(Poly(x))
    for name in [name[:-2] for name in params if name.endswith("_w")]:
        product = tape.einsum("bi,io->bo", scores, p[f"{name}_w"])
        scores = tape.add(product, rows(tape, p[f"{name}_b"], count))
        if name != "out":
            scores = tape.apply(gelu_at, scores)
    logsum = tape.apply(log_at, tape.sum_last(tape.apply(exp_at, scores)))
    chosen = jax.nn.one_hot(y, params["out_b"].zero.shape[0], dtype=x.dtype)
    each = tape.add(logsum, tape.sum_last(tape.scale(scores, -chosen)))
    weighted = tape.scale(tape.multiply(each, tape.note(keep)), 1.0 / count)
    total = tape.linear(
        weighted, lambda a: a.sum((-1, -2)), lambda a: jnp.broadcast_to(a[..., None, None], (*a.shape, count, 1))
    )
    return dict(zip(p, tape.gradients(total, list(p.values())), strict=True))


def step(state: State, x: Any, y: Any, keep: Poly) -> State:
    """Take a step of gradient descent with momentum."""
    params, velocity = state
    grads = loss_gradients(params, x, y, keep)
    velocity = {name: velocity[name].scaled(0.9) + g for name, g in grads.items()}
    return {name: params[name] - v.scaled(MLP_RATE) for name, v in velocity.items()}, velocity


def push(run: cs.Training, directions: np.ndarray, order: int, block: int) -> Callable[[], Any]:
    """Return a function that propagates directions, `block` at a time, and returns the trained parameters."""
    jitted = jax.jit(step, donate_argnums=0)
    batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in run.batches]
    blocks = [directions[begin : begin + block] for begin in range(0, len(directions), block)]

    def keep(psi: np.ndarray) -> Poly:
        terms = np.zeros((order, 2, *psi.shape, 1))
        terms[0, :, :, :, 0] = -psi.real, -psi.imag
        return Poly(jnp.ones((psi.shape[1], 1)), jnp.asarray(terms))

    keeps = [[keep(part[:, ids]) for ids in run.examples] for part in blocks]

    def first(count: int) -> State:
        def polynomials(scale: float) -> dict[str, Poly]:
            return {
                name: Poly(jnp.array(value * scale), jnp.zeros((order, 2, count, *value.shape)))
                for name, value in run.state["params"].items()
            }

        return polynomials(1.0), polynomials(0.0)

    def propagate() -> list[dict[str, Poly]]:
        results = []
        for part, of_steps in zip(blocks, keeps, strict=True):
            state = first(len(part))
            for (x, y), kept in zip(batches, of_steps, strict=True):
                state = jitted(state, x, y, kept)
            results.append(jax.block_until_ready(state[0]))
        return results

    return propagate


__all__ = ["push", "step"]
