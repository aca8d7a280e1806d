"""Plans: what the theorem promises is kept, with fewer directions nobody would have promised it, and costs are right.

The oracles: binomial tails summed term by term, a search over all plans, sketches of a function whose alpha is known.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.zoo import microgpt


def tail(k, p):
    """P(Bin(k, p) >= (k + 1) / 2), term by term."""
    return sum(math.comb(k, j) * p**j * (1 - p) ** (k - j) for j in range((k + 1) // 2, k + 1))


def promise(plan):
    """An upper bound of the probability that the median is off by more than epsilon alpha, from Wick's variances."""
    spread = sum(math.sqrt(math.factorial(2 * r)) / math.factorial(r) / 4**r for r in range(1, plan.order + 1))
    slack = plan.epsilon - sum(4.0**-r for r in range(plan.order + 1, 200))
    assert slack > 0
    return tail(plan.median_groups, min(spread**2 / (plan.per_group * slack**2), 1.0))


WANTED = [(0.5, 0.05), (0.1, 0.05), (0.1, 0.01), (0.03, 0.2), (0.02, 1e-6), (0.001, 1e-3), (3.0, 0.3)]


@pytest.mark.parametrize(("epsilon", "delta"), WANTED)
def test_a_plan_keeps_the_promise_and_no_cheaper_one_does(epsilon, delta):
    plan = cs.plan(epsilon, delta, 7.0)
    assert promise(plan) <= delta * (1 + 1e-9)
    assert plan.error == 7.0 * epsilon and plan.directions == plan.per_group * plan.median_groups
    assert plan.truncation == pytest.approx(7.0 * sum(4.0**-r for r in range(plan.order + 1, 200)))
    cost = plan.directions * plan.order * (plan.order + 1)
    for order in range(1, 9):
        slack = epsilon - sum(4.0**-r for r in range(order + 1, 200))
        if slack <= 0:
            continue
        for groups in range(1, 60, 2):
            cheaper = (cost - 1) // (groups * order * (order + 1))  # directions a group, at a lower cost
            other = cs.Plan(epsilon, delta, 1.0, order, cheaper, groups, epsilon, 0.0)
            assert cheaper < 1 or promise(other) > delta * (1 - 1e-9), other


def test_the_promise_holds_on_a_function_of_known_alpha():
    # f(x) = (1 + q . x)^-1 around 0: F_r = (-1)^r q^(x)r with |F_r| = |q|^r, so alpha(R) is R |q| for R |q| <= 1.
    n, h = 6, np.array([1.0, 0, 1.0, 0, 0, 0])
    q = np.array([0.5, -0.3, 0.4, 0.1, 0.6, -0.2])
    q = q / np.linalg.norm(q) / (4 * np.linalg.norm(h))
    alpha, truth = 1.0, 1 / (1 + q @ h)
    plan = cs.plan(0.25, 0.1, alpha)
    off = []
    for seed in range(60):
        wanted = (plan.directions, plan.order, seed)
        query = cs.local_sketch(lambda x: 1.0 / (1.0 + x @ q), np.zeros(n), *wanted, distribution="sphere")
        off.append(abs(query.predict(h, median_groups=plan.median_groups).value - truth))
    assert np.mean(np.array(off) > plan.error) <= plan.delta
    assert max(off) > plan.error / 20  # the promise is not idle: within a factor


XS = np.linspace(0.4, 1.3, 9)


def small_run():
    """Nine examples, each read once, whose weights go through sines."""
    step = lambda s, x, keep: 0.5 * np.sin(s) + 0.3 * (keep * np.cos(x + s)).sum()  # noqa: E731
    return cs.Training(step, np.zeros(()), [np.ones(1) * x for x in XS], [[i] for i in range(len(XS))])


@pytest.mark.parametrize(("deleted", "scale"), [(1, 300.0), (3, 300.0), (2, 0.05)])
def test_the_promise_holds_against_retraining_with_alpha_from_a_pilot(deleted, scale):
    run = small_run()
    measure = lambda s: scale * np.tanh(s)  # noqa: E731
    pilot = cs.sketch(run, 48, 4, seed=99, distribution="sphere").measure(measure)
    epsilon, delta = 0.4, 0.1
    plan = cs.plan(epsilon, delta, query=pilot, deleted=deleted)
    assert plan.alpha_is == "measured" and plan.error == pytest.approx(epsilon * plan.alpha)
    rng = np.random.default_rng(deleted)
    subsets = [sorted(rng.choice(run.n, deleted, replace=False).tolist()) for _ in range(4)]
    truth = measure(run.retrain(subsets))
    off = []
    for seed in range(50):
        query = cs.sketch(run, plan.directions, plan.order, seed, distribution="sphere").measure(measure)
        found = query.without(subsets, estimator="theorem", median_groups=plan.median_groups)
        off.append(np.abs(found.value - truth))
    share = np.mean(np.array(off) > plan.error, axis=0)  # of each subset, over seeds
    assert (share <= delta + 3 * math.sqrt(delta * (1 - delta) / 50)).all(), share
    assert np.max(off) > plan.error / 100  # and is not idle
    if scale > 1:  # what was said with alpha taken as 1 does not hold
        assert np.mean(np.array(off) > epsilon) > 2 * delta
    else:
        assert plan.error < epsilon / 10


def test_alpha_is_the_largest_scaled_norm_of_a_polynomial_that_is_known():
    # f(x) = a . x + (b . x)^2 in four coordinates: F_1 = a, F_2 = b b^T, nothing above.
    a, b = np.array([0.3, -0.1, 0.2, 0.05]), np.array([0.1, 0.2, -0.05, 0.1])
    query = cs.local_sketch(lambda x: x @ a + (x @ b) ** 2, np.zeros(4), 400, 4, distribution="sphere")
    for deleted in (1, 2, 9):
        plan = cs.plan(0.2, 0.1, query=query, deleted=deleted)
        radius = 4 * math.sqrt(deleted)
        exact = max(radius * np.linalg.norm(a), radius**2 * np.linalg.norm(b) ** 2)
        assert exact * 0.98 < plan.alpha < exact * 1.25, deleted
    assert "1 coordinate" in str(cs.plan(0.2, 0.1, query=query))
    wide = cs.local_sketch(lambda x: np.stack([x @ a, 5 * (x @ a)]), np.zeros(4), 400, 2, distribution="sphere")
    assert cs.plan(0.2, 0.1, query=wide).alpha == pytest.approx(20 * np.linalg.norm(a), rel=0.2)  # the larger value's


def test_a_plan_says_what_its_alpha_is():
    assert "0.1 alpha with probability" in str(cs.plan(0.1, 0.05))
    assert "was taken as 1" in str(cs.plan(0.1, 0.05))
    given = str(cs.plan(0.1, 0.05, 7.0))
    assert "at most 0.7 = 0.1 alpha" in given and "7, as given" in given and "taken as 1" not in given
    pilot = cs.sketch(small_run(), 16, 3).measure(lambda s: s)
    listed = cs.plan(0.4, 0.05, query=pilot)
    assert listed.deleted == 1 and [d for d, _ in listed.further] == sorted(d for d, _ in listed.further)
    for deleted, alpha in listed.further:
        assert cs.plan(0.4, 0.05, query=pilot, deleted=deleted).alpha == pytest.approx(alpha)
    assert "alpha(4) = " in str(listed) and "16 directions" in str(listed)


def test_any_sketch_can_be_priced():
    run = small_run()
    for options in (
        {"directions": 20, "order": 3, "per_example": "series"},
        {"directions": 9, "order": 2, "dtype": np.complex64},
        {"directions": 0, "order": 2, "per_example": "series", "per_example_order": 4},
        {"directions": 7, "order": 2, "groups": list("aabbccddd")},
    ):
        plan = cs.plan(run=run, threads=1, **options)
        made = cs.sketch(run, threads=1, **options)
        kept = made.lanes.nbytes + (0 if made.per_example is None else made.per_example.lanes.nbytes)
        assert plan.nbytes == kept and plan.directions == options["directions"], options
        assert plan.error is None and "promise" not in str(plan) and plan.seconds > 0
        assert plan.per_example_order == (None if made.per_example is None else made.per_example.order)


def test_the_planned_disk_size_is_that_of_a_stored_sketch(tmp_path):
    run = cs.Training(lambda s, x, keep: s + keep[0] * x, np.zeros(3000), [np.ones(3000)] * 4, [[0], [1], [2], [3]])
    plan = cs.plan(run=run, directions=40, order=2, per_example="series", seconds_per_gate=1e-9)
    cs.sketch(run, 40, 2, per_example="series", path=tmp_path / "a.sketch")
    taken = sum(file.stat().st_blocks * 512 for file in (tmp_path / "a.sketch").rglob("*"))
    assert taken * 0.9 < plan.disk < taken * 1.3


def test_single_examples_skip_the_steps_before_them():
    # Every step reads a new example: of n blocks of one step each, the average begins in the middle.
    run = cs.Training(lambda s, x, keep: np.sin(s) + keep[0] * x, np.zeros(()), [1.0] * 64, [[i] for i in range(64)])
    alone = cs.plan(run=run, directions=0, order=3, per_example="series", seconds_per_gate=1e-9, threads=1)
    width = cs.sketch(run, 0, 1, per_example="series").per_example.target.width
    whole = 64 * run.size * 1e-9 / 4  # real directions take a quarter of the multiply-adds
    assert alone.seconds == pytest.approx(whole * (64 + width) / 128)


def test_time_and_bytes_of_a_run_are_predicted():
    run = microgpt.training(microgpt.names()[:150])
    plan = cs.plan(0.35, 0.1, run=run, threads=1)
    cs.sketch(run, 1, plan.order, distribution="sphere", threads=1)  # compiled, as plan had it
    begin = time.process_time()
    sketch = cs.sketch(run, plan.directions, plan.order, distribution="sphere", threads=1)
    spent = time.process_time() - begin
    # Lanes beyond the last direction, the look at every gate's domain, a processor shared: within a factor of three.
    assert plan.seconds / 3 < spent < 3 * plan.seconds
    assert plan.nbytes == sketch.lanes.nbytes and plan.measured
    assert "measured by a trial push" in str(plan)


def test_a_given_rate_is_used_as_it_is_and_threads_share():
    run = cs.Training(lambda s, x, keep: s + np.sin(keep[0] * x), np.zeros(50), [np.ones(50)] * 4, [[0]] * 4)
    plans = {
        (threads, dtype): cs.plan(0.1, 0.05, run=run, seconds_per_gate=1e-9, threads=threads, dtype=dtype)
        for threads in (1, 2)
        for dtype in (np.complex128, np.complex64)
    }
    one = plans[1, np.complex128]
    assert one.seconds == pytest.approx(one.directions * run.size * 1e-9)
    assert not one.measured and "as given" in str(one)
    assert plans[2, np.complex128].seconds == pytest.approx(one.seconds / 2)
    assert plans[1, np.complex64].nbytes == pytest.approx(one.nbytes / 2, rel=0.02)


def pilot(directions=8, order=3):
    """A small sketch's measurement."""
    return cs.sketch(small_run(), directions, order, distribution="sphere").measure(lambda s: s)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: cs.plan(0.0, 0.1), "epsilon is a number above 0, not 0.0"),
        (lambda: cs.plan(math.nan, 0.1), "epsilon"),
        (lambda: cs.plan("a", 0.1), "epsilon"),
        (lambda: cs.plan(0.1, 1.0), "below 1"),
        (lambda: cs.plan(0.1, -1), "delta is a number above 0"),
        (lambda: cs.plan(0.1, 0.1, math.inf), "alpha"),
        (lambda: cs.plan(0.1, 0.1, seconds_per_gate=1e-9), "give run too"),
        (lambda: cs.plan(0.1, 0.1, run=3), "not a int"),
        (lambda: cs.plan(1e-40, 0.1), "no order reaches"),
        (lambda: cs.plan(), "give epsilon and delta"),
        (lambda: cs.plan(0.1), "both epsilon and delta"),
        (lambda: cs.plan(directions=8), "give epsilon and delta"),
        (lambda: cs.plan(run=small_run(), deleted=2), "deleted belongs to a promise"),
        (lambda: cs.plan(0.1, 0.1, directions=8), "directions follows from epsilon and delta"),
        (lambda: cs.plan(0.1, 0.1, deleted=2), "give query too"),
        (lambda: cs.plan(0.1, 0.1, query=3), "a measurement of a pilot sketch"),
        (lambda: cs.plan(0.1, 0.1, query=pilot(order=1)), "order 1"),
        (lambda: cs.plan(0.1, 0.1, query=pilot(directions=1)), "one direction"),
        (lambda: cs.plan(0.1, 0.1, 2.0, query=pilot()), "leave one of them out"),
        (lambda: cs.plan(0.1, 0.1, query=pilot(), deleted=1e8), "do not fall for deletions of 1e.08"),
        (lambda: cs.plan(0.1, 0.1, query=pilot(), run=small_run().grouped(list("aabbccddd"))), "of this run"),
        (lambda: cs.plan(0.1, 0.1, per_example="series"), "give run too"),
        (lambda: cs.plan(run=small_run(), directions=0), "directions"),
    ],
)
def test_invalid_plan_arguments_are_refused(act, words):
    with pytest.raises(cs.InputError, match=words):
        act()


def test_a_plan_shows_what_is_on_disk_beside_what_it_planned(tmp_path):
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(300), np.ones((4, 300)), [[0], [1], [2], [3]])
    options = {"directions": 40, "order": 2, "distribution": "sphere"}

    def stop(done, blocks):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cs.sketch(run, **options, path=tmp_path / "a", threads=1, progress=stop)
    part = cs.plan(run=run, **options, path=tmp_path / "a")
    done, blocks = part.blocks
    assert 2 <= done < blocks and f"{done} of {blocks} blocks are there" in str(part)
    cs.sketch(run, **options, path=tmp_path / "a")
    whole = cs.plan(run=run, **options, path=tmp_path / "a")
    files = sum(file.stat().st_size for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert whole.stored == files and whole.blocks == (blocks, blocks)
    assert whole.nbytes < files < whole.disk
    assert whole.to_dict()["stored"] == whole.stored and part.stored < whole.stored
    with pytest.raises(cs.InputError, match="no sketch whose bytes could be measured"):
        cs.plan(run=run, **options, path=tmp_path / "b")
    assert cs.plan(run=run, **options).stored is None


def test_retraining_is_priced_by_blocks_of_lanes_from_their_first_steps_on(monkeypatch):
    from circuitsketch.attribution import costs
    from circuitsketch.backends.cpu import lane_width

    steps = 40
    run = cs.Training(
        lambda s, x, keep: s + keep.sum() * x, np.zeros(3), np.ones((steps, 3)), np.arange(steps)[:, None]
    )
    monkeypatch.setattr(costs, "measure_rate", lambda *_: 1e-6)
    width, gates = lane_width(single=False), run.size // steps
    subsets, examples = 2 * width + 1, np.array([5, *range(20, 20 + width)])  # three blocks, and two
    blocks = [steps] * 3, [steps - 5, steps - (20 + width - 1)]
    for threads, shares in ((1, (1, 1)), (2, (2, 2))):
        right = sum(sum(some) * gates * width * 1e-6 / share for some, share in zip(blocks, shares, strict=True))
        assert costs.time_retraining(run, subsets, examples, threads) == pytest.approx(right)
    assert costs.time_retraining(run, 0, examples[:0], None) == 0.0
