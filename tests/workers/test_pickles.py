"""Runs, circuits, gates, sketches, queries and errors in another process: pickled, they are the same there.

The oracle is a process of its own, which knows nothing but the pickle.
"""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from sketch_stores import RUN, measure

import circuitsketch as cs
from circuitsketch import errors, extend
from circuitsketch.propagate.blocks import push_blocks
from circuitsketch.reverse.sweep import NotFiniteError
from circuitsketch.store.fingerprint import fingerprint_of
from circuitsketch.store.part_store import PartStore
from circuitsketch.zoo import cnn, logistic, microgpt, mlp

ZOO = {
    "microgpt": lambda: microgpt.training(20),
    "logistic": lambda: logistic.training(epochs=3),
    "mlp": lambda: mlp.training(epochs=1),
    "cnn": lambda: cnn.training(epochs=1),
}
READ = """\
import pickle, sys
sys.path[:0] = sys.argv[3:]
run = pickle.load(open(sys.argv[1], "rb"))
from circuitsketch.directions import Sphere
from circuitsketch.propagate.blocks import push_blocks
from circuitsketch.store.fingerprint import fingerprint_of
_, ends, lanes = push_blocks(run, Sphere(run.n).block, 2, 2, width=2, threads=1)
pickle.dump((fingerprint_of(run), [end.tobytes() for end in ends], lanes.tobytes()), open(sys.argv[2], "wb"))
"""


def read_elsewhere(tmp_path, data, *paths):
    """What a fresh process says of a pickled run: its fingerprint, where it ends, and a block; else its error."""
    (tmp_path / "run").write_bytes(data)
    command = [sys.executable, "-c", READ, str(tmp_path / "run"), str(tmp_path / "answer"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    return pickle.loads((tmp_path / "answer").read_bytes()) if done.returncode == 0 else done.stderr


def read_here(run):
    _, ends, lanes = push_blocks(run, cs.directions.Sphere(run.n).block, 2, 2, width=2, threads=1)
    return fingerprint_of(run), [end.tobytes() for end in ends], lanes.tobytes()


@pytest.mark.parametrize("name", ZOO)
def test_a_pickled_run_has_the_same_fingerprint_and_blocks_in_another_process(name, tmp_path):
    run = ZOO[name]()
    right = read_here(run)
    assert read_elsewhere(tmp_path, pickle.dumps(run)) == right
    assert read_elsewhere(tmp_path, pickle.dumps(run.for_workers())) == right


class Pair(NamedTuple):
    w: np.ndarray
    t: np.ndarray


def pair_step(state, x, keep):
    return Pair(state.w + 0.1 * np.tanh(keep.sum() * x - state.w), state.t + 1.0)


def take_first(state):
    return state.w


def pair_run(params=take_first):
    batches, examples = np.arange(4.0), [[0], [1], [0], [2]]
    return cs.Training(pair_step, Pair(np.zeros(()), np.zeros(())), batches, examples, params=params)


def test_a_worker_needs_no_module_of_the_users(tmp_path):
    run = pair_run()
    assert "No module named 'test_pickles'" in read_elsewhere(tmp_path, pickle.dumps(run))
    assert read_elsewhere(tmp_path, pickle.dumps(run.for_workers())) == read_here(run)
    again = pickle.loads(pickle.dumps(run))
    assert again.train() == run.train() and again.params(again.train()) == run.params(run.train())
    assert again.retrain([0]) == run.retrain([0])


def test_a_lambda_that_would_have_to_be_pickled_is_refused_by_name():
    with pytest.raises(cs.InputError, match="params is <function .*lambda.*, which cannot be pickled.*top level"):
        pickle.dumps(pair_run(lambda state: state.w))
    pickle.dumps(pair_run(lambda state: state.w).for_workers())
    with pytest.raises(cs.InputError, match="the measurement is <function .*lambda.*, which cannot be pickled"):
        pickle.dumps(cs.sketch(pair_run(), 2, 1).measure(lambda w: w * w))


# ---------------------------------------------------------------------------------------- gates

GATE = """\
from circuitsketch import extend
RATE = {rate}
def step(k, ops, u, v):
    v[k] = RATE * ops.convolve(k, u, u)
wave = extend.elementwise(
    "wave", 1, lambda m, x: (RATE * (x * x),), step, lambda ct, out, x: (2.0 * RATE * x * ct,), cost=2
)
"""


@pytest.fixture
def wave_run(tmp_path, monkeypatch):
    (tmp_path / "waves.py").write_text(GATE.format(rate=0.5))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "waves", raising=False)
    import waves

    run = cs.Training(lambda s, x, keep: s + waves.wave(keep.sum() * x), np.zeros(()), [1.0, 2.0], [[0], [1]])
    yield run
    del sys.modules["waves"]


def test_a_gate_is_pickled_as_its_name():
    assert pickle.loads(pickle.dumps(extend.GATES["tanh"])) is extend.GATES["tanh"]
    circuit = cs.trace(lambda x: np.tanh(x) + np.sqrt(x), 2.0)
    again = pickle.loads(pickle.dumps(circuit))
    assert str(again) == str(circuit)
    assert [one.gate for one in again.nodes] == [one.gate for one in circuit.nodes]
    assert [one.place for one in again.nodes] == [one.place for one in circuit.nodes]


def test_a_gate_of_the_users_is_found_by_importing_its_module(wave_run, tmp_path):
    data = pickle.dumps(wave_run.for_workers())
    assert read_elsewhere(tmp_path, data, tmp_path) == read_here(wave_run)


def test_a_gate_that_is_not_the_same_elsewhere_is_refused(wave_run, tmp_path):
    data = pickle.dumps(wave_run.for_workers())
    (tmp_path / "waves.py").write_text(GATE.format(rate=0.25))
    assert "gate 'wave' of module 'waves' has other rules here" in read_elsewhere(tmp_path, data, tmp_path)
    (tmp_path / "waves.py").write_text("")
    assert "there is no gate 'wave' in module 'waves'" in read_elsewhere(tmp_path, data, tmp_path)
    (tmp_path / "waves.py").unlink()
    assert "module 'waves', which cannot be imported here" in read_elsewhere(tmp_path, data)


def test_a_gate_that_was_redefined_is_not_pickled_as_the_new_one(wave_run):
    import waves

    space = {"__name__": "waves"}
    exec(GATE.format(rate=2.0), space)
    assert extend.GATES["wave"] is space["wave"] is not waves.wave
    with pytest.raises(pickle.PicklingError, match="'wave' cannot be pickled: a gate of the same name"):
        pickle.dumps(wave_run)


# ---------------------------------------------------------------------------------------- sketches, queries, errors


def test_a_pickled_sketch_and_query_answer_the_same():
    sketch = cs.sketch(RUN, 8, 2, per_example="series")
    query = sketch.measure(measure)
    calibrated = query.calibrate(count=10, size=2)
    for pickled in (query, calibrated, calibrated.with_gradients(4)):
        for one, other in zip(
            (pickled.without([1, 2]), pickled.influence().top(2)),
            ((again := pickle.loads(pickle.dumps(pickled))).without([1, 2]), again.influence().top(2)),
            strict=True,
        ):
            assert str(one) == str(other)
        assert again.without([1, 2]).interval(0.8) == pickled.without([1, 2]).interval(0.8)
    again = pickle.loads(pickle.dumps(sketch))
    assert again.random.lanes.tobytes() == sketch.random.lanes.tobytes()
    assert again.extend(10).random.lanes.tobytes() == sketch.extend(10).random.lanes.tobytes()


def test_a_sketch_on_disk_is_pickled_as_its_path_and_refused_if_it_became_another(tmp_path):
    run = microgpt.training(20)
    sketch = cs.sketch(run, 8, 2, path=tmp_path / "a.sketch")
    data = pickle.dumps(sketch)
    assert len(data) < sketch.nbytes < 3 * len(pickle.dumps(cs.sketch(run, 8, 2)))
    again = pickle.loads(data)
    assert again.path == sketch.path and np.array_equal(again.random.lanes[0], sketch.random.lanes[0])
    with PartStore.open(tmp_path / "a.sketch" / "random", "a") as store:
        with pytest.raises(cs.InputError, match="open for writing, so it cannot be pickled"):
            pickle.dumps(store)
        store.invalidate(0)
    (tmp_path / "a.sketch").rename(tmp_path / "b.sketch")
    cs.sketch(run, 8, 3, path=tmp_path / "a.sketch")
    with pytest.raises(cs.StoreError, match="a different sketch than when this object was pickled"):
        pickle.loads(data)


def test_errors_are_the_same_after_pickling():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    for kind in kinds:
        again = pickle.loads(pickle.dumps(kind("model.py:3 says no")))
        assert type(again) is kind and str(again) == "model.py:3 says no"
    again = pickle.loads(pickle.dumps(cs.BoundsError("no row 3", (1, 2)).at("model.py:3")))
    assert (str(again), again.reason, again.entry) == ("model.py:3: no row 3", "no row 3", (1, 2))
    again = pickle.loads(pickle.dumps(NotFiniteError(5)))
    assert str(again) == str(NotFiniteError(5)) and again.step == 5
