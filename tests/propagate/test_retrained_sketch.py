"""Sketches that keep a model retrained without each example: against retraining, on disk and in memory."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import raises
from test_retrained import N, network

import circuitsketch as cs

X = np.random.default_rng(8).normal(size=(3, 3))


def measure(p, x=X):
    return np.maximum(x @ p["w"], 0.0) @ p["v"]


def accuracy(p):
    out = measure(p)
    return (out[:, 1] > out[:, 0]).sum() * 1.0


def models_of(run, rows):
    weights = run.retrain(rows)["params"]
    return [{key: leaf[i] for key, leaf in weights.items()} for i in range(len(rows))]


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_a_retrained_sketch_predicts_single_deletions_exactly_or_to_its_rounding(dtype):
    run = network()
    query = cs.sketch(run, 0, 1, per_example="retrained", dtype=dtype).measure(measure)
    tolerance = 1e-9 if dtype == np.complex128 else 1e-3
    for i, model in enumerate(models_of(run, np.eye(N))):
        prediction = query.without([i])
        np.testing.assert_allclose(prediction.value, measure(model), rtol=tolerance, atol=tolerance)
        width = np.ptp(prediction.interval(), axis=0)
        assert (width == 0).all() if dtype == np.complex128 else ((0 < width) & (width < 1e-4)).all()
    assert query.estimator == "per-example" and query.influence().stderr.any() == (dtype == np.complex64)


def test_several_deletions_sum_own_effects_and_say_that_the_error_is_unknown():
    query = cs.sketch(network(), 0, 1, per_example="retrained").measure(measure)
    own = query.influence().change
    together = query.without([1, 5])
    np.testing.assert_allclose(together.change, own[1] + own[5])
    assert np.isinf(together.interval()).all() and "query.calibrate()" in together.warnings[0]


def test_half_a_weight_follows_the_slope_and_the_end_point():
    run = network()
    query = cs.sketch(run, 0, 1, per_example="retrained").measure(measure)
    gradient = cs.metagradient(run, measure)
    half = query.reweight(0.5 * np.eye(N)[2]).change
    own = query.influence().change[2]
    np.testing.assert_allclose(half, 0.5 * gradient[..., 2] + 0.25 * (own - gradient[..., 2]))


def test_a_count_can_be_measured_of_retrained_models():
    run = network()
    query = cs.sketch(run, 0, 1, per_example="retrained").measure(accuracy)
    right = [accuracy(model) for model in models_of(run, np.eye(N))]
    np.testing.assert_array_equal(query.baseline + query.influence().change, right)


def test_a_retrained_sketch_on_disk_resumes_and_answers_without_its_run(tmp_path):
    run = network()

    def stop(done, blocks):
        if done >= 1:
            raise KeyboardInterrupt

    options = {"directions": 3, "order": 2, "per_example": "retrained", "threads": 1}
    with pytest.raises(KeyboardInterrupt):
        cs.sketch(run, **options, path=tmp_path / "a", progress=stop)
    stored = cs.sketch(run, **options, path=tmp_path / "a")
    memory = cs.sketch(run, **options)
    for sketch in (stored, cs.open_sketch(tmp_path / "a", run), cs.open_sketch(tmp_path / "a")):
        query = sketch.measure(measure)
        for name in ("theorem", "per-example"):
            right = memory.measure(measure).without([4], estimator=name).value
            np.testing.assert_array_equal(query.without([4], estimator=name).value, right)
    assert "first-order" not in cs.open_sketch(tmp_path / "a").measure(measure).estimators  # no run, no derivatives
    assert stored.extend(7).count == 7
    np.testing.assert_array_equal(cs.open_sketch(tmp_path / "a").retrained.lanes[0], memory.retrained.lanes[0])


def test_another_run_is_refused_and_damage_is_noticed(tmp_path):
    cs.sketch(network(), 0, 1, per_example="retrained", path=tmp_path / "a")
    with raises(cs.StoreError, "a different run|different data"):
        cs.sketch(network(2), 0, 1, per_example="retrained", path=tmp_path / "a")
    block = (
        next((tmp_path / "a/retrained/lanes").glob("c*/**/*")) if (tmp_path / "a/retrained/lanes/c").is_dir() else None
    )
    block = block or next(path for path in (tmp_path / "a/retrained/lanes").iterdir() if path.name.startswith("c."))
    content = bytearray(block.read_bytes())
    content[0] ^= 1
    block.write_bytes(bytes(content))
    with raises(cs.StoreError, "damage|digest|differ"):
        cs.open_sketch(tmp_path / "a").measure(measure)


def test_groups_are_retrained_as_groups():
    run = network()
    labels = [i % 3 for i in range(N)]
    query = cs.sketch(run, 0, 1, per_example="retrained", groups=labels).measure(measure)
    right = measure(models_of(run, np.array([[float(label == 1) for label in labels]]))[0])
    np.testing.assert_allclose(query.without(label=1).value, right, rtol=1e-9)


def test_what_there_is_is_described_and_a_wrong_kind_is_refused():
    sketch = cs.sketch(network(), 0, 1, per_example="retrained")
    assert "retrained" in sketch.info() and "retrained" in repr(sketch)
    with raises(cs.InputError, "'series'.*'retrained'"):
        cs.sketch(network(), per_example="retrain")
    with raises(cs.InputError, "give per_example='series'"):
        cs.sketch(network(), per_example="retrained", per_example_order=2)
