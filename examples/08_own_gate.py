"""Define a custom gate: its value, the recurrence of its Taylor coefficients, and its derivative."""

import numpy as np

import circuitsketch as cs
from circuitsketch.extend import elementwise, integrate
from circuitsketch.testing import check_gate


def snake_step(k, ops, u, v, s, c):
    """v = u + (1 - c) / 2 with s = sin(2u), c = cos(2u): s' = 2 c u' and c' = -2 s u'."""
    s[k] = 2.0 * integrate(k, ops, u, c)
    c[k] = -2.0 * integrate(k, ops, u, s)
    v[k] = u[k] - 0.5 * c[k]


# x + sin(x)^2, an activation for periodic data (Ziyin, Hartwig and Ueda, arXiv 2006.08195).
snake = elementwise(
    "snake",
    1,  # operand
    lambda m, x: (
        x + 0.5 - 0.5 * m.cos(2.0 * x),
        m.sin(2.0 * x),
        m.cos(2.0 * x),
    ),  # v, then its companions s, c
    snake_step,
    lambda ct, out, x: (ct * (1.0 + np.sin(2.0 * x)),),
    companions=2,
)


def composed(x):
    """Compute the same from existing gates, as a reference."""
    return x + np.square(np.sin(x))


def coefficients(function, order):
    """Return the Taylor coefficients of function(1 + z - 2 z^2), (order + 1,), by compiled kernels."""
    compiled = cs.compile(cs.trace(function, 0.0), order)
    return compiled.series((1.0,), (np.array([[1.0, -2.0]]),))[0].real


def loss(params, x, y):
    """Compute the squared errors of a network with one hidden layer of the gate, one value per example."""
    return np.square(snake(x[:, None] * params["w"] + params["b"]) @ params["v"] - y)


def step(state, batch, keep):
    """Take one step of training; the gate differentiates like any other."""
    grads = cs.grad(lambda p: (keep * loss(p, *batch)).mean())(state["params"])
    return cs.optim.momentum(state, grads, learning_rate=0.01)


def main(order=5, directions=64, steps=300):
    """Check the gate, compare it with its composition, then sketch a training that uses it."""
    check_gate(snake)
    ours, theirs = coefficients(snake, order), coefficients(composed, order)
    print("coefficients at 1 + z - 2 z^2, of the gate and of its composition")
    for k in range(order + 1):
        print(f"  z^{k} {ours[k]:+.12f} {theirs[k]:+.12f}")
    print(f"scalar gates: {cs.trace(snake, 0.0).size} instead of {cs.trace(composed, 0.0).size}")

    # A periodic signal with one wrong reading.
    rng = np.random.default_rng(0)
    x = np.linspace(-4, 4, 40)
    y = np.sin(2 * x) + 0.1 * rng.normal(size=40)
    y[25] += 1.0
    params = {"w": rng.normal(size=8), "b": rng.normal(size=8), "v": 0.1 * rng.normal(size=8)}
    state = cs.optim.momentum_state(params)
    run = cs.Training(step, state, [(x, y)] * steps, [np.arange(40)] * steps)
    query = cs.sketch(run, directions, order=3).measure(lambda p: snake(x[25] * p["w"] + p["b"]) @ p["v"])
    prediction = query.without([25])
    after = run.params(run.retrain(without=[25]))
    truth = float(snake(x[25] * after["w"] + after["b"]) @ after["v"])
    print(f"\nwhere the reading is wrong the wave is {np.sin(2 * x[25]):.3f}, the model says {prediction.baseline:.3f}")
    print(f"without that reading: predicted {prediction.value:.3f} +- {prediction.stderr:.3f}, retrained {truth:.3f}")
    return ours, theirs, prediction, truth


if __name__ == "__main__":
    main()
