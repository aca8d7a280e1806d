"""microgpt and its training in JAX, for comparison, and directions through it by jax.experimental.jet.

In: a microgpt run of the package, with its words, initial parameters and learning rates. Out: functions that train,
retrain several subsets together, and propagate directions, all over the words in their order, without padding. Import
this only after setting the options of XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import jet
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import circuitsketch as cs

HEADS = 4


# jet multiplies series only by primals of the same dtype, so complex directions require complex primals, for which JAX
# has no error function. The primals are real, so this one is correct, and it has a derivative.
def erf_slope(x: Any) -> Any:
    """Return the derivative of erf."""
    return (2.0 / np.sqrt(np.pi)) * jnp.exp(-x * x)


def erf_of_real_part(x: Any) -> Any:
    """Return erf of a number with imaginary part zero."""
    return lax.complex(lax.erf(lax.real(x)), jnp.zeros_like(lax.real(x)))


erf_p = Primitive("erf_at_a_real_constant")
erf_p.def_impl(erf_of_real_part)
erf_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(erf_p, mlir.lower_fun(erf_of_real_part, multiple_results=False))
batching.defvectorized(erf_p)
ad.defjvp(erf_p, lambda tangent, x: tangent * erf_slope(x))
jet.jet_rules[erf_p] = partial(jet.deriv_prop, erf_p, erf_slope)


def erf(x: Any) -> Any:
    """Return the error function of real numbers, or of series with real primals."""
    return erf_p.bind(x) if jnp.iscomplexobj(x) else lax.erf(x)


def normalise(x: Any) -> Any:
    """Divide rows by their root mean square."""
    return x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5)


def loss(vector: Any, shapes: dict[str, tuple[int, ...]], tokens: Any, targets: Any) -> Any:
    """Return the mean cross-entropy on one word, without subtracting a maximum, since these scores are small."""
    p, begin = {}, 0
    for name, shape in shapes.items():
        end = begin + int(np.prod(shape))
        p[name] = vector[begin:end].reshape(shape)
        begin = end
    length, width = tokens.shape[0], shapes["wte"][1]
    split = (length, HEADS, width // HEADS)
    x = normalise(p["wte"][tokens] + p["wpe"][:length])
    layer = 0
    while f"layer{layer}.attn_wq" in p:
        part = {name.split(".")[1]: value for name, value in p.items() if name.startswith(f"layer{layer}.")}
        h = normalise(x)
        q, k, v = ((h @ part[f"attn_w{c}"].T).reshape(split) for c in "qkv")
        scores = jnp.exp(jnp.einsum("qhd,khd->hqk", q * (width // HEADS) ** -0.5, k)) * np.tri(length)
        attention = scores / jnp.sum(scores, axis=-1, keepdims=True)
        x = x + jnp.einsum("hqk,khd->qhd", attention, v).reshape(length, width) @ part["attn_wo"].T
        hidden = normalise(x) @ part["mlp_fc1"].T
        x = x + (hidden * (0.5 + 0.5 * erf(hidden * np.sqrt(0.5)))) @ part["mlp_fc2"].T
        layer += 1
    logits = x @ p["lm_head"].T
    picked = logits[np.arange(length), targets]
    return jnp.mean(jnp.log(jnp.sum(jnp.exp(logits), axis=-1)) - picked)


State = tuple[Any, Any, Any]  # parameters and Adam's two moments, each one vector


class JaxRun:
    """A run of the package, in JAX."""

    def __init__(self, run: cs.Training) -> None:
        params = run.state["params"]
        self.names = list(params)
        self.shapes = {name: value.shape for name, value in params.items()}
        self.first = flat(params)
        self.words = [(jnp.asarray(tokens), jnp.asarray(targets)) for tokens, targets, _ in run.batches]
        self.rates = [jnp.asarray(float(rate)) for _, _, rate in run.batches]
        self.numbers = [jnp.asarray(float(t)) for t in range(run.steps)]
        self.lengths = sorted({len(tokens) for tokens, _ in self.words})

    def state(self, subsets: int | None = None, dtype: Any = np.float64) -> State:
        """Return the initial state, or copies of it for several subsets."""
        first = self.first if subsets is None else np.tile(self.first, (subsets, 1))
        params = jnp.array(first, dtype)
        return params, jnp.zeros_like(params), jnp.zeros_like(params)

    def step(self, state: State, t: Any, tokens: Any, targets: Any, rate: Any, keep: Any) -> State:
        """Take a step of Adam with the epsilon inside the root."""
        params, m, v = state
        of_loss = jax.grad(loss, holomorphic=jnp.iscomplexobj(params))
        g = keep * of_loss(params, self.shapes, tokens, targets)
        m, v = 0.85 * m + 0.15 * g, 0.99 * v + 0.01 * (g * g)
        root = lax.rsqrt(v * (1.0 / (1.0 - 0.99 ** (t + 1.0))) + 1e-3)
        return params - (rate / (1.0 - 0.85 ** (t + 1.0))) * m * root, m, v

    def stepwise(self, keeps: np.ndarray) -> Callable[[], Any]:
        """Return the training with a jitted step per word length.

        `keeps` is (steps,), or (subsets, steps) to train several subsets together.
        """
        subsets = None if keeps.ndim == 1 else len(keeps)
        over = None if subsets is None else 0
        step = self.step if subsets is None else jax.vmap(self.step, in_axes=(0, None, None, None, None, over))
        jitted = jax.jit(step, donate_argnums=0)
        given = [jnp.asarray(keeps[..., t]) for t in range(len(self.words))]

        def train() -> Any:
            state = self.state(subsets)
            for t, (tokens, targets) in enumerate(self.words):
                state = jitted(state, self.numbers[t], tokens, targets, self.rates[t], given[t])
            return jax.block_until_ready(state[0])

        return train

    def scanned(self, keeps: np.ndarray) -> Callable[[], Any]:
        """Return the training as one jitted scan, in which a switch selects the step for the word's length."""
        train = self.scan()
        jitted = jax.jit(train if keeps.ndim == 1 else jax.vmap(train))
        weights = jnp.asarray(keeps)
        return lambda: jax.block_until_ready(jitted(weights))

    def scan(self, recompute: bool = False) -> Callable[[Any], Any]:
        """Return the training as a function of the keeps, to be jitted; `recompute`: its gradient keeps states only."""
        widest = self.lengths[-1]
        kind = jnp.asarray([self.lengths.index(len(tokens)) for tokens, _ in self.words])
        padded = [jnp.asarray([np.resize(word[i], widest) for word in self.words]) for i in (0, 1)]

        def train(keep: Any) -> Any:
            def body(state: State, given: Any) -> tuple[State, None]:
                t, which, tokens, targets, rate, keep = given

                def of(length: int) -> Callable[[State], State]:
                    return lambda s: self.step(s, t, tokens[:length], targets[:length], rate, keep)

                return lax.switch(which, [of(length) for length in self.lengths], state), None

            given = (jnp.asarray(self.numbers), kind, *padded, jnp.asarray(self.rates), keep)
            return lax.scan(jax.checkpoint(body) if recompute else body, self.state(), given)[0][0]

        return train

    def metagradient(self, word: tuple[Any, Any], recompute: bool) -> Callable[[], Any]:
        """The derivatives of the loss on a word with respect to the downweight of every step."""
        value = self.outcome(word, recompute)
        jitted = jax.jit(jax.grad(value))
        zeros = jnp.zeros(len(self.words))
        return lambda: jax.block_until_ready(jitted(zeros))

    def hessian_rows(self, word: tuple[Any, Any], directions: np.ndarray, recompute: bool) -> Callable[[], Any]:
        """The Hessian of the loss on a word times some directions: reverse over forward, vmapped."""
        value = self.outcome(word, recompute)
        slope = lambda w, psi: jax.jvp(value, (w,), (psi,))[1]  # noqa: E731
        jitted = jax.jit(jax.vmap(jax.grad(slope), in_axes=(None, 0)))
        zeros, given = jnp.zeros(len(self.words)), jnp.asarray(directions)
        return lambda: jax.block_until_ready(jitted(zeros, given))

    def outcome(self, word: tuple[Any, Any], recompute: bool) -> Callable[[Any], Any]:
        """The loss of the trained model on a word, as a function of the downweights of the steps."""
        train = self.scan(recompute)
        return lambda w: loss(train(1.0 - w), self.shapes, jnp.asarray(word[0]), jnp.asarray(word[1]))

    def jet(self, directions: np.ndarray, order: int, block: int) -> Callable[[], Any]:
        """Return the propagation of directions by jet, vmapped, `block` at a time, with a jitted step per word length.

        Primals are shared by a block, since vmap does not batch what does not depend on a direction.
        """

        def step(zero: State, terms: Any, t: Any, tokens: Any, targets: Any, rate: Any, psi: Any) -> Any:
            keep = [-psi, *[jnp.zeros_like(psi)] * (order - 1)]

            def f(params: Any, m: Any, v: Any, keep: Any) -> State:
                return self.step((params, m, v), t, tokens, targets, rate, keep)

            ones = jnp.ones((), psi.dtype)
            return jet.jet(f, (*zero, ones), (*map(list, terms), keep), factorial_scaled=False)

        axes = (None, 0, None, None, None, None, 0)
        jitted = jax.jit(jax.vmap(step, in_axes=axes, out_axes=(None, 0)))
        blocks = [directions[begin : begin + block] for begin in range(0, len(directions), block)]
        given = [[jnp.asarray(psi, complex) for psi in rows.T] for rows in blocks]

        def push() -> list[Any]:
            results = []
            for rows, psi in zip(blocks, given, strict=True):
                zero = self.state(dtype=complex)
                terms: Any = ([jnp.zeros((len(rows), self.first.size), complex)] * order,) * 3
                for t, (tokens, targets) in enumerate(self.words):
                    zero, terms = jitted(zero, terms, self.numbers[t], tokens, targets, self.rates[t], psi[t])
                results.append(jax.block_until_ready((zero[0], terms[0])))
            return results

        return push


def flat(params: dict[str, Any], lead: int = 0) -> np.ndarray:
    """Concatenate flattened matrices, row by row, after `lead` leading axes."""
    return np.concatenate([np.reshape(value, (*np.shape(value)[:lead], -1)) for value in params.values()], axis=-1)


__all__ = ["JaxRun", "flat"]
