"""Attribution within a budget: coverage and errors on smooth, kinked and Adam-trained runs, against real retraining."""

from __future__ import annotations

import copy
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_networks import N, X, measure, network
from small_runs import raises

import circuitsketch as cs
from circuitsketch.attribution.budget import LANE, choose_projections, plan_attribution, sweep_cost
from circuitsketch.estimators.alikeness import share_a_label


def fresh_subsets(count=200, size=(2, 15), seed=99):
    draw = np.random.default_rng(seed)
    rows = np.zeros((count, N))
    for row in rows:
        row[draw.choice(N, draw.integers(size[0], size[1] + 1), replace=False)] = 1.0
    return rows


@functools.cache
def truths(kind):
    weights = network(kind).retrain(fresh_subsets())["params"]
    models = [{key: leaf[i] for key, leaf in weights.items()} for i in range(200)]
    return np.array([measure(p) for p in models])


@pytest.mark.parametrize("kind", ["tanh", "relu", "adam"])
@pytest.mark.parametrize("budget", [30, 200])
def test_intervals_of_an_attribution_hold_and_its_error_is_not_above_the_best(kind, budget):
    query = cs.attribute(network(kind), measure, budget=budget, threads=2)
    prediction = query.without(fresh_subsets())
    low, high = prediction.interval(0.9)
    truth = truths(kind)
    # 28 or 48 retrained subsets: the share held has a deviation of about (.1 .9 / 30)^(1/2) = .055 over calibrations.
    assert ((low <= truth) & (truth <= high)).mean() > 0.9 - 2 * 0.055
    errors = {"none": truth - query.baseline}
    for name in query.estimators:
        errors[name] = truth - query.without(fresh_subsets(), estimator=name).value
    size = {name: np.sqrt((error**2).mean()) for name, error in errors.items()}
    assert size["calibrated"] < 1.1 * min(size["none"], size["first-order"])
    assert not any("calibrat" in text and "size" in text for text in prediction.warnings)


def test_own_effects_and_pairs_reduce_the_error_of_a_smooth_run():
    query = cs.attribute(network("tanh"), measure, budget=700, kind="random", threads=2)
    assert list(query.estimators) == ["first-order", "per-example", "pairs", "calibrated"]
    truth = truths("tanh")
    error = {
        name: np.sqrt(((query.without(fresh_subsets(), estimator=name).value - truth) ** 2).mean())
        for name in query.estimators
    }
    assert error["pairs"] < 0.95 * error["per-example"] and error["calibrated"] < 0.8 * error["first-order"]
    assert query.worth.lds > 0.8 and query.plan.pairs > 0
    assert "pairs" in str(query.worth) and "trainings" in str(query.plan)


def test_the_strongest_pairs_are_predicted_as_retrained():
    query = cs.attribute(network("tanh"), measure, budget=700, threads=2)
    known = query.estimators["pairs"].known
    assert 0 < query.plan.strongest < query.plan.pairs * N
    own, chosen = known.own, known.chosen
    rows = np.zeros((0, N))
    strength = np.linalg.norm(known.rows / np.sqrt((own**2).mean(axis=0))[:, None, None], axis=0)
    for place in np.argsort(-strength, axis=None)[:6]:
        first, second = np.unravel_index(place, strength.shape)
        rows = np.vstack([rows, np.eye(N)[chosen[first]] + np.eye(N)[second]])
    retrained = network("tanh").retrain(rows)["params"]
    right = [measure({key: leaf[i] for key, leaf in retrained.items()}) for i in range(len(rows))]
    np.testing.assert_allclose(query.without(rows, estimator="pairs").value, right, rtol=1e-9)


def test_an_example_retrained_alone_is_predicted_as_retrained():
    query = cs.attribute(network("relu"), measure, budget=200, threads=2)
    retrained = network("relu").retrain(np.eye(N)[:4])["params"]
    for i in range(4):
        prediction = query.without([i])
        right = measure({key: leaf[i] for key, leaf in retrained.items()})
        np.testing.assert_allclose(prediction.value, right, rtol=1e-9)
        np.testing.assert_allclose(prediction.interval(), (prediction.value, prediction.value))
    influence = query.influence()
    assert not influence.stderr.any() and influence.change.shape == (N, 2)


@pytest.mark.parametrize("kind", ["tanh", "relu", "adam"])
def test_the_interval_of_an_example_retrained_alone_holds_another_rounding_of_it(kind):
    run = network(kind)
    query = cs.attribute(run, measure, budget=120)
    for i in range(0, N, 10):
        low, high = query.without([i]).interval()
        truth = measure(run.params(run.retrain(without=[i])))
        assert (low <= truth).all() and (truth <= high).all()
        assert (high - low < 1e-11).all()


def test_a_question_of_another_size_or_kind_is_warned_of():
    query = cs.attribute(network("tanh"), measure, budget=60, size=(3, 10), threads=2)
    assert not query.without([1, 2, 3, 4, 5]).warnings
    large = query.without(range(40))
    assert large.outside.all() and "calibrated on random and alike subsets of sizes 3 to 10" in large.warnings[0]
    query = cs.attribute(network("tanh"), measure, budget=60, kind="random", size=(3, 10), threads=2)
    gradient = query.without(np.eye(N), estimator="first-order").change[:, 0]
    alike = query.without(np.argsort(-gradient)[:10].tolist())
    assert alike.outside.all() and "act more in one direction" in alike.warnings[0]


def test_examples_that_share_a_label_are_no_random_subset():
    labels = ["a"] * 90 + ["b"] * 5 + ["c"] * 5
    rows = np.zeros((5, 100))
    for row, ids in zip(rows, ([1, 2, 3], [91, 92], [97], [91, 97], [90, 91, 92, 93]), strict=True):
        row[ids] = 1.0
    # Three of the 90 are likely at random, and one example alone is no group.
    np.testing.assert_array_equal(share_a_label(rows, labels), [False, True, False, False, True])


def test_a_question_about_one_label_is_warned_of_after_a_calibration_at_random():
    named = copy.copy(network("tanh"))
    named.labels = tuple(i // 15 for i in range(N))  # ten owners
    query = cs.attribute(named, measure, budget=60, kind="random", size=(2, 15), threads=2)
    for owner in range(10):
        assert query.without(label=owner).warnings
    assert np.mean([bool(query.without(row).warnings) for row in fresh_subsets(60, seed=5)]) < 0.2


@functools.cache
def clusters():
    """A run on thirty clusters of five examples that are nearly the same, of which several deletions interact."""
    draw = np.random.default_rng(2)
    x = np.repeat(draw.normal(size=(30, 6)), 5, axis=0) + 0.05 * draw.normal(size=(N, 6))
    y = np.repeat(draw.permutation(np.arange(30) % 2), 5)

    def step(state, batch, keep):
        loss = lambda p: (keep * cs.cross_entropy(np.tanh(x @ p["w"]) @ p["v"], y)).mean()  # noqa: E731
        return cs.optim.momentum(state, cs.grad(loss)(state["params"]), 0.3)

    params = {"w": draw.normal(size=(6, 12)) / 2, "v": draw.normal(size=(12, 2)) / 3}
    return cs.Training(step, cs.optim.momentum_state(params), np.zeros(80), [range(N)] * 80, n=N)


def test_intervals_of_alike_examples_hold_after_a_mixed_calibration():
    run = clusters()
    at = np.random.default_rng(5).normal(size=(3, 6))
    function = lambda p: (np.tanh(at @ p["w"]) @ p["v"])[:, 0]  # noqa: E731
    draw = np.random.default_rng(6)
    rows = np.zeros((90, N))
    for row in rows:
        row[5 * draw.integers(30) + draw.permutation(5)[: draw.integers(2, 6)]] = 1.0
    retrained = run.retrain(rows)["params"]
    truth = np.stack([function({key: leaf[i] for key, leaf in retrained.items()}) for i in range(len(rows))])
    held, warned = {}, {}
    for kind in (None, "random"):
        query = cs.attribute(run, function, budget=150, kind=kind, size=(2, 10), threads=2)
        low, high = query.without(rows).interval(0.95)
        held[kind] = ((low <= truth) & (truth <= high)).mean()
        warned[kind] = np.mean([bool(query.without(row).warnings) for row in rows[:30]])
        random = fresh_subsets(60, (2, 10), seed=8)
        truths_of_random = run.retrain(random)["params"]
        right = [function({key: leaf[i] for key, leaf in truths_of_random.items()}) for i in range(len(random))]
        low, high = query.without(random).interval(0.95)
        assert ((low <= right) & (right <= high)).mean() > 0.85
        if kind is None:
            assert query.plan.projections >= 16 and str(query.plan.projections) in str(query.plan)
            assert "retrained subsets of alike examples" in str(query.without(rows[0]))
            apart = random[~query.estimators["calibrated"].alikeness.find_alike(random)]
            assert "retrained random subsets" in str(query.without(apart[0]))
    assert held[None] > 0.88 > 0.8 > held["random"]
    assert warned[None] < 0.2


def test_projections_are_differentiated_where_the_budget_pays_them():
    run = network("tanh")
    chosen = {budget: choose_projections(run, 2, budget) for budget in (10, 30, 40, 60, 200, 2_500)}
    assert chosen[10] == chosen[30] == 0 and chosen[200] == chosen[2_500] == 64
    assert 16 <= chosen[40] < chosen[60] <= 0.25 * 60 / 0.45
    for budget, projections in chosen.items():
        plan = plan_attribution(run, 2, budget, projections=projections)
        assert plan.trainings <= budget and plan.projections == projections
        assert plan.subsets >= 48 or not projections


def test_a_calibration_by_label_serves_questions_about_a_label():
    query = cs.attribute(network("tanh"), measure, budget=60, kind="label", size=(5, 15), threads=2)
    assert "label" in query.without(range(60)).warnings[0]
    assert query.worth.subsets == 48


def test_given_subsets_are_the_ones_that_are_retrained():
    rows = fresh_subsets(24, seed=3)
    query = cs.attribute(network("tanh"), measure, budget=40, subsets=rows, threads=1)
    assert query.plan.subsets == query.worth.subsets == 24


def test_an_attribution_of_a_pytree_of_groups_has_its_structure():
    run = network("tanh").grouped((np.arange(N) // 5).tolist())
    query = cs.attribute(run, lambda p: {"norm": (p["v"] ** 2).sum(), "b": p["b"]}, budget=60, threads=2)
    prediction = query.without(label=3)
    assert prediction.value["b"].shape == (12,) and isinstance(prediction.value["norm"], float)
    low, high = prediction.interval(0.9)
    assert low["norm"] <= prediction.value["norm"] <= high["norm"]
    right = run.retrain(without=[3])["params"]
    assert prediction.value["norm"] == pytest.approx((right["v"] ** 2).sum(), rel=1e-9)  # retrained alone


def test_an_attribution_is_the_same_for_any_number_of_threads():
    one, two = (cs.attribute(network("tanh"), measure, budget=150, threads=threads) for threads in (1, 2))
    h = fresh_subsets(5)
    assert np.array_equal(one.without(h).value, two.without(h).value)
    assert np.array_equal(one.without(h).interval(), two.without(h).interval())


def test_a_plan_spends_no_more_than_its_budget():
    run = network("tanh")
    for budget in (10, 30, 60, 100, 250, 10_000):
        plan = plan_attribution(run, 2, budget)
        assert plan.trainings <= budget and plan.own <= N and plan.pairs <= N
    assert plan.pairs == plan.own == N and plan_attribution(run, 2, 60).own > 0 == plan_attribution(run, 2, 60).pairs
    assert plan.strongest > 0 == plan_attribution(run, 2, 60).strongest
    assert plan_attribution(run, 2, 10**6).strongest == N * (N - 1) // 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 2}, "first order of 2 values and 8 retrained subsets take about"),
        ({"budget": 0}, "above 0"),
        ({"budget": "all"}, "a number above 0"),
        ({"budget": 20, "subsets": fresh_subsets(100)}, "100 retrained subsets take about"),
        ({"kind": "user"}, "kind"),
        ({"size": N + 1}, "integer from 1"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
    ],
)
def test_invalid_attribute_arguments_are_refused(options, message):
    with raises(cs.InputError, message):
        cs.attribute(network("tanh"), measure, **options)


def test_too_few_given_subsets_are_refused_before_anything_is_differentiated(monkeypatch):
    monkeypatch.setattr("circuitsketch.attribution.attribute.differentiate_or_call", None)
    with raises(cs.InputError, "at least 8 subsets, not 3"):
        cs.attribute(network("tanh"), measure, subsets=[[1], [2], [3]])


def test_a_small_budget_refuses_a_measurement_that_is_locally_constant():
    with raises(cs.InputError, "locally constant"):
        cs.attribute(network("tanh"), lambda p: (p["v"] > 0).sum() * 1.0, budget=30)


def resume(folder, budget=300, **options):
    """Attribute with a folder: answers and their intervals."""
    query = cs.attribute(network("tanh"), measure, budget=budget, path=folder, **options)
    prediction = query.without(fresh_subsets(5))
    return np.concatenate([prediction.value, *prediction.interval()])


def test_an_attribution_resumes_from_its_folder_to_the_same_bits_and_grows(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    plain = cs.attribute(network("tanh"), measure, budget=300).without(fresh_subsets(5))
    first = resume(folder)
    assert np.array_equal(first, np.concatenate([plain.value, *plain.interval()]))
    # Each file stands for work: without some of them, only that work is done again.
    for name in ("derivatives", "pairs-*", "retrained-*"):
        files = sorted(folder.glob(f"{name}.npy"))
        assert files
        before = {file: file.read_bytes() for file in files}
        for file in files[::2]:
            file.unlink()
        assert np.array_equal(resume(folder), first)
        assert {file: file.read_bytes() for file in files} == before
    count = len(list(folder.glob("pairs-*.npy")))
    resume(folder, budget=400)
    assert len(list(folder.glob("pairs-*.npy"))) > count
    monkeypatch.setattr("circuitsketch.attribution.beginning.differentiate_run", None)
    monkeypatch.setattr("circuitsketch.propagate.retrained.run_blocks", None)
    assert np.array_equal(resume(folder), first)  # nothing is computed


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_attribute import resume

def report(done, total):
    if done > {share} * total:
        os.kill(os.getpid(), signal.SIGKILL)

resume({folder!r}, progress=report, threads=2)
"""


@pytest.mark.crash
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_a_killed_attribution_resumes_to_the_same_bits(tmp_path, share):
    folder, path = tmp_path / "kept", [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    program = KILLED.format(tests=path[0], folder=str(folder), share=share)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*path, *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=300, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    files = {file: file.stat().st_mtime_ns for file in folder.glob("*.npy")}
    assert files
    assert np.array_equal(resume(folder), resume(tmp_path / "fresh"))
    assert {file: file.stat().st_mtime_ns for file in files} == files  # what was finished was not done again


def test_kept_files_are_read_by_numpy(tmp_path):
    resume(tmp_path / "kept", budget=30)
    gradient = cs.metagradient(network("tanh"), measure)
    np.testing.assert_array_equal(np.load(tmp_path / "kept" / "derivatives.npy", allow_pickle=False), gradient)


def test_an_interrupted_attribution_resumes(tmp_path):
    def interrupt(done, total):
        if done > total / 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path, progress=interrupt)
    assert list(tmp_path.glob("retrained-*.npy"))
    assert np.array_equal(resume(tmp_path), resume(tmp_path / "fresh"))


def test_a_folder_of_other_work_or_with_damaged_files_is_refused(tmp_path):
    folder = tmp_path / "kept"
    resume(folder, budget=30)
    with raises(cs.StoreError, "a different run or measurement, or .* version .*; choose"):
        cs.attribute(network("tanh"), lambda p: p["v"].sum(), budget=30, path=folder)
    with raises(cs.StoreError, "a different run or measurement, or .* version .*; choose"):
        cs.attribute(network("relu"), measure, budget=30, path=folder)
    with raises(cs.StoreError, "contains other files"):
        resume(tmp_path, budget=30)
    file = folder / "derivatives.npy"
    flipped = bytearray(file.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    for data in (file.read_bytes()[:-8], bytes(flipped), b"", file.read_bytes() + bytes(5000), b"\x80\x04."):
        file.write_bytes(data)
        with raises(cs.StoreError, "derivatives.npy.*delete it and call again"):
            resume(folder, budget=30)


def test_a_budget_for_some_own_effects_is_spent_on_the_largest_derivatives():
    query = cs.attribute(network("tanh"), measure, budget=60, threads=2)
    size = np.linalg.norm(cs.metagradient(network("tanh"), measure), axis=0)
    retrained = np.flatnonzero(~query.influence().stderr.any(axis=1))
    assert 0 < query.plan.own < N
    assert retrained.tolist() == np.sort(np.argsort(-size)[: query.plan.own]).tolist()


def test_few_groups_have_no_subsets_to_calibrate_on_and_exact_answers():
    run = network("tanh").grouped((np.arange(N) // 50).tolist())
    query = cs.attribute(run, measure, budget=30, threads=2)
    assert query.plan.subsets == 0 and query.worth is None
    assert query.plan.trainings == pytest.approx(sweep_cost(2) + 3 * LANE)
    right = [measure({key: leaf[i] for key, leaf in run.retrain(np.eye(3))["params"].items()}) for i in range(3)]
    np.testing.assert_allclose(query.without(np.eye(3)).value, right, rtol=1e-9)


def test_every_group_is_retrained_where_the_budget_pays_it():
    run = network("tanh").grouped((np.arange(N) // 15).tolist())
    plans = []
    query = cs.attribute(run, measure, budget=30, threads=2, on_plan=plans.append)
    assert plans[0].own == run.n == 10 and "retraining without each group (exact for one group)" in str(plans[0])
    assert plans[0].spent is None and plans[0].seconds > 0
    one_each = run.retrain(np.eye(10))["params"]
    right = np.array([measure({key: leaf[i] for key, leaf in one_each.items()}) for i in range(10)])
    prediction = query.without(np.eye(10))
    np.testing.assert_allclose(prediction.value, right, rtol=1e-9)
    low, high = prediction.interval()
    assert (low <= right).all() and (right <= high).all() and (high - low < 1e-11).all()  # no wider than rounding


def test_the_parameters_are_predicted_as_their_pytree():
    run = network("tanh")
    query = cs.attribute(run, lambda params: params, budget=150, threads=2)
    ids = [4, 9, 77]
    prediction, right = query.without(ids), run.params(run.retrain(without=ids))
    assert prediction.value.keys() == right.keys()
    plain = run.params(run.train())
    for key, leaf in right.items():
        assert prediction.value[key].shape == leaf.shape
        # To first order at least: the error is below half of the change.
        assert np.linalg.norm(prediction.value[key] - leaf) < 0.5 * np.linalg.norm(plain[key] - leaf)
    assert np.isfinite(measure(prediction.value)).all()


# ------------------------------------------------------------------------------------------ values picked for subsets


def test_intervals_hold_for_a_value_that_a_subset_was_picked_for():
    """A subset matters to the row that it is nearest to, and hardly to others: only pairs of both are alike."""
    draw = np.random.default_rng(5)
    run, rows = network("relu"), draw.normal(size=(8, 4))

    def margins(p):
        out = cs.relu(rows @ p["w"] + p["b"]) @ p["v"]
        return out[:, 1] - out[:, 0]

    near = np.argsort(((X[:, None] - rows) ** 2).sum(axis=2), axis=0)[:40]  # to each row
    which = draw.integers(8, size=148)
    subsets = np.zeros((148, N))
    for mask, row in zip(subsets, which, strict=True):
        mask[draw.permutation(near[:, row])[: draw.integers(2, 16)]] = 1.0
    states = run.params(run.retrain(subsets[48:]))
    truth = np.array([margins({k: leaf[i] for k, leaf in states.items()})[which[48 + i]] for i in range(100)])
    query = cs.attribute(run, margins, budget=60, subsets=subsets[:48], values=which[:48], threads=2)
    prediction = query.without(subsets[48:])
    low, high = (end[np.arange(100), which[48:]] for end in prediction.interval(0.9))
    assert ((low <= truth) & (truth <= high)).mean() > 0.9 - 2 * 0.052
    assert query.worth.subsets == 48 and prediction.value.shape == (100, 8)
    every = cs.attribute(run, margins, budget=60, subsets=subsets[:48], threads=2)  # calibrated on pairs of all kinds
    narrow, wide = (end[np.arange(100), which[48:]] for end in every.without(subsets[48:]).interval(0.9))
    assert (high - low).mean() > 1.2 * (wide - narrow).mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": [0] * 9}, "pass subsets="),
        ({"subsets": fresh_subsets(9), "values": [0] * 8}, "pass 9 integers"),
        ({"subsets": fresh_subsets(9), "values": [0.0] * 9}, "pass 9 integers"),
        ({"subsets": fresh_subsets(9), "values": [2] * 9}, "from 0 to 1"),
        ({"subsets": fresh_subsets(9), "values": [-1] * 9}, "from 0 to 1"),
        ({"subsets": fresh_subsets(9), "kind": "random"}, "kind is for subsets that are drawn"),
        ({"subsets": fresh_subsets(9), "size": (1, 3)}, "size is for subsets that are drawn"),
        ({"on_plan": int}, "on_plan cannot be called with 1 arguments"),
    ],
)
def test_values_and_options_that_do_not_apply_are_refused(options, message):
    with raises(cs.InputError, message):
        cs.attribute(network("tanh"), measure, budget=40, **options)


@pytest.mark.parametrize("function", [lambda p: p["v"].sum(), lambda p: p["v"]], ids=["a number", "two axes"])
def test_values_of_a_measurement_without_one_axis_are_refused(function):
    with raises(cs.InputError, "a measurement with one axis"):
        cs.attribute(network("tanh"), function, budget=60, subsets=fresh_subsets(9), values=[0] * 9)
