"""Use a custom model and optimiser: sketch their training once, then predict any deletion."""

import numpy as np

import circuitsketch as cs

EXAMPLES, BATCH, EPOCHS = 120, 12, 4


def loss(params, x, y):
    """Compute the cross-entropy of a small network, one value per example."""
    hidden = np.tanh(x @ params["w1"] + params["b1"])
    return cs.cross_entropy(hidden @ params["w2"] + params["b2"], y)


def step(state, batch, keep):
    """Take one step; multiplying the losses by `keep`, 1 - w of the batch's examples, makes it differentiable in w."""
    params, velocity = state["params"], state["velocity"]
    grads = cs.grad(lambda p: (keep * loss(p, *batch)).mean())(params)
    # Gradient descent with momentum and weight decay, written out; cs.optim provides this and Adam.
    velocity = {name: 0.9 * velocity[name] + grads[name] + 1e-3 * params[name] for name in params}
    return {"params": {name: params[name] - 0.05 * velocity[name] for name in params}, "velocity": velocity}


def rings(rng, count):
    """Draw points on two noisy rings, labelled by ring."""
    y = rng.integers(0, 2, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = 1.0 + y + 0.2 * rng.normal(size=count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), y


def main(directions=512):
    """Predict the loss at a point of the outer ring without nearby examples, and retrain to check."""
    rng = np.random.default_rng(0)
    x, y = rings(rng, EXAMPLES)
    point = np.array([[2.0, 0.0]]), np.array([1])

    params = {
        "w1": rng.normal(size=(2, 8)),
        "b1": np.zeros(8),
        "w2": 0.5 * rng.normal(size=(8, 2)),
        "b2": np.zeros(2),
    }
    state = {"params": params, "velocity": {name: np.zeros_like(p) for name, p in params.items()}}
    examples = [ids for _ in range(EPOCHS) for ids in rng.permutation(EXAMPLES).reshape(-1, BATCH)]
    batches = [(x[ids], y[ids]) for ids in examples]

    run = cs.Training(step, state, batches, examples, n=EXAMPLES)
    sketch = cs.sketch(run, directions=directions, order=3, seed=0)
    # The measurement and the deletion are chosen only now.
    query = sketch.measure(lambda p: loss(p, *point)[0])
    near = np.flatnonzero((y == 1) & (x[:, 0] > 1.8))
    prediction = query.without(near)
    truth = loss(run.params(run.retrain(without=near)), *point)[0]

    print(prediction)
    print(f"\nretrained without {len(near)} of {EXAMPLES} examples: {truth:.4f}")
    print(f"predicted: {prediction.value:.4f} +- {prediction.stderr:.4f}; as trained: {prediction.baseline:.4f}")
    return prediction, truth


if __name__ == "__main__":
    main()
