"""Errors that no series knows, against retraining: kinks, series that do not converge, an example that Adam needs."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.attribution import run_checks
from circuitsketch.attribution.alike_subsets import draw_alike_and_random
from circuitsketch.attribution.influence import Influence
from circuitsketch.estimators.own_series import cut_series

N, FEATURES, HIDDEN = 60, 4, 8


def perceptron(activation, rate=0.2, steps=60):
    """A perceptron trained on all rows by gradient descent."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, FEATURES)), rng.normal(size=N)
    params = {"w": rng.normal(size=(FEATURES, HIDDEN)), "v": rng.normal(size=HIDDEN) / HIDDEN}

    def step(state, batch, keep):
        def loss(p):
            return (keep * (activation(batch[0] @ p["w"]) @ p["v"] - batch[1]) ** 2).mean()

        return cs.optim.sgd(state, cs.grad(loss)(state["params"]), rate)

    return cs.Training(step, {"params": params}, [(x, y)] * steps, [np.arange(N)] * steps, n=N)


def relu_prediction(p):
    return np.maximum(np.array([0.5, -1.0, 0.3, 0.8]) @ p["w"], 0.0) @ p["v"]


def masks(size, count, seed):
    rng = np.random.default_rng(seed)
    rows = np.zeros((count, N))
    for row in rows:
        row[rng.choice(N, size, replace=False)] = 1.0
    return rows


# ------------------------------------------------------------------------------------------------------------- kinks


@pytest.fixture(scope="module")
def relu():
    run = perceptron(cs.relu)
    return run, cs.sketch(run, 32, 3, per_example="series").measure(relu_prediction)


def test_intervals_hold_across_kinks(relu):
    run, query = relu
    rows = np.eye(N)
    truth = np.array([relu_prediction({"w": w, "v": v}) for w, v in zip(*parameters(run, rows), strict=True)])
    low, high = query.without(rows).interval()
    assert np.mean((low <= truth) & (truth <= high)) >= 0.9
    narrow = query.estimators["interactions"].predict(rows)
    reach = 1.96 * narrow.stderr
    assert np.mean(np.abs(narrow.change + query.baseline - truth) <= reach) < 0.8


def parameters(run, rows):
    trained = run.retrain(rows)["params"]
    return trained["w"], trained["v"]


def test_a_note_names_the_gate_and_what_helps(relu):
    noted = [one for one in (relu[1].without([i]) for i in range(N)) if one.notes]
    (text,) = noted[0].notes
    assert "kinks" in text and "gate relu" in text and "query.calibrate()" in text
    assert noted[0].to_dict()["notes"] == [text] and f"  note: {text}" in str(noted[0]).splitlines()
    assert text.partition(" (")[0] in noted[0]._repr_html_() and f"warning: {text}" not in str(noted[0])


def test_a_retrained_subset_is_not_widened(relu):
    run, query = relu
    rows = masks(2, 1, 5)
    w, v = parameters(run, rows)
    known = query.with_evidence(rows, [relu_prediction({"w": w[0], "v": v[0]})])
    assert known.without(rows[0]).stderr < 1e-3 * query.without(rows[0]).stderr


def test_a_sketch_opened_without_its_run_knows_that_there_are_kinks(tmp_path):
    for activation, name in ((cs.relu, "relu"), (np.tanh, "tanh")):
        path = tmp_path / name
        cs.sketch(perceptron(activation, steps=3), 8, 2, path=path)
        warnings = cs.open_sketch(path).measure(lambda p: p["v"] @ p["v"]).without([0]).warnings
        assert any("gate relu" in text and "cs.open_sketch(path, run)" in text for text in warnings) == (name == "relu")


TEST = np.random.default_rng(7).normal(size=(40, FEATURES))


def hinge(p):
    """A measurement with kinks of its own, of a smooth run."""
    return np.maximum(np.tanh(TEST @ p["w"]) @ p["v"] - 0.02, 0.0).sum()


def test_kinks_of_the_measurement_are_counted_like_those_of_training(tmp_path):
    run = perceptron(np.tanh)
    query = cs.sketch(run, 32, 3, per_example="series", path=tmp_path / "a.sketch").measure(hinge)
    for size in (1, 5):
        rows = masks(size, 60, size)
        truth = np.array([hinge({"w": w, "v": v}) for w, v in zip(*parameters(run, rows), strict=True)])
        low, high = query.without(rows).interval()
        assert np.mean((low <= truth) & (truth <= high)) >= 0.9
        narrow = query.estimators["interactions"].predict(rows)
        assert np.mean(np.abs(narrow.change + query.baseline - truth) <= 1.96 * narrow.stderr) < 0.5
    (text,) = query.without([0]).notes
    assert "gate maximum (" in text and "of the measurement" in text and "query.calibrate()" in text
    (text,) = cs.open_sketch(tmp_path / "a.sketch").measure(hinge).without([0]).warnings
    assert "gate maximum (" in text and "unknown without the run" in text


def test_kinks_of_run_and_measurement_add_up(relu):
    run, query = relu
    both = query.checks.kink_errors
    assert [name.endswith("of the measurement") for name in both.summary.kinks] == [False, True]
    linear = cs.sketch(run, 32, 3, per_example="series").measure(lambda p: p["w"].sum() + p["v"].sum())
    assert np.array_equal(np.array(both.summary.counts)[:, :1], linear.checks.kink_errors.summary.counts)


def test_a_question_about_one_example_of_a_smooth_run_is_not_checked(monkeypatch):
    query = cs.sketch(perceptron(np.tanh), 32, 3, per_example="series").measure(lambda p: p["v"] @ p["v"])
    for name in ("find_crossings", "measure_crossings"):
        monkeypatch.setattr(run_checks, name, None)
    monkeypatch.setattr(run_checks.Source, "retrain", None)
    for name, estimator in query.estimators.items():
        raw, shown = estimator.predict(masks(1, 3, 0)), query.without(masks(1, 3, 0), estimator=name)
        np.testing.assert_array_equal(shown.stderr, raw.stderr)
        np.testing.assert_array_equal(shown.degrees_of_freedom, raw.degrees_of_freedom)
        assert shown.warnings == (*raw.doubts, *raw.warnings)


# ------------------------------------------------------------------------------------------- many and alike examples


@pytest.mark.parametrize("activation", [np.tanh, cs.relu], ids=["tanh", "relu"])
def test_large_random_deletions_have_intervals_that_hold_without_a_warning_of_the_region(activation, monkeypatch):
    """Whichever subsets are retrained, and also for sizes between theirs: 60 questions a size, six draws."""
    run = perceptron(activation, rate=0.1)
    query = cs.sketch(run, 32, 3, per_example="series").measure(lambda p: TEST[0] @ p["w"] @ p["v"])
    held, outside, widths = [], [], []
    asked = [masks(size, 60, 11) for size in (12, 20, 30)]
    truths = [np.array([TEST[0] @ w @ v for w, v in zip(*parameters(run, rows), strict=True)]) for rows in asked]
    for seed in range(1, 7):
        monkeypatch.setattr(
            run_checks, "draw_alike_and_random", lambda *args, seed=seed: draw_alike_and_random(*args, seed)
        )
        query.checks.together.clear()
        vars(query.checks).pop("retrain_together", None)
        for rows, truth in zip(asked, truths, strict=True):
            prediction = query.without(rows)
            low, high = prediction.interval()
            held.append(np.mean((low <= truth) & (truth <= high)))
            outside.append(np.mean(prediction.outside))
            widths.append(np.median(high - low) / np.sqrt(np.mean((prediction.value - truth) ** 2)))
            assert not any("region of trust" in text for text in prediction.warnings)
    assert np.mean(held) >= 0.93 and np.min(held) >= 0.8
    assert np.mean(outside) <= 0.1  # beyond what was retrained
    assert np.median(widths) < 8
    assert all(np.any(query.estimators["interactions"].predict(rows).outside) for rows in asked)


@pytest.mark.parametrize("measured", [0, 1, 2])
def test_intervals_of_single_examples_of_a_smooth_run_hold(measured):
    """Some series have small last terms by chance: their tails are those of most examples."""
    run = perceptron(np.tanh)
    value = lambda p: np.tanh(TEST[measured] @ p["w"]) @ p["v"]  # noqa: E731
    query = cs.sketch(run, 32, 3, per_example="series").measure(value)
    truth = np.array([value({"w": w, "v": v}) for w, v in zip(*parameters(run, np.eye(N)), strict=True)])
    low, high = query.without(np.eye(N)).interval()
    assert np.mean((low <= truth) & (truth <= high)) >= 0.93


def test_nearly_equal_examples_have_intervals_that_hold():
    """Twelve rows of each of five users, nearly the same; all rows of a part of one user are deleted."""
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(5), 12)
    x = rng.normal(size=(5, FEATURES))[user] + 0.05 * rng.normal(size=(N, FEATURES))
    y = rng.normal(size=5)[user] + 0.1 * rng.normal(size=N)
    params = {"w": rng.normal(size=(FEATURES, HIDDEN)), "v": rng.normal(size=HIDDEN) / HIDDEN}

    def step(state, batch, keep):
        loss = lambda p: (keep * (np.tanh(batch[0] @ p["w"]) @ p["v"] - batch[1]) ** 2).mean()  # noqa: E731
        return cs.optim.sgd(state, cs.grad(loss)(state["params"]), 0.2)

    run = cs.Training(step, {"params": params}, [(x, y)] * 60, [np.arange(N)] * 60, n=N, labels=user.tolist())
    query = cs.sketch(run, 32, 3, per_example="series").measure(lambda p: np.tanh(x[0] @ p["w"]) @ p["v"])
    rows = np.zeros((60, N))
    for row in rows:
        row[rng.permutation(np.flatnonzero(user == rng.integers(5)))[: rng.integers(3, 13)]] = 1.0
    truth = np.array([np.tanh(x[0] @ w) @ v for w, v in zip(*parameters(run, rows), strict=True)])
    low, high = query.without(rows).interval()
    assert np.mean((low <= truth) & (truth <= high)) >= 0.9


# ------------------------------------------------------------------------------------------------- a rare category


def test_the_only_example_of_a_category_under_adam_is_warned_of():
    """The first example alone moves the first embedding; Adam moves it as far whatever the example's weight is."""
    category = np.array([0] + [1] * 19)
    rng = np.random.default_rng(0)
    target = rng.normal(size=20)
    target[0] = 1.0

    def step(state, batch, keep):
        def loss(p):
            return (keep * (batch[0] @ p - batch[1]) ** 2).mean()

        return cs.optim.adam(state, cs.grad(loss)(state["params"]), 0.05, eps=0.0, eps_root=1e-9)

    data = (np.eye(2)[category], target)
    run = cs.Training(step, cs.optim.adam_state(np.zeros(2)), [data] * 8, [np.arange(20)] * 8, n=20)
    query = cs.sketch(run, 64, 3, per_example="series").measure(lambda p: p[0])
    truth = float(run.retrain(without=[0])["params"][0])
    assert abs(truth) < 1e-12
    for name in ("interactions", "per-example", "theorem"):
        prediction = query.without([0], estimator=name)
        raw = query.estimators[name].predict(np.eye(20)[0])
        assert abs(query.baseline + raw.change - truth) > 0.1
        low, high = prediction.interval()
        assert low <= truth <= high
        (text,) = [text for text in prediction.warnings if "retrained alone" in text]
        assert "(trained with eps_root larger by about 0.00" in text and "would follow the step within 10%)" in text
    assert query.without([3]).warnings == ()


# --------------------------------------------------------------------------------------- series that do not converge


def test_a_series_is_cut_at_its_smallest_term():
    terms = np.zeros((5, 7))
    terms[0] = [9, 1, 0.3, 0.2, 0.25, 0.5, 1.4]  # asymptotic
    terms[1] = [9, 1, 10, 100, 1e3, 1e4, 1e5]  # grows from the first order on
    terms[2] = [9, 1, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    terms[3] = [9, 1, 0, 0.5, 0, 0.25, 0]
    terms[4] = [9, 1, 2, 3, 2, 1, 0.5]
    series = cut_series(terms[:, :, None])
    assert series.last.ravel().tolist() == [3, 1, 6, 6, 6]
    assert series.tail[:, 0] == pytest.approx([0.25, 10, 0.03125, 0, series.tail[4, 0]])
    np.testing.assert_array_equal(series.terms[2:, :, 0], terms[2:])
    np.testing.assert_array_equal(series.terms[:2].sum(axis=1).ravel(), [9 + 1 + 0.3 + 0.2, 10])


def test_a_tail_is_at_least_that_of_most_series():
    terms = np.tile([9.0, 1.0, 0.5, 0.25], (20, 1))
    terms[3] = [9, 1, 0.01, 0.001]  # small by chance
    terms[4] = [9, 1, 0.8, 0.64]
    terms[5] = [9, 1, 3, 9]  # cut, and does not count
    terms[6] = [9, 4, 0, 0]
    tail = cut_series(terms[:, :, None]).tail[:, 0]
    np.testing.assert_allclose(tail[[0, 3, 4, 6]], [0.25, 0.25, 0.64 * 0.8 / 0.2, 1.0])
    assert tail[5] == cut_series(terms[5:6, :, None]).tail[0, 0]
    few = cut_series(terms[:7, :, None]).tail[:, 0]
    np.testing.assert_allclose(few[3], cut_series(terms[3:4, :, None]).tail[0, 0])
    assert few[3] < 0.01
    exact = np.tile([9.0, 1.0, 0.5, 0.0], (20, 1))
    assert not cut_series(exact[:, :, None]).tail.any()


def test_a_series_that_diverges_is_not_summed():
    """s = x / (1 + 9 w_0): the series in w_0 has radius 1/9, and the truth at w_0 = 1 is x / 10."""
    run = cs.Training(lambda s, x, keep: x / (10.0 - 9.0 * keep[0]) + 0.1 * keep[1:].sum(), 0.0, [1.0], [range(4)])
    query = cs.sketch(run, 16, 6, per_example="series").measure(lambda s: s)
    truth = float(run.retrain(without=[0]))
    prediction = query.without([0])
    assert abs(query.per_example[0, 1:].sum()) > 1e5
    assert abs(prediction.value - truth) < 10
    low, high = prediction.interval()
    assert low <= truth <= high and prediction.warnings


# ------------------------------------------------------------------------------------------------------------ ranking


def test_influences_are_ranked_by_what_is_sure():
    change, stderr = np.array([9e3, 1.0, -2.0, 0.5]), np.array([1.7e5, 0.1, 1.6, 0.0])
    assert Influence(change, stderr, 0.0, 1, 0).top().tolist() == [1, 3, 2, 0]
    assert Influence(change, np.array([np.inf, 0.1, 1.6, 0.0]), 0.0, 1, 0).top().tolist() == [1, 3, 2, 0]
    assert Influence(change, np.full(4, np.inf), 0.0, 1, 0).top().tolist() == [0, 2, 1, 3]
