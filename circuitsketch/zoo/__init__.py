"""Models to sketch, with their data: each a module of its own, written with the public API alone.

    microgpt   a small GPT on first names
    logistic   logistic regression, on breast tumours
    mlp        a multi-layer perceptron, on handwritten digits
    cnn        a small convolutional network, on handwritten digits

Each has `training(...)`, a `Training` with defaults for everything, and functions of the trained parameters to
measure: `loss`, and for classifiers `logits`, `margin`, `held_out_loss`, `held_out_margin`. The last three share
`supervised`, the training by mini-batches of any model with one loss an example, and `datasets`, whose data are
shipped. They are examples as much as tools: `from circuitsketch.zoo import mlp`, or copy one and change it.
"""
