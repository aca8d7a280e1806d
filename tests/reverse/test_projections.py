"""Derivatives of random projections of the parameters, against metagradients of the same sums and inner products."""

from __future__ import annotations

import numpy as np
from small_networks import N, measure, network

import circuitsketch as cs
from circuitsketch.attribution.run_checks import first_order_changes
from circuitsketch.reverse.metagradient import differentiate_run
from circuitsketch.tree import flatten


def test_projections_are_sums_of_the_parameters_with_random_signs():
    run = network("tanh")
    measured, gradient, moves = differentiate_run(run, measure, (), projections=lambda values: values + 5)
    assert measured.values == 2 and moves.shape == (7, N)
    np.testing.assert_allclose(gradient, cs.metagradient(run, measure), rtol=1e-10, atol=1e-13)
    keys = list(run.params(run.state))
    shapes = [run.params(run.state)[key].shape for key in keys]
    rng = np.random.default_rng(3)  # of the projection number 3
    signs = [rng.choice([-1.0, 1.0], shape) for shape in shapes]
    right = cs.metagradient(run, lambda p: sum((sign * p[key]).sum() for key, sign in zip(keys, signs, strict=True)))
    np.testing.assert_allclose(moves[3], right, rtol=1e-9, atol=1e-12)


def test_inner_products_of_projections_are_about_those_of_moves():
    run = network("adam")
    projected = differentiate_run(run, measure, (), projections=lambda _: 256)[2].T
    exact = flatten(run.params(first_order_changes(run, np.eye(N))))[0]
    exact = np.concatenate([leaf.reshape(N, -1) for leaf in exact], axis=1)
    lengths = np.linalg.norm(exact, axis=1)
    error = (projected @ projected.T / 256 - exact @ exact.T) / np.outer(lengths, lengths)
    assert np.sqrt((error**2).mean()) < 2 / np.sqrt(256)
