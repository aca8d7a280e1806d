"""microgpt: a GPT on the letters of names. In: names, one per step; out: a `Training`, and a loss to measure.

The model is that of Andrej Karpathy's microgpt.py (2026), with exact GELU instead of ReLU and the
epsilon of Adam inside the root, so that training is an analytic function of its example weights: token and position
embeddings, root-mean-square norms without weights, causal attention, no biases. Every function below is plain NumPy
and accepts arrays and wires.
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.zoo.datasets import check_seed, is_integer, short_repr

ALPHABET = string.ascii_lowercase
HEADS = 4
NORM_EPSILON = 1e-5
# The score of masked positions: its exp is exactly zero, in float32 too, and unlike -inf it is finite.
MASKED = -1e30
INIT_STD = 0.08
LEARNING_RATE = 0.01
LAYER_PARTS = ("attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2")


@dataclass(frozen=True)
class Config:
    """The sizes of a microgpt; the defaults are Karpathy's.

    Attributes
    ----------
    vocabulary : int
        The number of letters, and one for the boundary token, which begins and ends every word.
    width, layers, heads, context : int
        The sizes of the model; `width` is a multiple of `heads`.

    Raises
    ------
    InputError
        If a size is below 1, or the width is not a multiple of `heads`.

    Examples
    --------
    >>> Config().size
    4192
    """

    vocabulary: int = len(ALPHABET) + 1
    width: int = 16
    layers: int = 1
    heads: int = HEADS
    context: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not is_integer(value):
                raise InputError(f"microgpt: {name} is {short_repr(value)}; every size must be at least 1")
        check_heads(self.width, self.heads)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """The shape (out, in) of every parameter matrix, in the order of a flat parameter vector."""
        width = self.width
        shapes = {
            "wte": (self.vocabulary, width),
            "wpe": (self.context, width),
            "lm_head": (self.vocabulary, width),
        }
        for layer in range(self.layers):
            shapes |= {f"layer{layer}.attn_{part}": (width, width) for part in ("wq", "wk", "wv", "wo")}
            shapes |= {
                f"layer{layer}.mlp_fc1": (4 * width, width),
                f"layer{layer}.mlp_fc2": (width, 4 * width),
            }
        return shapes

    @property
    def size(self) -> int:
        """The number of scalar parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def parameters(self, vector: Any) -> dict[str, np.ndarray]:
        """Split a flat vector of `size` numbers into named matrices, row by row; raise InputError for other shapes."""
        vector = np.asarray(vector, dtype=np.float64)
        if vector.shape != (self.size,):
            raise InputError(
                f"microgpt: init has shape {vector.shape}, but {self} has {self.size} parameters; give a "
                f"flat vector of them, the matrices {', '.join(self.shapes)} row by row, or a seed instead"
            )
        parameters, begin = {}, 0
        for name, shape in self.shapes.items():
            end = begin + math.prod(shape)
            parameters[name] = vector[begin:end].reshape(shape).copy()
            begin = end
        return parameters

    def draw(self, seed: int) -> dict[str, np.ndarray]:
        """Draw initial parameters: independent normals of mean 0 and standard deviation 0.08."""
        return self.parameters(np.random.default_rng(check_seed(seed)).normal(0.0, INIT_STD, self.size))


def names() -> list[str]:
    """Return 5,163 first names of the 1990 US Census, in lower case, the most common first.

    They are ordered by the percentage of women plus the percentage of men with the name, ties alphabetically; all
    consist of 2 to 11 ASCII letters. Public domain; `data/PROVENANCE.txt` gives source, derivation and checksums.

    Returns
    -------
    list of str
        The names.

    Examples
    --------
    >>> names()[:3]
    ['james', 'john', 'robert']
    """
    return list(census_names())


@functools.cache
def census_names() -> tuple[str, ...]:
    """Return the first column of the included table; cached."""
    data = resources.files("circuitsketch.zoo") / "data"
    table = (data / "first_names_1990.txt").read_text(encoding="ascii")
    return tuple(line.split("\t")[0] for line in table.splitlines() if not line.startswith("#"))


def training(
    docs: Sequence[str] | int = 1000,
    *,
    seed: int | None = None,
    init: Any = None,
    alphabet: str | None = None,
    width: int = 16,
    layers: int = 1,
    heads: int = HEADS,
    context: int = 16,
    steps: int | None = None,
) -> Any:
    """Return the training of a microgpt on `docs`, one per step, with one weight per doc.

    Step t reads docs[t % len(docs)] and multiplies its loss, the mean cross-entropy of at most `context` predicted
    tokens, by the doc's keep = 1 - w; then Adam updates the parameters with the learning rate 0.01 (1 - t / steps),
    betas 0.85 and 0.99, and the epsilon 1e-3 inside the root. The order is that of `docs`, which are not shuffled.

    Parameters
    ----------
    docs : sequence of str, or int
        The words to train on, of letters of the alphabet; or a number of words, the first of `names()`. Only the first
        `context` letters of a word are predicted.
    seed : int, optional
        The seed of the initial parameters, normal with standard deviation 0.08; 0 if neither it nor `init` is given.
    init : (parameters,) array, optional
        The initial parameters, in the order of `Config.shapes`.
    alphabet : str, optional
        The letters, in the order of their token ids; by default a to z for a number of names, else the sorted letters
        of `docs`. The next id is the boundary token. Pass the same to `loss`, unless it is a to z.
    width, layers, heads, context : int
        The model's sizes. With other than 4 heads, pass the same number to `loss`.
    steps : int, optional
        The number of steps, by default len(docs).

    Returns
    -------
    Training
        With the state of Adam, {"params", "m", "v", "t"}, and n = len(docs); its items are the words, its labels their
        first letters.

    Raises
    ------
    InputError
        For invalid words or sizes, for both a seed and an init, and for an init of the wrong length.

    Examples
    --------
    >>> run = training(names()[:1000], seed=42)                     # doctest: +SKIP
    >>> query = cs.sketch(run).measure(loss, "max")                 # doctest: +SKIP
    """
    if isinstance(docs, int):
        count = len(census_names())
        if not is_integer(docs, 1, count):
            raise InputError(f"microgpt: docs is {short_repr(docs)}; there are {count:,} names, so give 1 to {count}")
        docs, alphabet = census_names()[:docs], ALPHABET if alphabet is None else alphabet
    if isinstance(docs, str):
        raise InputError(
            f"microgpt: docs is the one string {short_repr(docs)}; give a list of words, such as [{short_repr(docs)}]"
        )
    try:
        docs = list(docs)
    except Exception:
        raise InputError(f"microgpt: docs is {short_repr(docs)}; give a list of words, or how many names") from None
    if not docs:
        raise InputError("microgpt: docs is empty; give at least one word to train on, such as names()[:100]")
    steps = len(docs) if steps is None else steps
    if not is_integer(steps):
        raise InputError(f"microgpt: steps is {short_repr(steps)}; give an integer, at least 1")
    if seed is not None and init is not None:
        raise InputError("microgpt: both seed and init are given; give the seed to draw from, or the parameters")
    if alphabet is None:
        alphabet = "".join(sorted(set().union(*(set(str(doc)) for doc in docs)))) or ALPHABET

    # Check the words first: they are the likelier mistake, and need no model.
    encoded = [encode(doc, alphabet, context) for doc in docs]
    config = Config(len(alphabet) + 1, width, layers, heads, context)
    params = config.parameters(init) if init is not None else config.draw(0 if seed is None else seed)

    def step(state: Any, batch: Any, keep: Any) -> Any:
        tokens, targets, learning_rate = batch
        grads = cs.grad(lambda p: keep[0] * mean_loss(p, tokens, targets, heads))(state["params"])
        return cs.optim.adam(state, grads, learning_rate, b1=0.85, b2=0.99, eps=0.0, eps_root=1e-3)

    rates = [LEARNING_RATE * (1 - t / steps) for t in range(steps)]
    batches = [(*encoded[t % len(docs)], np.float64(rate)) for t, rate in enumerate(rates)]
    examples = [np.array([t % len(docs)]) for t in range(steps)]
    first = [doc[0] for doc in docs]
    return cs.Training(step, cs.optim.adam_state(params), batches, examples, n=len(docs), labels=first, items=docs)


def loss(params: Mapping[str, Any], name: str, alphabet: str = ALPHABET, *, heads: int = HEADS) -> Any:
    """Compute the mean cross-entropy of a trained model on a name.

    Parameters
    ----------
    params : mapping of str to array or Wire
        The matrices of `Config.shapes` by name.
    name : str
        The name, of letters of the alphabet.
    alphabet : str
        The alphabet of the training.
    heads : int
        The number of heads of the training.

    Returns
    -------
    scalar or Wire
        The loss, in nats per token.

    Raises
    ------
    InputError
        If the alphabet or the number of heads does not fit the parameters, or the name is empty or has other letters.

    Examples
    --------
    >>> sketch.measure(loss, "max")                                 # doctest: +SKIP
    """
    rows, width = params["wte"].shape
    if len(alphabet) + 1 != rows:
        raise InputError(
            f"microgpt: an alphabet of {len(alphabet)} letters needs {len(alphabet) + 1} rows of wte (the "
            f"last begins and ends words), but this model has {rows}; give loss the alphabet of the training"
        )
    check_heads(width, heads)
    tokens, targets = encode(name, alphabet, params["wpe"].shape[0])
    return mean_loss(params, tokens, targets, heads)


def encode(word: str, alphabet: str, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the input tokens of a word and the tokens to predict.

    These are two int arrays of equal length, at most `context`, of the word between two boundary tokens.
    """
    if len(set(alphabet)) != len(alphabet) or not alphabet:
        raise InputError(f"microgpt: alphabet {alphabet!r} is empty or has a letter twice; give each letter once")
    if not isinstance(word, str) or not word:
        raise InputError(
            f"microgpt: {word!r} is not a word; give a string of at least one letter, and drop empty lines"
        )
    unknown = "".join(sorted(set(word) - set(alphabet)))
    if unknown:
        remedy = "write it in lower case" if set(word.lower()) <= set(alphabet) else "leave the word out"
        raise InputError(
            f"microgpt: {word!r} has {unknown!r}, which the alphabet {alphabet!r} lacks; {remedy}, or train "
            "and measure with an alphabet that has it"
        )
    boundary = len(alphabet)
    tokens = np.array([boundary, *(alphabet.index(letter) for letter in word), boundary])
    length = min(context, len(tokens) - 1)
    return tokens[:length], tokens[1 : length + 1]


def mean_loss(params: Mapping[str, Any], tokens: Any, targets: Any, heads: int) -> Any:
    """Compute the cross-entropy of the predicted tokens, averaged over positions: a scalar."""
    return np.mean(cs.cross_entropy(logits(params, tokens, heads), targets))


def logits(params: Mapping[str, Any], tokens: Any, heads: int = HEADS) -> Any:
    """Compute the scores of the next token at every position of `tokens`, (length, vocabulary).

    `tokens` are ints of shape (length,), at most the number of rows of wpe. Linear layers are y = x W^T with matrices
    of shape (out, in).
    """
    x = np.take(params["wte"], tokens, axis=0) + params["wpe"][: tokens.shape[0]]
    x = normalise(x)
    layer = 0
    while f"layer{layer}.attn_wq" in params:
        part = {name: params[f"layer{layer}.{name}"] for name in LAYER_PARTS}
        x = x + attend(normalise(x), part, heads)
        x = x + cs.gelu(normalise(x) @ part["mlp_fc1"].T) @ part["mlp_fc2"].T
        layer += 1
    return x @ params["lm_head"].T


def normalise(x: Any) -> Any:
    """Divide every row by its root mean square; the epsilon keeps the root away from zero."""
    return x * cs.rsqrt(np.mean(np.square(x), axis=-1, keepdims=True) + NORM_EPSILON)


def attend(x: Any, part: Mapping[str, Any], heads: int) -> Any:
    """Compute causal attention of the rows of x, (length, width), to themselves and the rows before them.

    All heads and positions are computed at once. The queries are scaled instead of the scores, which are more.
    """
    length, width = x.shape
    split = (length, heads, width // heads)
    queries = np.reshape(x @ part["attn_wq"].T, split) * (width // heads) ** -0.5
    keys = np.reshape(x @ part["attn_wk"].T, split)
    values = np.reshape(x @ part["attn_wv"].T, split)
    scores = np.einsum("qhd,khd->hqk", queries, keys)
    earlier = np.tri(length, dtype=bool)
    attention = cs.softmax(np.where(earlier, scores, MASKED), axis=-1)
    mixed = np.einsum("hqk,khd->qhd", attention, values)
    return np.reshape(mixed, (length, width)) @ part["attn_wo"].T


def check_heads(width: int, heads: int) -> None:
    """Raise InputError unless the width is a multiple of the number of heads."""
    if heads < 1 or width % heads:
        raise InputError(
            f"microgpt: {heads} heads cannot share a width of {width} equally; choose a divisor of {width}"
        )
