"""The figures of a sketch draw what the page draws: curves over a removal, by retraining; calibrated predictions."""

from __future__ import annotations

import json

import numpy as np
import page_runs
import pytest
from matplotlib.figure import Figure
from small_runs import raises

import circuitsketch as cs
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.report import figures, plots
from circuitsketch.report.agreement import read_calibration
from circuitsketch.report.removal import predict_along_subsets


@pytest.fixture(scope="module")
def queries():
    return page_runs.measured()


@pytest.fixture(scope="module")
def calibrated(queries):
    return queries["loss"].calibrate(size=(2, 6), count=30)


def truth(h):
    """One retraining, without lanes."""
    run = page_runs.make()
    return float(page_runs.loss(run.params(run.retrain(h))))


def test_a_removal_of_several_subsets_has_a_curve_each_and_retrained_points(queries):
    subsets = {"two": [4, 9], "three": [1, 2, 3]}
    source = Source(page_runs.loss, (), page_runs.make())
    removal = predict_along_subsets(queries["loss"], subsets, "loss", source)
    assert [curve.label for curve in removal.curves] == list(subsets) and removal.removed == "each subset"
    for curve, ids in zip(removal.curves, subsets.values(), strict=True):
        prediction = queries["loss"].without(ids)
        # Many subsets at once take products with the similarity in single precision.
        assert curve.value[[0, -1]] == pytest.approx([queries["loss"].baseline, prediction.value], rel=1e-7)
        assert (curve.low[-1], curve.high[-1]) == pytest.approx(prediction.interval(), rel=1e-6)
    expected = [truth(np.zeros(page_runs.N))]
    for strength in (0.25, 0.5, 0.75, 1.0):
        expected += [truth(strength * np.isin(np.arange(page_runs.N), ids)) for ids in subsets.values()]
    assert removal.retrained == pytest.approx(expected, rel=1e-9)
    assert removal.checked.tolist() == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]
    assert isinstance(plots.plot_removal(removal), Figure)


def test_what_cannot_be_told_apart_or_is_no_number_is_refused(queries):
    with raises(cs.InputError, "up to 6 subsets, not 7"):
        predict_along_subsets(queries["loss"], {str(i): [i] for i in range(7)}, "loss")
    with raises(cs.InputError, "measure one of them"):
        predict_along_subsets(queries["margin"], {"one": [1]}, "margin")


def test_without_a_retraining_the_point_at_nothing_removed_is_as_trained(queries):
    (ax,) = plots.plot_removal(predict_along_subsets(queries["loss"], {"two": [4, 9]}, "loss")).axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "as trained" in labels and "retrained" not in labels


def test_a_calibration_is_drawn_as_each_subset_is_predicted_without_itself(queries, calibrated):
    agreement = read_calibration(calibrated, "loss")
    rows = calibrated.estimators["calibrated"].retrained.rows
    assert agreement.retrained[:3] == pytest.approx([truth(row) for row in rows[:3]], rel=1e-9)
    # By hand: the calibration without its first subset predicts that subset.
    truths = np.array([truth(row) for row in rows])
    alone = queries["loss"].calibrate(rows[1:], truth=truths[1:])
    assert agreement.predicted[0] == pytest.approx(alone.reweight(rows[0]).value, rel=1e-6)
    assert agreement.sizes.tolist() == rows.sum(axis=1).tolist() and agreement.covered >= 26  # of 30 at 95 %
    few = queries["loss"].calibrate(rows[:10], truth=truths[:10])
    assert np.isinf(read_calibration(few, "loss").low).all()  # 95 % takes 19
    assert isinstance(plots.plot_agreement(read_calibration(few, "loss")), Figure)


def test_the_figures_of_a_sketch_are_written_with_their_data(queries, calibrated, tmp_path):
    paths = figures.draw_sketch(tmp_path, queries["loss"], "loss", calibrated=calibrated)
    assert [path.stem for path in paths] == ["stability", "influence", "removal", "agreement"]
    data = {path.stem: json.loads(path.with_suffix(".json").read_text())["data"] for path in paths}
    largest = np.argsort(-np.abs(queries["loss"].influence().change))[:10].tolist()
    assert data["removal"]["removed"] == "the 10 examples with the largest effects"
    ends = [data["removal"]["curves"][0][end][-1] for end in ("low", "high")]
    assert ends == pytest.approx(calibrated.without(largest).interval(), rel=1e-6)
    assert len(data["agreement"]["retrained"]) == 30
    chosen = figures.draw_sketch(tmp_path / "new", queries["loss"], "loss", subsets={"a": [1], "b": [2, 3]})
    curves = json.loads((tmp_path / "new" / "removal.json").read_text())["data"]["curves"]
    assert [curve["label"] for curve in curves] == ["a", "b"] and "agreement" not in {path.stem for path in chosen}
    several = figures.draw_sketch(tmp_path / "more", queries["margin"], "margin")
    assert [path.stem for path in several] == ["stability"]
