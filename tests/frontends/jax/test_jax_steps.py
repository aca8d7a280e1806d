"""Whole training steps of JAX: imported, they train and retrain as JAX does, and their series are JAX's derivatives."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax.numpy", reason="the extra jax is not installed")
for library in ("optax", "flax", "equinox"):
    pytest.importorskip(library)

import jax_networks  # noqa: E402
import jax_perceptrons  # noqa: E402
from jax_cases import EXAMPLES, check_series, distance  # noqa: E402

STEPS = jax_perceptrons.STEPS | jax_networks.STEPS
# Single precision inside, whatever the parameters are: the accumulators of MultiSteps, the softmax of nnx's attention.
SINGLE = {"optax_multi_steps": 1e-6, "nnx_transformer": 1e-4}
# What is deleted of an example's weight, so that order 3 is accurate; test_jax_runs.py deletes entire examples. It is
# less where a ReLU is near its kink, a gradient near an eps outside the root, or the sign of one changes soon (lion).
STRENGTHS = {"mlp_sgd_momentum": 0.01, "optax_yogi_ema": 0.01, "optax_adam_eps_outside": 1e-3, "optax_lion": 1e-3}


@pytest.fixture(scope="module", params=list(STEPS))
def case(request):
    for module in (jax_perceptrons, jax_networks):
        module.data.restart(3)
    return STEPS[request.param](), SINGLE.get(request.param, 0.0), STRENGTHS.get(request.param, 0.02)


def test_an_imported_step_trains_and_retrains_as_jax_does(case):
    case, single, _ = case
    w = np.zeros(EXAMPLES)
    assert distance(case.run.to_jax(case.run.train()), case.retrain(w)) < max(single, 1e-11)
    w[[1, 4, 7]] = 1.0, 0.5, -1.0
    assert distance(case.run.to_jax(case.run.retrain(without=w)), case.retrain(w)) < max(single, 1e-11)


def test_the_series_are_finite_differences_of_jax_and_predict_a_deletion(case):
    case, single, strength = case
    direction = np.random.default_rng(1).normal(size=EXAMPLES)
    deleted = strength * np.eye(EXAMPLES)[case.examples[-1][0]]
    check_series(case, direction, deleted, differences=not single)
