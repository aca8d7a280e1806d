"""The command attribute, and the calibration of predict: answers against retraining, plans, resumption, mistakes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from circuitsketch.zoo import logistic

ARGUMENTS = ("attribute", "logistic:epochs=3", "--measure", "held_out_loss", "--budget", "60")


def retrained(*subsets):
    run = logistic.training(epochs=3)
    return [logistic.held_out_loss(run.params(run.retrain(without=ids))) for ids in subsets]


def as_trained():
    run = logistic.training(epochs=3)
    return logistic.held_out_loss(run.params(run.train()))


def test_attribute_answers_with_a_plan_before_and_its_worth_after(call, found):
    answer = found(*ARGUMENTS, "--without", "1,5", "--level", "0.9")
    assert answer["ids"] == [1, 5] and answer["estimator"] == "calibrated"
    assert abs(answer["value"] - retrained([1, 5])[0]) < 0.2 * abs(answer["change"])
    assert answer["plan"]["trainings"] <= answer["plan"]["budget"] == 60 and answer["plan"]["spent"] > 0
    assert answer["worth"]["lds"] > 0.9 and answer["worth"]["relative_error"] < 0.5
    _, out, err = call(*ARGUMENTS, "--without", "1,5")
    assert "plan: first order of the measurement and of 33 projections of the parameters, 48" in err
    assert "retrained subsets" in err and "trainings" in err
    assert "worth:" in out and "rank" in out and "took" in out and "directions" not in out


def test_attribute_retrains_in_float32(found, call):
    answer, double = (found(*ARGUMENTS, "--without", "1,5", *more) for more in (("--dtype", "float32"), ()))
    assert answer["plan"]["dtype"] == "float32" and double["plan"]["dtype"] == "float64"
    assert answer["value"] == pytest.approx(double["value"], rel=1e-6) and answer["low"] != double["low"]
    code, _, err = call(*ARGUMENTS, "--dtype", "complex64")
    assert code != 0 and "float32" in err


def test_attribute_lists_influences_where_nothing_is_deleted(found, call):
    answer = found(*ARGUMENTS, "--top", "3")
    assert len(answer["top"]) == 3
    first = answer["top"][0]["id"]
    change = retrained([first])[0] - as_trained()
    assert answer["top"][0]["change"] == pytest.approx(change, rel=0.05)
    assert "change of the measurement without an example, of 400" in call(*ARGUMENTS, "--top", "3")[1]


def test_attribute_answers_about_each_subset_of_a_file(found, call, home):
    (home / "two.json").write_text(json.dumps({"near": [1, 2], "far": [7, 8, 9]}))
    answer = found(*ARGUMENTS, "--file", "two.json")
    assert [row["name"] for row in answer["subsets"]] == ["near", "far"]
    values, right = [row["value"] for row in answer["subsets"]], retrained([1, 2], [7, 8, 9])
    changes = np.array(right) - as_trained()
    assert np.abs(np.array(values) - right).max() < 0.2 * np.abs(changes).max()
    assert "near" in call(*ARGUMENTS, "--file", "two.json")[1]


def test_attribute_by_label_is_exact(found, call):
    answer = found(*ARGUMENTS, "--by-label", "--without", "0")
    run = logistic.training(epochs=3)
    label = list(dict.fromkeys(run.labels))[0]
    right = logistic.held_out_loss(run.params(run.retrain(without=[x == label for x in run.labels])))
    assert answer["value"] == pytest.approx(right, rel=1e-9) and answer["low"] == answer["high"]
    assert answer["worth"] is None and answer["plan"]["subsets"] == 0
    assert "retraining without each group (exact for one group)" in call(*ARGUMENTS, "--by-label")[2]


def test_attribute_keeps_its_work_in_a_folder(found, call, home):
    first = found(*ARGUMENTS, "--without", "1,5", "--keep", "work")
    assert (home / "work" / "derivatives.npy").exists()
    again = found(*ARGUMENTS, "--without", "1,5", "--keep", "work")
    assert all(first[key] == again[key] for key in ("value", "low", "high", "worth"))
    code, _, err = call("attribute", "logistic:epochs=2", *ARGUMENTS[2:], "--keep", "work")
    assert code == 1 and "a different run or measurement" in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--budget", "2"), 1, "budget is 2 trainings"),
        (("--size", "5,x"), 2, "--size must be a number such as 5, or two such as 5,20, not '5,x'"),
        (("--size", "9,5"), 1, "pass the smaller number first"),
        (("--kind", "user"), 2, "--kind"),
        (("--level", "1"), 2, "--level must be between 0 and 1"),
        (("--without", "400"), 1, "there is no example 400"),
        (("--containing", "z"), 1, "--containing: the examples of the run have no items; pass items="),
        (("--label", "nobody"), 1, "no example has the label 'nobody'"),
        (("--file", "nowhere.txt"), 1, "cannot read nowhere.txt"),
    ],
)
def test_mistakes_of_attribute_are_one_line(call, options, code, message):
    actual, out, err = call(*ARGUMENTS, *options)
    assert (actual, out) == (code, "") and message in err and err.startswith("circuitsketch: ")


def test_a_prediction_with_the_run_at_hand_is_calibrated_and_the_next_costs_nothing(call, found, home, tmp_path):
    store = tmp_path / "zoo.sketch"
    shutil.copytree(home / "zoo.sketch", store)
    predict = ("predict", str(store), "--measure", "held_out_loss", "--without", "3,9,11")
    assert found(*predict)["estimator"] == "theorem"
    with_run = (*predict, "--target", "logistic:epochs=3")
    first = found(*with_run)
    assert first["estimator"] == "calibrated"
    out, err = call(*with_run)[1:]
    assert "calibrated on 48 retrained subsets stored in the sketch, of 2 to 40 examples" in err
    assert "calibrated on 48 retrained random subsets that the sketch has kept" in " ".join(out.split())
    assert found(*predict)["estimator"] == "calibrated"  # without the run, too
    assert found(*with_run, "--calibrate", "0")["estimator"] == "theorem"
    assert "calibrated on 60 retrained subsets of 2 to 40 examples in" in call(*with_run, "--calibrate", "60")[2]
    shutil.rmtree(store / "calibrations")
    answer = found(*with_run, "--calibrate", "24")
    assert answer["low"] <= retrained([3, 9, 11])[0] <= answer["high"]
    assert found(*with_run, "--estimator", "theorem")["estimator"] == "theorem"
    code, _, err = call(*predict, "--calibrate", "24", "--order", "1")
    assert code == 2 and "omit --estimator and --order" in err


def test_damaged_evidence_is_one_line(call, home, tmp_path):
    store = tmp_path / "zoo.sketch"
    shutil.copytree(home / "zoo.sketch", store)
    predict = ("predict", str(store), "--measure", "held_out_loss", "--without", "3,9,11")
    assert call(*predict, "--calibrate", "12", "--target", "logistic:epochs=3")[0] == 0
    (file,) = store.glob("calibrations/*/changes/c.0.0")
    file.write_bytes(bytes(len(file.read_bytes())))
    code, out, err = call(*predict)
    assert (code, out) == (1, "") and "does not match its digest" in err and "calibrate again" in err
    assert call(*predict, "--calibrate", "0")[0] == 0
