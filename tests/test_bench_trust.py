"""The bench of runs that look like users': its truths are retrainings, its scores count right, a method is a line."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.report import retraining

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def trust(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("trust")


def test_a_trial_scores_every_method_in_every_cell_and_goes_on_from_its_cache(trust, capsys, tmp_path, monkeypatch):
    trial = ["--quick", "--cache", str(tmp_path / "kept"), "--json", "-"]
    numbers = trust.main(trial)
    assert json.loads(capsys.readouterr().out) == numbers
    cells = numbers["cells"]
    assert [cell["kind"] for cell in cells] == ["1", "5 %", "20 %", "half", "range", "1", "5 %", "20 %", "half", "user"]
    assert all(set(cell["methods"]) == {"no change", *trust.METHODS} for cell in cells)
    single = cells[0]["methods"]
    assert single["per-example"]["rmse"] < single["first-order"]["rmse"] < single["no change"]["rmse"]
    assert single["per-example"]["lds"] > 0.99 and single["no change"]["lds"] is None

    monkeypatch.setattr(retraining, "write_retrained", lambda *_, **__: pytest.fail("the truths are kept"))
    assert trust.main(trial)["cells"] == cells


def test_a_truth_is_the_model_fitted_without_the_examples(trust):
    user = trust.RUNS["poisson"]()
    masks = trust.list_kinds(user)["20 %"].draw(5, seed=0)
    truth = trust.Bench(8, 5, None).retrain(user, masks)
    x, y = user.run.batches[0]
    asked = np.array([1.9**k for k in range(5)])
    for mask, values in zip(masks, truth, strict=True):
        beta = np.array([np.log(y.mean()), 0, 0, 0, 0])
        for _ in range(8):
            mean = np.exp(x[~mask] @ beta)
            gradient = x[~mask].T @ (mean - y[~mask]) + 1e-4 * beta
            beta = beta - np.linalg.solve((x[~mask].T * mean) @ x[~mask] + 1e-4 * np.eye(5), gradient)
        np.testing.assert_allclose(values, [np.exp(asked @ beta), beta[3]], rtol=1e-6)  # ill-conditioned


@pytest.mark.parametrize("alike, size", [("range", None), ("1", 1), ("5 %", 8), ("half", 75)])
def test_subsets_of_a_kind_differ_and_have_its_size_or_its_label(trust, alike, size):
    user = trust.RUNS["poisson"]()
    masks = trust.list_kinds(user)[alike].draw(40, seed=3)
    assert len({mask.tobytes() for mask in masks}) == len(masks) == 40
    if size is None:
        assert all(len({user.run.labels[i] for i in np.flatnonzero(mask)}) == 1 for mask in masks)
    else:
        assert (masks.sum(axis=1) == size).all()


def test_a_kind_that_has_no_more_different_subsets_gives_those_that_there_are(trust):
    kind = trust.Kind(3, lambda rng: rng.permutation(3)[:1])
    assert sorted(map(tuple, kind.draw(10, seed=0))) == [
        (False, False, True),
        (False, True, False),
        (True, False, False),
    ]


def test_scores_of_answers_counted_by_hand(trust):
    """40 truths of 0 and 1: the first 20 answers are exact, and 5 of them warned; the others are off by 1, and refused
    or warned in 15 cases, their intervals too narrow."""
    truth = np.tile([0.0, 1.0], 20)[:, None]
    value = truth.copy()
    value[20:] += 1
    stderr = np.full((40, 1), 0.1)
    warned = np.zeros((40, 1), dtype=bool)
    warned[:5] = warned[20:35] = True
    scores = trust.score(trust.Answers(value, stderr, value - 0.2, value + 0.2, warned), truth)
    assert scores["truths"] == 40 and scores["refused"] == 0
    assert scores["unwarned"] == 0.5 and scores["covered"] == 0.75  # of the 20 unwarned, 15 are exact and 5 miss
    assert (scores["misses"], scores["misses_warned"], scores["good"], scores["good_warned"]) == (20, 0.75, 20, 0.25)
    assert scores["rmse"] == pytest.approx(np.sqrt(0.5) / 0.5)

    value[20:] = np.nan
    refused = trust.score(trust.Answers(value, stderr, value - 0.2, value + 0.2, warned), truth)
    assert refused["refused"] == 0.5 and refused["misses"] == 0 and refused["rmse"] == 0


def test_a_method_that_knows_retrained_subsets_is_one_line(trust, monkeypatch, capsys):
    """Here one that scales first order to the subsets that it knows, whose residuals make the interval."""

    def scaled(asked):
        assert asked.masks.shape == (trust.CALIBRATION, asked.query.n)
        known = asked.query.without(asked.masks, estimator="first-order").change
        truth = asked.truth - asked.query.baseline
        slope = (known @ truth) / (known @ known)

        def answer(mask):
            first = asked.query.without(mask, estimator="first-order")
            value, stderr = first.baseline + slope * first.change, (truth - slope * known).std()
            return replace(first, value=value, stderr=stderr, degrees_of_freedom=1e6, warnings=())

        return answer

    monkeypatch.setitem(trust.METHODS, "scaled", scaled)
    cells = trust.main(["--quick", "--runs", "poisson", "--subsets", "40", "--json", "-"])["cells"]
    capsys.readouterr()
    half = cells[3]["methods"]
    assert half["scaled"]["rmse"] < half["first-order"]["rmse"]
    assert half["scaled"]["unwarned"] == 1 and half["scaled"]["covered"] > 0.8  # of subsets that it did not know
    assert "| scaled " in trust.summarise_cells(cells)


def test_every_run_trains_and_has_alike_examples_to_delete(trust):
    for name, make in trust.RUNS.items():
        user = make()
        params = user.run.params(user.run.train())
        assert all(np.isfinite(measurement(params)) for measurement in user.measurements), name
        for kind in trust.list_kinds(user).values():
            sizes = kind.draw(8, seed=1).sum(axis=1)
            assert len(sizes) == 8 and sizes.min() >= 1 and sizes.max() < user.run.n, name


def test_at_first_order_every_run_is_its_retrainings_differences(trust):
    """So that what the bench measures are higher orders, kinks and intervals. A tolerance of 1e-5 of the largest slope
    leaves room for rounding, which the collinear Poisson regression amplifies: 2e-6 there, 1e-7 elsewhere."""
    step = 1e-6
    for name, make in trust.RUNS.items():
        user = make()
        directions = np.eye(user.run.n)[[0, user.run.n // 2, user.run.n - 1]]
        series = cs.push(user.run, directions, 1)
        ends = [[user.run.params(user.run.retrain(sign * step * h)) for h in directions] for sign in (1, -1)]
        for measurement in user.measurements:
            slopes = series.measure(measurement).coefficients[:, 1].real
            values = np.array([[measurement(params) for params in some] for some in ends])
            slack = 1e-5 * np.abs(slopes).max()
            np.testing.assert_allclose((values[0] - values[1]) / (2 * step), slopes, rtol=0, atol=slack, err_msg=name)
