"""The numbers of a page are the query's, its truths are retrained, and what it says can be sent as JSON."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time

import numpy as np
import page_runs
import pytest
from matplotlib.image import imread
from small_runs import raises

import circuitsketch as cs
from circuitsketch.attribution.calibrate import choose_subsets
from circuitsketch.attribution.ground_truth import Source
from circuitsketch.directions import Orthonormal
from circuitsketch.estimators.caveats import CALIBRATE
from circuitsketch.estimators.convergence import (
    notes_of_error,
    sentence_outside,
    sentences_of_beyond,
    warnings_of_error,
    warnings_of_lack,
)
from circuitsketch.estimators.interactions import fitting
from circuitsketch.estimators.known_effects import UNCALIBRATED, FromKnownEffects
from circuitsketch.estimators.retrained_subsets import RetrainedSubsets
from circuitsketch.page.answers import STRENGTHS
from circuitsketch.page.examples import encode_image
from circuitsketch.page.plain_words import plain_words
from circuitsketch.page.retrained import retrain_finite
from circuitsketch.page.static_page import sum_view
from circuitsketch.page.view import View


@pytest.fixture(scope="module")
def queries():
    return page_runs.measured()


@pytest.fixture
def view(queries):
    return View(queries, title="rude", about=[("sketch", "of a test")])


def truth(ids, measure):
    """One retraining, without lanes."""
    run = page_runs.make()
    return np.ravel(measure(run.params(run.retrain(ids))))


def test_an_answer_has_the_numbers_of_the_query(view, queries):
    ids = [4, 9, 17]
    answer = json.loads(json.dumps(view.ask(ids), allow_nan=False))
    assert [value.name for value in view.values] == ["loss", "margin[0]", "margin[1]"]
    for name, columns in (("loss", [0]), ("margin", [1, 2])):
        prediction = queries[name].without(ids)
        low, high = prediction.interval(0.95)
        for column, i in enumerate(columns):
            value = answer["values"][i]
            expected = [np.ravel(part)[column] for part in (prediction.value, prediction.change, low, high)]
            assert [value[key] for key in ("value", "change", "low", "high")] == expected
            assert value["curve"]["value"][0] == np.ravel(queries[name].baseline)[column]
            assert value["curve"]["value"][-1] == pytest.approx(expected[0], rel=1e-12)
            half = queries[name].reweight(STRENGTHS[6] * (np.isin(np.arange(page_runs.N), ids)))
            assert value["curve"]["high"][6] == pytest.approx(np.ravel(half.interval()[1])[column], rel=1e-9)
            assert sum(term["term"] for term in value["terms"]) == pytest.approx(expected[1], rel=1e-9)


def test_nothing_left_out_is_the_model_as_trained(view, queries):
    answer = view.ask([])
    assert answer["values"][0]["value"] == answer["values"][0]["low"] == queries["loss"].baseline
    assert answer["warnings"] == [] and answer["values"][0]["change"] == 0


def test_the_page_is_described_before_a_question_is_asked(view, queries):
    page = json.loads(json.dumps(view.describe(), allow_nan=False))
    assert page["about"] == [["sketch", "of a test"]] and "Not calibrated" in page["trust"]["sentence"]
    assert page["n"] == page_runs.N == len(page["labels"]) == len(page["items"])
    influence = queries["loss"].influence()
    assert page["values"][0]["effects"] == pytest.approx(influence.change, rel=1e-8)
    assert page["values"][0]["stderr"] == pytest.approx(influence.stderr, rel=1e-8)
    assert "\u202e" not in json.dumps(page["labels"], ensure_ascii=False)  # which would turn the rest of a line round


def test_a_check_is_retrained_and_taken_into_the_calibration(view):
    view.calibrate(30, largest=6)
    assert "30 random subsets of 2 to 6 examples" in view.describe_trust()["sentence"]
    ids = [4, 9, 17]
    before, answer = view.ask(ids), view.check(ids)
    expected = np.concatenate([truth(ids, page_runs.loss), truth(ids, page_runs.margins)])
    assert [values[-1] for values in answer["truth"]["values"]] == pytest.approx(expected, rel=1e-9)
    assert before["truth"] is None and view.ask([4, 9])["truth"] is None
    shown = view.calibration()
    assert [len(value["points"]) for value in shown["values"]] == [31] * 3
    check = shown["values"][0]["checks"][0]
    assert check["predicted"] == before["values"][0]["value"] and check["ids"] == ids
    assert check["truth"] == pytest.approx(expected[0], rel=1e-9)
    assert "1 checked here" in shown["trust"]["sentence"]
    assert 0.8 <= shown["values"][0]["coverage"]["0.95"] <= 1


def test_checks_calibrate_from_the_eighth_on(view):
    for k in range(8):
        assert "calibrated" not in view.queries["loss"].estimators
        view.check([4 + k, 20 + k])
    assert view.queries["loss"].estimators["calibrated"].count == 8


def test_a_subset_of_one_label_is_warned_of_after_a_calibration_at_random(view):
    view.calibrate(30, largest=6)
    assert any(
        "one label" in text or "share a label" in text or "one direction" in text
        for text in view.ask(range(5, 25, 4))["warnings"]
    )
    assert not any(
        "one label" in text or "share a label" in text or "one direction" in text
        for text in view.ask([5, 6, 7, 8])["warnings"]
    )


def test_a_training_that_diverges_is_an_error_and_changes_nothing(view):
    before = view.ask(page_runs.DIVERGES)
    with pytest.raises(cs.DivergenceError):
        view.check(page_runs.DIVERGES)
    assert view.retrained.checks == () and view.ask(page_runs.DIVERGES)["values"] == before["values"]


def diverging(count):
    """Some of the 24 subsets that a page draws of `page_runs.make`, each with more examples that let it diverge."""
    return lambda *arguments, **options: with_diverging(count, *arguments, **options)


def with_diverging(count, *arguments, draw=choose_subsets, **options):
    subsets = draw(*arguments, **options)
    subsets.rows[3 : 3 + count, page_runs.DIVERGES] = 1.0
    return subsets


def test_a_calibration_leaves_out_subsets_whose_training_diverges_and_says_so(view, monkeypatch):
    monkeypatch.setattr("circuitsketch.page.view.choose_subsets", diverging(2))
    view.calibrate(24, largest=6)
    monkeypatch.undo()
    rows = with_diverging(2, view.bases["loss"], None, None, (2, 6), 24, 0, False).rows
    kept = np.delete(rows, [3, 4], axis=0)
    trust = view.describe_trust()
    assert "22 random subsets" in trust["sentence"] and trust["rows"][0]["subsets"] == 22
    assert "Warning: 2 subsets are left out, because training without them diverged" in trust["sentence"]
    assert view.retrained.diverged == tuple(tuple(np.flatnonzero(row).tolist()) for row in rows[3:5])
    # The others are what they would be alone.
    truths = [truth(np.flatnonzero(row).tolist(), page_runs.loss)[0] for row in kept]
    shown = view.calibration()["values"][0]["points"]
    assert [point["truth"] for point in shown] == pytest.approx(truths, rel=1e-9)
    view.check([4, 9, 17])
    assert "2 subsets are left out" in view.describe_trust()["sentence"]
    assert "2 subsets are left out" in sum_view(view).describe_trust()["sentence"]  # of a page in a file


def test_a_page_starts_uncalibrated_where_every_training_diverges(view, monkeypatch):
    subsets = RetrainedSubsets(np.ones((9, page_runs.N)), np.zeros((9, 0)), "random", (2.0, 4.0))
    monkeypatch.setattr("circuitsketch.page.view.choose_subsets", lambda *_, **options: subsets)
    before = view.ask([4, 9])["values"]
    view.calibrate(9)
    sentence = view.describe_trust()["sentence"]
    assert "Not calibrated" in sentence and "9 subsets are left out" in sentence
    assert view.ask([4, 9])["values"] == before


def test_a_measurement_that_is_not_finite_after_a_check_is_a_divergence():
    query = cs.sketch(page_runs.make(), 24, order=2, per_example="series").measure(page_runs.loss)

    def overflows(w):
        return page_runs.loss(w) if page_runs.loss(w) <= query.baseline else np.inf

    raises_loss = int(np.argmax(query.influence().change))
    view = View({"loss": query.with_source(Source(overflows, (), page_runs.make()))})
    with raises(cs.DivergenceError, "not finite"):
        view.check([raises_loss])
    rows = np.eye(page_runs.N)
    finite, values = retrain_finite(view.bases, view.run(), rows)
    right = np.array([truth([i], page_runs.loss)[0] for i in range(page_runs.N)])
    assert finite.tolist() == (right <= query.baseline).tolist() and values[:, 0] == pytest.approx(right[finite])


def test_pairs_are_what_two_do_together_beyond_their_sum():
    # f = (k_1 + k_2 + k_3)^2 / 2 with k = keep: without both, the change is 1 more than the sum of the changes alone.
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0, 1.0, 1.0], [[0], [1], [2]])
    query = cs.attribute(run, lambda s: s * s / 2, budget=200)
    assert isinstance(query.estimators["pairs"], FromKnownEffects)
    answer = View({"square": query}).ask([0, 1, 2])
    pairs = answer["values"][0]["pairs"]
    assert sorted(tuple(pair["ids"]) for pair in pairs) == [(0, 1), (0, 2), (1, 2)]
    assert [pair["effect"] for pair in pairs] == pytest.approx([1.0] * 3, rel=1e-9)
    assert {pair["kind"] for pair in pairs} == {"complementary"}  # changes alone are negative


def test_pairs_of_a_sketch_are_those_of_retraining(view, queries):
    ids = [4, 9, 17, 22]
    for pair in view.ask(ids)["values"][0]["pairs"]:
        both = truth(pair["ids"], page_runs.loss) - queries["loss"].baseline
        single = [truth([i], page_runs.loss) - queries["loss"].baseline for i in pair["ids"]]
        assert abs(pair["effect"] - float(both[0] - sum(single)[0])) < 4 * pair["stderr"]


def test_without_interactions_the_page_says_that_pairs_are_unknown():
    view = View({"loss": cs.sketch(page_runs.make(), 24, order=2).measure(page_runs.loss)})
    answer = view.ask([4, 9])
    assert answer["values"][0]["pairs"] == [] and "Nothing is known of pairs" in answer["pair_note"]


@pytest.mark.parametrize("ids", [[-1], [page_runs.N], [1.5], ["1"], [True], "all", None, {"a": 1}])
def test_ids_that_do_not_exist_are_refused(view, ids):
    with raises(cs.InputError, "ids"):
        view.ask(ids)


def test_measurements_of_other_examples_are_refused(queries):
    other = cs.sketch(page_runs.make(24), 4, order=1).measure(page_runs.loss)
    with raises(cs.InputError, "same examples"):
        View({"loss": queries["loss"], "other": other})
    with raises(cs.InputError, "at most 64"):
        View({"many": cs.sketch(page_runs.make(), 4, order=1).measure(lambda w: w[0] * np.ones(65))})


def test_groups_are_deleted_where_a_sketch_has_groups():
    run = page_runs.make()
    groups = [f"user {i % 5}" for i in range(page_runs.N)]
    query = cs.sketch(run, 8, order=2, per_example="series", groups=groups).measure(page_runs.loss)
    view = View({"loss": query})
    page = view.describe()
    assert page["unit"] == "group" and page["labels"] == [f"user {i}" for i in range(5)] and page["items"] is None
    answer = view.check([1])
    assert answer["values"][0]["value"] == query.without("user 1").value
    expected = truth([i for i in range(page_runs.N) if i % 5 == 1], page_runs.loss)
    assert answer["truth"]["values"][0][-1] == pytest.approx(expected[0], rel=1e-9)


def test_a_calibration_that_the_sketch_has_kept_is_taken_in(tmp_path):
    sketch = cs.sketch(page_runs.make(), 8, order=2, per_example="series", path=tmp_path / "a.sketch")
    query = sketch.measure(page_runs.loss)
    assert not View({"loss": query}).take_in_kept()
    calibrated = query.calibrate(size=(2, 6), count=20)
    calibrated.keep_calibration()
    view = View({"loss": cs.open_sketch(tmp_path / "a.sketch").measure(page_runs.loss)})
    assert not view.take_in_kept(21) and view.take_in_kept(20)
    value = view.ask([4, 9])["values"][0]
    assert (value["low"], value["high"]) == calibrated.without([4, 9]).interval()
    assert "20 random subsets of 2 to 6 examples that the sketch has kept" in view.describe_trust()["sentence"]
    sketch = cs.open_sketch(tmp_path / "a.sketch")
    both = View({"margin": sketch.measure(page_runs.margins), "loss": sketch.measure(page_runs.loss)})
    assert not both.take_in_kept(20)  # of one of the two
    sentence = both.describe_trust()["sentence"]
    assert "Intervals of loss are calibrated on 20 random" in sentence and "Those of margin rest on" in sentence
    assert both.ask([4, 9])["values"][2]["low"] == value["low"]


def test_training_again_without_the_run_says_what_to_give(tmp_path):
    cs.sketch(page_runs.make(), 8, order=2, path=tmp_path / "a.sketch")
    view = View({"loss": cs.open_sketch(tmp_path / "a.sketch").measure(page_runs.loss)})
    assert not view.can_retrain
    with raises(cs.InputError, "--run"):
        view.check([1, 2])
    again = View(view.bases, load_run=page_runs.make)
    assert again.can_retrain and again.check([4, 5])["truth"] is not None


def test_several_people_ask_at_once(view):
    view.calibrate(20, largest=6)
    single = {k: view.ask([k, k + 3])["values"] for k in range(4, 20)}
    answers = {}
    people = [threading.Thread(target=lambda k=k: answers.update({k: view.ask([k, k + 3])["values"]})) for k in single]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert answers == single


@pytest.mark.parametrize(("n", "limit"), [(1_000, 4_000), (20_000, 1_500)])
def test_an_answer_takes_no_more_than_some_passes_over_the_examples(n, limit, monkeypatch):
    if n == 20_000:  # of which memory does not hold a similarity
        monkeypatch.setattr(fitting, "find_shortage", lambda nbytes: "29 GB of memory")
    rng = np.random.default_rng(0)
    series = rng.normal(size=(n, 4)) * 10.0 ** -np.arange(4)
    series[:, 0] = 1.0
    directions = rng.normal(size=(64, 4)) + 1j * rng.normal(size=(64, 4))
    directions[:, 0] = 1.0
    labels = [f"user {i // 2}" for i in range(n)]
    query = cs.Query(directions, Orthonormal(n), per_example=series, similarity=rng.normal(size=(n, 20)), labels=labels)
    rows = rng.random((48, n)) < 0.02
    view = View({"value": query.calibrate(rows, truth=1 + rng.normal(size=48))})
    assert query.interactions.prior.is_diagonal == (n == 20_000)
    answers, passes = [], []
    for _ in range(8):  # in turns, so that a slow or busy machine slows both down
        begin = time.thread_time()
        view.ask(rng.choice(n, 30, replace=False))
        answers.append(time.thread_time() - begin)
        begin = time.thread_time()
        for _ in range(100):
            np.exp(series).sum(axis=0)
        passes.append((time.thread_time() - begin) / 100)
    assert min(answers) < limit * min(passes)


def test_without_a_similarity_the_page_says_which_estimator_answers_and_why(queries, monkeypatch):
    monkeypatch.setattr(fitting, "find_shortage", lambda nbytes: "29 GB of memory, but only 20 GB are available")
    query = cs.sketch(page_runs.make(), 24, order=3, per_example="series").measure(page_runs.loss)
    view = View({"loss": query})
    answer = view.ask([4, 9, 17])
    assert query.interactions.prior.is_diagonal and "interactions from 24 directions" in answer["words"]
    assert any("29 GB" in text and "examples are alike" in text for text in answer["warnings"])
    assert answer["values"][0]["low"] < answer["values"][0]["value"] < answer["values"][0]["high"]
    assert len(answer["values"][0]["pairs"]) == 3
    view.calibrate(24, largest=6)
    assert not any("29 GB" in text for text in view.ask([4, 9, 17])["warnings"])  # the interval holds now


def test_pictures_are_png_and_keep_their_pixels():
    pixels = np.arange(48.0).reshape(6, 8)
    data = base64.b64decode(encode_image(pixels).split(",")[1])
    assert imread(io.BytesIO(data), format="png") == pytest.approx(np.round(pixels / 47 * 255) / 255, abs=1e-6)
    colour = np.zeros((4, 5, 3))
    colour[1, 2] = (1, 0.5, 0)
    data = base64.b64decode(encode_image(colour).split(",")[1])
    assert imread(io.BytesIO(data), format="png")[1, 2] == pytest.approx([1, 128 / 255, 0], abs=1e-6)


PYTHON = re.compile(r"query\.|cs\.|\|h\||\bh\b|\w=|\(\)")


def test_warnings_have_no_calls_of_python(view, queries):
    sentences = [text for ids in ([4, 5], range(4, 36)) for text in view.ask(ids)["warnings"]]
    view.calibrate(10, largest=4)
    sentences += [text for ids in ([5, 9, 13], range(5, 25, 4), range(4, 36)) for text in view.ask(ids)["warnings"]]
    assert len(set(sentences)) > 6 and [text for text in sentences if PYTHON.search(text)] == []
    plain = [text for name in queries for text in queries[name].without(range(4, 36)).warnings]
    assert any(PYTHON.search(text) for text in plain)


def test_warnings_of_estimators_are_put_in_plain_words():
    terms = np.array([0.689, 0.937, 1.54])
    reach = " (|h| = 6.56, and the radius is 6.05)"
    outside = sentence_outside(terms, np.array(True), reach)
    assert plain_words(outside) == (
        "this removal is too large for the series, which can be trusted up to about 37 deletions, and this is as much "
        "as 43; train again to check, or ask about less"
    )
    for text in (
        outside,
        sentence_outside(np.stack([terms, terms], axis=1), np.array([True, False]), reach),
        sentence_outside(terms, np.array(True)),
        *sentences_of_beyond(np.array(0.35), 0.1),
        *sentences_of_beyond(np.array([0.01, np.inf]), 0.1),
        *warnings_of_lack("29 GB of memory", np.ones((1, 3))),
        *warnings_of_error(np.array(np.inf)),
        *notes_of_error(np.array(0.1), np.array(1.0), np.array(0.2)),
        UNCALIBRATED,
        f"the run has kinks (relu): open the sketch with cs.open_sketch(path, run), or {CALIBRATE}",
        f"the optimiser's step hardly shrinks; query.retrain_worst(16) corrects single examples, and {CALIBRATE}",
        "4 of 9 influences are smaller than their error: query.retrain_worst(16) retrains the worst of them",
    ):
        assert not PYTHON.search(plain_words(text)), plain_words(text)
    beyond = "is not known to hold for them; query.calibrate() with subsets like this one"
    assert plain_words(beyond) == "is not known to hold for them; train again to check"
    assert "35% of the change" in plain_words(sentences_of_beyond(np.array(0.35), 0.1)[0])
    assert plain_words("query.retrain_worst(16) corrects") == "retraining the worst examples corrects"
