"""A large model is frozen and only an adapter and a head are trained: which examples does the head owe its errors to?

What the frozen part computes is data: its features are computed once, beforehand, by whatever library it is written in.
The run is the training of the head alone, however large the model below it is.
"""

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import cnn


def frozen_features(images, width=256):
    """Stand in for a pretrained network, of which only the features matter: a fixed random one with two layers."""
    rng = np.random.default_rng(0)
    flat = images.reshape(len(images), -1)
    hidden = np.tanh(flat @ rng.normal(size=(flat.shape[1], width)) / 4)
    return np.tanh(hidden @ rng.normal(size=(width, width)) / 16)


def head(params, features):
    """Return logits: a residual adapter of low rank, a layer of its own, and a linear classifier."""
    adapted = features + cs.gelu(features @ params["down"]) @ params["up"]
    return cs.gelu(adapted @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def first_params(width, rank=16, hidden=48, classes=10):
    """Draw the parameters; the adapter begins as the identity."""
    rng = np.random.default_rng(1)
    return {
        "down": rng.normal(size=(width, rank)) / np.sqrt(width),
        "up": np.zeros((rank, width)),
        "w1": rng.normal(size=(width, hidden)) / np.sqrt(width),
        "b1": np.zeros(hidden),
        "w2": rng.normal(size=(hidden, classes)) / np.sqrt(hidden),
        "b2": np.zeros(classes),
    }


def main(count=300, epochs=6, size=30, checked=5):
    """Train the head; ask what each example does to the worst held-out prediction; retrain to check."""
    data = cnn.data(count)
    x, test_x = frozen_features(data.x), frozen_features(data.test_x[:200])
    test_y = data.test_y[:200]

    def step(state, batch, keep):
        features, labels = batch
        grads = cs.grad(lambda p: (keep * cs.cross_entropy(head(p, features), labels)).mean())(state["params"])
        return cs.optim.sgd(state, grads, 0.3)

    params = first_params(x.shape[1])
    examples = np.arange(count).reshape(-1, size).tolist() * epochs
    batches = [(x[ids], data.y[ids]) for ids in examples]
    run = cs.Training(step, cs.optim.sgd_state(params), batches, examples, labels=data.y.tolist())
    print(f"{sum(leaf.size for leaf in params.values()):,} parameters of the head; {run}")

    trained = run.params(run.train())
    losses = cs.cross_entropy(head(trained, test_x), test_y)
    worst = int(np.argmax(losses))
    print(f"held-out digit {worst}, a {test_y[worst]}, has the largest loss, {losses[worst]:.2f}")

    def loss(params):
        return cs.cross_entropy(head(params, test_x[worst]), test_y[worst])

    effects = cs.influence(run, loss)
    ids = effects.top(checked)
    retrained = run.params(run.retrain(np.eye(count)[ids]))
    changes = (
        np.array([loss({name: leaf[i] for name, leaf in retrained.items()}) for i in range(checked)]) - losses[worst]
    )
    print("without it: to first order, and retrained")
    for i, change in zip(ids, changes, strict=True):
        print(f"  a {data.y[i]}, example {i:3d}  {effects.change[i]:+.4f}  {change:+.4f}")
    return params, effects, ids, changes


if __name__ == "__main__":
    main()
