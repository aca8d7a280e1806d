"""Workers put blocks into an S3 server, with processes that are killed and a server that fails: no bit differs.

The server is moto's, in a process of its own; a proxy before it misbehaves where a test says so. The oracle: the bytes
of a sketch that one process made without interruption.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest
from executors import Immediate, Twice
from object_server import BUCKET, HOST, SECRET, environment, moto, proxy_before
from objects import LAWS
from stores import content

import circuitsketch as cs
from circuitsketch.propagate import resumption
from circuitsketch.store import object_store
from circuitsketch.store.objects import open_objects
from circuitsketch.store.part_store import PartStore
from circuitsketch.workers.processes import Processes
from circuitsketch.zoo import logistic, microgpt

pytest.importorskip("obstore", reason="needs the extra objects: pip install 'circuitsketch[objects]'")
pytest.importorskip("moto.server", reason="needs the extra server: pip install 'circuitsketch[server]'")
COUNT, ORDER = 64, 3  # eight blocks or more
RUN = microgpt.training(40)
prefixes = itertools.count()


@pytest.fixture(scope="module")
def port():
    with moto() as port:
        yield port


@pytest.fixture
def proxy(port, monkeypatch):
    with proxy_before(port) as proxy:
        for name, value in environment(proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def address(proxy):
    """A new place; a test ends with an empty one, unless it says otherwise."""
    return f"s3://{BUCKET}/sketches/{next(prefixes)}"


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    path = tmp_path_factory.mktemp("right") / "right.sketch"
    sketch(path)
    return content(path)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 0.5)


def sketch(path, **options):
    return cs.sketch(RUN, COUNT, ORDER, distribution="sphere", path=path, **options)


def is_left(proxy, address):
    """What is left at an address, by name."""
    return [name.rpartition("/")[2] for name in proxy.names(address.removeprefix(f"s3://{BUCKET}/") + "/")]


def wait_until(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize("law", LAWS)
def test_objects_of_a_server_follow_the_laws(law, address, proxy):
    LAWS[law](open_objects(address))


def test_more_names_than_a_page_are_listed(address, port, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{port}")  # without the proxy, which takes longer
    objects, expected = open_objects(address), {f"c.{number}.4.done": number % 3 for number in range(2_300)}
    for name, size in expected.items():
        objects.put(name, b"x" * size)
    assert dict(objects.list("c.")) == expected and not list(objects.list("d."))


RACE = """\
import sys
from circuitsketch.store.objects import open_objects
objects = open_objects(sys.argv[1])
sys.stdin.readline()
print(*[int(objects.put_new(str(i), sys.argv[2].encode() * 100)) for i in range(60)])
"""


def test_of_two_processes_that_write_what_is_new_one_wins(address, proxy):
    command = [sys.executable, "-c", RACE, address]
    racers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    wins = [list(map(int, racer.communicate()[0].split())) for racer in racers]
    assert [a + b for a, b in zip(*wins, strict=True)] == [1] * 60
    objects = open_objects(address)
    assert all(bytes(objects.get(str(i))) == (b"a" if a else b"b") * 100 for i, a in enumerate(wins[0]))


# ---------------------------------------------------------------------------------------- whole sketches


def test_a_sketch_whose_blocks_go_through_a_server_is_the_same(tmp_path, address, proxy, right):
    with Processes(2) as executor:
        sketch(tmp_path / "a.sketch", executor=executor, staging=address)
    assert content(tmp_path / "a.sketch") == right and not is_left(proxy, address)
    assert sum(method == "PUT" and name.endswith(".done") for method, name in proxy.done) == len(right_blocks(right))
    written = b"".join(file.read_bytes() for file in (tmp_path / "a.sketch").rglob("*") if file.is_file())
    assert SECRET.encode() not in written and BUCKET.encode() not in written


def right_blocks(files):
    return [name for name in files if name.startswith("random/lanes_sha256/c.")]


def test_all_parts_of_a_sketch_go_through_a_server_and_it_is_extended(tmp_path, address, proxy):
    run = logistic.training(epochs=2)
    for per_example in ("series", "retrained"):
        alone, apart = tmp_path / f"{per_example}.alone", tmp_path / f"{per_example}.apart"
        cs.sketch(run, 30, 2, per_example=per_example, path=alone)
        executor = Twice()
        part = cs.sketch(run, 13, 2, per_example=per_example, path=apart, executor=executor, staging=address)
        part.extend(30, executor=executor, staging=address)
        assert content(alone) == content(apart) and not is_left(proxy, address)


def test_the_command_writes_the_same(tmp_path, address, proxy):
    command = [sys.executable, "-m", "circuitsketch.cli", "sketch", "logistic:epochs=2", "--directions", "20", "--out"]
    subprocess.run([*command, str(tmp_path / "alone")], check=True, capture_output=True)
    more = ("--executor", "processes:2", "--staging", address)
    subprocess.run([*command, str(tmp_path / "apart"), *more], check=True, capture_output=True)
    assert content(tmp_path / "alone") == content(tmp_path / "apart") and not is_left(proxy, address)
    assert any(name.endswith(".done") for _, name in proxy.done)
    more = ("--executor", "processes:2", "--staging", "s3://nobucket/a")
    refused = subprocess.run([*command, str(tmp_path / "no"), *more], capture_output=True, text=True)
    assert refused.returncode == 1 and "its bucket does not exist; create it" in " ".join(refused.stderr.split())
    assert SECRET not in refused.stderr + refused.stdout


# ---------------------------------------------------------------------------------------- processes are killed


@pytest.mark.parametrize("where", ["data", "receipt"])
def test_a_worker_that_is_killed_in_the_middle_of_a_put_changes_nothing(where, tmp_path, address, proxy, right):
    stalls = iter([True])

    def rule(method, name):
        is_it = name.startswith("c.3.") and name.endswith(".done") == (where == "receipt") and ".steps" not in name
        return "stall" if method == "PUT" and is_it and next(stalls, False) else None

    proxy.rule = rule
    with Processes(1) as executor:

        def kill():
            proxy.stalled.wait(120)
            killed.extend(process.pid for process in executor.processes.values())
            os.kill(killed[0], signal.SIGKILL)

        killed = []
        thread = threading.Thread(target=kill)
        thread.start()
        sketch(tmp_path / "a.sketch", executor=executor, staging=address)
        thread.join()
    assert len(killed) == 1 and content(tmp_path / "a.sketch") == right and not is_left(proxy, address)


PROGRAM = """\
import sys, time, circuitsketch as cs
from circuitsketch.zoo import logistic, microgpt
run = microgpt.training(40)
with cs.executor("processes:2") as executor:
    cs.sketch(run, {count}, {order}, distribution="sphere", path=sys.argv[1], staging=sys.argv[2], executor=executor,
              progress=lambda done, blocks: (print(done, flush=True), time.sleep(600)))
"""


@contextmanager
def running(path, address):
    """A process that makes the sketch with two workers; it has gathered the first block, and pauses."""
    command = [sys.executable, "-c", PROGRAM.format(count=COUNT, order=ORDER), str(path), address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_when_the_writer_is_killed_no_block_of_its_workers_is_computed_again(tmp_path, address, proxy, right):
    path = tmp_path / "a.sketch"
    with running(path, address) as process:
        wait_until(lambda: sum(name.endswith(".done") for name in is_left(proxy, address)) >= 4)
        process.kill()
        process.wait()
        wait_until(lambda: settled(proxy, address))
    assert len(PartStore.open(path / "random").done) < len(right_blocks(right))
    kept, executor = kept_blocks(path, proxy, address), Immediate()
    sketch(path, executor=executor, staging=address)
    computed = [block for future in executor.futures for block in (future.result().result or [[]])[0]]
    assert content(path) == right and not is_left(proxy, address)
    assert len(computed) == len(right_blocks(right)) - len(kept)


def kept_blocks(path, proxy, address):
    """The blocks that are in the sketch or wait in the store."""
    staged = {int(name.split(".")[1]) for name in is_left(proxy, address) if name.endswith(".done")}
    return staged | PartStore.open(path / "random").done


def settled(proxy, address):
    """Whether workers have stopped to write."""
    before = is_left(proxy, address)
    time.sleep(0.5)
    return before == is_left(proxy, address)


def test_a_worker_that_is_killed_between_two_steps_goes_on_from_its_checkpoint(tmp_path, address, proxy, monkeypatch):
    monkeypatch.setattr(resumption, "SECONDS", 0.0)
    alone = tmp_path / "alone"
    cs.sketch(RUN, 8, 2, path=alone)
    puts = itertools.count()

    def interrupt(method, name):
        if method == "PUT" and name.endswith(".steps") and next(puts) == 3:
            raise KeyboardInterrupt

    real, steps = object_store.RemoteObjects.put, []

    def put(objects, name, data):
        interrupt("PUT", name)
        real(objects, name, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(object_store.RemoteObjects, "put", put)
        cs.sketch(RUN, 8, 2, path=tmp_path / "a", executor=Immediate(), staging=address)
    assert any(name.endswith(".steps") for name in is_left(proxy, address))
    load = resumption.Saver.load
    monkeypatch.setattr(resumption.Saver, "load", lambda saver, arrays: steps.append(1) or load(saver, arrays))
    cs.sketch(RUN, 8, 2, path=tmp_path / "a", executor=Immediate(), staging=address)
    assert steps and content(tmp_path / "a") == content(alone) and not is_left(proxy, address)


def test_when_a_scheduler_is_lost_another_one_goes_on(tmp_path, address, proxy, right):
    distributed = pytest.importorskip("distributed", reason="needs the extra dask: pip install 'circuitsketch[dask]'")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)

    def start():
        return distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)

    path, cluster = tmp_path / "a.sketch", start()

    def lose_scheduler(done, _):
        if done >= 2:
            cluster.close()

    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        name = cluster.scheduler_address.replace("tcp:", "dask:")
        with pytest.raises(cs.WorkerError, match="finished blocks are kept"), cs.executor(name) as executor:
            sketch(path, executor=executor, staging=address, progress=lose_scheduler)
        assert len(PartStore.open(path / "random").done) < len(right_blocks(right))
        with start() as other, cs.executor(other.scheduler_address.replace("tcp:", "dask:")) as executor:
            sketch(path, executor=executor, staging=address)
    assert content(path) == right and not is_left(proxy, address)


# ---------------------------------------------------------------------------------------- the server fails


def test_a_server_that_is_overloaded_or_loses_answers_for_a_while_changes_nothing(tmp_path, address, proxy, right):
    requests, faults = itertools.count(), []

    def rule(method, name):
        number = next(requests)
        fault = {0: 503, 4: "lose", 8: "drop"}.get(number % 12) if number < 120 else None
        faults.append(fault)
        return fault

    proxy.rule = rule
    with Processes(2) as executor:
        sketch(tmp_path / "a.sketch", executor=executor, staging=address)
    assert {503, "lose", "drop"} < {*faults}
    assert content(tmp_path / "a.sketch") == right and not is_left(proxy, address)


@pytest.mark.parametrize("fault", ["drop", 503])
def test_a_server_that_is_away_for_seconds_is_waited_for(fault, tmp_path, address, proxy, right):
    until = []

    def rule(method, name):
        if name.endswith(".done") and not until:
            until.append(time.monotonic() + 2)
        return fault if until and time.monotonic() < until[0] else None

    proxy.rule = rule
    with Processes(2) as executor:
        sketch(tmp_path / "a.sketch", executor=executor, staging=address)
    assert until and content(tmp_path / "a.sketch") == right and not is_left(proxy, address)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("drop", "the server cannot be reached; check the network and AWS_ENDPOINT_URL, and call again"),
        (503, "the server answers 503( SlowDown)?; call again with the same path"),
        (507, "the store is full .507( XMinioStorageFull)?.; free some space, and call again"),
        (403, "access is refused .(403 InvalidAccessKeyId|no rights|403).; check the credentials in the environment"),
    ],
)
@pytest.mark.parametrize("when", ["worker", "writer"])
def test_a_server_that_stays_away_is_an_error_and_the_sketch_goes_on(
    fault, message, when, tmp_path, address, proxy, right, impatient
):
    path, fails = tmp_path / "a.sketch", []

    def rule(method, name):
        if name.startswith("c.3.") and method == ("PUT" if when == "worker" else "GET"):
            fails.append(name)
        return fault if fails else None

    proxy.rule = rule
    with pytest.raises(cs.StoreError, match=message) as caught:
        sketch(path, executor=Immediate(), staging=address)
    text = "".join(traceback.format_exception(caught.value))
    assert address in text and SECRET not in text
    proxy.rule = lambda method, name: None
    kept, executor = kept_blocks(path, proxy, address), Immediate()
    sketch(path, executor=executor, staging=address)
    computed = [block for future in executor.futures for block in (future.result().result or [[]])[0]]
    assert fails and len(computed) == len(right_blocks(right)) - len(kept)
    assert bool(computed) == (when == "worker")  # whatever a worker has put is gathered
    assert content(path) == right and not is_left(proxy, address)


AWAY = """\
import sys
from circuitsketch.store.objects import open_objects
objects = open_objects(sys.argv[1])
print("begun", flush=True)
objects.put("a", b"1")
"""


def test_ctrl_c_is_heard_while_a_server_is_away(address, proxy):
    proxy.rule = lambda method, name: "drop"
    command = [sys.executable, "-c", AWAY, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            time.sleep(1)
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in process.stderr.read() and process.wait() == -signal.SIGINT
            assert time.monotonic() - begin < object_store.RETRY_SECONDS / 2
        finally:
            process.kill()


@pytest.mark.parametrize("fault", ["flip", "cut"])
def test_an_answer_that_is_damaged_is_noticed(fault, tmp_path, address, proxy, right, impatient):
    path = tmp_path / "a.sketch"
    proxy.rule = lambda method, name: (
        fault if method == "GET" and name.startswith("c.3.") and not name.endswith(".done") else None
    )
    with pytest.raises(cs.StoreError, match="c.3.*is damaged: .*only this block is recomputed"):
        sketch(path, executor=Immediate(), staging=address)
    assert 3 not in PartStore.open(path / "random").done
    proxy.rule = lambda method, name: None
    sketch(path, executor=Immediate(), staging=address)
    assert content(path) == right and not is_left(proxy, address)


def test_a_bucket_that_is_missing_is_named_before_anything_is_computed(tmp_path, proxy):
    executor = Immediate()
    with pytest.raises(cs.StoreError, match="s3://nobucket/a/.*its bucket does not exist; create it"):
        sketch(tmp_path / "a.sketch", executor=executor, staging="s3://nobucket/a")
    assert not executor.futures
    for call in ("get", "list", "put_new"):
        with pytest.raises(cs.StoreError, match="its bucket does not exist"):
            objects = open_objects("s3://nobucket/a")
            list(objects.list()) if call == "list" else getattr(objects, call)("a", *[b""] * (call == "put_new"))


def test_objects_above_a_size_are_sent_in_parts(address, proxy, monkeypatch):
    monkeypatch.setattr(object_store, "ONE_REQUEST", 1 << 20)
    objects, data = open_objects(address), os.urandom(12 << 20)
    objects.put("a", data)
    assert bytes(objects.get("a")) == data and sum(method == "PUT" for method, _ in proxy.done) > 1


def test_the_example_in_the_pages_works(tmp_path, address, proxy):
    page = (Path(__file__).parents[2] / "circuitsketch/docs/machines.md").read_text()
    program = page.partition("## Through an object store")[2].partition("```python\n")[2].partition("```")[0]
    assert 'staging="blocks"' in program
    program = program.replace('staging="blocks"', f"staging={address!r}")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not is_left(proxy, address), done.stderr
    assert any(name.endswith(".done") for _, name in proxy.done)
