"""What the CUDA backend is tried on: the comparison of series, runs, and memory that notes who touches it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numba import config

import circuitsketch as cs
from circuitsketch.backends import reference
from circuitsketch.tree import flatten
from circuitsketch.zoo import microgpt

SIMULATED = bool(config.ENABLE_CUDASIM)
TOLERANCE = {np.complex128: 1e-11, np.complex64: 1e-4}


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


class Race(Exception):
    pass


class Watched:
    """A block's memory that notes who touches which number between two waits."""

    def __init__(self, memory):
        self.memory = memory
        self.touched = {}
        self.noting = threading.Lock()

    def __getitem__(self, at):
        if isinstance(at, slice):
            return self.memory[at]
        self.note(at, "reads")
        return self.memory[at]

    def __setitem__(self, at, value):
        self.note(at, "writes")
        self.memory[at] = value

    def note(self, at, what):
        me = threading.current_thread()
        mine = (me.thread_id, what)
        with self.noting:
            others = self.touched.setdefault((me._manager, me.waits, int(at)), {mine})
            if any(who != me.thread_id and "writes" in (what, did) for who, did in others):
                raise Race(f"number {at} after wait {me.waits}: thread {me.thread_id} {what}, {others}")
            others.add(mine)


# Whole runs, where there is a GPU.


def golden_run():
    """The run of test_golden, and its directions."""
    with np.load(Path(__file__).parent / "data" / "microgpt_golden.npz") as file:
        golden = dict(file)
    docs, alphabet = golden["docs"].tolist(), "".join(golden["alphabet"].tolist())
    return microgpt.training(docs, init=golden["init"], alphabet=alphabet), golden["directions"]


def zoo_run(model):
    """A short training of a model of the zoo, and some directions."""
    if model is microgpt:
        run = microgpt.training(microgpt.names()[:40], seed=1, width=32, layers=2)
    else:
        data = model.data(60)
        run = model.training(data.x, data.y, epochs=2, batch_size=16)
    rng = np.random.default_rng(0)
    return run, 0.1 * (rng.normal(size=(9, run.n)) + 1j * rng.normal(size=(9, run.n)))
