"""What memory or disk would not hold is refused beforehand, with numbers and ways out, and nothing is left behind.

The oracles: what tracemalloc and the file system count of the same work where there is room, a process's own limits.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch import limits
from circuitsketch.estimators.interactions.posterior import Interactions

STATE = 400


@pytest.fixture(scope="module")
def run():
    def step(state, x, keep):
        return {"params": np.tanh(state["params"] * x) * keep[0]}

    return cs.Training(step, {"params": np.linspace(0.1, 1, STATE)}, [np.ones(STATE)] * 30, [[i] for i in range(30)])


@pytest.fixture(scope="module")
def sketch(run):
    return cs.sketch(run, 60, 2, per_example="series")


@pytest.fixture
def room(monkeypatch):
    """Set how many bytes of memory and of disk there are."""

    def set_room(memory=1 << 50, disk=1 << 50):
        monkeypatch.setattr(limits, "SMALL", 0)
        monkeypatch.setattr(limits, "memory_available", lambda: memory)
        monkeypatch.setattr(limits, "disk_free", lambda path: disk)

    return set_room


LARGE = {
    "sketch in memory": (lambda run, sketch: cs.sketch(run, 4000, 3), "path="),
    "singles in memory": (
        lambda run, sketch: cs.sketch(run, 8, 2, per_example="series", per_example_order=9),
        "groups=",
    ),
    "push": (lambda run, sketch: cs.push(run, np.ones((500, 30)), 3), "complex64"),
    "extend": (lambda run, sketch: sketch.extend(4000), "fewer directions"),
    "measure": (lambda run, sketch: sketch.measure(lambda p: np.outer(p, p)), "a measurement of fewer values"),
    "coefficients": (lambda run, sketch: sketch.coefficients(lambda p: np.outer(p, p)), "fewer values"),
    "state": (lambda run, sketch: sketch.state, "measure"),
    "retrain": (lambda run, sketch: run.retrain(np.eye(30, dtype=bool)[np.arange(900) % 30]), "fewer subsets"),
    "downweights": (lambda run, sketch: sketch.measure(np.sum).downweights([[0]] * 9000), "fewer subsets"),
    "local sketch": (lambda run, sketch: cs.local_sketch(np.sin, np.ones(900), 100, 2), "fewer directions"),
    "series": (lambda run, sketch: compiled_series(900), "a lower order"),
    "predict": (lambda run, sketch: cs.Query(np.ones((2, 2, 400)), law30()).without([[0], [1]] * 60), "fewer subsets"),
    "influence": (lambda run, sketch: cs.Query(np.ones((2, 2, 9000)), law30()).influence(), "fewer values"),
    "a plan's trial": (lambda run, sketch: cs.plan(run=run, directions=8, order=30), "seconds_per_gate"),
}


def law30():
    from circuitsketch.directions import Sphere

    return Sphere(30)


def compiled_series(count):
    f = cs.compile(cs.trace(np.sin, np.ones(STATE)), order=3)
    return f.series((np.ones(STATE),), (np.ones((count, 1, STATE)),))


@pytest.mark.parametrize("what", LARGE)
def test_what_does_not_fit_into_memory_is_refused(what, run, sketch, room):
    act, way = LARGE[what]
    room(memory=1_000_000)
    with pytest.raises(
        cs.InputError, match=r"would take [0-9.,]+ .B of memory, but only 1.0 MB are available; "
    ) as said:
        act(run, sketch)
    assert way in str(said.value), said.value
    assert not isinstance(said.value, cs.errors.StoreError)


def test_working_memory_of_threads_is_refused_before_a_folder_is_made(run, room, tmp_path):
    room(memory=100_000)
    with pytest.raises(cs.InputError, match=r"computing a sketch of 8 directions to order 3 would take .*threads=1"):
        cs.sketch(run, 8, 3, distribution="sphere", threads=2, path=tmp_path / "a.sketch")
    assert not list(tmp_path.iterdir())


def test_a_sketch_that_the_disk_does_not_hold_is_refused_before_a_folder_is_made(run, room, tmp_path):
    room(disk=1_000_000)
    words = r"would take [0-9.,]+ MB on the disk of .*1.0 MB are free.*make room"
    with pytest.raises(cs.errors.StoreError, match=words):
        cs.sketch(run, 400, 3, path=tmp_path / "a.sketch")
    assert not list(tmp_path.iterdir())


def test_blocks_already_on_disk_need_no_more_disk_space(run, room, tmp_path):
    path = tmp_path / "a.sketch"
    made = cs.sketch(run, 64, 2, path=path)
    room(disk=0)
    assert (cs.sketch(run, 64, 2, path=path).lanes[0] == made.lanes[0]).all()
    with pytest.raises(cs.errors.StoreError, match="on the disk"):
        made.extend(640)
    room(disk=1 << 40)
    more = made.extend(128)
    room(disk=more.lanes.nbytes)  # half of it is there, and rounding up to clusters is much less than the other half
    assert made.extend(130).count == 130


@pytest.mark.parametrize("options", [{}, {"dtype": np.complex64}, {"per_example": "series", "per_example_order": 4}])
def test_the_memory_that_is_asked_for_is_what_a_sketch_takes(run, room, monkeypatch, options):
    cs.sketch(run, 400, 2, threads=1, **options)  # compiled
    monkeypatch.setattr(limits, "SMALL", 0)
    seen = []
    from circuitsketch.propagate import sizes

    monkeypatch.setattr(sizes, "require_memory", lambda nbytes, what, ways: seen.append(nbytes))
    tracemalloc.start()
    cs.sketch(run, 400, 2, threads=1, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.7 * peak < max(seen) < 1.5 * peak, (peak, seen)


def test_the_fit_of_interactions_leaves_out_what_memory_does_not_hold(room, monkeypatch):
    from circuitsketch.estimators.interactions import fitting

    n = 500
    step = lambda s, x, keep: np.tanh(0.5 * s + (keep * x).sum() / n)  # noqa: E731
    run = cs.Training(step, np.zeros(2), [np.linspace(-1, 1, n)] * 2, [range(n)] * 2)
    sketch = cs.sketch(run, 32, 2, per_example="series")

    def estimate_and_peak(name, answer):
        """The largest estimate that a check is asked for while a fresh query is fitted, and what that takes."""
        query, asked = sketch.measure(np.sum), []
        with monkeypatch.context() as patched:
            patched.setattr(fitting, name, lambda nbytes, *what: asked.append(nbytes) or answer)
            tracemalloc.start()
            assert isinstance(query.interactions, Interactions)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return max(asked), peak, query

    whole, peak, query = estimate_and_peak("find_shortage", "")
    assert 0.7 * peak < whole < 2 * peak and not query.interactions.prior.is_diagonal
    monkeypatch.setattr(fitting, "find_shortage", lambda nbytes: "too much")
    thin, peak, query = estimate_and_peak("require_memory", None)
    assert 0.7 * peak < thin < 3 * peak and thin < whole / 5 and query.interactions.prior.is_diagonal
    monkeypatch.undo()
    fresh = sketch.measure(np.sum)
    room(memory=5_000_000)
    assert any("it would take 20" in text and "5.0 MB" in text for text in fresh.without([1, 2]).warnings)
    fresh = sketch.measure(np.sum)
    room(memory=1_000_000)
    with pytest.raises(cs.InputError, match="what 500 examples do together.*estimator='theorem'"):
        fresh.without([1, 2])
    assert fresh.without([1, 2], estimator="theorem").stderr > 0  # the way out is one


def test_retraining_of_several_subsets_goes_in_batches(run, monkeypatch):
    from circuitsketch.attribution import ground_truth

    masks = np.eye(30, dtype=bool)
    query = cs.sketch(run, 8, 1).measure(np.sum)
    whole = cs.evaluate(query, masks, run=run, measure=np.sum).truth
    calls = []
    real = cs.Training.retrain
    monkeypatch.setattr(cs.Training, "retrain", lambda self, w, *a, **k: calls.append(len(w)) or real(self, w, *a, **k))
    monkeypatch.setattr(ground_truth, "AT_ONCE", 1)
    monkeypatch.setattr(ground_truth, "lane_width", lambda single: 4)
    parts = cs.evaluate(query, masks, run=run, measure=np.sum, threads=1).truth
    assert max(calls) == 4 and sum(calls) == 30
    assert (parts == whole).all()


def test_a_memory_error_of_numpy_becomes_an_input_error(run, monkeypatch):
    def fail(*args, **options):
        raise MemoryError("Unable to allocate 180. GiB for an array")

    sketched = cs.sketch(run, 4, 1)
    query = sketched.measure(np.sum)
    monkeypatch.setattr(np, "zeros", fail)
    monkeypatch.setattr(np, "empty", fail)
    for act in (
        lambda: cs.sketch(run, 4, 1),
        lambda: cs.push(run, np.ones((1, 30)), 1),
        lambda: sketched.extend(8),
        lambda: sketched.coefficients(np.sum),
        lambda: run.retrain([[0], [1]]),
        lambda: query.influence(),
        lambda: query.without([0]),
    ):
        with pytest.raises(cs.InputError, match=r"ran out of memory \(Unable to allocate 180. GiB"):
            act()


# ------------------------------------------------------------------------------------------ what there is


def test_the_machine_says_how_much_memory_there_is():
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = sum(int(fields[name].split()[0]) for name in ("MemTotal", "SwapTotal")) * 1024
    assert 0 < limits.memory_available() <= total


@pytest.mark.parametrize(
    ("lines", "files", "left"),
    [
        ("0::/job", {"job/memory.max": "1000000", "job/memory.current": "400000"}, 600_000),
        ("0::/a/b", {"a/memory.max": "500", "a/memory.current": "100", "a/b/memory.max": "max"}, 400),
        ("0::/job", {"job/memory.max": "900", "job/memory.current": "600", "job/memory.stat": "inactive_file 50"}, 350),
        ("0::/elsewhere", {"memory.max": "700", "memory.current": "200"}, 500),
        ("5:cpu,memory:/x", {"memory/x/memory.limit_in_bytes": "90", "memory/x/memory.usage_in_bytes": "40"}, 50),
        ("5:memory:/x", {"memory/x/memory.limit_in_bytes": f"{2**63}", "memory/x/memory.usage_in_bytes": "4"}, None),
        ("0::/job", {}, None),
        ("", {}, None),
    ],
)
def test_a_cgroup_limit_bounds_the_available_memory(lines, files, left, tmp_path, monkeypatch):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(lines + "\n" * bool(lines))
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    monkeypatch.setattr(limits, "PROC", tmp_path / "proc")
    monkeypatch.setattr(limits, "CGROUP", tmp_path / "cgroup")
    assert limits.group_memory() == left
    assert limits.machine_memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # no /proc/meminfo there


def test_nothing_is_refused_where_available_memory_is_unknown(monkeypatch):
    for name in ("machine_memory", "group_memory", "own_memory"):
        monkeypatch.setattr(limits, name, lambda: None)
    assert limits.memory_available() is None
    limits.require_memory(1e30, "anything", [])


def test_disk_is_asked_of_the_folder_that_will_hold_the_path(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert abs(limits.disk_free(tmp_path / "none" / "of" / "these") - free) < 0.05 * free + 1e9


def test_a_process_with_a_memory_limit_gets_an_input_error():
    """Under a real limit of address space: 0.5 GB more than the process has when it begins."""
    program = textwrap.dedent(
        """
        import resource, sys
        import numpy as np, circuitsketch as cs
        step = lambda s, x, keep: {"params": s["params"] * 0.99 + (keep * x).sum()}
        run = cs.Training(step, {"params": np.zeros(200_000)}, [np.ones(1)] * 200, [[i] for i in range(200)])
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 29), resource.RLIM_INFINITY))
        try:
            cs.sketch(run, 8, 1, per_example="series", per_example_order=3)
        except cs.InputError as reason:
            print(reason)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "series of 200 examples to order 3 would take" in done.stdout, done.stdout + done.stderr
    assert "path=..." in done.stdout and resource.getpagesize() > 0
