"""One digit in twenty has a wrong label. A convolutional network in PyTorch learns them; a metagradient finds them."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call, grad
from torch.utils.data import DataLoader, TensorDataset

import circuitsketch as cs
from circuitsketch.zoo import cnn


def main(count=300, epochs=8, size=30):
    """Rank the labels by the derivative of a held-out loss; train without the first of them, here and in PyTorch."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # such small tensors gain nothing from more
    data = cnn.data(count)
    rng = np.random.default_rng(0)
    wrong = rng.choice(count, count // 20, replace=False)
    y = data.y.copy()
    y[wrong] = (y[wrong] + rng.integers(1, 10, len(wrong))) % 10

    # The module, the optimiser and the loader are PyTorch's own; the step is a function of its state.
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))
    optimiser = cs.torch.optimiser(torch.optim.SGD, lr=0.1, momentum=0.9)

    def losses(params, images, labels):
        return F.cross_entropy(functional_call(model, params, (images[:, None],)), labels, reduction="none")

    def step(state, batch, keep):  # keep: the weight of each example's loss, 1 unless it is deleted
        grads = grad(lambda p: (keep * losses(p, *batch)).mean())(state["params"])
        params, moments = optimiser.step(state["params"], grads, state["moments"])
        return {"params": params, "moments": moments}

    params = {name: value.detach().clone() for name, value in model.named_parameters()}
    state = {"params": params, "moments": optimiser.init(params)}
    loader = DataLoader(TensorDataset(torch.tensor(data.x, dtype=torch.float32), torch.tensor(y)), batch_size=size)
    batches, examples = list(loader) * epochs, np.arange(count).reshape(-1, size).tolist() * epochs
    run = cs.torch.training(step, state, batches, examples, labels=y.tolist())
    print(run)

    check = data.test_x[:400], data.test_y[:400]
    loss = cs.torch.function(lambda params, images, labels: losses(params, images, labels).mean())
    slopes = cs.metagradient(run, loss, *check)
    suspects = np.argsort(slopes)  # those whose removal lowers the loss most come first
    found = np.isin(suspects[: 2 * len(wrong)], wrong).sum()
    print(f"{len(wrong)} of {count} labels are wrong; {found} of these are among the first {2 * len(wrong)} suspects")

    # Without the first of them, retrained here, and by PyTorch itself in single precision.
    ids = suspects[: len(wrong)]
    keep = torch.ones(count)
    keep[ids.copy()] = 0.0
    for batch, rows in zip(batches, examples, strict=True):
        state = step(state, batch, keep[rows])
    here, there = (float(loss(p, *check)) for p in (run.params(run.retrain(without=ids)), state["params"]))
    print(f"held-out loss {float(loss(run.params(run.train()), *check)):.4f}, without the first {len(ids)} {here:.4f}")
    print(f"retrained in PyTorch {there:.4f}")
    return suspects, wrong, here, there


if __name__ == "__main__":
    main()
