"""Models retrained without one example each: the lanes of a block against NumPy and against retraining one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import raises
from steps import by_hand, codes, random_step

import circuitsketch as cs
from circuitsketch.propagate.blocks import by_first_step, first_steps
from circuitsketch.propagate.coefficients import trace_measurement
from circuitsketch.propagate.retrained import measure_retrained, retrain_blocks
from circuitsketch.tree import flatten

N = 11


def network(epochs=3):
    """A ReLU network with Adam, in minibatches of different sizes; the last example is read by no step."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, 3)), rng.integers(0, 2, N)

    def loss(p, x, y):
        return cs.cross_entropy(np.maximum(x @ p["w"], 0.0) @ p["v"], y)

    def step(state, batch, keep):
        slopes = cs.grad(lambda p: (keep * loss(p, *batch)).mean())(state["params"])
        return cs.optim.adam(state, slopes, 0.05)

    ids = [part for _ in range(epochs) for part in np.split(rng.permutation(N - 1), [4, 8])]
    params = {"w": rng.normal(size=(3, 5)), "v": rng.normal(size=(5, 2))}
    return cs.Training(step, cs.optim.adam_state(params), [(x[i], y[i]) for i in ids], ids, n=N)


def models(run, weight=1.0, examples=None, **options):
    """The leaves of every example's model, (n, *shape), in the order of the examples; None for constant ones."""
    order = by_first_step(run) if examples is None else examples
    basis = weight * np.eye(run.n)[order]
    blocks = {}
    executable = retrain_blocks(
        run,
        lambda a, b: basis[a:b],
        len(order),
        lambda block, lanes: blocks.__setitem__(block, lanes.copy()),
        **options,
    )
    width = executable.target.width
    leaves = []
    for leaf, at in zip(run.state_leaves, executable.state_lane, strict=True):
        if at < 0:
            leaves.append(None)
            continue
        leaves.append(np.empty((run.n, *leaf.shape)))
        for i, example in enumerate(order):
            leaves[-1][example] = blocks[i // width][at : at + leaf.size, 0, i % width].reshape(leaf.shape)
    return leaves


@pytest.mark.parametrize("weight", [1.0, 0.5, -1.0])
def test_every_model_is_the_retraining_without_its_example(weight):
    run = network()
    right = flatten(run.retrain(weight * np.eye(N)))[0]
    for mine, theirs in zip(models(run, weight=weight), right, strict=True):
        if mine is not None:
            # Steps before the first example are summed as scalars and not as lanes: other roundings.
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@given(codes, codes, st.lists(st.integers(0, 8), min_size=4, max_size=4), st.data())
def test_random_steps_are_retrained_as_in_numpy(long, short, results, data):
    step = random_step([long, short], [results[:2], results[2:]])
    state = (np.eye(2), np.full((2, 2), 0.5))
    examples = data.draw(st.lists(st.permutations(range(4)), min_size=2, max_size=4))
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(2, 2) if data.draw(st.booleans()) else (1, 2, 2)) for _ in examples]
    run = cs.Training(step, state, batches, examples, n=4)
    for number, mine in enumerate(models(run, threads=1)):
        if mine is not None:
            right = [by_hand(step, state, batches, np.array(examples), np.eye(4)[i])[number] for i in range(4)]
            np.testing.assert_allclose(mine, right, rtol=1e-9, atol=1e-9)


def test_an_example_that_no_step_reads_leaves_the_plain_model():
    run = network(1)
    plain = flatten(run.train())[0]
    for mine, theirs in zip(models(run, examples=np.array([N - 1])), plain, strict=True):
        assert mine is None or np.array_equal(mine[N - 1], theirs)


def test_blocks_are_the_same_bits_on_any_number_of_threads_and_one_by_one():
    run = network()
    one, two = {}, {}
    rows = lambda a, b: np.eye(N)[by_first_step(run)][a:b]  # noqa: E731
    retrain_blocks(run, rows, N, lambda b, lanes: one.__setitem__(b, lanes.copy()), width=4, threads=1)
    for block in (2, 0, 1):  # also in another order
        retrain_blocks(
            run, rows, N, lambda b, lanes: two.__setitem__(b, lanes.copy()), width=4, blocks={block}, threads=2
        )
    assert sorted(one) == sorted(two) == [0, 1, 2]
    assert all(np.array_equal(one[b], two[b]) for b in one)


def test_single_precision_retrains_to_six_digits():
    run = network()
    for mine, theirs in zip(models(run, dtype=np.complex64), models(run), strict=True):
        assert mine is None or np.allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_progress_counts_blocks_up_to_all():
    reports = []
    rows = lambda a, b: np.eye(N)[a:b]  # noqa: E731
    retrain_blocks(
        network(1), rows, N, lambda *_: None, width=4, threads=1, progress=lambda *numbers: reports.append(numbers)
    )
    assert reports[-1] == (3, 3) and [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_a_model_that_diverges_is_named():
    # The second example holds the state back: without it the square of the square overflows.
    def step(s, x, keep):
        return s * s * (1 - x * keep[0])

    run = cs.Training(step, np.array(1e20), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [[0], [1], [0], [0], [0], [0]])
    with raises(cs.DivergenceError, "diverged at step"):
        retrain_blocks(run, lambda a, b: np.eye(2)[a:b], 2, lambda *_: None)


def test_models_are_measured_as_lanes():
    run = network()
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4, 3))
    measure = lambda p: {"out": np.maximum(x @ p["w"], 0.0) @ p["v"], "norm": (p["w"] ** 2).sum(), "data": x}  # noqa: E731
    weights = rng.random(size=(7, N))
    state = flatten(run.train())[0]
    circuit = trace_measurement(measure, (), run.train(), run.params)
    values, distances = measure_retrained(run, circuit, state, lambda a, b: weights[a:b], 7)
    models = run.retrain(weights)
    for i in range(7):
        model = {key: leaf[i] for key, leaf in models["params"].items()}
        right = np.concatenate([np.ravel(leaf) for leaf in flatten(measure(model))[0]])
        np.testing.assert_allclose(values[i], right, rtol=1e-12)
        moved = [leaf[i] - plain for leaf, plain in zip(flatten(models)[0], state, strict=True) if leaf[i].ndim]
        assert distances[i] == pytest.approx(np.sqrt(sum((part**2).sum() for part in moved)), rel=1e-6)


def test_the_first_step_of_an_example_is_the_one_that_reads_it_first():
    # Steps 1 and 4 read nobody, example 4 is never read.
    examples = [[2], [], [0, 2], [3, 1, 0], []]
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0] * 5, examples, n=5)
    np.testing.assert_array_equal(first_steps(run), [2, 3, 0, 3, 5])
    np.testing.assert_array_equal(by_first_step(run), [2, 0, 3, 1, 4])
