"""A gradient is a circuit too, so it can be printed, measured, and differentiated again."""

import numpy as np

import circuitsketch as cs


def energy(x):
    """Compute a smooth function of three numbers."""
    return np.sum(np.sqrt(1.0 + x**2)) + np.exp(-x[0] * x[1])


def main():
    """Compare the gradient and a Hessian-vector product with finite differences."""
    x, direction = np.array([0.3, -1.2, 0.7]), np.array([1.0, 2.0, -1.0])
    circuit, gradient = cs.trace(energy, x), cs.trace(cs.grad(energy), x)
    print(gradient)
    print(f"\nthe function has size {circuit.size}, its gradient {gradient.size}")

    # Outside a trace, `grad` and `jvp` compute; a Hessian-vector product is the jvp of a gradient.
    slope, curvature = cs.jvp(cs.grad(energy), (x,), (direction,))
    step = 1e-4
    values = [energy(x + s * direction) for s in (-step, 0.0, step)]
    print(f"slope     {slope @ direction:+.6f}, by differences {(values[2] - values[0]) / (2 * step):+.6f}")
    second = (values[2] - 2 * values[1] + values[0]) / step**2
    print(f"curvature {curvature @ direction:+.6f}, by differences {second:+.6f}")
    return slope @ direction, curvature @ direction


if __name__ == "__main__":
    main()
