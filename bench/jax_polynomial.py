"""Truncated polynomials in JAX with their own reverse mode, as an expert would write them by hand, for comparison.

In: microgpt's parameters and a word. Out: one training step along several directions at once. As in the package,
primals are real and shared by all directions, coefficients are complex, and a unary function needs its derivatives at
the primal only. Of the variants tried on one core (complex einsums, lanes last, blocks side by side in one product,
coefficients as separate arrays) this was the fastest with XLA on CPUs: separate real and imaginary parts, directions as
the batch of each einsum, and few enough directions for the cache. Import this only after setting the options of XLA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pair = tuple[Any, Any]  # real and imaginary part, each (directions, *shape)


@dataclass(frozen=True, eq=False)
class Poly:
    """The polynomial zero + terms[0] z + terms[1] z^2 + ...

    `zero` is real (*shape); `terms` (order, 2, directions, *shape) has separate real and imaginary parts, None for a
    constant.
    """

    zero: Any
    terms: Any = None

    def __add__(self, other: Poly) -> Poly:
        return Poly(self.zero + other.zero, add_terms(self.terms, other.terms))

    def __sub__(self, other: Poly) -> Poly:
        return self + other.scaled(-1.0)

    def __mul__(self, other: Poly) -> Poly:
        return bilinear(lambda a, b: a * b, self, other)

    def scaled(self, factor: Any) -> Poly:
        """Multiply by a real number or array that all directions share."""
        return self.linear(lambda a: a * factor)

    def linear(self, f: Callable[[Any], Any]) -> Poly:
        """Apply a linear function that treats leading axes as a batch."""
        return Poly(f(self.zero), None if self.terms is None else f(self.terms))


jax.tree_util.register_pytree_node(Poly, lambda p: ((p.zero, p.terms), None), lambda _, parts: Poly(*parts))


def add_terms(one: Any, two: Any) -> Any:
    """Add terms, of which either may be None."""
    if one is None or two is None:
        return two if one is None else one
    return one + two


def bilinear(f: Callable[[Any, Any], Any], x: Poly, y: Poly) -> Poly:
    """Multiply two polynomials with a bilinear f: coefficient k is the sum of f(x_j, y_{k-j})."""
    from_x = None if x.terms is None else f(x.terms, y.zero)
    from_y = None if y.terms is None else f(x.zero, y.terms)
    terms = add_terms(from_x, from_y)
    if from_x is not None and from_y is not None and len(terms) > 1:
        parts = [jnp.zeros_like(terms[0])]
        for k in range(1, len(terms)):
            re = im = 0.0
            for j in range(k):
                (a, b), (c, d) = x.terms[j], y.terms[k - 1 - j]
                re, im = re + (f(a, c) - f(b, d)), im + (f(a, d) + f(b, c))
            parts.append(jnp.stack([re, im]))
        terms = terms + jnp.stack(parts)
    return Poly(f(x.zero, y.zero), terms)


def composed(f: Sequence[Any], u: Poly) -> Poly:
    """sum_m f_m (u - u_0)^m: f holds a function's own Taylor coefficients at u_0, constant term first."""
    order = len(u.terms)
    total = [(f[1] * re, f[1] * im) for re, im in u.terms]
    power: dict[int, Pair] = dict(enumerate(u.terms, start=1))
    for m in range(2, order + 1):
        following: dict[int, Pair] = {}
        for k in range(m, order + 1):
            re = im = 0.0
            for j in range(1, k - m + 2):
                (a, b), (c, d) = u.terms[j - 1], power[k - j]
                re, im = re + (a * c - b * d), im + (a * d + b * c)
            following[k] = (re, im)
            total[k - 1] = (total[k - 1][0] + f[m] * re, total[k - 1][1] + f[m] * im)
        power = following
    return Poly(f[0], jnp.stack([jnp.stack(t) for t in total]))


# Taylor coefficients 0..order + 1 of a function at real points, one more than needed for its derivative.
def exp_at(x: Any, order: int) -> list[Any]:
    """Return the coefficients of e^x."""
    e = jnp.exp(x)
    return [e / factorial(m) for m in range(order + 2)]


def log_at(x: Any, order: int) -> list[Any]:
    """Return the coefficients of ln x."""
    return [jnp.log(x), *((-1) ** (m - 1) / m * x ** float(-m) for m in range(1, order + 2))]


def power_at(exponent: float) -> Callable[[Any, int], list[Any]]:
    """Return the coefficients of x^exponent."""

    def at(x: Any, order: int) -> list[Any]:
        one, terms = 1.0 / x, [x**exponent]
        for m in range(order + 1):
            terms.append(terms[-1] * one * ((exponent - m) / (m + 1)))
        return terms

    return at


def gelu_at(x: Any, order: int) -> list[Any]:
    """Return the coefficients of x Phi(x), by the equation e' = -x e of the normal density."""
    e = [jnp.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)]
    phi = [0.5 + 0.5 * lax.erf(x * np.sqrt(0.5))]
    for m in range(order + 1):
        phi.append(e[m] / (m + 1))
        e.append(-(x * e[m] + (e[m - 1] if m else 0.0)) / (m + 1))
    return [x * phi[0], *(x * phi[m] + phi[m - 1] for m in range(1, order + 2))]


def derivative(f: Sequence[Any]) -> list[Any]:
    """Return the Taylor coefficients of f'."""
    return [m * f[m] for m in range(1, len(f))]


class Tape:
    """Reverse mode over polynomials: every operation records its vjp."""

    def __init__(self) -> None:
        self.values: list[Poly] = []
        self.back: list[Callable[[Poly], list[tuple[int, Poly]]] | None] = []

    def note(self, value: Poly, back: Callable[[Poly], list[tuple[int, Poly]]] | None = None) -> int:
        """Record a value and return its number."""
        self.values.append(value)
        self.back.append(back)
        return len(self.values) - 1

    def gradients(self, of: int, to: Sequence[int]) -> list[Poly]:
        """Return the gradient of a scalar."""
        pending = {of: Poly(jnp.ones(self.values[of].zero.shape))}
        for i in range(of, -1, -1):
            back = self.back[i]
            if i in pending and back is not None:
                for j, ct in back(pending.pop(i)):
                    pending[j] = pending[j] + ct if j in pending else ct
        return [pending[i] for i in to]

    def add(self, i: int, j: int) -> int:
        """Multiply elementwise, with equal shapes."""
        return self.note(self.values[i] + self.values[j], lambda ct: [(i, ct), (j, ct)])

    def multiply(self, i: int, j: int) -> int:
        """Multiply elementwise; the second may have a last axis of size 1."""
        x, y = self.values[i], self.values[j]

        def back(ct: Poly) -> list[tuple[int, Poly]]:
            slope = ct * x
            if y.zero.shape[-1] == 1 != x.zero.shape[-1]:
                slope = slope.linear(lambda a: a.sum(-1, keepdims=True))
            return [(i, ct * y), (j, slope)]

        return self.note(x * y, back)

    def scale(self, i: int, factor: Any) -> int:
        """Multiply by a number or array."""
        return self.note(self.values[i].scaled(factor), lambda ct: [(i, ct.scaled(factor))])

    def apply(self, at: Callable[[Any, int], list[Any]], i: int) -> int:
        """Apply a unary function."""
        u = self.values[i]
        f = at(u.zero, len(u.terms))
        return self.note(composed(f, u), lambda ct: [(i, ct * composed(derivative(f), u))])

    def einsum(self, spec: str, i: int, j: int) -> int:
        """Contract two values; directions are a leading ellipsis."""
        (one, two), out = spec.split("->")[0].split(","), spec.split("->")[1]
        x, y = self.values[i], self.values[j]

        def back(ct: Poly) -> list[tuple[int, Poly]]:
            return [
                (i, contracted(f"{out},{two}->{one}", ct, y)),
                (j, contracted(f"{one},{out}->{two}", x, ct)),
            ]

        return self.note(contracted(spec, x, y), back)

    def linear(self, i: int, f: Callable[[Any], Any], adjoint: Callable[[Any], Any]) -> int:
        """Apply a linear function, given with its adjoint."""
        return self.note(self.values[i].linear(f), lambda ct: [(i, ct.linear(adjoint))])

    def sum_last(self, i: int, weight: float = 1.0) -> int:
        """Sum over the last axis, keeping it."""
        shape = self.values[i].zero.shape
        return self.linear(
            i,
            lambda a: a.sum(-1, keepdims=True) * weight,
            lambda a: jnp.broadcast_to(a, (*a.shape[: a.ndim - len(shape)], *shape)) * weight,
        )


def contracted(spec: str, x: Poly, y: Poly) -> Poly:
    """Compute an einsum of polynomials."""
    (one, two), out = spec.split("->")[0].split(","), spec.split("->")[1]
    dotted = f"...{one},...{two}->...{out}"
    return bilinear(lambda a, b: jnp.einsum(dotted, a, b), x, y)


def rows(tape: Tape, i: int, at: Any) -> int:
    """Gather rows of a matrix."""
    shape = tape.values[i].zero.shape

    def adjoint(ct: Any) -> Any:
        return jnp.zeros((*ct.shape[:-2], *shape)).at[..., at, :].add(ct)

    return tape.linear(i, lambda a: a[..., at, :], adjoint)


def normalised(tape: Tape, x: int) -> int:
    """Divide rows by their root mean square."""
    width = tape.values[x].zero.shape[-1]
    mean = tape.sum_last(tape.multiply(x, x), 1.0 / width)
    inside = tape.note(tape.values[mean] + Poly(1e-5), lambda ct: [(mean, ct)])
    return tape.multiply(x, tape.apply(power_at(-0.5), inside))


def reshaped(tape: Tape, i: int, shape: tuple[int, ...]) -> int:
    """Reshape the last axes."""
    old = tape.values[i].zero.shape
    return tape.linear(
        i,
        lambda a: a.reshape(*a.shape[: a.ndim - len(old)], *shape),
        lambda a: a.reshape(*a.shape[: a.ndim - len(shape)], *old),
    )


def loss_gradients(params: dict[str, Poly], tokens: Any, targets: Any, heads: int = 4) -> dict[str, Poly]:
    """Return the gradient of microgpt's mean loss on one name, along all directions."""
    tape = Tape()
    p = {name: tape.note(value) for name, value in params.items()}
    length, width = tokens.shape[0], params["wte"].zero.shape[1]
    split = (length, heads, width // heads)
    x = tape.add(rows(tape, p["wte"], tokens), rows(tape, p["wpe"], np.arange(length)))
    x = normalised(tape, x)
    layer = 0
    while f"layer{layer}.attn_wq" in p:
        part = {key.split(".")[1]: i for key, i in p.items() if key.startswith(f"layer{layer}.")}
        h = normalised(tape, x)
        q, k, v = (reshaped(tape, tape.einsum("li,oi->lo", h, part[f"attn_w{c}"]), split) for c in "qkv")
        scores = tape.scale(tape.einsum("qhd,khd->hqk", q, k), (width // heads) ** -0.5)
        e = tape.scale(tape.apply(exp_at, scores), np.tri(length))
        attention = tape.multiply(e, tape.apply(power_at(-1.0), tape.sum_last(e)))
        mixed = reshaped(tape, tape.einsum("hqk,khd->qhd", attention, v), (length, width))
        x = tape.add(x, tape.einsum("li,oi->lo", mixed, part["attn_wo"]))
        hidden = tape.apply(gelu_at, tape.einsum("li,oi->lo", normalised(tape, x), part["mlp_fc1"]))
        x = tape.add(x, tape.einsum("li,oi->lo", hidden, part["mlp_fc2"]))
        layer += 1
    logits = tape.einsum("li,oi->lo", x, p["lm_head"])
    logsum = tape.apply(log_at, tape.sum_last(tape.apply(exp_at, logits)))
    chosen = jax.nn.one_hot(targets, params["wte"].zero.shape[0], dtype=jnp.float64)
    picked = tape.sum_last(tape.scale(logits, -chosen))
    each = tape.scale(tape.add(logsum, picked), 1.0 / length)
    total = tape.linear(
        each, lambda a: a.sum((-1, -2)), lambda a: jnp.broadcast_to(a[..., None, None], (*a.shape, length, 1))
    )
    return dict(zip(p, tape.gradients(total, list(p.values())), strict=True))


State = tuple[dict[str, Poly], dict[str, Poly], dict[str, Poly]]


def step(state: State, t: Any, tokens: Any, targets: Any, rate: Any, keep: Poly) -> State:
    """Take a step of Adam with the epsilon inside the root; `keep` is 1 - z psi."""
    params, m, v = state
    grads = {name: keep * g for name, g in loss_gradients(params, tokens, targets).items()}
    new_p, new_m, new_v = {}, {}, {}
    for name, g in grads.items():
        new_m[name] = m[name].scaled(0.85) + g.scaled(0.15)
        new_v[name] = v[name].scaled(0.99) + (g * g).scaled(0.01)
        inside = new_v[name].scaled(1.0 / (1.0 - 0.99 ** (t + 1.0))) + Poly(1e-3)
        root = composed(power_at(-0.5)(inside.zero, len(inside.terms)), inside)
        new_p[name] = params[name] - (new_m[name] * root).scaled(rate / (1.0 - 0.85 ** (t + 1.0)))
    return new_p, new_m, new_v


def first_state(params: dict[str, Any], directions: int, order: int) -> State:
    """Return the initial parameters and moments, with zero terms."""

    def polynomials(tree: dict[str, Any]) -> dict[str, Poly]:
        return {
            name: Poly(jnp.array(value), jnp.zeros((order, 2, directions, *value.shape)))
            for name, value in tree.items()
        }

    moments = {name: np.zeros_like(value) for name, value in params.items()}
    return polynomials(params), polynomials(moments), polynomials(moments)


def keep_of(psi: np.ndarray, order: int) -> Poly:
    """Return 1 - z psi for directions psi (directions,), to multiply matrices with."""
    terms = np.zeros((order, 2, len(psi), 1, 1))
    terms[0, :, :, 0, 0] = -psi.real, -psi.imag
    return Poly(jnp.ones((1, 1)), jnp.asarray(terms))


def push(run: Any, params: dict[str, Any], directions: np.ndarray, order: int, block: int) -> Callable[[], Any]:
    """Return a function that propagates directions through the training of a `JaxRun`, `block` at a time.

    The step is jitted once per word length; the function returns the trained parameters of each block.
    """
    jitted = jax.jit(step, donate_argnums=0)
    blocks = [directions[begin : begin + block] for begin in range(0, len(directions), block)]
    keeps = [[keep_of(psi, order) for psi in rows.T] for rows in blocks]

    def propagate() -> list[dict[str, Poly]]:
        results = []
        for rows, keep in zip(blocks, keeps, strict=True):
            state = first_state(params, len(rows), order)
            for t, (tokens, targets) in enumerate(run.words):
                state = jitted(state, run.numbers[t], tokens, targets, run.rates[t], keep[t])
            results.append(jax.block_until_ready(state[0]))
        return results

    return propagate


def coefficients(blocks: list[dict[str, Poly]], names: Sequence[str]) -> np.ndarray:
    """Return the result of `push` as (directions, order + 1, parameters), with flattened matrices, row by row."""
    results = []
    for params in blocks:
        columns = []
        for name in names:
            terms = np.moveaxis(np.asarray(params[name].terms), 2, 0)
            terms = terms[:, :, 0] + 1j * terms[:, :, 1]
            zero = np.broadcast_to(np.asarray(params[name].zero), terms[:, :1].shape)
            both = np.concatenate([zero, terms], axis=1)
            columns.append(both.reshape(*both.shape[:2], -1))
        results.append(np.concatenate(columns, axis=-1))
    return np.concatenate(results)


__all__ = ["Poly", "coefficients", "push", "step"]
