"""The data of figures is what it says, by retraining and by finite sums; pictures are written with it, and resume."""

from __future__ import annotations

import html
import json
import math
import sys

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.errors import InputError
from circuitsketch.report import cost, figures, plots
from circuitsketch.report.agreement import Agreement, Influences, compare_with_retraining, draw_name_subsets, rank_names
from circuitsketch.report.cost import Cost, Shape, measure_cost
from circuitsketch.report.decay import Decay, bound_terms, measure_decay
from circuitsketch.report.removal import Curve, Removal, expand_along_deletion, predict_along_deletion, predict_by_order
from circuitsketch.report.step_test import step_along_metagradient
from circuitsketch.zoo import microgpt

TINY = figures.Scale(
    names=24,
    letters="ar",
    measured="mary",
    directions=24,
    order=2,
    few=4,
    highest=5,
    cut=4,
    subsets=8,
    shapes=(Shape(4), Shape(8)),
)

TINY_SUBSETS = draw_name_subsets(TINY.docs, TINY.subsets, TINY.seed)


@pytest.fixture(scope="module")
def run():
    return TINY.run()


@pytest.fixture(scope="module")
def query(run):
    return cs.sketch(run, 24, order=2, per_example="series").measure(microgpt.loss, "mary")


def truth(run, ids, strength=1.0):
    """Retraining with one set of weights at a time: no lanes, unlike the figures."""
    w = np.zeros(run.n)
    w[list(ids)] = strength
    return float(microgpt.loss(run.params(run.retrain(w)), "mary"))


def test_orders_along_a_deletion_close_in_on_the_retrained_points(run):
    found = expand_along_deletion(run, TINY.question, 4)
    assert [curve.label for curve in found.curves] == [f"order {k}" for k in (1, 2, 3, 4)]
    assert found.retrained[[0, 5, 10]] == pytest.approx(
        [truth(run, TINY.question.ids, t) for t in (0, 0.5, 1)], rel=1e-9
    )
    # At half the strength every order more is nearer by far than the first; all begin at the loss as trained.
    off = [abs(curve.value[50] - found.retrained[5]) for curve in found.curves]
    assert off[3] < off[0] / 4
    assert all(curve.value[0] == pytest.approx(found.retrained[0], rel=1e-12) for curve in found.curves)


def test_orders_of_a_step_along_the_metagradient_close_in_on_the_retrained_points(run):
    found = step_along_metagradient(run, "mary")
    assert np.abs(found.direction).max() == 1
    base = truth(run, [])
    retrained = [float(microgpt.loss(run.params(run.retrain(s * found.direction)), "mary")) for s in (-2.0, 0.25)]
    assert found.retrained[[0, 9]] == pytest.approx(retrained, rel=1e-9) and found.checked[9] == 0.25
    assert found.baseline == pytest.approx(base, rel=1e-12)
    # The slope at 0 is that of retraining: central differences, off by 1e-8 times a third derivative.
    step = 1e-4 * found.direction
    ends = [float(microgpt.loss(run.params(run.retrain(sign * step)), "mary")) for sign in (1, -1)]
    first = found.curves[0].value
    assert (first[-1] - first[0]) / 4 == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5)
    off = [abs(np.interp(0.25, found.steps, curve.value) - found.retrained[9]) for curve in found.curves]
    assert off[2] < off[1] < off[0]


def test_bands_are_one_standard_error_of_the_mean_over_directions(run):
    sketched = cs.sketch(run, 40, order=2, distribution="sphere").measure(microgpt.loss, "mary")
    found = predict_by_order(run, sketched, TINY.question, (1, 2))
    # By hand, from the directions: the mean of Re C(n+r-1, r) <psi, h>^r c_r / n^r and its standard error.
    h = np.zeros(run.n)
    h[list(TINY.question.ids)] = 1
    inner = sketched.directions.conj() @ h
    samples = sum(
        (math.comb(run.n + r - 1, r) / run.n**r * inner**r * sketched.coefficients[:, r]).real for r in (1, 2)
    )
    last = found.curves[1]
    assert last.value[-1] == pytest.approx(sketched.baseline + samples.mean(), rel=1e-9)
    assert (last.high - last.low)[-1] / 2 == pytest.approx(samples.std(ddof=1) / math.sqrt(40), rel=1e-6)


def test_the_answer_along_the_strength_has_an_interval_around_it(run, query):
    (curve,) = predict_along_deletion(run, query, TINY.question).curves
    assert curve.value[0] == pytest.approx(query.baseline)
    assert np.all((curve.low <= curve.value) & (curve.value <= curve.high))
    assert curve.low[-1] < curve.high[-1]


def test_the_decay_of_a_direction_is_that_of_its_coefficients(run):
    sketch = cs.sketch(run, 3, order=4, distribution="sphere")
    found = measure_decay(sketch, ["mary", "john", "mary"])
    unit = sketch.directions[1] / math.sqrt(run.n)
    assert np.linalg.norm(unit) == pytest.approx(1)
    alone = cs.push(run, [unit], order=4).measure(microgpt.loss, "john").coefficients[0, 1:]
    expected = [math.log2(math.sqrt(math.comb(run.n + r - 1, r)) * abs(alone[r - 1])) for r in (1, 2, 3, 4)]
    assert found.each[1] == pytest.approx(expected, abs=1e-6)
    assert found.together == pytest.approx(np.log2(np.sqrt((4.0**found.each).mean(axis=0))))


def test_terms_of_a_deletion_grow_with_the_root_of_its_size(query):
    found = bound_terms(query, "loss", (1, 4))
    assert found.terms[0] == pytest.approx(found.norms)
    assert found.terms[1] == pytest.approx(found.norms * [2, 4])


def test_the_most_helpful_name_is_the_one_whose_absence_costs_most(run, query):
    found = rank_names(query, TINY.docs, "loss", shown=3)
    base = truth(run, [])
    changes = np.array([truth(run, [i]) - base for i in range(run.n)])
    assert found.helpful[0] == TINY.docs[int(changes.argmax())]
    assert found.harmful[0] == TINY.docs[int(changes.argmin())]
    # The change is the sum of two orders: by central differences of retraining, off by 1e-6 times higher coefficients.
    i, step = int(changes.argmax()), 1e-3
    below, above = truth(run, [i], -step), truth(run, [i], step)
    two_orders = (above - below) / (2 * step) + (above - 2 * base + below) / (2 * step**2)
    assert found.helpful_change[0] == pytest.approx(two_orders, rel=1e-4)
    assert np.all(found.helpful_change > 0) and np.all(found.harmful_change < 0)


def test_subsets_are_of_both_kinds_and_their_truths_are_retrained(run, query):
    subsets = draw_name_subsets(TINY.docs, 8, seed=0)
    assert subsets == draw_name_subsets(TINY.docs, 8, seed=0)
    found = compare_with_retraining(run, query, "mary", subsets)
    assert found.retrained[[0, -1]] == pytest.approx([truth(run, subsets[k][1]) for k in (0, -1)], rel=1e-9)
    assert found.sizes.tolist() == [len(ids) for _, ids in subsets]
    assert found.correlation > 0.9
    names = [f"{a}{b}x" for a in "abc" for b in "abc"] + ["zzq"] * 100
    for kind, ids in draw_name_subsets(names, 20, seed=1):
        if kind == "sharing two letters":
            shared = set.intersection(*({names[i][k : k + 2] for k in (0, 1)} for i in ids))
            assert shared and len(ids) > 1


def test_cost_is_measured_against_the_exact_number_of_gates():
    found = measure_cost((Shape(2), Shape(4)), 4, 1)
    assert found.sizes.tolist() == [
        microgpt.training(microgpt.names()[:k], alphabet=microgpt.ALPHABET).size for k in (2, 4)
    ]
    assert np.all(found.train > 0) and np.all(found.direction > 0) and math.isfinite(found.slope)


@pytest.mark.parametrize("paper", [False, True])
def test_pictures_are_written_with_their_data_and_no_sketch_is_left(tmp_path, paper):
    told = []
    paths = figures.draw(tmp_path / "new", paper=paper, scale=TINY, progress=lambda *what: told.append(what))
    names = (
        ["figure2", "figure3", "figure1"]
        if paper
        else ["strength", "steps", "influence", "stability", "agreement", "cost"]
    )
    assert [path.name for path in paths] == [f"{name}.png" for name in names]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        record = json.loads(path.with_suffix(".json").read_text())
        assert record["figure"] == path.stem and record["scale"]["names"] == 24 and record["data"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(
        f"{n}.{e}" for n in names for e in ("png", "json")
    )
    assert all(0 <= done <= total for _, done, total in told)
    # Whatever takes long says how far it is, from its beginning to its end.
    ends = {stage: (done, total) for stage, done, total in told}
    counted = (
        {"figure2": 1, "checks": 11}
        if paper
        else {"strength": 11, "steps": 17, "agreement": len(TINY_SUBSETS), "cost": 2}
    )
    assert {stage: total for stage, (_, total) in ends.items()}.items() >= counted.items()
    assert all(done == total for done, total in ends.values())
    assert {stage for stage, done, _ in told if done == 0} >= counted.keys() - {"figure2"}
    assert ends.keys() - counted.keys() == ({"figure3", "figure1"} if paper else {"sketch", "stability"})


@pytest.mark.parametrize(
    ("paper", "stage", "drawn", "undrawn", "sketched"),
    [
        (True, "figure1", {"figure2", "figure3"}, {"figure1"}, {"figure3"}),
        (
            False,
            "agreement",
            {"strength", "steps", "influence", "stability"},
            {"agreement", "cost"},
            {"per-example", "stability"},
        ),
    ],
)
def test_an_interrupted_drawing_goes_on_where_it_stopped(tmp_path, paper, stage, drawn, undrawn, sketched):
    def stop(now, done, total):
        if now == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        figures.draw(tmp_path, paper=paper, scale=TINY, progress=stop)
    assert {path.stem for path in tmp_path.glob("*.png")} == {path.stem for path in tmp_path.glob("*.json")} == drawn
    assert {path.stem for path in (tmp_path / "sketches").glob("*.sketch")} >= sketched
    again = []
    figures.draw(tmp_path, paper=paper, scale=TINY, progress=lambda stage, done, total: again.append(stage))
    assert not {"figure3", "sketch", "stability"} & set(again)  # what was sketched is not again
    assert {path.stem for path in tmp_path.glob("*.png")} == drawn | undrawn


def test_figures_that_cannot_be_drawn_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write figures into"):
        figures.draw(tmp_path / "file" / "folder", scale=TINY)
    with pytest.raises(InputError, match="none of the first 24 names has 'qq'"):
        figures.dataclasses.replace(TINY, letters="qq").question  # noqa: B018
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "circuitsketch.report.plots", raising=False)
    with pytest.raises(InputError, match=r"pip install 'circuitsketch\[figures\]'"):
        figures.draw(tmp_path, scale=TINY)


def test_a_notebook_shows_influences_and_stability_as_they_print_and_completion_shows_public_names(query):
    for found in (query.influence(), query.stability()):
        assert html.unescape(found._repr_html_()) == f"<pre>{found}</pre>"
    assert [name for name in dir(cs) if not name.startswith("__")] == sorted(cs.__all__)


def test_the_slope_of_cost_is_that_of_seconds_against_size(monkeypatch):
    sizes = [microgpt.training(microgpt.names()[:k], alphabet=microgpt.ALPHABET).size for k in (2, 4)]
    spent = iter([1.0, 3.0 * sizes[0] ** 2, 1.0, 3.0 * sizes[1] ** 2])  # plain and a direction, of either shape
    monkeypatch.setattr(cost, "time_fastest", lambda work: next(spent))
    assert measure_cost((Shape(2), Shape(4)), 4, 1).slope == pytest.approx(2)


def test_the_least_of_some_times_is_taken_after_a_first_one(monkeypatch):
    clock = iter([0.0, 5.0, 5.0, 7.0, 7.0, 11.0])
    monkeypatch.setattr(cost.time, "process_time", lambda: next(clock))
    done = []
    assert cost.time_fastest(lambda: done.append(1)) == 2.0 and len(done) == 1 + cost.REPEATS


def test_what_is_outside_the_region_of_trust_is_marked(run):
    query = cs.sketch(run, 24, order=2, distribution="sphere").measure(microgpt.loss, "mary")
    subsets = [("at random", [0]), ("at random", list(range(20)))]
    found = compare_with_retraining(run, query, "mary", subsets)
    h = np.zeros((2, run.n))
    h[0, 0] = h[1, :20] = 1
    assert found.outside.tolist() == query.predict(h).outside.tolist() == [False, True]


def test_values_that_are_not_finite_are_null_in_figure_data():
    record = json.loads(
        figures.format_json("x", TINY, Decay(3, ("a",), np.array([1]), np.array([[-np.inf]]), np.ones(1)))
    )
    assert record["data"]["each"] == [[None]] and record["data"]["together"] == [1.0]


def test_figures_compute_shared_data_once():
    times = []
    shared = figures.Shared(lambda: times.append(1) or "found")
    assert (shared(), shared(), times) == ("found", "found", [1])


def points(line):
    """What a line was drawn from."""
    return np.array([line.get_xdata(), line.get_ydata()])


def test_a_picture_of_agreement_has_truths_across_and_predictions_up():
    truth, value = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])
    kinds = ("at random", "at random", "sharing two letters")
    found = Agreement("loss", "nats", kinds, np.ones(3), 2.5, value, value - 1, value + 0.5, truth, np.zeros(3, bool))
    assert found.covered == 2 and found.correlation == pytest.approx(np.corrcoef(truth, value)[0, 1])
    (ax,) = plots.plot_agreement(found).axes
    assert "after retraining" in ax.get_xlabel() and ax.get_ylabel().startswith("predicted")
    drawn = [points(line) for line in ax.lines]
    assert any(np.array_equal(line, [truth[:2], value[:2]]) for line in drawn)
    assert any(np.array_equal(line, [truth[2:], value[2:]]) for line in drawn)
    assert drawn[0][0] == pytest.approx(drawn[0][1])  # the diagonal


def test_a_picture_of_influences_tells_helpful_from_harmful():
    found = Influences(
        "loss",
        "nats",
        9,
        ("ann",),
        np.array([0.5]),
        np.array([0.1]),
        ("bob",),
        np.array([-0.2]),
        np.array([0.1]),
    )
    left, right = plots.plot_influences(found).axes
    for ax, title, word, name, width in (
        (left, "most helpful", "higher", "ann", 0.5),
        (right, "most harmful", "lower", "bob", 0.2),
    ):
        assert ax.get_title(loc="left").startswith(title) and ax.get_xlabel().startswith(word)
        assert [label.get_text() for label in ax.get_yticklabels()] == [name]
        assert ax.patches[0].get_width() == width


def test_a_picture_of_cost_has_each_curve_under_its_name():
    found = Cost(3, 16, (Shape(1), Shape(2)), np.array([10, 20]), np.array([0.1, 0.2]), np.array([1.0, 2.0]), 1.0)
    (ax,) = plots.plot_cost(found).axes
    drawn = {line.get_label(): points(line)[1].tolist() for line in ax.lines}
    assert drawn["one direction at order 3"] == [1.0, 2.0] and drawn["plain training"] == [0.1, 0.2]


def test_a_picture_of_a_removal_has_both_edges_of_its_band_and_the_truths():
    ends = np.array([0.0, 1.0])
    curve = Curve("order 1", ends, ends - 0.5, ends + 0.25)
    (ax,) = plots.plot_removal(Removal("loss", "nats", "x", ends, (curve,), "band", ends, ends + 9)).axes
    drawn = [points(line)[1].tolist() for line in ax.lines]
    assert [9.0, 10.0] in drawn and [0.0, 1.0] in drawn and [-0.5, 0.5] in drawn and [0.25, 1.25] in drawn
