"""Which names taught a small GPT to spell this one? One reverse sweep ranks them all, without a sketch."""

import time

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import microgpt


def main(name="mary", count=500, checked=5):
    """Rank the names by the first-order effect of leaving them out; retrain without the first ones to check."""
    run = microgpt.training(microgpt.names()[:count], alphabet=microgpt.ALPHABET)
    begun = time.perf_counter()
    found = cs.influence(run, microgpt.loss, name)
    print(f"{count} names in {time.perf_counter() - begun:.1f} s, with the compilation if it is the first time")
    print(found)

    ids = found.top(checked)
    retrained = run.params(run.retrain(np.eye(run.n)[ids]))
    truth = [float(microgpt.loss({k: v[i] for k, v in retrained.items()}, name)) for i in range(checked)]
    changes = np.array(truth) - found.baseline
    print("\nwithout it: to first order, and retrained")
    for i, change in zip(ids, changes, strict=True):
        print(f"  {run.items[i]:10s} {found.change[i]:+.4f}  {change:+.4f}")
    return found, ids, changes


if __name__ == "__main__":
    main()
