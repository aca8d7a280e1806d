"""Trained parameters are a power series in the example weights: compare it with finite differences on one direction."""

from math import factorial

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import logistic

# Central differences of second order of accuracy: weights of f(-2s) .. f(2s) for the derivative times s^k.
STENCILS = {
    1: [0, -1 / 2, 0, 1 / 2, 0],
    2: [0, 1, -2, 1, 0],
    3: [-1 / 2, 1, 0, -1, 1 / 2],
    4: [1, -4, 6, -4, 1],
}


def main(order=8):
    """Propagate the direction that deletes ten tumours through a run; print its coefficients and partial sums."""
    data = logistic.data(200)
    run = logistic.training(data.x, data.y, epochs=50)
    direction = np.zeros(run.n)
    direction[np.flatnonzero(data.y == 1)[:10]] = 1.0  # w = z * direction: z = 1 deletes ten malignant ones

    def measure(params):
        return logistic.margin(params, data.test_x, data.test_y).mean()

    # One real direction: the run is executed once, on polynomials in z.
    series = cs.push(run, [direction], order=order).measure(measure).coefficients[0].real

    # The slow way: retrain at five points near z = 0, all at once.
    step = 0.05
    nearby = run.params(run.retrain(without=step * np.outer([-2, -1, 0, 1, 2], direction)))
    values = np.array([measure({name: p[i] for name, p in nearby.items()}) for i in range(5)])
    differences = [weights @ values / step**k / factorial(k) for k, weights in STENCILS.items()]
    print("coefficients of z^k     by series   by differences")
    for k, difference in enumerate(differences, start=1):
        print(f"  k = {k}            {series[k]:+14.8f} {difference:+16.8f}")

    truth = measure(run.params(run.retrain(without=direction)))
    sums = np.cumsum(series)
    print(f"\nmean margin as trained {series[0]:.6f}, retrained without the ten (z = 1) {truth:.6f}; the series' sums:")
    for k, value in enumerate(sums):
        print(f"  up to z^{k}: {value:.6f}, off by {abs(value - truth):.1e}")
    return series, np.array(differences), sums, truth


if __name__ == "__main__":
    main()
