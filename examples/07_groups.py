"""One weight per group: how does each class of digits affect the classification of the others?"""

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import mlp

DIGITS = np.eye(10)


def main(directions=200, count=500, epochs=10):
    """Predict the margins of all ten digits when classes get a quarter less weight; retrain to check."""
    data = mlp.data(count)
    # Examples of one group share a weight. Here the groups are the classes; they could be sources, writers, or weeks.
    # Ten weights need fewer directions than 500, and any mixture can be queried.
    run = mlp.training(data.x, data.y, groups=data.y, epochs=epochs)
    sketch = cs.sketch(run, directions=directions, order=3)

    share = DIGITS[:, data.test_y] / np.bincount(data.test_y)[:, None]
    query = sketch.measure(lambda p: share @ mlp.margin(p, data.test_x, data.test_y))  # ten means, one per digit

    each = query.reweight(0.25 * DIGITS)  # ten queries at once: row i has a quarter less of digit i
    print("change of the mean margin on digit   " + "".join(f"{digit:7d}" for digit in range(10)))
    for digit in range(10):
        print(f"with 3/4 of the weight of digit {digit}    " + "".join(f"{x:+7.2f}" for x in each.change[digit]))
    others = np.where(DIGITS, 0.0, each.change)
    helped, hurt = (np.unravel_index(pick, (10, 10)) for pick in (others.argmax(), others.argmin()))
    print(f"\nLess of the {helped[0]} helps the {helped[1]} most; less of the {hurt[0]} hurts the {hurt[1]} most.")

    mixtures = {"half of the 3": 0.5 * DIGITS[3], "a quarter of the odd digits": 0.25 * (np.arange(10) % 2)}
    results = []
    for name, downweights in mixtures.items():
        prediction = query.reweight(downweights)
        model = run.params(run.retrain(without=downweights))
        truth = share @ mlp.margin(model, data.test_x, data.test_y)
        print(f"\nwithout {name}:   as trained, predicted, retrained")
        for digit in (3, 8):
            value, error = prediction.value[digit], prediction.stderr[digit]
            print(
                f"  margin of the {digit}s: {query.baseline[digit]:.2f}, {value:.2f} +- {error:.2f}, {truth[digit]:.2f}"
            )
        results.append((prediction, truth))
    return each, results


if __name__ == "__main__":
    main()
