"""Models to sketch, with their data: each a module of its own, written with the public API alone.

    microgpt   a small GPT on first names
    logistic   logistic regression, on breast tumours
    mlp        a multi-layer perceptron, on handwritten digits
    cnn        a small convolutional network, on handwritten digits

Each has `training(...)`, which returns a `Training` and has defaults for all arguments, and functions of the trained
parameters to measure: `loss`, and for classifiers `logits`, `margin`, `held_out_loss`, `held_out_margin`. The
classifiers share `supervised`, mini-batch training of any model with one loss per example, and the included `datasets`.
They also serve as examples: use `from circuitsketch.zoo import mlp`, or copy one and modify it.
"""
