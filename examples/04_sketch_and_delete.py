"""Sketch the training of a logistic regression on breast tumours once; then predict the effect of any deletion."""

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import logistic


def main(directions=512, count=400):
    """Predict held-out margins without three groups of tumours, and train again without each to check."""
    data = logistic.data(count)
    run = logistic.training(data.x, data.y)
    sketch = cs.sketch(run, directions=directions, order=3)
    print(f"{run}\n{sketch}\n")

    # The measurement is chosen only now. It may be an array: here, the margins of all held-out tumours.
    def margins(params):
        return logistic.margin(params, data.test_x, data.test_y)

    each, mean = sketch.measure(margins), sketch.measure(lambda params: margins(params).mean())

    # So are the deletions. Column 3 is the mean area of the nuclei.
    malignant, benign = (np.flatnonzero(data.y == label) for label in (1, 0))
    groups = {
        "8 at random": np.random.default_rng(0).permutation(count)[:8],
        "the 8 smallest malignant": malignant[np.argsort(data.x[malignant, 3])[:8]],
        "the 8 largest benign": benign[np.argsort(data.x[benign, 3])[-8:]],
    }
    retrained = run.params(run.retrain(without=list(groups.values())))  # the ground truth, for all groups at once
    truths = [margins({name: p[k] for name, p in retrained.items()}) for k in range(len(groups))]

    print(f"as trained: mean margin {mean.baseline:.3f}, wrong on tumours {wrong(each.baseline)}")
    results = []
    for (name, ids), truth in zip(groups.items(), truths, strict=True):
        prediction = mean.without(ids)
        print(f"without {name}:")
        # Accuracy is a step function without a series: predict margins, which have one, and count afterwards.
        predicted = wrong(each.without(ids).value)
        print(f"  predicted {prediction.value:.3f} +- {prediction.stderr:.3f}, wrong on {predicted}")
        print(f"  retrained {truth.mean():.3f}, wrong on {wrong(truth)}")
        results.append((prediction, truth.mean(), predicted, wrong(truth)))
    return results


def wrong(margins):
    """Return the tumours to whose correct diagnosis the model gives a probability below one half."""
    return np.flatnonzero(np.asarray(margins) < 0).tolist()


if __name__ == "__main__":
    main()
