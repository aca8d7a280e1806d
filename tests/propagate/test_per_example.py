"""Single examples exactly, weights by group, similarities, more directions later: what a sketch hands to its queries.

The oracles: Cauchy's formula on runs by hand, directions pushed one by one, sums written out over the examples.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from steps import by_hand, on_a_circle

import circuitsketch as cs
from circuitsketch.directions import Basis
from circuitsketch.estimators import similarity as metrics
from circuitsketch.propagate import blocks as pushing
from circuitsketch.propagate.blocks import by_first_step
from circuitsketch.propagate.progress import show_progress

RNG = np.random.default_rng(3)
N = 11
X = RNG.standard_normal((N, 2))
Y = (X[:, 0] > 0.2).astype(int)
# Every example is read twice, in an order that is not that of the ids; example 7 never.
BATCHES = [[9, 3], [0, 10], [5, 1], [8, 2], [6, 4], [2, 9], [4, 0], [10, 3], [1, 8], [6, 5]]
LABELS = ["b", "a", "b", "c", "a", "a", "c", "b", "c", "b", "a"]


def step(state, x, keep):
    """Smooth, not a polynomial, with a leaf that no weight reaches."""
    p = state["params"]
    w = p["w"] + 0.4 * np.tanh(keep @ x + 0.3 * p["w"] * p["b"])
    b = 0.9 * p["b"] + 0.2 * np.sin(keep @ np.sum(x * p["w"], axis=1))
    return {"params": {"w": w, "b": b}, "count": state["count"] + 1.0}


START = {"params": {"w": np.array([0.3, -0.5]), "b": np.array(0.1)}, "count": np.zeros(())}


def make(**options):
    return cs.Training(step, START, [X[ids] for ids in BATCHES], BATCHES, n=N, **options)


def measure(p):
    return np.stack([p["w"][0] * p["b"], np.exp(p["w"][1])])


def truth(direction, order):
    """The measurement's coefficients along a direction, by runs in plain NumPy on a circle of complex weights."""
    ids = [np.array(batch) for batch in BATCHES]
    run = lambda z: measure(by_hand(step, START, [X[i] for i in ids], ids, z * direction / 4)["params"])  # noqa: E731
    scale = 4.0 ** np.arange(order + 1)  # a smaller circle, inside the radius of convergence
    return on_a_circle(run, order, points=128) * scale[:, None]


# ------------------------------------------------------------------------------------------- single examples


@pytest.mark.parametrize("directions", [0, 5])
def test_per_example_series_are_those_of_each_example_alone(directions):
    query = cs.sketch(make(), directions, 2, per_example="series", per_example_order=5).measure(measure)
    assert query.per_example.shape == (N, 6, 2) and query.per_example.dtype == np.float64
    assert query.coefficients.shape == (directions, 3, 2)
    for i in range(N):
        expected = truth(np.eye(N)[i], 5)
        assert np.abs(expected.imag).max() < 1e-9
        np.testing.assert_allclose(query.per_example[i], expected.real, atol=1e-9)
    assert not query.per_example[7, 1:].any()  # nobody reads it
    assert np.abs(query.per_example[np.arange(N) != 7, 1]).min() > 1e-6


def test_random_directions_are_the_same_bits_with_and_without_per_example_series():
    both = cs.sketch(make(), 9, 3, seed=5, per_example="series").measure(measure)
    alone = cs.sketch(make(), 9, 3, seed=5).measure(measure)
    assert np.array_equal(both.coefficients, alone.coefficients)
    assert alone.per_example is None and alone.similarity is None
    assert both.per_example.shape[1] == 4  # the order of the directions


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_per_example_series_are_the_same_bits_on_any_number_of_threads(dtype):
    make_one = lambda threads: cs.sketch(make(), 0, 3, per_example="series", dtype=dtype, threads=threads)  # noqa: E731
    first = make_one(1)
    for threads in (2, 3):
        again = make_one(threads)
        assert np.array_equal(first.per_example.lanes, again.per_example.lanes)
        assert np.array_equal(first.measure(measure).per_example, again.measure(measure).per_example)


def test_a_block_of_per_example_series_skips_the_steps_before_its_first_example(monkeypatch):
    width = cs.sketch(make(), 0, 1, per_example="series").per_example.target.width
    steps, n = 12 * width, 12 * width
    order = np.random.default_rng(0).permutation(n)  # of step t, the example
    run = cs.Training(lambda s, x, keep: s + keep[0] * x, np.zeros(()), np.ones(steps), order[:, None])
    assert np.array_equal(by_first_step(run), order)
    begins = []
    original = pushing.first_step
    monkeypatch.setattr(pushing, "first_step", lambda run, row: begins.append(original(run, row)) or begins[-1])
    found = cs.sketch(run, 0, 1, per_example="series", threads=1)
    assert begins == list(range(0, steps, width))
    np.testing.assert_array_equal(found.measure(lambda s: s).per_example, [[steps, -1.0]] * n)


def test_an_example_is_placed_by_its_first_of_many_reads():
    run = make()
    flat = [i for batch in BATCHES for i in batch]
    assert list(by_first_step(run)) == [*dict.fromkeys(flat), 7]


def test_basis_directions_come_in_the_order_that_they_are_asked_for():
    distribution = Basis(4, np.array([2, 0, 3, 1]))
    np.testing.assert_array_equal(distribution.block(1, 4), np.eye(4)[[0, 3, 1]])
    for bad in ([0, 1, 2], [0, 0, 1, 2], [1, 2, 3, 4]):
        with pytest.raises(cs.InputError, match="each once"):
            Basis(4, np.array(bad))


# ------------------------------------------------------------------------------------------- groups


def test_groups_share_a_weight_in_per_example_series_and_random_directions():
    sketch = cs.sketch(make(items=range(N)), 7, 3, per_example="series", groups=LABELS, seed=2)
    query = sketch.measure(measure)
    assert (sketch.n, query.n, query.labels, query.items) == (3, 3, ("b", "a", "c"), ("b", "a", "c"))
    member = np.array([[label == group for label in LABELS] for group in "bac"], dtype=float)
    given = cs.push(make(), member, 3).measure(measure)
    np.testing.assert_allclose(query.per_example, given.coefficients, atol=1e-13)
    spread = sketch.directions @ member
    np.testing.assert_allclose(query.coefficients, cs.push(make(), spread, 3).measure(measure).coefficients, atol=1e-12)


def test_a_grouped_run_retrains_whole_groups():
    run, grouped = make(), make().grouped(LABELS)
    assert grouped.n == 3 and grouped.groups == tuple(LABELS) and run.n == N and run.groups is None
    for number, label in enumerate("bac"):
        without = [i for i in range(N) if LABELS[i] == label and i != 7]
        expected, found = run.retrain(without=without), grouped.retrain(without=[number])
        for name in ("w", "b"):
            np.testing.assert_array_equal(expected["params"][name], found["params"][name])


def test_few_groups_are_known_exactly_from_enough_directions():
    run = cs.Training(lambda s, x, keep: s + keep @ x, np.zeros(2), [X[ids] for ids in BATCHES], BATCHES, n=N)
    query = cs.sketch(run, 3, 1, groups=LABELS).measure(lambda p: p)  # orthonormal by default: a full frame of three
    for number, label in enumerate("bac"):
        without = [i for i in range(N) if LABELS[i] == label and i != 7]
        np.testing.assert_allclose(query.predict(np.eye(3)[number]).value, run.retrain(without), atol=1e-12)


# ------------------------------------------------------------------------------------------- similarities


def effects(sketch):
    """J by hand: what each example does to the trained parameters at first order, leaf after leaf."""
    rows = []
    for i in range(N):
        state = cs.push(make(), np.eye(N)[i : i + 1], 1).state["params"]
        rows.append(np.concatenate([state["w"][0, 1], [state["b"][0, 1]]]).real)
    return np.array(rows)


def test_the_similarity_is_learned_from_first_order_effects_on_the_parameters():
    sketch = cs.sketch(make(), 2, 2, per_example="series")
    factor = sketch.measure(measure).similarity
    np.testing.assert_allclose(factor, effects(sketch), atol=1e-13)
    assert factor is sketch.similarity  # made once


@pytest.mark.parametrize("at_once", [1, 8 * 6 * 2, 1 << 20])
def test_more_parameters_than_examples_are_reduced_without_changing_the_similarity(monkeypatch, at_once):
    monkeypatch.setattr(metrics, "AT_ONCE", at_once)
    x = np.random.default_rng(1).standard_normal((6, 40))
    run = cs.Training(lambda s, x, keep: s + np.tanh(keep[0] * x), np.zeros(40), list(x), np.arange(6)[:, None])
    factor = cs.sketch(run, 0, 2, per_example="series").similarity
    exact = -x / np.cosh(x) ** 2  # d tanh(keep x) / d w at keep = 1
    assert factor.shape == (6, 6)
    np.testing.assert_allclose(factor @ factor.T, exact @ exact.T, rtol=1e-10, atol=1e-12)


def test_chosen_parameters_make_the_similarity_even_if_they_are_computed():
    run = make(params=lambda state: {"twice": 2.0 * state["params"]["w"], "count": state["count"]})
    factor = cs.sketch(run, 0, 1, per_example="series").similarity
    expected = 2.0 * effects(None)[:, :2]
    np.testing.assert_allclose(factor, np.column_stack([expected, np.zeros(N)]), atol=1e-13)


def test_a_given_similarity_is_handed_on_as_a_factor():
    features = RNG.standard_normal((N, 4))
    found = cs.sketch(make(), 2, 1, similarity=features).measure(measure).similarity
    np.testing.assert_array_equal(found, features)
    similar = features @ features.T
    for given in (similar, similar + 1e-12 * RNG.standard_normal((N, N))):  # by rounding, neither symmetric nor >= 0
        found = cs.sketch(make(), 2, 1, per_example="series", similarity=given).measure(measure).similarity
        assert found.shape[0] == N and found.shape[1] < N
        np.testing.assert_allclose(found @ found.T, similar, atol=1e-9)
    wide = RNG.standard_normal((N, 30))
    found = cs.sketch(make(), 2, 1, similarity=wide).similarity
    assert found.shape == (N, N)
    np.testing.assert_allclose(found @ found.T, wide @ wide.T, atol=1e-9)


def test_without_first_orders_there_is_no_similarity_to_learn():
    still = cs.Training(lambda s, x, keep: s + (keep - 1.0) ** 2 @ x, np.zeros(2), [X[:2]], [[0, 1]])
    assert not cs.sketch(still, 0, 1, per_example="series").similarity.any()


# ------------------------------------------------------------------------------------------- more later


@pytest.mark.parametrize("per_example", [None, "series"])
@pytest.mark.parametrize(("first", "then"), [(1, 2), (3, 13), (8, 9), (8, 24)])
def test_an_extended_sketch_has_the_bits_of_one_made_at_once(per_example, first, then):
    once = cs.sketch(make(), then, 3, seed=4, per_example=per_example)
    small = cs.sketch(make(), first, 3, seed=4, per_example=per_example)
    before = small.measure(measure).coefficients
    large = small.extend(then)
    assert large.count == then and np.array_equal(large.lanes, once.lanes)
    mine, theirs = large.measure(measure), once.measure(measure)
    assert np.array_equal(mine.coefficients, theirs.coefficients)
    if per_example:
        assert np.array_equal(mine.per_example, theirs.per_example) and np.array_equal(
            mine.similarity, theirs.similarity
        )
    assert small.count == first and np.array_equal(small.measure(measure).coefficients, before)


def test_an_extension_pushes_only_what_is_new():
    width = cs.sketch(make(), 1, 1).target.width
    sketch = cs.sketch(make(), 2 * width + 1, 1, per_example="series")
    told = []
    sketch.extend(5 * width, progress=lambda *numbers: told.append(numbers))
    alone = -(-N // width)
    assert told == [(done, 5 + alone) for done in (3, 4, 5)]  # the block with lanes to spare is made again


def test_random_directions_may_be_added_after_per_example_series():
    once = cs.sketch(
        make(), 6, 2, seed=9, distribution="sphere", per_example="series", per_example_order=4, dtype=np.complex64
    )
    later = cs.sketch(
        make(), 0, 2, seed=9, distribution="sphere", per_example="series", per_example_order=4, dtype=np.complex64
    )
    assert later.count == 0 and later.order == 2
    later = later.extend(directions=6)
    assert np.array_equal(later.lanes, once.lanes) and np.array_equal(later.per_example.lanes, once.per_example.lanes)


# ------------------------------------------------------------------------------------------- what is told


def test_labels_and_items_reach_the_query():
    items = [f"name {i}" for i in range(N)]
    query = cs.sketch(make(labels=np.array(LABELS), items=items), 2, 1).measure(measure)
    assert query.labels == tuple(LABELS) and query.items == tuple(items)


def test_sketch_info_shows_every_fact():
    run = make(labels=LABELS, items=range(N))
    text = cs.sketch(run, 6, 2, seed=8, per_example="series", per_example_order=4).info()
    for words in (
        "6 complex directions (orthonormal, seed 8) to order 2",
        "each of the 11 examples alone, exactly, to order 4",
        "labels     3: b, a, c",
        "items      0, 1, 2, 3, 4, 5, ...",
        "learned",
        f"10 steps on 11 examples, size(A) = {run.size:,} scalar gates",
        "circuits ",
        "4 numbers in 3 leaves",
        "MB of float64",
    ):
        assert words in text, words
    text = cs.sketch(
        run, 0, 2, per_example="series", groups=LABELS, similarity=np.ones((3, 2)), dtype=np.complex64
    ).info()
    for words in ("3 of 11 examples", "each of the 3 groups alone", "given, as 2 columns", "MB of float32"):
        assert words in text, words
    assert "4 real directions (given) to order 1" in cs.push(run, np.eye(4, N), 1).info()


def test_a_bar_shows_rate_and_remaining_time():
    stream = io.StringIO()
    with show_progress(True, stream) as tell:
        for done in range(40, 101):
            tell(done, 100)
    text = stream.getvalue()
    assert "100/100" in text and "blocks/s" in text and "left" in text


def test_progress_counts_all_parts_and_true_draws_a_bar(capfd):
    told = []
    sketch = cs.sketch(make(), 9, 1, per_example="series", progress=lambda *numbers: told.append(numbers))
    blocks = -(-9 // sketch.target.width) - (-N // sketch.target.width)
    assert told == [(done, blocks) for done in range(1, blocks + 1)]
    cs.sketch(make(), 9, 1, progress=True)
    assert "blocks/s" in capfd.readouterr().err


# ------------------------------------------------------------------------------------------- what is refused


BAD = {
    "a kind of singles": (lambda: cs.sketch(make(), 2, per_example="all"), "choose 'series'"),
    "an order of no singles": (lambda: cs.sketch(make(), 2, per_example_order=2), "per_example is None"),
    "singles of order 0": (
        lambda: cs.sketch(make(), 2, per_example="series", per_example_order=0),
        "per_example_order=1 or more",
    ),
    "half an order of singles": (
        lambda: cs.sketch(make(), 2, per_example="series", per_example_order=0.5),
        "an integer from 0 to",
    ),
    "no directions at all": (lambda: cs.sketch(make(), 0), "at least 1, not 0"),
    "directions below none": (lambda: cs.sketch(make(), -1, per_example="series"), "at least 1, not -1"),
    "directions that are False": (lambda: cs.sketch(make(), False, per_example="series"), "not False"),
    "too few groups": (lambda: cs.sketch(make(), 2, groups=["a", "b"]), "2 entries for n = 11 examples"),
    "groups that are one word": (lambda: cs.sketch(make(), 2, groups="abcabcabcab"), "one entry per example"),
    "groups that are lists": (lambda: cs.sketch(make(), 2, groups=[[1]] * N), r"groups\[0\] is \[1\]"),
    "groups that are NaN": (lambda: make().grouped([0.0, np.nan] + [1.0] * 9), r"groups\[1\] is nan"),
    "no groups": (lambda: make().grouped(None), "not None"),
    "labels of another length": (lambda: make(labels=range(3)), "labels has 3 entries"),
    "labels in a set": (lambda: make(labels=set(range(N))), "one entry per example, not set"),
    "items that are a number": (lambda: make(items=3), "items must be a list"),
    "a similarity of another length": (lambda: cs.sketch(make(), 2, similarity=np.eye(3)), r"shape \(3, 3\)"),
    "a similarity of words": (lambda: cs.sketch(make(), 2, similarity=[["a"]] * N), "real numbers"),
    "a similarity with a NaN": (lambda: cs.sketch(make(), 2, similarity=np.full((N, 2), np.nan)), "in row 0"),
    "a similarity without columns": (lambda: cs.sketch(make(), 2, similarity=np.zeros((N, 0))), "give a similarity"),
    "a similarity that is not symmetric": (lambda: cs.sketch(make(), 2, similarity=np.tri(N)), "not symmetric"),
    "a similarity below zero": (lambda: cs.sketch(make(), 2, similarity=-np.eye(N)), "eigenvalue -1"),
    "fewer than there are": (lambda: cs.sketch(make(), 5).extend(5), "a larger number"),
    "more given directions": (lambda: cs.push(make(), np.eye(N)).extend(20), "no seed goes on with"),
    "progress of a kind": (lambda: cs.sketch(make(), 2, progress="bar"), "progress must be True or a function"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_sketch_arguments_are_refused(name):
    act, words = BAD[name]
    with pytest.raises(cs.InputError, match=words):
        act()


DICE = np.random.default_rng(0)
UNMEASURABLE = {
    "a missing parameter": (lambda p: p["nope"], "KeyError: 'nope'; .* state.params.w"),
    "a missing attribute": (lambda p: p.w, "AttributeError"),
    "too many arguments": (lambda p, q: p, "missing 1 required positional argument"),
    "random numbers": (lambda p: p["b"] * DICE.normal(), "something different each time"),
    "a counter": (lambda p, seen=[]: seen.append(0) or p["b"] * len(seen), "something different each time"),
    "another shape": (lambda p: p["w"] @ np.ones(3), "lengths"),
    "nothing": (lambda p: None, "returns no value"),
    "no function": (3, "not int"),
    "a branch": (lambda p: 1.0 if p["b"] > 0 else 0.0, "np.where"),
    "a plain number's function": (lambda p: float(p["b"]), "keep computing"),
}


@pytest.mark.parametrize("name", UNMEASURABLE)
def test_a_measurement_that_does_not_read_the_state_is_refused(name):
    function, words = UNMEASURABLE[name]
    with pytest.raises(cs.CircuitSketchError, match=words):
        cs.sketch(make(), 2, 1, per_example="series").measure(function)
