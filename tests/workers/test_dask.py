"""Workers of a Dask scheduler: the bits of one process, with workers that are killed and a scheduler that restarts."""

from __future__ import annotations

import logging
import warnings

import pytest
from executors import push_and_be_killed
from stores import content

import circuitsketch as cs
from circuitsketch.propagate import blocks
from circuitsketch.store.part_store import PartStore
from circuitsketch.workers import distribution
from circuitsketch.zoo import microgpt

distributed = pytest.importorskip("distributed", reason="needs the extra dask: pip install 'circuitsketch[dask]'")
COUNT, ORDER = 64, 3
RUN = microgpt.training(40)


@pytest.fixture(autouse=True)
def impatient():
    """No test waits long for a scheduler that is gone."""
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        yield


def start(**options):
    """A scheduler with two workers of one thread."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None} | options
    return distributed.LocalCluster(**settings)


def name_of(cluster):
    return cluster.scheduler_address.replace("tcp:", "dask:")


def sketch(path, **options):
    return cs.sketch(RUN, COUNT, ORDER, distribution="sphere", path=path, **options)


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    path = tmp_path_factory.mktemp("right") / "right.sketch"
    sketch(path)
    return content(path)


def test_dask_workers_compute_the_same_sketch_though_one_is_killed_inside_a_block(tmp_path, right, monkeypatch):
    monkeypatch.setenv("KILLED", str(tmp_path / "killed"))
    monkeypatch.setattr(blocks, "push_task", push_and_be_killed)
    with start() as cluster, cs.executor(name_of(cluster)) as executor, warnings.catch_warnings():
        warnings.simplefilter("error")
        sketch(tmp_path / "a.sketch", executor=executor)
        assert (tmp_path / "killed").exists() and content(tmp_path / "a.sketch") == right
        weights = [[i, i + 1] for i in range(20)]
        one, other = (RUN.retrain(weights, executor=workers) for workers in (None, executor))
        assert all(one["params"][name].tobytes() == other["params"][name].tobytes() for name in one["params"])


def test_a_worker_with_several_threads_computes_the_same(tmp_path, right):
    with start(n_workers=1, threads_per_worker=3) as cluster, cs.executor(name_of(cluster)) as executor:
        sketch(tmp_path / "a.sketch", executor=executor)
    assert content(tmp_path / "a.sketch") == right


def test_a_run_that_is_large_for_a_scheduler_goes_around_it(tmp_path, right, monkeypatch):
    monkeypatch.setattr(distribution, "LARGE", 1000)
    with start() as cluster, cs.executor(name_of(cluster)) as executor:
        placed, scatter = [], executor.scatter
        monkeypatch.setattr(executor, "scatter", lambda data: placed.append(len(data)) or scatter(data))
        sketch(tmp_path / "a.sketch", executor=executor)
        assert len(placed) == 1 and placed[0] > 100_000
    assert content(tmp_path / "a.sketch") == right


def test_when_the_scheduler_is_lost_the_sketch_goes_on_with_another(tmp_path, right):
    path, cluster = tmp_path / "a.sketch", start()

    def lose_scheduler(done, _):
        if done >= 2:
            cluster.close()

    with pytest.raises(cs.WorkerError, match="finished blocks are kept"), cs.executor(name_of(cluster)) as executor:
        sketch(path, executor=executor, progress=lose_scheduler)
    done = PartStore.open(path / "random").done
    assert 0 < len(done) < PartStore.open(path / "random").header.blocks
    with start() as another, cs.executor(name_of(another)) as executor:
        sketch(path, executor=executor)
    assert content(path) == right


def test_a_scheduler_that_is_not_there_is_named():
    with pytest.raises(cs.WorkerError, match="no Dask scheduler at tcp://127.0.0.1:9"):
        cs.executor("dask://127.0.0.1:9").__enter__()
