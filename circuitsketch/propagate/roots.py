"""Square roots in a run, as in Adam's step: how large a constant under them would let series in a weight converge.

In: a run, a few examples. Out: by how much the operands of the roots would have to be larger. Adam divides an average m
of gradients by (v + eps_root)^(1/2), where v averages their squares. For a parameter that one example alone moves, both
shrink with u = 1 - w, and the step is proportional to u / (a u^2 + 1)^(1/2), a = v / eps_root: a step function where a
is large. Its series around u = 1 has singularities at u = +-i a^(-1/2), so it reaches u = 0, with an error that grows
with a. For any other root the operand x moves to x_1 where the example is left out, and |x_1 - x| / x takes the place
of a / (1 + a), which it is for that parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from circuitsketch.backends import reference
from circuitsketch.backends.lane_blocks import read_coefficients
from circuitsketch.circuit import Circuit, Node
from circuitsketch.directions import Given
from circuitsketch.errors import CircuitSketchError
from circuitsketch.gates.powers import power, rsqrt, sqrt
from circuitsketch.limits import blocks_of
from circuitsketch.propagate.coefficients import PropagatedRun
from circuitsketch.propagate.parts import RANDOM, SketchSpec, push_parts
from circuitsketch.propagate.retrained import States
from circuitsketch.training.training import Training

ORDER, TOLERANCE = 3, 0.1  # of the series, and of its error over the step's change
STEPS = 32  # that read an example, at which roots are looked at
PROBES, CANDIDATES = 256, 64  # random directions that screen examples for their shares; of the largest, exact shares
DEVIATIONS = 4  # of the noise of screening, which are taken off


def has_roots(run: Training) -> bool:
    """Return whether the weights reach a square root or another power, as in Adam, whose series may end at w = 1."""
    return any(roots_of(run, circuit) for circuit in run.circuits)


def roots_of(run: Training, circuit: Circuit) -> list[Node]:
    """Return the roots and powers of a step that the weights reach."""
    weighted = [*(circuit.inputs[i] for i in run.varying()), circuit.inputs[-1]]
    reached = circuit.reached_from(weighted, through=lambda node: not node.gate.flat)
    return [
        node for node in circuit.nodes if node.gate in (sqrt, rsqrt, power) and not reached.isdisjoint(node.operands)
    ]


@cache
def largest_ratio(order: int = ORDER, tolerance: float = TOLERANCE) -> float:
    """Return up to which a / (1 + a) the series of u / (a u^2 + 1)^(1/2) has at most this error at u = 0.

    >>> round(largest_ratio(1, 0.1), 6), round(largest_ratio(3, 0.1), 6)
    (0.1, 0.685198)
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        ratio = (low + high) / 2
        low, high = (ratio, high) if error_of_step(ratio, order) <= tolerance else (low, ratio)
    return low


def error_of_step(ratio: float, order: int) -> float:
    """Return the error at w = 1 of the series of u (1 - r + r u^2)^(-1/2), u = 1 - w, over its change; r: ratio."""
    under = np.zeros(order + 1)
    under[: min(order, 2) + 1] = [1.0, -2.0 * ratio, ratio][: min(order, 2) + 1]
    root = np.zeros(order + 1)
    root[0] = 1.0
    for k in range(1, order + 1):  # as for `power`, with the exponent -1/2
        root[k] = sum((-0.5 * j - (k - j)) * under[j] * root[k - j] for j in range(1, k + 1)) / k
    step = root - np.concatenate([[0.0], root[:-1]])
    return float(abs(step.sum()))


def constant_needed(run: Training, ids: Iterable[int]) -> float | None:
    """Return by how much the operands of the run's roots would have to be larger for series in these weights.

    The plain run and the run without each example are followed; at up to STEPS of the steps that read the example, the
    operands of all roots are compared. Costs two trainings per example.

    Returns
    -------
    The least constant for all of them; None if there is nothing to add, or a run diverges.
    """
    needed = 0.0
    for example in ids:
        try:
            needed = max(needed, constant_for(run, int(example)))
        except CircuitSketchError:
            return None
    return needed if needed > 0 else None


def constant_for(run: Training, example: int) -> float:
    """Return by how much the operands of roots would have to be larger for a series in one weight, at least 0."""
    reading = [t for t in range(run.steps) if example in run.examples[t]]
    if not reading:
        return 0.0
    chosen = [reading[i] for i in np.unique(np.linspace(0, len(reading) - 1, STEPS).astype(int))]
    weight = np.eye(run.n)[example]
    plain, without = States(run), States(run, weight)
    needed = 0.0
    for t in chosen:
        here = root_operands(run, t, plain.at(t), np.zeros(run.n))
        there = root_operands(run, t, without.at(t), weight)
        for x, moved in zip(here, there, strict=True):
            needed = max(needed, float(np.max(np.abs(moved - x) / largest_ratio() - x, initial=0.0)))
    return needed


def root_operands(run: Training, t: int, state: Sequence[np.ndarray], w: np.ndarray) -> list[np.ndarray]:
    """Return the operands of the roots of a step, given the state before it."""
    circuit = run.circuits[run.schedule.program[t]]
    roots, values, operands = roots_of(run, circuit), [], []

    def watch(wire: int, node: Node, series: reference.Series) -> None:
        values.append(series[0])
        if node in roots:
            operands.append(np.asarray(values[node.operands[0]]))

    inputs = [*state, *run.data_of(t), 1.0 - w[run.examples[t]]]
    reference.run(circuit, inputs, [None] * len(inputs), 0, watch)
    return operands


def shares_of_averages(run: Training, per_example: PropagatedRun) -> np.ndarray:
    """Return how much of an average under a root each example alone carries, the largest over its elements, (n,).

    Averages of squares, such as Adam's second moments, are leaves of the state that are nowhere negative and reach a
    root. An example that alone moves some parameter has a share of 1: leaving it out zeroes the gradient, and the step
    with it, which a series in its weight does not see. Where gradients cancel, shares may be larger.

    Where the sketch does not keep the averages, they are pushed again to first order, along at most PROBES + CANDIDATES
    directions: see `screen_shares`.
    """
    varying = run.varying()
    averages = [i for i, leaf in enumerate(per_example.constants) if i in varying and (leaf >= 0).all()]
    averages = [i for i in averages if reaches(run, i)]
    if not averages:
        return np.zeros(run.n)
    if set(averages).isdisjoint(per_example.dropped):
        return largest_shares(per_example, averages)
    if run.n <= PROBES + CANDIDATES:
        return largest_shares(push_averages(run, np.eye(run.n), averages, per_example.threads), averages)
    return screen_shares(run, averages, per_example.threads)


def screen_shares(run: Training, averages: Sequence[int], threads: int | None = None) -> np.ndarray:
    """Return the shares of all examples, (n,): exact for the CANDIDATES largest, cautious estimates for the others.

    Along random signs s an average changes by sum_i s_i a_i; the mean of s_i times that over PROBES sign vectors is
    a_i, with a standard deviation of |a| / PROBES^(1/2), of which DEVIATIONS are taken off. An element with a dominant
    example has |a| close to its share, and |a| is the root mean square of the changes.
    """
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(PROBES, run.n))
    probes = push_averages(run, signs, averages, threads)
    shares = np.zeros(run.n)
    for leaf in averages:
        changes = np.concatenate([change for _, change in relative_changes(probes, [leaf])])
        noise = DEVIATIONS * np.sqrt((changes**2).mean(axis=0) / PROBES)
        for part in blocks_of(run.n, changes.shape[1]):
            estimates = np.abs(signs[:, part].T @ changes) / PROBES - noise
            shares[part] = np.maximum(shares[part], estimates.max(axis=1, initial=0.0))
    candidates = np.argsort(-shares, kind="stable")[:CANDIDATES]
    weights = np.zeros((CANDIDATES, run.n))
    weights[np.arange(CANDIDATES), candidates] = 1.0
    shares[candidates] = largest_shares(push_averages(run, weights, averages, threads), averages)
    return shares


def push_averages(run: Training, weights: np.ndarray, averages: Sequence[int], threads: int | None) -> PropagatedRun:
    """Push downweights (B, n) to first order, and keep some leaves of the state."""
    names = tuple(run.state_names[i] for i in averages)
    return push_parts(SketchSpec(run, Given(weights), len(weights), 1, threads=threads, keep=names))[RANDOM]


def largest_shares(pushed: PropagatedRun, averages: Sequence[int]) -> np.ndarray:
    """Return the largest relative change of averages along each direction, (count,)."""
    shares = np.zeros(pushed.count)
    for rows, change in relative_changes(pushed, averages):
        shares[rows] = np.maximum(shares[rows], np.abs(change).max(axis=1, initial=0.0))
    return shares


def relative_changes(pushed: PropagatedRun, averages: Sequence[int]) -> Iterator[tuple[slice | np.ndarray, np.ndarray]]:
    """Yield, by lane block and leaf, the rows of its directions and the first-order changes over twice the averages.

    The changes are of shape (rows, elements), and 0 for an average of 0.
    """
    width = pushed.target.width
    for block in range(-(-pushed.count // width)):
        count = min(width, pushed.count - block * width)
        lanes = pushed.lanes[block]
        for i in averages:
            at, average = pushed.state_lane[i], pushed.constants[i].ravel()
            change = read_coefficients(lanes[at : at + average.size], pushed.target.mode)[:count, 0]
            relative = np.divide(change, 2.0 * average, out=np.zeros_like(change), where=average > 0)
            yield pushed.rows(block * width, count), relative


def reaches(run: Training, leaf: int) -> bool:
    """Return whether a leaf of the state reaches a root in a step."""
    for circuit in run.circuits:
        reached = circuit.reached_from([circuit.inputs[leaf]], through=lambda node: not node.gate.flat)
        if any(not reached.isdisjoint(node.operands) for node in roots_of(run, circuit)):
            return True
    return False
