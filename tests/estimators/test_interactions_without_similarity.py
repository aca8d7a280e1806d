"""Interactions where memory does not hold a similarity: priors that are diagonal, against dense matrices and
retraining."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import page_runs
import pytest
from polynomials import query_with_singles, symmetric
from small_runs import raises

import circuitsketch as cs
from circuitsketch import limits
from circuitsketch.directions import Orthonormal
from circuitsketch.estimators.interactions import fitting

N = 12  # so that 60 directions tell interactions that are alike for no two examples


@pytest.fixture
def lacking(monkeypatch):
    """Lets the fit believe that memory lacks for anything of size (n, n)."""
    monkeypatch.setattr(fitting, "find_shortage", lambda nbytes: "29 GB of memory, but only 20 GB are available")


@pytest.fixture
def query():
    rng = np.random.default_rng(3)
    tensors = [rng.normal(size=N), symmetric(rng, N, 2), symmetric(rng, N, 3)]
    return query_with_singles(tensors, 60, N, rng.normal(size=(N, 3)))


def dense(model):
    """The same fit with the prior's diagonal as a matrix: everything of size (n, n) by its definition."""
    return replace(model, prior=replace(model.prior, similarity=np.diag(model.prior.similarity)))


def test_a_diagonal_prior_says_what_its_matrix_says(query, lacking):
    model = query.interactions
    assert model.prior.is_diagonal and model.prior.cosines is None and model.orders[0].explained[0] > 0.5
    matrix, rng = dense(model), np.random.default_rng(0)
    h = np.vstack([(rng.random((5, N)) < 0.2) * 1.0, rng.normal(size=(5, N)), np.eye(N)[[3, 7]] + np.eye(N)[7]])
    one, other = model.points(h), matrix.points(h)
    assert one.square == pytest.approx(other.square, rel=1e-12)
    for r in (2, 3):
        assert model.prior.rest(r) == pytest.approx(matrix.prior.rest(r), rel=1e-9, abs=1e-9)
        here, there = (prior.decomposed(r) for prior in (model.prior, matrix.prior))
        assert (here.size, here.values) == (pytest.approx(there.size), pytest.approx(there.values))
    for fit in model.orders:
        found, right = model.see(fit, one), matrix.see(fit, other)
        for name in ("mean", "prior", "variance"):
            expected = getattr(right, name)
            assert getattr(found, name) == pytest.approx(expected, rel=1e-9, abs=1e-9 * np.abs(expected).max())
        few = model.points(h[-2:])  # of which only two columns are looked at
        assert len(few.support) == 2
        for name in ("mean", "variance"):
            seen = getattr(model.see(fit, few), name)
            assert seen == pytest.approx(getattr(right, name)[-2:], rel=1e-9, abs=1e-12 * np.abs(right.mean).max())
        assert model.covariance(fit, few, one)[:, -2:] == pytest.approx(model.covariance(fit, one, one)[-2:, -2:])
        covariance = matrix.covariance(fit, other, other)
        assert model.covariance(fit, one, one) == pytest.approx(
            covariance, rel=1e-9, abs=1e-9 * np.abs(covariance).max()
        )
    many = np.tile(h, (6, 1))  # more than what dense priors take together, in tables of size (n, n)
    square, orders = model.look(many, model.orders)
    assert square == pytest.approx(np.tile(other.square, 6), rel=1e-12)
    assert orders[0].variance[:12] == pytest.approx(orders[0].variance[12:24])


def test_a_large_number_of_examples_is_answered_within_memory(monkeypatch):
    n, m, rng = 4_000, 8, np.random.default_rng(0)
    series = np.concatenate([np.ones((n, 1)), rng.normal(size=(n, 2)) * (1.0, 0.1)], axis=1)
    coefficients = rng.normal(size=(m, 3)) + 1j * rng.normal(size=(m, 3))
    coefficients[:, 0] = 1.0
    query = cs.Query(coefficients, Orthonormal(n), per_example=series, similarity=rng.normal(size=(n, 5)))
    monkeypatch.setattr(limits, "memory_available", lambda: 100_000_000)  # (n, n) takes 128 MB
    tracemalloc.start()
    prediction = query.without([1, 5, 9])
    influence = query.influence()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64_000_000 and np.isfinite(prediction.stderr) and prediction.stderr > 0
    assert prediction.change == pytest.approx(series[[1, 5, 9], 1:].sum(), abs=4 * prediction.stderr)
    (warning,) = [text for text in prediction.warnings if "alike" in text]
    assert "would take 1.2" in warning and "only 100 MB are available" in warning
    assert not any("alike" in text for text in query.without([7]).warnings + influence.warnings)
    monkeypatch.setattr(limits, "memory_available", lambda: 1_000_000)
    monkeypatch.setattr(limits, "SMALL", 0)
    fresh = cs.Query(coefficients, Orthonormal(n), per_example=series)
    with raises(cs.InputError, "do together.*would take .* 1.0 MB are available; use estimator='theorem'"):
        fresh.without([1, 2])


def test_intervals_without_similarity_cover_retrained_subsets(lacking):
    run, rng = page_runs.make(), np.random.default_rng(1)
    query = cs.sketch(run, 24, order=3, per_example="series").measure(page_runs.loss)
    h = np.zeros((40, page_runs.N))
    for row in h:
        row[rng.choice(page_runs.N, rng.integers(2, 7), replace=False)] = 1.0
    truth = np.array([page_runs.loss(run.params(run.retrain(row))) for row in h])
    low, high = query.predict(h).interval()
    assert query.interactions.prior.is_diagonal
    assert ((low <= truth) & (truth <= high)).sum() >= 34  # of 40 at 95 %: fewer has a probability of 0.3 %
    # The random directions alone have errors that are larger by far.
    assert np.median(query.predict(h).stderr) < 0.2 * np.median(query.predict(h, estimator="theorem").stderr)


def test_evidence_is_taken_in_without_similarity(lacking):
    run = page_runs.make()
    query = cs.sketch(run, 24, order=2, per_example="series").measure(page_runs.loss).retrain_worst(count=4)
    worst = np.flatnonzero(query.influence().stderr < 1e-6)
    assert len(worst) >= 4  # exact now
    truth = [float(page_runs.loss(run.params(run.retrain([i])))) - query.baseline for i in worst[:4]]
    assert query.influence().change[worst[:4]] == pytest.approx(truth, rel=1e-4)


def test_examples_that_act_alike_widen_the_interval_without_similarity(lacking):
    n, rng = 40, np.random.default_rng(5)
    first = np.concatenate([np.ones(20), -np.ones(20)]) + 0.1 * rng.normal(size=n)
    query = query_with_singles([first, 0.1 * symmetric(rng, n, 2), np.zeros((n, n, n))], 30, n)
    alike, mixed = np.isin(np.arange(n), range(10)) * 1.0, np.isin(np.arange(n), [*range(5), *range(20, 25)]) * 1.0
    assert query.predict(alike).stderr > 1.5 * query.predict(mixed).stderr
