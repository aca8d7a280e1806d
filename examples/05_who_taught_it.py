"""A small GPT trained on first names: which of them taught it to spell a given name?"""

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import microgpt


def main(name="katherine", count=300, directions=300, shown=8):
    """Rank names by the effect of deleting them, and check a group deletion by retraining."""
    names = microgpt.names()[:count]  # the most common ones first
    run = microgpt.training(names, seed=0, alphabet=microgpt.ALPHABET)
    # As many orthonormal directions as names: the first order is exact, and all noise comes from the second.
    sketch = cs.sketch(run, directions=directions, order=2)
    query = sketch.measure(microgpt.loss, name)

    effect = query.influence()
    ranked = np.argsort(-effect.change)
    print(f"The loss on {name!r} is {query.baseline:.3f} nats per letter. Largest changes when one name is deleted:")
    print(f"{'without':<32}{'without'}")
    for helpful, misleading in zip(ranked[:shown], ranked[::-1][:shown], strict=True):
        columns = (f"{names[i]:<12}{effect.change[i]:+.4f} +- {effect.stderr[i]:.4f}" for i in (helpful, misleading))
        print("    ".join(columns))

    # Check a group that was not selected by these estimates: the largest of 300 noisy estimates are biased upwards.
    alike = [i for i, other in enumerate(names) if other[:2] == name[:2]]
    prediction = query.without(alike)
    truth = float(microgpt.loss(run.params(run.retrain(without=alike)), name))
    print(f"\nWithout all {len(alike)} that begin with {name[:2]!r} ({', '.join(names[i] for i in alike)}):")
    print(f"  predicted {prediction.value:.3f} +- {prediction.stderr:.3f}, retrained {truth:.3f}")
    return [names[i] for i in ranked], effect, prediction, truth


if __name__ == "__main__":
    main()
