"""Influences by one reverse sweep: the derivatives of retraining, with and without a sketch."""

from __future__ import annotations

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.errors import CircuitSketchError, InputError

N = 14
ITEMS = np.random.default_rng(1).normal(size=N)


def training(n=N, **about):
    return cs.Training(
        lambda s, x, keep: 0.9 * s + np.sin(keep.sum() * x + s),
        np.array(0.2),
        ITEMS[:n],
        [[i] for i in range(n)],
        **about,
    )


def measure(s, scale=1.0):
    return scale * np.stack([s, s * s])


def slopes(run, function):
    """Central differences of retraining, off by 1e-10 times a third derivative, and by rounding over 1e-5."""
    step = 1e-5
    ends = [np.array([function(run.retrain(sign * step * row)) for row in np.eye(run.n)]) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def test_influences_are_the_slopes_of_retraining_of_unknown_error():
    run = training(labels=["a", "b"] * 7)
    told = []
    found = cs.influence(run, measure, 2.0, top=3, threads=1, progress=lambda *what: told.append(what))
    assert found.change == pytest.approx(slopes(run, lambda s: measure(s, 2.0)), abs=1e-8)
    assert np.isinf(found.stderr).all() and found.order == 1 and found.estimator == "first-order"
    assert found.baseline == pytest.approx(measure(run.train(), 2.0)) and len(found.top()) == 3
    assert any("not its error" in text for text in found.warnings)
    assert told[-1][0] == told[-1][1] > 0
    assert "label" in str(found) and "influence of 14 examples" in str(found)


def test_influences_of_a_pytree_and_of_groups():
    run = training()
    tree = cs.influence(run, lambda s: {"one": s, "two": np.stack([s * s, -s])})
    assert tree.change["two"].shape == (N, 2)
    assert tree.change["one"] == pytest.approx(slopes(run, lambda s: s), abs=1e-8)
    assert tree.change["two"][:, 1] == pytest.approx(-tree.change["one"])
    grouped = cs.influence(run.grouped(["x", "y"] * 7), lambda s: s)
    assert grouped.change == pytest.approx([tree.change["one"][::2].sum(), tree.change["one"][1::2].sum()])
    assert "influence of 2 groups" in str(grouped) and "unknown" in str(grouped)


def test_a_sketch_without_per_example_series_ranks_by_one_sweep(monkeypatch):
    run = training()
    query = cs.sketch(run, 6, 2).measure(measure)
    sweeps = []
    from circuitsketch.attribution import series

    plain = series.differentiate_source
    monkeypatch.setattr(series, "differentiate_source", lambda *what: sweeps.append(what) or plain(*what))
    found = query.influence()
    assert found.change == pytest.approx(slopes(run, measure), abs=1e-8) and np.isinf(found.stderr).all()
    first = query.without([3, 8], estimator="first-order")
    assert first.change == pytest.approx(found.change[3] + found.change[8], rel=1e-12)
    assert np.isinf(first.stderr).all() and first.warnings
    assert len(sweeps) == 1
    theorem = query.influence(estimator="theorem")
    assert np.isfinite(theorem.stderr).all() and theorem.order == 2


def test_a_calibration_weighs_first_order_too():
    run = training()
    query = cs.sketch(run, 4, 1).measure(lambda s: s)
    calibrated = query.calibrate(size=2, count=24)
    assert {"theorem", "first-order", "calibrated"} == set(calibrated.estimators)
    best = calibrated.worth.relative_error
    assert best < 0.5 and "first-order" in calibrated.worth.estimators
    assert np.isfinite(calibrated.without([1, 2]).interval()).all()


def test_without_the_run_influences_are_the_theorems(tmp_path):
    run = training()
    cs.sketch(run, 6, 2, path=tmp_path / "one")
    query = cs.open_sketch(tmp_path / "one").measure(measure)
    assert query.influence().estimator == "theorem"
    with pytest.raises(InputError, match="first-order"):
        query.without([0], estimator="first-order")
    with_run = cs.open_sketch(tmp_path / "one", run).measure(measure)
    assert with_run.influence().change == pytest.approx(cs.influence(run, measure).change, rel=1e-12)


def test_bad_input_is_refused():
    run = training()
    for call in (
        lambda: cs.influence(run, measure, top=0),
        lambda: cs.influence(run, lambda s: np.ones(2)),
        lambda: cs.influence("run", measure),
        lambda: cs.influence(run, measure, threads=0),
    ):
        with pytest.raises(CircuitSketchError):
            call()
