"""The CUDA backend against the reference evaluator and the CPU: on a GPU, or in Numba's simulator of one.

Not collected by name: `tests/test_cuda.py` runs it in the simulator, in a process of its own, because
NUMBA_ENABLE_CUDASIM=1 must be set before Numba is imported. On a machine with a GPU, `pytest tests/on_device.py` is the
full check; each program is compiled for the device there, so it takes minutes.

Tolerances as in test_kernels: in units of the largest coefficient on any wire.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, cuda
from steps import codes, random_step
from strategies import NAMES, application, programs

import circuitsketch as cs
from circuitsketch.errors import DeviceError
from circuitsketch.kernels import reference
from circuitsketch.kernels.cuda import device, stream
from circuitsketch.sketch.push import push_blocks
from circuitsketch.trace import flatten
from circuitsketch.zoo import microgpt

SIMULATED = bool(config.ENABLE_CUDASIM)
if SIMULATED:
    sys.setswitchinterval(1e-5)  # the simulator's threads wait for each other by polling
TOLERANCE = {np.complex128: 1e-11, np.complex64: 1e-4}
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


def assert_series(function, args, order, *, is_complex=True, dtype=np.complex128, width=4, directions=3):
    """Coefficients computed on the device are the reference's."""
    rng = np.random.default_rng(order)
    circuit = cs.trace(function, *args)
    series = []
    for leaf in args:
        shape = (directions, order, *np.shape(leaf))
        numbers = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if is_complex else 0.0)
        numbers *= 0.5 ** np.arange(1, order + 1).reshape(-1, *(1,) * np.ndim(leaf))
        series.append(numbers if np.asarray(leaf).dtype.kind == "f" else None)
    scale = np.ones(order + 1)

    def watch(wire, node, found):
        for k in range(order + 1):
            scale[k] = max(scale[k], np.max(np.abs(found[k]), initial=0.0))

    theirs = reference.run(circuit, [np.asarray(x, dtype=float) for x in args], series, order, watch)
    scale = np.maximum.accumulate(scale)
    compiled = cs.compile(circuit, order, dtype, width, device="cuda")
    for one, two in zip(flatten(compiled.series(args, tuple(series)))[0], theirs, strict=True):
        for k in range(order + 1):
            bound = TOLERANCE[dtype] * scale[k]
            np.testing.assert_allclose(one[:, k], np.broadcast_to(two, one.shape)[:, k], rtol=0, atol=bound)


@pytest.mark.parametrize("name", NAMES)
def test_every_gate_has_the_reference_series(name):
    for order, is_complex in ((0, True), (1, False), (2, True), (3, False), (4, True)):
        one = application(name, np.random.default_rng(order))
        function = lambda *moving, one=one: one.with_moving(moving)  # noqa: E731
        assert_series(function, one.moving, order, is_complex=is_complex)


@few
@given(program=programs(most=6, outputs=2), order=st.sampled_from([1, 2, 3]), is_complex=st.booleans())
def test_random_programs_have_the_reference_series(program, order, is_complex):
    assert_series(program, program.inputs, order, is_complex=is_complex)


def attention(x, w, labels):
    """A bit of everything that training is made of: contractions, softmax, normalisation, gathers, a gradient."""

    def loss(w):
        a = cs.softmax(np.einsum("bik,kl,bjl->bij", x, w, x)) @ x
        a = a / np.sqrt(np.mean(a * a, axis=-1, keepdims=True) + 0.1)
        return cs.cross_entropy(cs.gelu(a @ w), labels).mean() + (np.maximum(w, 0.1) * np.tanh(w)).sum()

    return loss(w), cs.grad(loss)(w)


@pytest.mark.parametrize(
    ("width", "dtype", "order", "directions"),
    [(4, np.complex64, 2, 5), (8, np.complex128, 1, 9), (1, np.complex128, 1, 2), (4, np.complex128, 8, 1)],
)
def test_lanes_of_every_width_and_precision_carry_the_same_series(width, dtype, order, directions):
    rng = np.random.default_rng(3)
    args = (rng.standard_normal((1, 2, 3)), rng.standard_normal((3, 3)), np.array([[0, 2]]))
    assert_series(attention, args, order, dtype=dtype, width=width, directions=directions)


# Training.


def network(steps=3):
    """Three steps of Adam on a small network, on batches of two sizes."""
    rng = np.random.default_rng(1)

    def loss(params, x, y):
        return cs.cross_entropy(np.tanh(x @ params["w"] + params["b"]) @ params["v"], y)

    def step(state, batch, keep):
        slope = cs.grad(lambda p: (keep * loss(p, *batch)).mean())(state["params"])
        return cs.optim.adam(state, slope, learning_rate=0.05, eps_root=1e-4)

    params = {"w": rng.normal(size=(2, 3)), "b": np.zeros(3), "v": rng.normal(size=(3, 2))}
    counts = [2 + t % 2 for t in range(steps)]
    batches = [(rng.normal(size=(c, 2)), rng.integers(0, 2, c)) for c in counts]
    ids = [[(2 * t + i) % 6 for i in range(c)] for t, c in enumerate(counts)]
    return cs.Training(step, cs.optim.adam_state(params), batches, ids, n=6)


def assert_states_agree(ours, theirs, tolerance):
    for one, two in zip(flatten(ours)[0], flatten(theirs)[0], strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=tolerance * max(np.max(np.abs(two)), 1.0))


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
@pytest.mark.parametrize("is_complex", [True, False])
def test_a_training_run_pushed_through_is_the_cpus(dtype, is_complex):
    rng = np.random.default_rng(0)
    directions = 0.3 * (rng.normal(size=(5, 6)) + (1j * rng.normal(size=(5, 6)) if is_complex else 0.0))
    run = network()
    theirs = cs.push(run, directions, 2, dtype=dtype)
    ours = cs.push(run, directions, 2, dtype=dtype, device="cuda")
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
        ours, theirs = (cs.push(run, directions, 2, device=where).state for where in ("cuda", "cpu"))
        assert_states_agree(ours, theirs, 1e-12)


def test_many_retrainings_are_the_cpus():
    run = network()
    subsets = [[0], [1, 2], [3], [0, 5], [4]]
    assert_states_agree(run.retrain(subsets, device="cuda"), run.retrain(subsets), 1e-11)


def test_launches_of_one_step_and_waves_of_one_block_change_nothing(monkeypatch):
    run = network(4)
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(7, 6)) * (np.arange(7)[:, None] == np.arange(6))  # blocks begin at different steps
    block_of = lambda start, stop: directions[start:stop]  # noqa: E731
    options = {"is_complex": False, "width": 4, "device": "cuda"}
    _, _, whole = push_blocks(run, block_of, 7, 2, **options)
    _, _, theirs = push_blocks(run, block_of, 7, 2, is_complex=False, width=4)
    assert_states_agree(whole, theirs, 1e-12)
    seen = []
    monkeypatch.setattr(stream, "FIRST_STEPS", 1)
    monkeypatch.setattr(device, "blocks_in_flight", lambda *_: 1)
    monkeypatch.setattr("circuitsketch.kernels.cuda.executable.blocks_in_flight", lambda *_: 1)
    _, _, parts = push_blocks(run, block_of, 7, 2, **options, progress=lambda *done: seen.append(done))
    assert np.array_equal(parts, whole)
    assert seen == sorted(seen) and seen[-1] == (2, 2)


def test_errors_about_a_run_are_the_cpus():
    step = lambda s, x, keep: s + np.log(keep.sum() - 1.0) * x  # noqa: E731
    bad = cs.Training(step, np.zeros(()), [1.0], [[0]])
    fine = cs.Training(lambda s, x, keep: s + (keep[0] ** 3) * x, np.zeros(()), [1.0], [[0]])
    for run, directions, dtype in ((bad, [[1.0]], np.complex128), (fine, [[1e30]], np.complex64)):
        messages = []
        for where in ("cpu", "cuda"):
            with pytest.raises(cs.CircuitSketchError) as error:
                cs.push(run, directions, 2, dtype=dtype, device=where)
            messages.append((error.type, str(error.value)))
        assert messages[0] == messages[1]


def test_what_a_device_cannot_do_is_refused():
    circuit = cs.trace(np.exp, np.zeros(2))
    with pytest.raises(cs.InputError, match="order 9 on device='cuda'.*device='cpu'"):
        cs.compile(circuit, 9, device="cuda").series((np.zeros(2),), (np.ones((1, 1, 2)),))
    with pytest.raises(cs.InputError, match="power of two"):
        cs.compile(circuit, 1, width=6, device="cuda").series((np.zeros(2),), (np.ones((1, 1, 2)),))
    with pytest.raises(cs.InputError, match="choose 'cpu' or 'cuda'"):
        cs.compile(circuit, device="tpu")


def test_lanes_that_do_not_fit_come_in_waves_or_are_refused():
    card = device.Device("a card", (9, 0), 132, device.RESERVE + (10 << 30))
    assert device.blocks_in_flight(card, 128, 50 << 20, "lanes") == 128
    assert device.blocks_in_flight(card, 500, 50 << 20, "lanes") == 167  # three equal waves, of at most 184
    with pytest.raises(DeviceError, match="lanes need 21.47 GB.*a card.*complex64"):
        device.blocks_in_flight(card, 1, 20 << 30, "lanes")
    assert [card.lanes_a_block(count) for count in (1, 512, 529, 4096, 10**6)] == [4, 4, 8, 32, 32]


@pytest.mark.skipif(SIMULATED, reason="the golden run is too long for the simulator; run this file on a GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.complex128, 1e-11), (np.complex64, 1e-4)])
def test_the_golden_run_is_the_cpus(dtype, tolerance):
    with np.load(Path(__file__).parent / "data" / "microgpt_golden.npz") as file:
        golden = dict(file)
    docs, alphabet = golden["docs"].tolist(), "".join(golden["alphabet"].tolist())
    run = microgpt.training(docs, init=golden["init"], alphabet=alphabet)
    theirs = cs.push(run, golden["directions"], 3)
    ours = cs.push(run, golden["directions"], 3, dtype=dtype, device="cuda")
    for one, two in zip(flatten(ours.state)[0], flatten(theirs.state)[0], strict=True):
        for k in range(4):
            bound = tolerance * max(np.max(np.abs(two[:, k])), 1e-300)
            np.testing.assert_allclose(one[:, k], two[:, k], rtol=0, atol=bound)
