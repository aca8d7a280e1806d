"""Which leaves of the state a sketch keeps: what measurements can read, or what the user asks for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_runs import raises

import circuitsketch as cs
from circuitsketch.training.kept_leaves import choose_leaves, leaves_of_params

N = 9
X = np.random.default_rng(3).normal(size=(N, 4))


def make(params=None, step_of=None):
    """A run whose optimiser has moments, a leaf that no weight changes, and one that is read by nothing."""

    def step(state, x, keep):
        slopes = cs.grad(lambda p: (keep * np.tanh(x @ p["w"] + p["b"]) ** 2).mean())(state["params"])
        velocity = {k: 0.9 * state["velocity"][k] + slopes[k] for k in slopes}
        new = {k: state["params"][k] - 0.3 * velocity[k] for k in slopes}
        return {"params": new, "velocity": velocity, "t": state["t"] + 1.0}

    first = {"w": np.full(4, 0.4), "b": np.full((), 0.1)}
    state = {"params": first, "velocity": {"w": np.zeros(4), "b": np.zeros(())}, "t": np.zeros(())}
    batches = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 4, 8]]
    return cs.Training(step, state, [X[ids] for ids in batches], batches, params=params)


def measure(p):
    return np.exp(p["w"]).sum() + p["b"]


def names(run, chosen):
    return [run.state_names[i] for i in sorted(chosen)]


def test_by_default_the_leaves_that_params_reads_are_kept():
    assert names(make(), leaves_of_params(make())) == ["state.params.w", "state.params.b"]
    run = make(lambda state: {"w": state["params"]["w"] + 0.1 * state["velocity"]["w"]})
    assert names(run, leaves_of_params(run)) == ["state.params.w", "state.velocity.w"]


def test_all_is_kept_where_params_reads_nothing_that_varies_or_cannot_be_traced():
    for params in (lambda state: state["t"], lambda state: state["weights"], lambda state: float(state["params"]["b"])):
        assert len(leaves_of_params(make(params))) == 5


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
@pytest.mark.parametrize("per_example", [None, "series", "retrained"])
def test_a_sketch_of_the_parameters_answers_as_one_of_the_whole_state(per_example, dtype, tmp_path):
    run = make()
    options = {"directions": 5, "order": 2, "per_example": per_example, "dtype": dtype}
    full = cs.sketch(run, **options, keep="state")
    small, stored = cs.sketch(run, **options), cs.sketch(run, **options, path=tmp_path / "a")
    for sketch in (small, stored, cs.open_sketch(tmp_path / "a", run), cs.open_sketch(tmp_path / "a")):
        for name, part in sketch.parts.items():
            assert part.lanes[0].shape[0] == 5 and full.parts[name].lanes[0].shape[0] == 10
            np.testing.assert_array_equal(part.lanes[0], full.parts[name].lanes[0][:5])
        mine, theirs = sketch.measure(measure), full.measure(measure)
        for estimator in ["theorem"] + ["per-example"] * (per_example is not None):
            right = theirs.without([1, 4], estimator=estimator)
            np.testing.assert_array_equal(mine.without([1, 4], estimator=estimator).value, right.value)


def test_the_state_has_none_for_what_is_not_kept():
    run = make()
    small, full = cs.sketch(run, 3, 2).state, cs.sketch(run, 3, 2, keep="state").state
    assert small["velocity"] == {"w": None, "b": None}
    for key in ("w", "b"):
        np.testing.assert_array_equal(small["params"][key], full["params"][key])
    np.testing.assert_array_equal(small["t"], full["t"])
    assert cs.push(run, np.eye(N)[:2], 1).state["velocity"]["w"] is None
    assert cs.push(run, np.eye(N)[:2], 1, keep=["state.velocity"]).state["velocity"]["w"].shape == (2, 2, 4)


def test_a_measurement_of_what_is_not_kept_is_refused_with_its_path_and_the_remedy(tmp_path):
    run = make()
    bias_only = cs.sketch(run, 2, 1, keep=["state.params.b"], path=tmp_path / "a")
    assert bias_only.measure(lambda p: p["b"]).without([0]).value != 0
    for sketch in (bias_only, cs.open_sketch(tmp_path / "a"), cs.open_sketch(tmp_path / "a", run)):
        with raises(cs.InputError, r"reads state\.params\.w, which the sketch does not store.*keep='state'"):
            sketch.measure(measure)
    custom = make(lambda state: state["velocity"])  # the parameters of which are not state["params"]
    cs.sketch(custom, 2, 1, path=tmp_path / "b")
    with raises(cs.InputError, r"reads state\.params\.w, state\.params\.b, which"):
        cs.open_sketch(tmp_path / "b").measure(measure)


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (["state.parms"], r"'state\.parms', which is not in the state.*state\.velocity\.b"),
        ("velocity", "'velocity', which is not in the state"),
        (["state.param"], "not in the state"),
        (["state.t"], "weights do not change these leaves; they change state.params.w"),
        (3, "keep is 3; pass"),
        ([3], "keep is .3.; pass"),
        ([], "the examples' weights do not change"),
    ],
)
def test_what_cannot_be_kept_is_refused(keep, words):
    for act in (lambda run: cs.sketch(run, 2, 1, keep=keep), lambda run: cs.plan(run=run, keep=keep)):
        with raises(cs.InputError, words):
            act(make())


def test_paths_are_leaves_or_parts_of_the_state():
    run = make()
    assert names(run, choose_leaves(run, ["state.velocity", "state.params.b"])) == [
        "state.params.b",
        "state.velocity.w",
        "state.velocity.b",
    ]
    assert choose_leaves(run, "params") == leaves_of_params(run)
    assert len(choose_leaves(run, "state")) == 5


def test_a_store_goes_on_with_what_it_keeps_and_refuses_anything_else(tmp_path):
    run = make()
    cs.sketch(run, 3, 2, path=tmp_path / "all", keep="state")
    assert cs.sketch(run, 3, 2, path=tmp_path / "all", per_example="series").per_example.lanes[0].shape[0] == 10
    assert cs.sketch(run, 3, 2, path=tmp_path / "all").extend(20).random.lanes[0].shape[0] == 10
    cs.sketch(run, 3, 2, path=tmp_path / "b", keep=["state.params.w"])
    assert cs.open_sketch(tmp_path / "b", run).extend(20).random.lanes[0].shape[0] == 4
    with raises(cs.StoreError, r"different leaves of the state \(the sketch keeps state\.params\.w\)"):
        cs.sketch(run, 3, 2, path=tmp_path / "b", keep="params")
    assert cs.sketch(run, 3, 2, keep=["state.params.w"]).extend(20).random.lanes[0].shape[0] == 4


def test_only_a_store_that_drops_something_needs_a_newer_reader(tmp_path):
    run = make()
    for keep, version in (("state", 1), ("params", 2)):
        cs.sketch(run, 3, 2, path=tmp_path / keep, keep=keep)
        sketch, part = (json.loads((tmp_path / keep / at / "zarr.json").read_text()) for at in (".", "random"))
        assert sketch["attributes"]["whole"] == part["attributes"]["version"] == version
        assert ("keep" in sketch["attributes"]) == (keep == "params")


def test_plans_and_descriptions_count_what_is_kept():
    run = make()
    small, full = (cs.plan(run=run, directions=8, order=2, keep=keep) for keep in (None, "state"))
    assert 2 * small.nbytes == full.nbytes
    text = cs.sketch(run, 2, 1).info()
    assert "3 of them kept: state.params.w, state.params.b, state.t" in text
    assert "of them kept" not in cs.sketch(run, 2, 1, keep="state").info()
