"""One digit in twenty has a wrong label. A metagradient finds them in one sweep, and better weights in a few more."""

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import mlp


def main(count=500, epochs=20, steps=3, size=0.5):
    """Rank the labels by the derivatives of a loss; then follow the derivatives to weights that lower it."""
    data = mlp.data(count)
    rng = np.random.default_rng(0)
    wrong = rng.choice(count, count // 20, replace=False)
    y = data.y.copy()
    y[wrong] = (y[wrong] + rng.integers(1, 10, len(wrong))) % 10
    run = mlp.training(data.x, y, epochs=epochs, schedule=cs.optim.cosine)

    def loss(params, part):
        return mlp.loss(params, data.test_x[part], data.test_y[part]).mean()

    trusted, others = slice(0, 400), slice(400, 700)
    slopes = cs.metagradient(run, loss, trusted)
    suspects = np.argsort(slopes)  # those whose removal lowers the loss most come first
    found = np.isin(suspects[: 2 * len(wrong)], wrong).sum()
    print(f"{len(wrong)} of {count} labels are wrong; {found} of these are among the first {2 * len(wrong)} suspects")

    # Follow the metagradient: a downweight above 0 trusts an example less, one below 0 more.
    w = np.zeros(run.n)
    losses = [(float(loss(run.params(run.train()), trusted)), float(loss(run.params(run.train()), others)))]
    for _ in range(steps):
        slopes = cs.metagradient(run, loss, trusted, at=w)
        w = np.clip(w - size * slopes / np.abs(slopes).max(), -1, 1)
        params = run.params(run.retrain(w))
        losses.append((float(loss(params, trusted)), float(loss(params, others))))
    print("\nretrained       loss on 400 trusted digits  on 300 others")
    for step, (here, there) in enumerate(losses):
        print(f"  after {step} steps {here:26.4f} {there:14.4f}")
    return suspects, wrong, w, losses


if __name__ == "__main__":
    main()
