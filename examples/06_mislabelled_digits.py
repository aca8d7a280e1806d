"""One digit in twenty has a wrong label. Find these by their influence, and predict the model without them."""

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import mlp


def main(count=500, directions=500, epochs=20):
    """Rank the labels by the effect of their deletion on other digits; predict the accuracy without the worst ones."""
    data = mlp.data(count)
    rng = np.random.default_rng(0)
    wrong = rng.choice(count, count // 20, replace=False)
    y = data.y.copy()
    y[wrong] = (y[wrong] + rng.integers(1, 10, len(wrong))) % 10
    run = mlp.training(data.x, y, epochs=epochs, schedule=cs.optim.cosine)
    sketch = cs.sketch(run, directions=directions, order=2)

    # The mean margin on 400 digits with trusted labels is a smooth measure of quality.
    check_x, check_y = data.test_x[:400], data.test_y[:400]
    gain = sketch.measure(lambda p: mlp.margin(p, check_x, check_y).mean()).influence().change
    suspects = np.argsort(-gain)  # those whose deletion increases the margin most come first
    print(f"{len(wrong)} of {count} labels are wrong. Of the labels whose deletion would help most,")
    for top in (len(wrong), 2 * len(wrong)):
        print(f"  {np.isin(suspects[:top], wrong).sum()} of the first {top} are wrong ones")

    # Predict the effect of deleting the first of them, on other digits and without retraining.
    x, labels = data.test_x[400:700], data.test_y[400:700]
    ids = suspects[: len(wrong)]
    loss = sketch.measure(lambda p: mlp.loss(p, x, labels).mean()).without(ids)
    logits = sketch.measure(mlp.logits, x).without(ids).value  # accuracy has no series, so predict logits
    before, after = (run.params(state) for state in (run.train(), run.retrain(without=ids)))
    accuracy = [
        mlp.accuracy(before, x, labels),
        float(np.mean(np.argmax(logits, axis=1) == labels)),
        mlp.accuracy(after, x, labels),
    ]
    truth = float(mlp.loss(after, x, labels).mean())
    print(f"\non {len(labels)} other digits       accuracy  loss")
    print(f"  as trained              {accuracy[0]:.3f}  {loss.baseline:.3f}")
    print(f"  without the {len(wrong)}, predicted {accuracy[1]:.3f}  {loss.value:.3f} +- {loss.stderr:.3f}")
    print(f"  without the {len(wrong)}, retrained {accuracy[2]:.3f}  {truth:.3f}")
    return suspects, wrong, accuracy, loss, truth


if __name__ == "__main__":
    main()
