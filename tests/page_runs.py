"""Runs for the tests of pages: rude labels and items, a training that diverges without some examples."""

from __future__ import annotations

import numpy as np

import circuitsketch as cs

MARKUP = '<img src=x onerror="document.title=1">'
CLOSING = "</script><script>document.title=1</script>"
LABELS = ("<b>user</b>", "user \U0001f600", "=1+1", "user \u202e3")
N = 40
DIVERGES = [0, 8, 16, 24, 32]  # the examples without all of which the training overflows


def words(count=N):
    """Items, some of which have a z in them."""
    letters = np.random.default_rng(1).choice(list("abcz"), size=(count, 4))
    items = ["".join(row) for row in letters]
    items[1], items[2], items[3] = MARKUP, CLOSING, "zoë \U0001f9e1"
    return items


def make(count=N, items=None):
    """A logistic regression of eight steps; its parameters overflow without all of `DIVERGES`."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 2))
    y = np.sign(x[:, 0] + 0.5 * rng.normal(size=count))
    share = np.isin(np.arange(count), DIVERGES) / len(DIVERGES)
    ids = [np.arange(k, count, 8) for k in range(8)]

    def step(w, batch, keep):
        x, y, share = batch
        grads = cs.grad(lambda w: (keep * cs.softplus(-y * (x @ w))).mean())(w)
        return (w - 0.5 * grads) * np.exp(1000 * ((1 - keep) * share).sum() ** 64)

    return cs.Training(
        step,
        np.zeros(2),
        [(x[i], y[i], share[i]) for i in ids],
        ids,
        labels=[LABELS[i % 4] for i in range(count)],
        items=words(count) if items is None else items,
    )


def loss(w):
    """The loss at one point."""
    return cs.softplus(-(w @ np.array([1.0, -0.5])))


def margins(w):
    """The margin of two groups."""
    return np.stack([w[0], w[0] + 2 * w[1]])


def measured(count=N, **options):
    """The queries of a sketch of the run, by name."""
    options = {"directions": 24, "order": 3, "per_example": "series"} | options
    sketch = cs.sketch(make(count), **options)
    return {"loss": sketch.measure(loss), "margin": sketch.measure(margins)}
