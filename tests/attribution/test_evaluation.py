"""Scores of predictions whose errors are known, and files that datamodels read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

import circuitsketch as cs
from circuitsketch.attribution.evaluation import score
from circuitsketch.attribution.prediction import Prediction
from circuitsketch.errors import InputError
from circuitsketch.report.retraining import retrain_subsets


def prediction(value, stderr):
    return Prediction(
        value=value,
        baseline=0.0,
        change=value,
        stderr=stderr,
        terms=value[None],
        term_stderr=stderr[None],
        truncation=0 * stderr,
        order=1,
        directions=10,
        median_groups=1,
        degrees_of_freedom=10**6,
        estimator="theorem",
        outside=np.zeros(value.shape, dtype=bool),
    )


def test_scores_are_those_of_the_textbook():
    rng = np.random.default_rng(0)
    truth, error = rng.normal(size=(400, 5)), 0.3 * rng.normal(size=(400, 5))
    found = score(prediction(truth + error + 0.1, np.full(truth.shape, 0.3)), truth, None)
    ranks = [spearmanr(truth[:, c], (truth + error)[:, c])[0] for c in range(5)]
    assert found.lds == pytest.approx(np.mean(ranks), rel=1e-12)
    assert found.lds_interval[0] < found.lds < found.lds_interval[1] < found.lds_interval[0] + 0.05
    assert found.rmse == pytest.approx(np.mean(np.sqrt(((error + 0.1) ** 2).mean(0)) / truth.std(0)), rel=1e-12)
    assert found.bias == pytest.approx(np.mean((error + 0.1).mean(0) / truth.std(0)), rel=1e-12)
    for level, share in found.coverage.items():
        reach = norm.ppf(0.5 + level / 2) * 0.3
        assert share == pytest.approx((np.abs(error + 0.1) <= reach).mean(), abs=0.002)
    assert found.calibration.shape == (2, 19) and np.all(np.diff(found.calibration[1]) >= 0)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["subsets"] == 400


def polynomial():
    step = lambda s, x, keep: s + keep.sum() * x  # noqa: E731
    run = cs.Training(step, np.zeros(()), [1.0, 10.0, 2.0, 5.0], [[0], [1], [2], [3]])
    return run, cs.sketch(run, directions=4, order=1, distribution="orthonormal").measure(lambda s: s * np.ones(2))


def test_retrain_worst_corrects_examples_whose_series_end_too_early():
    x = np.concatenate([[1.5, -1.4, 1.3], 0.2 * np.random.default_rng(3).normal(size=9)])  # three slow series
    measure = lambda s, scale: scale * s * np.ones(2)  # noqa: E731
    run = cs.Training(
        lambda s, x, keep: s + np.tanh(keep.sum() * x - 0.3 * s), np.zeros(()), list(x), np.arange(12)[:, None]
    )
    query = cs.sketch(run, directions=24, order=2, per_example="series").measure(measure, 2.0)
    known = cs.retrain_worst(query, run=run, measure=measure, args=(2.0,), count=3)
    assert sorted(np.flatnonzero(known.evidence.h.any(axis=0))) == [0, 1, 2]
    subsets = [[i] for i in range(12)] + [[i, j] for i in range(3) for j in range(3, 12, 2)]
    before, after = (cs.evaluate(q, subsets, run=run, measure=measure, args=(2.0,)) for q in (query, known))
    error = np.abs(after.prediction.value - after.truth)
    assert np.all(error[:3] < 1e-6) and after.rmse < 0.4 * before.rmse
    assert np.all(after.prediction.stderr[:12] <= before.prediction.stderr[:12] * (1 + 1e-9))
    everyone = cs.retrain_worst(query, run=run, measure=measure, args=(2.0,), count=40)
    assert len(everyone.evidence.h) == 12
    for ask, words in (
        (lambda: cs.retrain_worst(query, run=run, measure=measure, args=(2.0,), count=0), "at least 1, not 0"),
        (lambda: cs.retrain_worst(query, run=run, measure=lambda s: s), "measure the same function"),
        (lambda: cs.retrain_worst(query, run=polynomial()[0], measure=measure), "12 examples and the run of 4"),
        (lambda: cs.retrain_worst(polynomial()[1], run=polynomial()[0], measure=measure), "per_example='series'"),
    ):
        with pytest.raises(cs.InputError, match=words):
            ask()


def test_retrain_worst_retrains_nothing_where_every_series_has_ended():
    step = lambda s, x, keep: s + keep.sum() * x  # noqa: E731
    run = cs.Training(step, np.zeros(()), [1.0, 10.0, 2.0, 5.0], [[0], [1], [2], [3]])
    query = cs.sketch(run, directions=8, order=2, per_example="series").measure(lambda s: s)
    assert cs.retrain_worst(query, run=run, measure=lambda s: s) is query


def test_evaluate_retrains_and_a_linear_run_is_predicted_perfectly():
    run, query = polynomial()
    found = cs.evaluate(query, [[0], [1], [0, 2], [1, 3]], run=run, measure=lambda s: s * np.ones(2))
    np.testing.assert_allclose(found.truth[:, 0], [17, 8, 15, 3])
    assert found.lds == pytest.approx(1) and found.rmse < 1e-12
    assert "evaluation of 4 subsets" in str(found)


def test_masks_and_margins_are_those_of_datamodels(tmp_path):
    run, query = polynomial()
    subsets = [[0], [1], [0, 2]]
    found = cs.evaluate(query, subsets, run=run, measure=lambda s: s * np.ones(2))
    found.save(tmp_path)
    kept = np.load(tmp_path / "masks.npy")
    assert kept.dtype == bool and kept[0].tolist() == [False, True, True, True]  # True: it was trained on
    masks, margins = cs.read_datamodels(tmp_path)
    again = cs.evaluate(query, masks, truth=margins)
    assert again.lds == found.lds and np.array_equal(again.truth, found.truth)
    (tmp_path / "margins.npy").write_bytes(b"no array")
    with pytest.raises(cs.InputError, match="cannot be read"):
        cs.read_datamodels(tmp_path)
    np.save(tmp_path / "margins.npy", np.ones((2, 2)))
    with pytest.raises(cs.InputError, match="masks are"):
        cs.read_datamodels(tmp_path)


def nonlinear(**parts):
    step = lambda s, x, keep: s + np.tanh(keep.sum() * x - s)  # noqa: E731
    run = cs.Training(step, np.zeros(()), [1.0, 2.0, 0.5, 1.5], [[0], [1], [2], [3]])
    return run, cs.sketch(run, 4, 2, **parts)


def test_a_measured_query_evaluates_and_retrains_without_being_told_what_it_measured():
    run, sketch = nonlinear(per_example="series")
    measure = lambda s, scale: scale * s  # noqa: E731
    query, subsets = sketch.measure(measure, 3.0), [[0], [1, 2], [3]]
    scores = query.evaluate(subsets)
    np.testing.assert_allclose(scores.truth, [3 * float(run.retrain(without=ids)) for ids in subsets], rtol=1e-12)
    door = cs.evaluate(query, subsets, run=run, measure=measure, args=(3.0,))
    assert np.array_equal(door.truth, scores.truth) and str(door) == str(scores)
    updated = query.retrain_worst(1)
    worst = int(np.argmax(query.influence().stderr))
    assert updated.without([worst]).value == pytest.approx(3 * float(run.retrain(without=[worst])), rel=1e-6)
    with pytest.raises(cs.InputError, match="give measure= too"):
        cs.evaluate(query, subsets, args=(3.0,))


def test_a_query_opened_without_its_run_says_what_is_missing(tmp_path):
    run, _ = nonlinear(per_example="series", path=tmp_path / "a.sketch")
    query = cs.open_sketch(tmp_path / "a.sketch").measure(np.sum)
    for ask in (lambda: query.evaluate([[0], [1]]), lambda: query.retrain_worst()):
        with pytest.raises(cs.InputError, match="opened without its run: give run="):
            ask()
    assert query.evaluate([[0], [1]], truth=[1.0, 2.0]).truth.tolist() == [1.0, 2.0]
    with_run = cs.open_sketch(tmp_path / "a.sketch", run).measure(np.sum)
    assert np.array_equal(query.evaluate([[0], [1]], run=run).truth, with_run.evaluate([[0], [1]]).truth)
    other = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 2.0], [[0], [1]])
    with pytest.raises(cs.InputError, match="4 examples and the run of 2"):
        query.evaluate([[0], [1]], run=other)


def test_invalid_evaluate_arguments_are_refused():
    run, query = polynomial()
    for ask, words in (
        (lambda: cs.evaluate(query, [0]), "at least two subsets"),
        (lambda: cs.evaluate(cs.Query(query.coefficients, query.distribution), [[0], [1]]), "run= and measure="),
        (lambda: cs.evaluate(query, [[0], [1]], truth=np.ones(2)), "have the shape"),
        (lambda: cs.evaluate(query, [[0], [1]], truth=np.full((2, 2), np.nan)), "NaN"),
    ):
        with pytest.raises(cs.InputError, match=words):
            ask()
    halved = cs.evaluate(query, np.array([[0.5, 0, 0, 0], [0, 0.5, 0, 0]]), truth=np.ones((2, 2)))
    with pytest.raises(cs.InputError, match="no mask can say"):
        halved.save("nowhere")


def test_saved_retrained_truths_are_identified_by_what_the_measurement_computes(tmp_path):
    """A file that is edited has the same name; the truth of factor * s by hand, since s is a sum."""
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 2.0, 4.0], [[0], [1], [2]])
    masks = np.eye(3, dtype=bool)

    def truths(factor, offset=0.0):
        measure = lambda s: factor * s + offset  # noqa: E731
        return retrain_subsets(run, masks, measure, shape=(), what="own.py:value", folder=tmp_path / "kept")

    assert truths(1.0) == pytest.approx([6.0, 5.0, 3.0])
    assert truths(1.0) == pytest.approx([6.0, 5.0, 3.0])  # from the folder
    for other in ((2.0,), (1.0, 1.0)):
        with pytest.raises(InputError, match="another run, measurement or dtype"):
            truths(*other)
    about = json.loads((tmp_path / "kept" / "about.json").read_text())
    del about["circuit"]
    (tmp_path / "kept" / "about.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="an earlier version of circuitsketch"):
        truths(1.0)
