"""Mini-batch training. In: a model's loss, initial parameters and labelled examples; out: a `Training`.

Logistic regression, the perceptron and the convolutional network use it, and other models can: batches in shuffled
order, an optimiser by name, a schedule, clipping, dropout masks.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo.datasets import check_seed, is_integer, short_repr

# Adam divides by the root of a mean squared gradient. An epsilon inside the root keeps that analytic where gradients
# vanish: a parameter whose gradients are below sqrt(EPSILON) changes in proportion to them. The smaller the epsilon,
# the smaller the deletions for which the series converges.
EPSILON = 1e-4
OPTIMISERS = ("sgd", "momentum", "adam", "adamw")
Schedule = Callable[[Any, int], Any]


def training(
    loss: Callable[..., Any],
    params: Any,
    x: Any,
    y: Any,
    *,
    epochs: int = 5,
    batch_size: int | None = 32,
    learning_rate: float = 0.1,
    optimiser: str = "momentum",
    weight_decay: float = 0.0,
    schedule: Schedule | None = None,
    clip: float | None = None,
    masks: Callable[[int, int], np.ndarray] | None = None,
    groups: Any = None,
    seed: int = 0,
) -> cs.Training:
    """Return the training of any model that has one loss per example.

    Step t reads a batch of examples, multiplies their losses by keep = 1 - w, and follows the gradient of the sum
    divided by the batch size (w changes no denominator).

    Parameters
    ----------
    loss : callable
        `loss(params, x, y)` -> one value per example, in NumPy; with `masks`, `loss(params, x, y, mask)`.
    params : pytree
        The initial parameters, arrays.
    x : (examples, ...) array
        The inputs.
    y : (examples, ...) array
        The targets; integers are labels for run-time indexing.
    epochs : int
        The number of passes over the examples.
    batch_size : int or None
        The number of examples per step; the last batch of an epoch may be smaller. None uses all examples in every
        step, in their order.
    learning_rate : float
        The base learning rate.
    optimiser : str
        "sgd", "momentum" (0.9), "adam" or "adamw" (epsilon 1e-4 inside the root).
    weight_decay : float
        The decay of all parameters; decoupled for adamw, not available for adam.
    schedule : callable or None
        `schedule(t, steps)` -> a factor of the learning rate at step t, such as `cs.optim.cosine`.
    clip : float or None
        The limit of `cs.optim.clip_by_norm`.
    masks : callable or None
        `masks(t, count)` -> an array passed to the loss at step t of a batch of `count` examples, such as a dropout
        mask.
    groups : (examples,) array of int or None
        Non-negative group numbers: examples of one group (a class, a source) share a weight, and the run has one weight
        per group. None gives each example its own weight.
    seed : int
        The seed of the shuffled order, which differs between epochs.

    Returns
    -------
    Training
        With state {"params", ...}, on n = len(x) examples, labelled by y if y is integers, or on n groups.

    Raises
    ------
    InputError
        For invalid arguments.

    Examples
    --------
    >>> def loss(params, x, y):
    ...     return (x @ params - y) ** 2
    >>> x, y = np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 7.0])
    >>> run = training(loss, np.zeros(1), x, y, epochs=99, batch_size=None, optimiser="sgd")
    >>> run.train()["params"].round(3), run.retrain(without=[2])["params"].round(3)
    (array([2.214]), array([2.]))
    """
    x, y = array_of(x, "x"), array_of(y, "y")
    count = len(x) if x.ndim else 0
    if count == 0 or y.ndim == 0 or len(y) != count:
        raise InputError(f"x has the shape {x.shape} and y {y.shape}; give as many labels as examples, at least one")
    if not is_integer(epochs):
        raise InputError(f"epochs is {short_repr(epochs)}; give an integer, at least 1")
    if batch_size is not None and not is_integer(batch_size):
        raise InputError(
            f"batch_size is {short_repr(batch_size)}; give an integer >= 1, or None for all examples in each step"
        )
    if not is_real(learning_rate):
        raise InputError(f"learning_rate is {short_repr(learning_rate)}; give a number")
    check_seed(seed)
    check_function(loss, "loss", *("params", "x", "y"), *["mask"] * (masks is not None))
    if schedule is not None:
        check_function(schedule, "schedule", "t", "steps")
    if masks is not None:
        check_function(masks, "masks", "t", "count")
    weights = np.arange(count) if groups is None else array_of(groups, "groups")
    if weights.shape != (count,) or weights.dtype.kind not in "iu" or weights.min() < 0:
        raise InputError(
            f"groups must be one non-negative integer for each of {count} examples, not {short_repr(groups)}"
        )
    update = update_rule(optimiser, weight_decay)

    def step(state: Any, batch: Any, keep: Any) -> Any:
        rate, *read = batch
        grads = cs.grad(lambda p: (keep * loss(p, *read)).mean())(state["params"])
        return update(state, grads if clip is None else cs.optim.clip_by_norm(grads, clip), rate)

    examples = batches_of(count, epochs, batch_size, seed)
    steps = len(examples)
    batches = []
    for t, ids in enumerate(examples):
        rate = np.float64(learning_rate * (1.0 if schedule is None else schedule(t, steps)))
        mask = () if masks is None else (masks(t, len(ids)),)
        batches.append((rate, x[ids], y[ids], *mask))
    first = getattr(cs.optim, f"{optimiser}_state")(params)
    n, read = int(weights.max()) + 1, [weights[ids] for ids in examples]
    classes = y if groups is None and y.ndim == 1 and y.dtype.kind in "iu" else None
    return cs.Training(step, first, batches, read, n=n, labels=classes)


def array_of(value: Any, name: str) -> np.ndarray:
    """Return an array of numbers, or raise InputError."""
    try:
        array = np.asarray(value)
    except Exception as reason:
        raise InputError(f"{name} is not an array of numbers: {reason}") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {array.dtype}; give real numbers")
    return array


def check_function(value: Any, name: str, *takes: str) -> None:
    """Raise InputError unless a value can be called with these arguments."""
    if not callable(value):
        raise InputError(f"{name} must be a function, not {type(value).__name__}")
    try:
        signature(value).bind(*takes)
    except TypeError as reason:
        raise InputError(f"{name} must accept ({', '.join(takes)}): {reason}") from None
    except ValueError:  # a function that is not written in Python may have no signature
        pass


def is_real(value: Any) -> bool:
    """Return whether a value is a finite number."""
    kinds = int | float | np.integer | np.floating
    number = isinstance(value, kinds) and not isinstance(value, bool | np.timedelta64)
    return number and bool(abs(value) < 1e300)


def data_or_default(data: Callable[[], Any], x: Any, y: Any) -> tuple[Any, Any]:
    """Return x and y, or the zoo's data if both are None; raise InputError if only one is."""
    if x is None and y is None:
        return data()[:2]
    if x is None or y is None:
        raise InputError(f"{'x' if x is None else 'y'} is missing; give x and y together, or neither")
    return x, y


def update_rule(optimiser: str, weight_decay: float) -> Callable[[Any, Any, Any], Any]:
    """Return `update(state, grads, rate)` of an optimiser by name; raise InputError for unsupported options."""
    if not isinstance(optimiser, str) or optimiser not in OPTIMISERS:
        raise InputError(f"optimiser is {short_repr(optimiser)}; choose one of {', '.join(OPTIMISERS)}")
    if not is_real(weight_decay):
        raise InputError(f"weight_decay is {short_repr(weight_decay)}; give a number")
    if weight_decay and optimiser == "adam":
        raise InputError("adam does not support weight_decay; choose optimiser='adamw'")
    rule = getattr(cs.optim, optimiser)
    options: dict[str, Any] = {"eps": 0.0, "eps_root": EPSILON} if optimiser in ("adam", "adamw") else {}
    if optimiser != "adam":
        options["weight_decay"] = weight_decay
    return lambda state, grads, rate: rule(state, grads, rate, **options)


def batches_of(count: int, epochs: int, batch_size: int | None, seed: int) -> list[np.ndarray]:
    """Return the example ids of each step: every epoch a new order, split into batches."""
    if batch_size is None:
        return [np.arange(count)] * epochs
    rng = np.random.default_rng(seed)
    return [
        order[begin : begin + batch_size]
        for order in (rng.permutation(count) for _ in range(epochs))
        for begin in range(0, count, batch_size)
    ]


def check_labels(y: Any, classes: int) -> None:
    """Raise InputError unless y are integers in 0..classes-1."""
    y = array_of(y, "y")
    if y.dtype.kind not in "iu":
        raise InputError(f"labels must be integers in 0..{classes - 1}, not of dtype {y.dtype}; use y.astype(int)")
    if y.size and (y.min() < 0 or y.max() >= classes):
        raise InputError(f"labels run from {y.min()} to {y.max()}; with {classes} classes give 0..{classes - 1}")


def margins(logits: Any, labels: Any) -> Any:
    """Compute log(p / (1 - p)) of the correct class, one value per example; positive where p > 1/2.

    Unlike accuracy it is smooth, and unlike the loss it does not flatten where a model is confident. It is the logit of
    the correct class minus the log-sum-exp of the others, so that p near 1 loses no precision.

    Parameters
    ----------
    logits : (examples, classes) array_like or Wire
        Scores of at least two classes.
    labels : (examples,) array_like or Wire of int
        The correct classes, integers in 0..classes-1.

    Returns
    -------
    (examples,) array or Wire
        The margins.

    Raises
    ------
    BoundsError
        If a label is out of range.

    Examples
    --------
    >>> margins(np.array([[0.0, 3.0]]), np.array([1]))
    array([3.])
    """
    classes = np.shape(logits)[-1]
    cs.cross_entropy(np.zeros(np.shape(logits)), labels)  # checks the labels; the value is unused
    # Row c lists the classes other than c; gathered by label, it excludes the correct one.
    others = np.array([[other for other in range(classes) if other != label] for label in range(classes)])
    rest = cs.take(others, labels, axis=0)
    wrong = np.take_along_axis(logits, rest, axis=1)
    # log-sum-exp of the other logits, by a cross-entropy: -log softmax = log-sum-exp minus the logit.
    first = np.zeros(np.shape(logits)[0], dtype=np.int64)
    total = cs.cross_entropy(wrong, first) + wrong[:, 0]
    right = np.take_along_axis(logits, np.reshape(labels, (-1, 1)), axis=1)[:, 0]
    return right - total
