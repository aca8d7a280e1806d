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
    return tail(plan.groups, min(spread**2 / (plan.per_group * slack**2), 1.0))


WANTED = [(0.5, 0.05), (0.1, 0.05), (0.1, 0.01), (0.03, 0.2), (0.02, 1e-6), (0.001, 1e-3), (3.0, 0.3)]


@pytest.mark.parametrize(("epsilon", "delta"), WANTED)
def test_a_plan_keeps_the_promise_and_no_cheaper_one_does(epsilon, delta):
    plan = cs.plan(epsilon, delta, 7.0)
    assert promise(plan) <= delta * (1 + 1e-9)
    assert plan.error == 7.0 * epsilon and plan.directions == plan.per_group * plan.groups
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
        query = cs.local_sketch(lambda x: 1.0 / (1.0 + x @ q), np.zeros(n), *wanted, law="sphere")
        off.append(abs(query.predict(h, groups=plan.groups).value - truth))
    assert np.mean(np.array(off) > plan.error) <= plan.delta
    assert max(off) > plan.error / 20  # the promise is not idle: within a factor


def test_time_and_bytes_of_a_run_are_predicted():
    run = microgpt.training(microgpt.names()[:150])
    plan = cs.plan(0.35, 0.1, run=run, threads=1)
    cs.sketch(run, 1, plan.order, law="sphere", threads=1)  # compiled, as plan had it
    begin = time.process_time()
    sketch = cs.sketch(run, plan.directions, plan.order, law="sphere", threads=1)
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
    ],
)
def test_what_nobody_can_plan_is_refused(act, words):
    with pytest.raises(cs.InputError, match=words):
        act()
