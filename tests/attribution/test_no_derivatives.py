"""Attribution of what has no derivatives: counts, sorts, steps without a series; against real retraining."""

from __future__ import annotations

import numpy as np
import pytest
from small_networks import N, network
from small_runs import raises
from test_attribute import fresh_subsets

import circuitsketch as cs

rng = np.random.default_rng(3)
FRESH = rng.normal(size=(300, 4))
LABELS = (np.sin(2 * FRESH[:, 0]) + FRESH[:, 1] * FRESH[:, 2] > 0).astype(int)
ALL_OWN = 110  # trainings that pay the own effects of `network`, and a calibration


def accuracy(p):
    logits = np.tanh(FRESH @ p["w"] + p["b"]) @ p["v"]
    return np.where(np.where(logits[:, 1] > logits[:, 0], 1, 0) == LABELS, 1.0, 0.0).mean()


def drawn_median(p):
    """The median margin: sorts, and breaks NumPy's tracing."""
    logits = np.asarray(np.tanh(FRESH @ p["w"] + p["b"]) @ p["v"], dtype=float)
    return {"median": float(np.median(logits[:, 1] - logits[:, 0])), "first": np.sort(logits[:, 0])[:2]}


def retrained(run, measure, rows):
    states = run.params(run.retrain(rows))
    return [measure({key: leaf[i] for key, leaf in states.items()}) for i in range(len(rows))]


@pytest.fixture(scope="module")
def counted():
    plans = []
    query = cs.attribute(network("tanh"), accuracy, budget=ALL_OWN, threads=2, on_plan=plans.append)
    return query, plans[0]


def test_an_accuracy_is_predicted_from_own_effects_with_intervals_that_hold(counted):
    query, plan = counted
    rows = fresh_subsets(100)
    truth = np.array(retrained(network("tanh"), accuracy, rows))
    prediction = query.without(rows)
    low, high = prediction.interval(0.9)
    assert len(np.unique(truth)) > 5
    assert ((low - 1e-12 <= truth) & (truth <= high + 1e-12)).mean() > 0.9 - 2 * 0.055
    error, none = (np.sqrt(((x - truth) ** 2).mean()) for x in (prediction.value, query.baseline))
    assert error <= 1.05 * none
    assert plan.own == N and plan.pairs == 0


def test_own_effects_of_a_count_are_exact(counted):
    query, _ = counted
    ids = [0, 7, 99]
    truth = retrained(network("tanh"), accuracy, np.eye(N)[ids])
    prediction = query.without(np.eye(N)[ids])
    np.testing.assert_allclose(prediction.value, truth, rtol=0, atol=1e-12)
    low, high = prediction.interval()
    assert (low <= truth).all() and (truth <= high).all() and (high - low < 1e-12).all()  # no wider than rounding
    np.testing.assert_allclose(query.influence().change[ids] + query.baseline, truth, rtol=0, atol=1e-12)


def test_plan_and_answers_say_that_there_are_no_derivatives(counted):
    query, plan = counted
    assert "no derivatives (the measurement is locally constant)" in str(plan) and "first order" not in str(plan)
    assert plan.to_dict()["reason"].startswith("the measurement is locally constant")
    for ids in ([3], [3, 4, 5]):
        assert "there are no derivatives" in str(query.without(ids))
        assert "there are no derivatives" in str(query.without(ids, estimator="per-example"))
    assert "first-order" not in query.estimators
    with raises(cs.InputError, "estimator 'first-order' needs derivatives"):
        query.without([3], estimator="first-order")


def test_a_measurement_that_cannot_be_traced_is_called():
    run = network("tanh")
    query = cs.attribute(run, drawn_median, budget=ALL_OWN, threads=2)
    rows = fresh_subsets(60)
    truth = retrained(run, drawn_median, rows)
    prediction = query.without(rows)
    low, high = prediction.interval(0.9)
    for name in ("median", "first"):
        right = np.array([value[name] for value in truth])
        assert ((low[name] <= right) & (right <= high[name])).mean() > 0.9 - 2 * 0.055
        error, none = (((value - right) ** 2).mean() for value in (prediction.value[name], query.baseline[name]))
        assert error < none
    assert "np.median" in query.plan.reason or "NumPy array" in query.plan.reason


def test_a_run_without_a_series_is_attributed():
    """A step that takes the square root of 0, which the weights move: no derivative, and a finite value."""
    step = lambda s, x, keep: s + np.sqrt((keep.sum() - 1.0) ** 2) + keep.sum() * x  # noqa: E731
    run = cs.Training(step, np.zeros(()), np.arange(30.0), [[i] for i in range(30)])
    query = cs.attribute(run, lambda s: s * s, budget=40)
    assert "gate sqrt" in query.plan.reason
    truth = float(run.retrain(without=[3, 5])) ** 2
    low, high = query.without([3, 5]).interval()
    assert low <= truth <= high


def test_a_budget_that_is_too_small_says_what_is_needed():
    run = network("tanh")
    with raises(
        cs.InputError, r"no derivatives \(the measurement is locally constant\).*pass budget=(\d+), delete"
    ) as seen:
        cs.attribute(run, accuracy, budget=30)
    needed = int(str(seen.value).split("budget=")[1].split(",")[0])
    with raises(cs.InputError, "there are no derivatives"):
        cs.attribute(run, accuracy, budget=needed - 1)
    assert cs.attribute(run, accuracy, budget=needed, threads=2).plan.own == N
    groups = run.grouped((np.arange(N) // 15).tolist())
    assert cs.attribute(groups, accuracy, budget=30, threads=2).plan.own == 10


def test_work_without_derivatives_is_kept_by_the_circuit(tmp_path, monkeypatch):
    run = network("tanh")
    first = cs.attribute(run, accuracy, budget=ALL_OWN, threads=2, path=tmp_path / "kept")
    rows = fresh_subsets(5)
    from circuitsketch.propagate import retrained as room

    monkeypatch.setattr(room.Executable, "allocate_arena", None, raising=False)
    again = cs.attribute(run, accuracy, budget=ALL_OWN, threads=2, path=tmp_path / "kept")
    np.testing.assert_array_equal(again.without(rows).interval(), first.without(rows).interval())
    with raises(cs.InputError, "leave out path="):
        cs.attribute(run, drawn_median, budget=ALL_OWN, path=tmp_path / "other")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda p: p["nothing"], cs.InputError, "KeyError"),
        (lambda p: np.zeros(()), cs.InputError, "depends on no part of the trained state"),
        (lambda p: np.argsort(p["w"]) / 0.0, cs.TraceError, "np.argsort"),
        (lambda p: np.sort(p["w"])[0] + rng.normal(), cs.TraceError, "np.sort"),
    ],
)
def test_what_is_no_measurement_is_still_refused(function, error, message):
    with raises(error, message), np.errstate(all="ignore"):
        cs.attribute(network("tanh"), function, budget=ALL_OWN)
