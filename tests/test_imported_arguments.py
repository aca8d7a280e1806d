"""Every value that reaches cs.jax and cs.torch, spoiled one at a time: an error of the package comes out, or a result.

In: places in valid calls of training, function, optimiser and what they return: an argument, a leaf of the state or of
a batch, an id, what the user's own functions return. In each of them every kind of `test_arguments.NASTY` is tried.
What a function of the user's own raises goes through. Both libraries compute the same step, as it has operators alone.
"""

from __future__ import annotations

import importlib.util
import os
import traceback
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_arguments import NASTY, kinds_for

import circuitsketch as cs

X = np.arange(6.0).reshape(2, 3) / 3
STATE = {"w": np.ones(3), "t": 0}
BATCHES = [{"x": X, "y": np.ones(2)}, {"x": X + 1, "y": np.zeros(2)}]
PACKAGE = os.path.dirname(cs.__file__) + os.sep


def step(state: Any, batch: Any, keep: Any) -> Any:
    error = batch["x"] @ state["w"] - batch["y"]
    return {"w": state["w"] - 0.1 * ((keep * error) @ batch["x"]), "t": state["t"] + 1}


def with_more(state: Any, batch: Any, keep: Any, **more: Any) -> Any:
    return {**state, **step(state, batch, keep), **more}


def both(more: Any) -> list[Any]:
    return [{**batch, "more": more} for batch in BATCHES]


def places_of_training(library: Any) -> dict[str, Callable[[Any], Any]]:
    """Return what to call with a spoiled value, by its place in a training."""

    def train(**change: Any) -> Any:
        given = {"step": step, "state": STATE, "batches": BATCHES, "examples": [[0, 1], [1, 2]]}
        run = library.training(**{**given, **change})
        run.retrain(without=[1])
        return run

    run = train()
    back = run.to_jax if hasattr(run, "to_jax") else run.to_torch
    return {
        "state": lambda v: train(state=v),
        "state.w": lambda v: train(state={**STATE, "w": v}),
        "state.t": lambda v: train(state={**STATE, "t": v}),
        "state, unchanged": lambda v: train(state={**STATE, "more": v}, step=with_more),
        "state, changed": lambda v: train(
            state={**STATE, "more": v}, step=lambda s, b, keep: with_more(s, b, keep, more=s["more"] * 2)
        ),
        "state, reached": lambda v: train(
            state={**STATE, "more": v}, step=lambda s, b, keep: with_more(s, b, keep, more=s["more"] + keep.sum())
        ),
        "a key of the state": lambda v: train(state={v: 1.0, **STATE}, step=with_more),
        "batches": lambda v: train(batches=v),
        "batches[1]": lambda v: train(batches=[BATCHES[0], v]),
        "every batch": lambda v: train(batches=[v, v]),
        "batches[1].x": lambda v: train(batches=[BATCHES[0], {**BATCHES[1], "x": v}]),
        "batches[1].y": lambda v: train(batches=[BATCHES[0], {**BATCHES[1], "y": v}]),
        "batches, unused": lambda v: train(batches=both(v)),
        "batches, times": lambda v: train(
            batches=both(v), step=lambda s, b, keep: step({**s, "w": s["w"] * b["more"]}, b, keep)
        ),
        "examples": lambda v: train(examples=v),
        "examples[1]": lambda v: train(examples=[[0, 1], v]),
        "an id": lambda v: train(examples=[[0, 1], [1, v]]),
        "n": lambda v: train(n=v),
        "labels": lambda v: train(labels=v),
        "a label": lambda v: train(labels=[v, "a", "b"]),
        "items": lambda v: train(items=v),
        "params": lambda v: train(params=v).params(run.train()),
        "step": lambda v: train(step=v),
        "a step's result": lambda v: train(step=lambda s, b, keep: v),
        "w after a step": lambda v: train(step=lambda s, b, keep: with_more(s, b, keep, w=v)),
        "t after a step": lambda v: train(step=lambda s, b, keep: with_more(s, b, keep, t=v)),
        "more after a step": lambda v: train(step=lambda s, b, keep: with_more(s, b, keep, loss=v)),
        "a factor in a step": lambda v: train(step=lambda s, b, keep: with_more(s, b, keep, w=s["w"] * v * keep.sum())),
        "retrain": lambda v: run.retrain(without=v),
        "a state to be put back": lambda v: back(v),
        "its w": lambda v: back({"w": v}),
        "a state whose parameters are asked for": lambda v: run.params(v),
    }


def places_of_function(library: Any) -> dict[str, Callable[[Any], Any]]:
    """Return what to call with a spoiled value, by its place in a function and its arguments."""
    wrap, ones = library.function, np.ones(3)
    sketch = cs.sketch(library.training(step, STATE, BATCHES, [[0, 1], [1, 2]]), 2, 1)
    total = wrap(lambda x, y: (x * y).sum())
    first = wrap(lambda x, y: x.sum())
    return {
        "function": lambda v: wrap(v)(ones),
        "its argument": lambda v: wrap(lambda x: x * 2)(v),
        "in a list": lambda v: wrap(lambda x: x[0] * 2)([v, v]),
        "in a dict": lambda v: wrap(lambda x: x["a"] * 2)({"a": v}),
        "a factor": lambda v: total(ones, v),
        "unused": lambda v: first(ones, v),
        "an option": lambda v: wrap(lambda x, y=1: (x * y).sum())(ones, y=v),
        "its result": lambda v: wrap(lambda x: v)(ones),
        "beside its result": lambda v: wrap(lambda x: (x, v))(ones),
        "a factor of wires": lambda v: cs.trace(lambda x: total(x, v), ones),
        "unused beside wires": lambda v: cs.trace(lambda x: first(x, v), ones),
        "the result of wires": lambda v: cs.trace(lambda x: wrap(lambda x: v)(x), ones),
        "beside the result of wires": lambda v: cs.trace(lambda x: wrap(lambda x: (x, v))(x), ones),
        "a factor under grad": lambda v: cs.grad(total)(ones, v),
        "an argument of grad": lambda v: cs.grad(wrap(lambda x: (x * x).sum()))(v),
        "an argument of a measurement": lambda v: sketch.measure(wrap(lambda s, y: (s["w"] * y).sum()), v),
        "a measurement": lambda v: sketch.measure(wrap(lambda s: v)),
    }


def places_of_optimiser(library: Any) -> dict[str, Callable[[Any], Any]]:
    """Return what to call with a spoiled value, by its place in an optimiser of PyTorch's."""
    import torch

    params = {"w": torch.ones(2)}
    momentum = library.optimiser(torch.optim.SGD, lr=0.1, momentum=0.9)
    state = momentum.init(params)
    return {
        "kind": lambda v: library.optimiser(v),
        "lr": lambda v: library.optimiser(torch.optim.Adam, lr=v).init(params),
        "params": lambda v: momentum.init(v),
        "a parameter": lambda v: momentum.init({"w": v}),
        "params of a step": lambda v: momentum.step(v, params, state),
        "grads": lambda v: momentum.step(params, v, state),
        "a gradient": lambda v: momentum.step(params, {"w": v}, state),
        "state": lambda v: momentum.step(params, params, v),
        "a part of the state": lambda v: momentum.step(params, params, {"momentum_buffer": v}),
    }


LIBRARIES: dict[str, SimpleNamespace] = {
    name: SimpleNamespace(module=getattr(cs, name), places=places)
    for name, places in {
        "jax": [places_of_training, places_of_function],
        "torch": [places_of_training, places_of_function, places_of_optimiser],
    }.items()
    if importlib.util.find_spec(name)
}
CASES = [(name, places) for name, library in LIBRARIES.items() for places in library.places]


def is_the_callers_own(reason: BaseException) -> bool:
    """Whether an error comes from inside a function of the user's, which the package was calling."""
    frames = traceback.extract_tb(reason.__traceback__)
    inside = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    tests = os.path.dirname(__file__)
    last = [frame for frame in frames if f"{os.sep}torch{os.sep}fx{os.sep}" not in frame.filename][-1]  # looks on
    return not inside or (inside[-1].name == "call" and last.filename.startswith(tests))


@pytest.mark.parametrize(("name", "places"), CASES, ids=[f"{name}-{places.__name__}" for name, places in CASES])
def test_a_spoiled_value_gives_a_result_or_an_error_of_the_package(name, places):
    bare = []
    for number, (place, function) in enumerate(places(LIBRARIES[name].module).items()):
        for kind in kinds_for(number):
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    function(NASTY[kind]())
            except cs.CircuitSketchError as reason:
                if not 0 < len(str(reason)) <= 2000:
                    bare.append(f"{place}, {kind}: a message of {len(str(reason))} characters")
            except Exception as reason:
                if not is_the_callers_own(reason):
                    bare.append(f"{place}, {kind}: {type(reason).__name__}: {str(reason)[:120]}")
    assert not bare, "\n".join(bare)


WORDS = {
    "nested lists": (lambda: {**STATE, "w": [1.0, 1.0, 1.0]}, BATCHES, "a list is a pytree of its entries: pass"),
    "a text in a batch": (lambda: STATE, both("a"), r"batches\[0\].* 'a'; a batch consists of"),
    "records": (lambda: STATE, both(NASTY["record array"]()), r"batches\[0\]"),
    "a key that cannot be sorted": (lambda: {**STATE, 2: [[]] * 2, "list": itself()}, BATCHES, "a pytree"),
    "wrong shapes": (lambda: {**STATE, "w": np.ones(4)}, BATCHES, r"_arguments.py:\d+: .*check the shapes"),
}  # fmt: skip


def itself() -> list[Any]:
    return NASTY["a list in itself"]()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("words", WORDS)
def test_a_refusal_says_what_and_where(name, words):
    state, batches, expected = WORDS[words]
    with pytest.raises(cs.CircuitSketchError, match=expected):
        LIBRARIES[name].module.training(step, state(), batches, [[0, 1], [1, 2]])
