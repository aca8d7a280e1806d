"""Random training steps in plain NumPy, and two oracles for them that know nothing of circuits.

A step that is plain NumPy can be iterated on arrays, with weights that may be complex: a run's values on a circle of
weights, Fourier transformed, are its Taylor coefficients (Cauchy's formula). `attention` is a function for the kernels.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import circuitsketch as cs

SQUARE = {
    # All keep entries below 1.3 in size, on the circle of complex weights too.
    "mean": lambda x, y: 0.5 * x + 0.5 * y,
    "difference": lambda x, y: 0.5 * (x - y),
    "product": lambda x, y: 0.7 * x * y,
    "sine": lambda x, y: 0.6 * np.sin(x),
    "matmul": lambda x, y: 0.3 * (x @ y),
    "rows": lambda x, y: 0.3 * x * y.sum(axis=0),
    "transpose": lambda x, y: x.T,
    "reverse": lambda x, y: x[::-1, ::-1],
    "reshape": lambda x, y: x.T.reshape(4)[::-1].reshape(2, 2),
    "repeat": lambda x, y: np.broadcast_to(x[0], (2, 2)),
    "concatenate": lambda x, y: np.concatenate([x[:1], y[1:]]),
    "stack": lambda x, y: np.stack([x[1], y[:, 0]]),
    "data": lambda x, y: np.array([[1.0, -0.5], [0.25, 0.75]]),
    "masked": lambda x, y: x * np.eye(2),
    "chosen": lambda x, y: np.where(np.array([[True, False], [False, True]]), x, y),
    "itself": lambda x, y: x,
}
instructions = st.tuples(st.sampled_from(sorted(SQUARE)), st.integers(0, 8), st.integers(0, 8))
codes = st.lists(instructions, max_size=8)


def random_step(code, results):
    """A step on a tuple of (2, 2) arrays: `code` by kind of batch, the new state any of the values it made."""

    def step(state, batch, keep):
        values = [*state, 0.9 * keep.reshape(2, 2), batch.reshape(2, 2)]
        for name, i, j in code[np.ndim(batch) - 2]:
            values.append(SQUARE[name](values[-1 - i % len(values)], values[-1 - j % len(values)]))
        return tuple(values[-1 - i % len(values)] for i in results[np.ndim(batch) - 2])

    return step


def by_hand(step, state, batches, examples, w):
    """The step iterated in NumPy, with weights 1 - w that may be complex."""
    for batch, ids in zip(batches, examples, strict=True):
        state = step(state, batch, 1.0 - w[ids])
    return state


def on_a_circle(function, order, points=16):
    """Taylor coefficients 0..order of a function of z: its values on the unit circle, Fourier transformed (Cauchy)."""
    values = np.stack([function(z) for z in np.exp(2j * np.pi * np.arange(points) / points)])
    return np.fft.fft(values, axis=0)[: order + 1] / points


def attention(x, w, labels):
    """A bit of everything that training is made of: contractions, softmax, normalisation, gathers, a gradient."""

    def loss(w):
        a = cs.softmax(np.einsum("bik,kl,bjl->bij", x, w, x)) @ x
        a = a / np.sqrt(np.mean(a * a, axis=-1, keepdims=True) + 0.1)
        return cs.cross_entropy(cs.gelu(a @ w), labels).mean() + (np.maximum(w, 0.1) * np.tanh(w)).sum()

    return loss(w), cs.grad(loss)(w)
