"""What bounds the time from a trace to a first result: work that grows as the program does, shared kernels, processes
that compile side by side. Work is counted, never timed; numbers are held against NumPy alone.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.backends import compile_progress
from circuitsketch.backends.contract import Phases
from circuitsketch.backends.cpu import compile_workers, llvm
from circuitsketch.backends.cpu.codegen import emit_text
from circuitsketch.backends.cpu.contraction import choose_kernel
from circuitsketch.backends.cpu.executable import link
from circuitsketch.backends.registry import make_target
from circuitsketch.lower.chains import DISTINCT_GATES, FEW, LENGTHS
from circuitsketch.lower.instructions import ChainKernel, Mode
from circuitsketch.lower.tape import lower
from circuitsketch.passes import simplify
from circuitsketch.propagate.progress import show_progress

ORDERS = [0, 3]


def linked(function, args, order, varying=None):
    """A function's executable without machine code, and the kernels that it asks for."""
    circuit = simplify(cs.trace(function, *args))
    mode = Mode(order)
    target = make_target(mode, np.complex128, 4)
    count = len(circuit.inputs)
    executable = link([lower(circuit, range(count), mode)], target, count, False, Phases(0))
    return executable, {choose_kernel(i, target) for i in executable.instructions}


def gates_of(kernels, phase):
    """The gates of all chains of a phase together."""
    return sum(len(k.gates) for k in kernels if isinstance(k, ChainKernel) and k.phase == phase)


def looped(times):
    """A loop on two numbers, unrolled by Python, and its gradient."""

    def loss(p):
        x, y = p[0], p[1]
        for _ in range(times):
            x, y = np.sin(x * y) + 0.1 * y, np.cos(x) * y - x / (1 + x * x)
        return x * y

    return cs.value_and_grad(loss)


GATES_OF_TWO = [
    lambda x, y: x + y,
    lambda x, y: 0.5 * x * y,
    lambda x, y: np.sin(x - y),
    lambda x, y: x / (2 + y * y),
]


def random_loss(p, count, seed=0):
    """Gates on numbers drawn at random: hardly two chains of them are alike."""
    rng = np.random.default_rng(seed)
    wires = [p[i] for i in range(p.shape[0])]
    for _ in range(count):
        x, y = (wires[-rng.integers(1, 8)] for _ in range(2))
        wires.append(GATES_OF_TWO[rng.integers(4)](x, y))
    return sum(wires[-8:])


def likelihood(p, x, y):
    """The log marginal likelihood of a Gaussian process, without its constant, by a Cholesky decomposition on single
    numbers."""
    height, width, noise = p[0], p[1], p[2]
    n = len(y)
    lower_rows, z, total = [], [], 0.0
    for i in range(n):
        row = []
        for j in range(i + 1):
            entry = np.exp(height - 0.5 * ((x[i] - x[j]) * np.exp(-width)) ** 2) + (np.exp(noise) if i == j else 0)
            for k in range(j):
                entry = entry - row[k] * (lower_rows[j][k] if j < i else row[k])
            row.append(np.sqrt(entry) if i == j else entry / lower_rows[j][j])
        lower_rows.append(row)
        rest = y[i]
        for k in range(i):
            rest = rest - row[k] * z[k]
        z.append(rest / row[i])
        total = total - 0.5 * z[i] ** 2 - np.log(row[i])
    return total


POINTS = np.linspace(0, 3, 9)
SEEN = np.sin(2 * POINTS)
HYPER = np.array([0.2, -0.1, -1.5])


def dense_likelihood(p):
    """The same by NumPy's matrices."""
    kernel = np.exp(p[0] - 0.5 * ((POINTS[:, None] - POINTS) * np.exp(-p[1])) ** 2) + np.exp(p[2]) * np.eye(len(POINTS))
    return -0.5 * SEEN @ np.linalg.solve(kernel, SEEN) - 0.5 * np.linalg.slogdet(kernel)[1]


# ------------------------------------------------------------------------------------------- shared kernels


@pytest.mark.parametrize("order", ORDERS)
def test_more_turns_of_a_loop_need_no_more_kernels(order):
    short, long = (linked(looped(times), (np.array([0.3, 0.4]),), order) for times in (60, 120))
    assert len(long[0].instructions) > 1.5 * len(short[0].instructions)
    assert len(long[1]) <= len(short[1]) + 8  # the last, shorter chains may differ


def test_equal_chains_on_other_operands_and_constants_are_one_kernel():
    def twice(x, y):
        one = np.tanh(2.0 * x.sum() + 1.5) * 3.0
        two = np.tanh(7.0 * y.sum() + 0.5) * 9.0
        return one, two

    executable, kernels = linked(twice, (np.zeros(3), np.zeros(4)), 2)
    chains = [i.kernel for i in executable.instructions if isinstance(i.kernel, ChainKernel)]
    assert len(chains) == 4 and len({k for k in kernels if isinstance(k, ChainKernel)}) == 2  # one for each phase


@pytest.mark.parametrize("order", ORDERS)
def test_a_program_without_repetitions_asks_for_few_gates_of_code(order):
    def gradient(p):
        return cs.value_and_grad(random_loss)(p, 800)

    executable, kernels = linked(gradient, (np.linspace(0.1, 0.8, 6),), order)
    for phase in ("constant", "lane") if order else ("constant",):
        chains = [i.kernel for i in executable.instructions if isinstance(i.kernel, ChainKernel)]
        count = sum(len(kernel.gates) for kernel in chains if kernel.phase == phase)
        assert count > 4 * DISTINCT_GATES
        # Which results are kept is known better once all chains are there: some patterns are two kernels.
        assert gates_of(kernels, phase) <= 1.3 * DISTINCT_GATES


def test_chains_have_bounded_length_whatever_their_shape():
    longest = max(map(max, LENGTHS))
    for shape in ((), (3,), (FEW + 1,)):

        def long(x):
            for _ in range(100):
                x = np.sin(x) * 1.1 + x
            return x

        executable, _ = linked(long, (np.zeros(shape),), 1)
        lengths = [len(i.kernel.gates) for i in executable.instructions if isinstance(i.kernel, ChainKernel)]
        assert 1 < max(lengths) <= longest


def test_a_chain_has_as_many_loops_as_axes_are_walked():
    for shape, axes in (((), 0), ((1, 1), 0), ((5,), 1), ((5, 1), 1), ((2, 3), 1)):
        _, kernels = linked(lambda x: np.sin(x) * x, (np.zeros(shape),), 1)
        assert {k.axes for k in kernels} == {axes}, shape
    _, kernels = linked(lambda x, y: np.sin(x.T) * y, (np.zeros((2, 3)), np.zeros((3, 2))), 1)
    assert {k.axes for k in kernels if isinstance(k, ChainKernel)} == {2}


# ------------------------------------------------------------------------------------------- the numbers


def test_values_and_gradients_of_long_programs_on_numbers_are_numpys():
    both = cs.compile(cs.trace(lambda p: cs.value_and_grad(likelihood)(p, POINTS, SEEN), HYPER))
    value, gradient = both(HYPER)
    assert value == pytest.approx(dense_likelihood(HYPER), rel=1e-12)
    for i in range(3):
        step = 1e-5 * np.eye(3)[i]
        slope = (dense_likelihood(HYPER + step) - dense_likelihood(HYPER - step)) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-7)


def test_series_of_long_programs_on_numbers_are_cauchys_integrals():
    # NumPy evaluates the same function at complex numbers around the point: its Fourier coefficients are Taylor's.
    rng = np.random.default_rng(2)
    moves = rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3))
    circuit = cs.trace(lambda p: likelihood(p, POINTS, SEEN), HYPER)
    found = cs.compile(circuit, order=3).series((HYPER,), (moves[:, None],))
    radius, count = 0.02, 16
    circle = radius * np.exp(2j * np.pi * np.arange(count) / count)
    for move, series in zip(moves, found, strict=True):
        values = np.array([likelihood(HYPER + z * move, POINTS, SEEN) for z in circle])
        truth = np.fft.fft(values)[:4] / count / radius ** np.arange(4)
        np.testing.assert_allclose(series, truth, rtol=1e-8)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (FEW + 5,)])
def test_loops_of_every_rank_compute_what_numpy_does(shape):
    def walk(x, y):
        for _ in range(30):
            x, y = np.sin(x * y) + 0.1 * y, np.cos(x) - x / (1 + x * x)
        return x + y

    rng = np.random.default_rng(0)
    args = rng.normal(size=(2, *shape))
    compiled = cs.compile(cs.trace(walk, *args), order=1)
    truth = walk(*args)
    np.testing.assert_allclose(compiled(*args), truth, rtol=1e-11, atol=1e-12)
    move = rng.normal(size=shape)
    series = compiled.series(tuple(args), (move[None, None], None))
    slope = (walk(args[0] + 1e-20j * move, args[1])).imag / 1e-20
    np.testing.assert_allclose(series[0, 1].real, slope, rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------------------------------- linear work


def lines_run(function):
    """How many lines of Python run, every turn of a loop and of a comprehension counted."""
    count = 0

    def step(frame, event, argument):
        nonlocal count
        count += event == "line"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", ["numbers", "layers", "outputs"])
def test_work_from_trace_to_instructions_grows_as_the_program_does(kind):
    def layers(times):
        def loss(w):
            h, total = np.ones(4), 0.0
            for _ in range(times):
                h = np.tanh(w @ h) + 0.5 * h
                total = total + (h * h).sum()
            return total

        return cs.value_and_grad(loss), (np.eye(4),)

    def outputs(times):
        return lambda p: [np.sin(p[i]) * p[i] for i in range(times)], (np.zeros(times),)

    make = {"numbers": lambda n: (looped(n), (np.array([0.3, 0.4]),)), "layers": layers, "outputs": outputs}[kind]
    size = {"numbers": 15, "layers": 12, "outputs": 60}[kind]
    linked(*make(size), 2)  # what is done once in a process, such as filling caches, is not part of the growth
    counts = [lines_run(lambda n=n: linked(*make(n), 2)) for n in (size, 2 * size, 4 * size)]
    # Linear work adds twice as much from the second to the third size as from the first to the second, quadratic work
    # four times as much; a little more than twice is left to sorting.
    assert counts[2] - counts[1] < 2.08 * (counts[1] - counts[0]), counts


def test_a_loop_of_many_thousands_of_gates_needs_no_recursion():
    circuit = cs.trace(lambda x: looped(320)(x), np.array([0.3, 0.4]))
    assert len(circuit.nodes) > 10 * sys.getrecursionlimit()
    mode = Mode(0)
    assert lower(simplify(circuit), [0], mode).constant_groups


# ------------------------------------------------------------------------------------------- side by side


def some_kernels():
    """A target, and different kernels under names of their own."""
    target = make_target(Mode(2), np.complex128, 4)
    _, kernels = linked(lambda p: cs.value_and_grad(random_loss)(p, 60), (np.linspace(0.1, 0.8, 6),), 2)
    return target, {f"{i:032x}": kernel for i, kernel in enumerate(sorted(kernels, key=repr)[:20])}


def test_processes_compile_the_same_bytes_as_this_one(monkeypatch):
    monkeypatch.setattr(compile_workers, "count_cores", lambda: 2)
    target, kernels = some_kernels()
    done, beside = [], []
    codes = dict(compile_workers.compile_missing(kernels, target, lambda: beside.append(len(done))))
    assert codes.keys() == kernels.keys() and len(beside) == 1
    for key, kernel in list(kernels.items())[:4]:
        assert codes[key] == llvm.compile_object(llvm.binding.parse_assembly(emit_text(kernel, target, key)))


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "import sys; sys.stdin.buffer.read(50)"])
def test_kernels_that_worker_processes_did_not_compile_are_compiled_here(monkeypatch, program):
    monkeypatch.setattr(compile_workers, "count_cores", lambda: 2)
    monkeypatch.setattr(compile_workers, "WORKER", program)
    target, kernels = some_kernels()
    assert dict(compile_workers.compile_missing(kernels, target, lambda: None)).keys() == kernels.keys()


def test_no_process_outlives_an_interruption():
    with pytest.raises(KeyboardInterrupt), compile_workers.start_workers(2) as workers:
        assert len(workers) == 2 and all(worker.poll() is None for worker in workers)
        raise KeyboardInterrupt
    assert all(worker.poll() is not None for worker in workers)


WATCHED = """
import json, sys
import numpy as np
import circuitsketch as cs
from circuitsketch.backends import compile_progress
compile_progress.PATIENCE = 0.0
told = []
def walk(x):
    for i in range(3):
        x = np.sin(x) * x + np.exp(-x * x) @ np.ones((3, 3)) / (1 + i)
    return x
with compile_progress.watch_compiling(lambda done, total: told.append((done, total))):
    f = cs.compile(cs.trace(cs.value_and_grad(lambda x: walk(x).sum()), np.ones(3)), order=2)
    series = f.series((np.ones(3),), (np.ones((1, 1, 3)),))
print(json.dumps([told, compile_progress.describe_compiling(7), series[0].real.tolist()]))
"""


def test_compiling_is_counted_and_what_is_kept_is_not_compiled_again(tmp_path):
    answers = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", WATCHED],
            env={**os.environ, "CIRCUITSKETCH_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stderr  # nothing is said where nobody watches a terminal
        answers.append(json.loads(done.stdout))
    (cold, words, first), (warm, _, second) = answers
    assert warm == [] and first == second
    total = len(cold)
    assert total > 8 and cold == [[done, total] for done in range(1, total + 1)]
    assert words == f"compiling 7 kernels (cached in {tmp_path})"


# ------------------------------------------------------------------------------------------- bars


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def test_a_bar_that_knows_no_total_shows_no_time_left(terminal):
    with show_progress(True, terminal):
        pass
    text = terminal.getvalue()
    assert "0/?" in text and "left" not in text


def test_a_bar_counts_kernels_above_the_blocks_and_is_silent_off_a_terminal(terminal):
    with show_progress(True, terminal) as tell:
        watch = compile_progress.REPORT.get()
        for done in range(1, 41):
            watch(done, 40)
        tell(0.5, 4)
        tell(4, 4)
    text = terminal.getvalue()
    assert "compiling 40 kernels (cached in " in text and "40/40" in text and "4/4" in text and "left" in text
    assert compile_progress.REPORT.get() is None
    with show_progress(True, io.StringIO()):
        assert compile_progress.REPORT.get() is None
    with show_progress(None):
        assert compile_progress.REPORT.get() is None
