"""Models retrained without one example each: the lanes of a block against NumPy and against retraining one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import raises
from steps import by_hand, codes, random_step

import circuitsketch as cs
from circuitsketch.propagate.blocks import by_first_step
from circuitsketch.propagate.retrained import retrain_blocks
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


def models(run, **options):
    """The leaves of every example's model, (n, *shape), in the order of the examples; those that do not vary, once."""
    order = options.get("examples", by_first_step(run))
    blocks = {}
    executable = retrain_blocks(run, lambda block, lanes: blocks.__setitem__(block, lanes.copy()), **options)
    width = executable.target.width
    rows = []
    for leaf, at in zip(run.state_leaves, executable.state_lane, strict=True):
        if at < 0:
            rows.append(None)
            continue
        lanes = [blocks[i // width][at : at + leaf.size, 0, i % width] for i in range(len(order))]
        rows.append(np.empty((run.n, *leaf.shape)))
        for example, lane in zip(order, lanes, strict=True):
            rows[-1][example] = lane.reshape(leaf.shape)
    return rows


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
    retrain_blocks(run, lambda b, lanes: one.__setitem__(b, lanes.copy()), width=4, threads=1)
    for block in (2, 0, 1):  # also in another order
        retrain_blocks(run, lambda b, lanes: two.__setitem__(b, lanes.copy()), width=4, blocks={block}, threads=2)
    assert sorted(one) == sorted(two) == [0, 1, 2]
    assert all(np.array_equal(one[b], two[b]) for b in one)


def test_single_precision_retrains_to_six_digits():
    run = network()
    for mine, theirs in zip(models(run, dtype=np.complex64), models(run), strict=True):
        assert mine is None or np.allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_progress_counts_blocks_up_to_all():
    told = []
    retrain_blocks(network(1), lambda *_: None, width=4, threads=1, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (3, 3) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_model_that_diverges_is_named():
    # The second example holds the state back: without it the square of the square overflows.
    def step(s, x, keep):
        return s * s * (1 - x * keep[0])

    run = cs.Training(step, np.array(1e20), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [[0], [1], [0], [0], [0], [0]])
    with raises(cs.DivergenceError, "diverged at step"):
        retrain_blocks(run, lambda *_: None)
