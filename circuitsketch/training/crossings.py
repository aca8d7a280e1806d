"""Kinks within reach of a deletion: how many elements of a run's gates it moves across a kink, and what that changes.

In: a run, and downweights. Out: `Crossings`, and what crossing adds to a measurement. A subset is a lane of one pass of
the run, whose step circuits have more state: the first-order change, the change that takes the other side of every kink
that it crosses, and totals, which count while the steps run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitsketch.autodiff import evaluate
from circuitsketch.backends.contract import Executable
from circuitsketch.backends.lane_blocks import run_blocks
from circuitsketch.backends.registry import build, make_target
from circuitsketch.checks.kinks import Kink, find_kinks, is_crossed, push
from circuitsketch.circuit import Circuit
from circuitsketch.errors import DivergenceError
from circuitsketch.frontends.numpy.tracing import traced
from circuitsketch.limits import require_memory, within_memory
from circuitsketch.lower.instructions import Mode
from circuitsketch.passes import simplify
from circuitsketch.training.subsets import downweights_of
from circuitsketch.training.training import Training, collect
from circuitsketch.tree import flatten, unflatten

DTYPES = {"float": np.float64, "int": np.int64, "bool": np.bool_}


@dataclass(frozen=True, eq=False)
class Crossings:
    """What B subsets move across the K kinks of a run.

    Attributes
    ----------
    kinks : tuple of str
        The gates and the user's lines; empty for a smooth run.
    counts : integers (B, K)
        Elements, summed over all steps, that the first-order change moves across the kink.
    first_steps : integers (B, K)
        The first step at which one crosses; the number of steps if none does.
    shares : (B,)
        The relative error of the parameters' first-order change that crossing causes: what changes if every element
        that crosses goes on along the other side, by norm, over the first-order change.
    change : pytree or None
        The state's first-order change, leaves (B, *shape); None for a smooth run, through which nothing is pushed.
    change_across : pytree or None
        The same if every element that crosses goes on along the other side.
    """

    kinks: tuple[str, ...]
    counts: np.ndarray
    first_steps: np.ndarray
    shares: np.ndarray
    change: Any = None
    change_across: Any = None

    def worst(self, subset: int) -> str | None:
        """Return the gate and line that most elements cross for a subset; None if none crosses."""
        row = self.counts[subset]
        return self.kinks[int(np.argmax(row))] if np.any(row) else None


@within_memory("the search for kinks", "fewer subsets at a time", "threads=1")
def find_crossings(run: Training, without: Any, threads: int | None = None, *, device: str = "cpu") -> Crossings:
    """Count what subsets move across the kinks of a run.

    Costs two first-order passes per subset: seen, two to three times as long as retraining it among as many.

    Parameters
    ----------
    run : Training
        The run.
    without : ids, mask, downweights, or a list of these
        One subset or several, as for `Training.retrain`.
    threads : int, optional
        The number of threads; by default all cores.
    device : str
        "cpu" or "cuda".

    Returns
    -------
    Crossings
        With B = 1 for a single subset. Of a smooth run at once, without a kink.

    Raises
    ------
    DivergenceError
        If the first-order change overflows.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> step = lambda s, x, keep: np.maximum(s + keep.sum() * x, 0.0)
    >>> run = cs.Training(step, np.zeros(()), [1.0, -3.0], [[0], [1]])
    >>> crossings = find_crossings(run, [[0], [1]])
    >>> crossings.counts.ravel().tolist(), crossings.first_steps.ravel().tolist()
    ([0, 1], [2, 1])
    """
    weights = np.atleast_2d(downweights_of(without, run.n, run.labels, run.items))
    kinks = kinks_of(run)
    names = tuple(dict.fromkeys(kink.name for step in kinks for kink in step))
    count = len(weights)
    if not names:
        none = np.zeros((count, 0), dtype=np.int64)
        return Crossings((), none, none, np.zeros(count))
    first_order, across = changing_leaves(run)
    changes: list[np.ndarray] = [np.zeros(run.state_leaves[i].shape) for i in (*first_order, *across)]
    carried = [np.zeros(len(names)), np.full(len(names), float(run.steps)), *changes]
    require_memory(
        8 * count * sum(leaf.size for leaf in carried),
        f"the changes of the state for {count:,} subsets",
        ["fewer subsets at a time"],
    )
    executable = executable_of(run, kinks, names, carried, device, count)
    width = executable.target.width
    leaves = [np.zeros((count, *leaf.shape)) for leaf in carried]

    def blocks(begins: range) -> Iterator[None]:
        arena = executable.allocate_arena(len(begins))
        arena.set_state([*carried, np.zeros(()), *run.state_leaves])
        packed = np.zeros((len(begins), run.n, 1, width))
        for block, begin in enumerate(begins):
            rows = weights[begin : begin + width]
            packed[block, :, 0, : len(rows)] = rows.T
        yield from arena.run_in_slices(run.schedule, np.zeros(run.n), packed)
        for block, begin in enumerate(begins):
            collect(arena, leaves, begin, block)

    run_blocks(blocks, count, executable, threads, run.n)
    counts, first_steps, *changes = leaves
    for row in range(count):
        if not all(np.all(np.isfinite(change[row])) for change in changes[: len(first_order)]):
            raise DivergenceError(
                f"the first-order change of the state for subset {row} overflows within {run.steps} steps; use "
                "smaller downweights, or lower the learning rate"
            )
    states = [
        [given.get(i, np.zeros((count, *leaf.shape))) for i, leaf in enumerate(run.state_leaves)]
        for given in (dict(zip(first_order, changes)), dict(zip(across, changes[len(first_order) :])))  # noqa: B905
    ]
    return Crossings(
        names,
        counts.astype(np.int64),
        first_steps.astype(np.int64),
        np.array([share_of(run, *([leaf[row] for leaf in state] for state in states)) for row in range(count)]),
        *(unflatten(run.state_tree, state) for state in states),
    )


def measure_crossings(run: Training, crossings: Crossings, function: Callable[..., Any], *args: Any) -> Any:
    """Measure what crossing adds to first order: the error that kinks cause in a first-order prediction.

    The sign is that of a correction.

    Parameters
    ----------
    run : Training
        The run.
    crossings : Crossings
        What B subsets cross.
    function : callable
        The measurement, `function(params, *args)`, in NumPy.
    *args
        Further arguments of the measurement, arrays.

    Returns
    -------
    pytree
        The measurement's structure; leaves (B, *shape), zero for a smooth run.

    Examples
    --------
    >>> import numpy as np, circuitsketch as cs
    >>> step = lambda s, x, keep: np.maximum(s + keep.sum() * x, 0.0)
    >>> run = cs.Training(step, np.zeros(()), [1.0, -3.0], [[0], [1]])
    >>> measure_crossings(run, find_crossings(run, [[0], [1]]), lambda p: 10.0 * p)
    array([ 0., 10.])
    """
    leaves = flatten(run.train())[0]
    state = unflatten(run.state_tree, leaves)
    circuit = traced(lambda s: function(run.params(s), *args), (state,), "allow")

    def measured(change: Any, row: int) -> list[np.ndarray]:
        moved = [leaf + part[row] for leaf, part in zip(leaves, flatten(change)[0], strict=True)]
        return evaluate(circuit, moved)

    added = [np.zeros((len(crossings.shares), *circuit.nodes[wire].shape)) for wire in circuit.outputs]
    for row in range(len(crossings.shares)) if crossings.kinks else ():
        both = measured(crossings.change_across, row), measured(crossings.change, row)
        for output, across, first_order in zip(added, *both, strict=True):
            output[row] = across - first_order
    return unflatten(circuit.out_tree, added)


def kinks_of(run: Training) -> list[list[Kink]]:
    """Return the kinks of each step circuit that the weights reach."""
    varying = run.varying()
    return [find_kinks(circuit, [*varying, len(circuit.inputs) - 1]) for circuit in run.circuits]


def changing_leaves(run: Training) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the positions of the state leaves that change to first order, and of those that change across kinks.

    The latter include what only comparisons change; whole numbers are not followed.
    """
    inputs = run.circuits[0].inputs
    labels = [run.circuits[0].nodes[wire].label for wire in inputs]
    return run.varying(), tuple(i for i in run.varying(values=True) if labels[i] != "int")


def executable_of(
    run: Training, kinks: list[list[Kink]], names: tuple[str, ...], carried: list[np.ndarray], device: str, lanes: int
) -> Executable:
    """Return the run with totals and changes as further state, compiled for lanes that hold values; cached."""
    target = make_target(Mode(0, complex=False, values=True), np.float64, None, device, lanes)
    if ("kinks", target) not in run.executables:
        steps = [
            counting_step(run, circuit, step_kinks, names, carried)
            for circuit, step_kinks in zip(run.circuits, kinks, strict=True)
        ]
        count = len(carried) + 1 + len(run.state_leaves)
        carry = {i: i for i in range(count)}
        run.executables["kinks", target] = build(steps, target, range(len(carried)), count, carry, has_keep=True)
    return run.executables["kinks", target]


def counting_step(
    run: Training, circuit: Circuit, kinks: list[Kink], names: tuple[str, ...], carried: list[np.ndarray]
) -> Circuit:
    """Return the circuit of a step on the state (totals, changes, the step's number, the run's state).

    The run itself has weights 1 in every lane, so that its values are constants; a lane's weights are read as changes.
    """
    first_order, across = changing_leaves(run)
    states = len(run.state_leaves)
    inputs = [circuit.nodes[wire] for wire in circuit.inputs]
    arguments: list[np.ndarray] = [np.zeros(node.shape, DTYPES[node.label]) for node in inputs]

    def step(totals: Any, changes: Any, t: Any, state: Any, batch: Any, keep: Any) -> Any:
        values, moves = push_state(first_order, changes[: len(first_order)], state, batch, keep, takes_sides=False)
        counts = [0.0 * t] * len(names)
        for kink in kinks:
            crossed = is_crossed(kink.difference(values), kink.difference(moves), kink.is_point)
            at = names.index(kink.name)
            counts[at] = counts[at] + np.where(crossed, 1.0, 0.0).sum()
        total = np.stack(counts)
        first_steps = np.where(total > 0.0, np.minimum(totals[1], t), totals[1])
        _, moves_across = push_state(across, changes[len(first_order) :], state, batch, keep, takes_sides=True)
        new = [*changes_of(moves, first_order), *changes_of(moves_across, across)]
        return [totals[0] + total, first_steps], new, t + 1.0, [values[wire] for wire in circuit.outputs]

    def push_state(positions: Any, changes: Any, state: Any, batch: Any, keep: Any, takes_sides: bool) -> Any:
        by_position = {**dict(zip(positions, changes, strict=True)), len(inputs) - 1: keep - 1.0}
        return push(circuit, [*state, *batch, np.ones(keep.shape)], by_position, takes_sides=takes_sides)

    def changes_of(moves: dict[int, Any], positions: tuple[int, ...]) -> list[Any]:
        wires = [circuit.outputs[i] for i in positions]
        return [moves.get(wire, np.zeros(circuit.nodes[wire].shape)) for wire in wires]

    examples = (carried[:2], carried[2:], np.zeros(()), arguments[:states], arguments[states:-1], arguments[-1])
    return simplify(traced(step, examples, "allow"))


def share_of(run: Training, first_order: list[np.ndarray], across: list[np.ndarray]) -> float:
    """Return what crossing adds to the parameters' change, by norm, relative to the first-order change."""
    vectors = []
    for leaves in (first_order, across):
        vectors.append(np.concatenate([np.ravel(leaf) for leaf in run.param_leaves(leaves)]))
    added, total = np.linalg.norm(vectors[1] - vectors[0]), np.linalg.norm(vectors[0])
    return float(added / total) if total else (np.inf if added else 0.0)
