"""What workers share out has the bits of one process, and their errors, warnings and progress come back.

The oracle of bits: the same call without an executor.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import warnings
from concurrent.futures import BrokenExecutor
from dataclasses import replace

import numpy as np
import pytest
from executors import EXECUTORS, Immediate, Never, Scheduled, Twice, push_on_an_older_processor, spawned
from sketch_stores import RUN, measure
from stores import content

import circuitsketch as cs
from circuitsketch.backends.cpu import lane_width
from circuitsketch.propagate import blocks
from circuitsketch.store import shared_folder
from circuitsketch.workers import tasks
from circuitsketch.workers.distribution import FEWEST, Tasks, array_bytes, distribute, handle_in_threads
from circuitsketch.zoo import microgpt


def count_positive(params):
    return float((params > 0.9).sum())


DIRECTIONS = np.random.default_rng(2).normal(size=(18, RUN.n))
SUBSETS = [[i, (3 * i + 1) % RUN.n] for i in range(RUN.n) if i != (3 * i + 1) % RUN.n]
COMPUTED = {
    "sketch": lambda executor: cs.sketch(RUN, 20, 3, per_example="series", executor=executor).measure(measure),
    "complex64": lambda executor: cs.sketch(RUN, 20, 3, dtype="complex64", executor=executor).measure(measure),
    "groups": lambda executor: cs.sketch(RUN, 4, 2, groups=RUN.labels, executor=executor).measure(measure),
    "retrained models": lambda executor: cs.sketch(RUN, 0, 1, per_example="retrained", executor=executor).measure(
        measure
    ),
    "extend": lambda executor: cs.sketch(RUN, 5, 2).extend(20, executor=executor).measure(measure),
    "push": lambda executor: cs.push(RUN, DIRECTIONS, 2, executor=executor).measure(measure),
    "retrain": lambda executor: RUN.retrain(SUBSETS, executor=executor),
    "metagradient": lambda executor: cs.metagradient(
        RUN, measure, directions=DIRECTIONS, order=2, checkpoints=2, executor=executor
    ),
    "with_gradients": lambda executor: (
        cs.sketch(RUN, 4, 2).measure(measure).with_gradients(12, executor=executor).without([1, 2])
    ),
    "calibrate": lambda executor: (
        cs.sketch(RUN, 8, 2).measure(measure).calibrate(SUBSETS, executor=executor).without([1, 2])
    ),
    "evaluate": lambda executor: cs.sketch(RUN, 8, 2).measure(measure).evaluate(SUBSETS, executor=executor).truth,
    "retrain_worst": lambda executor: (
        cs.sketch(RUN, 8, 2, per_example="series").measure(measure).retrain_worst(3, executor=executor).without([1, 2])
    ),
    "attribute without derivatives": lambda executor: cs.attribute(
        RUN, count_positive, budget=60, executor=executor
    ).without([1, 2]),
    "attribute": lambda executor: cs.attribute(RUN, measure, budget=200, executor=executor).without([1, 2]),
}


def numbers(result):
    """All numbers of a result, as bytes."""
    if isinstance(result, cs.Query):
        parts = [result.coefficients, *([] if result.per_example is None else [result.per_example])]
    elif isinstance(result, cs.Prediction):
        parts = [result.value, result.stderr, *result.interval(0.8)]
    else:
        parts = list(result.values()) if isinstance(result, dict) else [result]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request):
    with EXECUTORS[request.param]() as executor:
        yield executor


@pytest.fixture(scope="module")
def alone():
    return {name: numbers(compute(None)) for name, compute in COMPUTED.items()}


@pytest.mark.parametrize("name", COMPUTED)
def test_workers_compute_the_bits_of_one_process(name, executor, alone):
    assert numbers(COMPUTED[name](executor)) == alone[name]


def test_a_task_that_is_done_twice_changes_nothing(alone, tmp_path):
    for name in ("sketch", "metagradient", "attribute"):
        assert numbers(COMPUTED[name](Twice())) == alone[name]
    cs.sketch(RUN, 20, 2, path=tmp_path / "alone")
    cs.sketch(RUN, 20, 2, path=tmp_path / "twice", executor=Twice())
    assert content(tmp_path / "alone") == content(tmp_path / "twice")


def test_a_sketch_on_disk_is_the_same_and_goes_on_with_and_without_workers(tmp_path, executor):
    cs.sketch(RUN, 20, 2, per_example="series", path=tmp_path / "alone")
    cs.sketch(RUN, 5, 2, path=tmp_path / "mixed")
    cs.sketch(RUN, 20, 2, path=tmp_path / "mixed", executor=executor)
    cs.sketch(RUN, 20, 2, per_example="series", path=tmp_path / "mixed", executor=executor, threads=2)
    assert content(tmp_path / "alone") == content(tmp_path / "mixed")


def test_a_sketch_on_disk_is_the_same_where_workers_do_not_see_its_folder(tmp_path, monkeypatch):
    for name, sees in (("seen", True), ("unseen", False)):
        monkeypatch.setattr(shared_folder, "is_plain_file", lambda path, sees=sees: sees)
        executor = Immediate()
        cs.sketch(RUN, 20, 2, per_example="retrained", path=tmp_path / name, executor=executor)
        replies = [future.result().result for future in executor.futures if not future.result().missing]
        assert all((array_bytes(reply) > 24) != sees for reply in replies)  # 24: where the run ends
    cs.sketch(RUN, 20, 2, per_example="retrained", path=tmp_path / "alone")
    assert content(tmp_path / "seen") == content(tmp_path / "unseen") == content(tmp_path / "alone")


def test_work_that_attribute_keeps_is_that_of_one_process(tmp_path):
    for name, executor in (("alone", None), ("workers", Immediate())):
        cs.attribute(RUN, measure, budget=200, path=tmp_path / name, executor=executor)
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("alone", "workers")]
    assert files[0] == files[1] and len(files[0]) > 3


# ---------------------------------------------------------------------------------------- what is sent


class Counted(Tasks):
    """Notes which pickles are sent along with tasks, with how many tasks at once, and how many are under way."""

    sent_at_once = largest = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.sent = []

    def submit(self, task, digests=()):
        super().submit(task, digests)
        self.sent += [digests] if digests else []
        self.sent_at_once = max(self.sent_at_once, sum(pickles for _, pickles in self.under_way.values()))
        self.largest = max(self.largest, len(self.under_way))

    def serve(self, task, worker, missing):
        assert worker not in self.sizes  # which has done a task, and so has what they share
        super().serve(task, worker, missing)

    def next_done(self):
        if isinstance(self.executor, Scheduled):
            self.executor.make_call()
        return super().next_done()


def run_steps(run, number):
    """A task that needs what is shared."""
    return run.steps, number


def run_steps_and(run, text, number):
    """A task that needs two things."""
    return run.steps, text, number


def add_to(text, more):
    """A task whose result has what is shared in it."""
    return text + more


def make_array(run, size):
    """A task whose result has so many bytes."""
    return np.zeros(size, dtype=np.uint8)


def share_out(executor, sizes=()):
    """Let workers do fifty tasks that share a run; `sizes`: of workers that have done tasks."""
    run = RUN.for_workers()
    counted = Counted(executor, run_steps, [run], 1)
    counted.sizes.update(dict.fromkeys(sizes, 1))
    assert sorted(counted.results((i,) for i in range(50))) == [(run.steps, i) for i in range(50)]
    return counted


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_run_is_sent_to_a_worker_once(workers):
    turns = itertools.cycle(range(workers))
    executor = Scheduled(workers, lambda pickles: next(turns))
    assert len(share_out(executor).sent) == workers
    assert not share_out(executor).sent


def test_a_run_that_other_workers_catch_is_sent_again_with_one_task_at_a_time():
    executor = Scheduled(2, lambda pickles: 1 if pickles else 0)  # and no executor can be told which to choose
    counted = share_out(executor)
    assert len(counted.sent) == 50 and counted.sent_at_once == 1  # each time, a task is done


@pytest.mark.parametrize(("turns", "sent"), [("00", ["b"]), ("011", ["b", "a"]), ("0101", ["b", "a", "ab"])])
def test_a_worker_that_has_the_run_is_sent_the_rest_alone(turns, sent):
    """Worker 0 has the run, a, and misses b; worker 1 misses both; `turns` says who makes each call."""
    order = iter([0, 0, *map(int, turns)])
    executor, run = Scheduled(2, lambda pickles: next(order)), RUN.for_workers()
    assert list(Counted(executor, run_steps, [run], 1).results([(0,)])) == [(run.steps, 0)]
    counted = Counted(executor, run_steps_and, [run, "text"], 1)
    assert list(counted.results([(1,)])) == [(run.steps, "text", 1)]
    names = dict(zip(counted.digests, "ab", strict=True))
    assert ["".join(names[digest] for digest in digests) for digests in counted.sent] == sent
    assert next(order, None) is None


def test_processes_that_have_done_a_task_are_not_sent_the_run_again():
    with spawned() as pool:
        first = share_out(pool)
        assert first.sent
        share_out(pool, first.sizes)  # `Counted.serve` sees


def test_a_worker_forgets_what_it_has_not_used_lately(monkeypatch):
    monkeypatch.setattr(tasks, "loaded", type(tasks.loaded)())
    counted = lambda text: Counted(Immediate(), add_to, [text], 1)  # noqa: E731
    for number in range(tasks.MAX_LOADED):
        assert list(counted(f"{number}").results([("x",)])) == [f"{number}x"]
        assert len(tasks.loaded) == number + 1
    for text, is_kept in (("0", True), ("new", False), ("0", True), ("1", False)):
        again = counted(text)
        assert list(again.results([("y",)])) == [text + "y"]
        assert bool(again.sent) != is_kept and len(tasks.loaded) == tasks.MAX_LOADED


def test_what_a_worker_has_is_not_loaded_again(monkeypatch):
    monkeypatch.setattr(tasks, "loaded", type(tasks.loaded)())
    pickles = {"digest": pickle.dumps([1, 2])}
    first, second = (tasks.perform(list.__iadd__, ("digest",), pickles, ([],)).result for _ in range(2))
    assert first is second == [1, 2]


def test_tasks_under_way_are_bounded_by_the_bytes_of_their_results(monkeypatch):
    monkeypatch.setattr("circuitsketch.workers.distribution.memory_available", lambda: 4000)
    asked = []

    def arguments():
        for i in range(20):
            asked.append(i)
            yield (i,)

    for nbytes, most in ((100, 10), (600, FEWEST)):
        asked.clear()
        counted = Counted(Immediate(), make_array, [RUN.for_workers()], nbytes)
        results = counted.results((nbytes,) for _ in arguments())
        next(results)
        assert len(asked) == counted.largest == most
        next(results)
        assert len(asked) == most + 1  # the caller was busy meanwhile, as with writing
        assert len(list(results)) == 18 and counted.largest == most
    asked.clear()
    counted = Counted(Immediate(), make_array, [RUN.for_workers()], 600)
    results = counted.results((50,) for _ in arguments())
    assert next(results).nbytes == 50 and len(asked) == FEWEST
    next(results)  # by now it is known that results are smaller than was thought
    assert len(asked) == 20 == counted.largest + 1


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_handled_in_so_many_threads_and_yielded_in_order(threads):
    taken, handled, now, most = [], [], [0], [0]
    gate, lock = threading.Event(), threading.Lock()

    def results():
        for i in range(10):
            taken.append(i)
            yield i

    def handle(i):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == threads:
                gate.set()
        assert gate.wait(20)  # until as many are handled at once
        with lock:
            now[0] -= 1
            handled.append(i)

    seen = []
    for i in handle_in_threads(results(), handle, threads):
        assert i in handled and len(taken) - len(seen) <= threads
        seen.append(i)
    assert seen == list(range(10)) == sorted(handled) and most[0] == threads


def test_what_a_thread_raises_stops_all():
    handled = []

    def handle(i):
        if i == 4:
            raise cs.StoreError("full")
        handled.append(i)

    seen = []
    with pytest.raises(cs.StoreError, match="full"):
        for i in handle_in_threads(iter(range(1000)), handle, 3):
            seen.append(i)
    assert seen == [0, 1, 2, 3] and len(handled) <= 7


# ---------------------------------------------------------------------------------------- errors, warnings, progress


def diverging_step(state, x, keep):
    return np.exp(state + keep.sum() * x)


def test_the_errors_of_a_worker_are_those_of_one_process(executor):
    run = cs.Training(diverging_step, np.zeros(()), [1.0] * 6, [[i] for i in range(6)])
    weights = np.full((4, 6), 0.9)
    weights[2] = -3.0  # which quadruples every example
    messages = []
    for workers in (None, executor):
        with pytest.raises(cs.DivergenceError, match=r"at step \d of 6.*exp .*test_distribution.py:\d+") as caught:
            run.retrain(weights, executor=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_direction_that_overflows_is_named_by_its_number(executor):
    directions = np.ones((40, RUN.n))
    directions[37] = 1e200
    for workers in (None, executor):
        with pytest.raises(cs.DivergenceError, match="coefficient 2 along direction 37 overflows"):
            cs.push(RUN, directions, 2, executor=workers)
        with pytest.raises(cs.DivergenceError, match="coefficient 2 along direction 37 overflows"):
            cs.metagradient(RUN, measure, directions=directions, order=2, executor=workers)


def test_a_kink_is_warned_of_once(executor):
    step = lambda s, x, keep: s + np.maximum(keep.sum() - 1.0, 0.0) * x  # noqa: E731
    run = cs.Training(step, np.zeros(()), [1.0] * 30, [[i] for i in range(30)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cs.sketch(run, 40, 2, executor=executor)
    assert [one.category for one in caught] == [cs.KinkWarning]
    assert "in 30 step(s), first at step 0" in str(caught[0].message)


def test_progress_counts_the_blocks_of_all_workers(executor):
    seen = []
    cs.sketch(RUN, 40, 2, per_example="series", executor=executor, progress=lambda *args: seen.append(args))
    done, total = zip(*seen, strict=True)
    assert list(done) == sorted(done) and len(set(done)) > 2 and done[-1] == total[-1] and len(set(total)) == 1
    last = []
    for workers in (None, executor):
        cs.attribute(RUN, measure, budget=200, executor=workers, progress=lambda *args: seen.append(args))
        last.append(seen[-1])
    assert last[0] == last[1]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (BrokenExecutor("gone"), r"a worker process died \(gone\).*finished blocks are kept"),
        (ZeroDivisionError("no reason"), "a task failed on a worker: ZeroDivisionError: no reason"),
    ],
)
def test_what_goes_wrong_on_a_worker_is_an_error_of_the_package(fault, message):
    def change(reply):
        raise fault

    with pytest.raises(cs.WorkerError, match=message):
        cs.sketch(RUN, 20, 2, executor=Immediate(change))


def test_a_worker_without_memory_is_named():
    def full(*_):
        raise MemoryError

    assert "ran out of memory" in str(tasks.perform(full, (), {}, ()).error)


def test_an_executor_that_was_shut_down_is_an_error_of_the_package():
    with spawned() as pool:
        pass
    with pytest.raises(cs.WorkerError, match="does not accept tasks"):
        RUN.retrain(SUBSETS, executor=pool)
    never = Never()
    results = distribute(never, run_steps, [RUN.for_workers()], ((i,) for i in range(3)), 1)
    never.submit = lambda *arguments: (cancelled := Never.submit(never, *arguments)).cancel() and cancelled
    with pytest.raises(cs.WorkerError, match="a task was cancelled"):
        list(results)


def test_tasks_are_cancelled_when_the_caller_fails():
    class One(Never):
        """Makes the first call only."""

        def submit(self, function, /, *arguments, **options):
            if self.futures:
                return super().submit(function, *arguments, **options)
            self.futures.append(Immediate().submit(function, *arguments, **options))
            return self.futures[0]

    one = One()
    list(distribute(Immediate(), run_steps, [RUN.for_workers()], [(0,)], 1))  # it is loaded from here on
    results = distribute(one, run_steps, [RUN.for_workers()], ((i,) for i in range(5)), 1)
    next(results)
    results.close()  # as an exception does in a loop over them
    assert len(one.futures) == 5 and all(future.cancelled() for future in one.futures[1:])


def test_workers_of_another_kind_are_refused(tmp_path):
    number = 0

    def change(reply):
        nonlocal number
        if reply.result is not None:
            number += 1
            group, lanes, end = reply.result
            if number == 2:  # the run ends in other bits there
                reply = replace(reply, result=(group, lanes, [leaf + 1e-15 for leaf in end]))
        return reply

    for path in (None, tmp_path / "a.sketch"):
        number = 0
        with pytest.raises(cs.WorkerError, match="two workers computed different final states"):
            cs.sketch(RUN, 40, 2, path=path, executor=Immediate(change))
    cs.sketch(RUN, 40, 2, path=tmp_path / "a.sketch")
    cs.sketch(RUN, 40, 2, path=tmp_path / "b.sketch")
    assert content(tmp_path / "a.sketch") == content(tmp_path / "b.sketch")


@pytest.mark.skipif(lane_width(single=False) < 4, reason="this processor has no AVX2, which the test makes workers use")
def test_a_worker_with_shorter_vectors_computes_the_same_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "push_task", push_on_an_older_processor)
    run = microgpt.training(5)
    with cs.executor("processes:1") as executor:
        one, other = (cs.sketch(run, 17, 3, executor=workers).random.lanes for workers in (None, executor))
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cs.sketch(RUN, 4, 1, executor="processes"), "executor must be a concurrent.futures.Executor.*str"),
        (lambda: cs.sketch(RUN, 4, 1, executor=spawned), "executor must be.*function"),
        (lambda: RUN.retrain(SUBSETS, executor=4), "executor must be.*int"),
        (lambda: RUN.retrain(SUBSETS, device="cuda", executor=Never()), "its workers compute on CPUs"),
        (lambda: cs.metagradient(RUN, measure, executor=Never()), "there are no directions"),
        (lambda: cs.sketch(RUN, 4, 1, staging="s3://b/a"), "staging is where the workers.*give path and executor too"),
        (lambda: cs.sketch(RUN, 4, 1, path="a", staging="s3://b/a"), "give executor too"),
        (lambda: cs.sketch(RUN, 4, 1, executor=Never(), staging="s3://b/a"), "give path too"),
        (lambda: cs.sketch(RUN, 4, 1).extend(5, executor=Never(), staging="s3://b/a"), "give path too"),
        (
            lambda: cs.sketch(RUN, 4, 1, path="a", executor=Never(), staging="ftp://b"),
            "begins with 'ftp://'; use s3://",
        ),
        (lambda: cs.sketch(RUN, 4, 1, path="s3://b/a", executor=Never()), "an object store .s3://.*as staging="),
        (lambda: cs.open_sketch("gs://b/a"), "an object store .gs://.*only be written to a folder"),
        (lambda: cs.executor("processes:0").__enter__(), "no executor 'processes:0'; use 'processes'"),
        (lambda: cs.executor("processes:").__enter__(), "no executor"),
        (lambda: cs.executor("dask://nowhere").__enter__(), "no executor"),
        (lambda: cs.executor(4).__enter__(), "no executor 4"),
    ],
)
def test_other_executors_are_refused(call, message):
    with pytest.raises(cs.InputError, match=message):
        call()


def test_a_long_run_of_the_zoo_has_the_same_bits_on_workers(executor):
    run = microgpt.training(20)
    one, other = (cs.sketch(run, 17, 2, executor=workers).random.lanes for workers in (None, executor))
    assert one.tobytes() == other.tobytes()
    assert pickle.dumps(run.for_workers()) == pickle.dumps(run.for_workers())  # or it would be sent again and again
