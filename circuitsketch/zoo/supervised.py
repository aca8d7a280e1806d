"""Training by mini-batches: a model's loss, its first parameters and labelled examples in, a `Training` out.

What logistic regression, the perceptron and the small convolutional network share, and what a model of one's own may
use as well: batches in shuffled order, an optimiser by name, a schedule, clipping, dropout masks.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo.datasets import check_seed, is_whole, shown

# Adam divides by the root of a mean square gradient. Inside the root an epsilon keeps that analytic where gradients
# vanish, and its size decides how far: a parameter whose gradients are below sqrt(EPSILON) moves in proportion to them,
# and the smaller it is, the smaller the deletions for which the series converges.
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
    """The training of any model that has one loss an example.

    Step t reads a batch of examples, multiplies their losses by keep = 1 - w, and follows the gradient of the sum
    divided by the size of the batch (w changes no denominator).

    Parameters
    ----------
    loss : `loss(params, x, y)` -> one value an example, in NumPy; with `masks`, `loss(params, x, y, mask)`.
    params : the first parameters, a pytree of arrays.
    x, y : examples along axis 0. Whole-numbered y are labels for run-time indexing, others are constants.
    epochs : how often each example is read. batch_size : examples a step; the last batch of an epoch takes what is
        left, and None takes all of them in every step, in their order.
    learning_rate, optimiser : "sgd", "momentum" (0.9), "adam" or "adamw" (epsilon 1e-4 inside the root).
    weight_decay : of all parameters; adam has none, adamw a decoupled one.
    schedule : `schedule(t, steps)` -> a factor of the learning rate at step t, such as `cs.optim.cosine`.
    clip : the limit of `cs.optim.clip_by_norm`, or None.
    masks : `masks(t, examples of the batch)` -> an array that the loss is given at step t, such as a dropout mask.
    groups : (examples,) whole numbers from 0: examples of one group (a class, a source) share a weight, and the run
        has as many weights as there are groups. Without it every example has its own.
    seed : shuffles the examples anew for each epoch.

    Returns
    -------
    Training of state {"params", ...} on n = len(x) examples, labelled by their whole-numbered y, or on n groups.

    Raises
    ------
    InputError : for options that cannot be, named one by one.

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
    if not is_whole(epochs):
        raise InputError(f"epochs is {shown(epochs)}; give a whole number, at least 1: how often each example is read")
    if batch_size is not None and not is_whole(batch_size):
        raise InputError(
            f"batch_size is {shown(batch_size)}; give a whole number, at least 1, or None for all examples in a step"
        )
    if not is_real(learning_rate):
        raise InputError(f"learning_rate is {shown(learning_rate)}; give a number")
    check_seed(seed)
    check_function(loss, "loss", *("params", "x", "y"), *["mask"] * (masks is not None))
    if schedule is not None:
        check_function(schedule, "schedule", "t", "steps")
    if masks is not None:
        check_function(masks, "masks", "t", "count")
    weights = np.arange(count) if groups is None else array_of(groups, "groups")
    if weights.shape != (count,) or weights.dtype.kind not in "iu" or weights.min() < 0:
        raise InputError(f"groups are one whole number from 0 for each of {count} examples, not {shown(groups)}")
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
    """An array of numbers; InputError for anything else."""
    try:
        array = np.asarray(value)
    except Exception as reason:
        raise InputError(f"{name} is not an array of numbers: {reason}") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {array.dtype}; give real numbers")
    return array


def check_function(value: Any, name: str, *takes: str) -> None:
    """InputError for what cannot be called with these arguments."""
    if not callable(value):
        raise InputError(f"{name} must be a function, not {type(value).__name__}")
    try:
        signature(value).bind(*takes)
    except TypeError as reason:
        raise InputError(f"{name} is a function of ({', '.join(takes)}): {reason}") from None
    except ValueError:  # what is not written in Python may have no signature
        pass


def is_real(value: Any) -> bool:
    """Whether a value is a finite number."""
    kinds = int | float | np.integer | np.floating
    fine = isinstance(value, kinds) and not isinstance(value, bool | np.timedelta64)
    return fine and bool(abs(value) < 1e300)


def given_or(data: Callable[[], Any], x: Any, y: Any) -> tuple[Any, Any]:
    """The examples and labels that were given, or the zoo's where neither was. InputError for one without the other."""
    if x is None and y is None:
        return data()[:2]
    if x is None or y is None:
        raise InputError(f"{'x' if x is None else 'y'} is missing; give x and y together, or neither for the zoo's own")
    return x, y


def update_rule(optimiser: str, weight_decay: float) -> Callable[[Any, Any, Any], Any]:
    """`update(state, grads, rate)` of an optimiser by name; InputError for an unknown one, or a decay it has not."""
    if not isinstance(optimiser, str) or optimiser not in OPTIMISERS:
        raise InputError(f"optimiser is {shown(optimiser)}; choose one of {', '.join(OPTIMISERS)}")
    if not is_real(weight_decay):
        raise InputError(f"weight_decay is {shown(weight_decay)}; give a number")
    if weight_decay and optimiser == "adam":
        raise InputError("adam has no weight decay that keeps its meaning; choose optimiser='adamw'")
    rule = getattr(cs.optim, optimiser)
    options: dict[str, Any] = {"eps": 0.0, "eps_root": EPSILON} if optimiser in ("adam", "adamw") else {}
    if optimiser != "adam":
        options["weight_decay"] = weight_decay
    return lambda state, grads, rate: rule(state, grads, rate, **options)


def batches_of(count: int, epochs: int, batch_size: int | None, seed: int) -> list[np.ndarray]:
    """The ids that each step reads: every epoch a new order, cut into batches."""
    if batch_size is None:
        return [np.arange(count)] * epochs
    rng = np.random.default_rng(seed)
    return [
        order[begin : begin + batch_size]
        for order in (rng.permutation(count) for _ in range(epochs))
        for begin in range(0, count, batch_size)
    ]


def check_labels(y: Any, classes: int) -> None:
    """InputError unless y are whole numbers in 0..classes-1, before a model is made for them."""
    y = array_of(y, "y")
    if y.dtype.kind not in "iu":
        raise InputError(f"labels are whole numbers in 0..{classes - 1}, not of dtype {y.dtype}; use y.astype(int)")
    if y.size and (y.min() < 0 or y.max() >= classes):
        raise InputError(f"labels run from {y.min()} to {y.max()}; with {classes} classes give 0..{classes - 1}")


def margins(logits: Any, labels: Any) -> Any:
    """log(p / (1 - p)) of the right class, one value an example: above 0 where it is likelier than all others together.

    Unlike accuracy it is smooth, and unlike the loss it does not flatten where a model is sure. Written as the logit of
    the right class less the log of the sum of the others' exponentials, so that p near 1 costs no digits.

    logits : (examples, classes), at least two classes. labels : (examples,) whole numbers in 0..classes-1; others are
        refused by BoundsError.

    >>> margins(np.array([[0.0, 3.0]]), np.array([1]))
    array([3.])
    """
    classes = np.shape(logits)[-1]
    cs.cross_entropy(np.zeros(np.shape(logits)), labels)  # refuses a label without a class; nothing reads it
    # Row c names the classes other than c: gathered by label, they leave the right one out.
    others = np.array([[other for other in range(classes) if other != label] for label in range(classes)])
    rest = cs.take(others, labels, axis=0)
    wrong = np.take_along_axis(logits, rest, axis=1)
    # log-sum-exp of the wrong logits, by way of a cross-entropy: -log softmax = log-sum-exp less the logit itself.
    first = np.zeros(np.shape(logits)[0], dtype=np.int64)
    total = cs.cross_entropy(wrong, first) + wrong[:, 0]
    right = np.take_along_axis(logits, np.reshape(labels, (-1, 1)), axis=1)[:, 0]
    return right - total
