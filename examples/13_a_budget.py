"""What does a budget buy? Predict deletions for 10 to 600 trainings, and retrain to check."""

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import logistic


def main(budgets=(10, 60, 300, 600), count=200, asked=40):
    """Predict a held-out loss without random subsets, with more and more trainings."""
    data = logistic.data(count)
    run = logistic.training(data.x, data.y, epochs=3)
    rng = np.random.default_rng(1)
    subsets = [rng.choice(count, rng.integers(2, count // 10), replace=False).tolist() for _ in range(asked)]

    def loss(params):
        return logistic.loss(params, data.test_x, data.test_y).mean()

    weights = run.params(run.retrain(without=subsets))  # the ground truth
    truths = np.array([loss({name: leaf[i] for name, leaf in weights.items()}) for i in range(asked)])

    results = []
    for budget in budgets:
        query = cs.attribute(run, loss, budget=budget, size=(2, count // 10))
        prediction = query.without(subsets)
        low, high = prediction.interval(0.9)
        error = np.sqrt(((prediction.value - truths) ** 2).mean()) / truths.std()
        covered = float(((low <= truths) & (truths <= high)).mean())
        print(f"budget {budget}: {query.plan}")
        print(f"  error {error:.3f} of the truths' deviation; {covered:.0%} of the truths in their 90 % intervals")
        results.append((error, covered))
    print(f"\n{query.worth}")

    # Two owners of a hundred tumours each: with one weight per owner, the answers are retrained, and exact.
    by_owner = cs.attribute(run.grouped((np.arange(count) // 100).tolist()), loss, budget=20)
    print(f"\n{by_owner.plan}\n{by_owner.influence()}")
    return (
        results,
        by_owner.influence().change,
        [loss(run.params(run.retrain(without=range(k, k + 100)))) for k in (0, 100)],
    )


if __name__ == "__main__":
    main()
