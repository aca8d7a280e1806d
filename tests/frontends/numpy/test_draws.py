"""A step that draws random numbers is traced once: that is said, at the line of the draw, whatever it draws from."""

from __future__ import annotations

import functools
import os
import random
import types
import warnings

import numpy as np
import pytest
from numpy.random import default_rng, normal

import circuitsketch as cs
from circuitsketch.errors import FrozenDrawWarning, InputError, TraceError

HERE = os.path.basename(__file__)
GENERATOR = np.random.default_rng(0)
LEGACY = np.random.RandomState(0)
PYTHONS = random.Random(0)
TABLE = {"noise": [np.random.default_rng(1)]}
module = types.ModuleType("module_with_a_generator")
module.rng = np.random.default_rng(2)
SEEDED = np.random.default_rng(4)
DRAWN = GENERATOR.normal(size=3)


def train(step, steps=2):
    return cs.Training(step, np.zeros(3), [1.0] * steps, [[i] for i in range(steps)])


def noise():
    return GENERATOR.normal(size=3)


def closing():
    rng = np.random.default_rng(0)
    return lambda s, b, keep: s + keep.sum() * rng.normal(size=3)


class Layer:
    shared = np.random.default_rng(3)

    def noise(self):
        return self.shared.normal(size=3)


class Model:
    def __init__(self):
        self.weights = np.random.default_rng(0).normal(size=3)
        self.rng = np.random.default_rng(0)
        self.layers = [{"one": Layer()}]

    def plain(self, s, b, keep):
        return s + keep.sum() * self.weights

    def step(self, s, b, keep):
        return s + keep.sum() * self.rng.normal(size=3)

    def __call__(self, s, b, keep):
        return s + keep.sum() * self.layers[0]["one"].noise()


DRAWING = {
    "np.random": lambda s, b, keep: s + keep.sum() * np.random.normal(size=3),  # noqa: NPY002
    "one normal number, of two that are made": lambda s, b, keep: s + keep.sum() * np.random.normal(),  # noqa: NPY002
    "a name of np.random's": lambda s, b, keep: s + keep.sum() * normal(size=3),  # noqa: NPY002
    "a Generator among the globals": lambda s, b, keep: s + keep.sum() * GENERATOR.normal(size=3),
    "a RandomState": lambda s, b, keep: s + keep.sum() * LEGACY.normal(size=3),
    "a helper's Generator": lambda s, b, keep: s + keep.sum() * noise(),
    "a closure": closing(),
    "a default": lambda s, b, keep, rng=SEEDED: s + keep.sum() * rng.normal(size=3),
    "an entry of a global": lambda s, b, keep: s + keep.sum() * TABLE["noise"][0].normal(size=3),
    "a module": lambda s, b, keep: s + keep.sum() * module.rng.normal(size=3),
    "a partial": functools.partial(
        lambda rng, s, b, keep: s + keep.sum() * rng.normal(size=3), np.random.default_rng(5)
    ),
    "a method": Model().step,
    "an object that is called": Model(),
    "Python's random": lambda s, b, keep: s + keep.sum() * random.gauss(0, 1),
    "a Random of Python's": lambda s, b, keep: s + keep.sum() * PYTHONS.random(),
    "an index": lambda s, b, keep: s + keep.sum() * s[GENERATOR.integers(3)],
    "a permutation": lambda s, b, keep: s[GENERATOR.permutation(3)] + keep.sum(),
    "a choice of branch": lambda s, b, keep: s + keep.sum() if GENERATOR.random() < 2 else s,
    "a loss that is differentiated": lambda s, b, keep: (
        s - cs.grad(lambda p: (keep.sum() * p * GENERATOR.normal(size=3)).sum())(s)
    ),
}
MAKING = {
    "default_rng": lambda s, b, keep: s + keep.sum() * default_rng().normal(size=3),
    "default_rng with a seed": lambda s, b, keep: s + keep.sum() * np.random.default_rng(0).normal(size=3),
    "RandomState": lambda s, b, keep: s + keep.sum() * np.random.RandomState(0).normal(size=3),
    "a bit generator": lambda s, b, keep: s + keep.sum() * np.random.Generator(np.random.PCG64(0)).normal(size=3),
    "dropout_mask": lambda s, b, keep: s + keep.sum() * cs.optim.dropout_mask(3, 0.5, seed=0, step=0),
}
SILENT = {
    "no draw": lambda s, b, keep: s + keep.sum() * b,
    "numbers drawn before": lambda s, b, keep: s + keep.sum() * DRAWN,
    "a Generator that is there and not asked": lambda s, b, keep: s + keep.sum() * len(str(type(GENERATOR))),
    "a model that draws when it is made": Model().plain,
}


@pytest.mark.parametrize("what", DRAWING)
def test_a_step_that_draws_random_numbers_is_refused_with_line_and_remedy(what):
    with pytest.raises(TraceError, match=rf"{HERE}:\d+ draws random numbers from .*batches.*dropout_mask"):
        train(DRAWING[what])


@pytest.mark.parametrize("what", MAKING)
def test_a_step_that_makes_a_random_generator_warns(what):
    with pytest.warns(FrozenDrawWarning, match=rf"{HERE}:\d+: .*traced once.*batches"):
        train(MAKING[what])


@pytest.mark.parametrize("what", SILENT)
def test_a_step_that_draws_nothing_is_traced_in_silence(what):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(SILENT[what])


def test_the_line_is_that_of_the_draw():
    def step(s, b, keep):
        moved = s + 1.0
        return moved + keep.sum() * GENERATOR.normal(size=3)

    line = step.__code__.co_firstlineno + 2
    with pytest.raises(TraceError, match=rf"{HERE}:{line} draws"):
        train(step)


def test_a_traced_function_that_draws_is_warned_of_once_a_draw_and_a_gradient_of_plain_data_is_not():
    with pytest.warns(FrozenDrawWarning, match=HERE) as told:
        cs.trace(lambda x: x + GENERATOR.normal(), 1.0)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cs.grad(lambda x: x * GENERATOR.normal())(1.0) != cs.grad(lambda x: x * GENERATOR.normal())(1.0)
    with pytest.raises(TraceError, match="draws random numbers"):
        cs.local_sketch(lambda x: (x * GENERATOR.normal(size=3)).sum(), np.ones(3), 3, 1)


def test_a_measurement_that_draws_is_refused():
    pushed = cs.push(train(SILENT["no draw"]), np.eye(2), 1)
    with pytest.raises(InputError, match="draws random numbers"):
        pushed.measure(lambda s: (s * GENERATOR.normal(size=3)).sum())
