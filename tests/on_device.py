"""The CUDA backend against the reference evaluator and the CPU: on a GPU, or in Numba's simulator of one.

Not collected by name: `tests/backends/test_cuda.py` runs it in the simulator, in a process of its own, because
NUMBA_ENABLE_CUDASIM=1 must be set before Numba is imported. On a machine with a GPU, `pytest tests/on_device.py` is the
full check; each program is compiled for the device there, so it takes long.

Tolerances as in test_kernels: in units of the largest coefficient on any wire.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from device_runs import (
    SIMULATED,
    TOLERANCE,
    Watched,
    assert_series,
    assert_states_agree,
    golden_run,
    network,
    zoo_run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import cuda
from steps import attention, codes, random_step
from strategies import NAMES, application, programs

import circuitsketch as cs
from circuitsketch.backends import reference
from circuitsketch.backends.contract import Schedule
from circuitsketch.backends.cuda import device, stream
from circuitsketch.backends.cuda.executable import CudaExecutable, DeviceArena
from circuitsketch.backends.registry import build, make_target
from circuitsketch.errors import DeviceError
from circuitsketch.gates import GATES
from circuitsketch.gates.gate import elementwise
from circuitsketch.lower.instructions import Mode
from circuitsketch.propagate.blocks import push_blocks
from circuitsketch.tree import flatten
from circuitsketch.zoo import cnn, logistic, microgpt, mlp

if SIMULATED:
    sys.setswitchinterval(1e-5)  # the simulator's threads wait for each other by polling
few = settings(max_examples=6 if SIMULATED else 30, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def poisoned_memory():
    """Memory on the device begins as NaN: what is read before it is written shows."""
    if not SIMULATED:
        yield
        return
    plain = cuda.device_array

    def poisoned(*args, **kwargs):
        found = plain(*args, **kwargs)
        found[:] = np.nan
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "device_array", poisoned)
        yield


@pytest.mark.parametrize("name", NAMES)
def test_every_gate_has_the_reference_series(name):
    for order, is_complex in ((0, True), (1, False), (2, True), (3, False), (4, True)):
        one = application(name, np.random.default_rng(order))
        function = lambda *moving, one=one: one.with_moving(moving)  # noqa: E731
        assert_series(function, one.moving, order, is_complex=is_complex)


@pytest.mark.parametrize("name", NAMES)
def test_every_gate_has_the_values_of_each_lane(name):
    """As in many retrainings, where lanes hold values, each its own."""
    one = application(name, np.random.default_rng(7))
    circuit = cs.trace(one, *one.operands)
    varying = [i for i, moves in enumerate(one.moves) if moves]
    target = make_target(Mode(0, False, values=True), np.complex128, 4, "cuda", 3)
    executable = build([circuit], target, varying, len(circuit.inputs), {}, has_keep=False)
    operands = [np.asarray(x, dtype=float) for x in one.operands]
    scaled = lambda by: [x * by if m else x for x, m in zip(operands, one.moves, strict=True)]  # noqa: E731
    lanes = [scaled(by) for by in (1.0, 0.9, 0.8)]
    arena = executable.allocate_arena()
    arena.set_state(operands)
    state = arena.get_lane_state()
    for lane, values in enumerate(lanes):
        state[:, 0, lane] = np.concatenate([values[i].ravel() for i in varying])
    arena.set_lane_state(0, state)
    arena.run(Schedule.single_step(), 0, 1, np.zeros(0))
    (layout,) = executable.tapes[0].outputs
    for lane, values in enumerate(lanes):
        (theirs,) = reference.run(circuit, values, [None] * len(values), 0)
        if layout.buffer in executable.placements[0].lane:
            ours = arena.view_lanes(0, layout)[..., 0, lane]
        else:
            ours = arena.view_constant(0, layout)
        np.testing.assert_allclose(ours, theirs[0, 0].real, rtol=1e-13, atol=1e-13)


ODD_NAMES = ["u", "c", "e", "i", "lane", "lambda", "store", "chain", "2x", "two words", 'qu"o\\te', "\u00b2", ""]


def test_gates_of_ones_own_may_have_any_name_and_be_defined_again():
    """Names of ours in device code, of Python, and none of either; the oracle is the reference, gate by gate."""

    def swell(name, c):
        def step(k, ops, u, v):
            v[k] = c * ops.convolve(k, u, v, weight=lambda j: j, low=1) / k

        return elementwise(name, 1, lambda m, x: (m.exp(c * x),), step, lambda ct, out, x: (ct * c * out,))

    try:
        gates = [swell(name, 0.1 * (i + 1)) for i, name in enumerate(ODD_NAMES)]
        gates += [swell(ODD_NAMES[0], -0.5), swell(ODD_NAMES[-1], -0.7)]
        function = lambda x, y: sum(gate(x) * y * gate(x + y) for gate in gates)  # noqa: E731
        assert_series(function, (np.array([0.5, -0.2]), np.array([0.3, 0.1])), 2)
    finally:
        for name in ODD_NAMES:
            GATES.pop(name)


@few
@given(program=programs(most=6, outputs=2), order=st.sampled_from([1, 2, 3]), is_complex=st.booleans())
def test_random_programs_have_the_reference_series(program, order, is_complex):
    assert_series(program, program.inputs, order, is_complex=is_complex)


@pytest.mark.parametrize(
    ("width", "dtype", "order", "directions"),
    [(4, np.complex64, 2, 5), (8, np.complex128, 1, 9), (1, np.complex128, 1, 2), (4, np.complex128, 8, 1)],
)
def test_lanes_of_every_width_and_precision_carry_the_same_series(width, dtype, order, directions):
    rng = np.random.default_rng(3)
    args = (rng.standard_normal((1, 2, 3)), rng.standard_normal((3, 3)), np.array([[0, 2]]))
    assert_series(attention, args, order, dtype=dtype, width=width, directions=directions)


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
@pytest.mark.parametrize("is_complex", [True, False])
def test_a_propagated_run_agrees_with_the_cpu(dtype, is_complex):
    rng = np.random.default_rng(0)
    directions = 0.3 * (rng.normal(size=(5, 6)) + (1j * rng.normal(size=(5, 6)) if is_complex else 0.0))
    run = network()
    theirs = cs.push(run, directions, 2, dtype=dtype, keep="state")
    ours = cs.push(run, directions, 2, dtype=dtype, device="cuda", keep="state")
    assert_states_agree(ours.state, theirs.state, TOLERANCE[dtype])
    look = lambda params, x: np.tanh(x @ params["w"]).sum()  # noqa: E731
    x = rng.normal(size=(2, 2))
    for where in ("cpu", "cuda"):
        found = ours.coefficients(look, x, device=where)
        np.testing.assert_allclose(found, theirs.coefficients(look, x), rtol=0, atol=10 * TOLERANCE[dtype])


@few
@given(
    code=st.tuples(codes, codes),
    results=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=2),
    kinds=st.lists(st.integers(0, 1), min_size=1, max_size=3),
    seed=seeds,
)
def test_a_state_is_carried_from_step_to_step_as_on_the_cpu(code, results, kinds, seed):
    rng = np.random.default_rng(seed)
    step = random_step(code, tuple(zip(*results, strict=True)))
    state = tuple(rng.uniform(-1, 1, (2, 2)) for _ in results)
    batches = [rng.uniform(-1, 1, (1,) * kind + (2, 2)) for kind in kinds]
    run = cs.Training(step, state, batches, [rng.permutation(6)[:4] for _ in kinds], n=6)
    weights = rng.uniform(-0.3, 0.3, (3, 6))
    assert_states_agree(run.retrain(weights, device="cuda"), run.retrain(weights), 1e-12)
    if run.varying():
        directions = 0.2 * (rng.uniform(-1, 1, (2, 6)) + 1j * rng.uniform(-1, 1, (2, 6)))
        ours, theirs = (cs.push(run, directions, 2, device=where, keep="state").state for where in ("cuda", "cpu"))
        assert_states_agree(ours, theirs, 1e-12)


def test_several_retrainings_agree_with_the_cpu():
    run = network()
    subsets = [[0], [1, 2], [3], [0, 5], [4]]
    assert_states_agree(run.retrain(subsets, device="cuda"), run.retrain(subsets), 1e-11)


def test_one_retraining_agrees_with_the_cpu():
    run = network()
    assert_states_agree(run.retrain([1, 2], device="cuda"), run.retrain([1, 2]), 1e-11)


def test_launches_of_one_step_and_waves_of_one_block_change_nothing(monkeypatch):
    run = network(5)
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(7, 6)) * (np.arange(7)[:, None] == np.arange(6))  # blocks begin at different steps
    block_of = lambda start, stop: directions[start:stop]  # noqa: E731
    options = {"is_complex": False, "width": 4, "device": "cuda"}
    _, _, whole = push_blocks(run, block_of, 7, 2, **options)
    _, _, theirs = push_blocks(run, block_of, 7, 2, is_complex=False, width=4)
    assert_states_agree(whole, theirs, 1e-12)
    seen = []
    launches = []
    monkeypatch.setattr(stream, "GROWTH", 1)
    record = DeviceArena.record_constants

    def counted(arena, schedule, start, stop, *rest):
        launches.append(stop - start)
        record(arena, schedule, start, stop, *rest)

    monkeypatch.setattr(DeviceArena, "record_constants", counted)
    monkeypatch.setattr(CudaExecutable, "choose_blocks_per_call", lambda *_: 1)
    _, _, parts = push_blocks(run, block_of, 7, 2, **options, progress=lambda *done: seen.append(done))
    assert launches == [1] * 10
    assert np.array_equal(parts, whole)
    assert seen == [(1, 2), (2, 2)]


def test_progress_is_reported_while_several_blocks_are_under_way(monkeypatch):
    seen = []
    monkeypatch.setattr(stream, "GROWTH", 1)
    run, directions = network(4), np.eye(6).repeat(2, axis=0)
    push_blocks(run, lambda a, b: directions[a:b], 12, 1, width=4, device="cuda", progress=lambda *d: seen.append(d))
    assert seen == [(1, 3), (3, 3)]  # after two steps of four, told when the last of them is under way; at the end


@pytest.mark.skipif(not SIMULATED, reason="only the simulator hands a thread memory of its own")
def test_threads_share_memory_even_where_each_would_be_given_an_array_of_its_own(monkeypatch):
    """Numba's simulator looks an array up and makes it where there is none, and threads may both find none."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    class Forgetful(dict):
        def get(self, key, default=None):
            return default

    made = FakeCUDAShared.__init__

    def forgetful(shared, size):
        made(shared, size)
        shared._allocations = Forgetful()

    monkeypatch.setattr(FakeCUDAShared, "__init__", forgetful)
    x = np.random.default_rng(4).normal(size=400)
    assert_series(lambda x: (x.sum(), x.max()), (x,), 1)


@pytest.mark.skipif(not SIMULATED, reason="only the simulator's threads can be watched")
@pytest.mark.parametrize("values", [False, True])
def test_no_thread_touches_what_another_writes_between_two_waits(monkeypatch, values):
    from numba.cuda.simulator.kernel import BlockThread

    wait = BlockThread.syncthreads

    def counted(thread):
        wait(thread)
        thread.waits += 1

    monkeypatch.setattr(BlockThread, "waits", 0, raising=False)
    monkeypatch.setattr(BlockThread, "syncthreads", counted)
    run = network(2)
    mode = Mode(0, False, values=True) if values else Mode(1, False)
    arena = run.executable(mode, width=4, device="cuda").allocate_arena()
    arena.set_state(run.state_leaves)
    arena.initialize_lanes()
    watched = Watched(arena.device_lanes[0])
    arena.device_lanes = [watched]
    arena.run(run.schedule, 0, run.steps, np.zeros(run.n), 0.1 * np.ones((1, run.n, 1, 4)))
    assert len(watched.touched) > 1000
    assert max(waits for _, waits, _ in watched.touched) > 10
    watched.touched.clear()
    late = np.array([run.steps])  # lanes to which nothing happens are left alone
    arena.run(run.schedule, 0, run.steps, np.zeros(run.n), np.zeros((1, run.n, 1, 4)), first_steps=late)
    assert not watched.touched


def test_after_ctrl_c_the_memory_is_free_and_the_run_can_be_pushed_again(monkeypatch, tmp_path):
    monkeypatch.setattr(stream, "GROWTH", 1)
    monkeypatch.setattr(CudaExecutable, "choose_blocks_per_call", lambda *_: 2)
    run, path = network(4), tmp_path / "run.sketch"
    options = {"order": 1, "seed": 3, "device": "cuda"}
    monkeypatch.setattr(device.Device, "choose_width", lambda *_: 4)
    whole = cs.sketch(run, 14, **options)

    def interrupt(done, blocks):
        if done == 3:  # in the second of the waves
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cs.sketch(run, 14, **options, path=path, progress=interrupt)
    seen = []
    again = cs.sketch(run, 14, **options, path=path, progress=lambda *done: seen.append(done))
    assert seen[0][0] == 3  # two blocks were kept
    assert_states_agree(again.state, whole.state, 0.0)
    opened = cs.open_sketch(path, run)
    assert_states_agree(opened.state, whole.state, 0.0)


def test_a_store_keeps_to_its_lanes_and_its_kind_of_device(tmp_path, monkeypatch):
    run = network(2)
    wide = lambda card, count: 8 if count > 8 else 4  # noqa: E731
    monkeypatch.setattr(device.Device, "choose_width", wide)
    cs.sketch(run, 6, 1, path=tmp_path / "a", device="cuda")
    more = cs.sketch(run, 12, 1, path=tmp_path / "a", device="cuda")
    assert more.target.width == 4 and cs.sketch(run, 12, 1, device="cuda").target.width == 8
    with pytest.raises(cs.errors.StoreError, match="results on a CPU and on a GPU"):
        cs.sketch(run, 12, 1, path=tmp_path / "a")
    with pytest.raises(cs.errors.StoreError, match="was computed on device='cuda'.*differ by rounding"):
        cs.sketch(run, 0, 1, per_example="series", path=tmp_path / "a")
    cs.sketch(run, 6, 1, path=tmp_path / "b")
    with pytest.raises(cs.errors.StoreError, match="results on a CPU and on a GPU"):
        cs.sketch(run, 6, 1, path=tmp_path / "b", device="cuda")


def test_parts_are_pushed_extended_and_opened_on_the_device(tmp_path, monkeypatch):
    """Random directions and every example alone; those that come later go where the first ones went."""
    wide = lambda card, count: 8 if count > 8 else 4  # noqa: E731
    monkeypatch.setattr(device.Device, "choose_width", wide)
    run = network(2)
    look = lambda params: np.tanh(params["w"]).sum(0)  # noqa: E731
    options = {"order": 2, "per_example": "series", "per_example_order": 1}
    theirs = cs.sketch(run, 11, **options).measure(look)
    told = []
    begun = cs.sketch(run, 6, **options, device="cuda", progress=lambda *done: told.append(done))
    assert told[-1] == (4, 4)  # two blocks of directions, and two of the six examples
    more = begun.extend(11)
    stored = cs.sketch(run, 6, **options, device="cuda", path=tmp_path / "a").extend(11)
    opened = cs.open_sketch(tmp_path / "a", run)
    for ours in (more, stored, opened):
        assert ours.device == ours.per_example.device == "cuda"
        assert ours.target.width == 4 and cs.sketch(run, 11, 1, device="cuda").target.width == 8
        assert "device" in ours.info()
        for where in ("cpu", "cuda"):
            found = ours.measure(look, device=where)
            np.testing.assert_allclose(found.coefficients, theirs.coefficients, rtol=0, atol=1e-11)
            np.testing.assert_allclose(found.per_example, theirs.per_example, rtol=0, atol=1e-11)
            np.testing.assert_allclose(
                found.similarity @ found.similarity.T, theirs.similarity @ theirs.similarity.T, atol=1e-11
            )
    assert cs.open_sketch(tmp_path / "a").device == "cuda"
    assert "device" not in cs.sketch(run, 4, 1).info()


def test_a_function_is_sketched_around_a_point_as_on_the_cpu():
    f, at = lambda x: np.tanh(x).sum(), np.linspace(-1, 1, 3)
    ours, theirs = (cs.local_sketch(f, at, 6, 3, device=where) for where in ("cuda", "cpu"))
    np.testing.assert_allclose(ours.coefficients, theirs.coefficients, rtol=0, atol=1e-12)


def test_errors_about_a_run_agree_with_the_cpu():
    step = lambda s, x, keep: s + np.log(keep.sum() - 1.0) * x  # noqa: E731
    bad = cs.Training(step, np.zeros(()), [1.0], [[0]])
    grow = lambda s, x, keep: (s + 1.0) ** 2 * keep[0] * x  # noqa: E731
    steep, calm = (cs.Training(grow, np.zeros(()), [1.0, top, 1.0], [[1], [0], [0]]) for top in (1e200, 1.0))
    fine = cs.Training(lambda s, x, keep: s + (keep[0] ** 3) * x, np.zeros(()), [1.0], [[0]])
    pushed = cs.push(fine, [[1.0]], 2)
    acts = {
        "log.*on_device.py.*step 0 of 1": lambda where: cs.push(bad, [[1.0]], 2, device=where),
        "step 2 of 3.*square.*on_device.py": lambda where: cs.push(steep, np.eye(2), 2, device=where),
        "coefficient 2.*complex64": lambda where: cs.push(fine, [[1e30]], 2, dtype=np.complex64, device=where),
        "step 1 of 3.*square.*on_device.py": lambda where: calm.retrain([[0.0, 0.5], [0.0, -1e200]], device=where),
        "coefficient 1 of the measurement": lambda where: pushed.measure(lambda s: (s - 1.0) * 1e308, device=where),
        "log.*on_device.py": lambda where: pushed.measure(lambda s: np.log(s - 1.0), device=where),
    }
    for match, act in acts.items():
        messages = []
        for where in ("cpu", "cuda"):
            with pytest.raises(cs.CircuitSketchError, match=match) as error:
                act(where)
            messages.append((error.type, str(error.value)))
        assert messages[0] == messages[1]


def test_unsupported_device_requests_are_refused():
    circuit = cs.trace(np.exp, np.zeros(2))
    with pytest.raises(cs.InputError, match="order 9 on device='cuda'.*device='cpu'"):
        cs.compile(circuit, 9, device="cuda").series((np.zeros(2),), (np.ones((1, 1, 2)),))
    with pytest.raises(cs.InputError, match="power of two"):
        cs.compile(circuit, 1, width=6, device="cuda").series((np.zeros(2),), (np.ones((1, 1, 2)),))
    for act in (
        lambda: cs.compile(circuit, device="tpu"),
        lambda: cs.sketch(network(1), 4, device="gpu"),
        lambda: network(1).retrain([0], device="GPU"),
    ):
        with pytest.raises(cs.InputError, match="choose 'cpu' or 'cuda'"):
            act()


def test_directions_that_do_not_fit_are_pushed_in_waves(monkeypatch):
    run = network(2)
    monkeypatch.setattr(device.Device, "choose_width", lambda *_: 4)
    whole = cs.sketch(run, 14, 1, device="cuda")
    one = run.executable(Mode(1), device="cuda").plan_memory(1, run.n)

    def card_for(blocks):
        free = device.RESERVE + int((one.fixed + blocks * one.bytes_per_block) / device.SHARE) + 64
        return lambda: device.Device("small", (9, 0), 1, free, SIMULATED)

    arenas = []
    arena = CudaExecutable.allocate_arena

    def counted(executable, blocks=1):
        arenas.append(blocks)
        return arena(executable, blocks)

    monkeypatch.setattr(CudaExecutable, "allocate_arena", counted)
    monkeypatch.setattr("circuitsketch.backends.cuda.executable.find_device", card_for(3))
    assert_states_agree(cs.sketch(run, 14, 1, device="cuda").state, whole.state, 0.0)
    assert arenas[-2:] == [2, 2]  # four blocks of four, of which three would fit
    monkeypatch.setattr("circuitsketch.backends.cuda.executable.find_device", card_for(0))
    with pytest.raises(DeviceError, match="4 lanes with 2 numbers.*GB of small are available.*device='cpu'"):
        cs.sketch(run, 14, 1, device="cuda")


def test_the_bench_of_a_gpu_runs_and_reports(monkeypatch, tmp_path, capsys):
    """On a small run and an invented card; what its numbers mean is tested in test_bench."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "bench"))
    gpu = importlib.import_module("gpu")
    card = gpu.Card("an invented card", 1e12, 2e12, 1e12)
    monkeypatch.setattr(gpu.Card, "current", staticmethod(lambda: card))
    monkeypatch.setattr(gpu, "training", lambda workload, steps: network(steps))
    options = "--workloads mlp --steps 2 --directions 6 --order 1 --repeats 1 --no-jax --json"
    found = gpu.main([*options.split(), str(tmp_path / "gpu.json")])
    for dtype in ("complex128", "complex64"):
        assert found[f"mlp_{dtype}_seconds"] > 0 and found[f"mlp_{dtype}_over_cpu"] > 0
        assert found[f"mlp_{dtype}_difference"] < TOLERANCE[np.dtype(dtype).type]
        assert 0 < found[f"mlp_{dtype}_fraction_of_bandwidth"] < 1
    said = capsys.readouterr().out
    assert "| seconds: mlp, 2 steps, 6 directions, order 1, float32 |" in said
    assert "6 blocks" not in said and "directions per block; 1 block in 1 wave of 1" in said


@pytest.mark.skipif(SIMULATED, reason="whole runs are too long for the simulator; run this file on a GPU")
@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
@pytest.mark.parametrize("case", ["golden", microgpt, mlp, cnn, logistic], ids=str)
def test_a_large_run_agrees_with_the_cpu(case, dtype):
    run, directions = golden_run() if case == "golden" else zoo_run(case)
    theirs = cs.push(run, directions, 3)
    ours = cs.push(run, directions, 3, dtype=dtype, device="cuda")
    for one, two in zip(flatten(ours.state)[0], flatten(theirs.state)[0], strict=True):
        for k in range(4):
            bound = TOLERANCE[dtype] * max(np.max(np.abs(two[:, k]), initial=0.0), 1e-300)
            np.testing.assert_allclose(one[:, k], two[:, k], rtol=0, atol=bound)
